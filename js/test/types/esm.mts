// What the declarations allow and forbid for `import`. Only compiled.
import { Broker, DomoTokenError, NotRunning, Rejected, Token, Unavailable, type Scopes, type Status } from "domo-token";
import { FakeBroker } from "domo-token/testing";

const broker = new Broker({ socket: "/run/x.sock", client: "acme", timeoutMs: 500 });
new Broker();
new Broker({});
// @ts-expect-error an unknown option
new Broker({ timeout: 5 });

const token: Token = await broker.token("data user");
await broker.token(["data", "user"], { minTtlMs: 60_000, signal: AbortSignal.timeout(10) });
const scopes: Scopes = ["data"] as const;
await broker.token(scopes);
// @ts-expect-error scopes are required
await broker.token();
// @ts-expect-error no number
await broker.token(5);

const text: string = token.text;
const expires: Date = new Date(token.expiresAt);
const parts: [string, string, number] = [token.scope, token.client, token.generation];
// @ts-expect-error read only
token.text = "other";
// @ts-expect-error read only
token.expiresAt = 5;
// @ts-expect-error tokens come from a broker
new Token();
// @ts-expect-error a copy is no token
await broker.renew({ text: "", expiresAt: 1, scope: "data", client: "", generation: 1 });
const newer: Token = await broker.renew(token);

const response: Response = await broker.fetch("https://api.domo.com/v1/datasets", { scopes: "data", method: "POST", body: "{}" });
await broker.fetch(new URL("https://api.domo.com/v1/datasets"), { scopes: ["data"], minTtlMs: 1 });
await broker.fetch(new Request("https://api.domo.com/"), { scopes: "data", headers: { accept: "text/csv" } });
// @ts-expect-error which scopes?
await broker.fetch("https://api.domo.com/v1/datasets", {});

for await (const each of broker.watch("data", { signal: AbortSignal.timeout(10), onUnavailable: (error) => error.retryAfterMs })) {
  const watched: Token = each;
  console.log(watched.generation);
}

const status: Status = await broker.status();
const states: string[] = status.tokens.map((set) => set.state);

try {
  await broker.token("data");
} catch (error) {
  if (error instanceof Unavailable) {
    const wait: number | undefined = error.retryAfterMs;
    console.log(wait);
  } else if (error instanceof NotRunning || error instanceof Rejected) {
    const code: number = error.exitCode;
    console.log(code);
  } else if (error instanceof DomoTokenError && error.kind === "not_permitted") {
    console.log(error.message);
  }
}
broker.close();

const fake = await FakeBroker.start({ lifetimeMs: 1000, setEnvironment: true });
fake.grant("data", "t0ken");
fake.fail(["data"], "unavailable", { retryAfterMs: 5 });
// @ts-expect-error no answer causes this
fake.fail("data", "not_running");
const other: Broker = fake.broker({ timeoutMs: 100 });
const counts: number = fake.requests + fake.rejections("data");
await fake.close();
console.log(text, expires, parts, newer, response, states, other, counts);

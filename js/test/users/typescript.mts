// A project with the packed package, in TypeScript. Only compiled.
import { Broker, Unavailable, type Token } from "domo-token";
import { FakeBroker } from "domo-token/testing";

const broker: Broker = new Broker({ timeoutMs: 5000 });
const token: Token = await broker.token(["data", "user"], { minTtlMs: 5 });
const response: Response = await broker.fetch("https://api.domo.com/v1/datasets", { scopes: "data" });
const fake: FakeBroker = await FakeBroker.start();
for await (const next of broker.watch("data")) {
  console.log(next.expiresAt, token.scope, response.status, fake.requests, Unavailable);
}

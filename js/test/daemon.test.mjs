import assert from "node:assert/strict";
import test from "node:test";

import { Broker } from "domo-token";
import { needsPrograms, startDaemon, startSandbox } from "./support/daemon.mjs";
import { until } from "./support/wait.mjs";

/** A sandbox, a daemon and a client of it. */
async function rig(t, { flags, ...options } = {}) {
  const sandbox = await startSandbox(t, flags);
  const daemon = await startDaemon(t, sandbox, options);
  return { sandbox, daemon, broker: daemon.client() };
}

test("a token of the daemon calls the API", needsPrograms, async (t) => {
  const { sandbox, daemon, broker } = await rig(t);
  const token = await broker.token("user,data");
  assert.deepEqual([token.scope, token.client], ["data user", "acme"]);
  assert.ok(token.text.length > 20);
  const inMs = token.expiresAt - Date.now();
  assert.ok(inMs > 3_500_000 && inMs <= 3_600_000, String(inMs));
  assert.equal(await broker.token("data user"), token);
  const response = await broker.fetch(`${sandbox.url}/v1/datasets`, { scopes: "data" });
  assert.equal(response.status, 200);
  assert.ok(Array.isArray(await response.json()));
  assert.ok(!daemon.log.includes(token.text), "the log has no token");
});

test("status has the fields of the helper", needsPrograms, async (t) => {
  const { daemon, broker } = await rig(t);
  await broker.token("data");
  const status = await broker.status();
  assert.deepEqual([status.broker.socket, status.broker.pid], [daemon.socket, daemon.child.pid]);
  assert.equal(status.broker.version, "0.1.0");
  const set = status.tokens.find(({ scope }) => scope === "data");
  assert.deepEqual([set.client, set.state, set.rejected], ["acme", "fresh", 0]);
  assert.deepEqual(Object.keys(status.broker).sort(), BROKER_FIELDS);
  assert.deepEqual(Object.keys(set).sort(), SET_FIELDS);
});

// Those of the type declarations.
const BROKER_FIELDS = [
  "apps", "config_error", "config_loaded_at", "config_path", "default_client", "fleet", "more_apps", "pid", "protocol", "socket",
  "started_at", "version",
];
const SET_FIELDS = [
  "client", "client_id", "credentials_error", "expires_at", "failed_attempts", "from", "generation", "last_error",
  "last_error_at", "last_rejected_by", "next_attempt_at", "obtained_at", "rejected", "requests", "scope", "state",
];

test("a rejected token is replaced by one request of all callers", needsPrograms, async (t) => {
  const { broker } = await rig(t, { flags: ["--lifetime", "20s"], tokens: ["data"] });
  const token = await broker.token("data");
  const renewed = await Promise.all(Array.from({ length: 20 }, () => broker.renew(token)));
  assert.equal(new Set(renewed).size, 1);
  assert.notEqual(renewed[0].text, token.text);
  assert.notEqual(renewed[0].generation, token.generation);
  // The sandbox may print a request after its response was used.
  const status = await broker.status();
  assert.deepEqual(status.tokens.map(({ requests }) => requests), [2]);
});

test("errors of the daemon have their kinds", needsPrograms, async (t) => {
  const { daemon, broker } = await rig(t);
  await broker.token("data");
  await assert.rejects(broker.token("audit"), { kind: "unknown_scope", exitCode: 78, name: "UnknownScopeSet" });
  const other = daemon.client({ client: "beta" });
  await assert.rejects(other.token("data"), { kind: "unknown_client", exitCode: 78, message: /acme.*new Broker\(\{ client/ });
  assert.equal((await daemon.client({ client: "acme" }).token("data")).client, "acme");
  await assert.rejects(broker.token("data", { minTtlMs: 86_400_000 }), { kind: "min_ttl_too_long", exitCode: 78 });
});

test("an access table denies scope sets", needsPrograms, async (t) => {
  const { broker } = await rig(t, { config: "[clients.acme.access]\ndata = { users = [4242] }" });
  for (const scopes of ["data", "audit"]) {
    await assert.rejects(broker.token(scopes), (error) => {
      assert.ok(["not_permitted", "unknown_scope"].includes(error.kind), error.kind);
      return true;
    });
  }
  await assert.rejects(broker.token("data"), { kind: "not_permitted", exitCode: 77, name: "NotPermitted" });
});

test("a rejection by Domo has its message", needsPrograms, async (t) => {
  const { daemon } = await rig(t, { flags: ["--fail", "401"], tokens: ["data"] });
  // Less than the time until the daemon confirms a rejection.
  const broker = daemon.client({ timeoutMs: 4000 });
  await assert.rejects(broker.token("data"), { kind: "denied", exitCode: 78, name: "Rejected" });
});

test("a failure of Domo is unavailable, with the time of the next attempt", needsPrograms, async (t) => {
  const { daemon } = await rig(t, { flags: ["--fail", "503"], tokens: ["data"] });
  const broker = daemon.client({ timeoutMs: 1000 });
  const error = await until(async () => {
    const caught = await broker.token("data").catch((failed) => failed);
    return caught.retryAfterMs > 0 ? caught : undefined;
  }, "an error with a time");
  assert.deepEqual([error.kind, error.exitCode, error.name], ["unavailable", 75, "Unavailable"]);
  assert.match(error.message, /503/);
});

test("a watch receives renewed tokens, and ends when the scope set is removed", needsPrograms, async (t) => {
  const { daemon, broker } = await rig(t, { flags: ["--lifetime", "3s"] });
  const watch = broker.watch("data");
  const first = (await watch.next()).value;
  const second = (await watch.next()).value;
  assert.notEqual(first.generation, second.generation);
  assert.equal(await broker.token("data"), second, "without a request");
  const gone = assert.rejects(
    (async () => {
      for await (const token of watch) {
        assert.equal(token.scope, "data");
      }
    })(),
    { kind: "gone", exitCode: 78 },
  );
  daemon.write(["data user"]);
  await gone;
});

test("a watch continues after a restart of the daemon", needsPrograms, async (t) => {
  const { daemon, broker } = await rig(t);
  const watch = broker.watch("data");
  const first = (await watch.next()).value;
  const next = watch.next();
  await daemon.restart("SIGTERM");
  assert.notEqual((await next).value.generation, first.generation);
  await watch.return();
});

test("a daemon without HTTP is an error that names the setting", needsPrograms, async (t) => {
  const { daemon } = await rig(t, { broker: "http = false" });
  const broker = daemon.client({ timeoutMs: 2000 });
  await assert.rejects(broker.token("data"), { exitCode: 75, message: /http in \[broker\]/ });
});

test("the socket is found by $DOMO_TOKEN_SOCKET, also as a URL", needsPrograms, async (t) => {
  const { daemon } = await rig(t);
  const before = process.env.DOMO_TOKEN_SOCKET;
  t.after(() => {
    delete process.env.DOMO_TOKEN_SOCKET;
    Object.assign(process.env, before === undefined ? {} : { DOMO_TOKEN_SOCKET: before });
  });
  for (const socket of [daemon.socket, `unix://${daemon.socket}`]) {
    process.env.DOMO_TOKEN_SOCKET = socket;
    assert.equal((await new Broker().token("data")).client, "acme");
  }
});

test("more scope sets than a user has connections are all served", needsPrograms, async (t) => {
  const names = Array.from({ length: 60 }, (_, number) => `data s${number}`);
  const scopes = ["data", "user", ...names.flatMap((name) => name.split(" "))];
  const flags = ["--client", `5a4db0c5-0000-4000-8000-000000000001:c4nary-s3cret:${[...new Set(scopes)].join(",")}`];
  const sandbox = await startSandbox(t, flags);
  const daemon = await startDaemon(t, sandbox, {
    config: `[clients.many]\nclient_id = "5a4db0c5-0000-4000-8000-000000000001"\nclient_secret = "c4nary-s3cret"
tokens = ${JSON.stringify(names)}\ntoken_url = "${sandbox.tokenUrl}"\nallow_http_loopback = true`,
  });
  const broker = daemon.client({ client: "many" });
  const tokens = await Promise.all(names.map((name) => broker.token(name)));
  assert.equal(new Set(tokens.map(({ text }) => text)).size, names.length);
});

test("tokens that Domo revokes early cost no call, whether it answers 401 or 406", needsPrograms, async (t) => {
  const flags = ["--lifetime", "20s", "--revoke-after", "1s"];
  const { sandbox, broker } = await rig(t, { flags, tokens: ["data"] });
  const [dataset] = await (await broker.fetch(`${sandbox.url}/v1/datasets`, { scopes: "data" })).json();
  const calls = [
    ["/v1/datasets", "application/json"],
    [`/v1/datasets/${dataset.id}/data`, "text/csv"],
  ];
  for (const [path, accept] of calls) {
    const before = (await broker.token("data")).generation;
    await until(async () => {
      const response = await broker.fetch(sandbox.url + path, { scopes: "data", headers: { accept } });
      assert.equal(response.status, 200, path);
      await response.arrayBuffer();
      return (await broker.token("data")).generation !== before;
    }, `a renewal after ${accept}`);
  }
  const [{ rejected }] = (await broker.status()).tokens;
  assert.ok(rejected >= 2, String(rejected));
});

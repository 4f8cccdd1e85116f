import assert from "node:assert/strict";
import test from "node:test";

import { Broker, DomoTokenError } from "domo-token";
import { FakeBroker } from "domo-token/testing";
import { answer, problem, startServer, tokenJson } from "./support/server.mjs";
import { until } from "./support/wait.mjs";

async function fakeBroker(t, options) {
  const fake = await FakeBroker.start(options);
  t.after(() => fake.close());
  return fake;
}

test("a token is requested once for every spelling of its scope set", async (t) => {
  const fake = await fakeBroker(t);
  const broker = fake.broker();
  const token = await broker.token("data user");
  for (const spelling of ["user,data", ["user", "data"], "data user data", " data,\tuser"]) {
    assert.equal(await broker.token(spelling), token);
  }
  assert.equal(fake.requests, 1);
  assert.deepEqual([token.scope, token.client, typeof token.generation], ["data user", "fake", "number"]);
  const inMs = token.expiresAt - Date.now();
  assert.ok(inMs > 3_590_000 && inMs <= 3_600_000, String(inMs));
});

test("the request names client, conditions and time limit", async (t) => {
  const server = await startServer(t, () => answer(200, tokenJson({ scope: "a/b data", client: "a&b" })));
  const broker = new Broker({ socket: server.socket, client: "a&b", timeoutMs: 5500 });
  await broker.token("data a/b", { minTtlMs: 90_500 });
  const lines = server.requests.map((head) => head.split("\r\n")[0]);
  // The first one has no conditions, so that other callers need not wait for the stricter one.
  assert.equal(lines[0], "GET /v1/token/a%2Fb,data?client=a%26b&timeout=5s HTTP/1.1");
  assert.ok(/\r\nHost: localhost\r\n/.test(server.requests[0]), server.requests[0]);
  const strict = new Broker({ socket: server.socket, timeoutMs: 5500 });
  await strict.token("data a/b");
  await strict.token("data a/b", { minTtlMs: 4_000_000 });
  assert.match(server.requests[2], /^GET \/v1\/token\/a%2Fb,data\?min_ttl=4000s&timeout=5s /);
});

test("invalid arguments are errors without a request", async (t) => {
  const fake = await fakeBroker(t);
  const broker = fake.broker();
  for (const scopes of ["", " ,", [], ["da\nta"], 'da"ta', "däta", "a".repeat(1025)]) {
    await assert.rejects(broker.token(scopes), { kind: "invalid_scope", exitCode: 2 });
  }
  for (const scopes of [undefined, 5, [5], {}]) {
    await assert.rejects(broker.token(scopes), TypeError);
  }
  for (const minTtlMs of [-1, NaN, Infinity, "x"]) {
    await assert.rejects(broker.token("data", { minTtlMs }), RangeError);
  }
  for (const options of [{ client: null }, { client: 5 }, { socket: null }, { socket: new URL("unix:///x") }]) {
    assert.throws(() => new Broker(options), TypeError);
  }
  for (const timeoutMs of [0, -1, NaN]) {
    assert.throws(() => new Broker({ timeoutMs }), RangeError);
  }
  await assert.rejects(broker.renew({ generation: 1, expiresAt: 1 }), TypeError);
  await assert.rejects(broker.renew(null), TypeError);
  assert.equal(fake.requests, 0);
});

test("concurrent callers share one request", async (t) => {
  const fake = await fakeBroker(t);
  const broker = fake.broker();
  const tokens = await Promise.all(Array.from({ length: 50 }, () => broker.token("data")));
  assert.equal(new Set(tokens).size, 1);
  assert.equal(fake.requests, 1);
});

test("a caller that aborts leaves the request to the others", async (t) => {
  let open;
  const opened = new Promise((resolve) => (open = resolve));
  const server = await startServer(t, async () => {
    await opened;
    return answer(200, tokenJson());
  });
  const broker = new Broker({ socket: server.socket });
  const controller = new AbortController();
  const first = broker.token("data", { signal: controller.signal });
  const second = broker.token("data");
  await until(() => server.requests.length === 1);
  controller.abort(new Error("the caller left"));
  await assert.rejects(first, { message: "the caller left" });
  open();
  assert.equal((await second).generation, 7);
  assert.equal(server.requests.length, 1);
});

test("a request is cancelled when all callers abort, and the next caller sends its own", async (t) => {
  const server = await startServer(t, (_head, _connection, number) =>
    number === 1 ? undefined : answer(200, tokenJson()),
  );
  const broker = new Broker({ socket: server.socket });
  const controller = new AbortController();
  const first = broker.token("data", { signal: controller.signal });
  await until(() => server.requests.length === 1);
  controller.abort();
  await assert.rejects(first, { name: "AbortError" });
  assert.equal((await broker.token("data")).generation, 7);
  await until(() => server.connections.size === 0, "the end of the first connection");
  await assert.rejects(broker.token("data", { signal: AbortSignal.abort() }), { name: "AbortError" });
  assert.equal(server.requests.length, 2);
});

test("callers with different clients have different tokens", async (t) => {
  const fake = await fakeBroker(t);
  const [first, second] = [fake.broker({ client: "one" }), fake.broker({ client: "two" })];
  assert.equal((await first.token("data")).client, "one");
  assert.equal((await second.token("data")).client, "two");
});

test("a token that does not satisfy minTtlMs is requested again", async (t) => {
  const fake = await fakeBroker(t, { lifetimeMs: 20_000 });
  const broker = fake.broker();
  const first = await broker.token("data", { minTtlMs: 10_000 });
  assert.equal(await broker.token("data", { minTtlMs: 10_000 }), first);
  assert.equal(fake.requests, 1);
  fake.lifetimeMs = 60_000;
  const second = await broker.token("data", { minTtlMs: 40_000 });
  assert.notEqual(second.generation, first.generation);
  assert.equal(fake.requests, 2);
  await assert.rejects(broker.token("data", { minTtlMs: 90_000 }), { kind: "min_ttl_too_long", exitCode: 78 });
  assert.equal(await broker.token("data"), second, "it is still cached");
});

test("an expired token is requested again, by the wall clock or by the monotonic one", async (t) => {
  const fake = await fakeBroker(t);
  const broker = fake.broker();
  const first = await broker.token("data");
  const now = Date.now;
  t.after(() => {
    Date.now = now;
  });
  // As after a suspend: the monotonic clock has stopped meanwhile.
  Date.now = () => now() + 3_590_000;
  fake.grant("data", "second");
  assert.equal((await broker.token("data")).text, "second");
  Date.now = () => now() - 86_400_000;
  assert.equal((await broker.token("data")).text, "second");
  const monotonic = performance.now.bind(performance);
  t.mock.method(performance, "now", () => monotonic() + 3_601_000);
  fake.grant("data", "third");
  assert.equal((await broker.token("data")).text, "third");
  assert.notEqual(first.text, "third");
});

test("a token that is about to expire is used when no fresher one is available", async (t) => {
  const fake = await fakeBroker(t, { lifetimeMs: 100_000 });
  const broker = fake.broker();
  const first = await broker.token("data");
  const now = Date.now;
  t.after(() => {
    Date.now = now;
  });
  Date.now = () => now() + 94_000;
  fake.fail("data", "unavailable");
  assert.equal(await broker.token("data"), first);
  await fake.stop();
  assert.equal(await broker.token("data"), first);
  await fake.restart();
  fake.fail("data", "not_permitted");
  await assert.rejects(broker.token("data"), { kind: "not_permitted" }, "a decision of the broker");
});

test("a caller that needs a fresher token outlasts the failed early renewal of another", async (t) => {
  const fake = await fakeBroker(t, { lifetimeMs: 100_000 });
  const broker = fake.broker({ timeoutMs: 1100 });
  const first = await broker.token("data");
  const now = Date.now;
  t.after(() => {
    Date.now = now;
  });
  Date.now = () => now() + 94_000;
  await fake.stop();
  const early = broker.token("data");
  const strict = broker.token("data", { minTtlMs: 60_000 });
  assert.equal(await early, first);
  await fake.restart();
  assert.notEqual((await strict).text, first.text);
});

test("a rejected token is replaced by one request of all callers", async (t) => {
  const fake = await fakeBroker(t);
  const broker = fake.broker();
  const first = await broker.token("data");
  fake.lifetimeMs *= 2;
  const renewed = await Promise.all(Array.from({ length: 20 }, () => broker.renew(first)));
  assert.equal(new Set(renewed).size, 1);
  assert.notEqual(renewed[0].text, first.text);
  assert.equal(await broker.renew(first), renewed[0], "it is newer than the rejected one");
  assert.equal(await broker.token("data"), renewed[0]);
  assert.deepEqual([fake.requests, fake.rejections("data")], [2, 1]);
});

test("an answer that does not belong to the request is an error", async (t) => {
  const cases = [
    [tokenJson({ scope: "user" }), /grants "user", not all of "data"/],
    [tokenJson({ client: "beta" }), /is of client "beta", not of "acme"/],
    [tokenJson({ access_token: "a b" }), /not a token in JSON/],
    [tokenJson({ access_token: "" }), /not a token in JSON/],
    [tokenJson({ expires_at: null }), /not a token in JSON/],
    ['{"access_token": "c4nary', /not a token in JSON/],
    ["[]", /not a token in JSON/],
    ["null", /not a token in JSON/],
  ];
  for (const [value, message] of cases) {
    const server = await startServer(t, () => answer(200, value));
    const broker = new Broker({ socket: server.socket, client: "acme" });
    await assert.rejects(broker.token("data"), { kind: "protocol", exitCode: 70, message });
  }
});

test("a rejected token that is returned again is an error", async (t) => {
  const server = await startServer(t, () => answer(200, tokenJson()));
  const broker = new Broker({ socket: server.socket });
  const token = await broker.token("data");
  await assert.rejects(broker.renew(token), { kind: "protocol", message: /the token that was rejected/ });
  assert.match(server.requests[1], /^GET \/v1\/token\/data\?rejected=7&timeout=\d+s /);
});

test("more scopes than requested may be granted", async (t) => {
  const server = await startServer(t, () => answer(200, tokenJson({ scope: "audit data user" })));
  assert.equal((await new Broker({ socket: server.socket }).token("data")).scope, "audit data user");
});

test("close ends waiting calls and drops the tokens", async (t) => {
  const fake = await fakeBroker(t);
  const broker = fake.broker();
  await broker.token("user");
  fake.fail("data", "timeout");
  const waiting = broker.token("data");
  await until(() => fake.requests === 2);
  broker.close();
  await assert.rejects(waiting, { kind: "closed" });
  await assert.rejects(broker.token("user"), { kind: "closed" });
  assert.equal(fake.requests, 2);
});

test("a call without conditions does not wait for the stricter request of another", async (t) => {
  let open;
  const opened = new Promise((resolve) => (open = resolve));
  const server = await startServer(t, async (head) => {
    if (head.includes("min_ttl")) {
      await opened;
    }
    return answer(200, tokenJson({ expires_in: 600, expires_at: Math.floor(Date.now() / 1000) + 600 }));
  });
  const broker = new Broker({ socket: server.socket });
  await broker.token("data");
  const strict = broker.token("data", { minTtlMs: 1_000_000, signal: AbortSignal.timeout(2000) });
  await until(() => server.requests.length === 2);
  assert.equal((await broker.token("data")).generation, 7);
  assert.equal(server.requests.length, 2);
  open();
  // The broker's answer to the same conditions counts, whatever its clock says.
  assert.equal((await strict).generation, 7);
});

test("status returns the broker's JSON", async (t) => {
  const fake = await fakeBroker(t);
  const broker = fake.broker();
  await broker.token("data");
  const { broker: daemon, tokens } = await broker.status();
  assert.equal(daemon.socket, fake.socket);
  assert.deepEqual(tokens.map(({ scope, state }) => [scope, state]), [["data", "fresh"]]);
  const server = await startServer(t, () => answer(200, "[1"));
  await assert.rejects(new Broker({ socket: server.socket }).status(), { kind: "protocol" });
});

test("every kind of answer is an error of its class", async (t) => {
  const kinds = [
    ["bad_request", 400, 2, "DomoTokenError"],
    ["forbidden_origin", 403, 2, "DomoTokenError"],
    ["not_permitted", 403, 77, "NotPermitted"],
    ["not_found", 404, 2, "DomoTokenError"],
    ["unknown_client", 404, 78, "UnknownScopeSet"],
    ["unknown_scope", 404, 78, "UnknownScopeSet"],
    ["method_not_allowed", 405, 2, "DomoTokenError"],
    ["min_ttl_too_long", 409, 78, "UnknownScopeSet"],
    ["gone", 410, 78, "UnknownScopeSet"],
    ["denied", 424, 78, "Rejected"],
    ["busy", 429, 75, "Unavailable"],
    ["head_too_large", 431, 2, "DomoTokenError"],
    ["bug", 500, 70, "DomoTokenError"],
    ["unavailable", 503, 75, "Unavailable"],
    ["version_not_supported", 505, 2, "DomoTokenError"],
    ["newer_kind", 418, 75, "Unavailable"],
    ["other_kind", 418, 77, "NotPermitted"],
  ];
  for (const [kind, status, exitCode, name] of kinds) {
    const server = await startServer(t, () => problem(kind, status, { exit_code: exitCode, retry_after_ms: 61_000 }));
    const error = await new Broker({ socket: server.socket }).token("data").catch((caught) => caught);
    assert.ok(error instanceof DomoTokenError);
    assert.deepEqual([error.kind, error.exitCode, error.name, error.retryAfterMs], [kind, exitCode, name, 61_000]);
    assert.ok(error.message.startsWith(`the cause of ${kind}`), error.message);
    assert.equal(server.requests.length, 1, kind);
  }
});

test("an error is one line, whatever the server sends", async (t) => {
  const detail = "no\r\n\u001b[2Jroot: granted";
  const server = await startServer(t, () => problem("denied", 424, { detail, exit_code: 78 }));
  const broker = new Broker({ socket: server.socket });
  await assert.rejects(broker.token("data"), { message: "no   [2Jroot: granted", retryAfterMs: undefined });
});

test("Retry-After counts where the JSON has no time", async (t) => {
  const text = JSON.stringify({ type: "urn:domo-token:unavailable", detail: "x", exit_code: 75 });
  const server = await startServer(t, () => answer(503, text, { "Retry-After": "30" }));
  await assert.rejects(new Broker({ socket: server.socket }).token("data"), { retryAfterMs: 30_000 });
});

import assert from "node:assert/strict";
import { createRequire } from "node:module";
import test from "node:test";

import { FakeBroker } from "domo-token/testing";
import { end, startApi } from "./support/api.mjs";

const require = createRequire(import.meta.url);
const { redirectMode } = require("../lib/fetch.cjs");

async function fakeBroker(t) {
  const fake = await FakeBroker.start();
  t.after(() => fake.close());
  fake.grant("data", "first");
  return { fake, broker: fake.broker() };
}

/** Returns an API that rejects the token `first` with this status. */
function rejecting(t, status = 401) {
  return startApi(t, ({ headers }, response) =>
    headers.authorization === "Bearer first" ? end(response, status, "rejected") : end(response, 200, "rows"),
  );
}

const sent = (api) => api.requests.map(({ headers }) => headers.authorization);

test("the token is sent, with the caller's own headers", async (t) => {
  const { broker } = await fakeBroker(t);
  const api = await startApi(t, (_request, response) => end(response, 200, "rows"));
  const init = { method: "PUT", headers: { "X-Own": "1", Authorization: "other" }, body: "text" };
  const response = await broker.fetch(`${api.url}/v1/datasets`, { scopes: "data", ...init });
  assert.deepEqual([response.status, await response.text()], [200, "rows"]);
  const [{ method, url, headers, body }] = api.requests;
  assert.deepEqual([method, url, headers["x-own"], body], ["PUT", "/v1/datasets", "1", "text"]);
  assert.deepEqual(sent(api), ["Bearer first"]);
  assert.equal(init.headers.Authorization, "other", "the caller's object stays as it is");
});

test("a rejection whose connection is lost within the body is renewed, too", async (t) => {
  const { fake, broker } = await fakeBroker(t);
  const lost = new ReadableStream({ start: (controller) => controller.error(new TypeError("terminated")) });
  const responses = [new Response(lost, { status: 401 }), new Response("rows")];
  t.mock.method(globalThis, "fetch", async () => responses.shift());
  const response = await broker.fetch("http://localhost/", { scopes: "data" });
  assert.deepEqual([response.status, await response.text()], [200, "rows"]);
  assert.equal(fake.rejections("data"), 1);
});

test("a rejected token is renewed and the request is sent once more", async (t) => {
  const bodies = [
    ["text", "text"],
    [new URLSearchParams({ a: "1" }), "a=1"],
    [new Blob(["blob"]), "blob"],
    [new TextEncoder().encode("bytes"), "bytes"],
    [new TextEncoder().encode("buffer").buffer, "buffer"],
  ];
  for (const [body, received] of bodies) {
    const { fake, broker } = await fakeBroker(t);
    const api = await rejecting(t);
    const fetches = t.mock.method(globalThis, "fetch");
    const response = await broker.fetch(api.url, { scopes: "data", method: "POST", body });
    const rejected = await fetches.mock.calls[0].result;
    fetches.mock.restore();
    assert.ok(rejected.bodyUsed, "its connection is free");
    assert.deepEqual([response.status, await response.text()], [200, "rows"]);
    assert.deepEqual(api.requests.map((request) => request.body), [received, received]);
    assert.deepEqual(sent(api), ["Bearer first", `Bearer ${(await broker.token("data")).text}`]);
    assert.equal(fake.rejections("data"), 1);
  }
});

test("a Request without a body is sent again, with its own headers", async (t) => {
  const { broker } = await fakeBroker(t);
  const api = await rejecting(t);
  const request = new Request(api.url, { headers: { "X-Own": "1" } });
  assert.equal((await broker.fetch(request, { scopes: "data" })).status, 200);
  assert.deepEqual(api.requests.map(({ headers }) => headers["x-own"]), ["1", "1"]);
});

test("a second rejection is returned", async (t) => {
  const { fake, broker } = await fakeBroker(t);
  const api = await startApi(t, (_request, response) => end(response, 401));
  assert.equal((await broker.fetch(api.url, { scopes: "data" })).status, 401);
  assert.equal(api.requests.length, 2);
  assert.equal(fake.rejections("data"), 1);
});

test("406 is a rejection only if CSV was requested", async (t) => {
  const { broker } = await fakeBroker(t);
  const api = await rejecting(t, 406);
  const json = { scopes: "data", headers: { accept: "application/json" } };
  assert.equal((await broker.fetch(api.url, json)).status, 406);
  assert.equal(api.requests.length, 1);
  const csv = { scopes: "data", headers: [["Accept", "text/csv, */*"]] };
  assert.equal((await broker.fetch(api.url, csv)).status, 200);
  assert.equal(api.requests.length, 3);
});

test("a body that cannot be sent again gets the first response, and the next call another token", async (t) => {
  const stream = () => new Blob(["rows"]).stream();
  const calls = [
    (broker, url) => broker.fetch(url, { scopes: "data", method: "POST", body: stream(), duplex: "half" }),
    (broker, url) => broker.fetch(new Request(url, { method: "POST", body: "rows" }), { scopes: "data" }),
  ];
  for (const call of calls) {
    const { broker } = await fakeBroker(t);
    const api = await rejecting(t);
    const response = await call(broker, api.url);
    assert.deepEqual([response.status, await response.text()], [401, "rejected"]);
    assert.deepEqual(api.requests.map(({ body }) => body), ["rows"]);
    assert.equal((await broker.fetch(api.url, { scopes: "data" })).status, 200);
    assert.equal(api.requests.length, 2);
  }
});

test("Domo's response is returned when no other token is available", async (t) => {
  const { fake, broker } = await fakeBroker(t);
  const api = await startApi(t, (_request, response) => {
    fake.fail("data", "unavailable");
    end(response, 401, "rejected");
  });
  const response = await broker.fetch(api.url, { scopes: "data" });
  assert.deepEqual([response.status, await response.text()], [401, "rejected"]);
  assert.equal(api.requests.length, 1);
});

test("other responses are returned unchanged", async (t) => {
  const { fake, broker } = await fakeBroker(t);
  for (const status of [204, 304, 400, 403, 404, 500]) {
    const api = await startApi(t, (_request, response) => end(response, status));
    assert.equal((await broker.fetch(api.url, { scopes: "data" })).status, status);
    assert.equal(api.requests.length, 1);
  }
  assert.equal(fake.requests, 1);
});

test("nothing is sent without a token or without scopes", async (t) => {
  const { fake, broker } = await fakeBroker(t);
  const api = await startApi(t, (_request, response) => end(response, 200));
  fake.fail("user", "not_permitted");
  await assert.rejects(broker.fetch(api.url, { scopes: "user" }), { kind: "not_permitted", exitCode: 77 });
  await assert.rejects(broker.fetch(api.url), TypeError);
  await assert.rejects(broker.fetch(api.url, { method: "GET" }), TypeError);
  await assert.rejects(broker.fetch(api.url, { scopes: "data", signal: AbortSignal.abort() }), { name: "AbortError" });
  assert.equal(api.requests.length, 0);
});

test("the token is not sent to another origin on a redirect", async (t) => {
  const { fake, broker } = await fakeBroker(t);
  const other = await startApi(t, (_request, response) => end(response, 401, "other"));
  const api = await startApi(t, (_request, response) => end(response, 302, "", { Location: other.url }));
  const follows = redirectMode(undefined, process.versions.undici).redirect === "follow";
  const call = broker.fetch(api.url, { scopes: "data" });
  if (follows) {
    // The 401 of a server that got no token is no reason to renew it.
    assert.equal((await call).status, 401);
    assert.deepEqual(other.requests.map(({ headers }) => headers.authorization), [undefined]);
  } else {
    await assert.rejects(call, TypeError);
    assert.equal(other.requests.length, 0);
  }
  assert.deepEqual([sent(api), fake.rejections("data")], [["Bearer first"], 0]);
  const manual = await broker.fetch(api.url, { scopes: "data", redirect: "manual" });
  assert.equal(manual.status, 302);
  await assert.rejects(broker.fetch(api.url, { scopes: "data", redirect: "error" }), TypeError);
});

test("redirects are errors where fetch would send the token to another origin", () => {
  for (const undici of [undefined, "", "5.0.0", "5.13.1", "x"]) {
    assert.deepEqual(redirectMode(undefined, undici), { redirect: "error" }, undici);
    assert.deepEqual(redirectMode("follow", undici), { redirect: "error" });
    assert.deepEqual(redirectMode("manual", undici), { redirect: "manual" });
  }
  for (const undici of ["5.14.0", "5.28.4", "6.0.0", "7.1.0"]) {
    assert.deepEqual(redirectMode(undefined, undici), { redirect: "follow" }, undici);
    assert.deepEqual(redirectMode("error", undici), { redirect: "error" });
  }
});

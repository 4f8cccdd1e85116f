import assert from "node:assert/strict";
import { createRequire } from "node:module";
import test from "node:test";

import { Broker } from "domo-token";
import { FakeBroker } from "domo-token/testing";
import { answer, startServer, tokenJson } from "./support/server.mjs";
import { until } from "./support/wait.mjs";

const require = createRequire(import.meta.url);
const { EventParser } = require("../lib/event-stream.cjs");

async function fakeBroker(t) {
  const fake = await FakeBroker.start();
  t.after(() => fake.close());
  fake.grant("data", "first");
  return fake;
}

test("a watch returns the current token and each new one, which calls then use", async (t) => {
  const fake = await fakeBroker(t);
  const broker = fake.broker();
  const texts = [];
  for await (const token of broker.watch("data")) {
    texts.push(token.text);
    assert.equal((await broker.token("data")).text, token.text);
    if (texts.length === 3) {
      break;
    }
    fake.grant("data", `next-${texts.length}`);
  }
  assert.deepEqual(texts, ["first", "next-1", "next-2"]);
  assert.equal(fake.requests, 1, "no call needed a request");
});

test("a watch reconnects, and returns no token twice", async (t) => {
  const fake = await fakeBroker(t);
  const outages = [];
  const watch = fake.broker().watch("data", { onUnavailable: (error) => outages.push(error.kind) });
  assert.equal((await watch.next()).value.text, "first");
  await fake.stop();
  const next = watch.next();
  await until(() => outages.length > 0, "the outage");
  await fake.restart();
  await until(() => fake.requests === 2);
  fake.grant("data", "second");
  assert.equal((await next).value.text, "second");
  assert.deepEqual(outages, ["not_running"], "reported once");
  await watch.return();
});

test("a reconnecting watch sends the id of the last event", async (t) => {
  const event = `event: token\nid: 7\ndata: ${JSON.stringify(tokenJson())}\n\n`;
  const head = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n";
  const server = await startServer(t, (_head, _connection, number) =>
    number < 3 ? head + event : `${head}event: gone\ndata: {"detail":"removed"}\n\n`,
  );
  const tokens = [];
  const watching = (async () => {
    for await (const token of new Broker({ socket: server.socket, client: "acme" }).watch("data")) {
      tokens.push(token.generation);
    }
  })();
  await assert.rejects(watching, { kind: "gone", name: "UnknownScopeSet", exitCode: 78, message: "removed" });
  assert.deepEqual(tokens, [7]);
  const ids = server.requests.map((request) => /Last-Event-ID: (\S+)/.exec(request)?.[1]);
  assert.deepEqual(ids, [undefined, "7", "7"]);
  assert.match(server.requests[0], /^GET \/v1\/watch\/data\?client=acme HTTP/);
});

test("an expired token without a successor is reported, and the watch continues", async (t) => {
  const fake = await fakeBroker(t);
  const errors = [];
  const watch = fake.broker().watch("data", { onUnavailable: (error) => errors.push(error) });
  await watch.next();
  const next = watch.next();
  fake.fail("data", "unavailable", { detail: "Domo answered 503", retryAfterMs: 8000 });
  await until(() => errors.length > 0);
  const [{ kind, message, retryAfterMs }] = errors;
  assert.deepEqual([kind, message, retryAfterMs], ["unavailable", "Domo answered 503", 8000]);
  fake.grant("data", "second");
  assert.equal((await next).value.text, "second");
  assert.equal(errors.length, 1);
  await watch.return();
});

test("a removed scope set ends the watch", async (t) => {
  const fake = await fakeBroker(t);
  const watch = fake.broker().watch("data");
  await watch.next();
  fake.fail("data", "gone");
  await assert.rejects(watch.next(), { kind: "gone", exitCode: 78 });
  assert.deepEqual(await watch.next(), { done: true, value: undefined });
});

test("a watch that cannot start is an error", async (t) => {
  const fake = await fakeBroker(t);
  for (const kind of ["not_permitted", "unknown_scope", "denied", "busy"]) {
    fake.fail("user", kind, { retryAfterMs: 60_000 });
    await assert.rejects(fake.broker().watch("user").next(), { kind });
  }
  await assert.rejects(new Broker({ socket: "/nonexistent/broker.sock" }).watch("data").next(), { kind: "not_running" });
  assert.throws(() => fake.broker().watch(""), { kind: "invalid_scope" });
});

test("a decision after a restart ends the watch", async (t) => {
  const fake = await fakeBroker(t);
  const watch = fake.broker().watch("data");
  await watch.next();
  const next = watch.next();
  next.catch(() => {});
  await fake.stop();
  fake.fail("data", "not_permitted");
  await fake.restart();
  await assert.rejects(next, { kind: "not_permitted" });
});

test("a signal and close end a watch", async (t) => {
  const fake = await fakeBroker(t);
  const controller = new AbortController();
  const broker = fake.broker();
  const [aborted, closed] = [broker.watch("data", { signal: controller.signal }), broker.watch("data")];
  await Promise.all([aborted.next(), closed.next()]);
  const [first, second] = [aborted.next(), closed.next()];
  controller.abort(new Error("enough"));
  await assert.rejects(first, { message: "enough" });
  broker.close();
  await assert.rejects(second, { kind: "closed" });
});

test("an answer that is not valid ends the watch", async (t) => {
  const head = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n";
  const events = [
    `event: token\ndata: ${JSON.stringify(tokenJson({ scope: "user" }))}\n\n`,
    'event: token\ndata: {"access_token":"c4nary\n\n',
    `data: ${"x".repeat(2 * 1024 * 1024)}`,
  ];
  for (const event of events) {
    const server = await startServer(t, () => head + event);
    await assert.rejects(new Broker({ socket: server.socket }).watch("data").next(), { kind: "protocol" });
  }
});

test("an answer that is no event stream ends the watch", async (t) => {
  const page = answer(200, "<html>", { "Content-Type": "text/html" });
  const server = await startServer(t, () => page);
  await assert.rejects(new Broker({ socket: server.socket }).watch("data").next(), { kind: "protocol", message: /no broker/ });
  await until(() => server.connections.size === 0, "the end of the connection");
});

test("an id that is no generation is not sent again", async (t) => {
  const event = (id, generation) => `id: ${id}\nevent: token\ndata: ${JSON.stringify(tokenJson({ generation }))}\n\n`;
  const head = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n";
  for (const id of ["é\u2028", "a\u0001b", "9".repeat(5000)]) {
    const server = await startServer(t, (_head, _connection, number) => head + event(number === 1 ? id : 2, number));
    const watch = new Broker({ socket: server.socket }).watch("data");
    assert.deepEqual([(await watch.next()).value.generation, (await watch.next()).value.generation], [1, 2]);
    assert.ok(!/last-event-id/i.test(server.requests[1]));
    await watch.return();
  }
});

test("events are parsed wherever the stream is cut", () => {
  const stream = ': comment\n\nevent: token\r\nid: 5\r\ndata: a\r\ndata:b\r\n\r\nretry: 10\ndata\n\nid\n\nevent: x\n\ndata: c\rdata: d\r\r\n';
  const expected = [
    { type: "token", data: "a\nb", id: "5" },
    { type: "message", data: "", id: "5" },
    { type: "message", data: "c\nd", id: "" },
  ];
  for (let size = 1; size <= stream.length; size += 1) {
    const parser = new EventParser();
    const found = [];
    for (let at = 0; at < stream.length; at += size) {
      found.push(...parser.push(stream.slice(at, at + size)));
    }
    assert.deepEqual(found, expected, `pieces of ${size}`);
  }
});

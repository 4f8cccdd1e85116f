import assert from "node:assert/strict";
import net from "node:net";
import path from "node:path";
import test from "node:test";

import { Broker } from "domo-token";
import { temporaryFolder, write } from "./support/folder.mjs";
import { answer, problem, startServer, tokenJson } from "./support/server.mjs";
import { until } from "./support/wait.mjs";

/** Less than the default time limit, and enough on a busy machine. */
const LONG_MS = 8000;

/** How much earlier a timer may end: it starts at the time that the event loop read before the current task. */
const TIMER_MS = 50;

async function timed(call) {
  const start = performance.now();
  const error = await call.then(() => undefined, (caught) => caught);
  return { error, ms: performance.now() - start };
}

/** Leaves a socket that refuses connections. */
async function refusingSocket(t) {
  const { fork } = await import("node:child_process");
  const socket = path.join(temporaryFolder(t), "broker.sock");
  const script = write(
    path.join(path.dirname(socket), "listen.cjs"),
    'require("node:net").createServer().listen(process.argv[2], () => process.send("up"));',
  );
  const child = fork(script, [socket]);
  await new Promise((resolve) => child.once("message", resolve));
  const ended = new Promise((resolve) => child.once("exit", resolve));
  child.kill("SIGKILL");
  await ended;
  return socket;
}

test("a missing socket is an error immediately", async () => {
  const { error, ms } = await timed(new Broker({ socket: "/nonexistent/broker.sock" }).token("data"));
  assert.deepEqual([error.kind, error.name, error.exitCode], ["not_running", "NotRunning", 69]);
  assert.ok(ms < LONG_MS, `${ms} ms`);
});

test("a refusing socket is retried for a second", async (t) => {
  const socket = await refusingSocket(t);
  const { error, ms } = await timed(new Broker({ socket }).token("data"));
  assert.equal(error.kind, "not_running");
  assert.ok(ms > 700 && ms < LONG_MS, `${ms} ms`);
});

test("a refusing socket that is replaced within a second costs no call", async (t) => {
  const socket = await refusingSocket(t);
  const call = new Broker({ socket }).token("data");
  const other = `${socket}.new`;
  const server = await startServer(t, () => answer(200, tokenJson()), other);
  (await import("node:fs")).renameSync(other, socket);
  assert.equal((await call).generation, 7);
  assert.equal(server.requests.length, 1);
});

test("a request whose connection is lost is sent again", async (t) => {
  const server = await startServer(t, (_head, connection, number) => {
    if (number < 3) {
      connection.destroy();
      return undefined;
    }
    return answer(200, tokenJson());
  });
  assert.equal((await new Broker({ socket: server.socket }).token("data")).generation, 7);
  assert.equal(server.requests.length, 3);
});

test("a connection that is closed before the request, or answered before it, is made again", async (t) => {
  const frame = Buffer.from("44544b01060000000107046275737900", "hex");
  let number = 0;
  const socket = path.join(temporaryFolder(t), "broker.sock");
  const server = net.createServer((connection) => {
    number += 1;
    connection.on("error", () => {});
    if (number === 1) {
      connection.destroy();
    } else if (number === 2) {
      connection.end();
    } else if (number === 3) {
      connection.end(frame);
    } else {
      connection.once("data", () => connection.end(answer(200, tokenJson())));
    }
  });
  await new Promise((resolve) => server.listen(socket, resolve));
  t.after(() => server.close());
  const { error, ms } = await timed(new Broker({ socket }).token("data"));
  assert.equal(error, undefined);
  assert.deepEqual([number, ms < LONG_MS], [4, true]);
});

test("an answer that ends early is requested again", async (t) => {
  const whole = answer(200, tokenJson());
  const server = await startServer(t, (_head, _connection, number) =>
    number === 1 ? whole.slice(0, -10) : number === 2 ? whole.slice(0, 20) : whole,
  );
  assert.equal((await new Broker({ socket: server.socket }).token("data")).generation, 7);
  assert.equal(server.requests.length, 3);
});

test("a broker that closes every connection is unavailable at the deadline", async (t) => {
  const server = await startServer(t, (_head, connection) => void connection.destroy());
  const { error, ms } = await timed(new Broker({ socket: server.socket, timeoutMs: 2000 }).token("data"));
  assert.deepEqual([error.kind, error.exitCode], ["unavailable", 75]);
  assert.match(error.message, /http in \[broker\]/);
  assert.ok(ms < LONG_MS && server.requests.length > 1, `${ms} ms, ${server.requests.length}`);
});

test("a server that switches protocols is unavailable, not a timeout", async (t) => {
  const upgrade = "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n";
  const server = await startServer(t, () => upgrade);
  await assert.rejects(new Broker({ socket: server.socket, timeoutMs: 500 }).token("data"), { kind: "unavailable" });
});

test("a broker that does not answer is a timeout 200 ms after the deadline", async (t) => {
  const server = await startServer(t, () => undefined);
  const { error, ms } = await timed(new Broker({ socket: server.socket, timeoutMs: 300 }).token("data"));
  assert.deepEqual([error.kind, error.name, error.exitCode], ["timeout", "Unavailable", 75]);
  assert.ok(ms >= 500 - TIMER_MS && ms < LONG_MS, `${ms} ms`);
  await until(() => server.connections.size === 0, "the end of the connection");
});

test("busy is retried, not before the time that the broker names", async (t) => {
  const times = [];
  const server = await startServer(t, (_head, _connection, number) => {
    times.push(performance.now());
    return number < 3 ? problem("busy", 429, { exit_code: 75, retry_after_ms: 120 }) : answer(200, tokenJson());
  });
  assert.equal((await new Broker({ socket: server.socket }).token("data")).generation, 7);
  assert.equal(times.length, 3);
  assert.ok(times[1] - times[0] >= 120 - TIMER_MS && times[2] - times[1] >= 120 - TIMER_MS, String(times));
});

test("busy is the error when there is no time for another attempt", async (t) => {
  const server = await startServer(t, () => problem("busy", 429, { exit_code: 75, retry_after_ms: 60_000 }));
  const { error, ms } = await timed(new Broker({ socket: server.socket, timeoutMs: 20_000 }).token("data"));
  assert.deepEqual([error.kind, error.retryAfterMs, server.requests.length], ["busy", 60_000, 1]);
  assert.ok(ms < LONG_MS, `${ms} ms`);
});

test("busy explains more than that the broker has stopped since", async (t) => {
  const server = await startServer(t, () => problem("busy", 429, { exit_code: 75 }));
  const call = new Broker({ socket: server.socket, timeoutMs: 2000 }).token("data");
  call.catch(() => {});
  await until(() => server.requests.length > 0);
  server.stop();
  await assert.rejects(call, { kind: "busy" });
});

test("an answer in frames is retried like busy", async (t) => {
  const frame = Buffer.from("44544b01060000000107046275737900", "hex");
  const server = await startServer(t, (_head, _connection, number) =>
    number === 1 ? frame : answer(200, tokenJson()),
  );
  assert.equal((await new Broker({ socket: server.socket }).token("data")).generation, 7);
  const always = await startServer(t, () => frame);
  const broker = new Broker({ socket: always.socket, timeoutMs: 1000 });
  await assert.rejects(broker.token("data"), { kind: "busy", message: /a limit is reached or HTTP is off/ });
});

test("a server that is no broker is an error", async (t) => {
  const cases = [
    ["SSH-2.0-OpenSSH_9.6\r\n", /not valid HTTP/],
    [answer(404, "<html>c4nary</html>", { "Content-Type": "text/html" }), /no broker: it answered with HTTP status 404/],
    [answer(302, "", { Location: "http://c4nary/" }), /HTTP status 302/],
  ];
  for (const [bytes, message] of cases) {
    const server = await startServer(t, () => bytes);
    await assert.rejects(new Broker({ socket: server.socket }).token("data"), { kind: "protocol", message });
    assert.equal(server.requests.length, 1);
  }
});

test("a restart of the broker costs no call after the first", async (t) => {
  const connects = t.mock.method(net, "connect");
  const first = await startServer(t, () => answer(200, tokenJson()));
  const broker = new Broker({ socket: first.socket });
  const token = await broker.token("data");
  await first.stop();
  const call = broker.renew(token);
  call.catch(() => {});
  await until(() => connects.mock.callCount() >= 3, "an attempt without a socket");
  const json = tokenJson({ generation: 8 });
  await startServer(t, () => answer(200, json), first.socket);
  assert.equal((await call).generation, 8);
});

test("an error is an answer, too: after it, a missing socket is a restart", async (t) => {
  const connects = t.mock.method(net, "connect");
  const first = await startServer(t, () => problem("unavailable", 503, { exit_code: 75 }));
  const broker = new Broker({ socket: first.socket });
  await assert.rejects(broker.token("data"), { kind: "unavailable" });
  await first.stop();
  const call = broker.token("data");
  call.catch(() => {});
  await until(() => connects.mock.callCount() >= 3, "an attempt without a socket");
  await startServer(t, () => answer(200, tokenJson()), first.socket);
  assert.equal((await call).generation, 7);
});

test("a longer answer than any of a broker is an error", async (t) => {
  const server = await startServer(t, () => answer(200, " ".repeat(17 * 1024 * 1024)));
  await assert.rejects(new Broker({ socket: server.socket }).token("data"), { kind: "protocol", message: /longer than/ });
});

test("a connection that is not answered ends with its caller's signal", async (t) => {
  const accepted = [];
  const socket = path.join(temporaryFolder(t), "broker.sock");
  const server = net.createServer((connection) => accepted.push(connection));
  await new Promise((resolve) => server.listen(socket, resolve));
  t.after(() => server.close());
  const controller = new AbortController();
  const call = new Broker({ socket }).status({ signal: controller.signal });
  await until(() => accepted.length === 1);
  controller.abort(new Error("enough"));
  await assert.rejects(call, { message: "enough" });
  accepted.forEach((connection) => connection.destroy());
});

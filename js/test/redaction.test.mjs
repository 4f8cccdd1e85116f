import assert from "node:assert/strict";
import buffer from "node:buffer";
import { execFile } from "node:child_process";
import test from "node:test";
import { promisify, format, inspect } from "node:util";
import { MessageChannel, Worker, receiveMessageOnPort } from "node:worker_threads";
import { fileURLToPath } from "node:url";

import { Broker } from "domo-token";
import { FakeBroker } from "domo-token/testing";
import { answer, problem, startServer, tokenJson } from "./support/server.mjs";
import { until } from "./support/wait.mjs";

buffer.INSPECT_MAX_BYTES = Infinity;

const CANARY = "c4nary-t0ken";
const DEEP = { showHidden: true, depth: 10, maxStringLength: Infinity, maxArrayLength: Infinity };

function assertHidden(text, what) {
  assert.ok(!text.includes("c4nary"), `${what}: ${text}`);
  // As a buffer is shown.
  assert.ok(!text.includes("63 34 6e 61 72 79"), `${what}: ${text}`);
}

async function tokenAndBroker(t) {
  const server = await startServer(t, () => answer(200, tokenJson()));
  const broker = new Broker({ socket: server.socket });
  const token = await broker.token("data");
  assert.equal(token.text, CANARY);
  return { broker, token, server };
}

test("no way of printing a token shows it", async (t) => {
  const { token } = await tokenAndBroker(t);
  const texts = {
    inspect: inspect(token),
    deep: inspect({ a: [token] }, DEEP),
    "without custom inspection": inspect(token, { ...DEEP, customInspect: false }),
    format: format("%s %o %O %j %d", token, token, token, token, token),
    json: JSON.stringify({ token }),
    string: String(token),
    template: `${token}`,
    concatenation: "" + token,
    keys: Object.entries(token).join(),
    own: Reflect.ownKeys(token).map((name) => String(token[name])).join(),
    spread: JSON.stringify({ ...token }),
    clone: inspect(structuredClone(token), DEEP),
    assign: inspect(Object.assign({}, token), DEEP),
  };
  for (const [what, text] of Object.entries(texts)) {
    assertHidden(text, what);
  }
  assert.match(texts.inspect, /\[redacted\]/);
  assert.throws(() => Object.defineProperty(token, "text", { value: 1 }), TypeError, "it is frozen");
  assert.throws(() => new token.constructor(), TypeError);
});

test("no message to another thread has a token", async (t) => {
  const { token } = await tokenAndBroker(t);
  const { port1, port2 } = new MessageChannel();
  port1.postMessage({ token });
  assertHidden(inspect(receiveMessageOnPort(port2), DEEP), "message");
  port1.close();
  const source = 'const { parentPort, workerData } = require("node:worker_threads");' +
    'parentPort.postMessage(require("node:util").inspect(workerData, { showHidden: true, depth: 10 }));';
  const worker = new Worker(source, { eval: true, workerData: { token } });
  const shown = await new Promise((resolve) => worker.once("message", resolve));
  assert.match(shown, /generation: 7/);
  assertHidden(shown, "worker");
  await worker.terminate();
});

test("no broker shows a token, during a request or after it", async (t) => {
  const { broker, token } = await tokenAndBroker(t);
  for (const options of [{}, DEEP, { ...DEEP, customInspect: false, getters: true }]) {
    assertHidden(inspect(broker, options), "broker");
  }
  assertHidden(JSON.stringify(broker), "json");
  assertHidden(inspect(structuredClone(broker), DEEP), "clone");
  const slow = await startServer(t, () => undefined);
  const waiting = new Broker({ socket: slow.socket, timeoutMs: 300 });
  const call = waiting.token("data");
  call.catch(() => {});
  await until(() => slow.requests.length === 1);
  assertHidden(inspect(waiting, { ...DEEP, customInspect: false }), "waiting broker");
  assertHidden(inspect(call, DEEP), "promise");
  const watch = broker.watch("data");
  assertHidden(inspect(watch, DEEP), "watch");
  await assert.rejects(call);
  assertHidden(inspect(Promise.resolve(token), DEEP), "promise of a token");
});

test("no error shows a token, however broken the answer is", async (t) => {
  const whole = answer(200, tokenJson());
  const cases = [
    whole.replace("HTTP/1.1 200", "HTTP/1.1 2x0"),
    whole.replace("Content-Length", "Content-Length: 5\r\nContent-Length"),
    whole.replace("\r\n\r\n", `\r\nBroken ${CANARY}\r\n\r\n`),
    answer(200, `{"access_token":"${CANARY}",,}`),
    answer(200, tokenJson({ access_token: `${CANARY} \n` })),
    answer(200, tokenJson({ access_token: `${CANARY}\u00e9` })),
    answer(200, tokenJson({ scope: "user" })),
    answer(200, tokenJson({ generation: "x" })),
    answer(500, tokenJson()),
    `DTK${CANARY}`,
    CANARY,
    whole.slice(0, -5),
  ];
  for (const bytes of cases) {
    const server = await startServer(t, () => bytes);
    const broker = new Broker({ socket: server.socket, timeoutMs: 1000 });
    const error = await broker.token("data").catch((caught) => caught);
    assert.ok(error instanceof Error, bytes);
    assertHidden(inspect(error, { ...DEEP, getters: true }), bytes.slice(0, 30));
    assertHidden(error.stack, "stack");
  }
});

test("an error of fetch shows no token", async (t) => {
  const { broker } = await tokenAndBroker(t);
  for (const url of ["http://127.0.0.1:1/", "nonsense", "http://user:pw@127.0.0.1/"]) {
    const error = await broker.fetch(url, { scopes: "data" }).catch((caught) => caught);
    assert.ok(error instanceof TypeError, url);
    assertHidden(inspect(error, DEEP), url);
  }
});

test("an error of renewal and of a watch shows no token", async (t) => {
  const { broker, token, server } = await tokenAndBroker(t);
  await server.stop();
  await startServer(t, () => problem("denied", 424, { exit_code: 78 }), server.socket);
  const errors = [
    await broker.renew(token).catch((caught) => caught),
    await broker.watch("data").next().catch((caught) => caught),
  ];
  for (const error of errors) {
    assert.equal(error.kind, "denied");
    assertHidden(inspect(error, DEEP), "error");
  }
});

test("an uncaught error prints no token", async (t) => {
  const fake = await FakeBroker.start();
  t.after(() => fake.close());
  fake.grant("data", CANARY);
  const script = fileURLToPath(new URL("support/uncaught.mjs", import.meta.url));
  const env = { ...process.env, DOMO_TOKEN_SOCKET: fake.socket };
  const failed = await promisify(execFile)(process.execPath, [script], { env }).catch((caught) => caught);
  assert.equal(failed.code, 1, failed.stderr);
  assert.match(failed.stderr, /Error: with a token/);
  assertHidden(failed.stderr + failed.stdout, "output");
});

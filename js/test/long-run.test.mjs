import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import fs from "node:fs";
import { createInterface } from "node:readline";
import test from "node:test";
import { fileURLToPath } from "node:url";

import { end, startApi } from "./support/api.mjs";
import { needsPrograms, startDaemon, startSandbox } from "./support/daemon.mjs";
import { until } from "./support/wait.mjs";

const app = fileURLToPath(new URL("support/app.mjs", import.meta.url));

const LIFETIME_S = 6;

/** How much a request may catch up with the one before it on its way. */
const JITTER_S = 0.1;

/** Starts Domo's API with a revocation of tokens, which the sandbox does for all others. */
function startRevokingApi(t, sandbox, revoked) {
  return startApi(t, async ({ headers, url }, response) => {
    if (revoked.has(headers.authorization)) {
      end(response, 401, '{"error":"invalid_token"}');
      return;
    }
    const forwarded = fetch(`${sandbox.url}${url}`, { headers: { authorization: headers.authorization } });
    const [status, body] = await forwarded.then(
      async (answer) => [answer.status, await answer.text()],
      (error) => [502, String(error)],
    );
    end(response, status, body);
  });
}

test("an app has no failed call in three lifetimes with two restarts and a revocation", needsPrograms, async (t) => {
  const sandbox = await startSandbox(t, ["--lifetime", `${LIFETIME_S}s`]);
  const daemon = await startDaemon(t, sandbox, { tokens: ["data"] });
  const revoked = new Set();
  const api = await startRevokingApi(t, sandbox, revoked);
  const env = { ...process.env, DOMO_TOKEN_SOCKET: daemon.socket };
  const child = spawn(process.execPath, [app, `${api.url}/v1/datasets`], { env, stdio: ["ignore", "pipe", "pipe"] });
  t.after(() => child.kill("SIGKILL"));
  const calls = [];
  let errors = "";
  createInterface({ input: child.stdout }).on("line", (line) => calls.push(line));
  child.stderr.on("data", (text) => (errors += text));
  const moreCalls = async (count) => {
    const wanted = calls.length + count;
    await until(() => calls.length >= wanted || child.exitCode !== null, "calls of the app");
    assert.equal(child.exitCode, null, errors);
  };
  await moreCalls(50);

  // The numbers of the first requests of each daemon.
  const firsts = [0];
  const restart = async (signal) => {
    firsts.push(sandbox.requests.length);
    await daemon.restart(signal);
    await until(() => sandbox.requests.length > firsts.at(-1), "the request of the new daemon");
    await moreCalls(20);
  };
  await restart("SIGTERM");
  const before = sandbox.requests.length;
  revoked.add(api.requests.at(-1).headers.authorization);
  await until(() => sandbox.requests.length > before, "the renewal of the revoked token");
  await moreCalls(20);
  await restart("SIGKILL");
  const [{ seconds: begun }] = sandbox.requests;
  await until(() => sandbox.requests.at(-1).seconds >= begun + 3 * LIFETIME_S, "three lifetimes");
  await moreCalls(20);
  assert.equal(child.exitCode, null, errors);
  const ended = once(child, "exit");
  child.kill("SIGKILL");
  await ended;

  assert.deepEqual([...new Set(calls)], ["200 2"], errors);
  assert.ok(sandbox.requests.every(({ status }) => status === 200));
  const rejected = api.requests.filter(({ headers }) => revoked.has(headers.authorization));
  assert.ok(rejected.length > 0);
  // A daemon's second request may start after 0.4 of a lifetime, later ones after 0.7. Only the restarts and the
  // revocation explain a request before that.
  const early = sandbox.requests.slice(1).filter(({ seconds }, at) => {
    const due = LIFETIME_S * (firsts.includes(at) ? 0.4 : 0.7);
    return seconds - sandbox.requests[at].seconds + JITTER_S < due;
  });
  assert.ok(early.length <= 3, `${early.length} early of ${JSON.stringify(sandbox.requests)}`);
  t.diagnostic(`${calls.length} calls, ${sandbox.requests.length} token requests, ${early.length} of them early`);
});

test("the README shows the tested app", () => {
  const readme = fs.readFileSync(new URL("../README.md", import.meta.url), "utf8");
  assert.ok(readme.includes(fs.readFileSync(app, "utf8")));
});

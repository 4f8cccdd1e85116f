import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { createRequire } from "node:module";
import fs from "node:fs";
import path from "node:path";
import test from "node:test";

import { Broker, NotRunning } from "domo-token";
import { temporaryFolder, write } from "./support/folder.mjs";
import { answer, startServer, tokenJson } from "./support/server.mjs";

const require = createRequire(import.meta.url);
const { findSocket, mapsRoot, HOST_SOCKET } = require("../lib/find-socket.cjs");
const { connectError } = require("../lib/connect-error.cjs");
const { parseSocketPath } = require("../lib/socket-path.cjs");

const user = async () => ({ uid: 1000, isHostRoot: false, home: undefined });
const root = async () => ({ uid: 0, isHostRoot: true, home: "/root" });

test("plain paths stay as they are", () => {
  for (const value of ["/run/x.sock", "x.sock", "./a:b", "/a:b", "~x", "a/~/b", "/unix:/x"]) {
    assert.deepEqual(parseSocketPath(value, "/home/etl"), { path: value });
  }
});

test("unix URLs name a path", () => {
  for (const url of ["unix:///run/x.sock", "unix:/run/x.sock", "UNIX:/run/x.sock"]) {
    assert.deepEqual(parseSocketPath(url, undefined), { path: "/run/x.sock" });
  }
});

test("wrong values name what to write", () => {
  const example = "write a path such as /run/domo-token/broker.sock";
  const cases = [
    ["~/x.sock", "tilde is not expanded; write /home/etl/x.sock"],
    ["~", "tilde is not expanded; write /home/etl"],
    ["~ann/x.sock", "tilde is not expanded; write the full path"],
    ["unix://run/x.sock", "write unix:///run/x.sock"],
    ["unix://localhost/run/x.sock", "write unix:///run/x.sock"],
    ["unix:x.sock", "write unix:///x.sock"],
    ["", `it is empty; ${example}`],
    ["unix:", example],
    ["unix://", example],
    ["unix:///run/a%20b", '"%" is not decoded'],
    ["http://localhost:1/", 'start with "http:"'],
    ["tcp:localhost:1", example],
    ["npipe:////./pipe/x", example],
    ["/run/x\0.sock", `null byte; ${example}`],
    ["\0abstract", `null byte; ${example}`],
  ];
  for (const [value, advice] of cases) {
    const { problem } = parseSocketPath(value, "/home/etl");
    assert.ok(problem?.includes(advice), `${value}: ${problem}`);
  }
  const { problem } = parseSocketPath("c4narys3cretc4narys3cret:x", undefined);
  assert.ok(!problem.includes("c4nary"), problem);
});

test("the variable is the only path tried", async () => {
  const found = await findSocket({ DOMO_TOKEN_SOCKET: "unix:///x/y.sock" }, user);
  assert.deepEqual(found, { path: "/x/y.sock", tried: ["/x/y.sock"], origin: "variable" });
  await assert.rejects(findSocket({ DOMO_TOKEN_SOCKET: "~/y.sock", HOME: "/home/etl" }, user), {
    kind: "invalid_socket",
    exitCode: 2,
    message: '$DOMO_TOKEN_SOCKET is "~/y.sock": the tilde is not expanded; write /home/etl/y.sock',
  });
});

test("an invalid socket option is an error of the constructor", () => {
  for (const socket of ["http://localhost/", "", "\0abstract"]) {
    assert.throws(() => new Broker({ socket }), { kind: "invalid_socket", exitCode: 2 });
  }
});

test("the own socket is used if it exists, and else the host's", async (t) => {
  const folder = temporaryFolder(t);
  const env = { XDG_RUNTIME_DIR: path.join(folder, "run"), HOME: folder };
  const own = path.join(folder, "run/domo-token/broker.sock");
  let found = await findSocket(env, user);
  assert.deepEqual([found.path, found.tried, found.ownConfig], [HOST_SOCKET, [own, HOST_SOCKET], undefined]);
  write(own);
  found = await findSocket(env, user);
  assert.deepEqual([found.path, found.tried, found.origin], [own, [own], "own"]);
});

test("the own socket alone is used if the own config exists, except by root", async (t) => {
  const folder = temporaryFolder(t);
  const env = { XDG_RUNTIME_DIR: path.join(folder, "run"), HOME: folder };
  const own = path.join(folder, "run/domo-token/broker.sock");
  const config = write(path.join(folder, ".config/domo-token/config.toml"));
  const found = await findSocket(env, user);
  assert.deepEqual([found.path, found.tried, found.ownConfig], [own, [own], config]);
  assert.equal((await findSocket(env, root)).path, HOST_SOCKET);

  const error = await connectError(found, Object.assign(new Error("x"), { code: "ENOENT" }));
  assert.ok(error instanceof NotRunning);
  assert.ok(error.message.includes(`${own}, the only socket that is used because ${config} exists; `), error.message);
  assert.ok(error.message.endsWith('new Broker({ socket: "/run/domo-token/broker.sock" })'), error.message);
});

test("a dangling symlink is a config", async (t) => {
  const folder = temporaryFolder(t);
  const config = path.join(folder, "domo-token/config.toml");
  fs.mkdirSync(path.dirname(config));
  fs.symlinkSync("/nowhere/config.toml", config);
  const found = await findSocket({ XDG_CONFIG_HOME: folder, HOME: "/h" }, user);
  assert.equal(found.ownConfig, config);
});

test("relative XDG directories are ignored", async () => {
  const found = await findSocket({ XDG_RUNTIME_DIR: "relative", XDG_CONFIG_HOME: "relative", HOME: "/h" }, user);
  assert.deepEqual(found.tried, ["/run/user/1000/domo-token/broker.sock", HOST_SOCKET]);
});

test("the home directory of the user database is used without $HOME", async (t) => {
  const home = temporaryFolder(t);
  const config = write(path.join(home, ".config/domo-token/config.toml"));
  const found = await findSocket({}, async () => ({ uid: 1000, isHostRoot: false, home }));
  assert.equal(found.ownConfig, config);
});

test("root of a user namespace is no host root", () => {
  assert.ok(mapsRoot("         0       1000          1\n         1     100000      65536\n"));
  assert.ok(mapsRoot("1 0 1\n0 100000 1\n"));
  for (const map of ["         0          0 4294967295\n", "1000 1000 1\n", ""]) {
    assert.ok(!mapsRoot(map), map);
  }
});

test("a missing broker is exit code 69 and names every path tried", async () => {
  const target = await findSocket({ XDG_RUNTIME_DIR: "/nonexistent" }, root);
  const error = await connectError(target, Object.assign(new Error("x"), { code: "ENOENT" }));
  assert.equal(error.exitCode, 69);
  assert.equal(
    error.message,
    `no broker listens on /nonexistent/domo-token/broker.sock or ${HOST_SOCKET}; ` +
      "start domo-tokend, or set it up first: domo-tokend init",
  );
});

test("a path that is no socket is a missing broker", async (t) => {
  const folder = temporaryFolder(t);
  for (const socket of [folder, write(path.join(folder, "file"))]) {
    // A refused connection is retried for as long as a restart takes.
    await assert.rejects(new Broker({ socket, timeoutMs: 1000 }).token("data"), { kind: "not_running", exitCode: 69 });
  }
});

test("a path that is too long is an error of the socket, and its start is not used", async (t) => {
  const start = path.join(temporaryFolder(t), "s");
  const path107 = start + "x".repeat(107 - start.length);
  const server = await startServer(t, () => answer(200, tokenJson()), path107);
  assert.equal((await new Broker({ socket: path107 }).token("data")).generation, 7);
  const broker = new Broker({ socket: `${path107}x` });
  await assert.rejects(broker.token("data"), { kind: "io", exitCode: 69, message: /too long/ });
  await assert.rejects(broker.watch("data").next(), { kind: "io" });
  assert.equal(server.requests.length, 1);
});

test("on Windows the default is the host's pipe, and pipes and drives are paths", () => {
  const script = `
    Object.defineProperty(process, "platform", { value: "win32" });
    const { findSocket } = require(${JSON.stringify(require.resolve("../lib/find-socket.cjs"))});
    const { parseSocketPath } = require(${JSON.stringify(require.resolve("../lib/socket-path.cjs"))});
    findSocket({ HOME: "/h" }).then((found) => {
      const parsed = ["\\\\\\\\.\\\\pipe\\\\other", "C:\\\\x", "unix:///x"].map((path) => parseSocketPath(path));
      console.log(JSON.stringify([found, ...parsed]));
    });`;
  const [found, pipe, drive, url] = JSON.parse(execFileSync(process.execPath, ["-e", script], { encoding: "utf8" }));
  assert.deepEqual(found, { path: "\\\\.\\pipe\\domo-token", tried: ["\\\\.\\pipe\\domo-token"], origin: "host" });
  assert.deepEqual([pipe, drive], [{ path: "\\\\.\\pipe\\other" }, { path: "C:\\x" }]);
  assert.match(url.problem, /write a path such as \\\\\.\\pipe\\domo-token$/);
});

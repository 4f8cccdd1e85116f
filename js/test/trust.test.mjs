import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { createRequire } from "node:module";
import fs from "node:fs";
import net from "node:net";
import path from "node:path";
import test from "node:test";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";

import { Broker, NotPermitted } from "domo-token";
import { temporaryFolder } from "./support/folder.mjs";
import { answer, startServer, tokenJson } from "./support/server.mjs";

const require = createRequire(import.meta.url);
const { checkOwner } = require("../lib/trust.cjs");
const { connectError } = require("../lib/connect-error.cjs");

const isRoot = process.getuid?.() === 0;
const needsRoot = isRoot ? {} : { skip: "needs root, to give files to other users" };
const US = process.geteuid?.();
const OTHER = 4321;
const NOBODY = 65534;

/** Returns the target of a file that stands for a socket, with these owners. */
function place(t, { socketOwner, folderOwner, mode = 0o755, origin = "variable" }) {
  const folder = temporaryFolder(t);
  const socket = path.join(folder, "broker.sock");
  fs.writeFileSync(socket, "");
  fs.chownSync(socket, socketOwner, 0);
  fs.chownSync(folder, folderOwner, 0);
  fs.chmodSync(folder, mode);
  return { path: socket, tried: [socket], origin };
}

const check = (target) => checkOwner(target, fs.statSync(target.path), { uid: US, overflowUid: NOBODY });

test("a socket of root, of this user or of the directory's owner is accepted", needsRoot, async (t) => {
  await check(place(t, { socketOwner: 0, folderOwner: OTHER }));
  await check(place(t, { socketOwner: OTHER, folderOwner: OTHER }));
  const own = place(t, { socketOwner: OTHER, folderOwner: 0 });
  await checkOwner(own, fs.statSync(own.path), { uid: OTHER, overflowUid: NOBODY });
});

test("a socket of another user is denied before a request is sent", needsRoot, async (t) => {
  const server = await startServer(t, () => answer(200, tokenJson()));
  fs.chownSync(server.socket, OTHER, 0);
  const error = await new Broker({ socket: server.socket }).token("data").catch((caught) => caught);
  assert.ok(error instanceof NotPermitted);
  assert.deepEqual([error.kind, error.exitCode], ["untrusted", 77]);
  assert.ok(error.message.includes(`its socket belongs to user ${OTHER}`), error.message);
  assert.equal(server.requests.length, 0);
});

test("directories above a default path must belong to root or this user", needsRoot, async (t) => {
  const named = place(t, { socketOwner: 0, folderOwner: OTHER });
  await check(named);
  const found = { ...named, origin: "own" };
  await assert.rejects(check(found), {
    kind: "untrusted",
    message: new RegExp(`belongs to user ${OTHER}, who can replace it; .*export DOMO_TOKEN_SOCKET=${named.path}$`),
  });
});

test("an owner without a uid is accepted only where its directory is closed to others", needsRoot, async (t) => {
  const closed = place(t, { socketOwner: NOBODY, folderOwner: NOBODY });
  await check(closed);
  for (const mode of [0o775, 0o757, 0o1777]) {
    const open = place(t, { socketOwner: NOBODY, folderOwner: NOBODY, mode });
    await assert.rejects(check(open), { kind: "untrusted", message: /has no uid in this user namespace/ });
  }
  const link = path.join(temporaryFolder(t), "link.sock");
  const open = place(t, { socketOwner: NOBODY, folderOwner: NOBODY, mode: 0o777 });
  fs.symlinkSync(open.path, link);
  const linked = { path: link, tried: [link], origin: "variable" };
  await assert.rejects(check(linked), { kind: "untrusted" });
});

test("a denied connection names the group whose members may use the socket", needsRoot, async (t) => {
  const target = place(t, { socketOwner: OTHER, folderOwner: OTHER });
  fs.chmodSync(target.path, 0o600);
  const denied = Object.assign(new Error("x"), { code: "EACCES" });
  fs.unlinkSync(target.path);
  const folder = await connectError(target, denied);
  assert.deepEqual([folder.kind, folder.exitCode], ["not_permitted", 77]);
  assert.ok(folder.message.includes("members of group root (0)"), folder.message);
});

test("a socket that is closed to the user is exit code 77 and names its owner", needsRoot, async (t) => {
  const server = await startServer(t, () => answer(200, tokenJson()));
  // The sources may be in a directory that only root can read.
  const copy = temporaryFolder(t);
  fs.cpSync(fileURLToPath(new URL("../lib", import.meta.url)), copy, { recursive: true });
  const script = `
    const { Broker } = require(${JSON.stringify(path.join(copy, "index.cjs"))});
    new Broker({ socket: process.argv[1] }).token("data").catch((error) => console.log(JSON.stringify([error, error.message])));`;
  const ask = async () => {
    const options = { uid: OTHER, gid: OTHER, cwd: "/", env: {} };
    const { stdout } = await promisify(execFile)(process.execPath, ["-e", script, server.socket], options);
    return JSON.parse(stdout);
  };
  fs.chmodSync(copy, 0o755);
  const folder = path.dirname(server.socket);
  fs.chmodSync(folder, 0o755);
  fs.chmodSync(server.socket, 0o600);
  const [closed, message] = await ask();
  assert.deepEqual([closed.kind, closed.exitCode], ["not_permitted", 77]);
  assert.match(message, /it is for user 0 alone; to open it, set socket_group and socket_mode in the broker's config$/);
  fs.chmodSync(folder, 0o710);
  const [, group] = await ask();
  assert.match(group, /it is open to the members of group root \(0\); ask to be added to that group, and log in again$/);
  assert.equal(server.requests.length, 0);
});

test("a socket that is replaced while connecting gets no request over that connection", async (t) => {
  const first = await startServer(t, () => answer(200, tokenJson()));
  const second = await startServer(t, () => answer(200, tokenJson({ generation: 8 })));
  const connect = net.connect;
  const connects = t.mock.method(net, "connect", (options) => {
    if (fs.existsSync(second.socket)) {
      fs.renameSync(second.socket, first.socket);
    }
    return connect(options);
  });
  const token = await new Broker({ socket: first.socket }).token("data");
  assert.equal(token.generation, 8);
  assert.deepEqual([connects.mock.callCount(), first.requests.length, second.requests.length], [2, 0, 1]);
});

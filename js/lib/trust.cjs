"use strict";

/*
 * Who serves a socket, as far as Node's standard library can find out. It has no SO_PEERCRED, therefore the owner of the
 * socket's file takes the place of the user of the server's process. The file cannot be replaced by others where only its
 * owner can write to the directory, and the connection counts only if the file was the same before and after it was made.
 */

const fs = require("node:fs/promises");
const path = require("node:path");

const { errorOf } = require("./errors.cjs");

/** @typedef {import("./find-socket.cjs").Target} Target */
/** @typedef {import("node:fs").Stats} Stats */

/** Mode bits by which group or others may write. */
const WRITABLE_BY_OTHERS = 0o022;

const DEFAULT_OVERFLOW_UID = 65534;

/**
 * What the check depends on besides files: the user of this process, and the uid that stands for all users without a uid
 * in this user namespace.
 *
 * @typedef {{ uid: number, overflowUid: number }} Viewer
 */

/**
 * Returns the state of the socket's file, or undefined if it cannot be read; then connecting results in the error.
 *
 * @param {Target} target
 * @returns {Promise<Stats | undefined>}
 */
async function socketFile(target) {
  if (process.platform === "win32") {
    return undefined;
  }
  try {
    return await fs.stat(target.path);
  } catch {
    return undefined;
  }
}

/**
 * Returns whether both are the same file.
 *
 * @param {Stats | undefined} before
 * @param {Stats | undefined} after
 * @returns {boolean}
 */
function isSameFile(before, after) {
  return before?.ino === after?.ino && before?.dev === after?.dev;
}

/**
 * Throws if the socket belongs neither to root, nor to this user, nor to the owner of its directory. The directories above
 * a default path must also belong to root or this user.
 *
 * A user without a uid in this user namespace is none of these. Then the directories' modes decide: only their owners may
 * be able to create a socket there.
 *
 * @param {Target} target
 * @param {Stats} socket
 * @param {Viewer} [viewer]
 * @returns {Promise<void>}
 */
async function checkOwner(target, socket, viewer) {
  const { uid: us, overflowUid } = viewer ?? (await currentViewer());
  /** @param {number} uid */
  const known = (uid) => (uid === 0 || uid !== overflowUid ? uid : undefined);
  /** @param {number | undefined} uid */
  const isTrusted = (uid) => uid === 0 || (uid !== undefined && uid === known(us));

  const server = known(socket.uid);
  const directory = path.dirname(target.path);
  if (server !== undefined && !isTrusted(server) && server !== known((await statOf(target, directory)).uid)) {
    throw untrusted(
      `untrusted broker at ${target.path}: its socket belongs to user ${server}, who is neither root, nor you, nor the ` +
        "owner of the socket's directory; no request was sent",
    );
  }
  const isNamed = target.origin === "caller" || target.origin === "variable";

  /** @param {string} folder */
  const checkDirectory = async (folder) => {
    const found = await statOf(target, folder);
    const owner = known(found.uid);
    if (owner !== undefined && !isTrusted(owner) && !isNamed) {
      throw untrusted(
        `untrusted socket ${target.path}: ${folder} belongs to user ${owner}, who can replace it; to use it ` +
          `nevertheless, run: export DOMO_TOKEN_SOCKET=${target.path}`,
      );
    }
    if ((server === undefined || owner === undefined) && (found.mode & WRITABLE_BY_OTHERS) !== 0) {
      throw untrusted(
        `untrusted broker at ${target.path}: its user or the owner of ${folder} has no uid in this user namespace, and ` +
          `other users than the owner can write to ${folder}; use a directory that only its owner can write to`,
      );
    }
  };

  const folders = [];
  if (server === undefined || !isNamed) {
    folders.push(...above(target.path, isNamed));
  }
  if (server === undefined) {
    // A symlink at the path, or above it, leads to other directories.
    folders.push(...above(await realPath(target), isNamed));
  }
  for (const folder of folders) {
    await checkDirectory(folder);
  }
}

/**
 * Returns the directories that lead to a file, or only the one that has it.
 *
 * @param {string} file
 * @param {boolean} onlyFirst
 * @returns {string[]}
 */
function above(file, onlyFirst) {
  const folders = [path.dirname(file)];
  while (!onlyFirst) {
    const last = folders[folders.length - 1] ?? "/";
    const next = path.dirname(last);
    if (next === last) {
      break;
    }
    folders.push(next);
  }
  return folders;
}

/**
 * @param {Target} target
 * @param {string} folder
 * @returns {Promise<Stats>}
 */
async function statOf(target, folder) {
  try {
    return await fs.stat(folder);
  } catch (error) {
    throw unusable(target, error);
  }
}

/**
 * @param {Target} target
 * @returns {Promise<string>}
 */
async function realPath(target) {
  try {
    return await fs.realpath(target.path);
  } catch (error) {
    throw unusable(target, error);
  }
}

/**
 * @param {Target} target
 * @param {unknown} error
 */
function unusable(target, error) {
  const code = error instanceof Error && "code" in error ? error.code : error;
  return errorOf("io", `cannot use the socket ${target.path}: ${code}`, { cause: error });
}

/** @param {string} message */
function untrusted(message) {
  return errorOf("untrusted", message);
}

/** @returns {Promise<Viewer>} */
async function currentViewer() {
  const uid = process.geteuid?.() ?? 0;
  try {
    const text = await fs.readFile("/proc/sys/kernel/overflowuid", "utf8");
    return { uid, overflowUid: Number.parseInt(text, 10) };
  } catch {
    // Only Linux has the file.
    return { uid, overflowUid: DEFAULT_OVERFLOW_UID };
  }
}

module.exports = { socketFile, isSameFile, checkOwner, unusable };

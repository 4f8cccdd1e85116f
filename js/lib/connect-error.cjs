"use strict";

const fs = require("node:fs/promises");
const path = require("node:path");

const { errorOf } = require("./errors.cjs");
const { HOST_SOCKET } = require("./find-socket.cjs");
const { unusable } = require("./trust.cjs");

/** @typedef {import("./find-socket.cjs").Target} Target */

const ADVICE = {
  caller: "start a broker there",
  variable: "start a broker there",
  own: "start your own broker: domo-tokend",
  host: "start domo-tokend, or set it up first: domo-tokend init",
};

/**
 * Returns the error of a connection that failed and is not retried.
 *
 * @param {Target} target
 * @param {NodeJS.ErrnoException} cause
 * @returns {Promise<Error>}
 */
async function connectError(target, cause) {
  const isDenied = cause.code === "EACCES" || cause.code === "EPERM";
  const isSomethingElse = await isNoSocket(target);
  if (cause.code === "ENOENT" || cause.code === "ECONNREFUSED" || isSomethingElse) {
    return errorOf("not_running", notRunning(target), { cause });
  }
  if (isDenied) {
    return errorOf("not_permitted", await notPermitted(target), { cause });
  }
  return unusable(target, cause);
}

/**
 * @param {Target} target
 * @returns {string}
 */
function notRunning(target) {
  const tried = target.tried.join(" or ");
  const advice = ADVICE[target.origin];
  if (target.origin === "variable") {
    return `$DOMO_TOKEN_SOCKET is ${tried}: no broker listens there; ${advice}`;
  }
  if (target.ownConfig !== undefined) {
    return (
      `no broker listens on ${tried}, the only socket that is used because ${target.ownConfig} exists; ${advice}, ` +
      `or use the host's broker: new Broker({ socket: "${HOST_SOCKET}" })`
    );
  }
  return `no broker listens on ${tried}; ${advice}`;
}

/**
 * Returns whether something else than a socket is at the path, such as a directory.
 *
 * @param {Target} target
 * @returns {Promise<boolean>}
 */
async function isNoSocket(target) {
  if (process.platform === "win32") {
    return false;
  }
  try {
    return !(await fs.stat(target.path)).isSocket();
  } catch {
    return false;
  }
}

/**
 * @param {Target} target
 * @returns {Promise<string>}
 */
async function notPermitted(target) {
  const denied = `no permission to use ${target.path}`;
  if (process.platform === "win32") {
    return (
      `${denied}: you are not in its group (pipe_group in the broker's config); ` +
      "ask an administrator to add you"
    );
  }
  // If the directory denies access, its execute bit decides.
  for (const [file, bit] of /** @type {const} */ ([[target.path, 0o020], [path.dirname(target.path), 0o010]])) {
    try {
      const found = await fs.stat(file);
      if ((found.mode & bit) === 0) {
        return (
          `${denied}: it is for user ${found.uid} alone; to open it, ` +
          "set socket_group and socket_mode in the broker's config"
        );
      }
      const group = await groupName(found.gid);
      const shown = group === undefined ? String(found.gid) : `${group} (${found.gid})`;
      const advice = "ask to be added to that group, and log in again";
      return `${denied}: it is open to the members of group ${shown}; ${advice}`;
    } catch {
      // The directory above it may be readable.
    }
  }
  return `${denied}; ask its owner for access`;
}

/**
 * Returns the name of a local group.
 *
 * @param {number} gid
 * @returns {Promise<string | undefined>}
 */
async function groupName(gid) {
  try {
    const lines = (await fs.readFile("/etc/group", "utf8")).split("\n").map((line) => line.split(":"));
    return lines.find(([, , id]) => id === String(gid))?.[0];
  } catch {
    return undefined;
  }
}

module.exports = { connectError };

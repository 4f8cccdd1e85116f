"use strict";

const fs = require("node:fs/promises");
const os = require("node:os");
const path = require("node:path");

const { errorOf } = require("./errors.cjs");
const { parseSocketPath } = require("./socket-path.cjs");

const HOST_SOCKET = "/run/domo-token/broker.sock";
const HOST_PIPE = "\\\\.\\pipe\\domo-token";

/**
 * A socket to connect to.
 *
 * @typedef {object} Target
 * @property {string} path
 * @property {string[]} tried all paths that were tried
 * @property {string} [ownConfig] the user's own config, because of which the host's broker is not used
 * @property {"caller" | "variable" | "own" | "host"} origin where the path comes from
 */

/**
 * What the default paths depend on.
 *
 * @typedef {object} User
 * @property {number} uid
 * @property {boolean} isHostRoot whether the user is root also outside of its user namespace
 * @property {string | undefined} home the home directory by the user database
 */

/**
 * Returns the target of a socket that the app names.
 *
 * @param {string} socket
 * @param {NodeJS.ProcessEnv} [env]
 * @returns {Target}
 */
function namedTarget(socket, env = process.env) {
  const read = parseSocketPath(socket, env.HOME || undefined);
  if ("problem" in read) {
    throw errorOf("invalid_socket", `socket is "${socket}": ${read.problem}`);
  }
  return { path: read.path, tried: [read.path], origin: "caller" };
}

/**
 * Returns the socket to connect to now: by `$DOMO_TOKEN_SOCKET`, else the user's own broker or the host's.
 *
 * @param {NodeJS.ProcessEnv} [env]
 * @param {() => Promise<User>} [user]
 * @returns {Promise<Target>}
 */
async function findSocket(env = process.env, user = currentUser) {
  const written = env.DOMO_TOKEN_SOCKET;
  if (written) {
    const read = parseSocketPath(written, env.HOME || undefined);
    if ("problem" in read) {
      throw errorOf("invalid_socket", `$DOMO_TOKEN_SOCKET is "${written}": ${read.problem}`);
    }
    return { path: read.path, tried: [read.path], origin: "variable" };
  }
  if (process.platform === "win32") {
    return { path: HOST_PIPE, tried: [HOST_PIPE], origin: "host" };
  }
  return defaultTarget(env, await user());
}

/**
 * Returns the user's own broker if its config or its socket exists, else the host's. A broker that does not run is never
 * replaced by the other: they may have different credentials.
 *
 * @param {NodeJS.ProcessEnv} env
 * @param {User} user
 * @returns {Promise<Target>}
 */
async function defaultTarget(env, user) {
  const runtime = absolute(env.XDG_RUNTIME_DIR) ?? `/run/user/${user.uid}`;
  const own = path.join(runtime, "domo-token/broker.sock");
  const config = user.isHostRoot ? undefined : configOf(env, user);
  const ownConfig = config !== undefined && (await exists(config)) ? config : undefined;
  if (ownConfig !== undefined || (await exists(own))) {
    return { path: own, tried: [own], ownConfig, origin: "own" };
  }
  return { path: HOST_SOCKET, tried: [own, HOST_SOCKET], origin: "host" };
}

/**
 * Returns where the daemon looks for the user's config.
 *
 * @param {NodeJS.ProcessEnv} env
 * @param {User} user
 * @returns {string | undefined}
 */
function configOf(env, user) {
  const home = env.HOME || user.home;
  const folder = absolute(env.XDG_CONFIG_HOME) ?? (home ? path.join(home, ".config") : undefined);
  return folder === undefined ? undefined : path.join(folder, "domo-token/config.toml");
}

/**
 * Returns a directory of the XDG specification, which says to ignore relative paths.
 *
 * @param {string | undefined} folder
 * @returns {string | undefined}
 */
function absolute(folder) {
  return folder && path.isAbsolute(folder) ? folder : undefined;
}

/**
 * Returns whether something is at the path. A dangling symlink is a config, too: an unfinished one. What cannot be looked
 * at counts as absent.
 *
 * @param {string} file
 * @returns {Promise<boolean>}
 */
async function exists(file) {
  try {
    await fs.lstat(file);
    return true;
  } catch {
    return false;
  }
}

/** @returns {Promise<User>} */
async function currentUser() {
  const uid = process.getuid?.() ?? 0;
  return { uid, isHostRoot: uid === 0 && !(await isRootMapped()), home: homeOfUser() };
}

/** @returns {string | undefined} */
function homeOfUser() {
  try {
    return os.userInfo().homedir || undefined;
  } catch {
    // A container may run as a user without an entry in the user database.
    return undefined;
  }
}

/**
 * Returns whether uid 0 is another user outside of this user namespace, as in a rootless container.
 *
 * @returns {Promise<boolean>}
 */
async function isRootMapped() {
  try {
    return mapsRoot(await fs.readFile("/proc/self/uid_map", "utf8"));
  } catch {
    // Systems without user namespaces have no such file.
    return false;
  }
}

/**
 * Returns the same by the text of `/proc/self/uid_map`, see user_namespaces(7).
 *
 * @param {string} map
 * @returns {boolean}
 */
function mapsRoot(map) {
  const lines = map.split("\n").map((line) => line.trim().split(/\s+/));
  return lines.some(([inside, outside]) => inside === "0" && outside !== "0");
}

module.exports = { findSocket, namedTarget, mapsRoot, HOST_SOCKET };

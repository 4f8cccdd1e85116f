"use strict";

const net = require("node:net");

const { errorOf } = require("./errors.cjs");
const { checkOwner, isSameFile, socketFile } = require("./trust.cjs");

/** @typedef {import("./find-socket.cjs").Target} Target */

/** The most bytes of a socket's path, see unix(7). Node connects to the start of a longer one. */
const MAX_PATH = process.platform === "linux" ? 107 : 103;

/** The connection was made, but it is not usable; another attempt may succeed. */
class ConnectionLost extends Error {}

/** The system did not connect; `cause` is its error. */
class ConnectFailed extends Error {
  /** @param {NodeJS.ErrnoException} cause */
  constructor(cause) {
    super("not connected", { cause });
    this.systemError = cause;
  }
}

/**
 * Connects, and checks whose socket it is before anything is sent.
 *
 * There is no pool of connections: tokens are cached, so requests are rare, and an idle connection would keep a place at
 * the broker.
 *
 * @param {Target} target
 * @param {AbortSignal} signal
 * @returns {Promise<net.Socket>}
 */
async function connect(target, signal) {
  if (process.platform !== "win32" && Buffer.byteLength(target.path) > MAX_PATH) {
    throw errorOf("io", `cannot use the socket ${target.path}: the path is too long for a socket`);
  }
  const before = await socketFile(target);
  signal.throwIfAborted();
  const socket = await open(target.path, signal);
  try {
    const after = await socketFile(target);
    if (!isSameFile(before, after)) {
      throw new ConnectionLost("the socket was replaced while connecting");
    }
    if (after !== undefined) {
      await checkOwner(target, after);
    } else if (process.platform !== "win32") {
      // Without its file, nothing tells whose socket it is.
      throw new ConnectionLost("the socket's file cannot be read");
    }
    signal.throwIfAborted();
    return socket;
  } catch (error) {
    socket.destroy();
    throw error;
  }
}

/**
 * @param {string} path
 * @param {AbortSignal} signal
 * @returns {Promise<net.Socket>}
 */
function open(path, signal) {
  return new Promise((resolve, reject) => {
    const socket = net.connect({ path });
    const end = () => {
      socket.destroy();
      reject(signal.reason);
    };
    /** @param {NodeJS.ErrnoException} error */
    const fail = (error) => {
      signal.removeEventListener("abort", end);
      reject(new ConnectFailed(error));
    };
    signal.addEventListener("abort", end, { once: true });
    socket.once("error", fail);
    socket.once("connect", () => {
      signal.removeEventListener("abort", end);
      socket.removeListener("error", fail);
      // Until a request uses the socket, the end of the connection is noticed there.
      socket.on("error", () => {});
      resolve(socket);
    });
  });
}

module.exports = { connect, ConnectFailed, ConnectionLost };

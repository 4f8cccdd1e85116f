"use strict";

const http = require("node:http");

const { errorOf } = require("./errors.cjs");
const { ConnectionLost } = require("./connection.cjs");

/** @typedef {import("node:net").Socket} Socket */

/** More than the longest status; a token has at most 64 KiB. */
const MAX_BODY = 16 * 1024 * 1024;

/** What a server that answers in frames sends first. */
const FRAMES = "DTK";

/** The broker answered in its other protocol: it is at a limit, or HTTP is off. */
class NoHttp extends Error {}

/**
 * Sends a GET request over this connection and returns the response once its head has arrived. The connection is closed
 * after the response.
 *
 * No error of Node's parser is passed on, because it has the bytes received, which may contain a token.
 *
 * @param {Socket} socket
 * @param {string} path
 * @param {http.OutgoingHttpHeaders} headers
 * @param {AbortSignal} signal
 * @returns {Promise<http.IncomingMessage>}
 */
function sendRequest(socket, path, headers, signal) {
  return new Promise((resolve, reject) => {
    if (socket.destroyed) {
      // A request over it would receive no further event.
      reject(new ConnectionLost("the connection ended"));
      return;
    }
    const request = http.request({
      createConnection: () => socket,
      headers: { ...headers, Host: "localhost" },
      method: "GET",
      path,
    });
    const end = () => {
      request.destroy();
      reject(signal.reason);
    };
    signal.addEventListener("abort", end, { once: true });
    request.on("error", (error) => {
      signal.removeEventListener("abort", end);
      reject(requestError(error));
    });
    request.on("response", (response) => {
      signal.removeEventListener("abort", end);
      resolve(response);
    });
    request.on("close", () => {
      // After a switch of protocols there is neither an error nor a response.
      signal.removeEventListener("abort", end);
      reject(new ConnectionLost("the connection ended"));
    });
    if (signal.aborted) {
      end();
      return;
    }
    request.end();
  });
}

/**
 * @param {Error & { code?: string, rawPacket?: Buffer }} error
 * @returns {Error}
 */
function requestError(error) {
  if (!error.code?.startsWith("HPE_")) {
    return new ConnectionLost("the connection ended");
  }
  if (error.rawPacket?.toString("latin1", 0, FRAMES.length) === FRAMES) {
    return new NoHttp("the broker did not answer in HTTP");
  }
  return errorOf("protocol", `the broker's answer is not valid HTTP: ${error.code}`);
}

/**
 * Returns the whole body of a response.
 *
 * @param {http.IncomingMessage} response
 * @param {AbortSignal} signal
 * @returns {Promise<string>}
 */
function readBody(response, signal) {
  return new Promise((resolve, reject) => {
    /** @type {Buffer[]} */
    const chunks = [];
    let length = 0;
    /** @param {unknown} error */
    const fail = (error) => {
      signal.removeEventListener("abort", end);
      response.destroy();
      reject(error);
    };
    const end = () => fail(signal.reason);
    signal.addEventListener("abort", end, { once: true });
    response.on("data", (/** @type {Buffer} */ chunk) => {
      length += chunk.length;
      if (length > MAX_BODY) {
        fail(errorOf("protocol", `the broker's answer is longer than ${MAX_BODY} bytes`));
        return;
      }
      chunks.push(chunk);
    });
    response.on("end", () => {
      signal.removeEventListener("abort", end);
      resolve(Buffer.concat(chunks).toString("utf8"));
    });
    response.on("error", () => fail(new ConnectionLost("the connection ended")));
    response.on("close", () => {
      if (!response.complete) {
        fail(new ConnectionLost("the connection ended"));
      }
    });
    if (signal.aborted) {
      end();
    }
  });
}

module.exports = { sendRequest, readBody, NoHttp };

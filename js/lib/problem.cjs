"use strict";

const { errorOf } = require("./errors.cjs");

const KIND_PREFIX = "urn:domo-token:";

const ADVICE = new Map([
  ["unknown_client", "name the client: new Broker({ client: NAME })"],
  ["bug", "report it with the daemon's log"],
]);

/**
 * Returns the error of an answer that is not a success, see RFC 9457.
 *
 * @param {number} status
 * @param {string | undefined} retryAfter the header `Retry-After`
 * @param {string} body
 * @param {string} socket
 * @returns {import("./errors.cjs").DomoTokenError}
 */
function problemError(status, retryAfter, body, socket) {
  const problem = parseObject(body);
  const { type, detail } = problem ?? {};
  if (typeof type !== "string" || !type.startsWith(KIND_PREFIX) || typeof detail !== "string") {
    return errorOf("protocol", `the server at ${socket} is no broker: it answered with HTTP status ${status}`);
  }
  const kind = type.slice(KIND_PREFIX.length);
  const advice = ADVICE.get(kind);
  return errorOf(kind, advice === undefined ? detail : `${detail}; ${advice}`, {
    exitCode: exitCodeOf(problem?.exit_code),
    retryAfterMs: numberOf(problem?.retry_after_ms) ?? secondsOf(retryAfter),
  });
}

/**
 * Returns a JSON object, or undefined for any other text. The parser's error would have a part of the text.
 *
 * @param {string} text
 * @returns {Record<string, unknown> | undefined}
 */
function parseObject(text) {
  try {
    const value = JSON.parse(text);
    return typeof value === "object" && value !== null && !Array.isArray(value) ? value : undefined;
  } catch {
    return undefined;
  }
}

/**
 * @param {unknown} value
 * @returns {number | undefined}
 */
function exitCodeOf(value) {
  const isExitCode = typeof value === "number" && Number.isInteger(value) && value > 0 && value < 256;
  return isExitCode ? value : undefined;
}

/**
 * @param {unknown} value
 * @returns {number | undefined}
 */
function numberOf(value) {
  return typeof value === "number" ? value : undefined;
}

/**
 * @param {string | undefined} header
 * @returns {number | undefined}
 */
function secondsOf(header) {
  return header !== undefined && /^\d+$/.test(header) ? Number(header) * 1000 : undefined;
}

module.exports = { problemError, parseObject };

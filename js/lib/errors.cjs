"use strict";

/**
 * Why there is no token. `kind` is what a program decides by; the message is one line for people.
 *
 * No error has a token in its message, its properties or its cause.
 */
class DomoTokenError extends Error {
  /**
   * @param {string} kind
   * @param {string} message
   * @param {{ exitCode?: number, retryAfterMs?: number, cause?: unknown }} [details]
   */
  constructor(kind, message, { exitCode, retryAfterMs, cause } = {}) {
    super(oneLine(message), cause === undefined ? undefined : { cause });
    /** The name of the kind, such as `unavailable`. */
    this.kind = kind;
    /** The exit code that the helper `domo-token` has for this error. */
    this.exitCode = exitCode ?? KINDS.get(kind)?.exitCode ?? SOFTWARE;
    /** The time until the broker's next request to Domo, in milliseconds, if the broker named it. */
    this.retryAfterMs = retryAfterMs;
  }
}

/** No broker listens on the socket. */
class NotRunning extends DomoTokenError {}

/** There is no token now: Domo does not issue one, the broker is busy, or the time limit has passed. */
class Unavailable extends DomoTokenError {}

/** The broker or its socket denies access, or the socket is not the broker's. */
class NotPermitted extends DomoTokenError {}

/** The broker has no such client or scope set, or no token of it is ever valid for long enough. */
class UnknownScopeSet extends DomoTokenError {}

/** Domo rejects the credentials or the scopes. */
class Rejected extends DomoTokenError {}

for (const type of [DomoTokenError, NotRunning, Unavailable, NotPermitted, UnknownScopeSet, Rejected]) {
  Object.defineProperty(type.prototype, "name", { value: type.name, configurable: true, writable: true });
}

const USAGE = 2;
const NO_BROKER = 69;
const SOFTWARE = 70;
const TEMPORARY = 75;
const NO_PERMISSION = 77;
const CONFIG = 78;

/**
 * The kinds of errors: those of the HTTP API, and those of this package.
 *
 * @type {ReadonlyMap<string, { exitCode: number, type?: typeof DomoTokenError }>}
 */
const KINDS = new Map([
  ["not_running", { exitCode: NO_BROKER, type: NotRunning }],
  ["unavailable", { exitCode: TEMPORARY, type: Unavailable }],
  ["busy", { exitCode: TEMPORARY, type: Unavailable }],
  ["timeout", { exitCode: TEMPORARY, type: Unavailable }],
  ["closed", { exitCode: TEMPORARY, type: Unavailable }],
  ["not_permitted", { exitCode: NO_PERMISSION, type: NotPermitted }],
  ["untrusted", { exitCode: NO_PERMISSION, type: NotPermitted }],
  ["unknown_client", { exitCode: CONFIG, type: UnknownScopeSet }],
  ["unknown_scope", { exitCode: CONFIG, type: UnknownScopeSet }],
  ["min_ttl_too_long", { exitCode: CONFIG, type: UnknownScopeSet }],
  ["gone", { exitCode: CONFIG, type: UnknownScopeSet }],
  ["denied", { exitCode: CONFIG, type: Rejected }],
  ["invalid_scope", { exitCode: USAGE }],
  ["invalid_socket", { exitCode: USAGE }],
  ["io", { exitCode: NO_BROKER }],
  ["protocol", { exitCode: SOFTWARE }],
]);

/** The class of an error whose kind is newer than this package, by its exit code. */
const TYPES = new Map([
  [NO_BROKER, NotRunning],
  [TEMPORARY, Unavailable],
  [NO_PERMISSION, NotPermitted],
  [CONFIG, UnknownScopeSet],
]);

/**
 * Returns an error of the class that belongs to its kind.
 *
 * @param {string} kind
 * @param {string} message
 * @param {{ exitCode?: number, retryAfterMs?: number, cause?: unknown }} [details]
 * @returns {DomoTokenError}
 */
function errorOf(kind, message, details = {}) {
  const known = KINDS.get(kind);
  const type = known ? known.type : TYPES.get(details.exitCode ?? SOFTWARE);
  return new (type ?? DomoTokenError)(kind, message, details);
}

const RETRYABLE = new Set(["not_running", "unavailable", "busy", "timeout"]);

/**
 * Returns whether the same call may succeed later without a fix.
 *
 * @param {unknown} error
 * @returns {boolean}
 */
function isRetryable(error) {
  return error instanceof DomoTokenError && RETRYABLE.has(error.kind);
}

const NO_DECISION = new Set([...RETRYABLE, "untrusted", "protocol", "io"]);

/**
 * Returns whether the broker, or the system, has decided against this caller and scope set.
 *
 * @param {unknown} error
 * @returns {boolean}
 */
function isDecision(error) {
  return error instanceof DomoTokenError && !NO_DECISION.has(error.kind);
}

/**
 * Replaces control characters, which a path or a server's message may contain.
 *
 * @param {string} text
 * @returns {string}
 */
function oneLine(text) {
  return text.replace(/\p{Cc}/gu, " ");
}

module.exports = {
  DomoTokenError,
  NotRunning,
  Unavailable,
  NotPermitted,
  UnknownScopeSet,
  Rejected,
  errorOf,
  isRetryable,
  isDecision,
};

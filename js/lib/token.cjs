"use strict";

const { inspect } = require("node:util");

const { monotonicNow } = require("./clock.cjs");
const { errorOf } = require("./errors.cjs");
const { parseObject } = require("./problem.cjs");

/** What a token is requested for. @typedef {{ client: string | undefined, scopes: readonly string[] }} TokenKey */

/** An access token of RFC 6750 §2.1. Any other text could not be sent in a header. */
const TOKEN_TEXT = /^[A-Za-z0-9\-._~+/]+=*$/;

/** Only this module makes tokens. */
const MADE_HERE = Symbol("token");

/** Returns the private times of a token. @type {(token: Token) => { receivedMs: number, monotonicExpiry: number }} */
let timesOf;

/** Returns what a token was requested for; undefined if the value is no token of this module. @type {(value: unknown) => TokenKey | undefined} */
let keyOf;

/**
 * A Domo access token. Only `text` exposes it: `console.log`, `JSON.stringify`, template literals and `structuredClone`
 * show the other properties.
 */
class Token {
  #text;
  #key;
  #receivedMs;
  #monotonicExpiry;

  /**
   * @param {symbol} made
   * @param {{ text: string, expiresAt: number, expiresInMs: number, scope: string, client: string, generation: number }} fields
   * @param {TokenKey} key
   */
  constructor(made, fields, key) {
    if (made !== MADE_HERE) {
      throw new TypeError("tokens come from Broker.token()");
    }
    this.#text = fields.text;
    this.#key = key;
    this.#receivedMs = fields.expiresInMs;
    this.#monotonicExpiry = monotonicNow() + fields.expiresInMs;
    /** When it expires, in milliseconds since 1970. */
    this.expiresAt = fields.expiresAt;
    /** The scopes that Domo granted, separated by spaces. */
    this.scope = fields.scope;
    /** The name of the API client in the broker's config. */
    this.client = fields.client;
    /** Identifies this token among those of its scope set; compare for equality only. */
    this.generation = fields.generation;
    Object.freeze(this);
  }

  /** The token's text, for the header `Authorization: Bearer …`. */
  get text() {
    return this.#text;
  }

  /** Returns the token without its text. */
  toJSON() {
    return { expiresAt: this.expiresAt, scope: this.scope, client: this.client, generation: this.generation };
  }

  toString() {
    return `Token { scope: ${JSON.stringify(this.scope)}, client: ${JSON.stringify(this.client)}, text: [redacted] }`;
  }

  [inspect.custom]() {
    return this.toString();
  }

  static {
    timesOf = (token) => ({ receivedMs: token.#receivedMs, monotonicExpiry: token.#monotonicExpiry });
    keyOf = (value) => (typeof value === "object" && value !== null && #key in value ? value.#key : undefined);
  }
}

/**
 * Returns the milliseconds until a token expires.
 *
 * Both clocks count, the one that leaves less time: the monotonic clock stops while the machine is suspended, and the wall
 * clock may be set back.
 *
 * @param {Token} token
 * @returns {number}
 */
function leftMs(token) {
  return Math.min(token.expiresAt - Date.now(), timesOf(token).monotonicExpiry - monotonicNow());
}

/**
 * Returns whether it can be used at all.
 *
 * @param {Token} token
 * @returns {boolean}
 */
function isValid(token) {
  return leftMs(token) > Math.min(1000, timesOf(token).receivedMs / 10);
}

/**
 * Returns whether callers without conditions can use it without a request for a fresher one.
 *
 * The broker does not report the whole lifetime, but what was left of it. Therefore the margin is at least a second: a
 * request to the broker is cheap.
 *
 * @param {Token} token
 * @returns {boolean}
 */
function isFresh(token) {
  return leftMs(token) > Math.max(1000, Math.min(60_000, timesOf(token).receivedMs / 10));
}

/**
 * Returns the token of an answer to a request for `key` that rejected that generation.
 *
 * @param {string} body
 * @param {TokenKey} key
 * @param {number} [rejected]
 * @returns {Token}
 */
function readToken(body, key, rejected) {
  const answer = parseObject(body) ?? {};
  const { access_token: text, expires_at: expiresAt, expires_in: expiresIn, scope, client, generation } = answer;
  if (
    typeof text !== "string" ||
    !TOKEN_TEXT.test(text) ||
    typeof expiresAt !== "number" ||
    typeof expiresIn !== "number" ||
    typeof scope !== "string" ||
    typeof client !== "string" ||
    typeof generation !== "number"
  ) {
    throw errorOf("protocol", "the broker's answer is not a token in JSON");
  }
  if (key.client !== undefined && client !== key.client) {
    throw errorOf("protocol", `the broker's answer is of client "${client}", not of "${key.client}"`);
  }
  const granted = new Set(scope.split(" "));
  if (!key.scopes.every((wanted) => granted.has(wanted))) {
    throw errorOf("protocol", `the broker's answer grants "${scope}", not all of "${key.scopes.join(" ")}"`);
  }
  if (generation === rejected) {
    throw errorOf("protocol", "the broker's answer is the token that was rejected");
  }
  const fields = { text, expiresAt: expiresAt * 1000, expiresInMs: expiresIn * 1000, scope, client, generation };
  return new Token(MADE_HERE, fields, key);
}

module.exports = { Token, readToken, leftMs, isValid, isFresh, keyOf };

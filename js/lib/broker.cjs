"use strict";

const { setMaxListeners } = require("node:events");
const { inspect } = require("node:util");

const { monotonicNow } = require("./clock.cjs");
const { errorOf } = require("./errors.cjs");
const { fetchWithToken } = require("./fetch.cjs");
const { parseObject } = require("./problem.cjs");
const { ANY } = require("./requirement.cjs");
const { parseScopes } = require("./scopes.cjs");
const { combineSignals } = require("./signals.cjs");
const { keyOf } = require("./token.cjs");
const { TokenSource } = require("./token-source.cjs");
const { Transport } = require("./transport.cjs");
const { watchTokens } = require("./watch.cjs");

/** @typedef {import("./token.cjs").Token} Token */

const DEFAULT_TIMEOUT_MS = 10_000;

/** What timers and the broker accept at most: ten minutes. */
const MAX_TIMEOUT_MS = 600_000;

/** A client of the token broker. Its tokens are cached in memory; make one for the whole process. */
class Broker {
  #client;
  #timeoutMs;
  #transport;
  #tokens;
  #closed = new AbortController();

  /** @param {{ socket?: string, client?: string, timeoutMs?: number }} [options] */
  constructor({ socket, client, timeoutMs = DEFAULT_TIMEOUT_MS } = {}) {
    for (const [name, value] of Object.entries({ socket, client })) {
      if (value !== undefined && typeof value !== "string") {
        throw new TypeError(`${name} must be a string`);
      }
    }
    if (!(timeoutMs > 0)) {
      throw new RangeError("timeoutMs must be more than 0");
    }
    this.#client = client;
    this.#timeoutMs = Math.min(timeoutMs, MAX_TIMEOUT_MS);
    this.#transport = new Transport(socket);
    this.#tokens = new TokenSource(this.#transport);
    // Each call listens. Before Node 18.17 more than ten listeners are a warning.
    setMaxListeners(0, this.#closed.signal);
  }

  /**
   * Returns a token for exactly these scopes, from memory while it is valid for long enough.
   *
   * @param {string | readonly string[]} scopes
   * @param {{ minTtlMs?: number, signal?: AbortSignal }} [options]
   * @returns {Promise<Token>}
   */
  async token(scopes, { minTtlMs, signal } = {}) {
    if (minTtlMs !== undefined && !(minTtlMs >= 0 && minTtlMs < Infinity)) {
      throw new RangeError("minTtlMs must be a number of milliseconds");
    }
    const requirement = minTtlMs === undefined ? ANY : { minTtlMs };
    return this.#tokens.token(this.#key(scopes), requirement, this.#timeoutMs, [this.#closed.signal, signal]);
  }

  /**
   * Returns a newer token than this one, which Domo rejected.
   *
   * @param {Token} token
   * @param {{ signal?: AbortSignal }} [options]
   * @returns {Promise<Token>}
   */
  async renew(token, { signal } = {}) {
    const key = keyOf(token);
    if (key === undefined) {
      throw new TypeError("renew() needs a token from token(), not a copy of its properties");
    }
    const rejected = { generation: token.generation, expiresAt: token.expiresAt };
    return this.#tokens.token(key, { rejected }, this.#timeoutMs, [this.#closed.signal, signal]);
  }

  /**
   * Sends a request to Domo by the global `fetch`, with a token in the header `Authorization`.
   *
   * @param {string | URL | Request} input
   * @param {RequestInit & { scopes: string | readonly string[], minTtlMs?: number }} init
   * @returns {Promise<Response>}
   */
  async fetch(input, init) {
    return fetchWithToken(this, input, init);
  }

  /**
   * Iterates over the current token and each new one.
   *
   * @param {string | readonly string[]} scopes
   * @param {{ signal?: AbortSignal, onUnavailable?: (error: Error) => void }} [options]
   * @returns {AsyncGenerator<Token, void, void>}
   */
  watch(scopes, { signal, onUnavailable } = {}) {
    return watchTokens(this.#transport, this.#tokens, this.#key(scopes), {
      signals: [this.#closed.signal, signal],
      onUnavailable,
    });
  }

  /**
   * Returns the state of the broker and of each scope set that this process may see.
   *
   * @param {{ signal?: AbortSignal }} [options]
   * @returns {Promise<Record<string, unknown>>}
   */
  async status({ signal } = {}) {
    const limit = combineSignals([this.#closed.signal, signal]);
    try {
      const limits = { deadline: monotonicNow() + this.#timeoutMs, signal: limit.signal };
      const { body } = await this.#transport.get(() => ({ path: "/v1/status" }), limits);
      const status = parseObject(body);
      if (status === undefined) {
        throw errorOf("protocol", "the broker's answer is not a status in JSON");
      }
      return status;
    } finally {
      limit.release();
    }
  }

  /** Ends calls and watches with an error, and drops the cached tokens. */
  close() {
    this.#closed.abort(errorOf("closed", "the call failed: close() was called on its Broker"));
    this.#tokens.clear();
  }

  /** Returns the options without what they lead to. */
  [inspect.custom]() {
    return `Broker { client: ${JSON.stringify(this.#client)}, timeoutMs: ${this.#timeoutMs} }`;
  }

  /** @param {string | readonly string[]} scopes */
  #key(scopes) {
    return { client: this.#client, scopes: parseScopes(scopes) };
  }
}

module.exports = { Broker };

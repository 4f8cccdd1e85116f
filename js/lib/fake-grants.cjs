"use strict";

const { parseScopes } = require("./scopes.cjs");

/** The error kinds that an answer of a broker causes, with their HTTP status and exit code. */
const FAILURES = new Map([
  ["not_permitted", { status: 403, exitCode: 77, detail: "the fake broker does not permit it" }],
  ["unknown_client", { status: 404, exitCode: 78, detail: "the fake broker has no such client" }],
  ["unknown_scope", { status: 404, exitCode: 78, detail: "the fake broker has no such scope set" }],
  ["min_ttl_too_long", { status: 409, exitCode: 78, detail: "no token of the fake broker is valid for that long" }],
  ["gone", { status: 410, exitCode: 78, detail: "the scope set was removed from the fake broker" }],
  ["denied", { status: 424, exitCode: 78, detail: "Domo rejects the credentials of the fake broker" }],
  ["busy", { status: 429, exitCode: 75, detail: "the fake broker is busy" }],
  ["bug", { status: 500, exitCode: 70, detail: "the fake broker has a bug" }],
  ["unavailable", { status: 503, exitCode: 75, detail: "the fake broker has no token now" }],
  ["timeout", { status: 0, exitCode: 75, detail: "the fake broker does not answer" }],
]);

const TOKEN_TEXT = /^[A-Za-z0-9\-._~+/]+=*$/;

/** @typedef {{ kind: string, detail?: string, retryAfterMs?: number }} Failure */
/** @typedef {{ text: string, generation: number, expiresMs: number }} Granted */

/** What a fake broker grants and what it fails with, by scope set. No I/O. */
class Grants {
  /** @type {Map<string, { granted?: Granted, failure?: Failure, rejections: number }>} */
  #sets = new Map();
  /** @type {Failure | undefined} */
  #others;
  #lastNumber = 0;

  /** @param {number} lifetimeMs */
  constructor(lifetimeMs) {
    this.lifetimeMs = lifetimeMs;
  }

  /**
   * Grants a token with this text, or a generated one.
   *
   * @param {string | readonly string[]} scopes
   * @param {string} [text]
   */
  grant(scopes, text) {
    if (text !== undefined && !TOKEN_TEXT.test(text)) {
      throw new TypeError("the text is not a valid token: letters, digits and -._~+/ only");
    }
    const set = this.#set(scopes);
    set.failure = undefined;
    set.granted = this.#new(text);
  }

  /**
   * @param {string | readonly string[] | undefined} scopes
   * @param {Failure} failure
   */
  fail(scopes, failure) {
    if (!FAILURES.has(failure.kind)) {
      throw new TypeError(`no answer of a broker causes an error of the kind "${failure.kind}"`);
    }
    if (scopes === undefined) {
      this.#others = failure;
      return;
    }
    const set = this.#set(scopes);
    set.failure = failure;
    set.granted = undefined;
  }

  /**
   * Returns the answer to a request.
   *
   * @param {readonly string[]} scopes
   * @param {{ rejected?: number, minTtlMs?: number }} request
   * @returns {{ granted: Granted } | { failure: Failure }}
   */
  answer(scopes, { rejected, minTtlMs = 0 }) {
    const isNew = !this.#sets.has(scopes.join(" "));
    if (isNew && this.#others) {
      return { failure: this.#others };
    }
    const set = this.#set(scopes);
    if (rejected !== undefined && rejected === set.granted?.generation) {
      set.rejections += 1;
      set.granted = undefined;
    }
    if (set.failure) {
      return { failure: set.failure };
    }
    const leftMs = (set.granted?.expiresMs ?? 0) - Date.now();
    const needMs = Math.max(minTtlMs, Math.min(1000, this.lifetimeMs / 10));
    if (leftMs < needMs) {
      if (minTtlMs > this.lifetimeMs) {
        return { failure: { kind: "min_ttl_too_long" } };
      }
      set.granted = undefined;
    }
    set.granted ??= this.#new();
    return { granted: set.granted };
  }

  /**
   * @param {string | readonly string[]} scopes
   * @returns {number}
   */
  rejections(scopes) {
    return this.#sets.get(parseScopes(scopes).join(" "))?.rejections ?? 0;
  }

  /** Returns each scope set with what it has. */
  sets() {
    return [...this.#sets];
  }

  /** @param {string | readonly string[]} scopes */
  #set(scopes) {
    const text = parseScopes(scopes).join(" ");
    const set = this.#sets.get(text) ?? { rejections: 0 };
    this.#sets.set(text, set);
    return set;
  }

  /**
   * @param {string} [text]
   * @returns {Granted}
   */
  #new(text) {
    this.#lastNumber += 1;
    return {
      text: text ?? `fake-token-${this.#lastNumber}`,
      generation: this.#lastNumber,
      expiresMs: Date.now() + this.lifetimeMs,
    };
  }
}

module.exports = { Grants, FAILURES };

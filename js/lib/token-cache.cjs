"use strict";

const { isFresh, isValid, keyOf } = require("./token.cjs");

/** @typedef {import("./token.cjs").Token} Token */
/** @typedef {import("./token.cjs").TokenKey} TokenKey */

/** The most entries. Further scope sets are not cached. */
const MAX_ENTRIES = 256;

/**
 * Returns the text that identifies a client and its scope set.
 *
 * @param {TokenKey} key
 * @returns {string}
 */
function keyText({ client, scopes }) {
  return JSON.stringify([client ?? null, ...scopes]);
}

/** The tokens in memory, the last one of each client and scope set. */
class TokenCache {
  /** @type {Map<string, Token>} */
  #tokens = new Map();

  /**
   * Returns the token of this key. It may have expired.
   *
   * @param {TokenKey} key
   * @returns {Token | undefined}
   */
  get(key) {
    return this.#tokens.get(keyText(key));
  }

  /**
   * Caches a token and drops the expired ones of all scope sets.
   *
   * @param {TokenKey} key
   * @param {Token} token
   */
  insert(key, token) {
    for (const [other, cached] of this.#tokens) {
      if (!isValid(cached)) {
        this.#tokens.delete(other);
      }
    }
    const text = keyText(key);
    const cached = this.#tokens.get(text);
    // Answers can overtake each other.
    const isNewer =
      cached !== undefined &&
      cached.generation !== token.generation &&
      isFresh(cached) &&
      cached.expiresAt > token.expiresAt;
    const hasRoom = cached !== undefined || this.#tokens.size < MAX_ENTRIES;
    if (!isNewer && hasRoom && isValid(token)) {
      this.#tokens.set(text, token);
    }
  }

  /**
   * Drops the token of that generation, by whichever client name it was requested.
   *
   * @param {TokenKey} key
   * @param {number} generation
   */
  evict(key, generation) {
    const scopes = key.scopes.join(" ");
    for (const [text, token] of this.#tokens) {
      if (token.generation === generation && keyOf(token)?.scopes.join(" ") === scopes) {
        this.#tokens.delete(text);
      }
    }
  }

  clear() {
    this.#tokens.clear();
  }
}

module.exports = { TokenCache, keyText };

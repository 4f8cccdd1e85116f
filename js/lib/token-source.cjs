"use strict";

const { monotonicNow } = require("./clock.cjs");
const { isDecision, isRetryable } = require("./errors.cjs");
const { ANY, isMetByCached, isMetByNew, isNoStricter } = require("./requirement.cjs");
const { GRACE_MS, NO_RETRIES } = require("./retry.cjs");
const { SharedRequest } = require("./shared-request.cjs");
const { combineSignals } = require("./signals.cjs");
const { isValid, leftMs, readToken } = require("./token.cjs");
const { TokenCache, keyText } = require("./token-cache.cjs");
const { lateError } = require("./transport.cjs");

/** @typedef {import("./requirement.cjs").Requirement} Requirement */
/** @typedef {import("./token.cjs").Token} Token */
/** @typedef {import("./token.cjs").TokenKey} TokenKey */
/** @typedef {import("./transport.cjs").Transport} Transport */

/** The time limit of a request for a fresher token while the cached one is still valid. */
const EARLY_RENEWAL_MS = 1000;

/** Returns tokens from memory, or from the broker by one request at a time for each client and scope set. */
class TokenSource {
  #cache = new TokenCache();
  /** @type {Map<string, SharedRequest>} */
  #inFlight = new Map();
  #transport;

  /** @param {Transport} transport */
  constructor(transport) {
    this.#transport = transport;
  }

  /**
   * Returns a token that meets the requirement.
   *
   * @param {TokenKey} key
   * @param {Requirement} requirement
   * @param {number} timeoutMs
   * @param {readonly (AbortSignal | undefined)[]} signals each ends the call
   * @returns {Promise<Token>}
   */
  async token(key, requirement, timeoutMs, signals) {
    signals.forEach((signal) => signal?.throwIfAborted());
    if (requirement.rejected) {
      this.#cache.evict(key, requirement.rejected.generation);
    }
    const early = this.#cached(key, requirement);
    if (early) {
      return early;
    }
    const deadline = monotonicNow() + timeoutMs;
    const limit = combineSignals(signals, { ms: timeoutMs + GRACE_MS, reason: lateError() });
    try {
      return await this.#request(key, requirement, deadline, limit.signal);
    } finally {
      limit.release();
    }
  }

  /**
   * Caches a token that a watch has received.
   *
   * @param {TokenKey} key
   * @param {Token} token
   */
  insert(key, token) {
    this.#cache.insert(key, token);
  }

  /** Drops all tokens. */
  clear() {
    this.#cache.clear();
  }

  /**
   * Returns the cached token if it is sufficient. A caller without conditions does not wait for a fresher one that
   * another caller has requested.
   *
   * @param {TokenKey} key
   * @param {Requirement} requirement
   * @returns {Token | undefined}
   */
  #cached(key, requirement) {
    const token = this.#cache.get(key);
    if (token === undefined) {
      return undefined;
    }
    const isRequested = this.#inFlight.get(keyText(key))?.isOpen ?? false;
    const isSufficient = isRequested && requirement === ANY && isValid(token);
    return isSufficient || isMetByCached(requirement, token) ? token : undefined;
  }

  /**
   * @param {TokenKey} key
   * @param {Requirement} requirement
   * @param {number} deadline
   * @param {AbortSignal} signal
   * @returns {Promise<Token>}
   */
  async #request(key, requirement, deadline, signal) {
    let hasLed = false;
    for (;;) {
      let shared = this.#inFlight.get(keyText(key));
      if (!shared?.isOpen) {
        shared = this.#lead(key, requirement, deadline, hasLed);
        hasLed = true;
      }
      try {
        const token = await shared.wait(signal);
        if (shared.requirement === requirement || isMetByNew(requirement, token)) {
          return token;
        }
      } catch (error) {
        if (signal.aborted && error === signal.reason) {
          throw error;
        }
        // A valid cached token outlasts any error but a decision of the broker.
        const cached = requirement === ANY && !isDecision(error) ? this.#cache.get(key) : undefined;
        if (cached && isValid(cached)) {
          return cached;
        }
        if (isNoStricter(shared.requirement, requirement) && isFinal(error, shared, deadline)) {
          throw error;
        }
      }
      const cached = this.#cached(key, requirement);
      if (cached) {
        return cached;
      }
    }
  }

  /**
   * Starts the request of a caller. One with conditions first requests a token without any, so that callers without
   * conditions do not wait for the stricter request.
   *
   * @param {TokenKey} key
   * @param {Requirement} requirement
   * @param {number} deadline
   * @param {boolean} hasLed
   * @returns {SharedRequest}
   */
  #lead(key, requirement, deadline, hasLed) {
    const cached = this.#cache.get(key);
    const hasUsable = cached !== undefined && isValid(cached) && leftMs(cached) > EARLY_RENEWAL_MS;
    const asked = requirement.rejected === undefined && !hasUsable && !hasLed ? ANY : requirement;
    const isEarly = asked === ANY && hasUsable;
    const until = isEarly ? Math.min(deadline, monotonicNow() + EARLY_RENEWAL_MS) : deadline;
    const policy = isEarly ? NO_RETRIES : undefined;
    const text = keyText(key);
    const send = (/** @type {AbortSignal} */ signal) => this.#send(key, asked, { deadline: until, policy, signal });
    const shared = new SharedRequest({ requirement: asked, deadline: until, isEarly }, send, (settled) => {
      // Another one may have taken the place of a cancelled request.
      if (this.#inFlight.get(text) === settled) {
        this.#inFlight.delete(text);
      }
    });
    this.#inFlight.set(text, shared);
    return shared;
  }

  /**
   * @param {TokenKey} key
   * @param {Requirement} requirement
   * @param {import("./transport.cjs").Limits} limits
   * @returns {Promise<Token>}
   */
  async #send(key, requirement, limits) {
    const request = (/** @type {number} */ leftMs) => ({ path: tokenPath(key, requirement, leftMs) });
    const { body } = await this.#transport.get(request, limits);
    const token = readToken(body, key, requirement.rejected?.generation);
    // Before the request ends, so that the next caller finds the token.
    this.#cache.insert(key, token);
    return token;
  }
}

/**
 * Returns whether no further request of this caller is useful. A caller with more time than the one that led the request
 * may still succeed.
 *
 * @param {unknown} error
 * @param {SharedRequest} shared
 * @param {number} deadline
 * @returns {boolean}
 */
function isFinal(error, shared, deadline) {
  // An early renewal is not retried, so a caller that needs its token sends a request of its own.
  const isOutOfTime = !shared.isEarly && deadline <= shared.deadline + GRACE_MS;
  return !isRetryable(error) || isOutOfTime || monotonicNow() >= deadline;
}

/**
 * @param {TokenKey} key
 * @param {Requirement} requirement
 * @param {number} leftMs
 * @returns {string}
 */
function tokenPath({ client, scopes }, { minTtlMs, rejected }, leftMs) {
  const query = new URLSearchParams();
  if (client !== undefined) {
    query.set("client", client);
  }
  if (minTtlMs !== undefined) {
    query.set("min_ttl", `${Math.ceil(minTtlMs / 1000)}s`);
  }
  if (rejected !== undefined) {
    query.set("rejected", String(rejected.generation));
  }
  // The API has whole seconds. Rounded down, or up by less than the grace, the broker's answer arrives in time.
  query.set("timeout", `${Math.max(1, Math.floor((leftMs + GRACE_MS / 2) / 1000))}s`);
  return `/v1/token/${scopesPath(scopes)}?${query}`;
}

/**
 * @param {readonly string[]} scopes
 * @returns {string}
 */
function scopesPath(scopes) {
  return scopes.map(encodeURIComponent).join(",");
}

module.exports = { TokenSource, scopesPath };

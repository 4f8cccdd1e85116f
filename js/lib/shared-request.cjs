"use strict";

/** @typedef {import("./token.cjs").Token} Token */
/** @typedef {import("./requirement.cjs").Requirement} Requirement */

/**
 * A request to the broker that several callers wait for. It continues when one of them no longer waits, and is cancelled
 * when none does.
 */
class SharedRequest {
  #abort = new AbortController();
  /** @type {Promise<Token>} */
  #result;
  #waiting = 0;
  #isSettled = false;

  /**
   * @param {object} plan
   * @param {Requirement} plan.requirement
   * @param {number} plan.deadline
   * @param {boolean} plan.isEarly whether the cached token is returned if the request fails
   * @param {(signal: AbortSignal) => Promise<Token>} send
   * @param {(request: SharedRequest) => void} onSettled
   */
  constructor({ requirement, deadline, isEarly }, send, onSettled) {
    this.requirement = requirement;
    this.deadline = deadline;
    this.isEarly = isEarly;
    const settled = () => {
      this.#isSettled = true;
      onSettled(this);
    };
    this.#result = send(this.#abort.signal);
    this.#result.then(settled, settled);
  }

  /** Whether a new caller may wait for it. */
  get isOpen() {
    return !this.#isSettled && !this.#abort.signal.aborted;
  }

  /**
   * Waits for the token, at most until the caller's signal is aborted.
   *
   * @param {AbortSignal} signal
   * @returns {Promise<Token>}
   */
  async wait(signal) {
    this.#waiting += 1;
    let stop = () => {};
    /** @type {Promise<never>} */
    const aborted = new Promise((_resolve, reject) => {
      stop = () => reject(signal.reason);
      signal.addEventListener("abort", stop, { once: true });
      if (signal.aborted) {
        stop();
      }
    });
    try {
      return await Promise.race([this.#result, aborted]);
    } finally {
      signal.removeEventListener("abort", stop);
      this.#waiting -= 1;
      if (this.#waiting === 0 && !this.#isSettled) {
        this.#abort.abort();
      }
    }
  }
}

module.exports = { SharedRequest };

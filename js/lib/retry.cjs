"use strict";

/** How long a first connection is retried while the socket refuses: as long as a restart takes. */
const RESTART_TIME_MS = 1000;

/** The broker answers by the deadline; a call is cancelled this much later. */
const GRACE_MS = 200;

/**
 * How long connecting is retried, within the deadline.
 *
 * @typedef {object} RetryPolicy
 * @property {number} missingMs while the socket does not exist
 * @property {number} refusingMs while the socket refuses connections
 */

/** No retries. @type {RetryPolicy} */
const NO_RETRIES = { missingMs: 0, refusingMs: 0 };

/** Before the first connection: there may be no broker at all. @type {RetryPolicy} */
const FIRST = { missingMs: 0, refusingMs: RESTART_TIME_MS };

/** After a connection: the broker is restarting. @type {RetryPolicy} */
const RECONNECT = { missingMs: Infinity, refusingMs: Infinity };

/**
 * Returns for how long an error of connecting is retried.
 *
 * @param {RetryPolicy} policy
 * @param {string | undefined} code
 * @returns {number}
 */
function retryDuration(policy, code) {
  switch (code) {
    case "ENOENT":
      return policy.missingMs;
    case "ECONNREFUSED":
      return policy.refusingMs;
    case "EAGAIN":
      // The backlog is full: the broker runs and is busy.
      return Infinity;
    default:
      return 0;
  }
}

/** The pauses between retries: random, so that callers do not all reconnect at the same time, and growing. */
class Backoff {
  #doublings = 0;

  /**
   * Returns the next pause in milliseconds: 10 to 50 ms at first, 40 to 200 ms from the third on.
   *
   * @returns {number}
   */
  next() {
    const pause = (10 + Math.random() * 40) * 2 ** this.#doublings;
    this.#doublings = Math.min(this.#doublings + 1, 2);
    return pause;
  }
}

module.exports = { Backoff, retryDuration, NO_RETRIES, FIRST, RECONNECT, GRACE_MS };

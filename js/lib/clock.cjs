"use strict";

/**
 * Returns milliseconds of the clock for deadlines. No change of the wall clock affects it.
 *
 * @returns {number}
 */
function monotonicNow() {
  return performance.now();
}

/**
 * Resolves after that many milliseconds. If the signal is aborted first, it rejects with the signal's reason.
 *
 * @param {number} ms
 * @param {AbortSignal | undefined} signal
 * @returns {Promise<void>}
 */
function sleep(ms, signal) {
  return new Promise((resolve, reject) => {
    if (signal?.aborted) {
      reject(signal.reason);
      return;
    }
    const stop = () => {
      clearTimeout(timer);
      reject(signal?.reason);
    };
    const timer = setTimeout(() => {
      signal?.removeEventListener("abort", stop);
      resolve();
    }, ms);
    signal?.addEventListener("abort", stop, { once: true });
  });
}

module.exports = { monotonicNow, sleep };

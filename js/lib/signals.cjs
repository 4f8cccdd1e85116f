"use strict";

/**
 * Returns a signal that is aborted with the first of these, and optionally after a time. `release` ends the timer and
 * removes the listeners.
 *
 * `AbortSignal.any` is newer than Node 18.
 *
 * @param {readonly (AbortSignal | undefined)[]} signals
 * @param {{ ms: number, reason: Error }} [timeout]
 * @returns {{ signal: AbortSignal, release(): void }}
 */
function combineSignals(signals, timeout) {
  const controller = new AbortController();
  /** @type {(() => void)[]} */
  const releases = [];
  for (const signal of signals) {
    if (signal?.aborted) {
      controller.abort(signal.reason);
    } else if (signal) {
      const stop = () => controller.abort(signal.reason);
      signal.addEventListener("abort", stop, { once: true });
      releases.push(() => signal.removeEventListener("abort", stop));
    }
  }
  if (timeout) {
    const timer = setTimeout(() => controller.abort(timeout.reason), Math.max(timeout.ms, 0));
    releases.push(() => clearTimeout(timer));
  }
  return { signal: controller.signal, release: () => releases.forEach((release) => release()) };
}

module.exports = { combineSignals };

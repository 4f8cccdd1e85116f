"use strict";

const { monotonicNow, sleep } = require("./clock.cjs");
const { DomoTokenError, errorOf, isRetryable } = require("./errors.cjs");
const { EventParser } = require("./event-stream.cjs");
const { parseObject } = require("./problem.cjs");
const { Backoff, FIRST } = require("./retry.cjs");
const { combineSignals } = require("./signals.cjs");
const { leftMs, readToken } = require("./token.cjs");
const { scopesPath } = require("./token-source.cjs");

/** @typedef {import("./token.cjs").Token} Token */
/** @typedef {import("./token.cjs").TokenKey} TokenKey */
/** @typedef {import("./event-stream.cjs").StreamEvent} StreamEvent */

/** The time limit of connecting and of the first byte. */
const CONNECT_TIMEOUT_MS = 10_000;

/** The broker sends a comment every 15 s. After this time without any, the connection is of no use. */
const SILENCE_MS = 45_000;

/** What the id of an event is: a number below 2⁵³. */
const GENERATION = /^\d{1,16}$/;

/** The longest pause between two attempts to connect. */
const MAX_PAUSE_MS = 1000;

/**
 * Iterates over the current token and each new one, no token twice, and reconnects when the connection ends.
 *
 * Errors before the first answer, and decisions of the broker, end it. `onUnavailable` receives the others: the last token
 * has expired without a successor, or the broker stops or cannot be reached, which is reported once.
 *
 * @param {import("./transport.cjs").Transport} transport
 * @param {import("./token-source.cjs").TokenSource} tokens
 * @param {TokenKey} key
 * @param {{ signals: readonly (AbortSignal | undefined)[], onUnavailable?: (error: DomoTokenError) => void }} options
 * @returns {AsyncGenerator<Token, void, void>}
 */
async function* watchTokens(transport, tokens, key, { signals, onUnavailable }) {
  const limit = combineSignals(signals);
  /** @type {WatchState} */
  const state = { hasAnswer: false, isReported: false, pauseMs: 0, lastId: "" };
  try {
    for (;;) {
      await sleep(state.pauseMs, limit.signal);
      state.pauseMs = Math.min(state.pauseMs * 2 + new Backoff().next(), MAX_PAUSE_MS);
      try {
        for await (const event of events(transport, key, state, limit.signal)) {
          const token = tokenOf(event, key, onUnavailable);
          if (token === undefined || token.generation === state.generation) {
            continue;
          }
          state.generation = token.generation;
          // A caller that reads late finds tokens that have expired meanwhile.
          if (leftMs(token) > 0) {
            tokens.insert(key, token);
            yield token;
          }
        }
      } catch (error) {
        if (!state.hasAnswer || limit.signal.aborted || !isOutage(error)) {
          throw error;
        }
        state.pauseMs = Math.max(state.pauseMs, error.retryAfterMs ?? 0);
        if (!state.isReported) {
          state.isReported = true;
          onUnavailable?.(error);
        }
      }
    }
  } finally {
    limit.release();
  }
}

/**
 * What remains of a watch between two connections.
 *
 * @typedef {object} WatchState
 * @property {boolean} hasAnswer whether a broker has answered
 * @property {boolean} isReported whether this outage of the broker has been reported
 * @property {number} pauseMs the pause before the next attempt to connect
 * @property {string} lastId the id of the last event
 * @property {number} [generation] that of the last token
 */

/**
 * Iterates over the events of one connection.
 *
 * @param {import("./transport.cjs").Transport} transport
 * @param {TokenKey} key
 * @param {WatchState} state
 * @param {AbortSignal} signal
 * @returns {AsyncGenerator<StreamEvent, void, void>}
 */
async function* events(transport, { client, scopes }, state, signal) {
  const query = client === undefined ? "" : `?${new URLSearchParams({ client })}`;
  const path = `/v1/watch/${scopesPath(scopes)}${query}`;
  /** @type {Record<string, string>} */
  const headers = state.lastId === "" ? {} : { "Last-Event-ID": state.lastId };
  const deadline = monotonicNow() + CONNECT_TIMEOUT_MS;
  const { response, socket } = await transport.open(() => ({ path, headers }), { deadline, signal, policy: FIRST });
  if (!/^text\/event-stream\b/i.test(response.headers["content-type"] ?? "")) {
    response.destroy();
    throw errorOf("protocol", `the server at ${socket} is no broker: its answer is not an event stream`);
  }
  state.hasAnswer = true;
  state.isReported = false;

  const stop = () => response.destroy();
  signal.addEventListener("abort", stop, { once: true });
  response.setTimeout(SILENCE_MS, stop);
  response.setEncoding("utf8");
  const parser = new EventParser();
  try {
    for await (const text of response) {
      for (const event of parser.push(text)) {
        // No other text is a generation, and not every text can be sent in a header.
        state.lastId = GENERATION.test(event.id) ? event.id : "";
        state.pauseMs = 0;
        // While the app handles the event, the connection does not keep the process running.
        response.socket.unref();
        yield event;
        response.socket.ref();
      }
    }
  } catch (error) {
    signal.throwIfAborted();
    if (error instanceof RangeError) {
      throw errorOf("protocol", `the broker's answer is not valid: ${error.message}`);
    }
    // The connection was lost: all watchers of a broker lose theirs at the same moment, and reconnect after a random pause.
  } finally {
    signal.removeEventListener("abort", stop);
    response.destroy();
  }
  signal.throwIfAborted();
  state.pauseMs = Math.max(state.pauseMs, new Backoff().next());
}

/**
 * Returns the token of an event, if it has one.
 *
 * @param {StreamEvent} event
 * @param {TokenKey} key
 * @param {((error: DomoTokenError) => void) | undefined} onUnavailable
 * @returns {Token | undefined}
 */
function tokenOf({ type, data }, key, onUnavailable) {
  if (type === "token") {
    return readToken(data, key);
  }
  const { detail, retry_after_ms: retryAfterMs } = parseObject(data) ?? {};
  const details = typeof retryAfterMs === "number" ? { retryAfterMs } : {};
  const message = typeof detail === "string" ? detail : `the broker reports "${type}"`;
  if (type === "unavailable") {
    onUnavailable?.(errorOf("unavailable", message, details));
  } else if (type === "gone") {
    throw errorOf("gone", message);
  }
  return undefined;
}

/**
 * Returns whether the watch continues after this error: the broker may be reached later.
 *
 * @param {unknown} error
 * @returns {error is DomoTokenError}
 */
function isOutage(error) {
  // An error of the system, such as a directory whose mode is about to be set, has a cause; a decision of the broker has none.
  const isLocal = error instanceof DomoTokenError && error.cause !== undefined;
  return isRetryable(error) || isLocal;
}

module.exports = { watchTokens };

"use strict";

const { monotonicNow, sleep } = require("./clock.cjs");
const { connectError } = require("./connect-error.cjs");
const { ConnectFailed, ConnectionLost, connect } = require("./connection.cjs");
const { DomoTokenError, errorOf } = require("./errors.cjs");
const { findSocket, namedTarget } = require("./find-socket.cjs");
const { NoHttp, readBody, sendRequest } = require("./http-request.cjs");
const { problemError } = require("./problem.cjs");
const { Backoff, FIRST, GRACE_MS, RECONNECT, retryDuration } = require("./retry.cjs");
const { combineSignals } = require("./signals.cjs");

/** @typedef {import("./find-socket.cjs").Target} Target */
/** @typedef {import("./retry.cjs").RetryPolicy} RetryPolicy */
/** @typedef {import("node:http").IncomingMessage} IncomingMessage */

/**
 * What bounds a request.
 *
 * @typedef {object} Limits
 * @property {number} deadline by the monotonic clock
 * @property {AbortSignal} [signal]
 * @property {RetryPolicy} [policy] how connecting is retried
 */

/**
 * A request, made for each attempt with the milliseconds left.
 *
 * @typedef {(leftMs: number) => { path: string, headers?: Record<string, string> }} RequestOf
 */

/** An attempt that failed, but may succeed after a pause. */
class TryAgain extends Error {
  /** @param {DomoTokenError} error what to throw when there is no time left */
  constructor(error) {
    super("try again");
    this.error = error;
  }
}

/** Sends requests to the broker, over a new connection each. */
class Transport {
  /** @type {Target | undefined} */
  #named;
  /** Whether a broker has answered: then one that is missing is restarting. */
  #hasAnswered = false;

  /** @param {string | undefined} socket */
  constructor(socket) {
    this.#named = socket === undefined ? undefined : namedTarget(socket);
  }

  /**
   * Returns the body of the answer, and the socket that it came from.
   *
   * @param {RequestOf} request
   * @param {Limits} limits
   * @returns {Promise<{ body: string, socket: string }>}
   */
  get(request, limits) {
    return this.#repeat(request, limits, async (response, target, signal) => {
      return { body: await readBody(response, signal), socket: target.path };
    });
  }

  /**
   * Returns the answer as soon as its head has arrived.
   *
   * @param {RequestOf} request
   * @param {Limits} limits
   * @returns {Promise<{ response: IncomingMessage, socket: string }>}
   */
  open(request, limits) {
    return this.#repeat(request, limits, async (response, target) => ({ response, socket: target.path }));
  }

  /**
   * @template T
   * @param {RequestOf} request
   * @param {Limits} limits
   * @param {(response: IncomingMessage, target: Target, signal: AbortSignal) => Promise<T>} use
   * @returns {Promise<T>}
   */
  async #repeat(request, { deadline, signal, policy }, use) {
    const limit = combineSignals([signal], { ms: deadline + GRACE_MS - monotonicNow(), reason: lateError() });
    const backoff = new Backoff();
    /** @type {DomoTokenError | undefined} */
    let busy;
    try {
      for (;;) {
        try {
          return await this.#attempt(request, { deadline, signal: limit.signal, policy }, use);
        } catch (error) {
          if (!(error instanceof TryAgain)) {
            // If the broker was busy and has stopped since, its answer explains more.
            throw busy !== undefined && isOutage(error) ? busy : error;
          }
          if (error.error.kind === "busy") {
            busy = error.error;
          }
          const pause = (error.error.retryAfterMs ?? 0) + backoff.next();
          if (monotonicNow() + pause >= deadline) {
            throw busy ?? error.error;
          }
          await sleep(pause, limit.signal);
        }
      }
    } finally {
      limit.release();
    }
  }

  /**
   * @template T
   * @param {RequestOf} request
   * @param {{ deadline: number, signal: AbortSignal, policy: RetryPolicy | undefined }} limits
   * @param {(response: IncomingMessage, target: Target, signal: AbortSignal) => Promise<T>} use
   * @returns {Promise<T>}
   */
  async #attempt(request, { deadline, signal, policy }, use) {
    const { socket, target } = await this.#connect(deadline, signal, policy);
    try {
      const { path, headers = {} } = request(Math.max(deadline - monotonicNow(), 0));
      const response = await sendRequest(socket, path, headers, signal);
      if (response.statusCode === 200) {
        this.#hasAnswered = true;
        return await use(response, target, signal);
      }
      const body = await readBody(response, signal);
      const status = response.statusCode ?? 0;
      const error = problemError(status, response.headers["retry-after"], body, target.path);
      this.#hasAnswered ||= error.kind !== "protocol";
      throw error.kind === "busy" ? new TryAgain(error) : error;
    } catch (error) {
      socket.destroy();
      throw retryable(error, target);
    }
  }

  /**
   * Connects, again while the policy allows it.
   *
   * @param {number} deadline
   * @param {AbortSignal} signal
   * @param {RetryPolicy} [policy]
   */
  async #connect(deadline, signal, policy = this.#hasAnswered ? RECONNECT : FIRST) {
    const start = monotonicNow();
    const backoff = new Backoff();
    for (;;) {
      // The user's own broker may have come or gone meanwhile.
      const target = this.#named ?? (await findSocket());
      try {
        return { socket: await connect(target, signal), target };
      } catch (error) {
        if (!(error instanceof ConnectFailed)) {
          throw retryable(error, target);
        }
        const until = Math.min(deadline, start + retryDuration(policy, error.systemError.code));
        const pause = backoff.next();
        if (monotonicNow() + pause >= until) {
          throw await this.#notConnected(error.systemError, target);
        }
        await sleep(pause, signal);
      }
    }
  }

  /**
   * @param {NodeJS.ErrnoException} error
   * @param {Target} target
   * @returns {Promise<Error>}
   */
  async #notConnected(error, target) {
    if (error.code === "EAGAIN") {
      return errorOf("busy", `the broker at ${target.path} is too busy to take a connection`);
    }
    return connectError(target, error);
  }
}

/** Returns the error of a call whose time limit has passed. */
function lateError() {
  return errorOf("timeout", "the broker did not answer in time; under systemd, run: systemctl status domo-tokend");
}

/**
 * Returns the error of an attempt, as one to try again where that may help.
 *
 * @param {unknown} error
 * @param {Target} target
 * @returns {unknown}
 */
function retryable(error, target) {
  const advice = "if this persists, check the daemon's version and http in [broker] of its config";
  if (error instanceof ConnectionLost) {
    return new TryAgain(errorOf("unavailable", `no answer from ${target.path}: ${error.message}; ${advice}`));
  }
  if (error instanceof NoHttp) {
    return new TryAgain(errorOf("busy", `${error.message} at ${target.path}: a limit is reached or HTTP is off; ${advice}`));
  }
  return error;
}

/**
 * @param {unknown} error
 * @returns {boolean}
 */
function isOutage(error) {
  return error instanceof DomoTokenError && (error.kind === "not_running" || error.kind === "timeout");
}

module.exports = { Transport, lateError };

"use strict";

const fs = require("node:fs");
const http = require("node:http");
const os = require("node:os");
const path = require("node:path");
const { randomBytes } = require("node:crypto");

const { Broker } = require("./broker.cjs");
const { FAILURES, Grants } = require("./fake-grants.cjs");
const { parseScopes } = require("./scopes.cjs");

const DEFAULT_LIFETIME_MS = 3_600_000;

/** The name of the API client of a request that names none. */
const DEFAULT_CLIENT = "fake";

/** @typedef {import("./fake-grants.cjs").Failure} Failure */
/** @typedef {import("./fake-grants.cjs").Granted} Granted */
/** @typedef {{ client: string, scopes: string[], response: http.ServerResponse }} Watcher */

/** A broker inside a test. It grants a token for any scope set, unless the test decides otherwise. */
class FakeBroker {
  #grants;
  #folder;
  /** @type {http.Server | undefined} */
  #server;
  /** @type {Set<import("node:net").Socket>} */
  #connections = new Set();
  /** @type {Set<Watcher>} */
  #watchers = new Set();
  #requests = 0;
  /** @type {{ before: string | undefined } | undefined} */
  #environment;

  /** @param {{ lifetimeMs?: number }} [options] */
  constructor({ lifetimeMs = DEFAULT_LIFETIME_MS } = {}) {
    this.#grants = new Grants(lifetimeMs);
    this.#folder = fs.mkdtempSync(path.join(os.tmpdir(), "domo-token-"));
    /** The path of its socket. */
    this.socket =
      process.platform === "win32"
        ? `\\\\.\\pipe\\domo-token-${randomBytes(8).toString("hex")}`
        : path.join(this.#folder, "broker.sock");
  }

  /**
   * Starts one on a temporary socket.
   *
   * @param {{ lifetimeMs?: number, setEnvironment?: boolean }} [options]
   * @returns {Promise<FakeBroker>}
   */
  static async start({ lifetimeMs, setEnvironment = false } = {}) {
    const fake = new FakeBroker({ lifetimeMs });
    await fake.restart();
    if (setEnvironment) {
      fake.#environment = { before: process.env.DOMO_TOKEN_SOCKET };
      process.env.DOMO_TOKEN_SOCKET = fake.socket;
    }
    return fake;
  }

  /**
   * Returns a client of this broker, without cached tokens.
   *
   * @param {{ client?: string, timeoutMs?: number }} [options]
   * @returns {Broker}
   */
  broker(options = {}) {
    return new Broker({ ...options, socket: this.socket });
  }

  /**
   * Grants a token with this text, or a generated one, and ends a failure. Watches of these scopes receive it.
   *
   * @param {string | readonly string[]} scopes
   * @param {string} [text]
   */
  grant(scopes, text) {
    this.#grants.grant(scopes, text);
    for (const watcher of this.#watchersOf(scopes)) {
      this.#sendToken(watcher);
    }
  }

  /**
   * Fails requests for these scopes with this kind of error until `grant`. Watches receive `unavailable` and `gone`.
   *
   * @param {string | readonly string[]} scopes
   * @param {string} kind
   * @param {{ detail?: string, retryAfterMs?: number }} [options]
   */
  fail(scopes, kind, options = {}) {
    this.#grants.fail(scopes, { kind, ...options });
    if (kind !== "unavailable" && kind !== "gone") {
      return;
    }
    for (const { response } of this.#watchersOf(scopes)) {
      sendEvent(response, kind, problemOf({ kind, ...options }));
      if (kind === "gone") {
        response.end();
      }
    }
  }

  /**
   * Fails requests for all scopes that have no token yet, so that a test notices when the app requests others.
   *
   * @param {string} kind
   */
  failOthers(kind) {
    this.#grants.fail(undefined, { kind });
  }

  /** How many requests it has received, of any sort. */
  get requests() {
    return this.#requests;
  }

  /**
   * Returns how many requests reported that Domo rejected the current token of these scopes.
   *
   * @param {string | readonly string[]} scopes
   * @returns {number}
   */
  rejections(scopes) {
    return this.#grants.rejections(scopes);
  }

  /** The lifetime of each new token, in milliseconds. */
  get lifetimeMs() {
    return this.#grants.lifetimeMs;
  }

  set lifetimeMs(lifetimeMs) {
    this.#grants.lifetimeMs = lifetimeMs;
  }

  /**
   * Closes all connections and removes the socket. Tokens are kept for `restart`.
   *
   * @returns {Promise<void>}
   */
  async stop() {
    const server = this.#server;
    this.#server = undefined;
    const closed = new Promise((resolve) => (server ? server.close(resolve) : resolve(undefined)));
    this.#connections.forEach((connection) => connection.destroy());
    await closed;
  }

  /**
   * Listens again after `stop`.
   *
   * @returns {Promise<void>}
   */
  async restart() {
    const server = http.createServer((request, response) => this.#handle(request, response));
    server.on("connection", (connection) => {
      this.#connections.add(connection);
      connection.on("close", () => this.#connections.delete(connection));
    });
    await new Promise((resolve, reject) => {
      server.once("error", reject);
      server.listen(this.socket, () => resolve(undefined));
    });
    // A test that does not close it ends nevertheless.
    server.unref();
    this.#server = server;
  }

  /**
   * Stops it and removes its directory.
   *
   * @returns {Promise<void>}
   */
  async close() {
    await this.stop();
    fs.rmSync(this.#folder, { recursive: true, force: true });
    if (this.#environment) {
      const { before } = this.#environment;
      this.#environment = undefined;
      if (before === undefined) {
        delete process.env.DOMO_TOKEN_SOCKET;
      } else {
        process.env.DOMO_TOKEN_SOCKET = before;
      }
    }
  }

  /**
   * @param {http.IncomingMessage} request
   * @param {http.ServerResponse} response
   */
  #handle(request, response) {
    this.#requests += 1;
    const url = new URL(request.url ?? "/", "http://localhost");
    const [, version, operation, scopes = ""] = url.pathname.split("/").map(decodeURIComponent);
    if (version === "v1" && operation === "status") {
      sendJson(response, 200, this.#status());
    } else if (version === "v1" && (operation === "token" || operation === "watch")) {
      const client = url.searchParams.get("client") ?? DEFAULT_CLIENT;
      if (operation === "token") {
        this.#handleToken(response, client, parseScopes(scopes), url.searchParams);
      } else {
        this.#handleWatch(response, client, parseScopes(scopes), request.headers["last-event-id"]);
      }
    } else {
      sendJson(response, 404, { type: "urn:domo-token:not_found", detail: `no such path: ${url.pathname}`, exit_code: 2 });
    }
  }

  /**
   * @param {http.ServerResponse} response
   * @param {string} client
   * @param {string[]} scopes
   * @param {URLSearchParams} query
   */
  #handleToken(response, client, scopes, query) {
    const rejected = query.get("rejected");
    const minTtl = query.get("min_ttl");
    const answer = this.#grants.answer(scopes, {
      rejected: rejected === null ? undefined : Number(rejected),
      minTtlMs: minTtl === null ? undefined : Number.parseInt(minTtl, 10) * 1000,
    });
    if ("failure" in answer) {
      sendFailure(response, answer.failure);
    } else {
      sendJson(response, 200, this.#tokenJson(client, scopes, answer.granted));
    }
  }

  /**
   * @param {http.ServerResponse} response
   * @param {string} client
   * @param {string[]} scopes
   * @param {string | string[] | undefined} lastId
   */
  #handleWatch(response, client, scopes, lastId) {
    const answer = this.#grants.answer(scopes, {});
    if ("failure" in answer && answer.failure.kind !== "unavailable") {
      sendFailure(response, answer.failure);
      return;
    }
    const watcher = { client, scopes, response };
    this.#watchers.add(watcher);
    response.on("close", () => this.#watchers.delete(watcher));
    response.writeHead(200, { "Content-Type": "text/event-stream", "Cache-Control": "no-store" });
    response.flushHeaders();
    if ("failure" in answer) {
      sendEvent(response, "unavailable", problemOf(answer.failure));
    } else if (lastId !== String(answer.granted.generation)) {
      this.#sendToken(watcher);
    }
  }

  /** @param {Watcher} watcher */
  #sendToken({ client, scopes, response }) {
    const answer = this.#grants.answer(scopes, {});
    if ("granted" in answer) {
      sendEvent(response, "token", this.#tokenJson(client, scopes, answer.granted), answer.granted.generation);
    }
  }

  /** @param {string | readonly string[]} scopes */
  #watchersOf(scopes) {
    const wanted = parseScopes(scopes).join(" ");
    return [...this.#watchers].filter((watcher) => watcher.scopes.join(" ") === wanted);
  }

  /**
   * @param {string} client
   * @param {string[]} scopes
   * @param {Granted} granted
   */
  #tokenJson(client, scopes, { text, generation, expiresMs }) {
    return {
      access_token: text,
      token_type: "bearer",
      expires_at: Math.floor(expiresMs / 1000),
      expires_in: Math.max(0, Math.floor((expiresMs - Date.now()) / 1000)),
      scope: scopes.join(" "),
      client,
      generation,
      broker: this.socket,
    };
  }

  #status() {
    const tokens = this.#grants.sets().map(([scope, { granted, failure }]) => ({
      client: DEFAULT_CLIENT,
      scope,
      state: granted ? "fresh" : failure?.kind === "denied" ? "denied" : "waiting",
      expires_at: granted ? Math.floor(granted.expiresMs / 1000) : null,
      generation: granted?.generation ?? null,
      last_error: failure ? problemOf(failure).detail : null,
    }));
    return { broker: { socket: this.socket, version: "fake", pid: process.pid, default_client: DEFAULT_CLIENT }, tokens };
  }
}

/** @param {Failure} failure */
function problemOf({ kind, detail, retryAfterMs }) {
  const failure = FAILURES.get(kind);
  return {
    type: `urn:domo-token:${kind}`,
    title: kind,
    status: failure?.status,
    detail: detail ?? failure?.detail,
    exit_code: failure?.exitCode,
    ...(retryAfterMs === undefined ? {} : { retry_after_ms: retryAfterMs }),
  };
}

/**
 * @param {http.ServerResponse} response
 * @param {Failure} failure
 */
function sendFailure(response, failure) {
  // The caller waits for an answer until its time limit.
  if (failure.kind !== "timeout") {
    const problem = problemOf(failure);
    sendJson(response, problem.status ?? 500, problem, "application/problem+json");
  }
}

/**
 * @param {http.ServerResponse} response
 * @param {number} status
 * @param {unknown} value
 * @param {string} [type]
 */
function sendJson(response, status, value, type = "application/json") {
  response.writeHead(status, { "Content-Type": type, "Cache-Control": "no-store" });
  response.end(`${JSON.stringify(value)}\n`);
}

/**
 * @param {http.ServerResponse} response
 * @param {string} type
 * @param {unknown} value
 * @param {number} [id]
 */
function sendEvent(response, type, value, id) {
  const idLine = id === undefined ? "" : `id: ${id}\n`;
  response.write(`event: ${type}\n${idLine}data: ${JSON.stringify(value)}\n\n`);
}

module.exports = { FakeBroker };

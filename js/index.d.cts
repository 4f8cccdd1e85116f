/** Access tokens for the Domo data platform from the local token broker `domo-tokend`. */

/** Scopes of one token: `"data user"`, `"data,user"` and `["data", "user"]` are the same set. */
export type Scopes = string | readonly string[];

export interface BrokerOptions {
  /** The broker's socket: a path, `unix:///PATH`, or the name of a pipe. The default is `$DOMO_TOKEN_SOCKET`, else the user's own broker or the host's. */
  socket?: string | undefined;
  /** The name of the API client in the broker's config. The default is the broker's default client. */
  client?: string | undefined;
  /** The time limit of each call, in milliseconds [default: 10000]. */
  timeoutMs?: number | undefined;
}

export interface TokenOptions {
  /** The least time until the token expires, in milliseconds [default: a second, or a tenth of its lifetime]. */
  minTtlMs?: number | undefined;
  signal?: AbortSignal | undefined;
}

export interface FetchInit extends RequestInit {
  scopes: Scopes;
  minTtlMs?: number | undefined;
}

export interface WatchOptions {
  signal?: AbortSignal | undefined;
  /** Receives why there is no new token now. The watch continues. */
  onUnavailable?: ((error: DomoTokenError) => void) | undefined;
}

/** A client of the token broker. Its tokens are cached in memory; make one for the whole process. */
export class Broker {
  /** Connects to nothing yet. An invalid `socket` is a {@link DomoTokenError} of the kind `invalid_socket`. */
  constructor(options?: BrokerOptions);

  /**
   * Returns a token for exactly these scopes, from memory while it is valid for long enough. Concurrent calls share one
   * request, which continues when one of them is aborted.
   */
  token(scopes: Scopes, options?: TokenOptions): Promise<Token>;

  /** Returns a newer token than this one, which Domo rejected. Concurrent calls share one request. */
  renew(token: Token, options?: { signal?: AbortSignal | undefined }): Promise<Token>;

  /**
   * Sends a request to Domo by the global `fetch`, with a token in the header `Authorization`.
   *
   * If Domo rejects the token (401, or 406 if CSV was requested), the token is renewed and the request is sent once more. If
   * its body cannot be sent again (a stream, or the body of a `Request`), or if there is no other token, the first response is returned.
   *
   * The token is not sent to another origin on a redirect. Node versions whose `fetch` would do so treat redirects as errors.
   */
  fetch(input: string | URL | Request, init: FetchInit): Promise<Response>;

  /**
   * Iterates over the current token and each new one, no token twice. It reconnects when the connection ends.
   *
   * It ends with an error if there is no broker at first, if the broker denies the token, or if the scope set is removed.
   */
  watch(scopes: Scopes, options?: WatchOptions): AsyncGenerator<Token, void, void>;

  /** Returns the state of the broker and of each scope set that this process may see. */
  status(options?: { signal?: AbortSignal | undefined }): Promise<Status>;

  /** Ends calls and watches with an error of the kind `closed`, and drops the cached tokens. A process ends without it. */
  close(): void;
}

/**
 * A Domo access token. Only `text` exposes it: `console.log`, `JSON.stringify`, template literals and `structuredClone`
 * show the other properties.
 */
export class Token {
  private constructor();
  /** The token's text, for the header `Authorization: Bearer …`. */
  get text(): string;
  /** When it expires, in milliseconds since 1970. */
  readonly expiresAt: number;
  /** The scopes that Domo granted, separated by spaces. */
  readonly scope: string;
  /** The name of the API client in the broker's config. */
  readonly client: string;
  /** Identifies this token among those of its scope set; compare for equality only. */
  readonly generation: number;
  /** Returns the properties without the text. */
  toJSON(): { expiresAt: number; scope: string; client: string; generation: number };
  /** Returns a text without the token. */
  toString(): string;
}

/** The state of the broker, as `domo-token status --json` prints it. Times are in seconds since 1970. */
export interface Status {
  broker: BrokerStatus;
  tokens: ScopeSetStatus[];
}

export interface BrokerStatus {
  socket: string;
  version: string;
  protocol: number;
  pid: number;
  started_at: number | null;
  config_path: string | null;
  config_loaded_at: number | null;
  config_error: string | null;
  default_client: string | null;
  /** The fleet with which the daemon shares tokens. */
  fleet: FleetStatus | null;
  /** The applications of the gateway, at most 100. Empty for users other than root and the daemon's. */
  apps: AppStatus[];
  /** How many applications there are beyond these. */
  more_apps: number;
}

/** An application of the gateway. */
export interface AppStatus {
  name: string;
  client: string;
  /** When its last request ended, in seconds since 1970. */
  last_used_at: number | null;
  connections: number;
  /** Why its requests fail, if an error in the config or its files disables it. */
  error: string | null;
}

/** The store through which the hosts of a fleet share tokens. */
export interface FleetStatus {
  place: string;
  up: boolean;
  since: number | null;
  last_error: string | null;
  clock_difference_ms: number | null;
}

export interface ScopeSetStatus {
  client: string;
  client_id: string;
  scope: string;
  state: "idle" | "fetching" | "fresh" | "waiting" | "denied";
  obtained_at: number | null;
  expires_at: number | null;
  generation: number | null;
  next_attempt_at: number | null;
  requests: number;
  failed_attempts: number;
  last_error: string | null;
  last_error_at: number | null;
  rejected: number;
  last_rejected_by: string | null;
  credentials_error: string | null;
  from: "domo" | "fleet" | null;
}

/** What an error is, by what the caller can do about it. Kinds are only ever added. */
export type ErrorKind =
  | "not_running"
  | "unavailable"
  | "busy"
  | "timeout"
  | "closed"
  | "not_permitted"
  | "untrusted"
  | "unknown_client"
  | "unknown_scope"
  | "min_ttl_too_long"
  | "gone"
  | "denied"
  | "invalid_scope"
  | "invalid_socket"
  | "io"
  | "protocol"
  | "bug"
  | (string & {});

/** Why there is no token. The message is one line. No error has a token in its message, its properties or its cause. */
export class DomoTokenError extends Error {
  constructor(
    kind: ErrorKind,
    message: string,
    details?: { exitCode?: number | undefined; retryAfterMs?: number | undefined; cause?: unknown },
  );
  readonly kind: ErrorKind;
  /** The exit code that the helper `domo-token` has for this error. */
  readonly exitCode: number;
  /** The time until the broker's next request to Domo, in milliseconds, if the broker named it. */
  readonly retryAfterMs: number | undefined;
}

/** No broker listens on the socket. Exit code 69. */
export class NotRunning extends DomoTokenError {}

/** There is no token now: Domo does not issue one, the broker is busy, or the time limit has passed. Exit code 75. */
export class Unavailable extends DomoTokenError {}

/** The broker or its socket denies access, or the socket belongs to another user. Exit code 77. */
export class NotPermitted extends DomoTokenError {}

/** The broker has no such client or scope set, or no token of it is ever valid for long enough. Exit code 78. */
export class UnknownScopeSet extends DomoTokenError {}

/** Domo rejects the credentials or the scopes. Exit code 78. */
export class Rejected extends DomoTokenError {}

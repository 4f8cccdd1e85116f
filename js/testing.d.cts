import type { Broker, Scopes } from "./index.cjs";

export interface FakeBrokerOptions {
  /** The lifetime of each token, in milliseconds [default: 3600000]. */
  lifetimeMs?: number | undefined;
  /** Whether to set `$DOMO_TOKEN_SOCKET` to its socket until `close` [default: false]. */
  setEnvironment?: boolean | undefined;
}

/** The errors that an answer of a broker causes. */
export type FailureKind =
  | "not_permitted"
  | "unknown_client"
  | "unknown_scope"
  | "min_ttl_too_long"
  | "gone"
  | "denied"
  | "busy"
  | "bug"
  | "unavailable"
  | "timeout";

/** A broker inside a test. It grants a token for any scope set, unless the test decides otherwise. */
export class FakeBroker {
  private constructor();

  /** Starts one on a temporary socket. */
  static start(options?: FakeBrokerOptions): Promise<FakeBroker>;

  /** The path of its socket, or the name of its pipe. */
  readonly socket: string;

  /** Returns a client of this broker, without cached tokens. */
  broker(options?: { client?: string | undefined; timeoutMs?: number | undefined }): Broker;

  /** Grants a token with this text, or a generated one, and ends a failure. Watches of these scopes receive it. */
  grant(scopes: Scopes, text?: string): void;

  /**
   * Fails requests for these scopes with this kind of error until `grant`. Calls retry `busy`, and wait for an answer with
   * `timeout`, until their time limit. A broker that has a valid token cached uses it, except after a decision such as `not_permitted`.
   */
  fail(scopes: Scopes, kind: FailureKind, options?: { detail?: string; retryAfterMs?: number }): void;

  /** Fails requests for all scopes that have no token yet, so that a test notices when the app requests others. */
  failOthers(kind: FailureKind): void;

  /** How many requests it has received, of any sort. */
  get requests(): number;

  /** Returns how many requests reported that Domo rejected the current token of these scopes. */
  rejections(scopes: Scopes): number;

  /** The lifetime of each new token, in milliseconds. */
  lifetimeMs: number;

  /** Closes all connections and removes the socket. Tokens are kept for `restart`. */
  stop(): Promise<void>;

  /** Listens again after `stop`. */
  restart(): Promise<void>;

  /** Stops it, removes its directory and resets `$DOMO_TOKEN_SOCKET`. */
  close(): Promise<void>;
}

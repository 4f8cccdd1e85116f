//! The JSON of the helper's output and of the broker's HTTP API, as types to be serialized.
//!
//! New versions only add fields. Times are seconds since 1970, UTC.

use serde::Serialize;

use crate::messages::{ScopeState, TokenOrigin};

/// A token: the format `json`.
#[derive(Serialize)]
pub struct Token<'a> {
    /// The access token's text.
    pub access_token: &'a str,
    /// The path of the broker's socket.
    pub broker: &'a str,
    /// The API client's name.
    pub client: &'a str,
    /// When it expires.
    pub expires_at: u64,
    /// The seconds until then, rounded down.
    pub expires_in: u64,
    /// Identifies this token among those of its scope set. Compare for equality only.
    pub generation: u64,
    /// The scopes that Domo granted, separated by spaces.
    pub scope: &'a str,
    /// Always [`TOKEN_TYPE`].
    pub token_type: &'a str,
}

/// The type of every token (RFC 6750).
pub const TOKEN_TYPE: &str = "bearer";

/// The state of a broker, in the JSON of status.
#[derive(Debug, Serialize)]
pub struct Broker<'a> {
    /// The applications of the gateway, for root and the daemon's user.
    pub apps: Vec<App<'a>>,
    /// The error of the current config file, if an older config is in force; else those of clients and of the fleet.
    pub config_error: Option<&'a str>,
    /// When the config in force was loaded.
    pub config_loaded_at: u64,
    /// The config file; `None` when the environment alone configures it.
    pub config_path: Option<&'a str>,
    /// The client of requests that name none.
    pub default_client: Option<&'a str>,
    /// The fleet with which it shares tokens.
    pub fleet: Option<Fleet<'a>>,
    /// How many further applications there are.
    pub more_apps: u32,
    /// Its process id.
    pub pid: u32,
    /// The highest protocol version it speaks.
    pub protocol: u8,
    /// The path of its socket.
    pub socket: &'a str,
    /// When it started.
    pub started_at: u64,
    /// The daemon's version.
    pub version: &'a str,
}

/// The state of an application of the gateway, in the JSON of status.
#[derive(Debug, Serialize)]
pub struct App<'a> {
    /// The API client whose tokens it uses.
    pub client: &'a str,
    /// How many connections it has.
    pub connections: u32,
    /// Why it is disabled.
    pub error: Option<&'a str>,
    /// When its last request ended; `None` before the first one.
    pub last_used_at: Option<u64>,
    /// Its name.
    pub name: &'a str,
}

/// How a broker reaches the store of its fleet, in the JSON of status.
#[derive(Debug, Serialize)]
pub struct Fleet<'a> {
    /// How far the store's clock is ahead of the broker's wall clock, in milliseconds; `None` before the first operation.
    pub clock_difference_ms: Option<i64>,
    /// Why the last operation on the store failed; `None` if it succeeded. Errors in the config are in `config_error`.
    pub last_error: Option<&'a str>,
    /// The store's address.
    pub place: &'a str,
    /// Since when `up` has its value; `None` before the first operation.
    pub since: Option<u64>,
    /// False if the last operation on the store failed, or if an error in the config turns the fleet off.
    pub up: bool,
}

/// The state of one scope set, in the JSON of status.
#[derive(Debug, Serialize)]
pub struct Scope<'a> {
    /// The API client's name.
    pub client: &'a str,
    /// The start of the client id in use.
    pub client_id: &'a str,
    /// The error of newer credentials that were tried and not applied.
    pub credentials_error: Option<&'a str>,
    /// When the valid token expires.
    pub expires_at: Option<u64>,
    /// Failed attempts since the last token.
    pub failed_attempts: u32,
    /// Which host obtained the valid token, by [`TokenOrigin::name`]; `None` if an earlier process of the broker did.
    pub from: Option<&'a str>,
    /// The valid token's generation.
    pub generation: Option<u64>,
    /// The error of the last failed attempt, until the next token.
    pub last_error: Option<&'a str>,
    /// When that attempt failed.
    pub last_error_at: Option<u64>,
    /// The caller that reported a rejected token last.
    pub last_rejected_by: Option<&'a str>,
    /// When the next request to Domo is due.
    pub next_attempt_at: Option<u64>,
    /// When the valid token was requested.
    pub obtained_at: Option<u64>,
    /// How often callers reported that Domo rejected a token of this set.
    pub rejected: u64,
    /// Token requests sent to Domo since the daemon started.
    pub requests: u64,
    /// The scopes, separated by spaces.
    pub scope: &'a str,
    /// What the broker does for it, by [`ScopeState::name`].
    pub state: &'a str,
}

/// The JSON of status.
#[derive(Debug, Serialize)]
pub struct Status<'a> {
    /// The broker's state.
    pub broker: Broker<'a>,
    /// The scope sets that the caller may see.
    pub tokens: Vec<Scope<'a>>,
}

/// What is decided for a caller, and by which rule.
#[derive(Debug, Serialize)]
pub struct Explanation<'a> {
    /// Whether the caller may have the token.
    pub allowed: bool,
    /// The path of the broker's socket.
    pub broker: &'a str,
    /// The API client, if known.
    pub client: Option<&'a str>,
    /// `allowed` or `denied`.
    pub decision: &'static str,
    /// The kind of the denial, as in metrics and audit lines.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kind: Option<&'static str>,
    /// How the broker identifies the caller.
    pub peer: &'a str,
    /// A description of the rule that decided.
    pub rule: &'a str,
    /// The scopes, separated by spaces.
    pub scope: &'a str,
    /// The same as `peer`.
    pub seen_as: &'a str,
}

impl ScopeState {
    /// Returns its name in JSON and metrics.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Idle => "idle",
            Self::Fetching => "fetching",
            Self::Fresh => "fresh",
            Self::Waiting => "waiting",
            Self::Denied => "denied",
        }
    }
}

impl TokenOrigin {
    /// Returns its name in JSON.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Domo => "domo",
            Self::Fleet => "fleet",
        }
    }
}

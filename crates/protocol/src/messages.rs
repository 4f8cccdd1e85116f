//! The messages between a caller and a broker, as in the current protocol version. Module [`crate::versions`]
//! converts responses to and from older ones.
//!
//! `docs/protocol.md` describes them byte by byte. bincode is not self-describing: a message that
//! changes at all is a new [`VERSION`], and the frames under `tests/wire/` keep the old ones as
//! they were.
//!
//! This module is for the daemon and for other implementations of the protocol; it is outside the
//! semantic versioning of the crate.

use std::fmt;

use secrecy::{ExposeSecret, SecretString};
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::BootTime;

/// The highest protocol version that this crate speaks.
pub const VERSION: u8 = 3;

/// The lowest protocol version that this crate speaks.
pub const OLDEST_VERSION: u8 = 1;

/// The longest time that the broker waits for a caller, in milliseconds: ten minutes.
pub const MAX_TIME_LEFT_MS: u64 = 600_000;

/// The longest name of a client, in bytes. An explanation shows a longer one cut, with "…" at its end.
pub const MAX_CLIENT_NAME: usize = 64;

/// A request. Variants are only ever added, at the end.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Request {
    /// One token.
    Token(TokenRequest),
    /// The current token, then each new one, until the connection ends.
    Watch(TokenSubject),
    /// The state of the broker and of each scope set that the caller may see.
    Status,
    /// The broker's decision for this caller, and the rule.
    Explain(TokenSubject),
    /// The broker's metrics as Prometheus text.
    Metrics,
}

impl Request {
    /// Returns the request's name for logs, which never contain a whole message.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::Token(_) => "token",
            Self::Watch(_) => "watch",
            Self::Status => "status",
            Self::Explain(_) => "explain",
            Self::Metrics => "metrics",
        }
    }

    /// Returns the first protocol version that has this request.
    #[must_use]
    pub fn first_version(&self) -> u8 {
        match self {
            Self::Token(_) | Self::Watch(_) | Self::Status | Self::Explain(_) | Self::Metrics => 1,
        }
    }
}

/// The client and scope set of a request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TokenSubject {
    /// The API client's name in the broker's config; `None` for its default.
    pub client: Option<String>,
    /// The scopes, separated by spaces. Decoding does not check them: the broker answers invalid ones with a refusal.
    pub scope: String,
}

/// A request for one token.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TokenRequest {
    /// The client and scope set.
    pub subject: TokenSubject,
    /// The least time until the token expires, in milliseconds; `None` leaves it to the broker.
    pub min_ttl_ms: Option<u64>,
    /// How long the caller waits, in milliseconds, at most [`MAX_TIME_LEFT_MS`]. The broker answers within this time.
    pub time_left_ms: u64,
    /// Set if another token than the current one is required.
    pub renew: Option<Renew>,
}

/// Why a caller requires another token than the current one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Renew {
    /// The caller does not know which token failed: the current one is replaced, unless it was just fetched.
    Current,
    /// Domo rejected the token of this generation.
    Rejected(u64),
}

/// A response. Variants are only ever added, at the end.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Response {
    /// The requested token.
    Token(TokenAnswer),
    /// No token, and why.
    Refusal(Refusal),
    /// The first frame of the response to [`Request::Status`].
    Broker(BrokerStatus),
    /// One scope set, in the response to [`Request::Status`].
    Scope(ScopeStatus),
    /// The response to [`Request::Explain`].
    Explanation(Explanation),
    /// A part of the metrics text.
    Metrics(String),
    /// The last frame of a response with several.
    End,
}

impl Response {
    /// Returns the response's name for logs and errors, which never contain a whole message.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::Token(_) => "token",
            Self::Refusal(_) => "refusal",
            Self::Broker(_) => "broker status",
            Self::Scope(_) => "scope status",
            Self::Explanation(_) => "explanation",
            Self::Metrics(_) => "metrics",
            Self::End => "end",
        }
    }
}

/// A token with all that a caller needs to use it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TokenAnswer {
    /// The access token's text.
    pub access_token: TokenText,
    /// The API client's name.
    pub client: String,
    /// The scopes that Domo granted, separated by spaces.
    pub scope: String,
    /// Identifies this token among those of its scope set. Compare for equality only.
    pub generation: u64,
    /// The token's lifetime from the start of the request to Domo, in milliseconds.
    pub lifetime_ms: u64,
    /// When it expires.
    pub expires: BootTime,
}

/// The text of an access token. `Debug` omits it, and it is wiped when dropped.
#[derive(Clone)]
pub struct TokenText(SecretString);

impl TokenText {
    /// Wraps a text, without copying it if it has no spare capacity.
    #[must_use]
    pub fn new(text: String) -> Self {
        Self(text.into())
    }

    /// Returns the text.
    #[must_use]
    pub fn expose(&self) -> &str {
        self.0.expose_secret()
    }

    /// Returns the text as a secret of crate `secrecy`.
    #[must_use]
    pub fn into_secret(self) -> SecretString {
        self.0
    }
}

impl From<SecretString> for TokenText {
    fn from(secret: SecretString) -> Self {
        Self(secret)
    }
}

impl PartialEq for TokenText {
    fn eq(&self, other: &Self) -> bool {
        self.expose() == other.expose()
    }
}

impl Eq for TokenText {}

impl fmt::Debug for TokenText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[REDACTED]")
    }
}

impl Serialize for TokenText {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.expose())
    }
}

/// Accepts only what [`is_b64token`] does, because scripts put the text into headers and shell commands.
impl<'de> Deserialize<'de> for TokenText {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer).map(Self::new)?;
        if is_b64token(text.expose()) {
            return Ok(text);
        }
        Err(D::Error::custom(
            "the access token contains invalid characters",
        ))
    }
}

/// Returns whether a text is a `b64token` of RFC 6750 §2.1, as each bearer token must be. None of its characters is
/// special in a shell, a header or a config file of curl.
#[must_use]
pub fn is_b64token(text: &str) -> bool {
    let body = text.trim_end_matches('=');
    let is_allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~+/".contains(&byte);
    !body.is_empty() && body.bytes().all(is_allowed)
}

/// Why there is no token.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refusal {
    /// What the caller can do about it.
    pub kind: RefusalKind,
    /// What failed, why, and what to do: one line.
    pub cause: String,
    /// When the broker requests a token from Domo next, if known.
    pub next_attempt: Option<BootTime>,
}

impl Refusal {
    /// Returns a refusal without a next attempt.
    #[must_use]
    pub fn new(kind: RefusalKind, cause: impl Into<String>) -> Self {
        Self {
            kind,
            cause: cause.into(),
            next_attempt: None,
        }
    }
}

/// The start of the cause of a refusal whose request names no client where there is no default. Each program adds its own
/// advice on how to name one.
pub const NO_CLIENT_GIVEN: &str = "no client given and no default_client configured";

/// The kinds of refusal, by what the caller can do. Variants are only ever added, at the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum RefusalKind {
    /// The caller may not have this token.
    NotPermitted,
    /// The broker has no API client of that name, or none was named and there is no default.
    UnknownClient,
    /// The API client has no such scope set.
    UnknownScope,
    /// No token of this scope set is valid for as long as requested.
    MinTtlTooLong,
    /// Rejected by Domo: the credentials or the scopes. The name of this kind is part of the wire and of JSON.
    Denied,
    /// The scope set was removed from the broker's config.
    Gone,
    /// Domo cannot be reached, or there is no token in time: try later.
    Unavailable,
    /// The broker is at a limit, or stops: try again.
    Busy,
}

impl RefusalKind {
    /// Returns its name in metrics, audit lines and JSON.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::NotPermitted => "not_permitted",
            Self::UnknownClient => "unknown_client",
            Self::UnknownScope => "unknown_scope",
            Self::MinTtlTooLong => "min_ttl_too_long",
            Self::Denied => "denied",
            Self::Gone => "gone",
            Self::Unavailable => "unavailable",
            Self::Busy => "busy",
        }
    }
}

/// The state of a broker.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct BrokerStatus {
    /// The daemon's version.
    pub version: String,
    /// The highest protocol version it speaks.
    pub protocol: u8,
    /// Its process id.
    pub pid: u32,
    /// When it started.
    pub started: BootTime,
    /// The config file; `None` when the environment alone configures it.
    pub config_path: Option<String>,
    /// When the config in force was loaded.
    pub config_loaded: BootTime,
    /// The error of the current config file, if an older config is in force; else those of clients and of the fleet.
    pub config_error: Option<String>,
    /// The fleet with which it shares tokens, if one is configured. Since version 3.
    pub fleet: Option<FleetStatus>,
    /// The applications of the gateway, at most [`MAX_APPS`], for root and the daemon's user; for others none. Since
    /// version 3.
    pub apps: Vec<AppStatus>,
    /// How many further applications there are. Since version 3.
    pub more_apps: u32,
}

/// The most applications in the status of a broker, because it is one frame.
pub const MAX_APPS: usize = 100;

/// The state of an application of the gateway.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct AppStatus {
    /// Its name.
    pub name: String,
    /// The API client whose tokens it uses.
    pub client: String,
    /// When its last request ended; `None` before the first one.
    pub last_used: Option<BootTime>,
    /// How many connections it has.
    pub connections: u32,
    /// Why it is disabled.
    pub error: Option<String>,
}

/// How a broker reaches the store through which the hosts of its fleet share tokens.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FleetStatus {
    /// The store's address.
    pub place: String,
    /// False if the last operation on the store failed, or if an error in the config turns the fleet off.
    pub up: bool,
    /// Since when; `None` before the first operation.
    pub since: Option<BootTime>,
    /// Why the last operation on the store failed; `None` if it succeeded. Errors in the config are in `config_error`.
    pub last_error: Option<String>,
    /// How far the store's clock was ahead of the broker's wall clock when it was last compared, in milliseconds.
    pub clock_difference_ms: Option<i64>,
}

/// The state of one scope set.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ScopeStatus {
    /// The API client's name.
    pub client: String,
    /// The start of the client id in use, enough to distinguish it from another.
    pub client_id: String,
    /// The scopes, separated by spaces.
    pub scope: String,
    /// What the broker does for it.
    pub state: ScopeState,
    /// When the valid token was requested.
    pub obtained: Option<BootTime>,
    /// When the valid token expires.
    pub expires: Option<BootTime>,
    /// The valid token's generation.
    pub generation: Option<u64>,
    /// When the next request to Domo is due.
    pub next_attempt: Option<BootTime>,
    /// Token requests sent to Domo since the daemon started.
    pub requests: u64,
    /// Failed attempts since the last token.
    pub attempts: u32,
    /// The error of the last failed attempt, until the next token.
    pub last_error: Option<String>,
    /// When that attempt failed.
    pub last_error_at: Option<BootTime>,
    /// How often callers reported that Domo rejected a token of this set.
    pub rejected: u64,
    /// The caller that reported it last.
    pub last_rejected_by: Option<String>,
    /// The error of newer credentials that were tried and not applied.
    pub credentials_error: Option<String>,
    /// Which host obtained the valid token; `None` without one, or if an earlier process of the broker obtained it. Since
    /// version 3.
    pub from: Option<TokenOrigin>,
}

/// Which host obtained a token. Variants are only ever added, at the end.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum TokenOrigin {
    /// This one, from Domo.
    #[default]
    Domo,
    /// Another host of the fleet.
    Fleet,
}

/// What the broker does for one scope set. Variants are only ever added, at the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ScopeState {
    /// Nothing yet: it has just started, or waits for admission.
    Idle,
    /// A request to Domo is in flight.
    Fetching,
    /// The token is valid and will be renewed.
    Fresh,
    /// The last attempt failed; another follows.
    Waiting,
    /// Rejected by Domo: the credentials or the scopes. The name of this state is part of the wire and of JSON.
    Denied,
}

/// The broker's decision for a caller, and the reason.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Explanation {
    /// The API client, if known.
    pub client: Option<String>,
    /// The scopes, separated by spaces.
    pub scope: String,
    /// How the broker identifies the caller.
    pub peer: String,
    /// `None` if the caller may have the token, else the kind of the refusal.
    pub refused: Option<RefusalKind>,
    /// A description of the rule that decided.
    pub rule: String,
}

//! The messages between a caller and a broker, the same in protocol versions 1 and 2.
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
pub const VERSION: u8 = 2;

/// The lowest protocol version that this crate speaks.
pub const OLDEST_VERSION: u8 = 1;

/// The longest a caller may ask the broker to wait, in milliseconds: ten minutes.
pub const MAX_TIME_LEFT_MS: u64 = 600_000;

/// The longest name of a client, in bytes. An explanation shows a longer one cut, with "…" at its end.
pub const MAX_CLIENT_NAME: usize = 64;

/// What a caller asks for. Variants are only ever added, at the end.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Request {
    /// One token.
    Token(TokenRequest),
    /// The current token, then each new one, until the connection ends.
    Watch(Asked),
    /// The broker's state and that of each scope set the caller may see.
    Status,
    /// What the broker decides for this very caller, and by which rule.
    Explain(Asked),
    /// The broker's metrics as Prometheus text.
    Metrics,
}

impl Request {
    /// The request's name, for logs, which never show a whole message.
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
}

/// Which token is meant.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Asked {
    /// The API client's name in the broker's config; `None` for its default.
    pub client: Option<String>,
    /// The scopes, parted by spaces. Not checked by the wire: the broker refuses nonsense in words.
    pub scope: String,
}

/// Asks for one token.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TokenRequest {
    /// Which token.
    pub asked: Asked,
    /// The life the token must have left, in milliseconds; `None` leaves it to the broker.
    pub min_ttl_ms: Option<u64>,
    /// How long the caller will wait, in milliseconds; the broker answers by then, and reads more
    /// than [`MAX_TIME_LEFT_MS`] as that.
    pub time_left_ms: u64,
    /// Set to get another token than the current one.
    pub renew: Option<Renew>,
}

/// Why a caller wants another token than the current one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Renew {
    /// It can't say which token failed: the current one is replaced unless it is very young.
    Current,
    /// Domo refused the token of this generation.
    Rejected(u64),
}

/// What a broker answers. Variants are only ever added, at the end.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Response {
    /// The token asked for.
    Token(TokenAnswer),
    /// No token, and why.
    Refusal(Refusal),
    /// First frame of the answer to [`Request::Status`].
    Broker(BrokerStatus),
    /// One scope set, in the answer to [`Request::Status`].
    Scope(ScopeStatus),
    /// The answer to [`Request::Explain`].
    Explanation(Explanation),
    /// A piece of the metrics text.
    Metrics(String),
    /// The last frame of an answer that has several.
    End,
}

impl Response {
    /// The response's name, for logs and errors, which never show a whole message.
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

/// A token with all a caller needs to use it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TokenAnswer {
    /// The access token's text.
    pub access_token: TokenText,
    /// The API client's name.
    pub client: String,
    /// The scopes Domo granted, parted by spaces.
    pub scope: String,
    /// Names this token among those of its scope set; meaningful only when compared for equality.
    pub generation: u64,
    /// The token's whole life, in milliseconds, from before Domo was asked.
    pub lifetime_ms: u64,
    /// When it dies.
    pub expires: BootTime,
}

/// The text of an access token: never shown by `Debug`, wiped when dropped.
#[derive(Clone)]
pub struct TokenText(SecretString);

impl TokenText {
    /// Wraps a text. Its allocation becomes the token's if it has no spare capacity.
    #[must_use]
    pub fn new(text: String) -> Self {
        Self(text.into())
    }

    /// The text itself.
    #[must_use]
    pub fn expose(&self) -> &str {
        self.0.expose_secret()
    }

    /// The text as a secret of crate `secrecy`.
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

/// Takes nothing but a [`is_b64token`]: scripts put the text into headers and shell commands.
impl<'de> Deserialize<'de> for TokenText {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer).map(Self::new)?;
        if is_b64token(text.expose()) {
            return Ok(text);
        }
        Err(D::Error::custom("no access token has such characters"))
    }
}

/// Whether a text is a `b64token` of RFC 6750 §2.1, as each bearer token must be. None of its
/// characters means anything to a shell, a header line or a config file of curl.
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
    /// What failed, on what, and what to do: one line for a person.
    pub cause: String,
    /// When the broker asks Domo next, where that is known.
    pub next_attempt: Option<BootTime>,
}

impl Refusal {
    /// With no next attempt to tell of.
    #[must_use]
    pub fn new(kind: RefusalKind, cause: impl Into<String>) -> Self {
        Self {
            kind,
            cause: cause.into(),
            next_attempt: None,
        }
    }
}

/// The kinds of refusal, by what the caller can do. Variants are only ever added, at the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum RefusalKind {
    /// The caller may not have this token.
    NotPermitted,
    /// The broker has no API client of that name, or none was named and there is no default.
    UnknownClient,
    /// The API client has no such scope set.
    UnknownScope,
    /// No token of this scope set lives as long as the caller asks.
    MinTtlTooLong,
    /// Domo refuses the credentials or the scopes.
    Denied,
    /// The scope set was removed from the broker's config.
    Gone,
    /// Domo can't be reached, or no token comes in time: try later.
    Unavailable,
    /// The broker has too much to do, or is stopping: try again.
    Busy,
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
    /// What is wrong with the config file as it is now, if the one in force is an older one.
    pub config_error: Option<String>,
}

/// The state of one scope set.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ScopeStatus {
    /// The API client's name.
    pub client: String,
    /// The start of the client id in use, enough to tell it from another.
    pub client_id: String,
    /// The scopes, parted by spaces.
    pub scope: String,
    /// What the broker is doing about it.
    pub state: ScopeState,
    /// When the valid token was requested.
    pub obtained: Option<BootTime>,
    /// When the valid token expires.
    pub expires: Option<BootTime>,
    /// The valid token's generation.
    pub generation: Option<u64>,
    /// When Domo is asked next.
    pub next_attempt: Option<BootTime>,
    /// Token requests sent to Domo since the daemon started.
    pub requests: u64,
    /// Failed attempts since the last token.
    pub attempts: u32,
    /// What the last failed attempt came to, kept until the next token.
    pub last_error: Option<String>,
    /// When that was.
    pub last_error_at: Option<BootTime>,
    /// How often callers said that Domo refused a token of this set.
    pub rejected: u64,
    /// Who said so last.
    pub last_rejected_by: Option<String>,
    /// What is wrong with newer credentials that were tried and not taken up.
    pub credentials_error: Option<String>,
}

/// What the broker is doing about one scope set. Variants are only ever added, at the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ScopeState {
    /// Nothing yet: it has just started, or waits for its turn.
    Idle,
    /// A request to Domo is under way.
    Fetching,
    /// The token lives and will be renewed.
    Fresh,
    /// The last attempt failed; another follows.
    Waiting,
    /// Domo refused the credentials or the scopes.
    Denied,
}

/// What the broker decides for a caller, and why.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Explanation {
    /// The API client meant, where it is known.
    pub client: Option<String>,
    /// The scopes, parted by spaces.
    pub scope: String,
    /// As whom the broker sees the caller.
    pub peer: String,
    /// `None` if the caller may have the token, else the kind of the refusal.
    pub refused: Option<RefusalKind>,
    /// The rule that decided, in words.
    pub rule: String,
}

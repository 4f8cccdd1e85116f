//! What a token request results in: a token, or one of the few ways in which it fails.

use std::fmt;
use std::time::Duration;

use domo_token_protocol::BootTime;
use domo_token_protocol::scope::ScopeSet;
use secrecy::SecretString;

/// A token as it came.
#[derive(Debug)]
pub struct Fetched {
    /// The text: a `b64token` (RFC 6750 §2.1) of at most [`crate::token::MAX_TOKEN`] bytes.
    pub text: SecretString,
    /// The whole lifetime.
    pub lifetime: Duration,
    /// When the token expires, if that is not its lifetime after the start of the request: another host may have
    /// obtained it earlier.
    pub expires: Option<BootTime>,
    /// How the lifetime was derived.
    pub lifetime_source: LifetimeSource,
    /// The scopes granted.
    pub granted: ScopeSet,
}

/// How a token's lifetime was derived.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LifetimeSource {
    /// It is the answer's `expires_in`.
    Stated,
    /// It is the answer's `expires_in`, and by this machine's clock the token's own `exp` is earlier.
    /// The answer has no `Date` by which that could be checked.
    Unchecked,
    /// It is a default, because the answer has no `expires_in`.
    Assumed,
    /// It is the longest that is believed.
    Capped {
        /// The longer `expires_in`.
        stated: Duration,
    },
    /// It is what the token's own `exp` leaves.
    OwnExpiry {
        /// What the token was said to be valid for.
        stated: Duration,
    },
}

/// Why no token came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FetchError {
    /// The server said no; only other credentials or scopes can help.
    Denied {
        /// Whether it is this scope set that is refused, and not the client as a whole.
        scope_only: bool,
        /// Domo's own words, fit for one line.
        message: String,
    },
    /// The proxy rejected its login (407); only another login can help.
    ProxyLogin {
        /// What the proxy answered, fit for one line.
        message: String,
    },
    /// Worth another try.
    Transient {
        /// What kind of failure, for metrics and back-off.
        cause: Cause,
        /// What happened, fit for one line.
        message: String,
        /// How long the server wants to be left alone.
        retry_after: Option<Duration>,
    },
}

impl FetchError {
    /// A failure worth another try, when the server didn't say.
    #[must_use]
    pub fn transient(cause: Cause, message: impl Into<String>) -> Self {
        Self::Transient {
            cause,
            message: message.into(),
            retry_after: None,
        }
    }
}

/// The kinds of transient failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Cause {
    /// No connection: refused, unreachable, no such host, cut.
    Connect,
    /// No answer in time.
    Timeout,
    /// The server's certificate or its TLS isn't acceptable.
    Tls,
    /// The proxy did not open a tunnel, for another reason than its login; or a proxy that is not
    /// configured requires a login.
    Proxy,
    /// The server answered 429.
    RateLimited,
    /// The server answered 5xx, 408 or 425.
    Server,
    /// The server sent us elsewhere; redirects aren't followed, they would carry the secret along.
    RedirectRefused,
    /// There is no token endpoint at this URL.
    NotFound,
    /// The server answered what no token endpoint answers.
    Unusable,
}

impl Cause {
    /// Whether a person has to mend something, so that quick retries are of no use.
    #[must_use]
    pub fn is_lasting(self) -> bool {
        matches!(self, Self::Tls | Self::RedirectRefused | Self::NotFound)
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Connect => "connect",
            Self::Timeout => "timeout",
            Self::Tls => "tls",
            Self::Proxy => "proxy",
            Self::RateLimited => "rate_limited",
            Self::Server => "server",
            Self::RedirectRefused => "redirect_refused",
            Self::NotFound => "not_found",
            Self::Unusable => "unusable",
        })
    }
}

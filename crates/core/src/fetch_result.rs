//! The result of a token request: a token, or one of the few ways in which a request fails.

use std::fmt;
use std::time::Duration;

use domo_token_protocol::BootTime;
pub use domo_token_protocol::messages::TokenOrigin;
use domo_token_protocol::scope::ScopeSet;
use secrecy::SecretString;
use serde::{Deserialize, Serialize};

/// A token from a source.
#[derive(Debug)]
pub struct Fetched {
    /// The text: a `b64token` (RFC 6750 §2.1) of at most [`crate::token::MAX_TOKEN`] bytes.
    pub text: SecretString,
    /// The whole lifetime.
    pub lifetime: Duration,
    /// When the token expires, if that is not its lifetime after the start of the request: another host may have
    /// obtained it earlier.
    pub expires: Option<BootTime>,
    /// When it is renewed, if the schedule does not decide that: hosts of a fleet renew in turn.
    pub renew_at: Option<BootTime>,
    /// Which host obtained it.
    pub origin: TokenOrigin,
    /// How the lifetime was derived.
    pub lifetime_source: LifetimeSource,
    /// The scopes granted.
    pub granted: ScopeSet,
}

/// How a token's lifetime was derived.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LifetimeSource {
    /// The response's `expires_in`.
    Stated,
    /// The response's `expires_in`; by this machine's clock the token's own `exp` is earlier.
    /// The response has no `Date` to check that.
    Unchecked,
    /// A default, because the response has no `expires_in`.
    Assumed,
    /// The maximum, because `expires_in` is longer.
    Capped {
        /// `expires_in`.
        stated: Duration,
    },
    /// The time until the token's own `exp`.
    OwnExpiry {
        /// The lifetime that the response states.
        stated: Duration,
    },
}

/// Why a request failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FetchError {
    /// Domo rejected the request; only other credentials or scopes can help.
    Denied {
        /// Whether only this scope set is rejected, not the client.
        scope_only: bool,
        /// Whether the response has the form of an error of Domo's token endpoint. A proxy or gateway on this host's
        /// way to Domo may have sent another one, which concerns no other host.
        in_domos_form: bool,
        /// Domo's message, on one line.
        message: String,
    },
    /// The proxy rejected its login (407); only another login can help.
    ProxyLogin {
        /// The proxy's message, on one line.
        message: String,
    },
    /// Another attempt may succeed.
    Transient {
        /// The kind of failure, for metrics and back-off.
        cause: Cause,
        /// The error, on one line.
        message: String,
        /// The server's `Retry-After`.
        retry_after: Option<Duration>,
    },
}

impl FetchError {
    /// Returns a transient failure without a `Retry-After`.
    #[must_use]
    pub fn transient(cause: Cause, message: impl Into<String>) -> Self {
        Self::Transient {
            cause,
            message: message.into(),
            retry_after: None,
        }
    }
}

/// The kinds of transient failure. Their order is part of the fleet's records: variants are only ever added, at the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Cause {
    /// No connection: refused, unreachable, no such host, closed early.
    Connect,
    /// No response in time.
    Timeout,
    /// The server's certificate or its TLS is not acceptable.
    Tls,
    /// The proxy did not open a tunnel, for another reason than its login; or a proxy that is not
    /// configured requires a login.
    Proxy,
    /// Status 429.
    RateLimited,
    /// Status 5xx, 408 or 425.
    Server,
    /// A redirect, which is not followed because it would send the secret elsewhere.
    RedirectRefused,
    /// There is no token endpoint at this URL.
    NotFound,
    /// A response that no token endpoint sends.
    Unusable,
}

impl Cause {
    /// Returns whether the operator has to fix something, so that quick retries are useless.
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

//! The record of requests and responses.

use std::fmt;
use std::time::Duration;

/// A token request.
#[derive(Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Recorded {
    /// The time from the sandbox's start to its receipt.
    pub at: Duration,
    /// The HTTP method.
    pub method: String,
    /// The path.
    pub path: String,
    /// The parameter `grant_type`.
    pub grant_type: Option<String>,
    /// The parameter `scope`, as sent.
    pub scope: Option<String>,
    /// The user of HTTP Basic.
    pub client_id: Option<String>,
    /// Whether the query had parameters.
    pub in_query: bool,
    /// The status of the response, if one was started.
    pub status: Option<u16>,
    /// The time from the sandbox's start to the start of the response.
    pub answered_at: Option<Duration>,
    /// The token issued.
    pub token: Option<String>,
}

impl fmt::Debug for Recorded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Recorded")
            .field("at", &self.at)
            .field("method", &self.method)
            .field("path", &self.path)
            .field("scope", &self.scope)
            .field("in_query", &self.in_query)
            .field("status", &self.status)
            .finish_non_exhaustive()
    }
}

/// A call of the protected resource.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ResourceCall {
    /// The time from the sandbox's start to its receipt.
    pub at: Duration,
    /// The HTTP method.
    pub method: String,
    /// The path.
    pub path: String,
    /// The status of the response.
    pub status: u16,
    /// Whether this sandbox issued its token, which may have expired.
    pub token_known: bool,
    /// The client that the token was issued to.
    pub client_id: Option<String>,
    /// The bytes of the body that were received until the response.
    pub body_bytes: u64,
    /// The time from the sandbox's start to the response.
    pub answered_at: Duration,
    /// Whether the response was a fault of [`crate::Sandbox::script_calls`] or [`crate::Sandbox::always_in_calls`], or the
    /// connection was closed by one. The status is then that of the fault, or 0 without a response.
    pub is_fault: bool,
}

/// Fewer token requests than expected were received in time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooFew {
    /// The expected number.
    pub expected: usize,
    /// The number received.
    pub received: usize,
}

impl fmt::Display for TooFew {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} token requests within the timeout, expected {}",
            self.received, self.expected
        )
    }
}

impl std::error::Error for TooFew {}

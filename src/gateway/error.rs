//! Why the gateway does not forward a request or issue a token, and the response that reports it, in the form of Domo's
//! errors. At the token endpoint it also has the members of OAuth's errors (RFC 6749 §5.2).
//!
//! A response contains neither the query nor a header value of the request.

use std::borrow::Cow;
use std::fmt;
use std::time::Duration;

use domo_token_protocol::scope::ScopeSet;
use serde::Serialize;
use zeroize::Zeroizing;

use super::chunked::ChunkError;
use super::local_token::InvalidToken;
use super::own_response::{Delivery, Status, response};
use super::target::{TOKEN_PATH, TargetError};
use crate::request_head::{HeadError, HeadErrorKind};

/// The most characters of a path in a response.
const MAX_PATH: usize = 300;

/// When a request that a limit rejects may be sent again.
const BUSY_RETRY: Duration = Duration::from_secs(1);

/// When a request without a token may be sent again if the broker has no better time.
const TOKEN_RETRY: Duration = Duration::from_secs(5);

/// Why the gateway itself answers a request with an error.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// The head is invalid.
    Head(HeadError),
    /// The target is invalid, or the gateway has no such path.
    Target(TargetError),
    /// The request contains what the gateway does not forward.
    Invalid(&'static str),
    /// The body has another transfer coding than `chunked`.
    TransferCoding,
    /// `Expect` is not `100-continue`.
    Expectation,
    /// The method is not forwarded, or the token endpoint does not have it.
    Method { allow: &'static str },
    /// The chunked body is invalid.
    Chunk(ChunkError),
    /// The body of a token request is too long.
    BodyTooLong,
    /// The request did not arrive in time.
    Late,
    /// There is no valid local token.
    Token(InvalidToken),
    /// No rule of the application allows the request.
    NoRule,
    /// The local token lacks scopes that the rule needs.
    MissingScopes(ScopeSet),
    /// The application has too many connections.
    AppConnections { max: usize },
    /// The gateway has too many connections, or no memory for buffers.
    Busy,
    /// The application cannot be used because of a file; the message names it.
    AppUnusable(String),
    /// There is no token of Domo.
    NoToken {
        message: String,
        retry_after: Option<Duration>,
    },
    /// The request could not be sent to Domo, or the response is invalid.
    Unreachable(String),
    /// Domo has not answered in time.
    NoAnswer,
    /// A token request has wrong or no credentials.
    InvalidClient(&'static str),
    /// A token request is malformed.
    InvalidRequest(&'static str),
    /// A token request is not one for client credentials.
    GrantType,
    /// A token request names scopes that are no scopes.
    ScopeSyntax,
    /// A token request names scopes that the application does not have.
    Scope { excess: String, allowed: ScopeSet },
}

/// A short random id of an error response, also in the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Toe(pub u64);

/// Two groups of five characters, of the 50 low bits.
impl fmt::Display for Toe {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Without letters and digits that look alike.
        const DIGITS: &[u8; 32] = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";
        for at in (0..10).rev() {
            let digit = usize::try_from((self.0 >> (5 * at)) & 31).unwrap_or_default();
            let digit = DIGITS.get(digit).copied().unwrap_or_default();
            write!(f, "{}{}", char::from(digit), if at == 5 { "-" } else { "" })?;
        }
        Ok(())
    }
}

/// The message for callers: one line without secrets.
impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = match self {
            Self::Head(error) => &*error.detail,
            Self::Target(error) => return error.fmt(f),
            Self::Chunk(error) => return error.fmt(f),
            Self::Token(error) => return error.fmt(f),
            Self::Invalid(text) | Self::InvalidClient(text) | Self::InvalidRequest(text) => text,
            Self::AppUnusable(text) => text,
            Self::NoToken { message, .. } => {
                return write!(f, "no access token for this request: {message}");
            }
            Self::Unreachable(text) => return write!(f, "the request to Domo failed: {text}"),
            Self::AppConnections { max } => {
                return write!(f, "connection limit per application reached ({max})");
            }
            Self::MissingScopes(scopes) => {
                return write!(
                    f,
                    "the request needs the scopes {scopes}; get a token with them from /oauth/token"
                );
            }
            Self::Scope { excess, allowed } => {
                return write!(
                    f,
                    "the application may not have the scopes {excess} (allowed: {allowed})"
                );
            }
            Self::Method { allow } => return write!(f, "invalid method; use {allow}"),
            Self::TransferCoding => "the only transfer coding of a body is chunked",
            Self::Expectation => "the only expectation is 100-continue",
            Self::BodyTooLong => "the body of a token request has at most 8 KiB",
            Self::Late => "the request did not arrive in time",
            Self::NoRule => "no rule of the application allows this method and path",
            Self::Busy => "the gateway is busy: its limit of connections or buffers is reached",
            Self::NoAnswer => "Domo did not answer in time",
            Self::GrantType => "grant_type must be client_credentials",
            Self::ScopeSyntax => "scope must be names of scopes, separated by spaces",
        };
        f.write_str(text)
    }
}

/// The body of an error response.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Body<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<&'static str>,
    #[serde(rename = "error_description", skip_serializing_if = "Option::is_none")]
    error_description: Option<&'a str>,
    status: u16,
    status_reason: &'static str,
    path: Cow<'a, str>,
    message: &'a str,
    toe: String,
}

impl Refusal {
    /// Returns the status of the response. At the token endpoint, it is never 401: with that, the SDK for Node sends its
    /// request again for ever.
    #[must_use]
    pub const fn status(&self) -> Status {
        match self {
            Self::Head(error) => match error.kind {
                HeadErrorKind::BadRequest => Status(400, "Bad Request"),
                HeadErrorKind::ForbiddenOrigin => Status(403, "Forbidden"),
                HeadErrorKind::TooLarge => Status(431, "Request Header Fields Too Large"),
                HeadErrorKind::VersionNotSupported => Status(505, "HTTP Version Not Supported"),
            },
            Self::Target(TargetError::NotFound) => Status(404, "Not Found"),
            Self::Target(_)
            | Self::Invalid(_)
            | Self::Chunk(_)
            | Self::InvalidClient(_)
            | Self::InvalidRequest(_)
            | Self::GrantType
            | Self::ScopeSyntax
            | Self::Scope { .. } => Status(400, "Bad Request"),
            Self::Token(_) => Status(401, "Unauthorized"),
            Self::NoRule | Self::MissingScopes(_) => Status(403, "Forbidden"),
            Self::Method { .. } => Status(405, "Method Not Allowed"),
            Self::Late => Status(408, "Request Timeout"),
            Self::BodyTooLong => Status(413, "Content Too Large"),
            Self::Expectation => Status(417, "Expectation Failed"),
            Self::AppConnections { .. } => Status(429, "Too Many Requests"),
            Self::TransferCoding => Status(501, "Not Implemented"),
            Self::Unreachable(_) => Status(502, "Bad Gateway"),
            Self::Busy | Self::AppUnusable(_) | Self::NoToken { .. } => {
                Status(503, "Service Unavailable")
            }
            Self::NoAnswer => Status(504, "Gateway Timeout"),
        }
    }

    /// Returns when the request may be sent again, in seconds rounded up.
    #[must_use]
    pub fn retry_after_s(&self) -> Option<u64> {
        let after = if let Self::NoToken { retry_after, .. } = self {
            retry_after.unwrap_or(TOKEN_RETRY)
        } else if matches!(self, Self::AppUnusable(_)) {
            TOKEN_RETRY
        } else if matches!(self, Self::Busy | Self::AppConnections { .. }) {
            BUSY_RETRY
        } else {
            return None;
        };
        let is_more = after.subsec_nanos() > 0;
        Some(after.as_secs().saturating_add(u64::from(is_more)).max(1))
    }

    /// Returns whether the connection must end, because where the next request begins is not known.
    #[must_use]
    pub const fn must_close(&self) -> bool {
        match self {
            Self::Head(_)
            | Self::Target(_)
            | Self::Invalid(_)
            | Self::TransferCoding
            | Self::Expectation
            | Self::Method { .. }
            | Self::Chunk(_)
            | Self::BodyTooLong
            | Self::Late
            | Self::AppConnections { .. }
            | Self::Busy => true,
            Self::Token(_)
            | Self::NoRule
            | Self::MissingScopes(_)
            | Self::AppUnusable(_)
            | Self::NoToken { .. }
            | Self::Unreachable(_)
            | Self::NoAnswer
            | Self::InvalidClient(_)
            | Self::InvalidRequest(_)
            | Self::GrantType
            | Self::ScopeSyntax
            | Self::Scope { .. } => false,
        }
    }

    /// Returns the response to a request for this path, which is empty if it is not known.
    #[must_use]
    pub fn response(&self, path: &str, toe: Toe, delivery: Delivery) -> Zeroizing<Vec<u8>> {
        let mut fields = Vec::new();
        if let Some(seconds) = self.retry_after_s() {
            fields.push(format!("Retry-After: {seconds}"));
        }
        if let Self::Token(error) = self {
            let is_missing = *error == InvalidToken::Missing;
            let error = if is_missing {
                ""
            } else {
                " error=\"invalid_token\""
            };
            fields.push(format!("WWW-Authenticate: Bearer{error}"));
        }
        if let Self::Method { allow } = self {
            fields.push(format!("Allow: {allow}"));
        }
        let delivery = Delivery {
            closes: delivery.closes || self.must_close(),
            ..delivery
        };
        response(self.status(), &fields, &self.body(path, toe), delivery)
    }

    fn body(&self, path: &str, toe: Toe) -> Vec<u8> {
        let path = path.split('?').next().unwrap_or_default();
        let message = self.to_string();
        let Status(status, status_reason) = self.status();
        let error = if path == TOKEN_PATH {
            Some(self.oauth_error())
        } else if matches!(self, Self::Token(_)) {
            // RFC 6750 §3.1, as Domo has them.
            Some("invalid_token")
        } else {
            matches!(self, Self::MissingScopes(_)).then_some("insufficient_scope")
        };
        let body = Body {
            error,
            error_description: error.map(|_| message.as_str()),
            status,
            status_reason,
            path: shortened(path),
            message: &message,
            toe: toe.to_string(),
        };
        // Texts and numbers can be serialized.
        serde_json::to_vec(&body).unwrap_or_default()
    }

    /// Returns OAuth's name for it at the token endpoint.
    const fn oauth_error(&self) -> &'static str {
        if matches!(self, Self::InvalidClient(_)) {
            "invalid_client"
        } else if matches!(self, Self::GrantType) {
            "unsupported_grant_type"
        } else if matches!(self, Self::ScopeSyntax | Self::Scope { .. }) {
            "invalid_scope"
        } else {
            match self.status().0 {
                429 | 503 => "temporarily_unavailable",
                500.. => "server_error",
                _ => "invalid_request",
            }
        }
    }
}

/// Returns the first [`MAX_PATH`] characters.
fn shortened(path: &str) -> Cow<'_, str> {
    match path.char_indices().nth(MAX_PATH) {
        Some((end, _)) => Cow::Owned(format!("{}…", path.get(..end).unwrap_or_default())),
        None => Cow::Borrowed(path),
    }
}
#[cfg(test)]
mod tests;

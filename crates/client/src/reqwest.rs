//! Calls Domo with the app's own [reqwest](https://docs.rs/reqwest) client.
//!
//! An `Authorizer` adds the token to a request and sends it. If Domo rejects the token (401, or 406 if CSV was
//! requested), it renews it and sends the request once more.
//!
//! - A request whose body cannot be sent twice, such as a stream, is sent once: the first response is returned, and the
//!   next call has another token.
//! - The first response is also returned if there is no other token.
//! - A header `Authorization` on the request is replaced. `Accept` counts if it is on the request, not
//!   if it is among the client's defaults.
//!
//! The one here is for reqwest's async client (feature `reqwest-0-13`), the one in `blocking` for its blocking client (feature
//! `reqwest-0-13-blocking`).

#[cfg(feature = "reqwest-0-13")]
mod asynchronous;
#[cfg(feature = "reqwest-0-13-blocking")]
pub mod blocking;

use std::fmt;

use reqwest::StatusCode;
use reqwest::header::{ACCEPT, AUTHORIZATION, HeaderMap, HeaderValue};

use crate::error::Error;
use crate::token::Token;

#[cfg(feature = "reqwest-0-13")]
pub use asynchronous::Authorizer;

/// Why there is no response.
#[derive(Debug)]
#[non_exhaustive]
pub enum SendError {
    /// The broker returned no token; nothing was sent.
    Token(Error),
    /// reqwest's error.
    Http(reqwest::Error),
}

impl fmt::Display for SendError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Token(error) => error.fmt(f),
            Self::Http(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for SendError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Token(error) => error.source(),
            Self::Http(error) => error.source(),
        }
    }
}

impl From<Error> for SendError {
    fn from(error: Error) -> Self {
        Self::Token(error)
    }
}

impl From<reqwest::Error> for SendError {
    fn from(error: reqwest::Error) -> Self {
        Self::Http(error)
    }
}

/// Sets the token of a request.
fn authorize(headers: &mut HeaderMap, token: &Token) -> Result<(), Error> {
    let value = HeaderValue::try_from(token.authorization()).map_err(|_| {
        Error::protocol("the broker returned a token that is not valid in a header")
    })?;
    headers.insert(AUTHORIZATION, value);
    Ok(())
}

fn accepts_csv(headers: &HeaderMap) -> bool {
    let csv = |kinds: &HeaderValue| kinds.to_str().is_ok_and(|kinds| kinds.contains("text/csv"));
    headers.get_all(ACCEPT).iter().any(csv)
}

/// Returns whether Domo rejects a token by that status.
fn rejects_token(status: StatusCode, accepts_csv: bool) -> bool {
    status == StatusCode::UNAUTHORIZED || (accepts_csv && status == StatusCode::NOT_ACCEPTABLE)
}

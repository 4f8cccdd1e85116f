//! Calls Domo with [reqwest](https://docs.rs/reqwest), set up as the app likes.
//!
//! An `Authorizer` adds the token to a request and sends it. When Domo refuses the token (401, or 406
//! where CSV was asked for) it renews it and sends the request once more.
//!
//! - A request whose body can't be sent twice, such as a stream, is sent once: the first answer is
//!   returned as it is, and the next call has another token.
//! - The first answer is returned, too, if no other token can be had: it says what Domo thinks.
//! - A header `Authorization` on the request is replaced. `Accept` counts if it is on the request, not
//!   if it is among the client's defaults.
//!
//! The one here is for reqwest's async client (feature `reqwest`); the one in `blocking` for its
//! blocking client (feature `reqwest-blocking`).

#[cfg(feature = "reqwest")]
mod asynchronous;
#[cfg(feature = "reqwest-blocking")]
pub mod blocking;

use std::fmt;

use reqwest::StatusCode;
use reqwest::header::{ACCEPT, AUTHORIZATION, HeaderMap, HeaderValue};

use crate::error::Error;
use crate::token::Token;

#[cfg(feature = "reqwest")]
pub use asynchronous::Authorizer;

/// Why there is no answer: no token, or no HTTP.
#[derive(Debug)]
#[non_exhaustive]
pub enum SendError {
    /// The broker gave no token; nothing was sent.
    Token(Error),
    /// What reqwest says.
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

/// Puts the token on a request, in place of what was there.
fn authorize(headers: &mut HeaderMap, token: &Token) -> Result<(), Error> {
    let value = HeaderValue::try_from(token.authorization()).map_err(|_| Error::Broken {
        cause: "the broker gave a token that no header can carry".to_owned(),
    })?;
    headers.insert(AUTHORIZATION, value);
    Ok(())
}

fn wants_csv(headers: &HeaderMap) -> bool {
    let csv = |kinds: &HeaderValue| kinds.to_str().is_ok_and(|kinds| kinds.contains("text/csv"));
    headers.get_all(ACCEPT).iter().any(csv)
}

/// Whether this is how Domo refuses a token.
fn is_refusal(status: StatusCode, wants_csv: bool) -> bool {
    status == StatusCode::UNAUTHORIZED || (wants_csv && status == StatusCode::NOT_ACCEPTABLE)
}

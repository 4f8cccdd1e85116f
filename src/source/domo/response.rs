//! PURE. What a token endpoint's answer means.

mod body;
mod error_body;
mod headers;
mod json;
mod lifetime;
mod rejection;
mod responder;
mod token;

use std::time::SystemTime;

use domo_token_protocol::scope::ScopeSet;
use hyper::StatusCode;
use hyper::header::HeaderMap;
use zeroize::Zeroizing;

use crate::config::Naming;
use crate::connect::Secrets;
use domo_token_core::fetch::{FetchError, Fetched};

#[cfg(test)]
pub(super) use body::{MAX_CODINGS, MAX_MEMBERS};
pub(super) use headers::retry_after;
#[cfg(test)]
pub(super) use json::MAX_ITEMS;
#[cfg(test)]
pub(super) use lifetime::{EXPIRY_TOLERANCE, LIFETIME_ASSUMED, LIFETIME_MAX};
use responder::Responder;

/// A whole answer, as HTTP brought it.
pub(super) struct Answer {
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
    /// What has come of the body.
    pub(super) body: Zeroizing<Vec<u8>>,
    /// When its head was read.
    pub(super) received: SystemTime,
    /// Why it is not the whole body.
    pub(super) cut: Option<FetchError>,
}

/// Returns what an answer to a request for `asked` means. Nothing of `secrets` gets into
/// messages; `place` names the server, `naming` the settings.
pub(super) fn read(
    answer: &Answer,
    asked: &ScopeSet,
    secrets: Secrets<'_>,
    place: &str,
    naming: Naming,
) -> Result<Fetched, FetchError> {
    let sender = Responder::new(answer, secrets, place, naming);
    let result = if answer.status == StatusCode::OK {
        token::read(answer, asked, &sender)
    } else {
        Err(rejection::read(answer, &sender))
    };
    result.map_err(|error| with_retry_after(error, answer))
}

/// Whatever is wrong with an answer: it may ask to be left alone.
fn with_retry_after(error: FetchError, answer: &Answer) -> FetchError {
    match error {
        FetchError::Transient {
            cause,
            message: words,
            retry_after: None,
        } => FetchError::Transient {
            cause,
            message: words,
            retry_after: retry_after(&answer.headers, answer.received),
        },
        FetchError::Transient { .. }
        | FetchError::Denied { .. }
        | FetchError::ProxyLogin { .. } => error,
    }
}

#[cfg(test)]
mod tests;

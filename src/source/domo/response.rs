//! Classifies the responses of a token endpoint.

mod content_encoding;
mod error_body;
mod error_response;
mod headers;
mod json;
mod lifetime;
mod responder_name;
mod token;

use std::time::SystemTime;

use domo_token_protocol::scope::ScopeSet;
use hyper::StatusCode;
use hyper::header::HeaderMap;
use zeroize::Zeroizing;

use crate::config::Naming;
use crate::connect::Secrets;
use domo_token_core::fetch_result::{FetchError, Fetched};

#[cfg(test)]
pub(super) use content_encoding::{MAX_CODINGS, MAX_MEMBERS};
pub(super) use headers::{ends_with_connection, retry_after};
#[cfg(test)]
pub(super) use json::MAX_ITEMS;
#[cfg(test)]
pub(super) use lifetime::{EXPIRY_TOLERANCE, LIFETIME_ASSUMED, LIFETIME_MAX};
use responder_name::Responder;

/// A response as HTTP delivered it.
pub(super) struct Answer {
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
    /// What was received of the body.
    pub(super) body: Zeroizing<Vec<u8>>,
    /// When its head was received.
    pub(super) received: SystemTime,
    /// Why the body is incomplete.
    pub(super) cut: Option<FetchError>,
}

/// Returns the token of a response to a request for `requested`, or the error. Messages contain nothing of `secrets`, name
/// the server `server_name`, and name settings by `naming`.
pub(super) fn read(
    answer: &Answer,
    requested: &ScopeSet,
    secrets: Secrets<'_>,
    server_name: &str,
    naming: Naming,
) -> Result<Fetched, FetchError> {
    let responder = Responder::new(answer, secrets, server_name, naming);
    let result = if answer.status == StatusCode::OK {
        token::read(answer, requested, &responder)
    } else {
        Err(error_response::read(answer, &responder))
    };
    result.map_err(|mut error| {
        if let FetchError::Transient {
            retry_after: wait @ None,
            ..
        } = &mut error
        {
            *wait = retry_after(&answer.headers, answer.received);
        }
        error
    })
}

#[cfg(test)]
mod tests;

//! Responses, and errors in Domo's form.

use std::io;

use hyper::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderValue, PRAGMA};
use hyper::{Response, StatusCode};
use serde_json::{Value, json};

use crate::body::Answer;
use crate::token;

/// The error that closes the connection without a response.
pub(crate) type Closed = io::Error;

/// Returns an error in Domo's form.
pub(crate) fn domo_error(status: u16, message: &str, path: &str) -> Value {
    json!({
        "status": status,
        "statusReason": reason(status),
        "path": path,
        "message": message,
        "toe": token::trace_id(),
    })
}

/// Returns the reason phrase of a status.
pub(crate) fn reason(status: u16) -> &'static str {
    let status = StatusCode::from_u16(status).ok();
    status
        .and_then(|status| status.canonical_reason())
        .unwrap_or("Error")
}

pub(crate) const JSON: &str = "application/json;charset=UTF-8";

pub(crate) fn json_response(status: u16, body: &Value) -> Response<Answer> {
    respond(
        status,
        Answer::whole(body.to_string().into_bytes()),
        Some(JSON),
    )
}

pub(crate) fn respond(
    status: u16,
    body: Answer,
    content_type: Option<&'static str>,
) -> Response<Answer> {
    let mut response = Response::new(body);
    *response.status_mut() =
        StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let headers = response.headers_mut();
    if let Some(content_type) = content_type {
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    }
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(PRAGMA, HeaderValue::from_static("no-cache"));
    response
}

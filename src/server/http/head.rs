//! What matters of the head of a request on the socket.

use std::mem::MaybeUninit;

use crate::request_head::{
    self, BodyLength, ForwardedFields, HeadError, HeadErrorKind, RequestHead,
};

use super::problem::{Kind, Problem};

pub(super) use request_head::empty_lines;

/// The longest head, in bytes.
pub(in crate::server) const MAX_HEAD: usize = 8 * 1024;

/// The most header fields.
pub(super) const MAX_HEADERS: usize = 64;

/// What matters of a head.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Head<'a> {
    pub(super) method: Method,
    /// The path and the query.
    pub(super) target: &'a str,
    /// Whether a body follows.
    pub(super) has_body: bool,
    /// Whether the caller closes the connection after this request.
    pub(super) closes: bool,
    /// The values of `If-None-Match`.
    pub(super) if_none_match: Vec<&'a str>,
    pub(super) last_event_id: Option<&'a str>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Method {
    Get,
    Head,
    Other,
}

impl Method {
    /// Returns the method of a request by its first bytes, even if the request is invalid.
    pub(super) fn of(start: &[u8]) -> Self {
        if start.starts_with(b"GET ") {
            Self::Get
        } else if start.starts_with(b"HEAD ") || start == b"HEAD" {
            Self::Head
        } else {
            Self::Other
        }
    }
}

/// Returns the length of the head at the start of `bytes`, once it is complete. Of these bytes, `seen` were searched
/// before.
///
/// # Errors
///
/// [`Kind::HeadTooLarge`] if it is longer than [`MAX_HEAD`].
pub(in crate::server) fn length(bytes: &[u8], seen: usize) -> Result<Option<usize>, Problem> {
    Ok(request_head::length(bytes, seen, MAX_HEAD)?)
}

/// Parses a complete head.
///
/// # Errors
///
/// What is wrong with it. Where the next request begins is then unknown.
pub(super) fn parse(bytes: &[u8]) -> Result<Head<'_>, Problem> {
    let mut storage = [const { MaybeUninit::uninit() }; MAX_HEADERS];
    let head = request_head::parse(bytes, &mut storage, ForwardedFields::Reject)?;
    let RequestHead {
        method,
        target,
        body,
        fields,
    } = head;
    Ok(Head {
        method: match method {
            "GET" => Method::Get,
            "HEAD" => Method::Head,
            _ => Method::Other,
        },
        target,
        has_body: body != BodyLength::None,
        closes: fields.closes(),
        if_none_match: fields.texts("if-none-match").collect(),
        last_event_id: fields.texts("last-event-id").next(),
    })
}

impl From<HeadError> for Problem {
    fn from(error: HeadError) -> Self {
        let kind = match error.kind {
            HeadErrorKind::BadRequest => Kind::BadRequest,
            HeadErrorKind::ForbiddenOrigin => Kind::ForbiddenOrigin,
            HeadErrorKind::TooLarge => Kind::HeadTooLarge,
            HeadErrorKind::VersionNotSupported => Kind::VersionNotSupported,
        };
        Self::new(kind, error.detail)
    }
}

#[cfg(test)]
mod tests;

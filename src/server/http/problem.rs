//! Errors as problem details (RFC 9457).

use std::time::Duration;

use domo_token_protocol::BootTime;
use domo_token_protocol::messages::{Refusal, RefusalKind};
use serde::Serialize;

/// What failed, as the body and the status of a response.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::server) struct Problem {
    pub(super) kind: Kind,
    pub(super) detail: String,
    pub(super) retry_after: Option<Duration>,
    /// The methods that the path has, if that is the problem.
    pub(super) allow: Option<&'static str>,
}

/// The kinds of problems.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::server) enum Kind {
    BadRequest,
    ForbiddenOrigin,
    NotFound,
    MethodNotAllowed,
    HeadTooLarge,
    VersionNotSupported,
    Bug,
    Refused(RefusalKind),
}

impl Kind {
    /// Returns its name: the end of the problem's `type`.
    pub(in crate::server) const fn name(self) -> &'static str {
        match self {
            Self::BadRequest => "bad_request",
            Self::ForbiddenOrigin => "forbidden_origin",
            Self::NotFound => "not_found",
            Self::MethodNotAllowed => "method_not_allowed",
            Self::HeadTooLarge => "head_too_large",
            Self::VersionNotSupported => "version_not_supported",
            Self::Bug => "bug",
            Self::Refused(kind) => kind.name(),
        }
    }

    pub(super) const fn status(self) -> Status {
        match self {
            Self::BadRequest => Status::BAD_REQUEST,
            Self::ForbiddenOrigin => Status::FORBIDDEN,
            Self::NotFound => Status::NOT_FOUND,
            Self::MethodNotAllowed => Status::METHOD_NOT_ALLOWED,
            Self::HeadTooLarge => Status::HEAD_TOO_LARGE,
            Self::VersionNotSupported => Status::VERSION_NOT_SUPPORTED,
            Self::Bug => Status::BUG,
            Self::Refused(kind) => match kind {
                RefusalKind::NotPermitted => Status::FORBIDDEN,
                RefusalKind::UnknownClient | RefusalKind::UnknownScope => Status::NOT_FOUND,
                RefusalKind::MinTtlTooLong => Status::CONFLICT,
                RefusalKind::Gone => Status::GONE,
                RefusalKind::Denied => Status::FAILED_DEPENDENCY,
                RefusalKind::Busy => Status::TOO_MANY_REQUESTS,
                RefusalKind::Unavailable => Status::UNAVAILABLE,
            },
        }
    }

    const fn title(self) -> &'static str {
        match self {
            Self::BadRequest => "The request is invalid",
            Self::ForbiddenOrigin => "Requests of web pages and proxies are rejected",
            Self::NotFound => "Not found",
            Self::MethodNotAllowed => "The path does not have this method",
            Self::HeadTooLarge => "The head of the request is too large",
            Self::VersionNotSupported => "The HTTP version is not supported",
            Self::Bug => "The broker has a bug",
            Self::Refused(kind) => match kind {
                RefusalKind::NotPermitted => "The caller may not have this token",
                RefusalKind::UnknownClient => "No such API client",
                RefusalKind::UnknownScope => "No such scope set",
                RefusalKind::MinTtlTooLong => "No token is valid for that long",
                RefusalKind::Gone => "The scope set was removed",
                RefusalKind::Denied => "Rejected by Domo",
                RefusalKind::Busy => "The broker is busy",
                RefusalKind::Unavailable => "No token is available now",
            },
        }
    }

    /// Returns the exit code that the helper has for it.
    const fn exit_code(self) -> u8 {
        match self {
            Self::BadRequest
            | Self::ForbiddenOrigin
            | Self::NotFound
            | Self::MethodNotAllowed
            | Self::HeadTooLarge
            | Self::VersionNotSupported => 2,
            Self::Bug => 70,
            Self::Refused(kind) => match kind {
                RefusalKind::NotPermitted => 77,
                RefusalKind::UnknownClient
                | RefusalKind::UnknownScope
                | RefusalKind::MinTtlTooLong
                | RefusalKind::Gone
                | RefusalKind::Denied => 78,
                RefusalKind::Busy | RefusalKind::Unavailable => 75,
            },
        }
    }
}

/// A status code and its reason phrase.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Status(pub(super) u16, pub(super) &'static str);

impl Status {
    pub(super) const OK: Self = Self(200, "OK");
    pub(super) const NOT_MODIFIED: Self = Self(304, "Not Modified");
    const BAD_REQUEST: Self = Self(400, "Bad Request");
    const FORBIDDEN: Self = Self(403, "Forbidden");
    const NOT_FOUND: Self = Self(404, "Not Found");
    const METHOD_NOT_ALLOWED: Self = Self(405, "Method Not Allowed");
    const CONFLICT: Self = Self(409, "Conflict");
    const GONE: Self = Self(410, "Gone");
    const FAILED_DEPENDENCY: Self = Self(424, "Failed Dependency");
    const TOO_MANY_REQUESTS: Self = Self(429, "Too Many Requests");
    const HEAD_TOO_LARGE: Self = Self(431, "Request Header Fields Too Large");
    const BUG: Self = Self(500, "Internal Server Error");
    pub(super) const UNAVAILABLE: Self = Self(503, "Service Unavailable");
    const VERSION_NOT_SUPPORTED: Self = Self(505, "HTTP Version Not Supported");
}

/// The body of a problem.
#[derive(Serialize)]
struct Body<'a> {
    r#type: String,
    title: &'static str,
    status: u16,
    detail: &'a str,
    exit_code: u8,
    #[serde(skip_serializing_if = "Option::is_none")]
    retry_after_ms: Option<u64>,
}

impl Problem {
    pub(super) fn new(kind: Kind, detail: impl Into<String>) -> Self {
        Self {
            kind,
            detail: detail.into(),
            retry_after: None,
            allow: None,
        }
    }

    /// Returns the problem of a caller that may try again.
    pub(in crate::server) fn busy(detail: impl Into<String>) -> Self {
        Self {
            retry_after: Some(BUSY_RETRY),
            ..Self::new(Kind::Refused(RefusalKind::Busy), detail)
        }
    }

    pub(in crate::server) fn of_refusal(refusal: Refusal, now: BootTime) -> Self {
        if refusal.kind == RefusalKind::Busy {
            return Self::busy(refusal.cause);
        }
        Self {
            retry_after: refusal.next_attempt.map(|next| next.saturating_since(now)),
            ..Self::new(Kind::Refused(refusal.kind), refusal.cause)
        }
    }

    /// Returns the milliseconds until an attempt can succeed, if known.
    pub(super) fn retry_after_ms(&self) -> Option<u64> {
        let millis = self.retry_after?.as_millis();
        u64::try_from(millis).ok()
    }

    /// Returns the JSON text.
    pub(super) fn to_json(&self) -> Vec<u8> {
        let kind = self.kind;
        let body = Body {
            r#type: format!("urn:domo-token:{}", kind.name()),
            title: kind.title(),
            status: kind.status().0,
            detail: &self.detail,
            exit_code: kind.exit_code(),
            retry_after_ms: self.retry_after_ms(),
        };
        // All fields can be serialized.
        let mut text = serde_json::to_vec(&body).unwrap_or_default();
        text.push(b'\n');
        text
    }
}

/// When a caller that is rejected by a limit may try again.
const BUSY_RETRY: Duration = Duration::from_secs(1);

//! Responses as bytes: the head, and bodies of a known length or in chunks.

use std::time::SystemTime;

use super::body::Body;
use super::head::Method;
use super::problem::{Problem, Status};

pub(super) const JSON: &str = "application/json";
pub(super) const TEXT: &str = "text/plain; charset=utf-8";
pub(super) const EVENTS: &str = "text/event-stream";
pub(super) const PROBLEM: &str = "application/problem+json";

/// A whole response.
pub(in crate::server) struct Response {
    pub(super) status: Status,
    pub(super) content_type: &'static str,
    pub(super) generation: Option<u64>,
    pub(super) allow: Option<&'static str>,
    pub(super) retry_after_ms: Option<u64>,
    pub(super) body: Body,
}

impl Response {
    pub(super) fn new(status: Status, content_type: &'static str, body: impl Into<Body>) -> Self {
        Self {
            status,
            content_type,
            generation: None,
            allow: None,
            retry_after_ms: None,
            body: body.into(),
        }
    }

    pub(super) fn not_modified(generation: u64) -> Self {
        Self {
            generation: Some(generation),
            ..Self::new(Status::NOT_MODIFIED, JSON, Vec::new())
        }
    }

    /// Returns the head, with the length of the body.
    pub(super) fn head(&self, end: ConnectionEnd, now: SystemTime) -> Vec<u8> {
        let mut head = start(self.status, end, now);
        if self.status != Status::NOT_MODIFIED {
            field(&mut head, "Content-Type", self.content_type);
            field(&mut head, "Content-Length", &self.body.len().to_string());
        }
        if let Some(generation) = self.generation {
            field(&mut head, "ETag", &format!("\"{generation}\""));
        }
        if let Some(methods) = self.allow {
            field(&mut head, "Allow", methods);
        }
        if let Some(millis) = self.retry_after_ms {
            let seconds = millis.div_ceil(1000);
            field(&mut head, "Retry-After", &seconds.to_string());
        }
        head.extend_from_slice(b"\r\n");
        head
    }

    /// Returns the pieces of the body, which a response to HEAD does not have.
    pub(super) fn body_for(&self, method: Method) -> [&[u8]; 3] {
        match method {
            Method::Head => Default::default(),
            Method::Get | Method::Other => self.body.pieces(),
        }
    }
}

impl From<Problem> for Response {
    fn from(problem: Problem) -> Self {
        let status = problem.kind.status();
        Self {
            allow: problem.allow,
            retry_after_ms: problem.retry_after_ms(),
            ..Self::new(status, PROBLEM, problem.to_json())
        }
    }
}

/// Whether the broker closes the connection after a response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ConnectionEnd {
    KeepOpen,
    Close,
}

/// Returns the head of a response whose body is sent in chunks.
pub(super) fn chunked_head(content_type: &str, end: ConnectionEnd, now: SystemTime) -> Vec<u8> {
    let mut head = start(Status::OK, end, now);
    field(&mut head, "Content-Type", content_type);
    field(&mut head, "Transfer-Encoding", "chunked");
    head.extend_from_slice(b"\r\n");
    head
}

/// The end of a body in chunks.
pub(super) const LAST_CHUNK: &[u8] = b"0\r\n\r\n";

/// Returns what precedes a chunk of that length, which must not be zero.
pub(super) fn chunk_start(length: usize) -> String {
    format!("{length:x}\r\n")
}

/// What follows a chunk.
pub(super) const CHUNK_END: &[u8] = b"\r\n";

fn start(Status(status, reason): Status, end: ConnectionEnd, now: SystemTime) -> Vec<u8> {
    let mut head = Vec::with_capacity(256);
    append(
        &mut head,
        ["HTTP/1.1 ", &status.to_string(), " ", reason, "\r\n"],
    );
    field(&mut head, "Date", &httpdate::fmt_http_date(now));
    field(&mut head, "Cache-Control", "no-store");
    if end == ConnectionEnd::Close {
        field(&mut head, "Connection", "close");
    }
    head
}

fn field(head: &mut Vec<u8>, name: &str, value: &str) {
    append(head, [name, ": ", value, "\r\n"]);
}

/// Appends texts. A formatter would take several times as many instructions.
fn append<const N: usize>(head: &mut Vec<u8>, texts: [&str; N]) {
    for text in texts {
        head.extend_from_slice(text.as_bytes());
    }
}

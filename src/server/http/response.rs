//! Responses as bytes: the head, and bodies of a known length or in chunks.

use std::borrow::Cow;
use std::io::Write;
use std::time::SystemTime;

use zeroize::Zeroizing;

use super::head::Method;
use super::problem::{Problem, Status};

pub(super) const JSON: &str = "application/json";
pub(super) const TEXT: &str = "text/plain; charset=utf-8";
pub(super) const EVENTS: &str = "text/event-stream";
pub(super) const PROBLEM: &str = "application/problem+json";

/// The body of a response.
pub(super) enum Body {
    /// A part of the program.
    Static(&'static str),
    /// A text that may contain a token.
    Wiped(Zeroizing<Vec<u8>>),
}

impl Body {
    fn bytes(&self) -> &[u8] {
        match self {
            Self::Static(text) => text.as_bytes(),
            Self::Wiped(bytes) => bytes,
        }
    }
}

impl From<Cow<'static, str>> for Body {
    fn from(text: Cow<'static, str>) -> Self {
        match text {
            Cow::Borrowed(text) => Self::Static(text),
            Cow::Owned(text) => text.into_bytes().into(),
        }
    }
}

impl From<Vec<u8>> for Body {
    fn from(bytes: Vec<u8>) -> Self {
        Self::Wiped(bytes.into())
    }
}

impl From<Zeroizing<Vec<u8>>> for Body {
    fn from(bytes: Zeroizing<Vec<u8>>) -> Self {
        Self::Wiped(bytes)
    }
}

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
            field(
                &mut head,
                "Content-Length",
                &self.body.bytes().len().to_string(),
            );
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

    /// Returns the body, which a response to HEAD does not have.
    pub(super) fn body_for(&self, method: Method) -> &[u8] {
        match method {
            Method::Head => &[],
            Method::Get | Method::Other => self.body.bytes(),
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

/// Returns bytes, which must not be empty, as one chunk.
pub(super) fn chunk(bytes: &[u8]) -> Zeroizing<Vec<u8>> {
    let mut chunk = Zeroizing::new(Vec::with_capacity(bytes.len() + 16));
    // Writing to memory can't fail.
    let _ = write!(chunk, "{:x}\r\n", bytes.len());
    chunk.extend_from_slice(bytes);
    chunk.extend_from_slice(b"\r\n");
    chunk
}

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

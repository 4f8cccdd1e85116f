//! The request on its way to the server: its head, and its body, which may wait until the server agrees to receive it.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::AsyncWrite;

use super::buffer::Link;
use super::pump::{Pump, PumpError};
use crate::broker::app_usage::{AppUsage, Direction};
use crate::connect::Stream;

/// What an application receives that has asked whether it may send its body.
pub(super) const CONTINUE: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";

/// The body of a request.
pub(super) enum RequestBody {
    /// It is here, and can be sent several times.
    Held(Vec<u8>),
    /// It is read while it is sent.
    Streamed {
        /// Its length, if it is known.
        length: Option<u64>,
        /// What was read before, in the framing of `pump`.
        start: Vec<u8>,
        pump: Pump,
        /// Whether the application waits for the permission to send it.
        is_awaited: bool,
        /// Whether any of it was sent to a server.
        has_started: bool,
    },
}

impl RequestBody {
    /// Returns whether the whole request can be sent again.
    pub(super) fn is_intact(&self) -> bool {
        match self {
            Self::Held(_) => true,
            Self::Streamed { has_started, .. } => !has_started,
        }
    }
}

/// One request on its way.
pub(super) struct Upload<'a> {
    head: &'a [u8],
    body: &'a mut RequestBody,
    /// How much of the head and of what precedes the streamed part of the body was written.
    written: usize,
    /// Whether the body waits until the server agrees to receive it.
    pub(super) is_gated: bool,
    /// The rest of the permission for the application.
    permission: &'static [u8],
    pub(super) is_done: bool,
    /// Whether the server receives nothing more.
    pub(super) is_failed: bool,
}

impl<'a> Upload<'a> {
    pub(super) fn new(head: &'a [u8], body: &'a mut RequestBody, is_gated: bool) -> Self {
        let permission = match body {
            RequestBody::Streamed {
                is_awaited: true, ..
            } => CONTINUE,
            RequestBody::Streamed { .. } | RequestBody::Held(_) => b"",
        };
        Self {
            head,
            body,
            written: 0,
            is_gated,
            permission,
            is_done: false,
            is_failed: false,
        }
    }

    /// Returns whether any byte was sent.
    pub(super) fn has_written(&self) -> bool {
        self.written > 0
    }

    /// Returns whether the application's connection is read for the body now.
    pub(super) fn reads_body(&self) -> bool {
        let is_streamed = matches!(self.body, RequestBody::Streamed { .. });
        is_streamed && !self.is_gated && self.is_active()
    }

    /// Returns whether a part of the request is still to be sent.
    pub(super) fn is_active(&self) -> bool {
        !self.is_done && !self.is_failed
    }

    /// Returns whether the application's body, not the server, is waited for.
    pub(super) fn awaits_app(&self) -> bool {
        match &self.body {
            RequestBody::Streamed { pump, .. } => self.reads_body() && !pump.has_output(),
            RequestBody::Held(_) => false,
        }
    }

    /// Returns how many bytes were sent so far.
    pub(super) fn moved(&self) -> u64 {
        let streamed = match &self.body {
            RequestBody::Streamed { pump, .. } => pump.moved(),
            RequestBody::Held(_) => 0,
        };
        self.written as u64 + streamed
    }

    /// Returns the memory of a body that was sent.
    pub(super) fn release(&mut self) {
        if self.is_done {
            *self.body = RequestBody::Held(Vec::new());
        }
    }

    /// Returns whether only the permission of the server is missing.
    pub(super) fn awaits_permission(&self) -> bool {
        self.is_gated && self.written >= self.head.len()
    }

    /// Returns the permission for the application if a part of it was sent already: no response can precede the rest.
    pub(super) fn rest_of_permission(&self) -> &'static [u8] {
        if self.permission.len() < CONTINUE.len() {
            self.permission
        } else {
            b""
        }
    }

    /// Sends what it can. Returns once the request was sent.
    pub(super) fn poll(
        &mut self,
        context: &mut Context<'_>,
        app: &mut Link,
        server: &mut dyn Stream,
        usage: &AppUsage,
    ) -> Poll<Result<(), PumpError>> {
        let sent = ready!(self.poll_parts(context, app, server, usage));
        self.is_done = sent.is_ok();
        self.is_failed = matches!(sent, Err(PumpError::Write(_)));
        Poll::Ready(sent)
    }

    fn poll_parts(
        &mut self,
        context: &mut Context<'_>,
        app: &mut Link,
        server: &mut dyn Stream,
        usage: &AppUsage,
    ) -> Poll<Result<(), PumpError>> {
        let first = match &mut *self.body {
            _ if self.is_gated => b"",
            RequestBody::Held(bytes) => bytes.as_slice(),
            RequestBody::Streamed {
                start, has_started, ..
            } => {
                *has_started = true;
                start.as_slice()
            }
        };
        let written = poll_write_parts(context, server, [self.head, first], &mut self.written);
        ready!(written).map_err(PumpError::Write)?;
        let RequestBody::Streamed { pump, start, .. } = &mut *self.body else {
            return Pin::new(server)
                .poll_flush(context)
                .map_err(PumpError::Write);
        };
        if self.is_gated {
            ready!(Pin::new(server).poll_flush(context)).map_err(PumpError::Write)?;
            return Poll::Pending;
        }
        // It was sent, and is not needed any more.
        *start = Vec::new();
        ready!(poll_permission(context, app, &mut self.permission)).map_err(|_| PumpError::Read)?;
        let count = &mut |bytes| usage.count_bytes(Direction::Sent, bytes as u64);
        pump.poll(context, app, server, count)
    }
}

/// Sends the rest of the permission to the application.
fn poll_permission(
    context: &mut Context<'_>,
    app: &mut Link,
    permission: &mut &'static [u8],
) -> Poll<io::Result<()>> {
    while !permission.is_empty() {
        let written = ready!(Pin::new(&mut app.stream).poll_write(context, permission))?;
        *permission = permission.get(written..).unwrap_or_default();
    }
    Pin::new(&mut app.stream).poll_flush(context)
}

/// Writes the rest of `parts`, of which `written` bytes were written before.
pub(super) fn poll_write_parts(
    context: &mut Context<'_>,
    stream: &mut dyn Stream,
    parts: [&[u8]; 2],
    written: &mut usize,
) -> Poll<io::Result<()>> {
    let [head, body] = parts;
    while *written < head.len() + body.len() {
        let head_left = head.get(*written..).unwrap_or_default();
        let body_left = body.get(written.saturating_sub(head.len())..);
        let body_left = body_left.unwrap_or_default();
        let slices = [IoSlice::new(head_left), IoSlice::new(body_left)];
        let count = match (head_left.is_empty(), body_left.is_empty()) {
            (false, false) => Pin::new(&mut *stream).poll_write_vectored(context, &slices),
            (false, true) => Pin::new(&mut *stream).poll_write(context, head_left),
            (true, _) => Pin::new(&mut *stream).poll_write(context, body_left),
        };
        match ready!(count)? {
            0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
            count => *written += count,
        }
    }
    Poll::Ready(Ok(()))
}

//! Sends a request, and waits for the start of its response.

use std::future::poll_fn;
use std::io;
use std::task::{Context, Poll};

use tokio::time::Instant;

use super::buffer::LARGE;
use super::pump::PumpError;
use super::request::Forwarded;
use super::response::{ResponseStart, Rewriting};
use super::response_head::MAX_HEAD;
use super::session::{AppError, Session};
use super::upload::Upload;
use super::upstream::{ServerLink, UpstreamError};
use crate::connect::display_name;
use crate::platform::clock::timer_now;
use crate::request_head;

/// Why there is no response.
#[derive(Debug)]
pub(super) enum AttemptError {
    App(AppError),
    /// The connection to the server has ended.
    Server(io::Error),
    Upstream(UpstreamError),
}

/// Sends what `upload` has, and returns the start of the final response, whose head is still in the server's buffer.
pub(super) async fn response_start(
    session: &mut Session<'_>,
    server: &mut ServerLink,
    upload: &mut Upload<'_>,
    request: &Forwarded,
) -> Result<ResponseStart, AttemptError> {
    let url = request.app.upstream.url();
    let rewriting = Rewriting {
        upstream: url,
        base: &request.base,
        is_head: request.is_head(),
    };
    let unusable = |problem: &str| {
        let name = display_name(url, None);
        AttemptError::Upstream(UpstreamError::Failed(format!(
            "cannot use the response of {name}: {problem}"
        )))
    };
    let mut wait = Wait {
        searched: 0,
        permission_due: None,
        moved: 0,
        last: timer_now(),
    };
    loop {
        poll_fn(|context| wait.poll(context, session, server, upload)).await?;
        let start = ResponseStart::parse(server.link.buffer.content(), rewriting);
        let start = start.map_err(|problem| unusable(&problem))?;
        match start.status {
            200.. => return Ok(start),
            100 => upload.is_gated = false,
            101 => return Err(unusable("it switches to another protocol")),
            _ => {}
        }
        server.link.buffer.consume(start.length);
        wait.searched = 0;
    }
}

struct Wait {
    /// How much of the server's buffer contains no end of a head.
    searched: usize,
    /// When the body is sent without a permission of the server.
    permission_due: Option<Instant>,
    /// The bytes that were sent at the time `last`.
    moved: u64,
    last: Instant,
}

impl Wait {
    /// Returns once a head is complete.
    fn poll(
        &mut self,
        context: &mut Context<'_>,
        session: &mut Session<'_>,
        server: &mut ServerLink,
        upload: &mut Upload<'_>,
    ) -> Poll<Result<(), AttemptError>> {
        loop {
            if let Err(error) = self.poll_upload(context, session, server, upload) {
                return Poll::Ready(Err(error));
            }
            if let Poll::Ready(head) = self.poll_head(context, server) {
                return Poll::Ready(head);
            }
            if !upload.reads_body() && session.app.poll_closed(context).is_ready() {
                return Poll::Ready(Err(AttemptError::App(AppError::Disconnected)));
            }
            let due = self.due(session, upload);
            if session.alarm.poll(context, due).is_pending() {
                return Poll::Pending;
            }
            if !upload.awaits_permission() {
                return Poll::Ready(Err(Self::late(upload)));
            }
            upload.is_gated = false;
        }
    }

    fn poll_upload(
        &mut self,
        context: &mut Context<'_>,
        session: &mut Session<'_>,
        server: &mut ServerLink,
        upload: &mut Upload<'_>,
    ) -> Result<(), AttemptError> {
        if !upload.is_active() {
            return Ok(());
        }
        let stream = &mut *server.link.stream;
        match upload.poll(context, session.app, stream, session.usage) {
            Poll::Ready(Err(PumpError::Write(error))) if !upload.has_written() => {
                return Err(AttemptError::Server(error));
            }
            Poll::Ready(Err(PumpError::Malformed(error))) => {
                return Err(AttemptError::App(AppError::Malformed(error)));
            }
            Poll::Ready(Err(PumpError::Read)) => {
                return Err(AttemptError::App(AppError::Disconnected));
            }
            // If the server receives nothing more, it may have answered before.
            Poll::Ready(Err(PumpError::Write(_)) | Ok(())) | Poll::Pending => {}
        }
        let moved = upload.moved();
        if moved != self.moved {
            self.moved = moved;
            self.last = timer_now();
        }
        Ok(())
    }

    fn poll_head(
        &mut self,
        context: &mut Context<'_>,
        server: &mut ServerLink,
    ) -> Poll<Result<(), AttemptError>> {
        let link = &mut server.link;
        loop {
            let received = link.buffer.content();
            match request_head::length(received, self.searched, MAX_HEAD) {
                Ok(None) => self.searched = received.len(),
                // Too long a head is an error of the parser, too.
                Ok(Some(_)) | Err(_) => return Poll::Ready(Ok(())),
            }
            if !link.buffer.has_room() {
                link.buffer.grow(LARGE);
            }
            let error = match link.poll_fill(context) {
                Poll::Ready(Ok(0)) => io::ErrorKind::UnexpectedEof.into(),
                Poll::Ready(Err(error)) => error,
                Poll::Ready(Ok(_)) => continue,
                Poll::Pending => return Poll::Pending,
            };
            return Poll::Ready(Err(AttemptError::Server(error)));
        }
    }

    fn due(&mut self, session: &Session<'_>, upload: &Upload<'_>) -> Instant {
        let timing = session.timing;
        if upload.awaits_permission() {
            let due = self.permission_due;
            return *self
                .permission_due
                .insert(due.unwrap_or_else(|| timer_now() + timing.permission));
        }
        self.last
            + if upload.is_active() {
                timing.idle
            } else {
                timing.response
            }
    }

    fn late(upload: &Upload<'_>) -> AttemptError {
        if upload.awaits_app() {
            AttemptError::App(AppError::TimedOut)
        } else {
            AttemptError::Upstream(UpstreamError::NoAnswer)
        }
    }
}

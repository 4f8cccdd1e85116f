//! A response by which the server rejects the token. It is received before the token is renewed, because it is passed to
//! the application if the request cannot be sent again.

use std::future::poll_fn;
use std::task::Poll;

use super::buffer::LARGE;
use super::chunked::Decoder;
use super::pump::Framing;
use super::response::{Additions, ResponseStart};
use super::response_head::ResponseBody;
use super::session::Session;
use super::upstream::ServerLink;
use crate::platform::clock::timer_now;

/// The longest body that is received.
const MAX_BODY: usize = LARGE;

pub(super) struct Rejection {
    start: ResponseStart,
    body: Vec<u8>,
}

impl Rejection {
    /// Receives the response whose head is in the buffer, and closes the connection: while it is open, the server may wait
    /// for the rest of the request. A body that is too long, or too late, is replaced by an empty one.
    pub(super) async fn receive(
        session: &mut Session<'_>,
        mut server: ServerLink,
        mut start: ResponseStart,
    ) -> Self {
        server.link.buffer.consume(start.length);
        let framing = match start.body {
            ResponseBody::None => {
                let body = Vec::new();
                return Self { start, body };
            }
            ResponseBody::Length(length) => Framing::Length(length),
            ResponseBody::Chunked => Framing::Chunked(Decoder::new()),
            ResponseBody::UntilClose => Framing::UntilClose,
        };
        let body = receive_body(session, &mut server, framing).await;
        let body = body.unwrap_or_default();
        start.set_length(body.len() as u64);
        Self { start, body }
    }

    /// Returns the status and the whole response for the application.
    pub(super) fn finish(self, additions: Additions) -> (u16, Vec<u8>) {
        let status = self.start.status;
        let mut bytes = self.start.finish(additions);
        bytes.extend_from_slice(&self.body);
        (status, bytes)
    }
}

/// Returns the body, if it is complete in time and not too long.
async fn receive_body(
    session: &mut Session<'_>,
    server: &mut ServerLink,
    mut framing: Framing,
) -> Option<Vec<u8>> {
    let due = timer_now() + session.timing.rejection;
    let alarm = &mut *session.alarm;
    let link = &mut server.link;
    let mut body = Vec::new();
    loop {
        let part = framing.decode(&mut link.buffer).ok()?;
        body.extend_from_slice(link.buffer.slice(&part.data));
        if part.is_last {
            return Some(body);
        }
        if body.len() > MAX_BODY {
            return None;
        }
        let read = poll_fn(|context| match link.poll_fill(context) {
            Poll::Ready(read) => Poll::Ready(read.ok()),
            Poll::Pending => alarm.poll(context, due).map(|()| None),
        });
        if read.await? == 0 {
            return matches!(framing, Framing::UntilClose).then_some(body);
        }
    }
}

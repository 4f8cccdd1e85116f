//! Reads requests: bytes in, requests out.

use std::cell::RefCell;
use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::task::{Poll, ready};

use domo_token_protocol::frame::{self, HEAD, MAX_REQUEST};
use domo_token_protocol::greeting::HELLO;
use domo_token_protocol::messages::Request;
use tokio::time::timeout;

use super::{Session, SessionError};
use crate::server::Stream;
use crate::server::stream::read_ready;

/// The most bytes of one read; most requests are far shorter.
const SCRATCH: usize = 4096;

thread_local! {
    /// All sessions of a thread read into this, so that an idle connection owns no buffer.
    static READ: RefCell<[u8; SCRATCH]> = const { RefCell::new([0; SCRATCH]) };
}

/// The longest unread data: a hello and the frame of a request.
const MAX_UNREAD: usize = HELLO + HEAD + MAX_REQUEST;

/// A request and its frame.
pub(super) struct Incoming {
    pub(super) frame: Vec<u8>,
    pub(super) request: Request,
}

/// The result of one read.
enum ReadOutcome {
    /// The last request again.
    Again,
    /// A complete request with nothing after it.
    Request(Box<Incoming>),
    /// Other bytes, which are in the session's buffer.
    Bytes,
    /// The caller has disconnected.
    End,
}

/// Returns what a caller has already sent when its session begins.
pub(super) fn read_on_connect(stream: &Stream) -> Vec<u8> {
    READ.with_borrow_mut(|scratch| {
        let read = read_ready(stream, scratch);
        scratch.get(..read).unwrap_or_default().to_vec()
    })
}

impl Session {
    /// Waits for the next request without a limit: an idle connection stays open. The rest of a request that
    /// has begun must arrive within `request_deadline`.
    pub(super) async fn next_request(
        &mut self,
        last: Option<Box<Incoming>>,
        stopped: Pin<&mut impl Future<Output = ()>>,
    ) -> Result<Option<Box<Incoming>>, SessionError> {
        if self.unread.is_empty() {
            // An idle connection holds no buffer.
            self.unread = Vec::new();
            let arrived = tokio::select! {
                biased;
                arrived = self.read(last.as_deref()) => arrived?,
                () = stopped => return Ok(None),
            };
            match arrived {
                ReadOutcome::Again => return Ok(last),
                ReadOutcome::Request(incoming) => return Ok(Some(incoming)),
                ReadOutcome::End => return Ok(None),
                ReadOutcome::Bytes => {}
            }
        }
        let limit = self.permit.deadlines().request;
        timeout(limit, self.rest_of_request()).await?
    }

    pub(super) async fn rest_of_request(&mut self) -> Result<Option<Box<Incoming>>, SessionError> {
        loop {
            if let Some((body, used)) = frame::split_request(&self.unread)? {
                let request = frame::decode(body)?;
                let frame = self.unread.drain(..used).collect();
                return Ok(Some(Box::new(Incoming { frame, request })));
            }
            if self.read_more().await? == 0 {
                return Ok(None);
            }
        }
    }

    /// Reads once into the buffer; zero bytes mean that the caller has disconnected. The buffer never holds more
    /// than one request, and has no spare capacity: there may be thousands of them.
    pub(super) async fn read_more(&mut self) -> io::Result<usize> {
        let Self {
            stream,
            unread,
            permit,
            ..
        } = self;
        poll_fn(|context| {
            READ.with_borrow_mut(|scratch| {
                // At least one byte, so that a disconnect is distinguished from a full buffer.
                let room = MAX_UNREAD.saturating_sub(unread.len()).clamp(1, SCRATCH);
                let scratch = scratch.get_mut(..room).unwrap_or_default();
                let read = ready!(stream.poll_read(context, scratch))?;
                permit.sent();
                unread.reserve_exact(read);
                unread.extend_from_slice(scratch.get(..read).unwrap_or_default());
                Poll::Ready(Ok(read))
            })
        })
        .await
    }

    /// Reads once while the buffer is empty. Most reads return one complete request, which is decoded in place, or
    /// not at all if it is the last one again.
    async fn read(&mut self, last: Option<&Incoming>) -> Result<ReadOutcome, SessionError> {
        let Self {
            stream,
            unread,
            permit,
            ..
        } = self;
        poll_fn(|context| {
            READ.with_borrow_mut(|scratch| {
                let read = ready!(stream.poll_read(context, scratch))?;
                permit.sent();
                let bytes = scratch.get(..read).unwrap_or_default();
                if last.is_some_and(|last| last.frame == bytes) {
                    return Poll::Ready(Ok(ReadOutcome::Again));
                }
                Poll::Ready(Ok(match frame::split_request(bytes)? {
                    _ if read == 0 => ReadOutcome::End,
                    Some((body, used)) if used == read => {
                        ReadOutcome::Request(Box::new(Incoming {
                            request: frame::decode(body)?,
                            frame: bytes.to_vec(),
                        }))
                    }
                    Some(_) | None => {
                        unread.extend_from_slice(bytes);
                        ReadOutcome::Bytes
                    }
                }))
            })
        })
        .await
    }
}

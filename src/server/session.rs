//! One caller's connection: who it is, its bytes, and its deadlines. The first bytes select the protocol: `frames` or
//! `http`.
//!
//! The first request, the rest of a request that has begun, and the writing of an answer have deadlines. An
//! idle connection of frames has none.

use std::cell::RefCell;
use std::future::poll_fn;
use std::io;
use std::path::PathBuf;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Poll, ready};

use domo_token_core::access_policy::Caller;
use domo_token_protocol::frame::{self, FrameError};
use domo_token_protocol::greeting::{GREETING, HELLO};
use domo_token_protocol::messages::VERSION;
use tokio::time::{Instant, timeout, timeout_at};
use tracing::debug;

use super::attestor::{Attested, Attestor};
use super::connection_limits::Permit;
use super::frames::{self, Incoming};
use super::http::{self, Problem};
use super::identities::Found;
use super::peer::Peer;
use super::reject::busy;
use super::sniff::{self, Protocol};
use super::stream::{CallerStream, read_ready};
use super::{Server, Stream};
use crate::broker::Broker;
use crate::platform::clock::{BootTime, Clock, timer_now};

/// Why a session ended other than by a disconnect between two requests.
#[derive(Debug, thiserror::Error)]
pub(super) enum SessionError {
    #[error(transparent)]
    Io(#[from] io::Error),
    #[error(transparent)]
    Frame(#[from] FrameError),
    #[error("protocol version {0} is not supported")]
    Version(u8),
    #[error("timed out")]
    Slow(#[from] tokio::time::error::Elapsed),
    #[error("sent another request before the response to the last one")]
    PipelinedRequest,
    #[error("a request has an answer of another kind")]
    Answer,
}

/// The message for a caller that cannot be identified now.
pub(super) const AMBIGUOUS: &str = "the kernel cannot yet identify the calling process; try again";

/// How many messages of one answer are written before others are served.
pub(super) const MESSAGES_PER_TURN: usize = 16;

/// The most bytes of one read; most requests are far shorter.
const SCRATCH: usize = 4096;

thread_local! {
    /// All sessions of a thread read into this, so that an idle connection owns no buffer.
    static READ: RefCell<[u8; SCRATCH]> = const { RefCell::new([0; SCRATCH]) };
}

/// A caller that has been accepted.
pub(super) struct Connection {
    pub(super) stream: Stream,
    pub(super) peer: Peer,
    pub(super) permit: Permit,
    /// When it was accepted.
    pub(super) accepted: BootTime,
}

/// What sessions share.
pub(super) struct Shared {
    pub(super) attestor: Attestor,
    /// The path of the socket.
    pub(super) socket: PathBuf,
    /// Whether HTTP is served.
    pub(super) http: bool,
}

/// Serves one caller until it disconnects, violates the protocol, or the server ends its sessions. What this and the
/// futures below hold across an `await` is the memory of an idle caller, and ten thousand may watch: what is
/// large or rare is boxed.
pub(super) async fn run<C: Clock>(connection: Box<Connection>, server: Arc<Server<C>>) {
    let peer = connection.peer;
    let broker = &server.broker;
    // One future for the whole session, because creating one per request costs as much as an
    // answer. It can be polled again after it has completed, which happens when a watch ends.
    let mut stopped = pin!(server.end_sessions.cancelled());
    let _guard = broker.connected();
    let result = match Session::first(connection, &server.shared, stopped.as_mut()).await {
        Ok(None) => Ok(()),
        Ok(Some(First::Frame(session, next))) => session.serve_frames(next, broker, stopped).await,
        Ok(Some(First::Http(session, deadline))) => {
            Box::pin(session.serve_http(broker, stopped, deadline)).await
        }
        Err(error) => Err(error),
    };
    if let Err(error) = result {
        debug!(uid = peer.uid, pid = peer.pid, "connection closed: {error}");
    }
}

pub(super) struct Session {
    pub(super) stream: CallerStream,
    peer: Peer,
    pub(super) permit: Permit,
    pub(super) shared: Arc<Shared>,
    /// What was read of an incomplete request; requests contain no secret.
    pub(super) unread: Vec<u8>,
    /// When the connection was accepted, which the greeting carries.
    pub(super) accepted: BootTime,
    pub(super) protocol: Protocol,
    /// The version of the frames of its caller.
    pub(super) version: u8,
    /// Whether the greeting was sent, which precedes the first frame.
    pub(super) greeted: bool,
    /// Whether its caller waits for the answer to a token request.
    pub(super) awaits_token: bool,
}

impl Drop for Session {
    /// Notifies a caller that loses its connection to another user's while it waits for a token.
    fn drop(&mut self) {
        if !(self.awaits_token && self.permit.is_replaced()) {
            return;
        }
        let cause = "the broker closed this connection to admit another user; try again";
        // Without waiting: a caller that does not read needs no message.
        match self.protocol {
            Protocol::Http => {
                let response = http::rejection(Problem::busy(cause), &[]);
                let _ = self.stream.try_write([&response]);
            }
            Protocol::Frames => {
                if let Ok(frame) = frame::encode(&busy(cause.to_owned())) {
                    let mut buffer = [0; GREETING];
                    let greeting = self.greeting(&mut buffer);
                    let _ = self.stream.try_write([greeting, &frame]);
                }
            }
        }
    }
}

/// What a caller sends first.
enum First {
    /// A request in a frame.
    Frame(Box<Session>, Box<Incoming>),
    /// The start of an HTTP request, and when it must be complete.
    Http(Box<Session>, Instant),
}

impl Session {
    pub(super) fn new(connection: Connection, shared: Arc<Shared>) -> io::Result<Box<Self>> {
        let Connection {
            stream,
            peer,
            permit,
            accepted,
        } = connection;
        let unread = read_on_connect(&stream);
        Ok(Box::new(Self {
            stream: CallerStream::new(stream)?,
            peer,
            permit,
            shared,
            unread,
            accepted,
            protocol: Protocol::Frames,
            version: VERSION,
            greeted: false,
            awaits_token: false,
        }))
    }

    /// Reads what selects the protocol; `None` if the caller disconnects or `stopped` completes before.
    async fn first(
        connection: Box<Connection>,
        shared: &Arc<Shared>,
        stopped: Pin<&mut impl Future<Output = ()>>,
    ) -> Result<Option<First>, SessionError> {
        let mut session = Self::new(*connection, Arc::clone(shared))?;
        let deadline = timer_now() + session.permit.deadlines().first_request;
        let first = tokio::select! {
            biased;
            first = timeout_at(deadline, session.read_first()) => first??,
            () = stopped => return Ok(None),
        };
        Ok(match session.protocol {
            Protocol::Http => Some(First::Http(session, deadline)),
            Protocol::Frames => first.map(|first| First::Frame(session, first)),
        })
    }

    /// Selects the protocol by the first bytes. Returns the first request, if it is in a frame.
    async fn read_first(&mut self) -> Result<Option<Box<Incoming>>, SessionError> {
        while self.unread.len() < HELLO {
            if self.read_more().await? == 0 {
                return Ok(None);
            }
        }
        let Some((start, _)) = self.unread.split_first_chunk::<HELLO>() else {
            return Ok(None);
        };
        let start = *start;
        if sniff::protocol(start) == Some(Protocol::Http) && self.shared.http {
            self.protocol = Protocol::Http;
            return Ok(None);
        }
        self.first_frame(start).await
    }

    /// Returns the caller of a request; `None` if it cannot be identified now and a rule needs that. It is then to be
    /// answered after [`super::peer::USER_HZ_TICK`], when it is older than its next connection.
    pub(super) fn admit<C: Clock>(
        attested: Attested,
        broker: &Broker<C>,
        request: &'static str,
    ) -> Option<Caller> {
        if attested.is_ambiguous && broker.has_units() {
            return None;
        }
        let caller = attested.caller;
        debug!(
            uid = caller.uid,
            pid = caller.pid,
            unit = caller.unit.as_deref(),
            request,
            "received request"
        );
        Some(caller)
    }

    /// Returns the caller as it is now, as far as a rule or the audit needs it; `None` if it must be looked up first.
    pub(super) fn attest_now<C: Clock>(&self, broker: &Broker<C>) -> Option<Attested> {
        if broker.needs_identity() {
            return self.shared.attestor.caller(&self.peer, &self.stream);
        }
        Some(Attested::by_ids(&self.peer))
    }

    /// Returns the caller as it is now, as far as a rule or the audit needs it; `None` if it has disconnected
    /// meanwhile.
    pub(super) async fn attest<C: Clock>(
        &mut self,
        broker: &Broker<C>,
    ) -> Result<Option<Attested>, SessionError> {
        if let Some(attested) = self.attest_now(broker) {
            return Ok(Some(attested));
        }
        let found = Box::pin(self.look_up()).await?;
        Ok(found.map(|found| Attested::new(&self.peer, &found, &self.stream)))
    }

    /// Looks the caller up; `None` if it disconnects before that is done.
    async fn look_up(&mut self) -> io::Result<Option<Found>> {
        let shared = Arc::clone(&self.shared);
        let mut found = pin!(shared.attestor.look_up(self.peer));
        tokio::select! {
            biased;
            found = &mut found => Ok(Some(found)),
            read = self.read_more() => match read? {
                0 if self.protocol == Protocol::Frames => Ok(None),
                0 => tokio::select! {
                    biased;
                    found = &mut found => Ok(Some(found)),
                    closed = self.stream.closed() => closed.map(|()| None),
                },
                // Its next request, which has to wait.
                _ => Ok(Some(found.await)),
            },
        }
    }

    /// Reads once into the buffer; zero bytes mean that the caller has disconnected. The buffer has no spare
    /// capacity, because there may be thousands of them.
    pub(super) async fn read_more(&mut self) -> io::Result<usize> {
        let max = match self.protocol {
            Protocol::Frames => frames::MAX_UNREAD,
            Protocol::Http => http::MAX_HEAD + 1,
        };
        let Self {
            stream,
            unread,
            permit,
            ..
        } = self;
        poll_fn(|context| {
            READ.with_borrow_mut(|scratch| {
                // At least one byte, so that a disconnect is distinguished from a full buffer.
                let room = max.saturating_sub(unread.len()).clamp(1, SCRATCH);
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

    /// Reads once and passes the bytes to `parse`, without a copy.
    pub(super) async fn read_with<T>(
        &mut self,
        mut parse: impl FnMut(&[u8], &mut Vec<u8>) -> Result<T, SessionError>,
    ) -> Result<T, SessionError> {
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
                Poll::Ready(parse(scratch.get(..read).unwrap_or_default(), unread))
            })
        })
        .await
    }

    /// Returns the path of the socket.
    pub(super) fn socket(&self) -> &std::path::Path {
        &self.shared.socket
    }

    /// Sends pieces in one write, so that none is copied.
    pub(super) async fn send<const N: usize>(
        &mut self,
        pieces: [&[u8]; N],
    ) -> Result<(), SessionError> {
        let mut written = self.stream.try_write(pieces)?;
        let total: usize = pieces.iter().map(|piece| piece.len()).sum();
        if written == total {
            return Ok(());
        }
        let left = pieces.map(|piece| {
            let (_, rest) = piece.split_at(written.min(piece.len()));
            written -= piece.len() - rest.len();
            rest
        });
        let limit = self.permit.deadlines().answer;
        // Most answers are written in one call.
        Ok(Box::pin(timeout(limit, self.stream.write_all(left))).await??)
    }
}

/// Returns what a caller has already sent when its session begins.
fn read_on_connect(stream: &Stream) -> Vec<u8> {
    READ.with_borrow_mut(|scratch| {
        let read = read_ready(stream, scratch);
        scratch.get(..read).unwrap_or_default().to_vec()
    })
}

#[cfg(all(test, unix))]
mod tests;

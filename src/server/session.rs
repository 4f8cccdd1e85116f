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
use tokio::time::{sleep, timeout, timeout_at};
use tokio_util::sync::CancellationToken;
use tracing::debug;

use super::Stream;
use super::attestor::{Attested, Attestor};
use super::connection_limits::Permit;
use super::frames::{self, Incoming};
use super::http::{self, Problem};
use super::identities::Found;
use super::peer::{Peer, USER_HZ_TICK};
use super::reject::busy;
use super::sniff::{self, Protocol};
use super::stream::{CallerStream, read_ready};
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

/// Serves one caller until it disconnects, violates the protocol, or `stop` is cancelled. What this and the
/// futures below hold across an `await` is the memory of an idle caller, and ten thousand may watch: what is
/// large or rare is boxed.
pub(super) async fn run<C: Clock>(
    connection: Box<Connection>,
    shared: Arc<Shared>,
    broker: Arc<Broker<C>>,
    stop: CancellationToken,
) {
    let peer = connection.peer;
    // One future for the whole session, because creating one per request costs as much as an
    // answer. It can be polled again after it has completed, which happens when a watch ends.
    let stopped = pin!(stop.cancelled());
    let _guard = broker.connected();
    let session = Session::new(*connection, shared);
    let served = match session {
        Ok(session) => session.serve(&broker, stopped).await,
        Err(error) => Err(error.into()),
    };
    if let Err(error) = served {
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
                let response = http::rejection(Problem::busy(cause));
                let _ = self.stream.try_write(&response, &[]);
            }
            Protocol::Frames => {
                if let Ok(frame) = frame::encode(&busy(cause.to_owned())) {
                    let mut buffer = [0; GREETING];
                    let greeting = self.greeting(&mut buffer);
                    let _ = self.stream.try_write(greeting, &frame);
                }
            }
        }
    }
}

/// What a caller sends first.
enum First {
    /// A request in a frame; `None` if it has disconnected.
    Frame(Option<Box<Incoming>>),
    Http,
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

    async fn serve<C: Clock>(
        mut self: Box<Self>,
        broker: &Broker<C>,
        mut stopped: Pin<&mut impl Future<Output = ()>>,
    ) -> Result<(), SessionError> {
        let deadline = timer_now() + self.permit.deadlines().first_request;
        let first = tokio::select! {
            biased;
            first = timeout_at(deadline, self.first()) => first??,
            () = &mut stopped => return Ok(()),
        };
        match first {
            First::Frame(next) => self.serve_frames(next, broker, stopped).await,
            First::Http => Box::pin(self.serve_http(broker, stopped, deadline)).await,
        }
    }

    /// Selects the protocol by the first bytes.
    async fn first(&mut self) -> Result<First, SessionError> {
        while self.unread.len() < HELLO {
            if self.read_more().await? == 0 {
                return Ok(First::Frame(None));
            }
        }
        let Some((start, _)) = self.unread.split_first_chunk::<HELLO>() else {
            return Ok(First::Frame(None));
        };
        let start = *start;
        if sniff::protocol(start) == Some(Protocol::Http) && self.shared.http {
            self.protocol = Protocol::Http;
            return Ok(First::Http);
        }
        self.first_frame(start).await.map(First::Frame)
    }

    /// Returns the caller of a request if no rule and no audit needs more than its ids. Waiting for that in
    /// [`Self::identify`] costs some hundred instructions.
    pub(super) fn identify_by_ids<C: Clock>(
        &self,
        broker: &Broker<C>,
        request: &'static str,
    ) -> Option<Caller> {
        if broker.needs_identity() {
            return None;
        }
        let caller = Attested::by_ids(&self.peer).caller;
        log_request(&caller, request);
        Some(caller)
    }

    /// Returns the caller of a request, or the message for one that cannot be identified now; `None` if it has
    /// disconnected meanwhile.
    pub(super) async fn identify<C: Clock>(
        &mut self,
        broker: &Broker<C>,
        request: &'static str,
    ) -> Result<Option<Result<Caller, String>>, SessionError> {
        let Some(Attested {
            caller,
            is_ambiguous,
        }) = self.attest(broker).await?
        else {
            return Ok(None);
        };
        if is_ambiguous && broker.has_units() {
            // After that it is older than its next connection.
            sleep(USER_HZ_TICK).await;
            let cause = "the kernel cannot yet identify the calling process; try again";
            return Ok(Some(Err(cause.to_owned())));
        }
        log_request(&caller, request);
        Ok(Some(Ok(caller)))
    }

    /// Returns the caller that watches, as it is now; `None` if it has disconnected meanwhile.
    pub(super) async fn identify_watcher<C: Clock>(
        &mut self,
        broker: &Broker<C>,
    ) -> Result<Option<Caller>, SessionError> {
        let attested = self.attest(broker).await?;
        Ok(attested.map(|attested| attested.caller))
    }

    /// Returns the caller as it is now, as far as a rule or the audit needs it; `None` if it has disconnected
    /// meanwhile.
    async fn attest<C: Clock>(
        &mut self,
        broker: &Broker<C>,
    ) -> Result<Option<Attested>, SessionError> {
        if !broker.needs_identity() {
            return Ok(Some(Attested::by_ids(&self.peer)));
        }
        if let Some(attested) = self.shared.attestor.caller(&self.peer, &self.stream) {
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
                0 => Ok(None),
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

    /// Sends two pieces in one write, so that neither is copied.
    pub(super) async fn send(&mut self, start: &[u8], rest: &[u8]) -> Result<(), SessionError> {
        let written = self.stream.try_write(start, rest)?;
        if written == start.len() + rest.len() {
            return Ok(());
        }
        let left = [
            start.get(written..).unwrap_or_default(),
            rest.get(written.saturating_sub(start.len())..)
                .unwrap_or_default(),
        ];
        let limit = self.permit.deadlines().answer;
        // Most answers are written in one call.
        Ok(Box::pin(timeout(limit, self.stream.write_all(left))).await??)
    }
}

fn log_request(caller: &Caller, request: &'static str) {
    debug!(
        uid = caller.uid,
        pid = caller.pid,
        unit = caller.unit.as_deref(),
        request,
        "received request"
    );
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

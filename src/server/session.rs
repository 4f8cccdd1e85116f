//! One caller's connection: the protocol version, then requests and answers, one at a time.
//!
//! The first request, the rest of a request that has begun, and the writing of an answer have deadlines. An
//! idle connection has none.

mod read;

use std::io;
use std::pin::{Pin, pin};
use std::sync::Arc;

use domo_token_protocol::frame::{self, FrameError};
use domo_token_protocol::greeting::{self, GREETING, Greeting, HELLO};
use domo_token_protocol::messages::{OLDEST_VERSION, RefusalKind, Response, VERSION};
use tokio::task::yield_now;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use tracing::debug;

use super::Stream;
use super::attestor::{Attested, Attestor};
use super::connection_limits::Permit;
use super::identities::Found;
use super::peer::{Peer, USER_HZ_TICK};
use super::reject::busy;
use super::stream::CallerStream;
use crate::api::{self, Answer, Messages, Request, Watch};
use crate::broker::Broker;
use crate::platform::clock::{BootTime, Clock};

use read::Incoming;

/// Why a session ended other than by a disconnect between two requests.
#[derive(Debug, thiserror::Error)]
enum SessionError {
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
}

/// The longest request, in bytes, that a connection keeps while it is idle.
const MAX_KEPT_REQUEST: usize = 256;

/// How many messages of one answer are written before others are served.
const MESSAGES_PER_TURN: usize = 16;

/// A caller that has been accepted.
pub(super) struct Connection {
    pub(super) stream: Stream,
    pub(super) peer: Peer,
    pub(super) permit: Permit,
    /// When it was accepted.
    pub(super) accepted: BootTime,
}

/// Serves one caller until it disconnects, violates the protocol, or `stop` is cancelled. What this and the
/// futures below hold across an `await` is the memory of an idle caller, and ten thousand may watch: what is
/// large or rare is boxed.
pub(super) async fn run<C: Clock>(
    connection: Box<Connection>,
    attestor: Attestor,
    broker: Arc<Broker<C>>,
    stop: CancellationToken,
) {
    let peer = connection.peer;
    // One future for the whole session, because creating one per request costs as much as an
    // answer. It can be polled again after it has completed, which happens when a watch ends.
    let stopped = pin!(stop.cancelled());
    let _guard = broker.connected();
    let session = Session::new(*connection, attestor);
    let served = match session {
        Ok(session) => session.serve(&broker, stopped).await,
        Err(error) => Err(error.into()),
    };
    if let Err(error) = served {
        debug!(peer = %peer.caller(), "connection closed: {error}");
    }
}

struct Session {
    stream: CallerStream,
    peer: Peer,
    permit: Permit,
    attestor: Attestor,
    /// What was read of an incomplete request; requests contain no secret.
    unread: Vec<u8>,
    /// When the connection was accepted, which the greeting carries.
    accepted: BootTime,
    /// The protocol version of its caller.
    version: u8,
    /// Whether the greeting was sent, which precedes the first answer.
    greeted: bool,
    /// Whether its caller waits for the answer to a token request.
    awaits_token: bool,
}

impl Drop for Session {
    /// Notifies a caller that loses its connection to another user's while it waits for a token.
    fn drop(&mut self) {
        if !(self.awaits_token && self.permit.is_replaced()) {
            return;
        }
        let cause = "the broker closed this connection to admit another user; try again";
        if let Ok(frame) = frame::encode(&busy(cause.to_owned())) {
            let mut buffer = [0; GREETING];
            let greeting = self.greeting(&mut buffer);
            // Without waiting: a caller that does not read needs no message.
            let _ = self.stream.try_write(greeting, &frame);
        }
    }
}

impl Session {
    fn new(connection: Connection, attestor: Attestor) -> io::Result<Box<Self>> {
        let Connection {
            stream,
            peer,
            permit,
            accepted,
        } = connection;
        let unread = read::read_on_connect(&stream);
        Ok(Box::new(Self {
            stream: CallerStream::new(stream)?,
            peer,
            permit,
            attestor,
            unread,
            accepted,
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
        let limit = self.permit.deadlines().first_request;
        let mut next = tokio::select! {
            biased;
            first = timeout(limit, self.first_request()) => first??,
            () = &mut stopped => None,
        };
        while let Some(incoming) = next {
            self.permit.wait_for_turn().await;
            let mut watch = self.respond(&incoming.request, broker).await?;
            if let Some(watch) = &mut watch {
                self.watch(watch, broker, stopped.as_mut()).await?;
                self.permit.end_watch();
            }
            if !self.unread.is_empty() {
                // Others are served in between, even if many requests were sent together.
                yield_now().await;
            }
            let last = (incoming.frame.len() <= MAX_KEPT_REQUEST).then_some(incoming);
            next = self.next_request(last, stopped.as_mut()).await?;
        }
        Ok(())
    }

    async fn first_request(&mut self) -> Result<Option<Box<Incoming>>, SessionError> {
        while self.unread.len() < HELLO {
            if self.read_more().await? == 0 {
                return Ok(None);
            }
        }
        let Some((hello, _)) = self.unread.split_first_chunk::<HELLO>() else {
            return Ok(None);
        };
        let version = greeting::hello_version(*hello)?;
        if !(OLDEST_VERSION..=VERSION).contains(&version) {
            self.write(&[]).await?;
            return Err(SessionError::Version(version));
        }
        self.version = version;
        self.unread.drain(..HELLO);
        self.rest_of_request().await
    }

    /// Answers a request. Returns the watch that it begins, if any.
    async fn respond<C: Clock>(
        &mut self,
        request: &Request,
        broker: &Broker<C>,
    ) -> Result<Option<Watch<C>>, SessionError> {
        self.awaits_token = matches!(request, Request::Token(_));
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
            self.answer(busy(cause.to_owned())).await?;
            return Ok(None);
        }
        debug!(peer = %caller, request = request.name(), "received request");
        if matches!(request, Request::Metrics)
            && let Err(cause) = self.permit.begin_metrics()
        {
            self.answer(busy(cause)).await?;
            return Ok(None);
        }
        let answer = tokio::select! {
            // Most answers are ready immediately.
            biased;
            answer = api::handle(broker, request, &caller) => answer,
            read = self.read_more() => return match read? {
                0 => Ok(None),
                _ => Err(SessionError::PipelinedRequest),
            },
        };
        match answer {
            Ok(Answer::Token(token)) => self.write(token.frame()).await?,
            Ok(Answer::Watch(watch)) => match self.permit.begin_watch() {
                Ok(()) => return Ok(Some(watch)),
                Err(cause) => self.answer(busy(cause)).await?,
            },
            Ok(Answer::Messages(messages)) => Box::pin(self.write_messages(messages)).await?,
            Err(refusal) => self.answer(Response::Refusal(refusal)).await?,
        }
        Ok(None)
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
        if let Some(attested) = self.attestor.caller(&self.peer, &self.stream) {
            return Ok(Some(attested));
        }
        let found = Box::pin(self.look_up()).await?;
        Ok(found.map(|found| Attested::new(&self.peer, &found, &self.stream)))
    }

    /// Looks the caller up; `None` if it disconnects before that is done.
    async fn look_up(&mut self) -> io::Result<Option<Found>> {
        let attestor = self.attestor.clone();
        let mut found = pin!(attestor.look_up(self.peer));
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

    async fn write_messages(&mut self, messages: Messages<'_>) -> Result<(), SessionError> {
        for (number, message) in (1..).zip(messages) {
            self.answer(message).await?;
            // Others are served in between, however many messages there are.
            if number % MESSAGES_PER_TURN == 0 {
                yield_now().await;
                self.permit.wait_for_turn().await;
            }
        }
        self.permit.end_metrics();
        // A whole answer can cost as much as many requests.
        yield_now().await;
        Ok(())
    }

    /// Sends each new token until the set is removed, the caller loses its right to it, disconnects or does
    /// not read, or the daemon stops. After the end of the stream the caller may connect again.
    async fn watch<C: Clock>(
        &mut self,
        watch: &mut Watch<C>,
        broker: &Broker<C>,
        mut stopped: Pin<&mut impl Future<Output = ()>>,
    ) -> Result<(), SessionError> {
        if self.unread.is_empty() {
            self.unread = Vec::new();
        }
        loop {
            let news = tokio::select! {
                // So that the last message is sent before the stream ends.
                biased;
                news = watch.next() => news,
                read = self.read_more() => return match read? {
                    0 => Ok(()),
                    _ => Err(SessionError::PipelinedRequest),
                },
                () = &mut stopped => return Ok(()),
            };
            let news = match news {
                Ok(token) => {
                    let Some(attested) = self.attest(broker).await? else {
                        return Ok(());
                    };
                    watch.confirm(token, &attested.caller)
                }
                Err(refusal) => Err(refusal),
            };
            match news {
                Ok(token) => self.write(token.frame()).await?,
                Err(refusal) => {
                    let last = refusal.kind != RefusalKind::Unavailable;
                    self.answer(Response::Refusal(refusal)).await?;
                    if last {
                        return Ok(());
                    }
                }
            }
        }
    }

    /// Encodes the response first, so that it is not in memory while its frame is written.
    fn answer(
        &mut self,
        response: Response,
    ) -> impl Future<Output = Result<(), SessionError>> + Send + '_ {
        let frame = frame::encode(&response);
        drop(response);
        async move { self.write(&frame?).await }
    }

    /// Writes an answer's frame; before the first one, in the same write, the greeting.
    async fn write(&mut self, frame: &[u8]) -> Result<(), SessionError> {
        self.awaits_token = false;
        let mut buffer = [0; GREETING];
        let greeting = self.greeting(&mut buffer);
        self.send(greeting, frame).await
    }

    /// Returns the greeting at the first call, and nothing after that.
    fn greeting<'a>(&mut self, buffer: &'a mut [u8; GREETING]) -> &'a [u8] {
        if std::mem::replace(&mut self.greeted, true) {
            return &[];
        }
        Greeting::new(self.version, self.accepted).encode(buffer)
    }

    /// Sends two pieces in one write, so that neither is copied.
    async fn send(&mut self, start: &[u8], rest: &[u8]) -> Result<(), SessionError> {
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

#[cfg(all(test, unix))]
mod tests;

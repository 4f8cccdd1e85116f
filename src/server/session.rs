//! One caller's connection: hello, then requests and answers in turn.

mod read;

use std::io;
use std::pin::{Pin, pin};
use std::sync::Arc;

use domo_token_protocol::frame::{self, FrameError, GREETING, Greeting, HELLO};
use domo_token_protocol::messages::{
    Asked, OLDEST_VERSION, RefusalKind, Request, Response, VERSION,
};
use tokio::task::yield_now;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use tracing::debug;

use super::Stream;
use super::connection_limits::Permit;
use super::identities::{Found, Identities};
use super::peer::{Peer, USER_HZ_TICK, Unit};
use super::reject::busy;
use super::stream::CallerStream;
use crate::broker::{Broker, StatusCursor, Watch};
use crate::platform::clock::{BootTime, Clock};
use domo_token_core::policy::Caller;

use read::Incoming;

/// Why a session ended otherwise than by the caller's leaving between two requests.
#[derive(Debug, thiserror::Error)]
enum SessionError {
    #[error(transparent)]
    Io(#[from] io::Error),
    #[error(transparent)]
    Frame(#[from] FrameError),
    #[error("protocol version {0} is not spoken here")]
    Version(u8),
    #[error("too slow")]
    Slow(#[from] tokio::time::error::Elapsed),
    #[error("more bytes before the answer to the last request")]
    PipelinedRequest,
}

/// The longest request, in bytes, that a connection keeps while it is idle.
const MAX_REMEMBERED: usize = 256;

/// A caller that has been let in.
pub(super) struct Connection {
    pub(super) stream: Stream,
    pub(super) peer: Peer,
    pub(super) seat: Permit,
    /// When it was accepted.
    pub(super) accepted: BootTime,
}

/// Serves one caller until it leaves, breaks the protocol, or `stop` is cancelled. What this and the
/// futures below hold across an `await` is what an idle caller costs, and ten thousand may watch:
/// what is large or seldom is boxed.
pub(super) async fn run<C: Clock>(
    connection: Box<Connection>,
    identities: Arc<Identities>,
    broker: Arc<Broker<C>>,
    stop: CancellationToken,
) {
    let peer = connection.peer;
    // One future for the whole session, because creating one per request costs as much as an
    // answer. It can be polled again after it has completed, which happens when a watch ends.
    let stopped = pin!(stop.cancelled());
    let _counted = broker.connected();
    let session = Session::new(*connection, identities);
    let served = match session {
        Ok(session) => session.serve(&broker, stopped).await,
        Err(error) => Err(error.into()),
    };
    if let Err(error) = served {
        debug!(peer = %peer.caller(), "a caller's connection was closed: {error}");
    }
}

struct Session {
    line: CallerStream,
    peer: Peer,
    seat: Permit,
    identities: Arc<Identities>,
    /// What was read of a request that isn't whole yet; requests hold no secret.
    unread: Vec<u8>,
    /// What its caller has not been sent yet: the greeting, in the version that it speaks.
    greeting: Option<Greeting>,
    /// Whether its caller waits for the answer to a token request.
    awaits_token: bool,
}

impl Drop for Session {
    /// A caller that loses its connection to another while it waits for a token may try again.
    fn drop(&mut self) {
        if !(self.awaits_token && self.seat.is_replaced()) {
            return;
        }
        let cause = "the broker closed this connection to serve another user; try again";
        if let Ok(frame) = frame::encode(&busy(cause.to_owned())) {
            let mut buffer = [0; GREETING];
            let greeting = self.greeting.take();
            let greeting = greeting.map_or(&[][..], |greeting| greeting.encode(&mut buffer));
            // Without waiting; to callers that don't read it is no loss.
            let _ = self.line.try_write(greeting, &frame);
        }
    }
}

impl Session {
    fn new(connection: Connection, identities: Arc<Identities>) -> io::Result<Box<Self>> {
        let Connection {
            stream,
            peer,
            seat,
            accepted,
        } = connection;
        let unread = read::at_once(&stream);
        Ok(Box::new(Self {
            line: CallerStream::new(stream)?,
            peer,
            seat,
            identities,
            unread,
            greeting: Some(Greeting::new(VERSION, accepted)),
            awaits_token: false,
        }))
    }

    async fn serve<C: Clock>(
        mut self: Box<Self>,
        broker: &Broker<C>,
        mut stopped: Pin<&mut impl Future<Output = ()>>,
    ) -> Result<(), SessionError> {
        let limit = self.seat.deadlines().first_request;
        let mut next = tokio::select! {
            biased;
            first = timeout(limit, self.first_request()) => first??,
            () = &mut stopped => None,
        };
        while let Some(heard) = next {
            self.seat.turn().await;
            let mut watch = self.respond(&heard.request, broker).await?;
            if let Some(watch) = &mut watch {
                self.watch(watch, broker, stopped.as_mut()).await?;
                self.seat.stop_watching();
            }
            if !self.unread.is_empty() {
                // Others come between, however many requests were sent at once.
                yield_now().await;
            }
            let last = (heard.frame.len() <= MAX_REMEMBERED).then_some(heard);
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
        let version = frame::hello_version(*hello)?;
        if !(OLDEST_VERSION..=VERSION).contains(&version) {
            self.write(&[]).await?;
            return Err(SessionError::Version(version));
        }
        let accepted = self.greeting.as_ref().and_then(Greeting::clock);
        self.greeting = accepted.map(|clock| Greeting::new(version, clock));
        self.unread.drain(..HELLO);
        self.rest_of_request().await
    }

    /// Answers, but for a caller that may watch: what is to be told it comes next.
    async fn respond<C: Clock>(
        &mut self,
        request: &Request,
        broker: &Broker<C>,
    ) -> Result<Option<Watch<C>>, SessionError> {
        self.awaits_token = matches!(request, Request::Token(_));
        let Some((caller, unit)) = self.caller(broker).await? else {
            return Ok(None);
        };
        if unit == Unit::Ambiguous && broker.has_units() {
            // By then it is older than its next connection.
            sleep(USER_HZ_TICK).await;
            let cause = "this kernel can't tell yet which process is calling; try again";
            self.answer(busy(cause.to_owned())).await?;
            return Ok(None);
        }
        debug!(peer = %caller, request = request.name(), "asked");
        match request {
            Request::Token(request) => {
                let reply = tokio::select! {
                    // Most often it is there at once.
                    biased;
                    reply = broker.token(request, &caller) => reply,
                    read = self.read_more() => return match read? {
                        0 => Ok(None),
                        _ => Err(SessionError::PipelinedRequest),
                    },
                };
                match reply {
                    Ok(token) => self.write(token.frame()).await?,
                    Err(refusal) => self.answer(Response::Refusal(refusal)).await?,
                }
            }
            Request::Status => Box::pin(self.status(&caller, broker)).await?,
            Request::Explain(asked) => {
                let explanation = broker.explain(asked, &caller);
                self.answer(Response::Explanation(explanation)).await?;
            }
            Request::Watch(asked) => match self.begin_to_watch(asked, broker, &caller) {
                Ok(watch) => return Ok(Some(watch)),
                Err(refusal) => self.answer(*refusal).await?,
            },
            Request::Metrics => Box::pin(self.metrics(&caller, broker)).await?,
        }
        Ok(None)
    }

    fn begin_to_watch<C: Clock>(
        &mut self,
        asked: &Asked,
        broker: &Broker<C>,
        caller: &Caller,
    ) -> Result<Watch<C>, Box<Response>> {
        let watch = broker.watch(asked, caller).map_err(Response::Refusal)?;
        self.seat.watch().map_err(busy)?;
        Ok(watch)
    }

    /// The caller as it is now, as far as a rule or the audit asks; nothing if it has left meanwhile.
    async fn caller<C: Clock>(
        &mut self,
        broker: &Broker<C>,
    ) -> Result<Option<(Caller, Unit)>, SessionError> {
        let mut caller = self.peer.caller();
        if !broker.needs_identity() {
            return Ok(Some((caller, Unit::Nowhere)));
        }
        if let Some(uid) = self.peer.uid {
            let known = self.identities.known(uid, self.peer.gid);
            let found = match known {
                Some(found) => found,
                None => match Box::pin(self.look_up(uid)).await? {
                    Some(found) => found,
                    None => return Ok(None),
                },
            };
            caller.identity = (*found.identity).clone();
            caller.lacks_groups = !found.is_complete;
        }
        let unit = self.peer.unit(&self.line);
        if let Unit::Named(name) = &unit {
            caller.unit = Some(name.clone());
        }
        Ok(Some((caller, unit)))
    }

    /// Asks the user database for as long as the caller is there.
    async fn look_up(&mut self, uid: u32) -> io::Result<Option<Found>> {
        let identities = Arc::clone(&self.identities);
        let mut found = pin!(identities.get(uid, self.peer.gid));
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

    /// A page at a time: who reads slowly must not have the broker keep the whole of it.
    async fn status<C: Clock>(
        &mut self,
        caller: &Caller,
        broker: &Broker<C>,
    ) -> Result<(), SessionError> {
        let mut place = Some(StatusCursor::default());
        while let Some(from) = place.take() {
            let (parts, next) = broker.status(caller, &from);
            self.answer_all(parts).await?;
            place = next;
            // Others come between, however many pages there are.
            yield_now().await;
            self.seat.turn().await;
        }
        Ok(())
    }

    async fn metrics<C: Clock>(
        &mut self,
        caller: &Caller,
        broker: &Broker<C>,
    ) -> Result<(), SessionError> {
        if let Err(cause) = self.seat.read_metrics() {
            return self.answer(busy(cause)).await;
        }
        self.answer_all(broker.metrics_frames(caller)).await?;
        self.seat.have_metrics();
        // As dear as many pages of status.
        yield_now().await;
        Ok(())
    }

    /// Tells of each new token until the set is gone, the caller may not have it any more, leaves
    /// or doesn't read, or the daemon stops: the end of the stream says that one may come back.
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
                    let Some((caller, _)) = self.caller(broker).await? else {
                        return Ok(());
                    };
                    watch.confirm(token, &caller)
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

    async fn answer_all(&mut self, parts: Vec<Response>) -> Result<(), SessionError> {
        for part in parts {
            self.answer(part).await?;
        }
        Ok(())
    }

    /// Encodes it at once, so that its parts aren't held while it is written.
    fn answer(
        &mut self,
        response: Response,
    ) -> impl Future<Output = Result<(), SessionError>> + Send + '_ {
        let frame = frame::encode(&response);
        drop(response);
        async move { self.write(&frame?).await }
    }

    /// Writes an answer's frame; the first has the greeting before it, in the same write.
    async fn write(&mut self, frame: &[u8]) -> Result<(), SessionError> {
        self.awaits_token = false;
        let mut buffer = [0; GREETING];
        let greeting = self.greeting.take();
        let greeting = greeting.map_or(&[][..], |greeting| greeting.encode(&mut buffer));
        self.send(greeting, frame).await
    }

    /// Sends two pieces as one, so that neither has to be copied.
    async fn send(&mut self, start: &[u8], rest: &[u8]) -> Result<(), SessionError> {
        let written = self.line.try_write(start, rest)?;
        if written == start.len() + rest.len() {
            return Ok(());
        }
        let left = [
            start.get(written..).unwrap_or_default(),
            rest.get(written.saturating_sub(start.len())..)
                .unwrap_or_default(),
        ];
        let limit = self.seat.deadlines().answer;
        // Most answers are written at once.
        Ok(Box::pin(timeout(limit, self.line.write_all(left))).await??)
    }
}

#[cfg(all(test, unix))]
mod tests;

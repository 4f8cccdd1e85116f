//! One caller's connection: hello, then requests and answers in turn.

use std::cell::RefCell;
use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::task::{Poll, ready};
use std::time::Duration;

use domo_token_client::frame::{self, FrameError, HELLO};
use domo_token_client::wire::{Asked, Refusal, RefusalKind, Request, Response, VERSION};
use interprocess::local_socket::tokio::Stream;
use tokio::io::{AsyncRead, AsyncWriteExt, ReadBuf};
use tokio::sync::watch;
use tokio::task::spawn_blocking;
use tokio::time::timeout;
use tracing::debug;
use zeroize::Zeroizing;

use super::Peer;
use super::seats::Seat;
use crate::broker::{Broker, Watch};
use crate::clock::Clock;
use crate::policy::Caller;
use crate::users::{self, Identity};

/// How long a connection may take over its hello and its first request.
const FIRST_REQUEST: Duration = Duration::from_secs(10);

/// How long a later request may take from its first byte to its last.
const REQUEST: Duration = Duration::from_secs(5);

/// How long a caller may take to read an answer.
const WRITE: Duration = Duration::from_secs(5);

/// What one read can bring; most requests are far shorter.
const SCRATCH: usize = 4096;

thread_local! {
    /// All sessions of a thread read into this, so that an idle connection owns no buffer.
    static READ: RefCell<[u8; SCRATCH]> = const { RefCell::new([0; SCRATCH]) };
}

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
    Impatient,
}

/// Serves one caller until it leaves, breaks the protocol, or `stop` turns true.
pub(super) async fn run<C: Clock>(
    stream: Stream,
    peer: Peer,
    seat: Seat,
    broker: &Broker<C>,
    stop: watch::Receiver<bool>,
) {
    let mut session = Session::new(stream, peer, stop);
    if let Err(error) = session.serve(broker, seat).await {
        debug!(peer = %peer.caller(), "a caller's connection was closed: {error}");
    }
}

/// Tells a caller why there is no room for it.
pub(super) async fn turn_away(stream: Stream, peer: Peer, cause: String) {
    let (_never, stop) = watch::channel(false);
    let mut session = Session::new(stream, peer, stop);
    // It is going to be closed either way.
    let _told = session.refuse_busy(cause).await;
}

struct Session {
    stream: Stream,
    peer: Peer,
    /// What the user database says of the peer, once it has been asked.
    identity: Option<Box<Identity>>,
    /// What was read of a request that isn't whole yet; requests hold no secret.
    unread: Vec<u8>,
    /// Whether the hello has gone back.
    greeted: bool,
    stop: watch::Receiver<bool>,
}

impl Session {
    fn new(stream: Stream, peer: Peer, stop: watch::Receiver<bool>) -> Self {
        Self {
            stream,
            peer,
            identity: None,
            unread: Vec::new(),
            greeted: false,
            stop,
        }
    }

    async fn serve<C: Clock>(
        &mut self,
        broker: &Broker<C>,
        mut seat: Seat,
    ) -> Result<(), SessionError> {
        let mut stop = self.stop.clone();
        let first = tokio::select! {
            first = timeout(FIRST_REQUEST, self.first_request()) => first??,
            _stopped = stop.wait_for(|stop| *stop) => None,
        };
        let Some(mut request) = first else {
            return Ok(());
        };
        loop {
            self.respond(&request, broker, &mut seat).await?;
            request = match self.next_request().await? {
                Some(request) => request,
                None => return Ok(()),
            };
        }
    }

    async fn first_request(&mut self) -> Result<Option<Request>, SessionError> {
        while self.unread.len() < HELLO {
            if self.read_more().await? == 0 {
                return Ok(None);
            }
        }
        let Some((hello, _)) = self.unread.split_first_chunk::<HELLO>() else {
            return Ok(None);
        };
        let version = frame::hello_version(*hello)?;
        if version != VERSION {
            timeout(WRITE, self.stream.write_all(&frame::hello(VERSION))).await??;
            return Err(SessionError::Version(version));
        }
        self.unread.drain(..HELLO);
        self.rest_of_request().await
    }

    /// Waits for as long as the caller likes; once it has begun it must go on.
    async fn next_request(&mut self) -> Result<Option<Request>, SessionError> {
        if self.unread.is_empty() {
            // Not to hold a buffer while idle is worth an allocation per request.
            self.unread = Vec::new();
            let mut stop = self.stop.clone();
            tokio::select! {
                read = self.read_more() => if read? == 0 {
                    return Ok(None);
                },
                _stopped = stop.wait_for(|stop| *stop) => return Ok(None),
            }
        }
        timeout(REQUEST, self.rest_of_request()).await?
    }

    async fn rest_of_request(&mut self) -> Result<Option<Request>, SessionError> {
        loop {
            if let Some((body, used)) = frame::split(&self.unread)? {
                let request = frame::decode(body)?;
                self.unread.drain(..used);
                return Ok(Some(request));
            }
            if self.read_more().await? == 0 {
                return Ok(None);
            }
        }
    }

    async fn respond<C: Clock>(
        &mut self,
        request: &Request,
        broker: &Broker<C>,
        seat: &mut Seat,
    ) -> Result<(), SessionError> {
        let caller = self.caller(broker).await;
        debug!(peer = %caller, request = request.name(), "asked");
        match request {
            Request::Token(request) => {
                let reply = broker.token(request, &caller);
                let reply = tokio::select! {
                    reply = reply => reply,
                    read = self.read_more() => return match read? {
                        0 => Ok(()),
                        _ => Err(SessionError::Impatient),
                    },
                };
                match reply {
                    Ok(token) => self.write(|first| token.bytes(first)).await,
                    Err(refusal) => self.answer(&Response::Refusal(refusal)).await,
                }
            }
            Request::Status => {
                for part in broker.status(&caller) {
                    self.answer(&part).await?;
                }
                Ok(())
            }
            Request::Explain(asked) => {
                let explanation = broker.explain(asked, &caller);
                self.answer(&Response::Explanation(explanation)).await
            }
            Request::Watch(asked) => match (broker.watch(asked, &caller), seat.watch()) {
                (Ok(watch), Ok(())) => self.watch(watch, asked, broker).await,
                (Err(refusal), _) => {
                    broker.note(&caller, asked, Err(&refusal));
                    self.answer(&Response::Refusal(refusal)).await
                }
                (Ok(_), Err(cause)) => self.refuse_busy(cause).await,
            },
            Request::Metrics => {
                for part in broker.metrics_frames(&caller) {
                    self.answer(&part).await?;
                }
                Ok(())
            }
        }
    }

    /// The caller as it is now, as far as any rule asks.
    async fn caller<C: Clock>(&mut self, broker: &Broker<C>) -> Caller {
        let mut caller = self.peer.caller();
        if broker.looks_up_callers() {
            caller.identity = self.identity().await;
            caller.unit = self.peer.unit(&self.stream);
        }
        caller
    }

    /// Asked once for each connection, and off the loop: it may be a directory on the network.
    async fn identity(&mut self) -> Identity {
        if let Some(known) = &self.identity {
            return (**known).clone();
        }
        let Some(uid) = self.peer.uid else {
            return Identity::default();
        };
        let gid = self.peer.gid;
        let found = spawn_blocking(move || users::identity(uid, gid)).await;
        // A lookup that panicked knows nobody.
        let found = found.unwrap_or_default();
        self.identity = Some(Box::new(found.clone()));
        found
    }

    /// Tells of each new token until the set is gone, the caller may not have it any more, leaves
    /// or doesn't read, or the daemon stops: the end of the stream says that one may come back.
    async fn watch<C: Clock>(
        &mut self,
        mut watch: Watch<C>,
        asked: &Asked,
        broker: &Broker<C>,
    ) -> Result<(), SessionError> {
        let mut stop = self.stop.clone();
        loop {
            let news = tokio::select! {
                news = watch.next() => news,
                read = self.read_more() => return match read? {
                    0 => Ok(()),
                    _ => Err(SessionError::Impatient),
                },
                _stopped = stop.wait_for(|stop| *stop) => return Ok(()),
            };
            let news = match news {
                // Rules may have changed since the last one.
                Ok(token) => {
                    let caller = self.caller(broker).await;
                    let news = broker.not_any_more(asked, &caller).map_or(Ok(token), Err);
                    broker.note(&caller, asked, news.as_ref());
                    news
                }
                Err(refusal) => Err(refusal),
            };
            match news {
                Ok(token) => self.write(|first| token.bytes(first)).await?,
                Err(refusal) => {
                    let last = refusal.kind != RefusalKind::Unavailable;
                    self.answer(&Response::Refusal(refusal)).await?;
                    if last {
                        return Ok(());
                    }
                }
            }
        }
    }

    async fn refuse_busy(&mut self, cause: String) -> Result<(), SessionError> {
        let refusal = Refusal {
            kind: RefusalKind::Busy,
            cause,
            next_attempt: None,
        };
        self.answer(&Response::Refusal(refusal)).await
    }

    async fn answer(&mut self, response: &Response) -> Result<(), SessionError> {
        let frame = frame::encode(response)?;
        let mut bytes = Zeroizing::new(Vec::with_capacity(HELLO + frame.len()));
        bytes.extend_from_slice(&frame::hello(VERSION));
        bytes.extend_from_slice(&frame);
        self.write(|first| {
            bytes
                .get(if first { 0 } else { HELLO }..)
                .unwrap_or_default()
        })
        .await
    }

    /// Writes an answer in one go; the first has the hello before it.
    async fn write<'a>(
        &mut self,
        bytes: impl FnOnce(bool) -> &'a [u8],
    ) -> Result<(), SessionError> {
        let first = !std::mem::replace(&mut self.greeted, true);
        timeout(WRITE, self.stream.write_all(bytes(first))).await??;
        Ok(())
    }

    /// Reads once; zero bytes mean that the caller has left.
    async fn read_more(&mut self) -> io::Result<usize> {
        let Self { stream, unread, .. } = self;
        poll_fn(|context| {
            READ.with_borrow_mut(|scratch| {
                let mut buffer = ReadBuf::new(scratch);
                ready!(Pin::new(&mut *stream).poll_read(context, &mut buffer))?;
                unread.extend_from_slice(buffer.filled());
                Poll::Ready(Ok(buffer.filled().len()))
            })
        })
        .await
    }
}

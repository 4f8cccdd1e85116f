//! One caller's connection: hello, then requests and answers in turn.

use std::cell::RefCell;
use std::future::poll_fn;
use std::io;
use std::pin::{Pin, pin};
use std::task::{Poll, ready};
use std::time::Duration;

use domo_token_client::frame::{self, FrameError, HELLO};
use domo_token_client::wire::{Asked, Refusal, RefusalKind, Request, Response, VERSION};
use interprocess::local_socket::tokio::Stream;
use tokio::sync::watch;
use tokio::task::spawn_blocking;
use tokio::time::timeout;
use tracing::debug;
use zeroize::Zeroizing;

use super::Peer;
use super::line::Line;
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

/// What one read brought.
enum Arrived {
    /// A request, whole and with nothing after it.
    Request(Request),
    /// Bytes, which are in the session's buffer.
    Bytes,
    /// The caller has left.
    End,
}

/// Serves one caller until it leaves, breaks the protocol, or `stop` turns true.
pub(super) async fn run<C: Clock>(
    stream: Stream,
    peer: Peer,
    seat: Seat,
    broker: &Broker<C>,
    mut stop: watch::Receiver<bool>,
) {
    // Waited for in one go, since to begin to wait for it anew costs as much as an answer.
    let stopped = pin!(async {
        // Whoever would tell is gone, so it has stopped, too.
        let _stopped = stop.wait_for(|stop| *stop).await;
    });
    let served = async {
        Session::new(stream, peer)?
            .serve(broker, seat, stopped)
            .await
    };
    if let Err(error) = served.await {
        debug!(peer = %peer.caller(), "a caller's connection was closed: {error}");
    }
}

/// Tells a caller why there is no room for it.
pub(super) async fn turn_away(stream: Stream, peer: Peer, cause: String) {
    let told = async { Session::new(stream, peer)?.refuse_busy(cause).await };
    // It is going to be closed either way.
    let _told: Result<(), SessionError> = told.await;
}

struct Session {
    line: Line,
    peer: Peer,
    /// What the user database says of the peer, once it has been asked.
    identity: Option<Box<Identity>>,
    /// What was read of a request that isn't whole yet; requests hold no secret.
    unread: Vec<u8>,
    /// Whether the hello has gone back.
    greeted: bool,
}

impl Session {
    fn new(stream: Stream, peer: Peer) -> Result<Self, SessionError> {
        Ok(Self {
            line: Line::new(stream)?,
            peer,
            identity: None,
            unread: Vec::new(),
            greeted: false,
        })
    }

    async fn serve<C: Clock>(
        mut self,
        broker: &Broker<C>,
        mut seat: Seat,
        mut stopped: Pin<&mut impl Future<Output = ()>>,
    ) -> Result<(), SessionError> {
        let first = tokio::select! {
            first = timeout(FIRST_REQUEST, self.first_request()) => first??,
            () = &mut stopped => None,
        };
        let Some(mut request) = first else {
            return Ok(());
        };
        loop {
            self.respond(&request, broker, &mut seat, stopped.as_mut())
                .await?;
            request = match self.next_request(stopped.as_mut()).await? {
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
            self.send(&frame::hello(VERSION)).await?;
            return Err(SessionError::Version(version));
        }
        self.unread.drain(..HELLO);
        self.rest_of_request().await
    }

    /// Waits for as long as the caller likes; once it has begun it must go on.
    async fn next_request(
        &mut self,
        stopped: Pin<&mut impl Future<Output = ()>>,
    ) -> Result<Option<Request>, SessionError> {
        if self.unread.is_empty() {
            // An idle connection holds no buffer.
            self.unread = Vec::new();
            let arrived = tokio::select! {
                biased;
                arrived = self.read() => arrived?,
                () = stopped => return Ok(None),
            };
            match arrived {
                Arrived::Request(request) => return Ok(Some(request)),
                Arrived::End => return Ok(None),
                Arrived::Bytes => {}
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
        stopped: Pin<&mut impl Future<Output = ()>>,
    ) -> Result<(), SessionError> {
        let caller = self.caller(broker).await;
        debug!(peer = %caller, request = request.name(), "asked");
        match request {
            Request::Token(request) => {
                let reply = tokio::select! {
                    // Most often it is there at once.
                    biased;
                    reply = broker.token(request, &caller) => reply,
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
                (Ok(watch), Ok(())) => self.watch(watch, asked, broker, stopped).await,
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
            caller.unit = self.peer.unit(&self.line);
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
        mut stopped: Pin<&mut impl Future<Output = ()>>,
    ) -> Result<(), SessionError> {
        loop {
            let news = tokio::select! {
                news = watch.next() => news,
                read = self.read_more() => return match read? {
                    0 => Ok(()),
                    _ => Err(SessionError::Impatient),
                },
                () = &mut stopped => return Ok(()),
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
        self.send(bytes(first)).await
    }

    async fn send(&self, bytes: &[u8]) -> Result<(), SessionError> {
        let written = self.line.try_write(bytes)?;
        match bytes.get(written..) {
            None | Some([]) => Ok(()),
            Some(rest) => Ok(timeout(WRITE, self.line.write_all(rest)).await??),
        }
    }

    /// Reads once into the buffer; zero bytes mean that the caller has left.
    async fn read_more(&mut self) -> io::Result<usize> {
        let Self { line, unread, .. } = self;
        poll_fn(|context| {
            READ.with_borrow_mut(|scratch| {
                let read = ready!(line.poll_read(context, scratch))?;
                unread.extend_from_slice(scratch.get(..read).unwrap_or_default());
                Poll::Ready(Ok(read))
            })
        })
        .await
    }

    /// Reads once where nothing is in the buffer. Most requests come whole and alone, and are
    /// decoded where they lie.
    async fn read(&mut self) -> Result<Arrived, SessionError> {
        let Self { line, unread, .. } = self;
        poll_fn(|context| {
            READ.with_borrow_mut(|scratch| {
                let read = ready!(line.poll_read(context, scratch))?;
                let bytes = scratch.get(..read).unwrap_or_default();
                Poll::Ready(Ok(match frame::split(bytes)? {
                    _ if read == 0 => Arrived::End,
                    Some((body, used)) if used == read => Arrived::Request(frame::decode(body)?),
                    Some(_) | None => {
                        unread.extend_from_slice(bytes);
                        Arrived::Bytes
                    }
                }))
            })
        })
        .await
    }
}

//! One caller's connection: hello, then requests and answers in turn.

use std::cell::RefCell;
use std::future::poll_fn;
use std::io;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Poll, ready};

use domo_token_client::frame::{self, FrameError, HELLO};
use domo_token_client::wire::{Asked, RefusalKind, Request, Response, VERSION};
use interprocess::local_socket::tokio::Stream;
use tokio::sync::watch;
use tokio::task::yield_now;
use tokio::time::{sleep, timeout};
use tracing::debug;

use super::answer::{busy, with_hello};
use super::identities::Identities;
use super::line::Line;
use super::peer::{Peer, TICK, Unit};
use super::seats::Seat;
use crate::broker::{Broker, Place, Watch};
use crate::clock::Clock;
use crate::config::Deadlines;
use crate::policy::Caller;
use crate::users::Identity;

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

/// The longest request, in bytes, that a connection keeps while it is idle.
const REMEMBERED: usize = 256;

/// A request, and the frame it came in.
struct Heard {
    frame: Vec<u8>,
    request: Request,
}

/// What one read brought.
enum Arrived {
    /// The last request once more.
    Again,
    /// A request, whole and with nothing after it.
    Request(Heard),
    /// Bytes, which are in the session's buffer.
    Bytes,
    /// The caller has left.
    End,
}

/// A caller that has been let in.
pub(super) struct Connection {
    pub(super) stream: Stream,
    pub(super) peer: Peer,
    pub(super) seat: Seat,
}

/// Serves one caller until it leaves, breaks the protocol, or `stop` turns true.
pub(super) async fn run<C: Clock>(
    connection: Connection,
    identities: Arc<Identities>,
    broker: Arc<Broker<C>>,
    mut stop: watch::Receiver<bool>,
) {
    let Connection { stream, peer, seat } = connection;
    // Waited for in one go, since to begin to wait for it anew costs as much as an answer.
    let stopped = pin!(async {
        // Whoever would tell is gone, so it has stopped, too.
        let _stopped = stop.wait_for(|stop| *stop).await;
    });
    let served = async {
        let session = Session {
            line: Line::new(stream)?,
            peer,
            deadlines: seat.deadlines(),
            identities,
            unread: Vec::new(),
            greeted: false,
        };
        session.serve(&broker, seat, stopped).await
    };
    let _counted = broker.arrive();
    if let Err(error) = served.await {
        debug!(peer = %peer.caller(), "a caller's connection was closed: {error}");
    }
}

struct Session {
    line: Line,
    peer: Peer,
    deadlines: Deadlines,
    identities: Arc<Identities>,
    /// What was read of a request that isn't whole yet; requests hold no secret.
    unread: Vec<u8>,
    /// Whether the hello has gone back.
    greeted: bool,
}

impl Session {
    async fn serve<C: Clock>(
        mut self,
        broker: &Broker<C>,
        mut seat: Seat,
        mut stopped: Pin<&mut impl Future<Output = ()>>,
    ) -> Result<(), SessionError> {
        let first = tokio::select! {
            first = timeout(self.deadlines.first_request, self.first_request()) => first??,
            () = &mut stopped => None,
        };
        let mut next = first;
        while let Some(heard) = next {
            self.respond(&heard.request, broker, &mut seat, stopped.as_mut())
                .await?;
            let last = (heard.frame.len() <= REMEMBERED).then_some(heard);
            next = self.next_request(last, stopped.as_mut()).await?;
        }
        Ok(())
    }

    async fn first_request(&mut self) -> Result<Option<Heard>, SessionError> {
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
        last: Option<Heard>,
        stopped: Pin<&mut impl Future<Output = ()>>,
    ) -> Result<Option<Heard>, SessionError> {
        if self.unread.is_empty() {
            // An idle connection holds no buffer.
            self.unread = Vec::new();
            let arrived = tokio::select! {
                biased;
                arrived = self.read(last.as_ref()) => arrived?,
                () = stopped => return Ok(None),
            };
            match arrived {
                Arrived::Again => return Ok(last),
                Arrived::Request(heard) => return Ok(Some(heard)),
                Arrived::End => return Ok(None),
                Arrived::Bytes => {}
            }
        }
        timeout(self.deadlines.request, self.rest_of_request()).await?
    }

    async fn rest_of_request(&mut self) -> Result<Option<Heard>, SessionError> {
        loop {
            if let Some((body, used)) = frame::split(&self.unread)? {
                let request = frame::decode(body)?;
                let frame = self.unread.drain(..used).collect();
                return Ok(Some(Heard { frame, request }));
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
        let (caller, unit) = self.caller(broker).await;
        if unit == Unit::Unsure && broker.has_units() {
            // By then it is older than its next connection.
            sleep(TICK).await;
            let cause = "this kernel can't tell yet which process is calling; try again";
            return self.answer(&busy(cause.to_owned())).await;
        }
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
            Request::Status => self.status(&caller, broker).await,
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
                (Ok(_), Err(cause)) => self.answer(&busy(cause)).await,
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
    async fn caller<C: Clock>(&mut self, broker: &Broker<C>) -> (Caller, Unit) {
        let mut caller = self.peer.caller();
        if !broker.looks_up_callers() {
            return (caller, Unit::Nowhere);
        }
        caller.identity = self.identity().await;
        let unit = self.peer.unit(&self.line);
        if let Unit::Named(name) = &unit {
            caller.unit = Some(name.clone());
        }
        (caller, unit)
    }

    async fn identity(&self) -> Identity {
        match self.peer.uid {
            Some(uid) => (*self.identities.get(uid, self.peer.gid).await).clone(),
            None => Identity::default(),
        }
    }

    /// A page at a time: who reads slowly must not have the broker keep the whole of it.
    async fn status<C: Clock>(
        &mut self,
        caller: &Caller,
        broker: &Broker<C>,
    ) -> Result<(), SessionError> {
        let mut place = Some(Place::default());
        while let Some(from) = place.take() {
            let (parts, next) = broker.status(caller, &from);
            for part in parts {
                self.answer(&part).await?;
            }
            place = next;
            // Others come between, however many pages there are.
            yield_now().await;
        }
        Ok(())
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
        self.line.keep_little();
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
                    let (caller, _) = self.caller(broker).await;
                    broker.not_any_more(asked, &caller).map_or(Ok(token), Err)
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

    async fn answer(&mut self, response: &Response) -> Result<(), SessionError> {
        let bytes = with_hello(response)?;
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
            Some(rest) => Ok(timeout(self.deadlines.answer, self.line.write_all(rest)).await??),
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
    /// decoded where they lie, or known already: most callers ask the same again.
    async fn read(&mut self, last: Option<&Heard>) -> Result<Arrived, SessionError> {
        let Self { line, unread, .. } = self;
        poll_fn(|context| {
            READ.with_borrow_mut(|scratch| {
                let read = ready!(line.poll_read(context, scratch))?;
                let bytes = scratch.get(..read).unwrap_or_default();
                if last.is_some_and(|last| last.frame == bytes) {
                    return Poll::Ready(Ok(Arrived::Again));
                }
                Poll::Ready(Ok(match frame::split(bytes)? {
                    _ if read == 0 => Arrived::End,
                    Some((body, used)) if used == read => Arrived::Request(Heard {
                        request: frame::decode(body)?,
                        frame: bytes.to_vec(),
                    }),
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

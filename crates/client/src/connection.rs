//! One connection to a broker: sends requests and receives responses, by a deadline.

use std::io;
use std::path::Path;
use std::sync::Arc;

use zeroize::{Zeroize, Zeroizing};

use crate::clock::{BootTime, BrokerClock, boot_now};
use crate::error::{Error, ErrorKind};
use crate::find_broker::Target;
use crate::stream::Stream;
use domo_token_protocol::frame::{self, FrameError, HEAD};
use domo_token_protocol::greeting::{self, GREETING, Greeting, HELLO};
use domo_token_protocol::messages::{OLDEST_VERSION, Request, Response, VERSION};

/// The buffer's size, sufficient for most responses; a longer one takes a second buffer.
const USUAL_ANSWER: usize = 4096;

/// Why a request has no response.
#[derive(Debug)]
pub(crate) enum Failure {
    /// The connection ended: the broker may be restarting.
    Lost,
    /// The deadline passed.
    Late,
    /// The broker speaks another protocol version.
    Version(u8),
    /// The broker speaks only versions up to this one, which the next connection must use.
    OlderVersion(u8),
    /// What was received is no response.
    Malformed(FrameError),
    /// The system returned an error.
    Io(io::Error),
}

impl From<Failure> for Error {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Lost => Self::new(
                ErrorKind::Timeout,
                "the broker closed the connection without an answer",
            ),
            Failure::Late => Self::late(),
            Failure::Version(theirs) | Failure::OlderVersion(theirs) => Self::incompatible(theirs),
            // Nothing but the client's name can make a request that long.
            Failure::Malformed(error @ FrameError::RequestTooLong(_)) => {
                Self::new(ErrorKind::UnknownClient, error)
            }
            Failure::Malformed(error) => Self::protocol(error),
            Failure::Io(error) => Self::io("the connection failed", error),
        }
    }
}

pub(crate) struct Connection {
    stream: Stream,
    /// The socket's path.
    broker: Arc<Path>,
    /// The protocol version of our hello.
    version: u8,
    /// Whether our hello was sent.
    greeted: bool,
    /// The broker's greeting, once received.
    greeting: Option<Greeting>,
    /// Whether a response has followed it.
    answered: bool,
    /// When connecting began.
    opened: BootTime,
    clock: BrokerClock,
    unread: Zeroizing<Vec<u8>>,
}

impl Connection {
    /// Connects, by `deadline` at the latest.
    pub(crate) fn open(target: &Target, deadline: BootTime) -> io::Result<Self> {
        let opened = boot_now();
        let left = deadline.saturating_since(opened);
        Ok(Self {
            stream: Stream::open(&target.path, left)?,
            broker: Arc::clone(&target.path),
            version: VERSION,
            greeted: false,
            greeting: None,
            answered: false,
            opened,
            clock: BrokerClock::default(),
            unread: Zeroizing::new(Vec::with_capacity(USUAL_ANSWER)),
        })
    }

    /// Sets the protocol version, before the first request.
    pub(crate) fn speak(&mut self, version: u8) {
        self.version = version;
    }

    /// Returns the broker's boot clock, once it has answered.
    pub(crate) fn clock(&self) -> BrokerClock {
        self.clock
    }

    /// Returns the stream, to identify the server.
    pub(crate) fn stream(&self) -> &Stream {
        &self.stream
    }

    /// Returns the error for a failure of this connection.
    pub(crate) fn error(&self, failure: Failure) -> Error {
        let error = Error::from(failure);
        if self.greeting.is_some() || self.has_unread() {
            return error;
        }
        error.without_greeting(&self.broker)
    }

    /// Returns the path of the broker's socket.
    pub(crate) fn broker(&self) -> &Arc<Path> {
        &self.broker
    }

    /// Returns whether bytes were received that belong to no response.
    pub(crate) fn has_unread(&self) -> bool {
        !self.unread.is_empty()
    }

    /// Returns whether the broker has neither sent anything since the last response nor disconnected.
    pub(crate) fn is_quiet(&self) -> bool {
        !self.has_unread() && self.stream.is_quiet()
    }

    /// Sends a request; the first one follows the hello in the same write.
    pub(crate) fn send(&mut self, request: &Request, deadline: BootTime) -> Result<(), Failure> {
        let frame = frame::encode_request(request).map_err(Failure::Malformed)?;
        let mut bytes = Vec::with_capacity(HELLO + frame.len());
        if !self.greeted {
            bytes.extend_from_slice(&greeting::hello(self.version));
        }
        bytes.extend_from_slice(&frame);
        let left = left_until(deadline)?;
        self.stream.send(&bytes, left).map_err(failure)?;
        self.greeted = true;
        Ok(())
    }

    /// Waits for the next response, until `deadline`. The moments of tokens and refusals are on our clock;
    /// those of a status, which may lie before our clock's start, are on the broker's ([`Self::clock`]).
    pub(crate) fn receive(&mut self, deadline: BootTime) -> Result<Response, Failure> {
        loop {
            if self.greeting.is_none() {
                self.take_greeting()?;
            }
            if self.greeting.is_some() {
                let whole = frame::split(&self.unread).map_err(Failure::Malformed)?;
                if let Some((body, used)) = whole {
                    let response = frame::decode(body).map_err(Failure::Malformed)?;
                    let response = self.on_our_clock(response);
                    self.answered = true;
                    // The connection may keep its buffer for a long time.
                    self.unread.get_mut(..used).unwrap_or_default().zeroize();
                    self.unread.drain(..used);
                    return Ok(response);
                }
            }
            let read = self.read_more(deadline);
            read.map_err(|failure| self.without_answer(failure))?;
        }
    }

    fn on_our_clock(&self, mut response: Response) -> Response {
        if let Response::Token(answer) = &mut response {
            answer.expires = self.clock.to_ours(answer.expires);
        }
        if let Response::Refusal(refusal) = &mut response {
            let next = refusal.next_attempt;
            refusal.next_attempt = next.map(|at| self.clock.to_ours(at));
        }
        response
    }

    /// Returns the failure of a connection without a response. A broker that does not speak our version sends its own
    /// and disconnects. One that responds in an older version has not read our hello, and that response is valid.
    fn without_answer(&self, failure: Failure) -> Failure {
        match (failure, self.greeting) {
            (Failure::Lost, Some(greeting))
                if !self.answered && greeting.version() < self.version =>
            {
                Failure::OlderVersion(greeting.version())
            }
            (failure, _) => failure,
        }
    }

    fn take_greeting(&mut self) -> Result<(), Failure> {
        let Some((hello, _)) = self.unread.split_first_chunk::<HELLO>() else {
            return Ok(());
        };
        let version = greeting::hello_version(*hello).map_err(Failure::Malformed)?;
        if !(OLDEST_VERSION..=self.version).contains(&version) {
            return Err(Failure::Version(version));
        }
        let greeting = Greeting::decode(&self.unread).map_err(Failure::Malformed)?;
        if let Some(greeting) = greeting {
            self.unread.drain(..greeting.length());
            if let Some(theirs) = greeting.clock() {
                self.clock = BrokerClock::new(theirs, self.opened, boot_now());
            }
            self.greeting = Some(greeting);
        }
        Ok(())
    }

    fn read_more(&mut self, deadline: BootTime) -> Result<(), Failure> {
        let filled = self.unread.len();
        if filled == self.unread.capacity() {
            // It must not grow by itself, which would leave a copy of a token.
            let mut larger = Zeroizing::new(Vec::with_capacity(GREETING + HEAD + frame::MAX_BODY));
            larger.extend_from_slice(&self.unread);
            self.unread = larger;
        }
        let capacity = self.unread.capacity();
        self.unread.resize(capacity, 0);
        let room = self.unread.get_mut(filled..).unwrap_or_default();
        let read =
            left_until(deadline).and_then(|left| self.stream.receive(room, left).map_err(failure));
        self.unread
            .truncate(filled + read.as_ref().copied().unwrap_or(0));
        match read? {
            0 => Err(Failure::Lost),
            _ => Ok(()),
        }
    }
}

/// Returns the time left, which is never zero: to the system that means no timeout.
fn left_until(deadline: BootTime) -> Result<std::time::Duration, Failure> {
    let left = deadline.saturating_since(boot_now());
    if left.is_zero() {
        return Err(Failure::Late);
    }
    Ok(left)
}

fn failure(error: io::Error) -> Failure {
    use io::ErrorKind::{
        BrokenPipe, ConnectionAborted, ConnectionReset, TimedOut, UnexpectedEof, WouldBlock,
        WriteZero,
    };
    let kind = error.kind();
    if matches!(kind, WouldBlock | TimedOut) {
        return Failure::Late;
    }
    let left = [
        BrokenPipe,
        ConnectionReset,
        ConnectionAborted,
        UnexpectedEof,
        WriteZero,
    ];
    if left.contains(&kind) {
        return Failure::Lost;
    }
    Failure::Io(error)
}

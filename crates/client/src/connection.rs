//! The protocol of one connection, without I/O: requests become bytes, and bytes become responses.
//!
//! A driver owns the socket, reads the clock and waits: `blocking`, or `asynchronous`.

use std::io;
use std::path::Path;
use std::sync::Arc;

use zeroize::{Zeroize, Zeroizing};

use crate::clock::{BootTime, BrokerClock};
use crate::error::{Error, ErrorKind};
use domo_token_protocol::frame::{self, FrameError, HEAD};
use domo_token_protocol::greeting::{self, GREETING, Greeting, HELLO};
use domo_token_protocol::messages::{OLDEST_VERSION, Request, Response, VERSION};

/// The buffer's size, sufficient for most responses; a longer one takes a second buffer.
const USUAL_ANSWER: usize = 4096;

/// The second buffer's size, sufficient for each response.
const LONGEST_ANSWER: usize = GREETING + HEAD + frame::MAX_BODY;

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

impl From<io::Error> for Failure {
    /// Returns the failure that an error of the socket means.
    fn from(error: io::Error) -> Self {
        use io::ErrorKind::{
            BrokenPipe, ConnectionAborted, ConnectionReset, TimedOut, UnexpectedEof, WouldBlock,
            WriteZero,
        };
        let kind = error.kind();
        if matches!(kind, WouldBlock | TimedOut) {
            return Self::Late;
        }
        let left = [
            BrokenPipe,
            ConnectionReset,
            ConnectionAborted,
            UnexpectedEof,
            WriteZero,
        ];
        if left.contains(&kind) {
            return Self::Lost;
        }
        Self::Io(error)
    }
}

/// The state of one connection to a broker.
pub(crate) struct Connection {
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
    received: Received,
}

impl Connection {
    /// Returns the state of a connection to the socket at `broker` that began at `opened`.
    pub(crate) fn new(broker: &Arc<Path>, opened: BootTime) -> Self {
        Self {
            broker: Arc::clone(broker),
            version: VERSION,
            greeted: false,
            greeting: None,
            answered: false,
            opened,
            clock: BrokerClock::default(),
            received: Received::new(),
        }
    }

    /// Sets the protocol version, before the first request.
    pub(crate) fn speak(&mut self, version: u8) {
        self.version = version;
    }

    /// Returns the broker's boot clock, once it has answered.
    pub(crate) fn clock(&self) -> BrokerClock {
        self.clock
    }

    /// Returns whether moments of the broker are on our clock. Those of a broker of protocol version 1 may be on another.
    pub(crate) fn has_clock(&self) -> bool {
        self.greeting
            .is_some_and(|greeting| greeting.clock().is_some())
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
        !self.received.bytes().is_empty()
    }

    /// Returns the bytes to send for a request, all of which the driver must send. Those of the first one
    /// begin with the hello.
    pub(crate) fn send(&mut self, request: &Request) -> Result<Zeroizing<Vec<u8>>, Failure> {
        let spoken = self
            .greeting
            .map_or(self.version, |greeting| greeting.version());
        // An older broker closes the connection, as one that restarts does: the request would be sent again and again.
        if spoken < request.first_version() {
            return Err(Failure::Version(spoken));
        }
        let frame = frame::encode_request(request).map_err(Failure::Malformed)?;
        let mut bytes = Zeroizing::new(Vec::with_capacity(HELLO + frame.len()));
        if !std::mem::replace(&mut self.greeted, true) {
            bytes.extend_from_slice(&greeting::hello(self.version));
        }
        bytes.extend_from_slice(&frame);
        Ok(bytes)
    }

    /// Returns the space that the driver reads into; [`Self::receive`] gets the number of bytes read. It is
    /// never empty while a response is incomplete.
    ///
    /// The driver has no buffer of its own, because tokens would be copied from one to the other.
    pub(crate) fn space(&mut self) -> &mut [u8] {
        self.received.space()
    }

    /// Takes the first `count` bytes of [`Self::space`], which were received at `now`, and returns the
    /// response that they complete. No bytes mean that the broker has closed the connection.
    pub(crate) fn receive(
        &mut self,
        count: usize,
        now: BootTime,
    ) -> Result<Option<Response>, Failure> {
        if count == 0 {
            return Err(self.closed());
        }
        self.received.extend(count);
        self.next_response(now)
    }

    /// Returns the next response among the bytes received; `None` while more bytes are needed. `now` is the
    /// current time.
    ///
    /// The moments of tokens and refusals are on our clock; those of a status, which may lie before our
    /// clock's start, are on the broker's ([`Self::clock`]).
    pub(crate) fn next_response(&mut self, now: BootTime) -> Result<Option<Response>, Failure> {
        if self.greeting.is_none() {
            self.take_greeting(now)?;
        }
        let Some(greeting) = self.greeting else {
            return Ok(None);
        };
        let whole = frame::split(self.received.bytes()).map_err(Failure::Malformed)?;
        let Some((body, used)) = whole else {
            return Ok(None);
        };
        let response = Response::decode(body, greeting.version()).map_err(Failure::Malformed)?;
        let response = self.on_our_clock(response);
        self.answered = true;
        self.received.discard(used);
        Ok(Some(response))
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

    /// Returns the failure that an error of reading means.
    pub(crate) fn read_failed(&self, error: io::Error) -> Failure {
        let failure = Failure::from(error);
        if matches!(failure, Failure::Lost) {
            return self.closed();
        }
        failure
    }

    /// Returns the failure of a connection that the broker has closed. A broker that does not speak our
    /// version sends its own and disconnects. One that responds in an older version has not read our hello,
    /// and that response is valid.
    fn closed(&self) -> Failure {
        match self.greeting {
            Some(greeting) if !self.answered && greeting.version() < self.version => {
                Failure::OlderVersion(greeting.version())
            }
            _ => Failure::Lost,
        }
    }

    fn take_greeting(&mut self, now: BootTime) -> Result<(), Failure> {
        let bytes = self.received.bytes();
        let Some((hello, _)) = bytes.split_first_chunk::<HELLO>() else {
            return Ok(());
        };
        let version = greeting::hello_version(*hello).map_err(Failure::Malformed)?;
        if !(OLDEST_VERSION..=self.version).contains(&version) {
            return Err(Failure::Version(version));
        }
        let greeting = Greeting::decode(bytes).map_err(Failure::Malformed)?;
        if let Some(greeting) = greeting {
            self.received.discard(greeting.length());
            if let Some(theirs) = greeting.clock() {
                self.clock = BrokerClock::new(theirs, self.opened, now);
            }
            self.greeting = Some(greeting);
        }
        Ok(())
    }
}

/// The bytes received that belong to no response yet. Discarded ones are wiped, because a connection may
/// keep its buffer for a long time.
struct Received {
    /// Bytes after `filled` are zero, except those that a driver has just read.
    buffer: Zeroizing<Vec<u8>>,
    filled: usize,
}

impl Received {
    fn new() -> Self {
        Self {
            buffer: Zeroizing::new(vec![0; USUAL_ANSWER]),
            filled: 0,
        }
    }

    fn bytes(&self) -> &[u8] {
        self.buffer.get(..self.filled).unwrap_or_default()
    }

    fn space(&mut self) -> &mut [u8] {
        if self.filled == self.buffer.len() {
            // It must not grow by itself, which would leave a copy of a token.
            let mut larger = Zeroizing::new(vec![0; LONGEST_ANSWER]);
            if let Some(start) = larger.get_mut(..self.filled) {
                start.copy_from_slice(&self.buffer);
            }
            self.buffer = larger;
        }
        self.buffer.get_mut(self.filled..).unwrap_or_default()
    }

    fn extend(&mut self, count: usize) {
        self.filled = self.buffer.len().min(self.filled + count);
    }

    fn discard(&mut self, count: usize) {
        let rest = count.min(self.filled)..self.filled;
        let left = rest.len();
        self.buffer.copy_within(rest, 0);
        let unused = self.buffer.get_mut(left..self.filled);
        unused.unwrap_or_default().zeroize();
        self.filled = left;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use domo_token_protocol::messages::{Refusal, RefusalKind, TokenAnswer, TokenText};

    const SOCKET: &str = "/run/broker.sock";

    fn at(millis: u64) -> BootTime {
        BootTime::from_millis(millis)
    }

    fn connection() -> Connection {
        Connection::new(&Path::new(SOCKET).into(), at(1000))
    }

    fn greeting(version: u8) -> Vec<u8> {
        let greeting = Greeting::new(version, at(1000));
        greeting.encode(&mut [0; GREETING]).to_vec()
    }

    fn frames(responses: &[Response]) -> Vec<u8> {
        let frame = |response| frame::encode(response).unwrap().to_vec();
        responses.iter().flat_map(frame).collect()
    }

    fn token(text: &str) -> Response {
        Response::Token(TokenAnswer {
            access_token: TokenText::new(text.to_owned()),
            client: "acme".to_owned(),
            scope: "data".to_owned(),
            generation: 7,
            lifetime_ms: 3_599_000,
            expires: at(3_600_000),
        })
    }

    fn busy() -> Response {
        Response::Refusal(Refusal {
            kind: RefusalKind::Busy,
            cause: "because".to_owned(),
            next_attempt: Some(at(5000)),
        })
    }

    /// Returns the responses in `bytes`, as a driver receives them.
    fn feed(connection: &mut Connection, mut bytes: &[u8]) -> Result<Vec<Response>, Failure> {
        let mut responses = Vec::new();
        while !bytes.is_empty() {
            let space = connection.space();
            let count = space.len().min(bytes.len());
            space[..count].copy_from_slice(&bytes[..count]);
            bytes = &bytes[count..];
            let mut next = connection.receive(count, at(1002))?;
            while let Some(response) = next {
                responses.push(response);
                next = connection.next_response(at(1002))?;
            }
        }
        Ok(responses)
    }

    fn end(connection: &mut Connection) -> Failure {
        connection.receive(0, at(1002)).unwrap_err()
    }

    #[test]
    fn first_request_follows_the_hello_and_later_ones_do_not() {
        let mut connection = connection();
        let frame = frame::encode_request(&Request::Status).unwrap().to_vec();
        let first = [greeting::hello(VERSION).to_vec(), frame.clone()].concat();
        assert_eq!(*connection.send(&Request::Status).unwrap(), first);
        assert_eq!(*connection.send(&Request::Status).unwrap(), frame);
        let mut older = self::connection();
        older.speak(1);
        let first = [b"DTK\x01".to_vec(), frame].concat();
        assert_eq!(*older.send(&Request::Status).unwrap(), first);
    }

    #[test]
    fn request_that_the_brokers_version_lacks_is_an_error_and_is_not_sent() {
        let mut older = connection();
        older.speak(0);
        let failure = older.send(&Request::Status).unwrap_err();
        assert!(matches!(failure, Failure::Version(0)), "{failure:?}");
        let kind = Error::from(failure).kind();
        assert_eq!(kind, ErrorKind::IncompatibleVersion);
        older.speak(1);
        assert!(
            older
                .send(&Request::Status)
                .unwrap()
                .starts_with(b"DTK\x01")
        );
    }

    #[test]
    fn responses_of_each_version_are_complete_with_their_last_byte() {
        let responses = [token("c4nary"), busy(), Response::End];
        for version in OLDEST_VERSION..=VERSION {
            let bytes = [greeting(version), frames(&responses)].concat();
            for cut in 0..=bytes.len() {
                let mut connection = connection();
                let (start, rest) = bytes.split_at(cut);
                let mut read = feed(&mut connection, start).unwrap();
                read.extend(feed(&mut connection, rest).unwrap());
                assert_eq!(read, responses, "version {version}, cut at {cut}");
                assert!(!connection.has_unread());
            }
            let mut connection = connection();
            let mut read = Vec::new();
            for byte in bytes {
                read.extend(feed(&mut connection, &[byte]).unwrap());
            }
            assert_eq!(read, responses);
            assert!(matches!(end(&mut connection), Failure::Lost));
        }
    }

    #[test]
    fn moments_are_translated_from_the_clock_of_the_greeting() {
        const DAY: u64 = 86_400_000;
        let ahead = Greeting::new(2, at(1000 + DAY));
        let ahead = ahead.encode(&mut [0; GREETING]).to_vec();
        let mut connection = connection();
        let mut response = token("c4nary");
        if let Response::Token(answer) = &mut response {
            answer.expires = at(3_600_000 + DAY);
        }
        let bytes = [ahead, frames(&[response])].concat();
        assert_eq!(feed(&mut connection, &bytes).unwrap(), [token("c4nary")]);
    }

    #[test]
    fn broker_that_closes_after_an_older_greeting_speaks_that_version() {
        let mut closed = connection();
        assert_eq!(feed(&mut closed, &greeting(1)).unwrap(), []);
        assert!(matches!(end(&mut closed), Failure::OlderVersion(1)));
        let mut reset = connection();
        feed(&mut reset, &greeting(1)).unwrap();
        let failure = reset.read_failed(io::ErrorKind::ConnectionReset.into());
        assert!(matches!(failure, Failure::OlderVersion(1)), "{failure:?}");
        let mut answered = connection();
        let bytes = [greeting(1), frames(&[busy()])].concat();
        assert_eq!(feed(&mut answered, &bytes).unwrap(), [busy()]);
        assert!(matches!(end(&mut answered), Failure::Lost));
        let mut same = connection();
        same.speak(1);
        feed(&mut same, &greeting(1)).unwrap();
        assert!(matches!(end(&mut same), Failure::Lost));
    }

    #[test]
    fn greeting_of_an_unknown_version_is_a_failure() {
        for version in [0, VERSION + 1, 255] {
            let failure = feed(&mut connection(), &greeting::hello(version)).unwrap_err();
            assert!(matches!(failure, Failure::Version(theirs) if theirs == version));
        }
        let mut older = connection();
        older.speak(1);
        let failure = feed(&mut older, &greeting(2)).unwrap_err();
        assert!(matches!(failure, Failure::Version(2)), "{failure:?}");
    }

    #[test]
    fn bytes_that_are_no_response_are_malformed() {
        let with_greeting = |bytes: &[u8]| [&greeting(2), bytes].concat();
        for bytes in [
            b"HTTP/1.1 400 Bad Request\r\n\r\n".to_vec(),
            with_greeting(&[0xff; 4]),
            with_greeting(b"\x01\x00\x00\x00\x63"),
            with_greeting(b"\x00\x00\x00\x00"),
        ] {
            let failure = feed(&mut connection(), &bytes).unwrap_err();
            assert!(matches!(failure, Failure::Malformed(_)), "{failure:?}");
        }
    }

    #[test]
    fn error_names_the_socket_if_nothing_was_received_from_it() {
        let silent = connection().error(Failure::Lost).to_string();
        assert!(silent.contains(SOCKET), "{silent}");
        for bytes in [&greeting(2)[..], b"D"] {
            let mut connection = connection();
            feed(&mut connection, bytes).unwrap();
            let error = connection.error(Failure::Lost).to_string();
            assert!(!error.contains(SOCKET), "{error}");
        }
    }

    #[test]
    fn response_longer_than_the_first_buffer_is_received_whole() {
        let long = |letter: &str| Response::Metrics(letter.repeat(frame::MAX_BODY - 64));
        let responses = [long("a"), token("c4nary"), long("b")];
        let bytes = [greeting(2), frames(&responses)].concat();
        assert_eq!(feed(&mut connection(), &bytes).unwrap(), responses);
    }

    #[test]
    fn buffer_keeps_no_byte_of_a_response_once_it_is_returned() {
        let mut connection = connection();
        let bytes = [greeting(2), frames(&[token("c4nary"), token("c4nary")])].concat();
        let (start, rest) = bytes.split_at(bytes.len() - 1);
        assert_eq!(feed(&mut connection, start).unwrap().len(), 1);
        let found = |connection: &Connection| {
            let buffer = connection.received.buffer.windows(6);
            buffer.filter(|bytes| bytes == b"c4nary").count()
        };
        assert_eq!(found(&connection), 1, "of the incomplete response");
        assert_eq!(feed(&mut connection, rest).unwrap().len(), 1);
        assert!(connection.received.buffer.iter().all(|byte| *byte == 0));
    }
}

//! Sends requests and reads their responses over an idle or a new connection; retries with a backoff.

use std::hash::{BuildHasher, RandomState};
use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::clock::{BootTime, boot_now};
use crate::connection::{Connection, Failure};
use crate::error::Error;
use crate::find_broker::Address;
use domo_token_protocol::messages::{RefusalKind, Request, Response, VERSION};

/// How long a first connection is retried while the socket refuses: as long as a restart takes.
const RESTART_TIME: Duration = Duration::from_secs(1);

/// The broker answers by the deadline; a call is cancelled this much later.
pub(crate) const GRACE: Duration = Duration::from_millis(200);

/// How long connecting is retried, within the deadline.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct RetryPolicy {
    /// While the socket does not exist.
    missing: Duration,
    /// While the socket refuses connections.
    refusing: Duration,
}

impl RetryPolicy {
    /// No retries.
    pub(crate) const NONE: Self = Self {
        missing: Duration::ZERO,
        refusing: Duration::ZERO,
    };

    /// Before the first connection: there may be no broker at all.
    pub(crate) const FIRST: Self = Self {
        missing: Duration::ZERO,
        refusing: RESTART_TIME,
    };

    /// After a connection: the broker is restarting.
    pub(crate) const RECONNECT: Self = Self {
        missing: Duration::MAX,
        refusing: Duration::MAX,
    };

    /// Returns the policy before the first connection.
    fn before_first(self) -> Self {
        Self {
            missing: self.missing.min(Self::FIRST.missing),
            refusing: self.refusing.min(Self::FIRST.refusing),
        }
    }

    /// Returns for how long an error of this kind is retried, if it is.
    fn duration_for(self, kind: io::ErrorKind) -> Option<Duration> {
        if kind == io::ErrorKind::NotFound {
            Some(self.missing)
        } else if kind == io::ErrorKind::ConnectionRefused {
            Some(self.refusing)
        } else {
            // The backlog is full: the broker runs and is busy.
            (kind == io::ErrorKind::WouldBlock).then_some(Duration::MAX)
        }
    }
}

/// The connections to one broker. The threads of a process share it.
pub(crate) struct Transport {
    address: Address,
    /// A connection that no call uses; a call that finds none makes its own.
    idle: Mutex<Option<Connection>>,
    /// Whether there has been a connection.
    has_connected: AtomicBool,
}

/// Adds one part of a response, and what its connection shows of the broker that gave it, to the result.
pub(crate) type ReadPart<'a, T> = dyn Fn(&mut T, Response, &Connection) -> Result<Next, Error> + 'a;

/// Whether further parts of the response follow.
pub(crate) enum Next {
    More,
    Done,
}

impl Transport {
    pub(crate) fn new(address: Address) -> Self {
        Self {
            address,
            idle: Mutex::new(None),
            has_connected: AtomicBool::new(false),
        }
    }

    /// Connects immediately, so that a missing broker is an error here.
    pub(crate) fn open(address: Address, deadline: BootTime) -> Result<Self, Error> {
        let transport = Self::new(address);
        let connection = transport.connect(deadline, RetryPolicy::FIRST)?;
        transport.put_back(connection);
        Ok(transport)
    }

    /// Returns a transport to the same address, for another process.
    pub(crate) fn with_own_connection(&self) -> Self {
        let has_connected = self.has_connected.load(Ordering::Relaxed);
        Self {
            has_connected: AtomicBool::new(has_connected),
            ..Self::new(self.address.clone())
        }
    }

    /// Returns the path of the broker's socket: that of the idle connection, else the one that would be used
    /// now.
    pub(crate) fn broker(&self) -> Arc<Path> {
        let connected = self.idle().as_ref().map(|idle| Arc::clone(idle.broker()));
        connected.unwrap_or_else(|| self.address.target().path)
    }

    /// Sends a request and returns its response, which `read` assembles from its parts. A part that `read`
    /// rejects closes the connection. Until the deadline, the request is sent again after a connection was
    /// lost or the broker was busy; an incomplete response is discarded.
    pub(crate) fn request<T: Default>(
        &self,
        (deadline, retry): (BootTime, RetryPolicy),
        request: &dyn Fn(Duration) -> Request,
        read: &ReadPart<T>,
    ) -> Result<T, Error> {
        let mut busy: Option<Error> = None;
        let mut lost: Option<Error> = None;
        let mut backoff = Backoff::default();
        let mut version = VERSION;
        // Bytes that came meanwhile would be read as the response.
        let mut idle = self.idle().take().filter(Connection::is_quiet);
        loop {
            let is_new = idle.is_none();
            let connect = || self.connect(deadline, retry);
            let connection = idle.take().map_or_else(connect, Ok);
            let mut connection = match connection {
                Ok(connection) => connection,
                // The broker answered "busy" and has stopped since: that answer explains more.
                Err(error) => return Err(busy.unwrap_or(error)),
            };
            if is_new {
                connection.speak(version);
            }
            let left = deadline.saturating_since(boot_now());
            match Self::attempt(&mut connection, &request(left), deadline + GRACE, read) {
                Ok(answer) => {
                    self.put_back(connection);
                    return Ok(answer);
                }
                Err(AttemptError::Refused { error, busy: false }) => {
                    self.put_back(connection);
                    return Err(error);
                }
                Err(AttemptError::Refused { error, busy: true }) => busy = Some(error),
                Err(AttemptError::Lost(_)) if !is_new => continue,
                Err(AttemptError::OlderVersion(theirs)) => {
                    version = theirs;
                    continue;
                }
                Err(AttemptError::Lost(error)) => lost = Some(error),
                Err(AttemptError::Final(error)) => return Err(error),
            }
            let pause = backoff.next();
            if boot_now() + pause >= deadline {
                return Err(busy.or(lost).unwrap_or_else(|| Failure::Lost.into()));
            }
            sleep(pause);
        }
    }

    fn attempt<T: Default>(
        connection: &mut Connection,
        request: &Request,
        until: BootTime,
        read: &ReadPart<T>,
    ) -> Result<T, AttemptError> {
        let sent = connection.send(request, until);
        sent.map_err(|failure| AttemptError::of(failure, connection))?;
        let mut answer = T::default();
        loop {
            let received = connection.receive(until);
            let response = received.map_err(|failure| AttemptError::of(failure, connection))?;
            if let Response::Refusal(refusal) = response {
                let busy = refusal.kind == RefusalKind::Busy;
                let error = Error::refused(refusal);
                return Err(AttemptError::Refused { error, busy });
            }
            match read(&mut answer, response, connection).map_err(AttemptError::Final)? {
                Next::More => {}
                Next::Done => return Ok(answer),
            }
        }
    }

    /// Connects and checks the server. Retries for as long as `retry` and the deadline allow.
    pub(crate) fn connect(
        &self,
        deadline: BootTime,
        retry: RetryPolicy,
    ) -> Result<Connection, Error> {
        let retry = if self.has_connected.load(Ordering::Relaxed) {
            retry
        } else {
            retry.before_first()
        };
        let start = boot_now();
        let mut backoff = Backoff::default();
        loop {
            let target = self.address.target();
            let error = match Connection::open(&target, deadline) {
                Ok(connection) => {
                    target.check(connection.stream())?;
                    self.has_connected.store(true, Ordering::Relaxed);
                    return Ok(connection);
                }
                Err(error) => error,
            };
            let kind = error.kind();
            let Some(wait) = retry.duration_for(kind) else {
                return Err(target.error(error));
            };
            let until = deadline.min(start + wait);
            let pause = backoff.next();
            if boot_now() + pause >= until {
                if kind == io::ErrorKind::WouldBlock {
                    let busy = Error::busy("the broker is too busy to take a connection");
                    return Err(busy.without_greeting(&target.path));
                }
                return Err(target.error(error));
            }
            sleep(pause);
        }
    }

    /// Keeps a connection for the next call, unless it has unread bytes, which would be read as the next
    /// response.
    fn put_back(&self, connection: Connection) {
        if !connection.has_unread() {
            *self.idle() = Some(connection);
        }
    }

    fn idle(&self) -> MutexGuard<'_, Option<Connection>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Why an attempt has no response.
enum AttemptError {
    Lost(Error),
    OlderVersion(u8),
    Refused { error: Error, busy: bool },
    Final(Error),
}

impl AttemptError {
    fn of(failure: Failure, connection: &Connection) -> Self {
        if let Failure::OlderVersion(theirs) = failure {
            return Self::OlderVersion(theirs);
        }
        let is_lost = matches!(failure, Failure::Lost);
        let error = connection.error(failure);
        if is_lost {
            return Self::Lost(error);
        }
        Self::Final(error)
    }
}

pub(crate) fn unexpected(response: &Response) -> Error {
    Error::protocol(format!(
        "the broker answered \"{}\" to another request",
        response.name()
    ))
}

/// The pauses between retries: random, so that callers do not all reconnect at the same time after a
/// restart, and growing.
#[derive(Default)]
pub(crate) struct Backoff(u32);

impl Backoff {
    /// Returns the next pause: 10 to 50 ms at first, 40 to 200 ms from the third on.
    pub(crate) fn next(&mut self) -> Duration {
        const MAX_DOUBLINGS: u32 = 2;
        let random = RandomState::new().hash_one(0_u8);
        let pause = Duration::from_millis(10 + random % 40) * (1 << self.0);
        self.0 = MAX_DOUBLINGS.min(self.0 + 1);
        pause
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "a missing socket cannot be awaited"
)]
pub(crate) fn sleep(span: Duration) {
    std::thread::sleep(span);
}

//! One question and its whole answer, over whichever connection is free or can be made.

use std::hash::{BuildHasher, RandomState};
use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::address::Address;
use crate::clock::{BootTime, boot_now};
use crate::connection::{Connection, Failure};
use crate::error::Error;
use domo_token_protocol::messages::{RefusalKind, Request, Response, VERSION};

/// How long a socket that refuses is tried again: as long as a restart takes.
const RESTART: Duration = Duration::from_secs(1);

/// The broker answers at the deadline; this much later it is given up.
pub(crate) const GRACE: Duration = Duration::from_millis(200);

/// How long a broker that isn't there is waited for, within the deadline.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct RetryPolicy {
    /// While there is no socket.
    missing: Duration,
    /// While there is one that refuses.
    refusing: Duration,
}

impl RetryPolicy {
    /// Not at all.
    pub(crate) const NONE: Self = Self {
        missing: Duration::ZERO,
        refusing: Duration::ZERO,
    };

    /// Of whoever hasn't met a broker yet: there may never be one.
    pub(crate) const FIRST: Self = Self {
        missing: Duration::ZERO,
        refusing: RESTART,
    };

    /// Of whoever has: it is restarting.
    pub(crate) const RECONNECT: Self = Self {
        missing: Duration::MAX,
        refusing: Duration::MAX,
    };

    /// How long after such an error one goes on trying.
    fn at(self, kind: io::ErrorKind) -> Option<Duration> {
        if kind == io::ErrorKind::NotFound {
            Some(self.missing)
        } else if kind == io::ErrorKind::ConnectionRefused {
            Some(self.refusing)
        } else {
            // Its backlog is full: it lives, and has much to do.
            (kind == io::ErrorKind::WouldBlock).then_some(Duration::MAX)
        }
    }
}

/// The way to one broker. Any number of threads of one process may ask at once.
pub(crate) struct Transport {
    address: Address,
    /// The connection that no call is using; a call that finds none makes its own.
    idle: Mutex<Option<Connection>>,
}

/// Adds one part of an answer to the whole, and what its connection shows of the broker that gave it.
pub(crate) type Take<'a, T> = dyn Fn(&mut T, Response, &Connection) -> Result<Next, Error> + 'a;

/// Whether an answer goes on.
pub(crate) enum Next {
    More,
    Done,
}

impl Transport {
    pub(crate) fn new(address: Address) -> Self {
        Self {
            address,
            idle: Mutex::new(None),
        }
    }

    /// Connects, so that whoever has no broker hears it now.
    pub(crate) fn open(address: Address, deadline: BootTime) -> Result<Self, Error> {
        let exchange = Self::new(address);
        let connection = exchange.connect(deadline, RetryPolicy::FIRST)?;
        exchange.keep(connection);
        Ok(exchange)
    }

    /// The same way for another process.
    pub(crate) fn anew(&self) -> Self {
        Self::new(self.address.clone())
    }

    /// The path of the broker's socket: the one that answered last, else the one that would be
    /// asked now.
    pub(crate) fn broker(&self) -> Arc<Path> {
        let connected = self.idle().as_ref().map(|idle| Arc::clone(idle.broker()));
        connected.unwrap_or_else(|| self.address.target().path)
    }

    /// Asks, and gives what `take` makes of the whole answer, part by part with the path of the
    /// socket that it came from. A part that `take` rejects ends its connection. A connection lost before the answer's
    /// end is made again, and a busy broker asked again, until the deadline; what came of an answer
    /// by then is forgotten.
    pub(crate) fn ask<T: Default>(
        &self,
        (deadline, patience): (BootTime, RetryPolicy),
        request: &dyn Fn(Duration) -> Request,
        take: &Take<T>,
    ) -> Result<T, Error> {
        let mut busy: Option<Error> = None;
        let mut lost: Option<Error> = None;
        let mut pauses = Backoff::default();
        let mut version = VERSION;
        // What came meanwhile would be taken for the answer.
        let mut kept = self.idle().take().filter(Connection::is_quiet);
        loop {
            let fresh = kept.is_none();
            let connect = || self.connect(deadline, patience);
            let connection = kept.take().map_or_else(connect, Ok);
            let mut connection = match connection {
                Ok(connection) => connection,
                // Whoever was told "busy" by a broker that has gone since has its answer.
                Err(error) => return Err(busy.unwrap_or(error)),
            };
            if fresh {
                connection.speak(version);
            }
            let left = deadline.saturating_since(boot_now());
            match Self::once(&mut connection, &request(left), deadline + GRACE, take) {
                Ok(answer) => {
                    self.keep(connection);
                    return Ok(answer);
                }
                Err(Ended::Refused { error, busy: false }) => {
                    self.keep(connection);
                    return Err(error);
                }
                Err(Ended::Refused { error, busy: true }) => busy = Some(error),
                Err(Ended::Lost(_)) if !fresh => continue,
                Err(Ended::OlderVersion(theirs)) => {
                    version = theirs;
                    continue;
                }
                Err(Ended::Lost(error)) => lost = Some(error),
                Err(Ended::Final(error)) => return Err(error),
            }
            let pause = pauses.next();
            if boot_now() + pause >= deadline {
                return Err(busy.or(lost).unwrap_or_else(|| Failure::Lost.into()));
            }
            rest(pause);
        }
    }

    fn once<T: Default>(
        connection: &mut Connection,
        request: &Request,
        give_up: BootTime,
        take: &Take<T>,
    ) -> Result<T, Ended> {
        let sent = connection.send(request, give_up);
        sent.map_err(|failure| Ended::of(failure, connection))?;
        let mut answer = T::default();
        loop {
            let received = connection.receive(give_up);
            let response = received.map_err(|failure| Ended::of(failure, connection))?;
            if let Response::Refusal(refusal) = response {
                let busy = refusal.kind == RefusalKind::Busy;
                let error = Error::from(refusal);
                return Err(Ended::Refused { error, busy });
            }
            match take(&mut answer, response, connection).map_err(Ended::Final)? {
                Next::More => {}
                Next::Done => return Ok(answer),
            }
        }
    }

    /// A broker that isn't there is tried again for as long as `patience` and the deadline say.
    pub(crate) fn connect(
        &self,
        deadline: BootTime,
        patience: RetryPolicy,
    ) -> Result<Connection, Error> {
        let start = boot_now();
        let mut pauses = Backoff::default();
        loop {
            let target = self.address.target();
            let error = match Connection::open(&target, deadline) {
                Ok(connection) => {
                    target.check(connection.stream())?;
                    return Ok(connection);
                }
                Err(error) => error,
            };
            let kind = error.kind();
            let Some(wait) = patience.at(kind) else {
                return Err(target.error(error));
            };
            let until = deadline.min(start + wait);
            let pause = pauses.next();
            if boot_now() + pause >= until {
                if kind == io::ErrorKind::WouldBlock {
                    let busy = Error::later("the broker is too busy to take a connection");
                    return Err(busy.without_greeting(&target.path));
                }
                return Err(target.error(error));
            }
            rest(pause);
        }
    }

    /// Leaves a connection to the next call, unless more has come than was asked for, which would be
    /// taken for the next answer.
    fn keep(&self, connection: Connection) {
        if !connection.has_unread() {
            *self.idle() = Some(connection);
        }
    }

    fn idle(&self) -> MutexGuard<'_, Option<Connection>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How one attempt ended without an answer.
enum Ended {
    Lost(Error),
    OlderVersion(u8),
    Refused { error: Error, busy: bool },
    Final(Error),
}

impl Ended {
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
    Error::Broken {
        cause: format!(
            "the broker answered \"{}\" to another question",
            response.name()
        ),
    }
}

/// The pauses between tries: each a draw, so that those who wait for a restart don't all come at
/// once, and the later ones longer.
#[derive(Default)]
pub(crate) struct Backoff(u32);

impl Backoff {
    /// Between 10 and 50 ms at first, in the end between 40 and 200 ms.
    pub(crate) fn next(&mut self) -> Duration {
        const DOUBLED: u32 = 2;
        let chance = RandomState::new().hash_one(0_u8);
        let pause = Duration::from_millis(10 + chance % 40) * (1 << self.0);
        self.0 = DOUBLED.min(self.0 + 1);
        pause
    }
}

#[expect(clippy::disallowed_methods, reason = "a socket can't be waited for")]
pub(crate) fn rest(span: Duration) {
    std::thread::sleep(span);
}

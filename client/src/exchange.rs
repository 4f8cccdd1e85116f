//! One question and its whole answer, over whichever connection is free or can be made.

use std::hash::{BuildHasher, RandomState};
use std::io;
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::address::Address;
use crate::clock::{BootTime, boot_now};
use crate::connection::{Connection, Failure};
use crate::error::Error;
use crate::wire::{RefusalKind, Request, Response};

/// How long a socket that refuses is tried again: as long as a restart takes.
const RESTART: Duration = Duration::from_secs(1);

/// The broker answers at the deadline; this much later it is given up.
const GRACE: Duration = Duration::from_millis(200);

/// The way to one broker. Any number of threads may ask at once.
pub(crate) struct Exchange {
    address: Address,
    /// The connection that no call is using; a call that finds none makes its own.
    idle: Mutex<Option<Connection>>,
}

/// Whether an answer goes on.
pub(crate) enum Next {
    More,
    Done,
}

impl Exchange {
    /// Connects, so that whoever has no broker hears it now.
    pub(crate) fn open(address: Address, deadline: BootTime) -> Result<Self, Error> {
        let exchange = Self {
            address,
            idle: Mutex::new(None),
        };
        let connection = exchange.connect(deadline)?;
        exchange.keep(connection);
        Ok(exchange)
    }

    /// The socket's path.
    pub(crate) fn path(&self) -> &Path {
        &self.address.path
    }

    /// Asks and takes the whole answer. A connection lost before its answer is made again, and a
    /// busy broker asked again, until the deadline.
    pub(crate) fn ask(
        &self,
        deadline: BootTime,
        request: &dyn Fn(Duration) -> Request,
        take: &mut dyn FnMut(Response) -> Result<Next, Error>,
    ) -> Result<(), Error> {
        let mut busy: Option<Error> = None;
        let mut kept = self.idle().take();
        loop {
            let fresh = kept.is_none();
            let connection = kept.take().map_or_else(|| self.connect(deadline), Ok);
            let mut connection = match connection {
                Ok(connection) => connection,
                // Whoever was told "busy" by a broker that has gone since has its answer.
                Err(error) => return Err(busy.unwrap_or(error)),
            };
            let left = deadline.saturating_since(boot_now());
            match Self::once(&mut connection, &request(left), deadline + GRACE, take) {
                Ok(()) => {
                    self.keep(connection);
                    return Ok(());
                }
                Err(Ended::Refused { error, busy: false }) => {
                    self.keep(connection);
                    return Err(error);
                }
                Err(Ended::Refused { error, busy: true }) => busy = Some(error),
                Err(Ended::Lost) if !fresh => continue,
                Err(Ended::Lost) => {}
                Err(Ended::Final(error)) => return Err(error),
            }
            if boot_now() + pause() >= deadline {
                return Err(busy.unwrap_or_else(|| Failure::Lost.into()));
            }
            rest(pause());
        }
    }

    fn once(
        connection: &mut Connection,
        request: &Request,
        give_up: BootTime,
        take: &mut dyn FnMut(Response) -> Result<Next, Error>,
    ) -> Result<(), Ended> {
        connection.send(request, give_up)?;
        loop {
            let response = connection.receive(give_up)?;
            if let Response::Refusal(refusal) = response {
                let busy = refusal.kind == RefusalKind::Busy;
                let error = Error::from(refusal);
                return Err(Ended::Refused { error, busy });
            }
            match take(response).map_err(Ended::Final)? {
                Next::More => {}
                Next::Done => return Ok(()),
            }
        }
    }

    /// A socket that refuses is tried again for as long as a restart takes.
    pub(crate) fn connect(&self, deadline: BootTime) -> Result<Connection, Error> {
        let restarted = deadline.min(boot_now() + RESTART);
        loop {
            let (error, until) = match Connection::open(&self.address, deadline) {
                Ok(connection) => {
                    self.address.check(connection.stream())?;
                    return Ok(connection);
                }
                Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
                    (error, restarted)
                }
                // Its backlog is full: it lives, and has much to do.
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => (error, deadline),
                Err(error) => return Err(self.address.error(error)),
            };
            if boot_now() + pause() >= until {
                if error.kind() == io::ErrorKind::ConnectionRefused {
                    return Err(self.address.error(error));
                }
                return Err(Error::TryLater {
                    cause: "the broker is too busy to take a connection".to_owned(),
                    next_attempt: None,
                });
            }
            rest(pause());
        }
    }

    fn keep(&self, connection: Connection) {
        *self.idle() = Some(connection);
    }

    fn idle(&self) -> MutexGuard<'_, Option<Connection>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How one attempt ended without an answer.
enum Ended {
    Lost,
    Refused { error: Error, busy: bool },
    Final(Error),
}

impl From<Failure> for Ended {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Lost => Self::Lost,
            Failure::Late | Failure::Version(_) | Failure::Malformed(_) | Failure::Io(_) => {
                Self::Final(failure.into())
            }
        }
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

/// Between 10 and 50 ms, so that those who wait for a restart don't all come at once.
pub(crate) fn pause() -> Duration {
    let chance = RandomState::new().hash_one(0_u8);
    Duration::from_millis(10 + chance % 40)
}

#[expect(clippy::disallowed_methods, reason = "a socket can't be waited for")]
pub(crate) fn rest(span: Duration) {
    std::thread::sleep(span);
}

//! Sends requests and reads their responses over an idle or a new connection; retries with a backoff.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

#[cfg(all(windows, feature = "tokio"))]
use crate::asynchronous::AsyncConnection;
use crate::blocking::BlockingConnection;
use crate::clock::{BootTime, boot_now};
use crate::connection::Connection;
use crate::error::Error;
use crate::find_broker::{Address, Target};
use crate::retry::{AttemptError, ConnectAttempts, Decision, GRACE, RequestAttempts, RetryPolicy};
use domo_token_protocol::messages::{RefusalKind, Request, Response};

/// The connections to one broker. The threads of a process share it.
pub(crate) struct Transport {
    address: Address,
    /// A connection that no call uses; a call that finds none makes its own.
    idle: Mutex<Option<BlockingConnection>>,
    /// The same of the async calls, which can't use that one: with the id of its runtime.
    #[cfg(all(windows, feature = "tokio"))]
    idle_async: Mutex<Option<(AsyncConnection, tokio::runtime::Id)>>,
    /// Whether there has been a connection.
    has_connected: AtomicBool,
}

/// Returns the request, by the time that is left.
pub(crate) type MakeRequest<'a> = dyn Fn(Duration) -> Request + Sync + 'a;

/// Adds one part of a response, and what its connection shows of the broker that gave it, to the result.
pub(crate) type ReadPart<'a, T> =
    dyn Fn(&mut T, Response, &Connection) -> Result<Next, Error> + Sync + 'a;

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
            #[cfg(all(windows, feature = "tokio"))]
            idle_async: Mutex::new(None),
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
        let idle = self.idle();
        let connected = idle.as_ref().map(|idle| Arc::clone(idle.state.broker()));
        drop(idle);
        connected.unwrap_or_else(|| self.target().path)
    }

    /// Sends a request and returns its response, which `read` assembles from its parts. A part that `read`
    /// rejects closes the connection. Until the deadline, the request is sent again after a connection was
    /// lost or the broker was busy; an incomplete response is discarded.
    pub(crate) fn request<T: Default>(
        &self,
        (deadline, retry): (BootTime, RetryPolicy),
        request: &MakeRequest,
        read: &ReadPart<T>,
    ) -> Result<T, Error> {
        let mut attempts = RequestAttempts::new(deadline);
        let mut idle = self.take_idle();
        loop {
            let is_new = idle.is_none();
            let connect = || self.connect(deadline, retry);
            let mut connection = match idle.take().map_or_else(connect, Ok) {
                Ok(connection) => connection,
                Err(error) => return Err(attempts.not_connected(error)),
            };
            if is_new {
                connection.state.speak(attempts.version());
            }
            let left = deadline.saturating_since(boot_now());
            let error = match attempt(&mut connection, &request(left), deadline + GRACE, read) {
                Ok(answer) => {
                    self.put_back(connection);
                    return Ok(answer);
                }
                Err(error) => error,
            };
            if matches!(error, AttemptError::Refused(_)) {
                self.put_back(connection);
            }
            match attempts.failed(error, is_new, boot_now()) {
                Decision::Fail(error) => return Err(error),
                Decision::Retry(pause) => sleep(pause),
            }
        }
    }

    /// Returns the socket to connect to now.
    pub(crate) fn target(&self) -> Target {
        self.address.target()
    }

    /// Connects and checks the server. Retries for as long as `retry` and the deadline allow.
    pub(crate) fn connect(
        &self,
        deadline: BootTime,
        retry: RetryPolicy,
    ) -> Result<BlockingConnection, Error> {
        let mut attempts = self.connect_attempts(deadline, retry);
        loop {
            let target = self.target();
            let error = match BlockingConnection::open(&target, deadline) {
                Ok(connection) => {
                    target.check(&connection.stream)?;
                    self.record_connection();
                    return Ok(connection);
                }
                Err(error) => error,
            };
            match attempts.failed(error, &target, boot_now()) {
                Decision::Fail(error) => return Err(error),
                Decision::Retry(pause) => sleep(pause),
            }
        }
    }

    /// Starts the attempts of one connect. Before the first connection there may be no broker at all.
    pub(crate) fn connect_attempts(
        &self,
        deadline: BootTime,
        retry: RetryPolicy,
    ) -> ConnectAttempts {
        let retry = if self.has_connected.load(Ordering::Relaxed) {
            retry
        } else {
            retry.before_first()
        };
        ConnectAttempts::new(boot_now(), deadline, retry)
    }

    /// Records that a connection was made to a server that passed the checks.
    pub(crate) fn record_connection(&self) {
        self.has_connected.store(true, Ordering::Relaxed);
    }

    /// Returns the idle connection, unless bytes have come meanwhile, which would be read as the response, or
    /// its end.
    pub(crate) fn take_idle(&self) -> Option<BlockingConnection> {
        self.idle().take().filter(BlockingConnection::is_quiet)
    }

    /// Keeps a connection for the next call, unless it has unread bytes, which would be read as the next
    /// response.
    pub(crate) fn put_back(&self, connection: BlockingConnection) {
        if !connection.state.has_unread() {
            *self.idle() = Some(connection);
        }
    }

    fn idle(&self) -> MutexGuard<'_, Option<BlockingConnection>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }

    #[cfg(all(windows, feature = "tokio"))]
    pub(crate) fn idle_async(
        &self,
    ) -> MutexGuard<'_, Option<(AsyncConnection, tokio::runtime::Id)>> {
        let idle = self.idle_async.lock();
        idle.unwrap_or_else(PoisonError::into_inner)
    }
}

/// Sends a request once and returns its response.
fn attempt<T: Default>(
    connection: &mut BlockingConnection,
    request: &Request,
    until: BootTime,
    read: &ReadPart<T>,
) -> Result<T, AttemptError> {
    let sent = connection.send(request, until);
    sent.map_err(|failure| AttemptError::of(failure, &connection.state))?;
    let mut answer = T::default();
    loop {
        let received = connection.receive(until);
        let response = received.map_err(|failure| AttemptError::of(failure, &connection.state))?;
        match add_part(&mut answer, response, &connection.state, read)? {
            Next::More => {}
            Next::Done => return Ok(answer),
        }
    }
}

/// Adds one part of a response to the answer.
pub(crate) fn add_part<T>(
    answer: &mut T,
    response: Response,
    connection: &Connection,
    read: &ReadPart<T>,
) -> Result<Next, AttemptError> {
    if let Response::Refusal(refusal) = response {
        let is_busy = refusal.kind == RefusalKind::Busy;
        let error = Error::refused(refusal);
        return Err(if is_busy {
            AttemptError::Busy(error)
        } else {
            AttemptError::Refused(error)
        });
    }
    read(answer, response, connection).map_err(AttemptError::Final)
}

pub(crate) fn unexpected(response: &Response) -> Error {
    Error::protocol(format!(
        "the broker answered \"{}\" to another request",
        response.name()
    ))
}

#[expect(
    clippy::disallowed_methods,
    reason = "a missing socket cannot be awaited"
)]
pub(crate) fn sleep(span: Duration) {
    std::thread::sleep(span);
}

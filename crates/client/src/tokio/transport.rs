//! Sends requests on a tokio runtime, as the blocking `request` and `connect` do.
//!
//! The paths of the socket and its directories are looked up on the thread of the task, once for each
//! connection, as tokio itself looks up the path that it connects to. They are few and local, and a
//! request must not depend on a free thread of the blocking pool.

use std::time::Duration;

use tokio::time::sleep;

use crate::asynchronous::AsyncConnection;
use crate::clock::{BootTime, boot_now};
use crate::error::Error;
use crate::find_broker::Address;
use crate::retry::{AttemptError, Decision, GRACE, RequestAttempts, RetryPolicy};
use crate::transport::{MakeRequest, Next, ReadPart, Transport, add_part};
use domo_token_protocol::messages::Request;

impl Transport {
    /// Connects immediately, as [`Self::open`] does.
    pub(crate) async fn open_async(address: Address, deadline: BootTime) -> Result<Self, Error> {
        let transport = Self::new(address);
        let connection = transport
            .connect_async(deadline, RetryPolicy::FIRST)
            .await?;
        transport.put_back_async(connection);
        Ok(transport)
    }

    /// Sends a request and returns its response, as [`Self::request`] does. Dropping the future closes the
    /// connection.
    pub(crate) async fn request_async<T: Default>(
        &self,
        (deadline, retry): (BootTime, RetryPolicy),
        request: &MakeRequest<'_>,
        read: &ReadPart<'_, T>,
    ) -> Result<T, Error> {
        let mut attempts = RequestAttempts::new(deadline);
        let mut idle = self.take_idle_async();
        loop {
            let is_new = idle.is_none();
            let mut connection = match idle.take() {
                Some(connection) => connection,
                None => match self.connect_async(deadline, retry).await {
                    Ok(connection) => connection,
                    Err(error) => return Err(attempts.not_connected(error)),
                },
            };
            if is_new {
                connection.state.speak(attempts.version());
            }
            let left = deadline.saturating_since(boot_now());
            let answer = attempt(&mut connection, &request(left), deadline + GRACE, read).await;
            let error = match answer {
                Ok(answer) => {
                    self.put_back_async(connection);
                    return Ok(answer);
                }
                Err(error) => error,
            };
            if matches!(error, AttemptError::Refused(_)) {
                self.put_back_async(connection);
            }
            match attempts.failed(error, is_new, boot_now()) {
                Decision::Fail(error) => return Err(error),
                Decision::Retry(pause) => wait(pause).await,
            }
        }
    }

    /// Connects and checks the server, as [`Self::connect`] does.
    pub(crate) async fn connect_async(
        &self,
        deadline: BootTime,
        retry: RetryPolicy,
    ) -> Result<AsyncConnection, Error> {
        let mut attempts = self.connect_attempts(deadline, retry);
        loop {
            let target = self.target();
            let error = match AsyncConnection::open(&target, deadline).await {
                Ok(connection) => {
                    target.check(&connection.stream)?;
                    self.record_connection();
                    return Ok(connection);
                }
                Err(error) => error,
            };
            match attempts.failed(error, &target, boot_now()) {
                Decision::Fail(error) => return Err(error),
                Decision::Retry(pause) => wait(pause).await,
            }
        }
    }

    /// Returns the idle connection, which the blocking calls use as well. An idle connection belongs to no
    /// runtime: the one that made it may have ended, and a forked child must not change what its parent's
    /// runtime polls.
    #[cfg(unix)]
    fn take_idle_async(&self) -> Option<AsyncConnection> {
        let idle = self.take_idle()?;
        let stream = crate::asynchronous::AsyncStream::from_blocking(idle.stream).ok()?;
        Some(AsyncConnection {
            state: idle.state,
            stream,
        })
    }

    #[cfg(unix)]
    fn put_back_async(&self, connection: AsyncConnection) {
        let AsyncConnection { state, stream } = connection;
        if let Ok(stream) = stream.into_blocking() {
            self.put_back(crate::blocking::BlockingConnection { state, stream });
        }
    }

    /// Returns the idle connection of this runtime. A pipe belongs to one runtime for as long as it is open.
    #[cfg(windows)]
    fn take_idle_async(&self) -> Option<AsyncConnection> {
        let (connection, runtime) = self.idle_async().take()?;
        (runtime == tokio::runtime::Handle::current().id()).then_some(connection)
    }

    #[cfg(windows)]
    fn put_back_async(&self, connection: AsyncConnection) {
        if !connection.state.has_unread() {
            let runtime = tokio::runtime::Handle::current().id();
            *self.idle_async() = Some((connection, runtime));
        }
    }
}

/// Sends a request once and returns its response.
async fn attempt<T: Default>(
    connection: &mut AsyncConnection,
    request: &Request,
    until: BootTime,
    read: &ReadPart<'_, T>,
) -> Result<T, AttemptError> {
    let sent = connection.send(request, until).await;
    sent.map_err(|failure| AttemptError::of(failure, &connection.state))?;
    let mut answer = T::default();
    loop {
        let received = connection.receive(until).await;
        let response = received.map_err(|failure| AttemptError::of(failure, &connection.state))?;
        match add_part(&mut answer, response, &connection.state, read)? {
            Next::More => {}
            Next::Done => return Ok(answer),
        }
    }
}

/// Waits before the next attempt.
pub(super) async fn wait(pause: Duration) {
    // A sleep of no time takes until the next millisecond.
    if !pause.is_zero() {
        sleep(pause).await;
    }
}

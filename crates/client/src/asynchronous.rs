//! Drives a connection on a tokio runtime, by deadlines.

#[cfg_attr(windows, path = "asynchronous/stream_windows.rs")]
mod stream;

use std::future::{Future, poll_fn};
use std::io;
use std::task::{Context, Poll, ready};

use tokio::time::timeout;

use crate::clock::{BootTime, boot_now};
use crate::connection::{Connection, Failure};
use crate::find_broker::Target;
use domo_token_protocol::messages::{Request, Response};

pub(crate) use stream::AsyncStream;

/// A connection whose calls wait without blocking. A call that is dropped leaves it in an unknown state, so it
/// must be dropped as well; only [`Self::receive`] and [`Self::poll_receive`] can be repeated.
pub(crate) struct AsyncConnection {
    pub(crate) state: Connection,
    pub(crate) stream: AsyncStream,
}

impl AsyncConnection {
    /// Connects, by `deadline` at the latest.
    pub(crate) async fn open(target: &Target, deadline: BootTime) -> io::Result<Self> {
        let opened = boot_now();
        let left = deadline.saturating_since(opened);
        let stream = timeout(left, AsyncStream::open(&target.path)).await;
        Ok(Self {
            stream: stream.unwrap_or_else(|_| Err(io::ErrorKind::WouldBlock.into()))?,
            state: Connection::new(&target.path, opened),
        })
    }

    /// Sends a request.
    pub(crate) async fn send(
        &mut self,
        request: &Request,
        deadline: BootTime,
    ) -> Result<(), Failure> {
        let bytes = self.state.send(request)?;
        let mut rest = &bytes[..];
        let stream = &mut self.stream;
        let sent = poll_fn(|context| {
            while !rest.is_empty() {
                match ready!(stream.poll_write(context, rest)) {
                    Ok(0) => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                    Ok(written) => rest = rest.get(written..).unwrap_or_default(),
                    Err(error) => return Poll::Ready(Err(error)),
                }
            }
            Poll::Ready(Ok(()))
        });
        Ok(by(deadline, sent).await??)
    }

    /// Waits for the next response, until `deadline`.
    pub(crate) async fn receive(&mut self, deadline: BootTime) -> Result<Response, Failure> {
        by(deadline, poll_fn(|context| self.poll_receive(context))).await?
    }

    /// Returns the next response.
    pub(crate) fn poll_receive(
        &mut self,
        context: &mut Context<'_>,
    ) -> Poll<Result<Response, Failure>> {
        let mut next = self.state.next_response(boot_now());
        loop {
            if let Some(done) = next.transpose() {
                return Poll::Ready(done);
            }
            let read = ready!(self.stream.poll_read(context, self.state.space()));
            next = match read {
                Ok(count) => self.state.receive(count, boot_now()),
                Err(error) => Err(self.state.read_failed(error)),
            };
        }
    }
}

/// Waits for `work` until `deadline`.
async fn by<T>(deadline: BootTime, work: impl Future<Output = T>) -> Result<T, Failure> {
    let left = deadline.saturating_since(boot_now());
    timeout(left, work).await.map_err(|_| Failure::Late)
}

//! [`Watch`]: receives each new token of a scope set on a tokio runtime.

use std::fmt;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use futures_core::Stream;

use super::transport::wait;
use crate::asynchronous::AsyncConnection;
use crate::clock::boot_now;
use crate::connection::Failure;
use crate::error::Error;
use crate::process_identity::ProcessIdentity;
use crate::retry::RetryPolicy;
use crate::token::Token;
use crate::transport::Transport;
use crate::watch::{CONNECT_TIMEOUT, Step, WatchState};
use domo_token_protocol::messages::Request;

/// The tokens of one scope set, from [`super::Broker::watch`], in the order of [`crate::Watch`].
///
/// It connects when it is first polled, and uses no thread and no task of its own. Dropping it closes its
/// connection. Poll it on one runtime: when that ends, so does the connection, which is an error of kind
/// [`ErrorKind::Io`](crate::ErrorKind::Io). In a forked child it has ended, because its connection is its parent's.
pub struct Watch {
    transport: Arc<Transport>,
    state: WatchState,
    connection: Option<WatchConnection>,
    process: ProcessIdentity,
}

/// The connection of a watch.
enum WatchConnection {
    Connecting(Pin<Box<dyn Future<Output = Result<AsyncConnection, ConnectError>> + Send + Sync>>),
    Connected(Box<AsyncConnection>),
}

/// Why there is no connection.
enum ConnectError {
    NotConnected(Error),
    NotSent(Failure),
}

impl Watch {
    pub(crate) fn new(transport: Arc<Transport>, state: WatchState) -> Self {
        Self {
            transport,
            state,
            connection: None,
            process: ProcessIdentity::current(),
        }
    }

    /// Returns the next item; `None` after the last one. Dropping the future loses no item.
    pub async fn next(&mut self) -> Option<Result<Token, Error>> {
        poll_fn(|context| Pin::new(&mut *self).poll_next(context)).await
    }

    /// Returns what follows from the next event.
    fn poll_step(&mut self, context: &mut Context<'_>) -> Poll<Step> {
        let Self {
            transport,
            state,
            connection,
            ..
        } = self;
        loop {
            match connection {
                None => {
                    let transport = Arc::clone(transport);
                    let (pause, version) = state.next_connection();
                    let connecting = connect(transport, pause, version, state.request());
                    *connection = Some(WatchConnection::Connecting(Box::pin(connecting)));
                }
                Some(WatchConnection::Connecting(connecting)) => {
                    match ready!(connecting.as_mut().poll(context)) {
                        Ok(connected) => {
                            *connection = Some(WatchConnection::Connected(Box::new(connected)));
                        }
                        Err(ConnectError::NotConnected(error)) => {
                            return Poll::Ready(state.not_connected(error));
                        }
                        Err(ConnectError::NotSent(failure)) => {
                            return Poll::Ready(state.not_sent(failure));
                        }
                    }
                }
                Some(WatchConnection::Connected(connected)) => {
                    let received = ready!(connected.poll_receive(context));
                    return Poll::Ready(state.received(received, connected.state.broker()));
                }
            }
        }
    }
}

impl Stream for Watch {
    type Item = Result<Token, Error>;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = self.get_mut();
        if !this.process.is_current() {
            return Poll::Ready(None);
        }
        while !this.state.has_ended() {
            let step = ready!(this.poll_step(context));
            if !step.keeps_connection() {
                this.connection = None;
            }
            if let Some(item) = step.into_item() {
                return Poll::Ready(Some(item));
            }
        }
        Poll::Ready(None)
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        if !self.process.is_current() {
            // Its runtime is shared with the parent in the kernel: dropping the connection here would end the
            // parent's notifications of it.
            std::mem::forget(self.connection.take());
        } else if let Some(WatchConnection::Connected(connected)) = &self.connection {
            connected.stream.shutdown();
        }
    }
}

impl fmt::Debug for Watch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Watch").finish_non_exhaustive()
    }
}

/// Connects after a pause, and sends the request.
async fn connect(
    transport: Arc<Transport>,
    pause: Duration,
    version: u8,
    request: Request,
) -> Result<AsyncConnection, ConnectError> {
    wait(pause).await;
    let deadline = boot_now() + CONNECT_TIMEOUT;
    let connected = transport.connect_async(deadline, RetryPolicy::FIRST).await;
    let mut connection = connected.map_err(ConnectError::NotConnected)?;
    connection.state.speak(version);
    let sent = connection.send(&request, deadline).await;
    sent.map_err(ConnectError::NotSent)?;
    Ok(connection)
}

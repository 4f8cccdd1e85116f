//! [`Watch`]: receives each new token of a scope set over its own connection. [`WatchState`] decides what each
//! response and failure means, also for the watch of module `tokio`.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::blocking::BlockingConnection;
use crate::clock::boot_now;
use crate::connection::Failure;
use crate::error::{Error, ErrorKind};
use crate::process_identity::ProcessIdentity;
use crate::retry::{Backoff, RetryPolicy};
use crate::shutdown::Shutdown;
use crate::token::{Token, TokenKey};
use crate::token_cache::TokenCache;
use crate::transport::{Transport, sleep, unexpected};
use domo_token_protocol::messages::{Refusal, RefusalKind, Request, Response, VERSION};

/// The time limit of connecting and sending the request.
pub(crate) const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// The time limit of one read, which then starts again. Where a thread can't be woken from a read, this
/// is how often it polls its stop flag.
const READ_TIMEOUT: Duration = Duration::from_secs(if cfg!(unix) { 3600 } else { 2 });

/// The longest pause between two attempts to connect.
const MAX_PAUSE: Duration = Duration::from_secs(1);

/// The tokens of one scope set, from [`crate::Broker::watch`]: the current one, then each new one,
/// no token twice. `next` blocks until there is another item. Each token is also cached for
/// [`crate::Broker::token`].
///
/// A retryable error is returned once, and the next item is the next token:
///
/// - [`ErrorKind::Unavailable`]: the last token has expired, and Domo issues none.
/// - [`ErrorKind::Busy`], [`ErrorKind::NotRunning`] and [`ErrorKind::Timeout`]: the broker stops or cannot be reached. The
///   last token may still be valid. The iterator reconnects. Once a broker has answered, it does so after local
///   errors of connecting, too: [`ErrorKind::Io`] and [`ErrorKind::NotPermitted`].
///
/// After a decision of the broker, such as [`ErrorKind::Gone`], and after any other error, the iterator ends.
pub struct Watch {
    transport: Arc<Transport>,
    state: WatchState,
    /// With the process that made it: a forked child must not use its parent's connection.
    connection: Option<(BlockingConnection, ProcessIdentity)>,
    stop: Option<Arc<Stop>>,
}

/// Ends a [`Watch`] from another thread.
pub(crate) struct Stop {
    stopped: AtomicBool,
    /// Wakes the thread from a read.
    shutdown: Mutex<Option<Shutdown>>,
}

impl Stop {
    pub(crate) fn new() -> Self {
        Self {
            stopped: AtomicBool::new(false),
            shutdown: Mutex::new(None),
        }
    }

    /// Ends the watch, also while it reads.
    pub(crate) fn stop(&self) {
        // Before the lock: a connection made from now on is not read from.
        self.stopped.store(true, Ordering::SeqCst);
        if let Some(shutdown) = self.shutdown().take() {
            shutdown.now();
        }
    }

    fn is_stopped(&self) -> bool {
        self.stopped.load(Ordering::SeqCst)
    }

    fn shutdown(&self) -> MutexGuard<'_, Option<Shutdown>> {
        self.shutdown.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Watch {
    pub(crate) fn new(transport: Arc<Transport>, state: WatchState) -> Self {
        Self {
            transport,
            state,
            connection: None,
            stop: None,
        }
    }

    /// Returns the same watch, which ends when `stop` is set.
    pub(crate) fn until(mut self, stop: Arc<Stop>) -> Self {
        self.stop = Some(stop);
        self
    }

    fn next_step(&mut self) -> Step {
        let existing = self.connection.take();
        let Some((mut connection, process)) = existing.filter(|(_, process)| process.is_current())
        else {
            return self.connect();
        };
        let received = connection.receive(boot_now() + READ_TIMEOUT);
        let step = self.state.received(received, connection.state.broker());
        if step.keeps_connection() {
            self.connection = Some((connection, process));
        }
        step
    }

    fn connect(&mut self) -> Step {
        if let Some(stop) = &self.stop {
            *stop.shutdown() = None;
        }
        let (pause, version) = self.state.next_connection();
        sleep(pause);
        let deadline = boot_now() + CONNECT_TIMEOUT;
        let mut connection = match self.transport.connect(deadline, RetryPolicy::FIRST) {
            Ok(connection) => connection,
            Err(error) => return self.state.not_connected(error),
        };
        connection.state.speak(version);
        if let Some(stop) = &self.stop {
            *stop.shutdown() = Shutdown::of(&connection);
        }
        if let Err(failure) = connection.send(&self.state.request(), deadline) {
            return self.state.not_sent(failure);
        }
        self.connection = Some((connection, ProcessIdentity::current()));
        Step::Receive(None)
    }
}

impl Iterator for Watch {
    type Item = Result<Token, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        let is_stopped =
            |stop: &Option<Arc<Stop>>| stop.as_ref().is_some_and(|stop| stop.is_stopped());
        while !self.state.has_ended() && !is_stopped(&self.stop) {
            if let Some(item) = self.next_step().into_item() {
                return Some(item);
            }
        }
        None
    }
}

/// What a watch does after an event.
pub(crate) enum Step {
    /// It receives again, after it has returned the item.
    Receive(Option<Result<Token, Error>>),
    /// It closes the connection and connects again, after it has returned the item.
    Reconnect(Option<Result<Token, Error>>),
    /// It closes the connection and ends with this item.
    End(Error),
}

impl Step {
    pub(crate) fn keeps_connection(&self) -> bool {
        matches!(self, Self::Receive(_))
    }

    pub(crate) fn into_item(self) -> Option<Result<Token, Error>> {
        match self {
            Self::Receive(item) | Self::Reconnect(item) => item,
            Self::End(error) => Some(Err(error)),
        }
    }
}

/// The state of a watch between two connections, and what the events of a connection mean.
pub(crate) struct WatchState {
    cache: Arc<TokenCache>,
    key: TokenKey,
    /// The protocol version of the next connection.
    version: u8,
    /// The generation of the last token returned.
    last_generation: Option<u64>,
    /// Whether a broker has answered.
    answered: bool,
    /// Whether this outage of the broker has been returned as an error.
    outage_reported: bool,
    /// The pause before the next attempt to connect.
    pause: Duration,
    ended: bool,
}

impl WatchState {
    pub(crate) fn new(cache: Arc<TokenCache>, key: TokenKey) -> Self {
        Self {
            cache,
            key,
            version: VERSION,
            last_generation: None,
            answered: false,
            outage_reported: false,
            pause: Duration::ZERO,
            ended: false,
        }
    }

    /// Returns whether the last item has been returned.
    pub(crate) fn has_ended(&self) -> bool {
        self.ended
    }

    /// Returns the request of each connection.
    pub(crate) fn request(&self) -> Request {
        Request::Watch(self.key.subject())
    }

    /// Returns the pause before the next connection, and its protocol version.
    pub(crate) fn next_connection(&mut self) -> (Duration, u8) {
        let pause = self.pause;
        self.pause = (pause * 2 + Backoff::default().next()).min(MAX_PAUSE);
        // Only the one after this: by then it may be a newer broker.
        (pause, std::mem::replace(&mut self.version, VERSION))
    }

    /// Returns what an error of connecting means.
    pub(crate) fn not_connected(&mut self, error: Error) -> Step {
        let is_local = matches!(error.kind(), ErrorKind::Io | ErrorKind::NotPermitted);
        self.outage_or_end(error, is_local)
    }

    /// Returns what a failure to send the request means.
    pub(crate) fn not_sent(&mut self, failure: Failure) -> Step {
        if matches!(failure, Failure::Lost | Failure::Late) {
            return Step::Reconnect(None);
        }
        self.connection_failed(failure)
    }

    /// Returns what was received means, or the failure to receive it, from the socket at `broker`.
    pub(crate) fn received(
        &mut self,
        received: Result<Response, Failure>,
        broker: &Arc<Path>,
    ) -> Step {
        match received {
            Ok(response) => self.handle(response, broker),
            Err(Failure::Lost) => {
                // All watchers of a broker lose their connections at the same moment.
                self.pause = self.pause.max(Backoff::default().next());
                Step::Reconnect(None)
            }
            Err(Failure::OlderVersion(theirs)) => {
                self.version = theirs;
                self.pause = Duration::ZERO;
                Step::Reconnect(None)
            }
            Err(Failure::Late) => Step::Receive(None),
            Err(failure @ (Failure::Version(_) | Failure::Malformed(_) | Failure::Io(_))) => {
                self.connection_failed(failure)
            }
        }
    }

    fn handle(&mut self, response: Response, broker: &Arc<Path>) -> Step {
        self.answered = true;
        // A broker that is only ever busy does not end an outage.
        let busy = |refusal: &Refusal| refusal.kind == RefusalKind::Busy;
        if !matches!(&response, Response::Refusal(refusal) if busy(refusal)) {
            self.pause = Duration::ZERO;
            self.outage_reported = false;
        }
        if let Response::Refusal(refusal) = response {
            return self.refused(refusal);
        }
        let Response::Token(answer) = response else {
            return self.end(unexpected(&response));
        };
        let token = match Token::new(answer, &self.key, None, broker) {
            Ok(token) => token,
            Err(error) => return self.end(error),
        };
        let is_known = self.last_generation.replace(token.generation()) == Some(token.generation());
        // A caller that reads late finds tokens that have expired meanwhile.
        if is_known || token.expires_in().is_zero() {
            return Step::Receive(None);
        }
        self.cache.insert(&token);
        Step::Receive(Some(Ok(token)))
    }

    fn refused(&mut self, refusal: Refusal) -> Step {
        let kind = refusal.kind;
        let error = Error::refused(refusal);
        match kind {
            RefusalKind::Unavailable => Step::Receive(Some(Err(error))),
            RefusalKind::Busy => self.outage(error),
            RefusalKind::NotPermitted
            | RefusalKind::UnknownClient
            | RefusalKind::UnknownScope
            | RefusalKind::MinTtlTooLong
            | RefusalKind::Denied
            | RefusalKind::Gone => self.end(error),
        }
    }

    fn connection_failed(&mut self, failure: Failure) -> Step {
        let is_local = matches!(failure, Failure::Io(_));
        self.outage_or_end(failure.into(), is_local)
    }

    /// Returns what an error without a response means. Once a broker has answered, a local error is an
    /// outage: a descriptor may become free, and a directory that is being created gets its mode.
    fn outage_or_end(&mut self, error: Error, is_local: bool) -> Step {
        if error.is_retryable() || (self.answered && is_local) {
            return self.outage(error);
        }
        self.end(error)
    }

    /// The broker cannot be reached, or is busy: returns the error once.
    fn outage(&mut self, error: Error) -> Step {
        let is_first = !std::mem::replace(&mut self.outage_reported, true);
        Step::Reconnect(is_first.then_some(Err(error)))
    }

    fn end(&mut self, error: Error) -> Step {
        self.ended = true;
        Step::End(error)
    }
}

impl std::fmt::Debug for Watch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Watch")
            .field("key", &self.state.key)
            .field("last_generation", &self.state.last_generation)
            .finish_non_exhaustive()
    }
}

//! [`Watch`]: receives each new token of a scope set over its own connection.

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
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// The time limit of one read, which then starts again. Where a thread can't be woken from a read, this
/// is how often it polls its stop flag.
const READ_TIMEOUT: Duration = Duration::from_secs(if cfg!(unix) { 3600 } else { 2 });

/// The longest pause between two attempts to connect.
const MAX_PAUSE: Duration = Duration::from_secs(1);

/// The tokens of one scope set, from [`crate::Broker::watch`]: the current one, then each new one,
/// no token twice. `next` blocks until there is another item. Each token is also cached for
/// [`crate::Broker::token`].
///
/// An error means that there is currently no token: Domo issues none and the last one has expired, or the
/// broker cannot be reached. It is returned once. The iterator reconnects, and the next item is the next
/// token. Once a broker has answered, that includes local errors of
/// connecting, [`ErrorKind::Io`] and [`ErrorKind::NotPermitted`]. After a decision of the broker, such as
/// [`ErrorKind::Gone`], and after any other error, the iterator ends.
pub struct Watch {
    transport: Arc<Transport>,
    cache: Arc<TokenCache>,
    key: TokenKey,
    /// With the process that made it: a forked child must not use its parent's connection.
    connection: Option<(BlockingConnection, ProcessIdentity)>,
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
    stop: Option<Arc<Stop>>,
}

/// Ends a [`Watch`] from another thread.
pub(crate) struct Stop {
    /// In a forked child there is nothing to end: the thread and the connection are its parent's.
    process: ProcessIdentity,
    stopped: AtomicBool,
    /// Wakes the thread from a read.
    shutdown: Mutex<Option<Shutdown>>,
}

impl Stop {
    pub(crate) fn new() -> Self {
        Self {
            process: ProcessIdentity::current(),
            stopped: AtomicBool::new(false),
            shutdown: Mutex::new(None),
        }
    }

    /// Ends the watch, also while it reads.
    pub(crate) fn stop(&self) {
        if !self.is_of_this_process() {
            return;
        }
        // Before the lock: a connection made from now on is not read from.
        self.stopped.store(true, Ordering::SeqCst);
        if let Some(shutdown) = self.shutdown().take() {
            shutdown.now();
        }
    }

    pub(crate) fn is_of_this_process(&self) -> bool {
        self.process.is_current()
    }

    fn is_stopped(&self) -> bool {
        self.stopped.load(Ordering::SeqCst)
    }

    fn shutdown(&self) -> MutexGuard<'_, Option<Shutdown>> {
        self.shutdown.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What a wait for the next item resulted in.
enum Event {
    Item(Box<Result<Token, Error>>),
    /// The last item.
    Last(Error),
    /// The broker cannot be reached, or is busy.
    Outage(Error),
    /// The connection ended: the broker may be restarting.
    Lost,
    Nothing,
}

impl Watch {
    pub(crate) fn new(transport: Arc<Transport>, cache: Arc<TokenCache>, key: TokenKey) -> Self {
        Self {
            transport,
            cache,
            key,
            connection: None,
            version: VERSION,
            last_generation: None,
            answered: false,
            outage_reported: false,
            pause: Duration::ZERO,
            ended: false,
            stop: None,
        }
    }

    /// Returns the same watch, which ends when `stop` is set.
    pub(crate) fn until(mut self, stop: Arc<Stop>) -> Self {
        self.stop = Some(stop);
        self
    }

    fn next_event(&mut self) -> Event {
        let existing = self.connection.take();
        let Some((mut connection, process)) = existing.filter(|(_, process)| process.is_current())
        else {
            return self.connect();
        };
        let response = match connection.receive(boot_now() + READ_TIMEOUT) {
            Err(Failure::Lost) => {
                // All watchers of a broker lose their connections at the same moment.
                self.pause = self.pause.max(Backoff::default().next());
                return Event::Lost;
            }
            Err(Failure::OlderVersion(theirs)) => {
                self.version = theirs;
                self.pause = Duration::ZERO;
                return Event::Nothing;
            }
            Err(Failure::Late) => {
                self.connection = Some((connection, process));
                return Event::Nothing;
            }
            Err(failure) => return self.connection_failed(failure),
            Ok(response) => response,
        };
        self.answered = true;
        let broker = Arc::clone(connection.state.broker());
        self.connection = Some((connection, process));
        self.handle(response, &broker)
    }

    fn handle(&mut self, response: Response, broker: &Arc<Path>) -> Event {
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
            return Event::Last(unexpected(&response));
        };
        let token = match Token::new(answer, &self.key, None, broker) {
            Ok(token) => token,
            Err(error) => return Event::Last(error),
        };
        let is_known = self.last_generation.replace(token.generation()) == Some(token.generation());
        // A caller that reads late finds tokens that have expired meanwhile.
        if is_known || token.expires_in().is_zero() {
            return Event::Nothing;
        }
        self.cache.insert(&token);
        Event::Item(Box::new(Ok(token)))
    }

    fn refused(&mut self, refusal: Refusal) -> Event {
        let kind = refusal.kind;
        let error = Error::refused(refusal);
        match kind {
            RefusalKind::Unavailable => Event::Item(Box::new(Err(error))),
            RefusalKind::Busy => {
                self.connection = None;
                Event::Outage(error)
            }
            RefusalKind::NotPermitted
            | RefusalKind::UnknownClient
            | RefusalKind::UnknownScope
            | RefusalKind::MinTtlTooLong
            | RefusalKind::Denied
            | RefusalKind::Gone => Event::Last(error),
        }
    }

    fn connect(&mut self) -> Event {
        if let Some(stop) = &self.stop {
            *stop.shutdown() = None;
        }
        sleep(self.pause);
        self.pause = (self.pause * 2 + Backoff::default().next()).min(MAX_PAUSE);
        let deadline = boot_now() + CONNECT_TIMEOUT;
        let mut connection = match self.transport.connect(deadline, RetryPolicy::FIRST) {
            Ok(connection) => connection,
            Err(error) => {
                let is_local = matches!(error.kind(), ErrorKind::Io | ErrorKind::NotPermitted);
                return self.outage_or_end(error, is_local);
            }
        };
        // Only the one after this: by then it may be a newer broker.
        connection
            .state
            .speak(std::mem::replace(&mut self.version, VERSION));
        if let Some(stop) = &self.stop {
            *stop.shutdown() = Shutdown::of(&connection);
        }
        match connection.send(&Request::Watch(self.key.asked()), deadline) {
            Ok(()) => self.connection = Some((connection, ProcessIdentity::current())),
            Err(Failure::Lost | Failure::Late) => {}
            Err(failure) => return self.connection_failed(failure),
        }
        Event::Nothing
    }

    fn connection_failed(&self, failure: Failure) -> Event {
        let is_local = matches!(failure, Failure::Io(_));
        self.outage_or_end(failure.into(), is_local)
    }

    /// Returns what an error without a response means. Once a broker has answered, a local error is an
    /// outage: a descriptor may become free, and a directory that is being created gets its mode.
    fn outage_or_end(&self, error: Error, is_local: bool) -> Event {
        if error.is_retryable() || (self.answered && is_local) {
            return Event::Outage(error);
        }
        Event::Last(error)
    }
}

impl Iterator for Watch {
    type Item = Result<Token, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        while !self.ended && !self.stop.as_ref().is_some_and(|stop| stop.is_stopped()) {
            match self.next_event() {
                Event::Item(item) => return Some(*item),
                Event::Last(error) => {
                    self.ended = true;
                    self.connection = None;
                    return Some(Err(error));
                }
                Event::Outage(error) => {
                    if !std::mem::replace(&mut self.outage_reported, true) {
                        return Some(Err(error));
                    }
                }
                Event::Lost | Event::Nothing => {}
            }
        }
        None
    }
}

impl std::fmt::Debug for Watch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Watch")
            .field("key", &self.key)
            .field("last_generation", &self.last_generation)
            .finish_non_exhaustive()
    }
}

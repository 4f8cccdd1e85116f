//! Each new token of a scope set, as it comes.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::clock::boot_now;
use crate::connection::{Connection, Failure};
use crate::error::Error;
use crate::process_identity::ProcessIdentity;
use crate::shutdown::Shutdown;
use crate::token::{Set, Token};
use crate::token_cache::TokenCache;
use crate::transport::{Backoff, RetryPolicy, Transport, rest, unexpected};
use domo_token_protocol::messages::{Refusal, RefusalKind, Request, Response, VERSION};

/// How long connecting, and asking, may take each time.
const CONNECT: Duration = Duration::from_secs(10);

/// How long one read waits: it is only begun again after that. Where a thread can't be woken from a
/// read, it looks that often whether it is to stop.
const QUIET: Duration = Duration::from_secs(if cfg!(unix) { 3600 } else { 2 });

/// How long a broker that isn't there is left alone between two tries, at most.
const REST_MAX: Duration = Duration::from_secs(1);

/// The tokens of one scope set, from [`crate::Broker::watch`]: the current one, then each new one,
/// no token twice. `next` blocks until there is news. Each token that it gives is also held for
/// [`crate::Broker::token`], which so answers from memory.
///
/// An error says that there is no token for now: Domo gives none and the last one has expired, or the
/// broker cannot be reached. It comes once, and the iterator goes on: it connects again by itself, and
/// the next item is the next token. Once a broker has answered, that includes local errors of
/// connecting, [`Error::Io`] and [`Error::NotPermitted`]. After a decision of the broker, such as
/// [`Error::Gone`], and after any other error, the iterator ends.
pub struct Watch {
    exchange: Arc<Transport>,
    held: Arc<TokenCache>,
    set: Set,
    /// With the process that made it: a forked child leaves its parent's connection alone.
    connection: Option<(Connection, ProcessIdentity)>,
    /// The protocol version of the next connection.
    version: u8,
    /// The generation given out last.
    given: Option<u64>,
    /// Whether a broker has answered.
    answered: bool,
    /// Whether the caller knows that there is no broker.
    outage_told: bool,
    /// The rest before the next try to connect.
    rest: Duration,
    ended: bool,
    stop: Option<Arc<Stop>>,
}

/// Ends a [`Watch`] from another thread.
pub(crate) struct Stop {
    /// In a forked child there is nothing to end: the thread and the connection are its parent's.
    process: ProcessIdentity,
    stopped: AtomicBool,
    /// Wakes it from the read it is in.
    hangup: Mutex<Option<Shutdown>>,
}

impl Stop {
    pub(crate) fn new() -> Self {
        Self {
            process: ProcessIdentity::current(),
            stopped: AtomicBool::new(false),
            hangup: Mutex::new(None),
        }
    }

    /// Ends it as soon as it comes by; if it is reading, now.
    pub(crate) fn stop(&self) {
        if !self.is_of_this_process() {
            return;
        }
        // Before the lock: a connection made after this look is not read from.
        self.stopped.store(true, Ordering::SeqCst);
        if let Some(hangup) = self.hangup().take() {
            hangup.now();
        }
    }

    pub(crate) fn is_of_this_process(&self) -> bool {
        self.process.is_current()
    }

    fn is_stopped(&self) -> bool {
        self.stopped.load(Ordering::SeqCst)
    }

    fn hangup(&self) -> MutexGuard<'_, Option<Shutdown>> {
        self.hangup.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How a wait for news ended.
enum News {
    Item(Box<Result<Token, Error>>),
    /// There is nothing to come any more but this.
    Last(Error),
    /// The broker is gone, or sends us away.
    Outage(Error),
    /// The connection ended: the broker may be restarting.
    Lost,
    Nothing,
}

impl Watch {
    pub(crate) fn new(exchange: Arc<Transport>, held: Arc<TokenCache>, set: Set) -> Self {
        Self {
            exchange,
            held,
            set,
            connection: None,
            version: VERSION,
            given: None,
            answered: false,
            outage_told: false,
            rest: Duration::ZERO,
            ended: false,
            stop: None,
        }
    }

    /// The same, ending when `stop` says so.
    pub(crate) fn until(mut self, stop: Arc<Stop>) -> Self {
        self.stop = Some(stop);
        self
    }

    fn wait(&mut self) -> News {
        let made = self.connection.take();
        let Some((mut connection, process)) = made.filter(|(_, process)| process.is_current())
        else {
            return self.connect();
        };
        let response = match connection.receive(boot_now() + QUIET) {
            Err(Failure::Lost) => {
                // All who watched hear of it at once.
                self.rest = self.rest.max(Backoff::default().next());
                return News::Lost;
            }
            Err(Failure::OlderVersion(theirs)) => {
                self.version = theirs;
                self.rest = Duration::ZERO;
                return News::Nothing;
            }
            Err(Failure::Late) => {
                self.connection = Some((connection, process));
                return News::Nothing;
            }
            Err(failure) => return self.connection_failed(failure),
            Ok(response) => response,
        };
        self.answered = true;
        let broker = Arc::clone(connection.broker());
        self.connection = Some((connection, process));
        self.judge(response, &broker)
    }

    fn judge(&mut self, response: Response, broker: &Arc<Path>) -> News {
        // A broker that only says it is busy isn't back yet.
        let busy = |refusal: &Refusal| refusal.kind == RefusalKind::Busy;
        if !matches!(&response, Response::Refusal(refusal) if busy(refusal)) {
            self.rest = Duration::ZERO;
            self.outage_told = false;
        }
        match response {
            Response::Token(answer) => {
                let token = match Token::new(answer, &self.set, None, broker) {
                    Ok(token) => token,
                    Err(error) => return News::Last(error),
                };
                let old = self.given.replace(token.generation()) == Some(token.generation());
                // Whoever reads late finds tokens that have died meanwhile.
                if old || token.expires_in().is_zero() {
                    return News::Nothing;
                }
                self.held.hold(&token);
                News::Item(Box::new(Ok(token)))
            }
            Response::Refusal(refusal) => {
                let kind = refusal.kind;
                let error = Error::from(refusal);
                match kind {
                    RefusalKind::Unavailable => News::Item(Box::new(Err(error))),
                    RefusalKind::Busy => {
                        self.connection = None;
                        News::Outage(error)
                    }
                    RefusalKind::NotPermitted
                    | RefusalKind::UnknownClient
                    | RefusalKind::UnknownScope
                    | RefusalKind::MinTtlTooLong
                    | RefusalKind::Denied
                    | RefusalKind::Gone => News::Last(error),
                }
            }
            Response::Broker(_)
            | Response::Scope(_)
            | Response::Explanation(_)
            | Response::Metrics(_)
            | Response::End => News::Last(unexpected(&response)),
        }
    }

    fn connect(&mut self) -> News {
        if let Some(stop) = &self.stop {
            *stop.hangup() = None;
        }
        rest(self.rest);
        self.rest = (self.rest * 2 + Backoff::default().next()).min(REST_MAX);
        let deadline = boot_now() + CONNECT;
        let mut connection = match self.exchange.connect(deadline, RetryPolicy::FIRST) {
            Ok(connection) => connection,
            Err(error) => {
                let is_local = matches!(error, Error::Io { .. } | Error::NotPermitted { .. });
                return self.outage_or_end(error, is_local);
            }
        };
        // Only the one after this: by then it may be a newer broker.
        connection.speak(std::mem::replace(&mut self.version, VERSION));
        if let Some(stop) = &self.stop {
            *stop.hangup() = Shutdown::of(&connection);
        }
        match connection.send(&Request::Watch(self.set.asked()), deadline) {
            Ok(()) => self.connection = Some((connection, ProcessIdentity::current())),
            Err(Failure::Lost | Failure::Late) => {}
            Err(failure) => return self.connection_failed(failure),
        }
        News::Nothing
    }

    fn connection_failed(&self, failure: Failure) -> News {
        let is_local = matches!(failure, Failure::Io(_));
        self.outage_or_end(failure.into(), is_local)
    }

    /// Returns what an error without an answer means. Once a broker has answered, a local error is an
    /// outage: a descriptor may become free, and a directory that is being created gets its mode.
    fn outage_or_end(&self, error: Error, is_local: bool) -> News {
        if error.is_temporary() || (self.answered && is_local) {
            return News::Outage(error);
        }
        News::Last(error)
    }
}

impl Iterator for Watch {
    type Item = Result<Token, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        while !self.ended && !self.stop.as_ref().is_some_and(|stop| stop.is_stopped()) {
            match self.wait() {
                News::Item(item) => return Some(*item),
                News::Last(error) => {
                    self.ended = true;
                    self.connection = None;
                    return Some(Err(error));
                }
                News::Outage(error) => {
                    if !std::mem::replace(&mut self.outage_told, true) {
                        return Some(Err(error));
                    }
                }
                News::Lost | News::Nothing => {}
            }
        }
        None
    }
}

impl std::fmt::Debug for Watch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Watch")
            .field("set", &self.set)
            .field("given", &self.given)
            .finish_non_exhaustive()
    }
}

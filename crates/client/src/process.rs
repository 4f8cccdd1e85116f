//! The state that belongs to one process and that a forked child must not use: connection, requests in
//! flight, threads.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError, TryLockError};
use std::thread;
use std::time::Duration;

use arc_swap::ArcSwap;

use crate::connection::Connection;
use crate::error::Error;
use crate::in_flight::{CallerRequest, InFlight, InFlightRequests, Role};
use crate::process_identity::ProcessIdentity;
use crate::token::{Token, TokenKey};
use crate::token_cache::TokenCache;
use crate::transport::{Next, Transport, unexpected};
use crate::watch::{Stop, Watch, WatchState};
use domo_token_protocol::messages::{Request, Response, TokenRequest};

/// The state that all clones of a broker share.
pub(crate) struct Shared {
    pub(crate) cache: Arc<TokenCache>,
    process: ArcSwap<Process>,
}

pub(crate) struct Process {
    identity: ProcessIdentity,
    pub(crate) transport: Arc<Transport>,
    requests: Arc<InFlightRequests>,
    keepers: Mutex<Vec<Keeper>>,
}

/// What watches one key.
struct Keeper {
    key: TokenKey,
    watching: Watching,
}

/// The thread or task of a [`Keeper`].
pub(crate) enum Watching {
    /// The thread holds a clone while it runs.
    Thread(Arc<Stop>),
    #[cfg(feature = "tokio")]
    Task(tokio::task::AbortHandle),
}

impl Watching {
    fn has_ended(&self) -> bool {
        match self {
            Self::Thread(stop) => Arc::strong_count(stop) == 1,
            #[cfg(feature = "tokio")]
            Self::Task(task) => task.is_finished(),
        }
    }

    fn stop(&self) {
        match self {
            Self::Thread(stop) => stop.stop(),
            #[cfg(feature = "tokio")]
            Self::Task(task) => task.abort(),
        }
    }
}

impl Shared {
    pub(crate) fn new(transport: Transport) -> Self {
        let process = Process::new(transport);
        Self {
            cache: Arc::new(TokenCache::new()),
            process: ArcSwap::from_pointee(process),
        }
    }

    /// Returns the state of this process. A forked child gets its own: the parent still uses its
    /// connection, and the threads that held the parent's locks do not exist in the child.
    pub(crate) fn process(&self) -> Arc<Process> {
        let process = self.process.load_full();
        if process.identity.is_current() {
            return process;
        }
        let own = Arc::new(Process::new(process.transport.with_own_connection()));
        let before = self.process.compare_and_swap(&process, Arc::clone(&own));
        if Arc::ptr_eq(&before, &process) {
            own
        } else {
            Arc::clone(&before)
        }
    }

    /// Returns a token for a call whose requirement no cached one meets.
    pub(crate) fn obtain(&self, mut call: CallerRequest) -> Result<Token, Error> {
        let process = self.process();
        loop {
            let request = match process.join_or_lead(&mut call, &self.cache) {
                Role::Cached(token) => return Ok(token),
                Role::Follow(request) => {
                    request.wait(call.cancel_at());
                    request
                }
                Role::Lead(leader) => {
                    let request = leader.request();
                    leader.run(|request| process.send(request), &self.cache);
                    request
                }
            };
            if let Some(result) = request.resolve(&call, &self.cache) {
                return result;
            }
        }
    }

    /// Watches the key on a thread until the last clone is dropped.
    pub(crate) fn keep(&self, key: TokenKey) -> Result<(), Error> {
        self.keep_with(key, |key| {
            let stop = Arc::new(Stop::new());
            let watch = self.watch(key).until(Arc::clone(&stop));
            spawn(move || watch.for_each(drop))?;
            Ok(Watching::Thread(stop))
        })
    }

    /// Watches the key by what `start` starts, unless it is watched.
    pub(crate) fn keep_with(
        &self,
        key: TokenKey,
        start: impl FnOnce(TokenKey) -> Result<Watching, Error>,
    ) -> Result<(), Error> {
        let process = self.process();
        let mut keepers = process.keepers();
        keepers.retain(|keeper| !keeper.watching.has_ended());
        if keepers.iter().any(|keeper| keeper.key == key) {
            return Ok(());
        }
        let watching = start(key.clone())?;
        keepers.push(Keeper { key, watching });
        Ok(())
    }

    pub(crate) fn watch(&self, key: TokenKey) -> Watch {
        let transport = Arc::clone(&self.process().transport);
        Watch::new(transport, self.watch_state(key))
    }

    pub(crate) fn watch_state(&self, key: TokenKey) -> WatchState {
        WatchState::new(Arc::clone(&self.cache), key)
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        let process = self.process.load();
        // In a forked child there is nothing to end: threads, tasks and connections are its parent's.
        if !process.identity.is_current() {
            return;
        }
        let keepers = match process.keepers.try_lock() {
            Ok(keepers) => keepers,
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            // No call holds it while the last clone is dropped.
            Err(TryLockError::WouldBlock) => return,
        };
        for keeper in keepers.iter() {
            keeper.watching.stop();
        }
    }
}

impl Process {
    fn new(transport: Transport) -> Self {
        Self {
            identity: ProcessIdentity::current(),
            transport: Arc::new(transport),
            requests: Arc::new(InFlightRequests::new()),
            keepers: Mutex::new(Vec::new()),
        }
    }

    pub(crate) fn join_or_lead(&self, call: &mut CallerRequest, cache: &TokenCache) -> Role {
        self.requests.join_or_lead(call, cache)
    }

    /// Sends a token request and returns the token.
    pub(crate) fn send(&self, in_flight: &InFlight) -> Result<Token, Error> {
        let within = (in_flight.deadline, in_flight.retry);
        let request = |left| token_request(in_flight, left);
        let read = |token: &mut Option<Token>, response, connection: &Connection| {
            read_token(in_flight, token, response, connection)
        };
        let token = self.transport.request(within, &request, &read)?;
        token.ok_or_else(|| unexpected(&Response::End))
    }

    /// Sends a token request and returns the token, as [`Self::send`] does.
    #[cfg(feature = "tokio")]
    pub(crate) async fn send_async(&self, in_flight: &InFlight) -> Result<Token, Error> {
        let within = (in_flight.deadline, in_flight.retry);
        let request = |left| token_request(in_flight, left);
        let read = |token: &mut Option<Token>, response, connection: &Connection| {
            read_token(in_flight, token, response, connection)
        };
        let token = self.transport.request_async(within, &request, &read);
        token.await?.ok_or_else(|| unexpected(&Response::End))
    }

    fn keepers(&self) -> MutexGuard<'_, Vec<Keeper>> {
        self.keepers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn token_request(in_flight: &InFlight, left: Duration) -> Request {
    let requirement = in_flight.requirement;
    Request::Token(TokenRequest {
        subject: in_flight.key.subject(),
        min_ttl_ms: requirement.min_ttl.map(millis),
        time_left_ms: millis(left),
        renew: requirement.renew,
    })
}

fn read_token(
    in_flight: &InFlight,
    token: &mut Option<Token>,
    response: Response,
    connection: &Connection,
) -> Result<Next, Error> {
    let Response::Token(answer) = response else {
        return Err(unexpected(&response));
    };
    let (key, renew) = (&in_flight.key, in_flight.requirement.renew);
    let received = Token::new(answer, key, renew, connection.broker())?;
    // This process, or the machine, may have been stopped for longer than the token was valid.
    if connection.has_clock() && received.expires_in().is_zero() {
        return Err(Error::later(
            "the broker's token expired before it was received; try again",
        ));
    }
    *token = Some(received);
    Ok(Next::Done)
}

/// Runs `job` on a new thread.
fn spawn(job: impl FnOnce() + Send + 'static) -> Result<(), Error> {
    let thread = thread::Builder::new().name("domo-token".to_owned());
    let failed = |error| Error::io("cannot start a thread that receives tokens", error);
    thread.spawn(job).map(drop).map_err(failed)
}

fn millis(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}

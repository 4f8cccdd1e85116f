//! The state that belongs to one process and that a forked child must not use: connection, requests in
//! flight, threads.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError, TryLockError};
use std::thread;

use arc_swap::ArcSwap;

use crate::connection::Connection;
use crate::error::Error;
use crate::in_flight::{CallerRequest, InFlight, InFlightRequests, Role};
use crate::process_identity::ProcessIdentity;
use crate::token::{Token, TokenKey};
use crate::token_cache::TokenCache;
use crate::transport::{Next, Transport, unexpected};
use crate::watch::{Stop, Watch};
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

/// A thread that watches one key.
struct Keeper {
    key: TokenKey,
    /// The thread holds a clone while it runs.
    stop: Arc<Stop>,
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
        let process = self.process();
        let mut keepers = process.keepers();
        keepers.retain(|keeper| Arc::strong_count(&keeper.stop) > 1);
        if keepers.iter().any(|keeper| keeper.key == key) {
            return Ok(());
        }
        let stop = Arc::new(Stop::new());
        let watch = self.watch(key.clone()).until(Arc::clone(&stop));
        spawn(move || watch.for_each(drop))?;
        keepers.push(Keeper { key, stop });
        Ok(())
    }

    pub(crate) fn watch(&self, key: TokenKey) -> Watch {
        let transport = Arc::clone(&self.process().transport);
        Watch::new(transport, Arc::clone(&self.cache), key)
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        let process = self.process.load();
        let keepers = match process.keepers.try_lock() {
            Ok(keepers) => keepers,
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            // Only in a forked child: a thread of its parent held the lock.
            Err(TryLockError::WouldBlock) => return,
        };
        for keeper in keepers.iter() {
            keeper.stop.stop();
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
        let requirement = in_flight.requirement;
        let request = |left| {
            Request::Token(TokenRequest {
                subject: in_flight.key.asked(),
                min_ttl_ms: requirement.min_ttl.map(millis),
                time_left_ms: millis(left),
                renew: requirement.renew,
            })
        };
        let read = |token: &mut Option<Token>, response, connection: &Connection| {
            let Response::Token(answer) = response else {
                return Err(unexpected(&response));
            };
            let broker = connection.broker();
            *token = Some(Token::new(
                answer,
                &in_flight.key,
                requirement.renew,
                broker,
            )?);
            Ok(Next::Done)
        };
        let within = (in_flight.deadline, in_flight.retry);
        let token = self.transport.request(within, &request, &read)?;
        token.ok_or_else(|| unexpected(&Response::End))
    }

    fn keepers(&self) -> MutexGuard<'_, Vec<Keeper>> {
        self.keepers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Runs `job` on a new thread.
pub(crate) fn spawn(job: impl FnOnce() + Send + 'static) -> Result<(), Error> {
    let thread = thread::Builder::new().name("domo-token".to_owned());
    let failed = |error| Error::io("cannot start a thread that receives tokens", error);
    thread.spawn(job).map(drop).map_err(failed)
}

fn millis(span: std::time::Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}

//! What one process has, and a forked child must not use: its connection, its requests under way,
//! its threads.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError, TryLockError};
use std::thread;

use arc_swap::ArcSwap;

use crate::connection::Connection;
use crate::error::Error;
use crate::in_flight::{Call, InFlight, InFlightRequests, Step};
use crate::process_identity::ProcessIdentity;
use crate::token::{Set, Token};
use crate::token_cache::TokenCache;
use crate::transport::{Next, Transport, unexpected};
use crate::watch::{Stop, Watch};
use domo_token_protocol::messages::{Request, Response, TokenRequest};

/// What all clones of a broker share.
pub(crate) struct Shared {
    pub(crate) held: Arc<TokenCache>,
    process: ArcSwap<Process>,
}

pub(crate) struct Process {
    identity: ProcessIdentity,
    pub(crate) exchange: Arc<Transport>,
    flights: Arc<InFlightRequests>,
    keepers: Mutex<Vec<Keeper>>,
}

/// A thread that watches one set.
struct Keeper {
    set: Set,
    /// Shared with the thread for as long as that runs.
    stop: Arc<Stop>,
}

impl Shared {
    pub(crate) fn new(exchange: Transport) -> Self {
        let process = Process::new(exchange);
        Self {
            held: Arc::new(TokenCache::new()),
            process: ArcSwap::from_pointee(process),
        }
    }

    /// What this very process has. A forked child begins anew: its parent's connection is still in
    /// use, and the threads that held the parent's locks are not there to release them.
    pub(crate) fn process(&self) -> Arc<Process> {
        let process = self.process.load_full();
        if process.identity.is_current() {
            return process;
        }
        let own = Arc::new(Process::new(process.exchange.anew()));
        let before = self.process.compare_and_swap(&process, Arc::clone(&own));
        if Arc::ptr_eq(&before, &process) {
            own
        } else {
            Arc::clone(&before)
        }
    }

    /// A token for a call whose need no held one meets.
    pub(crate) fn obtain(&self, mut call: Call) -> Result<Token, Error> {
        let process = self.process();
        loop {
            let flight = match process.join_or_lead(&mut call, &self.held) {
                Step::Cached(token) => return Ok(token),
                Step::Join(flight) => {
                    flight.wait(call.give_up());
                    flight
                }
                Step::Lead(pilot) => {
                    let flight = pilot.flight();
                    pilot.run(|flight| process.request(flight), &self.held);
                    flight
                }
            };
            if let Some(result) = flight.resolve(&call, &self.held) {
                return result;
            }
        }
    }

    /// Watches the set on a thread until the last clone is gone.
    pub(crate) fn keep(&self, set: Set) -> Result<(), Error> {
        let process = self.process();
        let mut keepers = process.keepers();
        keepers.retain(|keeper| Arc::strong_count(&keeper.stop) > 1);
        if keepers.iter().any(|keeper| keeper.set == set) {
            return Ok(());
        }
        let stop = Arc::new(Stop::new());
        let watch = self.watch(set.clone()).until(Arc::clone(&stop));
        spawn(move || watch.for_each(drop))?;
        keepers.push(Keeper { set, stop });
        Ok(())
    }

    pub(crate) fn watch(&self, set: Set) -> Watch {
        let exchange = Arc::clone(&self.process().exchange);
        Watch::new(exchange, Arc::clone(&self.held), set)
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        let process = self.process.load();
        let keepers = match process.keepers.try_lock() {
            Ok(keepers) => keepers,
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            // Only in a forked child, by a thread of its parent's.
            Err(TryLockError::WouldBlock) => return,
        };
        for keeper in keepers.iter() {
            keeper.stop.stop();
        }
    }
}

impl Process {
    fn new(exchange: Transport) -> Self {
        Self {
            identity: ProcessIdentity::current(),
            exchange: Arc::new(exchange),
            flights: Arc::new(InFlightRequests::new()),
            keepers: Mutex::new(Vec::new()),
        }
    }

    pub(crate) fn join_or_lead(&self, call: &mut Call, held: &TokenCache) -> Step {
        self.flights.join_or_lead(call, held)
    }

    /// Asks the broker for what `flight` is for.
    pub(crate) fn request(&self, flight: &InFlight) -> Result<Token, Error> {
        let need = flight.need;
        let request = |left| {
            Request::Token(TokenRequest {
                asked: flight.set.asked(),
                min_ttl_ms: need.min_ttl.map(millis),
                time_left_ms: millis(left),
                renew: need.renew,
            })
        };
        let take = |token: &mut Option<Token>, response, connection: &Connection| {
            let Response::Token(answer) = response else {
                return Err(unexpected(&response));
            };
            let broker = connection.broker();
            *token = Some(Token::new(answer, &flight.set, need.renew, broker)?);
            Ok(Next::Done)
        };
        let within = (flight.deadline, flight.patience);
        let token = self.exchange.ask(within, &request, &take)?;
        token.ok_or_else(|| unexpected(&Response::End))
    }

    fn keepers(&self) -> MutexGuard<'_, Vec<Keeper>> {
        self.keepers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Runs `job` on a thread of its own.
pub(crate) fn spawn(job: impl FnOnce() + Send + 'static) -> Result<(), Error> {
    let thread = thread::Builder::new().name("domo-token".to_owned());
    let failed = |error| Error::later(&format!("no thread can be had to watch on: {error}"));
    thread.spawn(job).map(drop).map_err(failed)
}

fn millis(span: std::time::Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}

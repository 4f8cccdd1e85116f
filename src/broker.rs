//! Owns the scheduler: waits for one event, applies it, carries out the commands.
//!
//! [`Broker`] is the face for sessions: a cached token is answered on the spot, without a hop to
//! another task. [`Engine`] is the loop that sends token requests and keeps the time.

mod audit;
mod did_you_mean;
mod engine;
mod errors;
mod find;
mod stored_tokens;
mod log;
mod metrics;
mod summary;
mod counters;
mod watch;

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use domo_token_protocol::messages::{
    Asked, BrokerStatus, Explanation, MAX_TIME_LEFT_MS, Refusal, RefusalKind, Renew, Response,
    ScopeStatus, TokenRequest,
};
use domo_token_protocol::scope::ScopeSet;
use tokio::sync::{Notify, oneshot, watch as signal};

use crate::audit::Audit;
use crate::platform::clock::{BootTime, Clock};
use domo_token_core::policy::{Access, Caller};
use domo_token_core::schedule::{self, Answer, Reply, WaiterId};
use domo_token_core::scheduler::{STOPPING, Scheduler, SetId};

use counters::Counters;
pub use engine::{Clients, Engine, EngineHandle};
pub use metrics::METRICS_TYPE;
pub use stored_tokens::{Origin, StoredToken};
pub use watch::Watch;

/// The broker as sessions see it. Clones are the same broker.
#[derive(Clone, Debug)]
pub struct Broker<C>(Arc<Shared<C>>);

#[derive(Debug)]
struct Shared<C> {
    clock: C,
    /// Whether any client has an access table.
    has_rules: AtomicBool,
    /// Whether any of them names units.
    has_units: AtomicBool,
    state: Mutex<State>,
    /// Rung when the scheduler has commands or an earlier timer.
    changed: Notify,
    /// Rung when there are other tokens than before.
    renewed: signal::Sender<()>,
    /// Rung when an attempt has ended, well or badly.
    attempted: signal::Sender<()>,
    connections: AtomicUsize,
    audit: OnceLock<Audit>,
}

#[derive(Debug)]
struct State {
    about: About,
    scheduler: Scheduler,
    /// Tokens of an earlier process whose client is not loaded.
    stored: Vec<StoredToken>,
    waiters: HashMap<WaiterId, oneshot::Sender<Reply>>,
    last_waiter: u64,
    /// Rung when the watchers of a set are to look again; dropped when there is nothing to see any
    /// more.
    watched: HashMap<SetId, signal::Sender<()>>,
    /// When the loop wakes up by itself.
    armed: Option<BootTime>,
    stopping: bool,
    /// Why callers cannot connect, and the command that helps.
    socket_error: Option<String>,
    refusals: log::LogRateLimit,
    counters: Counters,
}

/// What a broker knows of its daemon.
#[derive(Clone, Debug, Default)]
pub struct About {
    /// What status says of it.
    pub status: BrokerStatus,
    /// Whom a caller means that names no client.
    pub default_client: Option<String>,
    /// The access tables, by client; a client without one is open to whoever may connect.
    pub access: BTreeMap<String, Access>,
    /// Who asks where for each client's tokens, of those that are loaded.
    pub origins: BTreeMap<String, Origin>,
    /// Why what the config says of these clients could not be loaded.
    pub load_errors: BTreeMap<String, String>,
    /// Whether the tokens may be kept over a restart.
    pub keeps: bool,
}

impl About {
    fn names_units(&self) -> bool {
        let mut rules = self.access.values().flat_map(|access| access.0.values());
        rules.any(|rule| !rule.units.is_empty())
    }
}

/// The most scope sets in a page of status: a page is held while its caller reads it, and thousands of callers
/// may read slowly at once.
const PAGE: usize = 16;

/// Where a page of status begins; by default at the beginning.
#[derive(Clone, Debug, Default)]
pub struct StatusCursor {
    after: Option<(String, ScopeSet)>,
}

impl<C: Clock> Broker<C> {
    /// A broker with no clients yet, whose chance comes from `seed`.
    pub fn new(clock: C, seed: u64, about: About) -> Self {
        Self(Arc::new(Shared {
            clock,
            has_rules: AtomicBool::new(!about.access.is_empty()),
            has_units: AtomicBool::new(about.names_units()),
            state: Mutex::new(State {
                about,
                scheduler: Scheduler::new(seed),
                stored: Vec::new(),
                waiters: HashMap::new(),
                last_waiter: 0,
                watched: HashMap::new(),
                armed: None,
                stopping: false,
                socket_error: None,
                refusals: log::LogRateLimit::default(),
                counters: Counters::default(),
            }),
            changed: Notify::new(),
            renewed: signal::Sender::new(()),
            attempted: signal::Sender::new(()),
            connections: AtomicUsize::new(0),
            audit: OnceLock::new(),
        }))
    }

    /// Whether more of a caller must be looked up than the kernel says by itself.
    #[must_use]
    pub fn needs_identity(&self) -> bool {
        self.0.has_rules.load(Ordering::Relaxed) || self.0.audit.get().is_some()
    }

    /// Whether any rule asks for a unit.
    #[must_use]
    pub fn has_units(&self) -> bool {
        self.0.has_units.load(Ordering::Relaxed)
    }

    /// Answers a caller, at its deadline at the latest.
    ///
    /// # Errors
    ///
    /// A [`Refusal`] says why there is no token.
    pub async fn token(&self, request: &TokenRequest, caller: &Caller) -> Reply {
        let (resolved, progress) = self.begin(request, caller);
        let reply = match progress {
            Progress::Answered(reply) => reply,
            Progress::Waiting {
                set,
                waiter,
                answer,
            } => self.wait(set, waiter, answer, caller).await,
        };
        if let Some(resolved) = resolved {
            self.record_audit(caller, &resolved, reply.as_ref());
        }
        reply
    }

    /// Decides what a caller gets, and says for the audit what it asked for.
    fn begin(&self, request: &TokenRequest, caller: &Caller) -> (Option<Asked>, Progress) {
        let now = self.0.clock.now();
        let time_left = Duration::from_millis(request.time_left_ms.min(MAX_TIME_LEFT_MS));
        let conditions = schedule::TokenRequest {
            min_ttl: request.min_ttl_ms.map(Duration::from_millis),
            deadline: now + time_left,
            renew: request.renew,
        };
        let mut state = self.state();
        let admitted = state.admit(&request.asked, caller, now);
        let resolved = self.resolved(&state, &request.asked, &admitted);
        let set = match admitted {
            Ok(set) => set,
            Err(refusal) => {
                state.counters.unmatched(&refusal);
                return (resolved, Progress::Answered(Err(refusal)));
            }
        };
        if state.stopping {
            return (resolved, Progress::Answered(Err(stopping())));
        }
        if let Some(Renew::Rejected(generation)) = request.renew {
            let caller = caller.to_string();
            state.scheduler.record_rejection(set, generation, caller);
        }
        state.last_waiter += 1;
        let waiter = WaiterId(state.last_waiter);
        let answer = state.scheduler.request(set, waiter, &conditions, now);
        // A cached token leaves the loop asleep.
        if state.scheduler.wants_attention(state.armed) {
            self.0.changed.notify_one();
        }
        if let Answer::Now(reply) = answer {
            state.counters.answer(set, &reply);
            let reply = reply.map_err(|refusal| state.with_load_error(set, caller, refusal));
            return (resolved, Progress::Answered(reply));
        }
        let (sender, answer) = oneshot::channel();
        state.waiters.insert(waiter, sender);
        let progress = Progress::Waiting {
            set,
            waiter,
            answer,
        };
        (resolved, progress)
    }

    async fn wait(
        &self,
        set: SetId,
        waiter: WaiterId,
        answer: oneshot::Receiver<Reply>,
        caller: &Caller,
    ) -> Reply {
        let leaving = WaiterGuard {
            broker: self,
            set,
            waiter,
        };
        let reply = answer.await;
        std::mem::forget(leaving);
        let reply = reply.unwrap_or_else(|_| Err(stopping()));
        let mut state = self.state();
        state.count_late(set, &reply);
        reply.map_err(|refusal| state.with_load_error(set, caller, refusal))
    }

    /// Counts a connection for as long as what is returned lives.
    #[must_use]
    pub fn connected(&self) -> ConnectionGuard<'_> {
        self.0.connections.fetch_add(1, Ordering::Relaxed);
        ConnectionGuard(&self.0.connections)
    }

    /// The token of a set, then each new one.
    ///
    /// # Errors
    ///
    /// A [`Refusal`] says why there is nothing to watch.
    pub fn watch(&self, asked: &Asked, caller: &Caller) -> Result<Watch<C>, Refusal> {
        let now = self.0.clock.now();
        let mut state = self.state();
        let admitted = state.admit(asked, caller, now);
        let resolved = self.resolved(&state, asked, &admitted);
        let admitted = admitted.and_then(|set| {
            if state.stopping {
                return Err(stopping());
            }
            Ok(set)
        });
        let set = match admitted {
            Ok(set) => set,
            Err(refusal) => {
                drop(state);
                if let Some(resolved) = resolved {
                    self.record_audit(caller, &resolved, Err(&refusal));
                }
                return Err(refusal);
            }
        };
        let changed = state.watched.entry(set);
        let changed = changed.or_insert_with(|| signal::Sender::new(()));
        Ok(Watch::new(self.clone(), set, changed.subscribe()))
    }

    /// Refuses every request from now on and ends every wait and every watch, also where the engine
    /// has ended without doing so.
    pub fn shut_down(&self) {
        let mut state = self.state();
        state.stopping = true;
        state.waiters.clear();
        state.watched.clear();
    }

    /// The state of the daemon and of the scope sets that the caller may see: the answer's frames
    /// from that place on, as many as a page has, and where the next one begins.
    #[must_use]
    pub fn status(
        &self,
        caller: &Caller,
        from: &StatusCursor,
    ) -> (Vec<Response>, Option<StatusCursor>) {
        let now = self.0.clock.now();
        let state = self.state();
        let mut answer = Vec::new();
        if from.after.is_none() {
            answer.push(Response::Broker(state.status_for(caller)));
        }
        let mut sets = state.scheduler.status_after(from.after.as_ref(), now);
        let page: Vec<ScopeStatus> = sets.by_ref().take(PAGE).collect();
        let last = page.last().filter(|_| sets.next().is_some());
        let next = last.and_then(|last| {
            let scope = ScopeSet::parse(&last.scope).ok()?;
            let after = Some((last.client.clone(), scope));
            Some(StatusCursor { after })
        });
        let seen = page
            .into_iter()
            .filter(|set| state.may_see(&set.client, &set.scope, caller));
        answer.extend(seen.map(|mut set| {
            state.show_load_error(&mut set, caller);
            Response::Scope(set)
        }));
        if next.is_none() {
            answer.push(Response::End);
        }
        (answer, next)
    }

    /// What is decided for a caller, and by which rule.
    #[must_use]
    pub fn explain(&self, asked: &Asked, caller: &Caller) -> Explanation {
        self.state().explain(asked, caller, self.0.clock.now())
    }

    /// A session's panic must not take the others down, and no method leaves the state half done.
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// A caller that waited has its answer; by then the set may be gone, and its counts with it.
    fn count_late(&mut self, set: SetId, reply: &Reply) {
        if self.scheduler.contains(set) {
            self.counters.answer(set, reply);
        } else if let Err(refusal) = reply {
            self.counters.unmatched(refusal);
        }
    }

    /// When the loop has to wake up by itself.
    fn arm(&mut self) -> Option<BootTime> {
        self.armed = self.scheduler.poll_timeout();
        self.armed
    }
}

/// The state of a request for a token.
enum Progress {
    Answered(Reply),
    Waiting {
        set: SetId,
        waiter: WaiterId,
        answer: oneshot::Receiver<Reply>,
    },
}

/// A caller that is connected.
#[derive(Debug)]
pub struct ConnectionGuard<'a>(&'a AtomicUsize);

impl Drop for ConnectionGuard<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Takes a caller off the list when its session ends before its answer.
struct WaiterGuard<'a, C: Clock> {
    broker: &'a Broker<C>,
    set: SetId,
    waiter: WaiterId,
}

impl<C: Clock> Drop for WaiterGuard<'_, C> {
    fn drop(&mut self) {
        let now: BootTime = self.broker.0.clock.now();
        let mut state = self.broker.state();
        state.waiters.remove(&self.waiter);
        state.scheduler.cancel(self.set, self.waiter, now);
    }
}

fn stopping() -> Refusal {
    Refusal::new(RefusalKind::Busy, STOPPING)
}

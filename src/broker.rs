//! Owns the scheduler: applies requests and events to it, and executes its commands.
//!
//! Sessions use [`Broker`], which answers with a cached token immediately, without a switch to another
//! task. [`Engine`] is the loop that sends token requests and waits for timers.

pub mod app_usage;
mod app_status;
mod audit;
mod broker_config;
mod did_you_mean;
mod engine;
mod daemon_errors;
mod find_scope_set;
mod fleet;
mod restore_tokens;
mod log;
mod log_rate_limit;
mod metrics;
mod status_line;
mod counters;
mod watch;

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use domo_token_protocol::messages::{
    Explanation, MAX_TIME_LEFT_MS, Refusal, RefusalKind, Renew, Response, ScopeStatus,
    TokenRequest, TokenSubject,
};
use domo_token_protocol::scope::ScopeSet;
use tokio::sync::{Notify, oneshot, watch as signal};

use crate::audit::Audit;
use crate::platform::clock::{BootTime, Clock};
use crate::source::fleet_monitor::FleetMonitor;
use domo_token_core::access_policy::Caller;
use domo_token_core::schedule::{self, Answer, Reply, WaiterId};
use domo_token_core::scheduler::{STOPPING, Scheduler, SetId};

use app_usage::AppUsage;
pub use broker_config::{AccessTables, BrokerConfig, DaemonInfo, Origins};
use counters::Counters;
pub use engine::{Clients, Engine, EngineHandle};
use find_scope_set::Denial;
use log_rate_limit::LogRateLimit;
pub use metrics::METRICS_TYPE;
pub use restore_tokens::StoredToken;
pub use watch::Watch;

/// The broker as sessions see it. Clones are the same broker.
#[derive(Clone, Debug)]
pub struct Broker<C>(Arc<Shared<C>>);

#[derive(Debug)]
struct Shared<C> {
    clock: C,
    /// Whether any client has an access table.
    has_rules: AtomicBool,
    /// Whether any access table names units.
    has_units: AtomicBool,
    state: Mutex<State>,
    /// Notified when the scheduler has commands or an earlier timer.
    changed: Notify,
    /// Notified when the stored tokens have changed.
    renewed: signal::Sender<()>,
    /// Notified when an attempt has succeeded or failed.
    attempted: signal::Sender<()>,
    connections: AtomicUsize,
    audit: OnceLock<Audit>,
}

#[derive(Debug)]
struct State {
    config: BrokerConfig,
    scheduler: Scheduler,
    /// Tokens of an earlier process whose client is not loaded.
    stored: Vec<StoredToken>,
    waiters: HashMap<WaiterId, oneshot::Sender<Reply>>,
    last_waiter: u64,
    /// Notifies the watchers of a set of a change; dropped when the set is removed.
    watched: HashMap<SetId, signal::Sender<()>>,
    /// When the loop wakes up by its timer.
    armed: Option<BootTime>,
    /// Answered by the loop.
    pings: Vec<oneshot::Sender<()>>,
    stopping: bool,
    /// Why callers cannot connect, and the command that helps.
    socket_error: Option<String>,
    denial_log: LogRateLimit,
    counters: Counters,
    /// The fleet with which tokens are shared.
    fleet: Option<Arc<FleetMonitor>>,
    /// The applications of the gateway.
    apps: Vec<Arc<AppUsage>>,
}

/// The most scope sets in a page of status: a page is held while its caller reads it, and thousands of callers
/// may read slowly at the same time.
const PAGE: usize = 16;

/// Where a page of status begins; by default at the beginning.
#[derive(Clone, Debug, Default)]
pub struct StatusCursor {
    after: Option<(String, ScopeSet)>,
}

impl<C: Clock> Broker<C> {
    /// Returns a broker with no clients yet, whose random numbers come from `seed`.
    pub fn new(clock: C, seed: u64, config: BrokerConfig) -> Self {
        Self(Arc::new(Shared {
            clock,
            has_rules: AtomicBool::new(!config.access.is_empty()),
            has_units: AtomicBool::new(config.access.has_units()),
            state: Mutex::new(State {
                config,
                scheduler: Scheduler::new(seed),
                stored: Vec::new(),
                waiters: HashMap::new(),
                last_waiter: 0,
                watched: HashMap::new(),
                armed: None,
                pings: Vec::new(),
                stopping: false,
                socket_error: None,
                denial_log: LogRateLimit::default(),
                counters: Counters::default(),
                fleet: None,
                apps: Vec::new(),
            }),
            changed: Notify::new(),
            renewed: signal::Sender::new(()),
            attempted: signal::Sender::new(()),
            connections: AtomicUsize::new(0),
            audit: OnceLock::new(),
        }))
    }

    /// Returns the time of its clock, to which the times of tokens and refusals refer.
    #[must_use]
    pub fn now(&self) -> BootTime {
        self.0.clock.now()
    }

    /// Returns the wall clock's time since 1970.
    #[must_use]
    pub fn wall(&self) -> Duration {
        self.0.clock.wall()
    }

    /// Returns whether callers must be looked up in the user database.
    #[must_use]
    pub fn needs_identity(&self) -> bool {
        self.0.has_rules.load(Ordering::Relaxed) || self.0.audit.get().is_some()
    }

    /// Returns whether any rule names a unit.
    #[must_use]
    pub fn has_units(&self) -> bool {
        self.0.has_units.load(Ordering::Relaxed)
    }

    /// Answers a caller, at its deadline at the latest.
    ///
    /// # Errors
    ///
    /// A [`Refusal`] with the reason why there is no token.
    pub async fn token(&self, request: &TokenRequest, caller: &Caller) -> Reply {
        let (subject, progress) = self.begin(request, caller);
        let reply = match progress {
            Progress::Answered(reply) => reply,
            Progress::Waiting {
                set,
                waiter,
                answer,
            } => self.wait(set, waiter, answer, caller).await,
        };
        self.record_audit(caller, subject, reply.as_ref());
        reply
    }

    /// Decides on a request. Returns also its subject, for the audit.
    fn begin(&self, request: &TokenRequest, caller: &Caller) -> (Option<TokenSubject>, Progress) {
        let now = self.0.clock.now();
        let time_left = Duration::from_millis(request.time_left_ms.min(MAX_TIME_LEFT_MS));
        let conditions = schedule::TokenRequest {
            min_ttl: request.min_ttl_ms.map(Duration::from_millis),
            deadline: now + time_left,
            renew: request.renew,
        };
        let mut state = self.state();
        let admitted = state.admit(&request.subject, caller, now);
        let subject = self.audit_subject(&state, &admitted);
        let set = match admitted {
            Ok(set) => set,
            Err(denial) => {
                state.counters.count_denial(&denial);
                return (subject, Progress::Answered(Err(denial.refusal)));
            }
        };
        if state.stopping {
            return (subject, Progress::Answered(Err(stopping())));
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
            state.counters.count_answer(set, &reply);
            let reply = reply.map_err(|refusal| state.with_load_error(set, caller, refusal));
            return (subject, Progress::Answered(reply));
        }
        let (sender, answer) = oneshot::channel();
        state.waiters.insert(waiter, sender);
        let progress = Progress::Waiting {
            set,
            waiter,
            answer,
        };
        (subject, progress)
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

    /// Counts a connection until the guard is dropped.
    #[must_use]
    pub fn connected(&self) -> ConnectionGuard<'_> {
        self.0.connections.fetch_add(1, Ordering::Relaxed);
        ConnectionGuard(&self.0.connections)
    }

    /// Returns a watch on a set: its token, then each new one.
    ///
    /// # Errors
    ///
    /// A [`Refusal`] with the reason why there is nothing to watch.
    pub fn watch(&self, subject: &TokenSubject, caller: &Caller) -> Result<Watch<C>, Refusal> {
        let now = self.0.clock.now();
        let mut state = self.state();
        let admitted = state.admit(subject, caller, now);
        let subject = self.audit_subject(&state, &admitted);
        let refusal = match admitted {
            Ok(set) if !state.stopping => {
                let changed = state.watched.entry(set);
                let changed = changed.or_insert_with(|| signal::Sender::new(()));
                return Ok(Watch::new(self.clone(), set, changed.subscribe()));
            }
            Ok(_) => stopping(),
            Err(Denial { refusal, .. }) => refusal,
        };
        drop(state);
        self.record_audit(caller, subject, Err(&refusal));
        Err(refusal)
    }

    /// Returns once the loop has answered, which shows that it runs.
    pub async fn ping(&self) {
        let (sender, answered) = oneshot::channel();
        self.state().add_ping(sender);
        self.0.changed.notify_one();
        if answered.await.is_err() {
            // Dropped with the broker, which this method borrows.
            std::future::pending::<()>().await;
        }
    }

    /// Refuses every request from now on and ends every wait and every watch, even if the engine has
    /// ended without doing so.
    pub fn shut_down(&self) {
        let mut state = self.state();
        state.stopping = true;
        state.waiters.clear();
        state.watched.clear();
    }

    /// Returns the state of the daemon and of the scope sets that the caller may see, by client and
    /// scopes: the page that begins there, and where the next one begins.
    #[must_use]
    pub fn status(
        &self,
        caller: &Caller,
        from: &StatusCursor,
    ) -> (Vec<Response>, Option<StatusCursor>) {
        let now = self.0.clock.now();
        let state = self.state();
        let is_first = from.after.is_none();
        let broker = is_first.then(|| Response::Broker(state.status_for(caller)));
        let mut sets = state.scheduler.status_after(from.after.as_ref(), now);
        let page: Vec<(&ScopeSet, ScopeStatus)> = sets.by_ref().take(PAGE).collect();
        let last = page.last().filter(|_| sets.next().is_some());
        let next = last.map(|(scope, last)| StatusCursor {
            after: Some((last.client.clone(), (*scope).clone())),
        });
        let seen = page
            .into_iter()
            .filter(|(scope, set)| state.may_see(&set.client, scope, caller));
        let scopes = seen.map(|(_, mut set)| {
            state.show_load_error(&mut set, caller);
            Response::Scope(set)
        });
        (broker.into_iter().chain(scopes).collect(), next)
    }

    /// Returns what is decided for a caller, and by which rule.
    #[must_use]
    pub fn explain(&self, subject: &TokenSubject, caller: &Caller) -> Explanation {
        self.state().explain(subject, caller, self.0.clock.now())
    }

    /// Locks the state. A panic of one session must not affect the others, and no method leaves the state
    /// inconsistent.
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn add_ping(&mut self, sender: oneshot::Sender<()>) {
        // A loop that is stuck must not collect those that wait no longer.
        self.pings.retain(|ping| !ping.is_closed());
        self.pings.push(sender);
    }

    /// Counts the answer to a caller that waited. The set may have been removed meanwhile, and its
    /// counts with it.
    fn count_late(&mut self, set: SetId, reply: &Reply) {
        if self.scheduler.contains(set) {
            self.counters.count_answer(set, reply);
        } else if let Err(refusal) = reply {
            self.counters.count_unmatched(refusal);
        }
    }

    /// Returns when the loop has to wake up by its timer.
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

/// Counts a connection until it is dropped.
#[derive(Debug)]
pub struct ConnectionGuard<'a>(&'a AtomicUsize);

impl Drop for ConnectionGuard<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Removes a waiting caller when its session ends before its answer.
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

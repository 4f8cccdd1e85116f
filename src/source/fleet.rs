//! A source whose tokens the hosts of a fleet share: it carries out what the core decides for each fetch, on the
//! store and on the source of tokens behind it.
//!
//! - `health`: whether the store can be used.
//! - `publish`: stores a token or a note after the fetch has ended.

mod health;
mod publish;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::convert::Infallible;
use std::future::pending;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use domo_token_core::fetch::{Fetch, Occasion, Progress};
use domo_token_core::fetch_result::{FetchError, Fetched};
use domo_token_core::fleet::{
    EXTEND_EVERY, End, FleetFetch, HURRY, HostId, LEASE, Looked, SetMemory, Step, StoreFailed,
    StoreTime, is_shared,
};
use domo_token_protocol::BootTime;
use domo_token_protocol::scope::ScopeSet;
use tracing::info;

use super::TokenSource;
use super::fleet_monitor::{FleetMonitor, Lookup};
use super::sealing::FleetKeys;
use crate::platform::clock::Clock;
use crate::store::{Look, Store, StoreError, StoreSession};
use health::{Health, Operation};

/// What all clients of a daemon share of its fleet.
pub struct Fleet<K, C> {
    store: K,
    clock: C,
    host: HostId,
    health: Mutex<Health>,
    /// Until when fetches without a token do not wait for leases, because one has done so in vain.
    hurries_until: Mutex<BootTime>,
    rng: Mutex<fastrand::Rng>,
    monitor: Arc<FleetMonitor>,
}

impl<K: Store, C: Clock> Fleet<K, C> {
    /// Returns a fleet of which this process is the host that `rng` draws.
    #[must_use]
    pub fn new(store: K, clock: C, monitor: Arc<FleetMonitor>, mut rng: fastrand::Rng) -> Self {
        Self {
            store,
            clock,
            host: HostId(rng.u128(..).to_le_bytes()),
            health: Mutex::default(),
            hurries_until: Mutex::default(),
            rng: Mutex::new(rng),
            monitor,
        }
    }

    #[must_use]
    pub fn monitor(&self) -> &Arc<FleetMonitor> {
        &self.monitor
    }

    /// Returns whether the store may be used.
    fn is_usable(&self) -> bool {
        lock(&self.health).is_usable(self.clock.now())
    }

    fn succeeded(&self, operation: Operation) {
        let now = self.clock.now();
        lock(&self.health).succeeded(operation, &self.monitor, now);
    }

    /// Records that a token of another host was taken.
    fn took(&self, fetched: &Fetched) {
        let obtained = fetched.expires.map(|expires| expires - fetched.lifetime);
        let now = self.clock.now();
        lock(&self.health).took(obtained.unwrap_or_default(), &self.monitor, now);
    }

    fn failed(&self, operation: Operation, error: &StoreError) -> StoreFailed {
        let now = self.clock.now();
        lock(&self.health).failed(operation, error, &self.monitor, now);
        StoreFailed
    }
}

/// A poisoned lock protects a plain value, which is complete between any two statements.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The tokens of one client, shared with other hosts.
pub struct FleetSource<S, K, C> {
    source: S,
    fleet: Arc<Fleet<K, C>>,
    keys: Arc<FleetKeys>,
    /// The client's name, for metrics and messages.
    client: String,
    sets: Mutex<HashMap<ScopeSet, SetState>>,
}

#[derive(Clone, Copy, Default)]
struct SetState {
    memory: SetMemory,
    /// Whether it was logged that its tokens are too short-lived to be shared.
    is_short_logged: bool,
}

impl<S: TokenSource, K: Store, C: Clock> FleetSource<S, K, C> {
    /// Returns a source of `client` that shares the tokens of `source`.
    #[must_use]
    pub fn new(source: S, fleet: Arc<Fleet<K, C>>, keys: FleetKeys, client: &str) -> Self {
        Self {
            source,
            fleet,
            keys: Arc::new(keys),
            client: client.to_owned(),
            sets: Mutex::default(),
        }
    }

    /// Returns the source behind the fleet.
    #[must_use]
    pub fn source(&self) -> &S {
        &self.source
    }

    #[must_use]
    pub fn fleet(&self) -> &Arc<Fleet<K, C>> {
        &self.fleet
    }

    fn remember(&self, scope: &ScopeSet, end: &End) {
        let mut sets = lock(&self.sets);
        let state = sets.entry(scope.clone()).or_default();
        state.memory = end.memory;
        if let Fetch::Obtained(fetched) = &end.fetch
            && !is_shared(fetched.lifetime)
            && !std::mem::replace(&mut state.is_short_logged, true)
        {
            info!(
                client = self.client,
                scope = scope.as_str(),
                lifetime_s = fetched.lifetime.as_secs(),
                "token lifetime is too short to share tokens with the fleet"
            );
        }
    }
}

/// Carries out one fetch.
struct Run<'a, S, K: Store, C> {
    of: &'a FleetSource<S, K, C>,
    occasion: &'a Occasion,
    on_progress: &'a (dyn Fn(Progress) + Send + Sync),
    name: String,
    session: K::Session,
    /// Whether the last look found a record that does not open.
    has_unsealable: bool,
}

impl<S: TokenSource, K: Store, C: Clock> TokenSource for FleetSource<S, K, C> {
    async fn fetch(
        &self,
        occasion: &Occasion,
        on_progress: &(dyn Fn(Progress) + Send + Sync),
    ) -> Fetch {
        let name = self.keys.name(&occasion.scope);
        let session = self.fleet.store.session(&name);
        let run = Run {
            of: self,
            occasion,
            on_progress,
            name,
            session,
            has_unsealable: false,
        };
        run.run().await
    }
}

impl<S: TokenSource, K: Store, C: Clock> Run<'_, S, K, C> {
    async fn run(mut self) -> Fetch {
        let fleet = Arc::clone(&self.of.fleet);
        let clock = &fleet.clock;
        let mut rng = lock(&fleet.rng).fork();
        let state = lock(&self.of.sets).get(&self.occasion.scope).copied();
        let memory = state.unwrap_or_default().memory;
        let (mut fetch, mut step) = FleetFetch::start(
            fleet.host,
            self.occasion.clone(),
            memory,
            fleet.is_usable(),
            clock.now(),
            &mut rng,
        );
        if clock.now() < *lock(&fleet.hurries_until) {
            fetch.hurry(clock.now());
        }
        loop {
            step = match step {
                Step::Look => {
                    let looked = self.look().await;
                    let step = fetch.looked(looked, clock.now(), &mut rng);
                    self.count_look(&step);
                    step
                }
                Step::Claim(lease) => {
                    let claimed = self.claim(lease).await;
                    let step = fetch.claimed(claimed, clock.now(), &mut rng);
                    self.count_claim(claimed, &step);
                    step
                }
                Step::Extend => {
                    let extended = self.extend().await;
                    fetch.extended(extended, clock.now(), &mut rng)
                }
                Step::Wait(until) => {
                    clock.sleep_until(until).await;
                    fetch.waited()
                }
                Step::WaitAlone(until) => {
                    let until = lock(&fleet.health).alone_from(until);
                    clock.sleep_until(until).await;
                    fetch.waited()
                }
                Step::Request { is_extended } => {
                    let sent = clock.now();
                    match self.request(is_extended).await {
                        Ok(result) => fetch.responded(result, sent, clock.now(), &mut rng),
                        Err(other) => return other,
                    }
                }
                Step::End(end) => return self.end(*end),
            };
        }
    }

    /// Starts what follows the fetch, and returns its result.
    fn end(self, end: End) -> Fetch {
        let fleet = Arc::clone(&self.of.fleet);
        self.of.remember(&self.occasion.scope, &end);
        if end.has_waited_in_vain {
            *lock(&fleet.hurries_until) = fleet.clock.now() + HURRY;
        }
        if let Some(publication) = end.publication.filter(|_| fleet.is_usable()) {
            let keys = Arc::clone(&self.of.keys);
            publish::start(publication, fleet, keys, self.name, self.session);
        }
        end.fetch
    }

    async fn look(&mut self) -> Result<Looked, StoreFailed> {
        let fleet = &self.of.fleet;
        let look = self.session.look().await.map_err(|error| {
            self.count(Lookup::Failed);
            fleet.failed(Operation::Read, &error)
        })?;
        fleet.succeeded(Operation::Read);
        let time = fleet.read_clocks(&look);
        let keys = &self.of.keys;
        let token = look
            .token
            .map(|record| keys.open_token(&self.name, &record));
        let note = look.note.map(|record| keys.open_note(&self.name, &record));
        self.has_unsealable = matches!(token, Some(None)) || matches!(note, Some(None));
        Ok(Looked {
            time,
            token: token.flatten(),
            note: note.flatten(),
        })
    }

    async fn claim(&mut self, lease: Duration) -> Result<bool, StoreFailed> {
        let fleet = &self.of.fleet;
        let claimed = self.session.claim(&fleet.host.to_string(), lease).await;
        let claimed = claimed.map_err(|error| {
            self.count(Lookup::Failed);
            fleet.failed(Operation::Write, &error)
        })?;
        fleet.succeeded(Operation::Write);
        Ok(claimed)
    }

    async fn extend(&mut self) -> Result<(), StoreFailed> {
        let fleet = &self.of.fleet;
        let extended = self.session.extend(LEASE).await;
        extended.map_err(|error| fleet.failed(Operation::Write, &error))
    }

    /// Requests a token from the source, and extends the lease meanwhile. Returns any other end of the fetch as an
    /// error.
    async fn request(&mut self, is_extended: bool) -> Result<Result<Fetched, FetchError>, Fetch> {
        let (fleet, session) = (&self.of.fleet, &mut self.session);
        let extend = async {
            if is_extended {
                extend_lease(fleet, session).await;
            }
            // Without a lease another host may send a request too, which costs no more than that.
            pending::<Infallible>().await
        };
        let fetch = tokio::select! {
            fetch = self.of.source.fetch(self.occasion, self.on_progress) => fetch,
            never = extend => match never {},
        };
        match fetch {
            Fetch::Obtained(fetched) => Ok(Ok(fetched)),
            Fetch::Failed { error, .. } => Ok(Err(error)),
            Fetch::Postponed(_) => Err(fetch),
        }
    }

    /// Counts a look that ends the fetch. Any other is counted by its failure, or by the claim that follows it.
    fn count_look(&self, step: &Step) {
        let Step::End(end) = step else {
            return;
        };
        match &end.fetch {
            Fetch::Obtained(fetched) => {
                self.of.fleet.took(fetched);
                self.count(Lookup::Taken);
            }
            Fetch::Failed { .. } => self.count(Lookup::Note),
            // The store failed, which was counted.
            Fetch::Postponed(_) => {}
        }
    }

    /// Counts a claim, unless the store failed, which was counted.
    fn count_claim(&self, claimed: Result<bool, StoreFailed>, step: &Step) {
        let Ok(claimed) = claimed else {
            return;
        };
        let is_own = claimed || matches!(step, Step::Extend);
        self.count(match is_own {
            _ if self.has_unsealable => Lookup::Unsealable,
            true => Lookup::Nothing,
            false => Lookup::Held,
        });
    }

    fn count(&self, outcome: Lookup) {
        let of = self.of;
        let scope = &self.occasion.scope;
        of.fleet.monitor.looked_up(&of.client, scope, outcome);
    }
}

/// Extends the lease again and again, until that fails.
async fn extend_lease<K: Store, C: Clock>(fleet: &Fleet<K, C>, session: &mut K::Session) {
    loop {
        let due = fleet.clock.now() + EXTEND_EVERY;
        fleet.clock.sleep_until(due).await;
        if let Err(error) = session.extend(LEASE).await {
            fleet.failed(Operation::Write, &error);
            return;
        }
    }
}

impl<K: Store, C: Clock> Fleet<K, C> {
    /// Returns the times of a look, and records the difference of the clocks.
    fn read_clocks(&self, look: &Look) -> StoreTime {
        let since_asked = self.clock.now().saturating_since(look.asked);
        let wall_ms = millis(self.clock.wall().saturating_sub(since_asked));
        // Half of the time that the answer took.
        let passed = millis(look.answered.saturating_since(look.asked)) / 2;
        let difference = i64::try_from(look.time_ms).unwrap_or(i64::MAX);
        let difference = difference.saturating_sub_unsigned(wall_ms.saturating_add(passed));
        self.monitor.read_clocks(difference, self.clock.now());
        StoreTime {
            asked: look.asked,
            answered: look.answered,
            time_ms: look.time_ms,
            wall_ms,
        }
    }
}

fn millis(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}

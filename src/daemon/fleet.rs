//! The fleet of the config: whether it is loaded, why it is not, and when loading is retried. Without it each client
//! requests its tokens from Domo itself, so its failure affects no caller.

use std::collections::BTreeMap;
use std::future::pending;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinHandle;
use tracing::{debug, error, info};

use super::clients::{RETRY_FIRST, RETRY_MAX, Rerun};
use crate::broker::{self, Broker};
use crate::config::{Config, Env, FleetConfig};
use crate::connect::Shared;
use crate::load::{
    FleetError, FleetInputs, FleetProgress, FleetResult, LoadedFleet, load_fleet, place_of,
};
use crate::platform::clock::{BootTime, Clock, SystemClock};
use crate::platform::threads;
use crate::source::fleet_monitor::FleetMonitor;
use crate::source::{DaemonFleet, Source};

/// The fleet of a config, if it has one.
pub(super) struct Fleet {
    env: Env<'static>,
    /// As the config has it.
    config: Option<FleetConfig>,
    /// What clients share tokens in; an unchanged one is the same one after a reload.
    pub(super) loaded: Option<Arc<LoadedFleet>>,
    failure: Option<Failure>,
    /// What its command was last run with, if it has a command.
    inputs: Option<Box<FleetInputs>>,
    running: Option<JoinHandle<io::Result<FleetResult>>>,
    /// Whether its command is run once more when it ends: a reload came while it was running.
    run_again: bool,
    /// How long after the last failure it is loaded again.
    retry_after: Duration,
    /// The fleet in use: that of `loaded`.
    active: Option<Active>,
    /// The clients that share their tokens.
    members: BTreeMap<String, Member>,
    /// Why clients do not share their tokens although the fleet is loaded, by client.
    client_faults: BTreeMap<String, String>,
    /// What all connections share.
    shared: Shared,
}

/// A fleet in use.
struct Active {
    loaded: Arc<LoadedFleet>,
    fleet: Arc<DaemonFleet>,
}

/// A client that shares its tokens.
struct Member {
    fleet: Arc<DaemonFleet>,
    /// The source as it was loaded.
    source: Arc<Source>,
    /// The same, whose tokens are shared.
    shared: Arc<Source>,
}

#[derive(Debug)]
struct Failure {
    reason: String,
    retry_at: Option<BootTime>,
}

/// What loading the fleet has changed, to be logged.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum FleetChange {
    /// It could not be loaded, for another reason than before.
    Failed {
        reason: String,
        retry_in: Option<Duration>,
    },
    /// The same failure again.
    FailedAgain,
    /// It is loaded, and was not before, or with other settings.
    Loaded {
        place: String,
    },
    /// The config no longer has one.
    Removed,
    Unchanged,
}

impl Fleet {
    pub(super) fn new(env: Env<'static>, shared: Shared) -> Self {
        Self {
            env,
            shared,
            active: None,
            members: BTreeMap::new(),
            config: None,
            loaded: None,
            failure: None,
            inputs: None,
            running: None,
            run_again: false,
            retry_after: RETRY_FIRST,
            client_faults: BTreeMap::new(),
        }
    }

    /// Returns why the fleet of the config could not be loaded.
    pub(super) fn error(&self) -> Option<&str> {
        self.failure.as_ref().map(|failure| failure.reason.as_str())
    }

    /// Returns why clients do not share their tokens although the fleet is loaded, by client.
    pub(super) fn client_faults(&self) -> &BTreeMap<String, String> {
        &self.client_faults
    }

    /// Returns whether its command is running.
    pub(super) fn is_running(&self) -> bool {
        self.running.is_some()
    }

    /// Applies a config. A command is run if its inputs have changed, or if `rerun` selects it; until it ends, the
    /// previous fleet stays in use.
    pub(super) fn apply(
        &mut self,
        config: Option<&FleetConfig>,
        progress: Option<FleetProgress>,
        rerun: Rerun,
        now: BootTime,
    ) -> FleetChange {
        self.config = config.cloned();
        match progress {
            None => {
                let was_there = self.loaded.is_some() || self.failure.is_some();
                self.cancel();
                (self.loaded, self.failure, self.inputs) = (None, None, None);
                if was_there {
                    FleetChange::Removed
                } else {
                    FleetChange::Unchanged
                }
            }
            Some(FleetProgress::Done(result)) => {
                self.cancel();
                self.inputs = None;
                self.finish(result, now)
            }
            Some(FleetProgress::NeedsCommand(inputs)) => {
                self.set_command(inputs, rerun);
                FleetChange::Unchanged
            }
        }
    }

    fn cancel(&mut self) {
        if let Some(running) = self.running.take() {
            running.abort();
        }
        self.run_again = false;
    }

    fn set_command(&mut self, inputs: Box<FleetInputs>, rerun: Rerun) {
        let is_same = self.inputs.as_ref() == Some(&inputs);
        self.inputs = Some(inputs);
        if is_same && self.is_running() {
            self.run_again |= rerun == Rerun::All;
            return;
        }
        let is_selected = match rerun {
            Rerun::Changed => false,
            Rerun::Failed => self.failure.is_some(),
            Rerun::All => true,
        };
        if !is_same || is_selected {
            self.cancel();
            self.retry_after = RETRY_FIRST;
            self.start();
        }
    }

    /// Loads it on its own thread.
    fn start(&mut self) {
        if let Some(config) = self.config.clone() {
            let (env, shared) = (self.env, self.shared.clone());
            let load = threads::run(move || load_fleet(&config, env, &shared));
            self.running = Some(tokio::spawn(load));
        }
    }

    /// Loads it again if that is due.
    fn retry(&mut self, now: BootTime) {
        if self.next_retry().is_some_and(|at| at <= now) {
            self.start();
        }
    }

    /// Returns when it is loaded again after a failure.
    fn next_retry(&self) -> Option<BootTime> {
        let failure = self.failure.as_ref().filter(|_| !self.is_running());
        failure.and_then(|failure| failure.retry_at)
    }

    /// Waits until it was loaded on its thread, which it is again when a retry is due, and applies the result. Dropping the
    /// future loses nothing.
    pub(super) async fn changed(&mut self, clock: &impl Clock) -> FleetChange {
        if let Some(due) = self.next_retry() {
            clock.sleep_until(due).await;
            self.retry(clock.now());
        }
        let result = self.next_result().await;
        self.finish(result, clock.now())
    }

    /// Returns the result of loading it on its thread. Dropping the future loses nothing.
    async fn next_result(&mut self) -> FleetResult {
        let Some(running) = &mut self.running else {
            return pending().await;
        };
        let result = running.await;
        self.running = None;
        let result = result.unwrap_or_else(|panicked| Err(panicked.into()));
        result.unwrap_or_else(|error| Err(FleetError::NoThread(error)))
    }

    /// Applies the result of loading it. A failure turns it off, so that nothing goes on with a login or a key that the
    /// config no longer has.
    fn finish(&mut self, result: FleetResult, now: BootTime) -> FleetChange {
        if std::mem::take(&mut self.run_again) {
            self.start();
        }
        match result {
            Ok(fleet) => {
                self.retry_after = RETRY_FIRST;
                let had_failed = self.failure.take().is_some();
                if self.loaded.as_ref() == Some(&fleet) && !had_failed {
                    return FleetChange::Unchanged;
                }
                let place = fleet.place.clone();
                self.loaded = Some(fleet);
                FleetChange::Loaded { place }
            }
            Err(error) => self.fail(&error, now),
        }
    }

    fn fail(&mut self, error: &FleetError, now: BootTime) -> FleetChange {
        self.loaded = None;
        let retry_in = error.is_temporary().then_some(self.retry_after);
        self.retry_after = (self.retry_after * 2).min(RETRY_MAX);
        let reason = error.to_string();
        let before = self.failure.replace(Failure {
            reason: reason.clone(),
            retry_at: retry_in.map(|wait| now + wait),
        });
        if before.is_some_and(|before| before.reason == reason) {
            return FleetChange::FailedAgain;
        }
        FleetChange::Failed { reason, retry_in }
    }

    /// Has the clients share their tokens that can, and logs once which cannot. Returns whether these are others than
    /// before.
    pub(super) fn check_clients(
        &mut self,
        config: &Config,
        sources: &BTreeMap<String, Arc<Source>>,
        clock: &SystemClock,
    ) -> bool {
        self.activate(clock);
        let mut faults = BTreeMap::new();
        let mut members = BTreeMap::new();
        if let Some(Active { loaded, fleet }) = &self.active {
            let shares = |name: &str| config.clients.get(name).is_some_and(|client| client.shares);
            for (name, source) in sources.iter().filter(|(name, _)| shares(name)) {
                let same = self.members.remove(name).filter(|member| {
                    Arc::ptr_eq(&member.source, source) && Arc::ptr_eq(&member.fleet, fleet)
                });
                let member = match same {
                    Some(member) => Ok(member),
                    None => loaded.keys_of(source).map(|keys| Member {
                        fleet: Arc::clone(fleet),
                        source: Arc::clone(source),
                        shared: Arc::new(source.shared(fleet, keys, name)),
                    }),
                };
                match member {
                    Ok(member) => {
                        members.insert(name.clone(), member);
                    }
                    Err(fault) => {
                        let fault = format!("its tokens are not shared: {fault}");
                        faults.insert(name.clone(), fault);
                    }
                }
            }
        }
        for (name, fault) in &faults {
            if self.client_faults.get(name) != Some(fault) {
                error!(client = name, "{fault}");
            }
        }
        let have_changed = self.client_faults != faults;
        (self.client_faults, self.members) = (faults, members);
        have_changed
    }

    /// Puts the loaded fleet to use; an unchanged one stays the same one.
    fn activate(&mut self, clock: &SystemClock) {
        let Some(loaded) = &self.loaded else {
            self.active = None;
            return;
        };
        let active = self.active.as_ref();
        if active.is_some_and(|active| Arc::ptr_eq(&active.loaded, loaded)) {
            return;
        }
        let monitor = Arc::new(FleetMonitor::new(loaded.place.clone()));
        let store = loaded.store.clone();
        let fleet = DaemonFleet::new(store, clock.clone(), monitor, fastrand::Rng::new());
        self.active = Some(Active {
            loaded: Arc::clone(loaded),
            fleet: Arc::new(fleet),
        });
    }

    /// Returns the clients for the broker, of which members share their tokens. Has the broker show the fleet.
    pub(super) fn share<C: Clock>(
        &self,
        mut clients: broker::Clients<Source>,
        broker: &Broker<C>,
        now: BootTime,
    ) -> broker::Clients<Source> {
        broker.set_fleet(self.monitor(now));
        for (spec, source) in &mut clients {
            if let Some(member) = self.members.get(&spec.name)
                && let Some(source) = source
                && Arc::ptr_eq(source, &member.source)
            {
                *source = Arc::clone(&member.shared);
                spec.shares = true;
            }
        }
        clients
    }

    /// Returns what status and metrics show of the fleet; `None` if the config has none.
    fn monitor(&self, now: BootTime) -> Option<Arc<FleetMonitor>> {
        if let Some(active) = &self.active {
            return Some(Arc::clone(active.fleet.monitor()));
        }
        let config = self.config.as_ref().filter(|_| self.failure.is_some())?;
        let place = place_of(config, None).to_string();
        Some(Arc::new(FleetMonitor::turned_off(place, now)))
    }
}

/// Logs a failure once; the same failure again only at debug level.
pub(super) fn log_fleet_change(change: &FleetChange) {
    match change {
        FleetChange::Loaded { place } => info!(place, "fleet loaded"),
        FleetChange::Removed => info!("fleet removed from the config; tokens are not shared"),
        FleetChange::Unchanged => {}
        FleetChange::FailedAgain => debug!("fleet still could not be loaded"),
        FleetChange::Failed { reason, retry_in } => {
            let retry_in_s = retry_in.map(|wait| wait.as_secs());
            error!(
                error = reason,
                retry_in_s, "fleet could not be loaded; tokens are not shared"
            );
        }
    }
}

#[cfg(all(test, unix))]
mod tests;

//! Reloads: on SIGHUP, on a change of files, and retries of clients that could not be loaded. This task
//! also pings systemd's watchdog.

use std::fmt;
use std::future::pending;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use domo_token_protocol::messages::{BrokerStatus, VERSION};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tracing::{debug, error, info, warn};

use super::clients::{Clients, LoadChange, Rerun};
use super::fleet::{Fleet, FleetChange, log_fleet_change};
use super::gateway::RunningGateway;
use super::{DaemonError, Options};
use crate::broker::{AccessTables, Broker, BrokerConfig, DaemonInfo, EngineHandle};
use crate::config::{Config, Env, StartSettings};
use crate::connect::Shared;
use crate::load::{FileStamps, LoadResult, LoadedConfig, SecretCommands, load_config};
use crate::platform::clock::{BootTime, Clock, SystemClock};
use crate::platform::file_watch::{Files, Stamp};
use crate::platform::logging::{self, Levels};
use crate::platform::signals::Signal;
use crate::platform::systemd;
use crate::platform::threads;
use crate::source::Source;

/// How long after there was no thread to read the files on they are read again.
const READ_RETRY: Duration = Duration::from_secs(30);

/// How often systemd's status line is updated where there is no watchdog.
const STATUS_INTERVAL: Duration = Duration::from_secs(60);

/// Why the config is loaded again. SIGHUP takes precedence.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum ReloadTrigger {
    /// A file has changed.
    File,
    Sighup,
}

impl fmt::Display for ReloadTrigger {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::File => "change",
            Self::Sighup => "SIGHUP",
        })
    }
}

/// The result of loading the config again.
struct Load {
    files: FileStamps,
    result: Result<LoadedConfig, DaemonError>,
}

type LoadTask = JoinHandle<io::Result<Load>>;

/// Applies changes of the config and of the files that it names.
pub(super) struct ReloadTask {
    pub(super) options: Options,
    pub(super) env: Env<'static>,
    pub(super) levels: Levels,
    pub(super) clock: SystemClock,
    pub(super) started: BootTime,
    pub(super) broker: Broker<SystemClock>,
    pub(super) engine: EngineHandle<Source>,
    /// What the daemon runs with until it is restarted.
    pub(super) start_settings: StartSettings,
    pub(super) config: Arc<Config>,
    pub(super) config_loaded: BootTime,
    pub(super) clients: Clients<Source>,
    pub(super) fleet: Fleet,
    pub(super) gateway: Option<RunningGateway>,
    /// What all connections share.
    pub(super) shared: Shared,
    pub(super) commands: SecretCommands,
    /// Why the config file as it is now was rejected, if an older one is in use.
    pub(super) config_error: Option<String>,
    /// Whether the service manager waits for the end of a reload.
    pub(super) is_reloading: bool,
    /// Whether a secret command of the start has not ended yet.
    pub(super) is_starting: bool,
}

impl ReloadTask {
    /// Loads the config again when files change and on SIGHUP, until [`Signal::Stop`] or the end of the
    /// `engine`.
    pub(super) async fn run(
        mut self,
        mut signals: mpsc::Receiver<Signal>,
        mut watched: Files,
        mut engine: JoinHandle<()>,
    ) -> Result<(), DaemonError> {
        let mut loading: Option<(ReloadTrigger, LoadTask)> = None;
        let mut requested: Option<ReloadTrigger> = None;
        // A load for which there was no thread, and when it is retried.
        let mut retry: Option<(BootTime, ReloadTrigger)> = None;
        let ping_interval = systemd::watchdog().map_or(STATUS_INTERVAL, |limit| limit / 2);
        let mut next_ping = systemd::is_present().then(|| self.clock.now());
        let pending = self.clients.pending().map(str::to_owned).collect();
        self.run_commands(pending);
        loop {
            if loading.is_none() {
                loading = requested.take().map(|trigger| (trigger, self.load()));
            }
            tokio::select! {
                signal = signals.recv() => match signal {
                    Some(Signal::Reload) => {
                        systemd::reloading();
                        self.is_reloading = true;
                        requested = Some(ReloadTrigger::Sighup);
                    }
                    Some(Signal::Stop) | None => return self.stop(engine).await,
                },
                () = watched.changed() => requested = requested.max(Some(ReloadTrigger::File)),
                (trigger, load) = end_of(&mut loading) => {
                    match load {
                        Ok(load) => {
                            watched.watch(load.files);
                            self.apply(trigger, load.result).await;
                        }
                        Err(error) => {
                            warn!(retry_in_s = READ_RETRY.as_secs(), "cannot read the config: {error}");
                            retry = Some((self.clock.now() + READ_RETRY, trigger));
                        }
                    }
                    self.report_ready(requested);
                }
                () = passes(retry.map(|(at, _)| at), &self.clock) =>
                    requested = requested.max(retry.take().map(|(_, trigger)| trigger)),
                (name, result) = self.commands.next() => {
                    self.finish(&name, result).await;
                    if let Some(reasons) = self.never_loaded() {
                        self.stop(engine).await?;
                        return Err(DaemonError::NoClient(reasons));
                    }
                    self.report_ready(requested.max(trigger_of(loading.as_ref())));
                }
                () = passes(self.clients.next_retry(), &self.clock) => {
                    let due = self.clients.take_due(self.clock.now());
                    self.run_commands(due);
                }
                change = self.fleet.changed(&self.clock) =>
                    self.apply_fleet(&change, requested.max(trigger_of(loading.as_ref()))).await,
                () = passes(next_ping, &self.clock) => {
                    next_ping = Some(self.clock.now() + ping_interval);
                    self.engine.ping().await;
                    systemd::ping_watchdog(&self.broker.summary());
                }
                ended = &mut engine => return ended.map_err(|_panicked| DaemonError::Bug),
            }
        }
    }

    /// Applies the result of a client's secret command.
    async fn finish(&mut self, name: &str, result: LoadResult) {
        let (change, run_again) = self.clients.finish(name, result, self.clock.now());
        log_load_change(&change);
        if run_again {
            self.run_commands(vec![name.to_owned()]);
        }
        if change != LoadChange::Unchanged {
            self.fleet
                .check_clients(&self.config, &self.clients.sources(), &self.clock);
            self.configure().await;
            // The engine has applied it when the status is sent.
            self.engine.ping().await;
        }
    }

    /// Applies what loading the fleet on its thread has changed. `pending` is as for [`Self::report_ready`].
    async fn apply_fleet(&mut self, change: &FleetChange, pending: Option<ReloadTrigger>) {
        log_fleet_change(change);
        if !matches!(change, FleetChange::Unchanged | FleetChange::FailedAgain) {
            self.fleet
                .check_clients(&self.config, &self.clients.sources(), &self.clock);
            self.configure().await;
            // The engine has applied it when the status is sent.
            self.engine.ping().await;
        }
        self.report_ready(pending);
    }

    /// Returns why no client can be loaded, once all secret commands of the start have ended.
    fn never_loaded(&mut self) -> Option<Vec<(String, String)>> {
        let reasons = self.clients.all_failed().filter(|_| self.is_starting);
        self.is_starting &= self.clients.pending().next().is_some();
        reasons
    }

    async fn stop(&mut self, engine: JoinHandle<()>) -> Result<(), DaemonError> {
        systemd::stopping();
        // While its requests end, they may need another token.
        if let Some(gateway) = self.gateway.take() {
            gateway.finish().await;
        }
        self.engine.stop().await;
        engine.await.map_err(|_panicked| DaemonError::Bug)
    }

    /// Reports the status to systemd, and the end of a reload on SIGHUP once its files are read and its
    /// commands have ended. `pending` is the trigger of a load that is running or is to run.
    fn report_ready(&mut self, pending: Option<ReloadTrigger>) {
        let are_commands_done = self.commands.is_empty() && !self.fleet.is_running();
        let is_done = pending != Some(ReloadTrigger::Sighup) && are_commands_done;
        if self.is_reloading && is_done {
            self.is_reloading = false;
            systemd::ready(&self.broker.summary());
        } else {
            systemd::status(&self.broker.summary());
        }
    }

    /// Loads the config on its own thread, because a network file system can block.
    fn load(&self) -> LoadTask {
        let (options, env, previous) = (self.options.clone(), self.env, self.clients.sources());
        let shared = self.shared.clone();
        tokio::spawn(threads::run(move || {
            let own = options.config.as_deref();
            let own: FileStamps = own
                .map(|path| (path.to_owned(), Stamp::of(path)))
                .into_iter()
                .collect();
            let (files, result) = match load_config(options.config.as_deref(), env) {
                Err(error) => (own, Err(error.into())),
                Ok(config) => {
                    let (files, loaded) =
                        LoadedConfig::new(Arc::new(config), env, &previous, &shared);
                    (files, Ok(loaded))
                }
            };
            Load { files, result }
        }))
    }

    /// Applies a config that was loaded again, or rejects it and keeps the previous one. A client that
    /// can't be loaded keeps its previous credentials. What Domo rejected is retried on SIGHUP and if the
    /// config has changed.
    async fn apply(&mut self, trigger: ReloadTrigger, result: Result<LoadedConfig, DaemonError>) {
        let LoadedConfig {
            config,
            candidates,
            fleet,
            gateway,
        } = match result {
            Ok(loaded) => loaded,
            Err(error) => return self.reject(trigger, &error).await,
        };
        let has_changed = config.digest != self.config.digest;
        let retries = has_changed || trigger == ReloadTrigger::Sighup;
        let rerun = match trigger {
            ReloadTrigger::Sighup => Rerun::All,
            ReloadTrigger::File if has_changed => Rerun::Failed,
            ReloadTrigger::File => Rerun::Changed,
        };
        let now = self.clock.now();
        let (changes, to_run) = self.clients.apply(candidates, rerun, now);
        changes.iter().for_each(log_load_change);
        let fleet_change = self.fleet.apply(config.fleet.as_ref(), fleet, rerun, now);
        log_fleet_change(&fleet_change);
        let other_faults = self
            .fleet
            .check_clients(&config, &self.clients.sources(), &self.clock);
        self.config_error = None;
        let was_rejected = self.broker.set_config_error(None);
        let is_loaded = |change: &LoadChange| matches!(change, LoadChange::Loaded { .. });
        if retries || changes.iter().any(is_loaded) {
            for key in self.start_settings.changed_keys(&config.start_settings()) {
                warn!("{key} changed; restart the daemon to apply it");
            }
            self.set_log_level(&config);
            for notice in &config.notices {
                warn!("{notice}");
            }
            self.config_loaded = self.clock.now();
        } else if was_rejected {
            info!("config file is valid again and unchanged");
        }
        let is_unchanged = |change: &LoadChange| *change == LoadChange::Unchanged;
        let is_same_fleet = fleet_change == FleetChange::Unchanged && !other_faults;
        let is_applied = retries || !changes.iter().all(is_unchanged) || !is_same_fleet;
        self.config = config;
        self.run_commands(to_run);
        if let Some(running) = &mut self.gateway {
            running.apply(&self.config, gateway, &self.clients.sources());
        }
        if !is_applied {
            return;
        }
        self.configure().await;
        if retries {
            self.engine.retry().await;
        }
        // What is logged as loaded applies to callers that connect from now on.
        self.engine.ping().await;
        info!(clients = self.config.clients.len(), cause = %trigger, "config loaded");
    }

    async fn configure(&mut self) {
        if let Some(gateway) = &self.gateway {
            gateway.refresh(&self.config, &self.clients.sources());
        }
        let clients = self.clients.for_broker();
        let clients = self.fleet.share(clients, &self.broker, self.clock.now());
        self.engine.configure(clients, self.broker_config()).await;
    }

    /// Runs the secret commands of these clients.
    fn run_commands(&mut self, names: Vec<String>) {
        let sources = self.clients.sources();
        for name in names {
            let previous = sources.get(&name).cloned();
            let shared = self.shared.clone();
            self.commands
                .start(name, &self.config, self.env, previous, shared);
        }
    }

    async fn reject(&mut self, trigger: ReloadTrigger, error: &DaemonError) {
        self.config_error = Some(error.to_string());
        let is_new = self.broker.set_config_error(self.config_error.clone());
        if is_new || trigger == ReloadTrigger::Sighup {
            warn!(cause = %trigger, "config rejected, keeping the previous one: {error}");
        } else {
            debug!("config rejected again: {error}");
        }
        if trigger == ReloadTrigger::Sighup {
            self.engine.retry().await;
        }
    }

    fn broker_config(&self) -> BrokerConfig {
        let mut config = broker_config(
            &self.config,
            &self.clients,
            &self.fleet,
            self.started,
            self.config_loaded,
        );
        let status = &mut config.daemon.status;
        status.config_error.clone_from(&self.config_error);
        config
    }

    fn set_log_level(&self, config: &Config) {
        if config.log.level == self.config.log.level {
            return;
        }
        let rust_log = logging::rust_log(self.env);
        let level = config.log.level.as_deref();
        // Flag and variable were checked at the start, and the config when it was read.
        if let Ok(filter) = logging::filter(self.options.log.as_deref(), rust_log.as_deref(), level)
        {
            self.levels.set(filter);
        }
    }
}

/// Logs a failure of one client once; the same failure again only at debug level.
pub(super) fn log_load_change(change: &LoadChange) {
    match change {
        LoadChange::Loaded {
            name,
            had_failed: true,
        } => info!(client = name, "client loaded"),
        LoadChange::Unchanged | LoadChange::Loaded { .. } => {}
        LoadChange::FailedAgain { name } => {
            debug!(client = name, "client still could not be loaded");
        }
        LoadChange::Failed {
            name,
            reason,
            keeps_previous,
            retry_in,
        } => {
            let retry_in_s = retry_in.map(|wait| wait.as_secs());
            if *keeps_previous {
                warn!(
                    client = name,
                    error = reason,
                    retry_in_s,
                    "client could not be reloaded; its previous credentials stay in use"
                );
            } else {
                error!(
                    client = name,
                    error = reason,
                    retry_in_s,
                    "client could not be loaded; its callers fail"
                );
            }
        }
    }
}

/// Waits by the clock's own timer, which wakes the process once; tokio's wakes it repeatedly on the way to
/// a far moment.
async fn passes<C: Clock>(due: Option<BootTime>, clock: &C) {
    match due {
        Some(due) => clock.sleep_until(due).await,
        None => pending().await,
    }
}

/// Returns the trigger of a load that is running.
fn trigger_of(loading: Option<&(ReloadTrigger, LoadTask)>) -> Option<ReloadTrigger> {
    loading.map(|(trigger, _)| *trigger)
}

/// Takes a load that has ended. Dropping the future loses nothing.
async fn end_of(
    loading: &mut Option<(ReloadTrigger, LoadTask)>,
) -> (ReloadTrigger, io::Result<Load>) {
    let Some((trigger, task)) = loading else {
        return pending().await;
    };
    let (trigger, result) = (*trigger, task.await);
    *loading = None;
    (
        trigger,
        result.unwrap_or_else(|panicked| Err(panicked.into())),
    )
}

/// Returns the broker's part of a config that was read at `loaded`.
pub(super) fn broker_config(
    config: &Config,
    clients: &Clients<Source>,
    fleet: &Fleet,
    started: BootTime,
    loaded: BootTime,
) -> BrokerConfig {
    // Callers run in other directories.
    let absolute = |path: &PathBuf| std::path::absolute(path).unwrap_or_else(|_| path.clone());
    let config_path = config.path.as_ref().map(absolute);
    let tables = config
        .clients
        .iter()
        .filter_map(|(name, client)| Some((name.clone(), client.access.clone()?)));
    let status = BrokerStatus {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        protocol: VERSION,
        pid: std::process::id(),
        started,
        config_path: config_path.map(|path| path.display().to_string()),
        config_loaded: loaded,
        ..BrokerStatus::default()
    };
    BrokerConfig {
        daemon: DaemonInfo {
            status,
            load_errors: clients.errors(),
            fleet_error: fleet.error().map(str::to_owned),
            sharing_errors: fleet.client_faults().clone(),
        },
        default_client: config.default_client.clone(),
        access: AccessTables(tables.collect()),
        origins: clients.origins(),
        keep_over_restart: config.broker.keep_over_restart,
    }
}

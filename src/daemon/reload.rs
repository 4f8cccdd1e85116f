//! The config as it was loaded, and loading it again while the daemon runs.

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

use super::clients::{Clients, News, Rerun};
use super::load::{Loaded, Stamped, load_config};
use super::restart_settings::Fixed;
use super::secret_commands::{Commands, LoadResult};
use super::{DaemonError, Options};
use crate::broker::{About, Broker, EngineHandle};
use crate::config::{Config, Env};
use crate::connect::Shared;
use crate::platform::clock::{BootTime, Clock};
use crate::platform::file_watch::{Files, Stamp};
use crate::platform::logging::{self, Levels};
use crate::platform::signals::Signal;
use crate::platform::systemd;
use crate::platform::threads;
use crate::source::domo::DomoSource;

/// How long after a look for which there was no thread the files are looked at again.
const LOOK_AGAIN: Duration = Duration::from_secs(30);

/// How often systemd hears of the state where it doesn't watch.
const STATUS_EVERY: Duration = Duration::from_secs(60);

/// Why the files are read again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Cause {
    /// They have changed.
    Change,
    /// The operator says so.
    Signal,
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Change => "change",
            Self::Signal => "SIGHUP",
        })
    }
}

/// What reading the files came to.
struct Look {
    cause: Cause,
    files: Stamped,
    found: Result<Loaded, DaemonError>,
}

/// Takes changed files up.
pub(super) struct ReloadTask<C> {
    pub(super) options: Options,
    pub(super) env: Env<'static>,
    pub(super) levels: Levels,
    pub(super) clock: C,
    pub(super) started: BootTime,
    pub(super) broker: Broker<C>,
    pub(super) helm: EngineHandle<DomoSource>,
    pub(super) fixed: Fixed,
    pub(super) config: Arc<Config>,
    /// When it was read.
    pub(super) config_loaded: BootTime,
    pub(super) clients: Clients<DomoSource>,
    /// What all connections share.
    pub(super) shared: Shared,
    pub(super) commands: Commands,
    /// What is wrong with the config file as it is now, if the one in force is an older one.
    pub(super) config_error: Option<String>,
    /// Whether the service manager waits for the end of a reload.
    pub(super) is_reloading: bool,
    /// Whether a command of the start has yet to end.
    pub(super) is_starting: bool,
}

impl<C: Clock> ReloadTask<C> {
    /// Reads the files again when they change and on SIGHUP, until told to stop or `engine` ends.
    pub(super) async fn run(
        mut self,
        mut signals: mpsc::Receiver<Signal>,
        mut watched: Files,
        mut engine: JoinHandle<()>,
    ) -> Result<(), DaemonError> {
        let mut looking: Option<(Cause, JoinHandle<io::Result<Look>>)> = None;
        let mut wanted: Option<Cause> = None;
        // A look for which there was no thread, and when it is tried again.
        let mut missed: Option<(BootTime, Cause)> = None;
        let every = systemd::watchdog().map_or(STATUS_EVERY, |limit| limit / 2);
        let mut ping = systemd::is_there().then(|| self.clock.now());
        let pending = self.clients.pending().map(str::to_owned).collect();
        self.run_commands(pending);
        loop {
            if looking.is_none() {
                looking = wanted.take().map(|cause| (cause, self.look(cause)));
            }
            tokio::select! {
                signal = signals.recv() => match signal {
                    Some(Signal::Reload) => {
                        systemd::reloading();
                        self.is_reloading = true;
                        wanted = Some(Cause::Signal);
                    }
                    Some(Signal::Stop) | None => return self.stop(engine).await,
                },
                () = watched.changed() => wanted = wanted.max(Some(Cause::Change)),
                look = end_of(&mut looking) => {
                    let cause = looking.take().map(|(cause, _)| cause);
                    match look {
                        Ok(look) => {
                            watched.watch(look.files);
                            self.apply(look.cause, look.found).await;
                        }
                        Err(error) => {
                            warn!(retry_in_s = LOOK_AGAIN.as_secs(), "config not read: {error}");
                            missed = cause.map(|cause| (self.clock.now() + LOOK_AGAIN, cause));
                        }
                    }
                    self.report_ready(wanted.max(looking.as_ref().map(|(cause, _)| *cause)));
                }
                () = passes(missed.map(|(again, _)| again), &self.clock) => {
                    wanted = wanted.max(missed.take().map(|(_, cause)| cause));
                }
                (name, result) = self.commands.next() => {
                    self.finish(&name, result).await;
                    if let Some(reasons) = self.never_loaded() {
                        self.stop(engine).await?;
                        return Err(DaemonError::NoClient(reasons));
                    }
                    self.report_ready(wanted.max(looking.as_ref().map(|(cause, _)| *cause)));
                }
                () = passes(self.clients.next_retry(), &self.clock) => {
                    let due = self.clients.take_due(self.clock.now());
                    self.run_commands(due);
                }
                () = passes(ping, &self.clock) => {
                    ping = Some(self.clock.now() + every);
                    self.helm.ping().await;
                    systemd::alive(&self.broker.summary());
                }
                ended = &mut engine => return ended.map_err(|_panicked| DaemonError::Bug),
            }
        }
    }

    /// A client's command has ended.
    async fn finish(&mut self, name: &str, result: LoadResult) {
        let (news, run_again) = self.clients.finish(name, result, self.clock.now());
        log_news(&news);
        if run_again {
            self.run_commands(vec![name.to_owned()]);
        }
        if news != News::Unchanged {
            self.configure().await;
            // The status that follows is the new one.
            self.helm.ping().await;
        }
    }

    /// Why no client can be loaded, once all commands of the start have ended.
    fn never_loaded(&mut self) -> Option<Vec<(String, String)>> {
        let reasons = self.clients.hopeless().filter(|_| self.is_starting);
        self.is_starting &= self.clients.pending().next().is_some();
        reasons
    }

    async fn stop(&self, engine: JoinHandle<()>) -> Result<(), DaemonError> {
        systemd::stopping();
        self.helm.stop().await;
        engine.await.map_err(|_panicked| DaemonError::Bug)
    }

    /// A reload that was requested is done once its files are read and its commands have ended. At
    /// any other time this is only the status. `open` is why files are being read or are to be.
    fn report_ready(&mut self, open: Option<Cause>) {
        let is_done = open != Some(Cause::Signal) && self.commands.is_empty();
        if self.is_reloading && is_done {
            self.is_reloading = false;
            systemd::ready(&self.broker.summary());
        } else {
            systemd::status(&self.broker.summary());
        }
    }

    /// Reads all files off the loop: a network file system may take its time.
    fn look(&self, cause: Cause) -> JoinHandle<io::Result<Look>> {
        let (options, env, before) = (self.options.clone(), self.env, self.clients.sources());
        let shared = self.shared.clone();
        tokio::spawn(threads::run(move || {
            let own = options.config.as_deref();
            let own: Stamped = own
                .map(|path| (path.to_owned(), Stamp::of(path)))
                .into_iter()
                .collect();
            let (files, found) = match load_config(&options, env) {
                Err(error) => (own, Err(error)),
                Ok(config) => {
                    let (files, loaded) = Loaded::new(config, env, &before, &shared);
                    (files, Ok(loaded))
                }
            };
            Look {
                cause,
                files,
                found,
            }
        }))
    }

    /// If the config is wrong, all stays as it was; a client that can't be loaded stays as it was.
    /// What Domo rejected is tried again if the operator says so or the config is another one.
    async fn apply(&mut self, cause: Cause, found: Result<Loaded, DaemonError>) {
        let Loaded { config, candidates } = match found {
            Ok(found) => found,
            Err(error) => return self.refuse(cause, &error).await,
        };
        let is_other = config.digest != self.config.digest;
        let retries = is_other || cause == Cause::Signal;
        let rerun = match cause {
            Cause::Signal => Rerun::All,
            Cause::Change if is_other => Rerun::Failed,
            Cause::Change => Rerun::Changed,
        };
        let (news, to_run) = self.clients.apply(candidates, rerun, self.clock.now());
        news.iter().for_each(log_news);
        self.config_error = None;
        let was_refused = self.broker.set_config_error(None);
        let is_new = |news: &News| matches!(news, News::Loaded { .. });
        if retries || news.iter().any(is_new) {
            self.fixed.log_changes(&config);
            self.set_level(&config);
            for notice in &config.notices {
                warn!("{notice}");
            }
            self.config_loaded = self.clock.now();
        } else if was_refused {
            info!("the config is as it was");
        }
        let is_applied = retries || news.iter().any(|news| *news != News::Unchanged);
        self.config = config;
        self.run_commands(to_run);
        if !is_applied {
            return;
        }
        self.configure().await;
        if retries {
            self.helm.retry().await;
        }
        // What is said to be loaded holds for callers that connect from now on.
        self.helm.ping().await;
        info!(clients = self.config.clients.len(), %cause, "config loaded");
    }

    async fn configure(&mut self) {
        let clients = self.clients.for_broker();
        self.helm.configure(clients, self.about()).await;
    }

    /// Runs the commands of these clients.
    fn run_commands(&mut self, names: Vec<String>) {
        let sources = self.clients.sources();
        for name in names {
            let before = sources.get(&name).cloned();
            let shared = self.shared.clone();
            self.commands
                .start(name, &self.config, self.env, before, shared);
        }
    }

    async fn refuse(&mut self, cause: Cause, error: &DaemonError) {
        self.config_error = Some(error.to_string());
        let news = self.broker.set_config_error(self.config_error.clone());
        if news || cause == Cause::Signal {
            warn!(%cause, "the config is not taken up, the last good one stays: {error}");
        } else {
            debug!("the config is still not taken up: {error}");
        }
        if cause == Cause::Signal {
            self.helm.retry().await;
        }
    }

    fn about(&self) -> About {
        let mut about = about(
            &self.config,
            &self.clients,
            self.started,
            self.config_loaded,
        );
        about.status.config_error.clone_from(&self.config_error);
        about
    }

    fn set_level(&self, config: &Config) {
        if config.log.level == self.config.log.level {
            return;
        }
        let rust_log = logging::rust_log(self.env);
        let level = config.log.level.as_deref();
        // Flag and variable were judged at the start, and the config just now.
        if let Ok(filter) = logging::filter(self.options.log.as_deref(), rust_log.as_deref(), level)
        {
            self.levels.set(filter);
        }
    }
}

/// A failure of one client is logged once; the same again only at debug level.
pub(super) fn log_news(news: &News) {
    match news {
        News::Loaded {
            name,
            had_failed: true,
        } => info!(client = name, "client loaded"),
        News::Unchanged | News::Loaded { .. } => {}
        News::FailedAgain { name } => debug!(client = name, "client still not loaded"),
        News::Failed {
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
                    "client not loaded again, its previous credentials stay in use"
                );
            } else {
                error!(
                    client = name,
                    error = reason,
                    retry_in_s,
                    "client not loaded, its callers fail"
                );
            }
        }
    }
}

/// By the clock's own timer, which wakes the process once: tokio's nears a far moment in steps.
async fn passes<C: Clock>(due: Option<BootTime>, clock: &C) {
    match due {
        Some(due) => clock.sleep_until(due).await,
        None => pending().await,
    }
}

async fn end_of(looking: &mut Option<(Cause, JoinHandle<io::Result<Look>>)>) -> io::Result<Look> {
    match looking {
        Some((_, looking)) => looking.await?,
        None => pending().await,
    }
}

/// What status says of a daemon whose config was read at `loaded`.
pub(super) fn about(
    config: &Config,
    clients: &Clients<DomoSource>,
    started: BootTime,
    loaded: BootTime,
) -> About {
    // Whoever asks is in another directory.
    let whole = |path: &PathBuf| std::path::absolute(path).unwrap_or_else(|_| path.clone());
    let config_path = config.path.as_ref().map(whole);
    About {
        status: BrokerStatus {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            protocol: VERSION,
            pid: std::process::id(),
            started,
            config_path: config_path.map(|path| path.display().to_string()),
            config_loaded: loaded,
            config_error: None,
        },
        default_client: config.default_client.clone(),
        origins: clients.origins(),
        load_errors: clients.errors(),
        keeps: config.broker.keep_over_restart,
        access: config
            .clients
            .iter()
            .filter_map(|(name, client)| Some((name.clone(), client.access.clone()?)))
            .collect(),
    }
}

//! The config as it was loaded, and loading it again while the daemon runs.

use std::fmt;
use std::future::pending;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use domo_token_client::wire::{BrokerStatus, VERSION};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tracing::{debug, error, info, warn};

use super::clients::{Clients, News};
use super::commands::Commands;
use super::fixed::Fixed;
use super::load::{Loaded, Stamped, load_config};
use super::{DaemonError, Options};
use crate::broker::{About, Broker, Helm};
use crate::clock::{BootTime, Clock};
use crate::config::{Config, Env};
use crate::logging::{self, Levels};
use crate::signals::Signal;
use crate::source::domo::DomoSource;
use crate::systemd;
use crate::threads;
use crate::watch::{Files, Stamp};

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
pub(super) struct Steering<C> {
    pub(super) options: Options,
    pub(super) env: Env<'static>,
    pub(super) levels: Levels,
    pub(super) clock: C,
    pub(super) started: BootTime,
    pub(super) broker: Broker<C>,
    pub(super) helm: Helm<DomoSource>,
    pub(super) fixed: Fixed,
    pub(super) config: Arc<Config>,
    /// When it was read.
    pub(super) config_loaded: BootTime,
    pub(super) clients: Clients<DomoSource>,
    pub(super) commands: Commands,
    /// What is wrong with the config file as it is now, if the one in force is an older one.
    pub(super) config_error: Option<String>,
}

impl<C: Clock> Steering<C> {
    /// Reads the files again when they change and on SIGHUP, until told to stop or `engine` ends.
    pub(super) async fn run(
        mut self,
        mut signals: mpsc::Receiver<Signal>,
        mut watched: Files,
        mut engine: JoinHandle<()>,
    ) -> Result<(), DaemonError> {
        let mut looking: Option<JoinHandle<io::Result<Look>>> = None;
        let mut wanted: Option<Cause> = None;
        let mut is_starting = true;
        let every = systemd::watchdog().map_or(STATUS_EVERY, |limit| limit / 2);
        let mut beat = systemd::is_there().then(|| self.clock.now());
        self.run_commands();
        loop {
            if looking.is_none() {
                looking = wanted.take().map(|cause| self.look(cause));
            }
            is_starting &= self.clients.pending().next().is_some();
            tokio::select! {
                signal = signals.recv() => match signal {
                    Some(Signal::Reload) => {
                        systemd::reloading();
                        wanted = Some(Cause::Signal);
                    }
                    Some(Signal::Stop) | None => return self.stop(engine).await,
                },
                () = watched.changed() => wanted = wanted.max(Some(Cause::Change)),
                look = end_of(&mut looking) => {
                    looking = None;
                    match look {
                        Ok(look) => {
                            watched.watch(look.files);
                            self.take_up(look.cause, look.found).await;
                        }
                        Err(error) => error!("config not read: {error}; send SIGHUP to try again"),
                    }
                    self.report_ready(wanted);
                }
                (name, result) = self.commands.next() => {
                    let news = self.clients.finish(&name, result, self.clock.now());
                    log_news(&news);
                    if news != News::Unchanged {
                        self.configure().await;
                    }
                    if is_starting && let Some(reasons) = self.clients.hopeless() {
                        self.stop(engine).await?;
                        return Err(DaemonError::NoClient(reasons));
                    }
                    self.report_ready(wanted);
                }
                () = passes(self.clients.next_retry(), &self.clock) => {
                    let due = self.clients.take_due(self.clock.now());
                    self.run_commands_of(due);
                }
                () = passes(beat, &self.clock) => {
                    beat = Some(self.clock.now() + every);
                    self.helm.beat().await;
                    systemd::alive(&self.broker.summary());
                }
                ended = &mut engine => return ended.map_err(|_panicked| DaemonError::Bug),
            }
        }
    }

    async fn stop(&self, engine: JoinHandle<()>) -> Result<(), DaemonError> {
        systemd::stopping();
        self.helm.stop().await;
        engine.await.map_err(|_panicked| DaemonError::Bug)
    }

    /// After a change nobody asked for this is only the status. A reload that was asked for is done
    /// once its files are read and its commands have ended.
    fn report_ready(&self, wanted: Option<Cause>) {
        if wanted != Some(Cause::Signal) && self.commands.is_empty() {
            systemd::ready(&self.broker.summary());
        }
    }

    /// Reads all files off the loop: a network file system may take its time.
    fn look(&self, cause: Cause) -> JoinHandle<io::Result<Look>> {
        let (options, env, before) = (self.options.clone(), self.env, self.clients.sources());
        tokio::spawn(threads::run(move || {
            let own = options.config.as_deref();
            let own: Stamped = own
                .map(|path| (path.to_owned(), Stamp::of(path)))
                .into_iter()
                .collect();
            let (files, found) = match load_config(&options, env) {
                Err(error) => (own, Err(error)),
                Ok(config) => {
                    let (files, loaded) = Loaded::new(config, env, &before);
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
    async fn take_up(&mut self, cause: Cause, found: Result<Loaded, DaemonError>) {
        let Loaded { config, candidates } = match found {
            Ok(found) => found,
            Err(error) => return self.refuse(cause, &error).await,
        };
        let retries = config.digest != self.config.digest || cause == Cause::Signal;
        let news = self.clients.apply(candidates, self.clock.now());
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
        self.run_commands();
        if !is_applied {
            return;
        }
        self.configure().await;
        if retries {
            self.helm.retry().await;
        }
        // What is said to be loaded holds for callers that connect from now on.
        self.helm.beat().await;
        info!(clients = self.config.clients.len(), %cause, "config loaded");
    }

    async fn configure(&mut self) {
        let clients = self.clients.for_broker();
        self.helm.configure(clients, self.about()).await;
    }

    /// Runs the commands of the clients that wait for theirs; those that are running read what no
    /// longer counts.
    fn run_commands(&mut self) {
        self.commands.cancel();
        let names: Vec<String> = self.clients.pending().map(str::to_owned).collect();
        self.run_commands_of(names);
    }

    fn run_commands_of(&mut self, names: Vec<String>) {
        let sources = self.clients.sources();
        for name in names {
            let before = sources.get(&name).cloned();
            let like = sources.values().next().cloned();
            self.commands
                .start(name, &self.config, self.env, before, like);
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
        if config.log_level == self.config.log_level {
            return;
        }
        let rust_log = logging::rust_log(self.env);
        let level = config.log_level.as_deref();
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

async fn end_of(looking: &mut Option<JoinHandle<io::Result<Look>>>) -> io::Result<Look> {
    match looking {
        Some(looking) => looking.await?,
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
        keeps: config.keep_over_restart,
        access: config
            .clients
            .iter()
            .filter_map(|(name, client)| Some((name.clone(), client.access.clone()?)))
            .collect(),
    }
}

//! The config as it was loaded, and loading it again while the daemon runs.

use std::collections::BTreeMap;
use std::fmt;
use std::future::pending;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use domo_token_client::wire::{BrokerStatus, VERSION};
use tokio::sync::mpsc;
use tokio::task::{JoinError, JoinHandle, spawn_blocking};
use tracing::{debug, error, info, warn};

use super::{DaemonError, Options, load_config, register, source_of};
use crate::broker::{About, Broker, Clients, Helm, Origin};
use crate::clock::{BootTime, Clock};
use crate::config::{ClientConfig, Config, Env, Limits};
use crate::logging::{self, Levels};
use crate::policy::Principal;
use crate::roster::Wanted;
use crate::signals::Signal;
use crate::source::domo::DomoSource;
use crate::systemd;
use crate::watch::{Files, Stamp};

/// How often systemd hears of the state where it doesn't watch.
const STATUS_EVERY: Duration = Duration::from_secs(60);

/// Files, each with what it was just before it was read.
pub(super) type Stamped = Vec<(PathBuf, Stamp)>;

/// What a config comes to: each client with the source that asks Domo for it, by name.
#[derive(Clone, Default)]
pub(super) struct Loaded(BTreeMap<String, Client>);

#[derive(Clone)]
struct Client {
    wanted: Wanted,
    source: Arc<DomoSource>,
}

impl Loaded {
    /// Reads the credentials that `config` names, and says on which files all that stands. A
    /// client that is as it was in `before` keeps its source.
    pub(super) fn new(
        config: &Config,
        env: Env,
        before: &Self,
    ) -> (Stamped, Result<Self, DaemonError>) {
        let own = config.path.clone().map(|path| (path, config.stamp));
        let others = config.files().into_iter().map(|path| {
            let stamp = Stamp::of(&path);
            (path, stamp)
        });
        let files = own.into_iter().chain(others).collect();
        let mut clients = BTreeMap::new();
        for (name, client) in &config.clients {
            let like = clients
                .values()
                .next()
                .map(|client: &Client| &*client.source);
            match Client::new(name, client, env, before.0.get(name), like) {
                Ok(client) => clients.insert(name.clone(), client),
                Err(error) => return (files, Err(error)),
            };
        }
        (files, Ok(Self(clients)))
    }

    /// The clients as the broker takes them.
    pub(super) fn clients(&self) -> Clients<DomoSource> {
        let clients = self.0.values();
        clients
            .map(|client| (client.wanted.clone(), Arc::clone(&client.source)))
            .collect()
    }

    /// Who asks where, by client.
    pub(super) fn origins(&self) -> BTreeMap<String, Origin> {
        let origin = |client: &Client| Origin {
            client_id: client.source.registration().client_id().to_owned(),
            token_url: client.source.registration().token_url().to_owned(),
        };
        let clients = self.0.iter();
        clients
            .map(|(name, client)| (name.clone(), origin(client)))
            .collect()
    }

    /// Whether any client has other credentials or another endpoint than before.
    fn renews_any(&self) -> bool {
        self.0.values().any(|client| client.wanted.renewed)
    }
}

impl Client {
    fn new(
        name: &str,
        config: &ClientConfig,
        env: Env,
        before: Option<&Self>,
        like: Option<&DomoSource>,
    ) -> Result<Self, DaemonError> {
        let (shown_id, registration) = register(name, config, env)?;
        let same = before.filter(|before| *before.source.registration() == registration);
        let source = match same {
            Some(before) => Arc::clone(&before.source),
            None => Arc::new(source_of(name, registration, like)?),
        };
        let wanted = Wanted {
            name: name.to_owned(),
            shown_id,
            scopes: config.tokens.iter().cloned().collect(),
            renewed: same.is_none(),
        };
        Ok(Self { wanted, source })
    }
}

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
    found: Result<(Config, Loaded), DaemonError>,
}

/// What a daemon can't change while it runs.
pub(super) struct Fixed {
    socket: Option<PathBuf>,
    socket_mode: u32,
    socket_group: Option<Principal>,
    pipe_group: Option<String>,
    shared_directory: bool,
    limits: Limits,
    metrics_listen: Option<SocketAddr>,
    audit_file: Option<PathBuf>,
}

impl Fixed {
    pub(super) fn of(config: &Config) -> Self {
        Self {
            socket: config.socket.clone(),
            socket_mode: config.socket_mode,
            socket_group: config.socket_group.clone(),
            pipe_group: config.pipe_group.clone(),
            shared_directory: config.shared_directory,
            limits: config.limits,
            metrics_listen: config.metrics_listen,
            audit_file: config.audit_file.clone(),
        }
    }
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
    pub(super) config: Config,
    pub(super) loaded: Loaded,
}

impl<C: Clock> Steering<C> {
    /// Reads the files again when they change and on SIGHUP, until told to stop or `engine` ends.
    pub(super) async fn run(
        mut self,
        mut signals: mpsc::Receiver<Signal>,
        mut watched: Files,
        mut engine: JoinHandle<()>,
    ) -> Result<(), JoinError> {
        let mut looking: Option<JoinHandle<Look>> = None;
        let mut wanted: Option<Cause> = None;
        let every = systemd::watchdog().map_or(STATUS_EVERY, |limit| limit / 2);
        let mut beat = systemd::is_there().then(|| self.clock.now());
        loop {
            if looking.is_none() {
                looking = wanted.take().map(|cause| self.look(cause));
            }
            tokio::select! {
                signal = signals.recv() => match signal {
                    Some(Signal::Reload) => {
                        systemd::reloading();
                        wanted = Some(Cause::Signal);
                    }
                    Some(Signal::Stop) | None => {
                        systemd::stopping();
                        self.helm.stop().await;
                        return engine.await;
                    }
                },
                () = watched.changed() => wanted = wanted.max(Some(Cause::Change)),
                look = end_of(&mut looking) => {
                    looking = None;
                    match look {
                        Ok(look) => {
                            watched.watch(look.files);
                            self.take_up(look.cause, look.found).await;
                        }
                        Err(_panicked) => error!("reading the config ended by a bug"),
                    }
                    // After a change nobody asked for this is only the status; a reload that was
                    // asked for meanwhile isn't done by this look.
                    if wanted != Some(Cause::Signal) {
                        systemd::ready(&self.broker.summary());
                    }
                }
                () = passes(beat, &self.clock) => {
                    beat = Some(self.clock.now() + every);
                    self.helm.beat().await;
                    systemd::alive(&self.broker.summary());
                }
                ended = &mut engine => return ended,
            }
        }
    }

    /// Reads all files off the loop: a network file system or a command may take its time.
    fn look(&self, cause: Cause) -> JoinHandle<Look> {
        let (options, env, before) = (self.options.clone(), self.env, self.loaded.clone());
        spawn_blocking(move || {
            let own = options.config.as_deref();
            let own: Stamped = own
                .map(|path| (path.to_owned(), Stamp::of(path)))
                .into_iter()
                .collect();
            let (files, found) = match load_config(&options, env) {
                Err(error) => (own, Err(error)),
                Ok(config) => {
                    let (files, loaded) = Loaded::new(&config, env, &before);
                    (files, loaded.map(|loaded| (config, loaded)))
                }
            };
            Look {
                cause,
                files,
                found,
            }
        })
    }

    /// If any of it is wrong, all stays as it was. What Domo refused is tried again if the operator
    /// says so or anything is new.
    async fn take_up(&mut self, cause: Cause, found: Result<(Config, Loaded), DaemonError>) {
        let (config, loaded) = match found {
            Ok(found) => found,
            Err(error) => return self.refuse(cause, &error).await,
        };
        let same = config.digest == self.config.digest && !loaded.renews_any();
        if same && cause == Cause::Change {
            if self.broker.set_config_error(None) {
                info!("the config is as it was");
            }
            self.loaded = loaded;
            return;
        }
        self.say_what_needs_a_restart(&config);
        self.set_level(&config);
        for notice in &config.notices {
            warn!("{notice}");
        }
        let about = about(&config, &loaded, self.started, self.clock.now());
        self.helm.configure(loaded.clients(), about).await;
        // What is said to be loaded holds for whoever asks from now on.
        self.helm.beat().await;
        info!(clients = config.clients.len(), %cause, "config loaded");
        self.config = config;
        self.loaded = loaded;
    }

    async fn refuse(&self, cause: Cause, error: &DaemonError) {
        let news = self.broker.set_config_error(Some(error.to_string()));
        if news || cause == Cause::Signal {
            warn!(%cause, "the config is not taken up, the last good one stays: {error}");
        } else {
            debug!("the config is still not taken up: {error}");
        }
        if cause == Cause::Signal {
            self.helm.retry().await;
        }
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

    fn say_what_needs_a_restart(&self, config: &Config) {
        let (old, new) = (&self.fixed, Fixed::of(config));
        for (key, changed) in [
            ("broker.socket", old.socket != new.socket),
            ("broker.socket_mode", old.socket_mode != new.socket_mode),
            ("broker.socket_group", old.socket_group != new.socket_group),
            ("broker.pipe_group", old.pipe_group != new.pipe_group),
            (
                "broker.shared_directory",
                old.shared_directory != new.shared_directory,
            ),
            ("limits", old.limits != new.limits),
            ("metrics.listen", old.metrics_listen != new.metrics_listen),
            ("audit.file", old.audit_file != new.audit_file),
        ] {
            if changed {
                warn!("{key} is not what the daemon runs with; restart it for that");
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

async fn end_of(looking: &mut Option<JoinHandle<Look>>) -> Result<Look, JoinError> {
    match looking {
        Some(looking) => looking.await,
        None => pending().await,
    }
}

/// What status says of a daemon whose config was loaded `now`.
pub(super) fn about(config: &Config, loaded: &Loaded, started: BootTime, now: BootTime) -> About {
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
            config_loaded: now,
            config_error: None,
        },
        default_client: config.default_client.clone(),
        origins: loaded.origins(),
        keeps: config.keep_over_restart,
        access: config
            .clients
            .iter()
            .filter_map(|(name, client)| Some((name.clone(), client.access.clone()?)))
            .collect(),
    }
}

//! Wiring: config → credentials → sources → broker → door, and an orderly end.

mod services;
mod clients;
mod restart_settings;
pub(crate) mod runtime_directory;
mod place;
mod reload;

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::broker::{Broker, BrokerConfig, Engine};
use crate::config::{Config, Env, Limits};
use crate::connect::Shared;
use crate::fdstore::StoredTokens;
use crate::load::{ConfigLoadError, LoadedConfig, SecretCommands};
use crate::platform::clock::{BootTime, Clock, SystemClock};
use crate::platform::logging::Levels;
use crate::platform::signals::Signal;
use crate::platform::systemd::InheritedFds;
use crate::platform::{descriptors, systemd};
use crate::server::{self, BindError};
use crate::source::Source;
use domo_token_core::masking::masked;

use clients::{Clients, News, Rerun};
pub use place::check_socket;
use reload::{ReloadTask, broker_config, log_news};
use restart_settings::Fixed;
use services::Services;

/// What the command line says.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// The log level, which counts more than the config's.
    pub log: Option<String>,
    /// The config file.
    pub config: Option<PathBuf>,
    /// The socket's path.
    pub socket: Option<PathBuf>,
}

/// What the process was given.
pub struct Environment {
    /// The environment's variables.
    pub env: Env<'static>,
    /// What changes the log's levels.
    pub levels: Levels,
    /// What the operator wants.
    pub signals: mpsc::Receiver<Signal>,
    /// What the service manager hands over.
    pub passed: InheritedFds,
}

/// Why the daemon doesn't start, or ends untold.
#[derive(Debug, thiserror::Error)]
pub enum DaemonError {
    #[error(transparent)]
    Config(#[from] ConfigLoadError),
    /// No client can be loaded, by name and reason.
    #[error("{}", reasons(.0))]
    NoClient(Vec<(String, String)>),
    /// No client can be loaded for lack of descriptors, by name and reason.
    #[error("{}", reasons(.0))]
    Exhausted(Vec<(String, String)>),
    /// No place for the socket, with what to do.
    #[error(
        "no place for the socket: neither $RUNTIME_DIRECTORY nor an absolute $XDG_RUNTIME_DIR is set; {0}"
    )]
    NoSocket(String),
    /// What flag or variable names is no path of a socket.
    #[error("{}", masked(.0))]
    SocketPath(String),
    /// The callers' group can't be that.
    #[error("broker.{0}")]
    Group(&'static str),
    /// The port for metrics can't be had.
    #[error("metrics.listen {address}: {source}; free it, or choose another port")]
    Metrics {
        /// The address.
        address: SocketAddr,
        /// What the system said.
        source: io::Error,
    },
    /// The audit file can't be written.
    #[error("audit.file {path}: {source}{}", about_audit(.source), path = .path.display())]
    Audit {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The socket can't be had.
    #[error(transparent)]
    Bind(#[from] BindError),
    /// The socket is gone, and cannot be bound again.
    #[error("socket removed or replaced, and it cannot be bound again: {0}")]
    SocketLost(BindError),
    /// A part of the daemon panicked; its message has been printed.
    #[error("the daemon ended by a bug of its own: please report it, with the lines above")]
    Bug,
}

fn reasons(clients: &[(String, String)]) -> String {
    let reason = |(name, reason): &(String, String)| format!("client \"{name}\": {reason}");
    let reasons: Vec<String> = clients.iter().map(reason).collect();
    reasons.join("; ")
}

fn about_audit(error: &io::Error) -> &'static str {
    if is_unread(error) {
        "; start its reader first"
    } else if descriptors::is_exhausted(error) {
        descriptors::RAISE_LIMIT
    } else if error.raw_os_error().is_some() {
        "; it must be one that the daemon may write"
    } else {
        // What is wrong with the file comes with what to do.
        ""
    }
}

/// Whether the error is that of a pipe whose reader may come yet.
fn is_unread(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::NotConnected
}

/// The exit code for what a person has to mend (`EX_CONFIG` of sysexits): systemd doesn't try again.
pub const EX_CONFIG: u8 = 78;

impl DaemonError {
    /// The exit code, of sysexits: 70 for a bug, 75 if another daemon is there already, the socket is
    /// lost, nobody reads the pipe that is to take the audit or no descriptor is left, else 78.
    #[must_use]
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Bug => 70,
            Self::Bind(
                BindError::InUse(_)
                | BindError::Path {
                    is_exhausted: true, ..
                },
            )
            | Self::SocketLost(_)
            | Self::Exhausted(_) => 75,
            Self::Audit { source, .. } if is_unread(source) => 75,
            Self::Metrics { source, .. } | Self::Audit { source, .. }
                if descriptors::is_exhausted(source) =>
            {
                75
            }
            Self::Config(error) if error.is_exhausted() => 75,
            Self::Bind(BindError::Path { .. })
            | Self::Config(_)
            | Self::NoClient(_)
            | Self::Group(_)
            | Self::Metrics { .. }
            | Self::Audit { .. }
            | Self::NoSocket(_)
            | Self::SocketPath(_) => EX_CONFIG,
        }
    }
}

/// Runs the daemon until a [`Signal::Stop`]. `ready` is called with the socket's path as soon as
/// callers can connect, which is before Domo is asked.
///
/// # Errors
///
/// [`DaemonError`] if it doesn't come that far; after that it goes on whatever happens, but
/// for [`DaemonError::Bug`].
///
/// # Panics
///
/// Outside a tokio runtime with its I/O and time enabled.
pub async fn run(
    config: Config,
    options: &Options,
    surroundings: Environment,
    ready: impl FnOnce(&Path),
) -> Result<(), DaemonError> {
    let (env, passed) = (surroundings.env, surroundings.passed);
    let (mut socket, callers) = place::take(passed.listeners, options, &config, env)?;
    let limits = limits_here(&config);
    let (shared, clock) = (Shared::default(), SystemClock::new());
    let started = clock.now();
    let (files, loaded) = LoadedConfig::new(Arc::new(config), env, &BTreeMap::new(), &shared);
    let (config, mut clients, news) = first_clients(loaded, started)?;
    let broker_config = broker_config(&config, &clients, started, started);
    let broker = broker_with(passed.kept, broker_config, &clock);
    let mut beside = Services::new(&config)?;
    let taken_down = beside.audit(&broker);
    let (engine, helm) = Engine::new(&broker, clients.for_broker());
    let listener = socket.listen(&callers)?;
    say_at_start(&config, &news);
    info!(socket = %socket.shown(), clients = config.clients.len(), "started");
    ready(socket.path());
    systemd::ready(&broker.summary());

    let stop = CancellationToken::new();
    let (watched, hints) = place::watch(files, &socket);
    let engine = tokio::spawn(engine.run());
    let beside = beside.run(broker.clone(), clock.clone(), helm.clone(), stop.clone());
    let steering = ReloadTask {
        options: Options {
            // A file that vanishes for a moment must not make another one count.
            config: config.path.clone(),
            ..options.clone()
        },
        env,
        levels: surroundings.levels,
        broker: broker.clone(),
        clock: clock.clone(),
        started,
        helm,
        fixed: Fixed::of(&config),
        config,
        config_loaded: started,
        clients,
        shared,
        commands: SecretCommands::new(),
        config_error: None,
        is_reloading: false,
        is_starting: true,
    };
    let (sender, signals) = mpsc::channel(8);
    let kept = socket.keep(&callers, &broker, &clock, hints, stop.clone());
    let keeping = place::end_if_lost(kept, surroundings.signals, sender);
    let steer = async {
        let ended = steering.run(signals, watched, engine).await;
        // Sessions are told only when those who wait have their refusals.
        stop.cancel();
        ended
    };
    let serving = server::serve(listener, broker.clone(), limits, stop.clone());
    let ((), (), kept, ended) = tokio::join!(serving, beside, keeping, steer);
    taken_down.finish().await;
    let ended = ended.and(kept);
    if ended.is_ok() {
        info!("stopped");
    }
    ended
}

/// The clients at a start, unless none can ever be loaded.
fn first_clients(loaded: LoadedConfig, now: BootTime) -> Result<FirstClients, DaemonError> {
    let mut clients = Clients::new();
    let (news, _) = clients.apply(loaded.candidates, Rerun::All, now);
    if let Some(reasons) = clients.exhausted() {
        return Err(DaemonError::Exhausted(reasons));
    }
    match clients.hopeless() {
        Some(reasons) => Err(DaemonError::NoClient(reasons)),
        None => Ok((loaded.config, clients, news)),
    }
}

type FirstClients = (Arc<Config>, Clients<Source>, Vec<News>);

/// Returns a broker with the tokens that the last process had stored, if the config permits that.
fn broker_with<C: Clock>(stored: Vec<File>, config: BrokerConfig, clock: &C) -> Broker<C> {
    let stored = StoredTokens::read(stored);
    let stored = config.keep_over_restart.then(|| stored.tokens(clock.now()));
    let broker = Broker::new(clock.clone(), fastrand::u64(..), config);
    broker.take_over(stored.unwrap_or_default());
    broker
}

/// The config's limits, as far as the system gives descriptors for them.
fn limits_here(config: &Config) -> Limits {
    let limits = server::clamp_to_nofile(config.limits, descriptors::raise());
    // A user's part that was above the whole comes down with no lack of anything.
    if limits.connections < config.limits.connections {
        warn!(
            connections = limits.connections,
            connections_per_user = limits.connections_per_user,
            "the system gives few descriptors (ulimit -n), so the limits on callers are lower than the config's"
        );
    }
    limits
}

fn say_at_start(config: &Config, news: &[News]) {
    news.iter().for_each(log_news);
    for notice in &config.notices {
        warn!("{notice}");
    }
    #[cfg(unix)]
    if rustix::process::geteuid().is_root() {
        info!("running as root, which it need not: a user of its own will do");
    }
}

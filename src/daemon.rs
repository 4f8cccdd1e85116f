//! Wiring: config, credentials and sources, broker, server; and an orderly shutdown.

mod error;
mod services;
mod clients;
mod fleet;
mod gateway;
pub(crate) mod runtime_directory;
mod socket_path;
mod reload;

use std::collections::BTreeMap;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::sync::Arc;

use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::broker::{Broker, BrokerConfig, Engine};
use crate::config::{Config, Env, Limits};
use crate::connect::Shared;
use crate::fdstore::StoredTokens;
use crate::gateway::descriptors_left;
use crate::load::{FileStamps, LoadedConfig, SecretCommands};
use crate::platform::clock::{Clock, SystemClock};
use crate::platform::file_watch::Files;
use crate::platform::logging::Levels;
use crate::platform::signals::Signal;
use crate::platform::systemd::InheritedFds;
use crate::platform::{descriptors, systemd};
use crate::server::{self, BindError, Socket};
use crate::source::Source;

use clients::{Clients, LoadChange, Rerun};
pub use error::{DaemonError, EX_CONFIG};
use fleet::{Fleet, log_fleet_change};
use gateway::RunningGateway;
use reload::{ReloadTask, broker_config, log_load_change};
use services::Services;
pub use socket_path::check_socket;

/// The options of the command line.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// The log level, which takes precedence over the config's.
    pub log: Option<String>,
    pub config: Option<PathBuf>,
    pub socket: Option<PathBuf>,
}

impl Options {
    /// Returns the same options with the file that the config came from: one that vanishes for a moment must not make
    /// another one count.
    fn with_config(&self, config: Option<PathBuf>) -> Self {
        Self {
            config,
            ..self.clone()
        }
    }
}

/// What the process was started with.
pub struct Environment {
    pub env: Env<'static>,
    /// Changes the log level.
    pub levels: Levels,
    pub signals: mpsc::Receiver<Signal>,
    pub inherited: InheritedFds,
}

/// Runs the daemon until a [`Signal::Stop`]. `ready` is called with the socket's path as soon as
/// callers can connect, which is before the first request to Domo.
///
/// # Errors
///
/// [`DaemonError`] if the daemon cannot start. After that only [`DaemonError::Bug`],
/// [`DaemonError::NoClient`] or [`DaemonError::SocketLost`] end it.
///
/// # Panics
///
/// Outside a tokio runtime with its I/O and time enabled.
pub async fn run(
    config: Config,
    options: &Options,
    environment: Environment,
    ready: impl FnOnce(&Path),
) -> Result<(), DaemonError> {
    let (env, inherited) = (environment.env, environment.inherited);
    let (mut socket, callers) = socket_path::claim(inherited.listeners, options, &config, env)?;
    let settings = server_settings(&config, socket.path());
    let (shared, clock) = (Shared::default(), SystemClock::new());
    let started = clock.now();
    let (files, mut loaded) = LoadedConfig::new(Arc::new(config), env, &BTreeMap::new(), &shared);
    let gateway_files = loaded.gateway.take();
    let (config, mut clients, fleet, changes) = first_clients(loaded, env, &shared, &clock)?;
    let broker = broker_config(&config, &clients, &fleet, started, started);
    let broker = broker_with(inherited.stored, broker, &clock);
    let ports = gateway::bind(inherited.gateway, config.gateway.as_ref())?;
    let mut services = Services::new(&config)?;
    let audit_task = services.start_audit(&broker);
    let of_broker = fleet.share(clients.for_broker(), &broker, started);
    let (engine, handle) = Engine::new(&broker, of_broker);
    let listener = socket.listen(&callers)?;
    log_start(&config, &changes, &socket);
    let gateway = RunningGateway::start(ports, &broker, &config, gateway_files, &clients);
    ready(socket.path());
    systemd::ready(&broker.summary());

    let stop = CancellationToken::new();
    let (watched, socket_changes) = watch(files, &socket);
    let services = services.run(&broker, &clock, stop.clone());
    let reload_task = ReloadTask {
        options: options.with_config(config.path.clone()),
        env,
        levels: environment.levels,
        broker: broker.clone(),
        clock: clock.clone(),
        started,
        engine: handle,
        start_settings: config.start_settings(),
        config,
        config_loaded: started,
        clients,
        fleet,
        gateway,
        shared,
        commands: SecretCommands::new(),
        config_error: None,
        is_reloading: false,
        is_starting: true,
    };
    let engine = tokio::spawn(engine.run());
    let (sender, signals) = mpsc::channel(8);
    let kept = socket.rebind_when_lost(&callers, &broker, &clock, socket_changes, stop.clone());
    let keep_socket = end_if_lost(kept, environment.signals, sender);
    let reload = async {
        let result = reload_task.run(signals, watched, engine).await;
        // Sessions end only after the callers that wait have their refusals.
        stop.cancel();
        result
    };
    let serve = server::serve(listener, broker.clone(), settings, stop.clone());
    let ((), (), kept, result) = tokio::join!(serve, services, keep_socket, reload);
    audit_task.finish().await;
    result.and(kept).inspect(|()| info!("stopped"))
}

/// Returns the clients and the fleet at a start, unless no client can ever be loaded.
fn first_clients(
    loaded: LoadedConfig,
    env: Env<'static>,
    shared: &Shared,
    clock: &SystemClock,
) -> Result<FirstClients, DaemonError> {
    let now = clock.now();
    let mut clients = Clients::new();
    let (changes, _) = clients.apply(loaded.candidates, Rerun::All, now);
    if let Some(reasons) = clients.out_of_descriptors() {
        return Err(DaemonError::Exhausted(reasons));
    }
    if let Some(reasons) = clients.all_failed() {
        return Err(DaemonError::NoClient(reasons));
    }
    let (config, mut fleet) = (loaded.config, Fleet::new(env, shared.clone()));
    let change = fleet.apply(config.fleet.as_ref(), loaded.fleet, Rerun::All, now);
    log_fleet_change(&change);
    fleet.check_clients(&config, &clients.sources(), clock);
    Ok((config, clients, fleet, changes))
}

type FirstClients = (Arc<Config>, Clients<Source>, Fleet, Vec<LoadChange>);

/// Returns a broker with the tokens that the last process had stored, if the config permits that.
fn broker_with<C: Clock>(stored: Vec<File>, config: BrokerConfig, clock: &C) -> Broker<C> {
    let stored = StoredTokens::read(stored);
    let stored = config.keep_over_restart.then(|| stored.tokens(clock.now()));
    let broker = Broker::new(clock.clone(), fastrand::u64(..), config);
    broker.set_stored(stored.unwrap_or_default());
    broker
}

fn server_settings(config: &Config, socket: &Path) -> server::Settings {
    server::Settings {
        limits: limits_within_nofile(config),
        socket: socket.to_owned(),
        http: config.broker.http,
    }
}

/// Returns the config's limits, lowered to the limit on open descriptors.
fn limits_within_nofile(config: &Config) -> Limits {
    let descriptors = descriptors::raise();
    let of_callers = match config.gateway {
        Some(_) => descriptors_left(descriptors),
        None => descriptors,
    };
    let limits = server::clamp_to_nofile(config.limits, of_callers);
    // A limit per user above the total is lowered to it without any lack of descriptors.
    if limits.connections < config.limits.connections {
        warn!(
            connections = limits.connections,
            connections_per_user = limits.connections_per_user,
            "connection limits lowered to fit the limit on open files; to keep those of the config, \
             raise LimitNOFILE= or ulimit -n"
        );
    }
    limits
}

fn log_start(config: &Config, changes: &[LoadChange], socket: &Socket) {
    changes.iter().for_each(log_load_change);
    for notice in &config.notices {
        warn!("{notice}");
    }
    #[cfg(unix)]
    if rustix::process::geteuid().is_root() {
        info!("running as root; a dedicated user is sufficient");
    }
    info!(socket = %socket.shown(), clients = config.clients.len(), "started");
}

/// Watches the files that the daemon was loaded from, and its sockets, whose changes are received.
fn watch(files: FileStamps, socket: &Socket) -> (Files, mpsc::Receiver<()>) {
    let mut watched = Files::new();
    watched.watch(files);
    let socket_changes = watched.watch_socket(socket.watched());
    (watched, socket_changes)
}

/// Forwards the `signals` to `receiver` until `kept` ends. If the socket is lost for good, the daemon
/// is ended as by a signal.
async fn end_if_lost(
    kept: impl Future<Output = Result<(), BindError>>,
    mut signals: mpsc::Receiver<Signal>,
    receiver: mpsc::Sender<Signal>,
) -> Result<(), DaemonError> {
    let mut kept = pin!(kept);
    let mut open = true;
    // A receiver that has ended already needs no signal.
    loop {
        tokio::select! {
            kept = &mut kept => {
                if kept.is_err() {
                    let _ = receiver.send(Signal::Stop).await;
                }
                return kept.map_err(DaemonError::SocketLost);
            }
            signal = signals.recv(), if open => {
                open = signal.is_some();
                let _ = receiver.send(signal.unwrap_or(Signal::Stop)).await;
            }
        }
    }
}

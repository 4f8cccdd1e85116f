//! Loads the config, and each client's credentials and source, without running anything on them:
//! for the daemon at its start and at a reload, and for the commands `check` and `init`.

mod config_file;
mod fleet;
mod gateway;
mod proxy_login_fingerprint;
mod secret_commands;

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use domo_token_protocol::scope::ScopeSet;

use crate::config::{ClientConfig, Config, Endpoint, Env, IdSource, SecretCommand};
use crate::connect::Shared;
use crate::credentials::{self, CredentialsError};
use crate::platform::file_watch::Stamp;
use crate::source::{Origin, Source, SourceError};
use domo_token_core::scheduler::ProxyLoginId;

pub use config_file::{ConfigLoadError, load_config, parse_config};
pub use fleet::{FleetError, LoadedFleet};
pub(crate) use fleet::{FleetInputs, FleetProgress, FleetResult, load_fleet, place_of};
pub use gateway::{GatewayTlsError, LoadedGateway, load_gateway_tls};
pub(crate) use secret_commands::SecretCommands;

/// Files, each with its stamp from just before it was read.
pub(crate) type FileStamps = Vec<(PathBuf, Stamp)>;

/// A client that is ready to request tokens from its source.
#[derive(Debug)]
pub struct LoadedClient<S = Source> {
    /// The part of its id that may be shown.
    pub shown_id: String,
    pub origin: Origin,
    /// The login at the proxy that its requests go through; `None` without a proxy.
    pub proxy_login: Option<ProxyLoginId>,
    pub source: Arc<S>,
}

impl<S> Clone for LoadedClient<S> {
    fn clone(&self) -> Self {
        Self {
            shown_id: self.shown_id.clone(),
            origin: self.origin.clone(),
            proxy_login: self.proxy_login,
            source: Arc::clone(&self.source),
        }
    }
}

/// Why a client can't be loaded.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    #[error(transparent)]
    Credentials(#[from] CredentialsError),
    #[error(transparent)]
    Source(#[from] SourceError),
    /// The system has no thread to load it on.
    #[error("cannot run client_secret_command: {0}; raise the limit on threads")]
    NoThread(io::Error),
    /// Loading panicked.
    #[error("loading failed because of a bug in the daemon; please report it")]
    Bug,
}

impl LoadError {
    /// Returns whether loading may succeed later without a change of files or config: a command
    /// failed, or the system had no room.
    #[must_use]
    pub fn is_temporary(&self) -> bool {
        match self {
            Self::Credentials(error) => error.is_command_failure() || error.is_exhausted(),
            Self::Source(error) => error.is_exhausted(),
            Self::Bug => false,
            Self::NoThread(_) => true,
        }
    }

    /// Returns whether no descriptor was left.
    #[must_use]
    pub fn is_exhausted(&self) -> bool {
        match self {
            Self::Credentials(error) => error.is_exhausted(),
            Self::Source(error) => error.is_exhausted(),
            Self::NoThread(_) | Self::Bug => false,
        }
    }
}

/// The result of loading a client.
pub(crate) type LoadResult<S = Source> = Result<LoadedClient<S>, LoadError>;

/// A client of the config, on its way to being loaded.
#[derive(Debug)]
pub(crate) struct Candidate<S = Source> {
    pub(crate) scopes: BTreeSet<ScopeSet>,
    pub(crate) progress: LoadProgress<S>,
}

/// How far loading a client has come.
#[derive(Debug)]
pub(crate) enum LoadProgress<S = Source> {
    Done(LoadResult<S>),
    /// It takes a command, which runs again only if one of these has changed.
    NeedsCommand(Box<CommandInputs>),
}

/// What loading a client with a command depends on, besides what the command prints.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct CommandInputs {
    pub(crate) command: SecretCommand,
    pub(crate) id: IdSource,
    pub(crate) endpoint: Endpoint,
    pub(crate) allow_world_readable_secret: bool,
    pub(crate) files: FileStamps,
}

impl CommandInputs {
    fn of(client: &ClientConfig, stamps: &BTreeMap<PathBuf, Stamp>) -> Option<Self> {
        let (id, command) = client.secret_command()?;
        let stamped = |path: PathBuf| {
            let stamp = stamps.get(&path).copied().unwrap_or_default();
            (path, stamp)
        };
        Some(Self {
            command: command.clone(),
            id: id.clone(),
            endpoint: client.endpoint.clone(),
            allow_world_readable_secret: client.allow_world_readable_secret,
            files: client.files().into_iter().map(stamped).collect(),
        })
    }
}

/// A config with its clients and its fleet, loaded as far as that takes no secret command.
pub(crate) struct LoadedConfig {
    pub(crate) config: Arc<Config>,
    pub(crate) candidates: BTreeMap<String, Candidate>,
    /// `None` if the config has no fleet.
    pub(crate) fleet: Option<FleetProgress>,
    /// `None` if the config has no gateway.
    pub(crate) gateway: Option<LoadedGateway>,
}

impl LoadedConfig {
    /// Reads the files that `config` names, and returns with it their stamps from before that. A
    /// client that has not changed keeps its source of `previous`.
    pub(crate) fn new(
        config: Arc<Config>,
        env: Env,
        previous: &BTreeMap<String, Arc<Source>>,
        shared: &Shared,
    ) -> (FileStamps, Self) {
        let own = config.path.clone().map(|path| (path, config.stamp));
        let others = config.files().into_iter().map(|path| {
            let stamp = Stamp::of(&path);
            (path, stamp)
        });
        let others: BTreeMap<PathBuf, Stamp> = others.collect();
        let mut candidates = BTreeMap::new();
        for (name, client) in &config.clients {
            let progress = match CommandInputs::of(client, &others) {
                Some(inputs) => LoadProgress::NeedsCommand(Box::new(inputs)),
                None => LoadProgress::Done(load_client(client, env, previous.get(name), shared)),
            };
            let scopes = client.tokens.iter().cloned().collect();
            candidates.insert(name.clone(), Candidate { scopes, progress });
        }
        let fleet = config.fleet.as_ref();
        let fleet = fleet.map(|fleet| FleetProgress::of(fleet, env, &others, shared));
        let gateway = config.gateway.as_ref().map(LoadedGateway::new);
        let files = own.into_iter().chain(others).collect();
        let loaded = Self {
            config,
            candidates,
            fleet,
            gateway,
        };
        (files, loaded)
    }
}

/// Loads all clients of a config once, those with a secret command in parallel.
pub(crate) async fn load_clients(
    config: &Arc<Config>,
    env: Env<'static>,
) -> BTreeMap<String, LoadResult> {
    let shared = Shared::default();
    let (_, loaded) = LoadedConfig::new(Arc::clone(config), env, &BTreeMap::new(), &shared);
    let (mut results, mut commands) = (BTreeMap::new(), SecretCommands::new());
    for (name, candidate) in loaded.candidates {
        match candidate.progress {
            LoadProgress::Done(result) => {
                results.insert(name, result);
            }
            LoadProgress::NeedsCommand(_) => {
                commands.start(name, config, env, None, shared.clone());
            }
        }
    }
    while !commands.is_empty() {
        results.extend([commands.next().await]);
    }
    results
}

/// Loads a client. Blocks: on files, and on the secret command if there is one. The source is that of
/// `previous` if credentials and endpoint have not changed; a new one uses `shared`.
///
/// # Errors
///
/// [`LoadError`].
pub fn load_client(
    client: &ClientConfig,
    env: Env,
    previous: Option<&Arc<Source>>,
    shared: &Shared,
) -> LoadResult {
    let credentials = credentials::load(client, env)?;
    let shown_id = credentials.masked_id();
    let login = credentials::proxy_login(client)?;
    let proxy = client.endpoint.proxy.as_ref();
    let proxy_login = proxy.map(|proxy| proxy_login_fingerprint::of(proxy, login.as_ref()));
    let source = Source::new(client, credentials, login, previous, shared)?;
    Ok(LoadedClient {
        shown_id,
        origin: source.origin(),
        proxy_login,
        source,
    })
}

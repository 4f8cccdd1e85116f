//! Loading: the config's text, and of each client its credentials and what requests its tokens.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use domo_token_protocol::scope::ScopeSet;

use super::{DaemonError, Options, proxy_login};
use crate::broker::Origin;
use crate::config::named_path::shown_path;
use crate::config::{self, ClientConfig, Config, Endpoint, Env, IdSource, SecretCommand};
use crate::connect::Shared;
use crate::credentials::{self, CredentialsError};
use crate::platform::file_watch::Stamp;
use crate::source::domo::{DomoSource, Registration, SourceError};
use domo_token_core::scheduler::ProxyLoginId;

/// Files, each with what it was just before it was read.
pub(super) type Stamped = Vec<(PathBuf, Stamp)>;

/// Finds and reads the config, which others must not be able to write.
///
/// # Errors
///
/// [`DaemonError::ConfigRead`], [`DaemonError::Config`] or [`DaemonError::ConfigAccess`].
pub fn load_config(options: &Options, env: Env) -> Result<Config, DaemonError> {
    let (config, file) = found_config(options, env)?;
    if let (Some(path), Some(file)) = (&config.path, file) {
        credentials::check_config(&file, path, &config).map_err(DaemonError::ConfigAccess)?;
    }
    Ok(config)
}

/// The same, looking at nothing but its text.
///
/// # Errors
///
/// [`DaemonError::ConfigRead`] or [`DaemonError::Config`].
pub fn parse_config(options: &Options, env: Env) -> Result<Config, DaemonError> {
    Ok(found_config(options, env)?.0)
}

fn found_config(options: &Options, env: Env) -> Result<(Config, Option<File>), DaemonError> {
    let Some(path) = config::locate(options.config.clone(), env) else {
        let mut config = Config::from_env(env)?;
        config.note_unused_variables(env);
        return Ok((config, None));
    };
    let stamp = Stamp::of(&path);
    let (file, content) =
        credentials::read_config(&path).map_err(|source| DaemonError::ConfigRead {
            advice: on_unread(&path, &source, options, env),
            path: path.clone(),
            source,
        })?;
    let mut config = Config::read(&content, &path)?;
    config.stamp = stamp;
    config.notices.extend(config.unresolved_principals());
    config.note_unused_variables(env);
    Ok((config, Some(file)))
}

/// What to do about a config file that can't be read, where that isn't plain.
fn on_unread(path: &Path, error: &io::Error, options: &Options, env: Env) -> String {
    let shown = shown_path(path);
    if let Some(fault) = config::fault_of_path(path) {
        return format!("; {fault}");
    }
    if error.kind() != io::ErrorKind::NotFound {
        return credentials::on_unreadable(path, &shown, error);
    }
    if config::path_in(env, "DOMO_CLIENT_ID").is_some() {
        let (by, remove) = match options.config {
            Some(_) => ("--config", "leave out --config"),
            None => ("$DOMO_TOKEN_CONFIG", "unset DOMO_TOKEN_CONFIG"),
        };
        return format!(
            "; the client in DOMO_CLIENT_ID is not used, because {by} names this file; put the file there, or {remove}"
        );
    }
    let shown = credentials::shell_quoted(&shown);
    format!("; name another file, or run: domo-tokend init --config {shown}")
}

/// A client that is ready to request tokens from its source.
#[derive(Debug)]
pub struct LoadedClient<S> {
    /// The part of its id that may be shown.
    pub shown_id: String,
    /// Which credentials its tokens belong to.
    pub origin: Origin,
    /// The login at the proxy that its requests go through; `None` without a proxy.
    pub proxy_login: Option<ProxyLoginId>,
    /// Where its tokens come from.
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
    /// Its credentials can't be used.
    #[error(transparent)]
    Credentials(#[from] CredentialsError),
    /// Its endpoint can't be used.
    #[error(transparent)]
    Source(#[from] SourceError),
    /// The system has no thread to load it on.
    #[error("client_secret_command can't be run: {0}; raise the limit on threads")]
    NoThread(io::Error),
    /// Loading panicked.
    #[error("loading it ended by a bug of the daemon's own: please report it")]
    Bug,
}

impl LoadError {
    /// Whether loading the same again may succeed without a change of files or config: a command
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

    /// Whether no descriptor was left.
    #[must_use]
    pub fn is_exhausted(&self) -> bool {
        match self {
            Self::Credentials(error) => error.is_exhausted(),
            Self::Source(error) => error.is_exhausted(),
            Self::NoThread(_) | Self::Bug => false,
        }
    }
}

/// A client of the config, on its way to being loaded.
#[derive(Debug)]
pub(super) struct Candidate<S> {
    pub(super) scopes: BTreeSet<ScopeSet>,
    pub(super) load: Load<S>,
}

/// How far loading a client has come.
#[derive(Debug)]
pub(super) enum Load<S> {
    Done(Result<LoadedClient<S>, LoadError>),
    /// It takes a command, which runs again only if one of these has changed.
    Command(Box<Inputs>),
}

/// What loading a client with a command depends on, besides what the command prints.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Inputs {
    pub(super) command: SecretCommand,
    pub(super) id: IdSource,
    pub(super) endpoint: Endpoint,
    pub(super) allow_world_readable_secret: bool,
    pub(super) files: Stamped,
}

impl Inputs {
    fn of(client: &ClientConfig, files: &BTreeMap<PathBuf, Stamp>) -> Option<Self> {
        let (id, command) = client.secret_command()?;
        let stamped = |path: PathBuf| {
            let stamp = files.get(&path).copied().unwrap_or_default();
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

/// What a config leads to, but for the commands in it.
pub(super) struct Loaded {
    pub(super) config: Arc<Config>,
    pub(super) candidates: BTreeMap<String, Candidate<DomoSource>>,
}

impl Loaded {
    /// Reads the files that `config` names, and returns with it their stamps from before that. A
    /// client that is as it was keeps its source of `before`.
    pub(super) fn new(
        config: Config,
        env: Env,
        before: &BTreeMap<String, Arc<DomoSource>>,
        shared: &Shared,
    ) -> (Stamped, Self) {
        let own = config.path.clone().map(|path| (path, config.stamp));
        let others = config.files().into_iter().map(|path| {
            let stamp = Stamp::of(&path);
            (path, stamp)
        });
        let others: BTreeMap<PathBuf, Stamp> = others.collect();
        let mut candidates = BTreeMap::new();
        for (name, client) in &config.clients {
            let load = match Inputs::of(client, &others) {
                Some(inputs) => Load::Command(Box::new(inputs)),
                None => Load::Done(load_client(client, env, before.get(name), shared)),
            };
            let scopes = client.tokens.iter().cloned().collect();
            candidates.insert(name.clone(), Candidate { scopes, load });
        }
        let config = Arc::new(config);
        let files = own.into_iter().chain(others).collect();
        (files, Self { config, candidates })
    }
}

/// Reads what the config says of a client. Blocks: on files, and on the command if there is one.
/// With unchanged credentials and endpoint the source is that of `before`; a new one uses `shared`.
///
/// # Errors
///
/// [`LoadError`].
pub fn load_client(
    client: &ClientConfig,
    env: Env,
    before: Option<&Arc<DomoSource>>,
    shared: &Shared,
) -> Result<LoadedClient<DomoSource>, LoadError> {
    let credentials = credentials::load(client, env)?;
    let shown_id = credentials.masked_id();
    let login = credentials::proxy_login(client)?;
    let proxy = client.endpoint.proxy.as_ref();
    let proxy_login = proxy.map(|proxy| proxy_login::id_of(proxy, login.as_ref()));
    let for_reader = |error: SourceError| error.for_reader(client);
    let registration = Registration::new(client.endpoint.clone(), credentials, login);
    let registration = registration.map_err(for_reader)?.of(client);
    let origin = Origin {
        client_id: registration.client_id().to_owned(),
        token_url: registration.token_url().to_owned(),
    };
    let source = match before.filter(|before| *before.registration() == registration) {
        Some(before) => Arc::clone(before),
        None => Arc::new(DomoSource::new(registration, shared).map_err(for_reader)?),
    };
    Ok(LoadedClient {
        shown_id,
        origin,
        proxy_login,
        source,
    })
}

//! Finding and reading the config.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use crate::config::named_path::shown_path;
use crate::config::{self, Config, ConfigError, Env};
use crate::credentials::{self, CredentialsError};
use crate::platform::file_watch::Stamp;

/// Why the config can't be loaded.
#[derive(Debug, thiserror::Error)]
pub enum ConfigLoadError {
    #[error("config {path}: {source}{advice}", path = shown_path(.path))]
    Read {
        path: PathBuf,
        source: io::Error,
        /// What to do, as the end of the message.
        advice: String,
    },
    /// The config holds a secret, and others may read or change it.
    #[error(transparent)]
    Access(CredentialsError),
    #[error("config {0}")]
    Invalid(#[from] ConfigError),
}

impl ConfigLoadError {
    /// Returns whether no descriptor was left.
    #[must_use]
    pub fn is_exhausted(&self) -> bool {
        match self {
            Self::Read { source, .. } => crate::platform::descriptors::is_exhausted(source),
            Self::Access(error) => error.is_exhausted(),
            Self::Invalid(_) => false,
        }
    }
}

/// Finds and reads the config, by default the file that `flag` names. Others must not be able to
/// write it.
///
/// # Errors
///
/// [`ConfigLoadError`].
pub fn load_config(flag: Option<&Path>, env: Env) -> Result<Config, ConfigLoadError> {
    let (config, file) = find_config(flag, env)?;
    if let (Some(path), Some(file)) = (&config.path, file) {
        credentials::check_config(&file, path, &config).map_err(ConfigLoadError::Access)?;
    }
    Ok(config)
}

/// Finds and reads the config, without checking who may read or write it.
///
/// # Errors
///
/// [`ConfigLoadError::Read`] or [`ConfigLoadError::Invalid`].
pub fn parse_config(flag: Option<&Path>, env: Env) -> Result<Config, ConfigLoadError> {
    Ok(find_config(flag, env)?.0)
}

fn find_config(flag: Option<&Path>, env: Env) -> Result<(Config, Option<File>), ConfigLoadError> {
    let Some(path) = config::locate(flag.map(Path::to_owned), env) else {
        let mut config = Config::from_env(env)?;
        config.note_unused_variables(env);
        return Ok((config, None));
    };
    let stamp = Stamp::of(&path);
    let (file, content) =
        credentials::read_config(&path).map_err(|source| ConfigLoadError::Read {
            advice: advice_if_unreadable(&path, &source, flag, env),
            path: path.clone(),
            source,
        })?;
    let mut config = Config::read(&content, &path)?;
    config.stamp = stamp;
    config.notices.extend(config.unresolved_principals());
    config.note_unused_variables(env);
    Ok((config, Some(file)))
}

/// Returns what to do about a config file that can't be read, where that isn't obvious.
fn advice_if_unreadable(path: &Path, error: &io::Error, flag: Option<&Path>, env: Env) -> String {
    let shown = shown_path(path);
    if let Some(fault) = config::validate_path(path) {
        return format!("; {fault}");
    }
    if error.kind() != io::ErrorKind::NotFound {
        return credentials::on_unreadable(path, &shown, error, config::Naming::Keys);
    }
    if config::path_in(env, "DOMO_CLIENT_ID").is_some() {
        let (by, remove) = match flag {
            Some(_) => ("--config", "remove --config"),
            None => ("$DOMO_TOKEN_CONFIG", "unset DOMO_TOKEN_CONFIG"),
        };
        return format!(
            "; DOMO_CLIENT_ID is not used, because {by} names this file; create the file, or {remove}"
        );
    }
    let shown = credentials::shell_quoted(&shown);
    format!("; use another file, or create it: domo-tokend init --config {shown}")
}

//! Why `app` has changed nothing.

use std::io;
use std::path::{Path, PathBuf};

use super::super::check;
use crate::config::named_path::shown_path;
use crate::credentials::CredentialsError;
use crate::load::ConfigLoadError;

/// The exit code if standard output is closed or full (`EX_IOERR` of sysexits).
const EX_IOERR: u8 = 74;

/// Why no application has changed.
#[derive(Debug, thiserror::Error)]
pub enum AppError {
    #[error("no config file, which a gateway requires; create it: domo-tokend init")]
    NoConfig,
    #[error("{0}")]
    Config(String),
    #[error("an application's name {0}")]
    Name(String),
    #[error("secret_hash_file {0}: the application has a secret; to create another one: {1}")]
    Exists(String, String),
    #[error("application \"{0}\" has no secret; create one: {1}")]
    NoSecret(String, String),
    #[error(transparent)]
    File(#[from] CredentialsError),
    #[error("{path}: {source}{advice}", path = shown_path(.path))]
    Write {
        path: PathBuf,
        source: io::Error,
        /// What to do, as the end of the message.
        advice: String,
    },
    #[error("{path} already exists and is not overwritten; choose another file", path = shown_path(.0))]
    SecretFileExists(PathBuf),
    #[error("nothing was changed: cannot write to standard output: {0}")]
    Stdout(io::Error),
    #[error("the system returns no random bytes; try again")]
    NoRandomBytes,
}

impl AppError {
    /// Returns the exit code, of sysexits: 74 if standard output could not be written, else 78.
    #[must_use]
    pub fn exit_code(&self) -> u8 {
        if matches!(self, Self::Stdout(_)) {
            EX_IOERR
        } else {
            crate::daemon::EX_CONFIG
        }
    }

    /// Returns the error about a config. `command` is repeated by another user if that helps.
    pub(super) fn of_config(error: &ConfigLoadError, config: &Path, command: &str) -> Self {
        if let ConfigLoadError::Access(CredentialsError::Unsafe { .. }) = error
            && let Some((user, sudo)) = check::foreign_owner(config)
        {
            let path = shown_path(config);
            return Self::Config(format!(
                "config {path}: belongs to the broker of user {user}; run as that user: {sudo} {command}"
            ));
        }
        Self::Config(error.to_string())
    }

    /// Returns the error about a file that cannot be written.
    pub(super) fn write(path: &Path, source: io::Error, config: &Path) -> Self {
        let is_denied = source.kind() == io::ErrorKind::PermissionDenied;
        let advice = if is_denied && check::needs_root(config) {
            "; run this as root, with sudo"
        } else if is_denied {
            "; run this as the user that may write to its directory"
        } else {
            ""
        };
        Self::Write {
            path: path.to_owned(),
            source,
            advice: advice.to_owned(),
        }
    }
}

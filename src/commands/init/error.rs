//! Why `init` wrote nothing.

use std::io;
use std::path::PathBuf;

use domo_token_protocol::scope::DOMO_SCOPE_NAMES;

use crate::config::ConfigError;
use crate::credentials::CredentialsError;
use crate::source::domo::SourceError;

/// Why nothing was written.
#[derive(Debug, thiserror::Error)]
pub enum InitError {
    #[error(
        "no directory for the config: neither an absolute $XDG_CONFIG_HOME nor $HOME is set; choose a \
         file with --config FILE"
    )]
    NoConfigPath,
    #[error(
        "{0} already exists and is not overwritten; edit it, or choose another file with --config FILE"
    )]
    ConfigExists(PathBuf),
    #[error(
        "{0} already exists and is not overwritten; remove it, or choose another client name with \
         --name NAME"
    )]
    SecretExists(PathBuf),
    /// What was given can't be right.
    #[error("{what}: {problem}")]
    Wrong { what: &'static str, problem: String },
    /// What was entered or piped can't be right.
    #[error("nothing was written: the {what} {mistake}; correct it and run this again")]
    Entered { what: &'static str, mistake: String },
    #[error("{0}")]
    Config(#[from] ConfigError),
    /// A file that an option names can't be used.
    #[error("nothing was written: {0}")]
    File(#[from] CredentialsError),
    #[error("nothing was written: {0}")]
    Source(#[from] SourceError),
    #[error(
        "nothing was written: Domo rejected these credentials: {0}; check the client id and the \
         secret (Admin > Authentication > API clients)"
    )]
    Rejected(String),
    #[error(
        "nothing was written: the credentials work; Domo does not grant this client {0}; API \
         clients cannot be edited, so create one with that scope (Admin > Authentication > API clients), \
         or request other scopes (Domo has {scopes}) with --tokens SCOPES",
        scopes = DOMO_SCOPE_NAMES.join(", ")
    )]
    Scopes(String),
    /// The proxy rejected its login; the message has what to do.
    #[error("nothing was written: {0}")]
    ProxyLogin(String),
    /// Domo can't be reached, or answered nothing that decides it.
    #[error("nothing was written: {message}; {hint}")]
    Unreachable { message: String, hint: String },
    #[error("{path}: {source}", path = .path.display())]
    Write { path: PathBuf, source: io::Error },
    #[error(
        "nothing was written: standard input ended before the {0}; pipe the client id and the secret, \
         one per line, or run this at a terminal (in a container: docker run -it)"
    )]
    Ended(&'static str),
    #[error(
        "nothing was written: standard input is not UTF-8 ({0}); pipe the client id and the secret in \
         UTF-8, one per line"
    )]
    NotUtf8(&'static str),
    #[error("nothing was written: cannot read standard input: {0}")]
    Read(#[from] io::Error),
}

impl InitError {
    /// Returns the exit code, of sysexits: 75 if Domo couldn't be reached, else 78.
    #[must_use]
    pub fn exit_code(&self) -> u8 {
        if matches!(self, Self::Unreachable { .. }) {
            75
        } else {
            78
        }
    }
}

pub(super) fn wrong(what: &'static str, problem: &str) -> InitError {
    let problem = problem.to_owned();
    InitError::Wrong { what, problem }
}

//! Where a caller looks for the broker, and whom it takes for the broker there.

#[cfg(unix)]
mod unix;
#[cfg(windows)]
mod windows;

use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::error::Error;

#[cfg(unix)]
use unix::Defaults;
#[cfg(windows)]
use windows::Defaults;

/// The socket of the host's broker, where brokers have sockets.
pub const HOST_SOCKET: &str = "/run/domo-token/broker.sock";

/// Where a broker is looked for, each time a connection is made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Address {
    /// The path that a person, a variable or the app named.
    Named(Arc<Path>),
    /// The default paths.
    Default(Defaults),
}

/// The socket to connect to, by what is there now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Target {
    pub(crate) path: Arc<Path>,
    /// All paths that were looked at.
    tried: Vec<PathBuf>,
    /// The user's own config, because of which the host's broker is not used.
    own_config: Option<PathBuf>,
    /// Whether the path was named; the default paths are checked more strictly.
    #[cfg(unix)]
    named: bool,
}

impl Address {
    /// The socket that was named.
    pub(crate) fn named(path: &Path) -> Self {
        Self::Named(path.into())
    }

    /// `$DOMO_TOKEN_SOCKET`, else the default paths.
    pub(crate) fn find(env: &dyn Fn(&str) -> Option<OsString>) -> Self {
        let variable = |name: &str| {
            env(name)
                .filter(|value| !value.is_empty())
                .map(PathBuf::from)
        };
        match variable("DOMO_TOKEN_SOCKET") {
            Some(path) => Self::named(&path),
            None => Self::Default(Defaults::of(&variable)),
        }
    }

    /// The socket to connect to now.
    pub(crate) fn target(&self) -> Target {
        match self {
            Self::Named(path) => Target::named(Arc::clone(path)),
            Self::Default(defaults) => defaults.target(),
        }
    }
}

impl Target {
    fn named(path: Arc<Path>) -> Self {
        Self {
            tried: vec![path.to_path_buf()],
            path,
            own_config: None,
            #[cfg(unix)]
            named: true,
        }
    }

    /// What a failed connection means, once it is not going to be tried again.
    pub(crate) fn error(&self, source: io::Error) -> Error {
        let kind = source.kind();
        if matches!(
            kind,
            io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused
        ) {
            return Error::NotRunning {
                tried: self.tried.clone(),
                own_config: self.own_config.clone(),
            };
        }
        if kind == io::ErrorKind::PermissionDenied {
            let cause = self.how_to_join();
            return Error::NotPermitted { cause };
        }
        Error::Io {
            path: self.path.to_path_buf(),
            source: source.into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_variable_wins_and_is_the_only_place() {
        let env = |name: &str| (name == "DOMO_TOKEN_SOCKET").then(|| "/x/y.sock".into());
        let target = Address::find(&env).target();
        assert_eq!(*target.path, *Path::new("/x/y.sock"));
        assert_eq!(target.tried.len(), 1);
    }
}

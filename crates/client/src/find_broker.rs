//! Finds the broker's socket, and checks its server.

#[cfg(unix)]
mod unix;
#[cfg(windows)]
mod windows;

use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::error::{Error, ErrorKind, SocketOrigin};
use crate::parse_socket_path::SocketPath;

#[cfg(unix)]
use unix::Defaults;
#[cfg(windows)]
use windows::Defaults;

/// How the broker's socket is found, for each connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Address {
    /// The path of the app, or of the helper's flag.
    Named(Arc<Path>),
    /// The path of `$DOMO_TOKEN_SOCKET`.
    Variable(Arc<Path>),
    /// The default paths.
    Default(Defaults),
}

/// The socket to connect to now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Target {
    pub(crate) path: Arc<Path>,
    /// All paths that were tried.
    tried: Vec<PathBuf>,
    /// The user's own config, because of which the host's broker is not used.
    own_config: Option<PathBuf>,
    /// Where the path comes from; the default paths are checked more strictly.
    origin: SocketOrigin,
}

impl Address {
    /// Returns the address of this socket.
    pub(crate) fn named(path: &Path) -> Self {
        Self::Named(path.into())
    }

    /// Returns the address by `$DOMO_TOKEN_SOCKET`, else by the default paths.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidSocket`] if the variable is not the path of a socket.
    pub(crate) fn find(env: &dyn Fn(&str) -> Option<OsString>) -> Result<Self, Error> {
        let variable = |name: &str| {
            env(name)
                .filter(|value| !value.is_empty())
                .map(PathBuf::from)
        };
        let Some(written) = variable("DOMO_TOKEN_SOCKET") else {
            return Ok(Self::Default(Defaults::of(&variable)));
        };
        match SocketPath::read(written.as_os_str(), variable("HOME").as_deref()) {
            Ok(path) => Ok(Self::Variable(path.into_path().into())),
            Err(problem) => {
                let written = written.display();
                let cause = format!("$DOMO_TOKEN_SOCKET is \"{written}\": {problem}");
                Err(Error::new(ErrorKind::InvalidSocket, cause))
            }
        }
    }

    /// Returns the socket to connect to now.
    pub(crate) fn target(&self) -> Target {
        match self {
            Self::Named(path) => Target::named(Arc::clone(path), SocketOrigin::Caller),
            Self::Variable(path) => Target::named(Arc::clone(path), SocketOrigin::Variable),
            Self::Default(defaults) => defaults.target(),
        }
    }
}

impl Target {
    fn named(path: Arc<Path>, origin: SocketOrigin) -> Self {
        Self {
            tried: vec![path.to_path_buf()],
            path,
            own_config: None,
            origin,
        }
    }

    /// Returns the error of a failed connection that is not retried.
    pub(crate) fn error(&self, source: io::Error) -> Error {
        let kind = source.kind();
        let is_denied = kind == io::ErrorKind::PermissionDenied;
        if matches!(
            kind,
            io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused
        ) || is_denied && self.is_something_else()
        {
            return Error::not_running(&self.tried, self.own_config.as_deref(), self.origin);
        }
        if is_denied {
            return self.not_permitted();
        }
        Error::unusable_socket(&self.path, source)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variable_is_the_only_path_tried() {
        let env = |name: &str| (name == "DOMO_TOKEN_SOCKET").then(|| "/x/y.sock".into());
        let target = Address::find(&env).unwrap().target();
        assert_eq!(*target.path, *Path::new("/x/y.sock"));
        assert_eq!(target.tried.len(), 1);
    }

    #[cfg(unix)]
    #[test]
    fn variable_that_is_not_a_path_is_an_error_that_names_it() {
        let find = |value: &str| {
            let env = |name: &str| match name {
                "DOMO_TOKEN_SOCKET" => Some(value.into()),
                "HOME" => Some("/home/etl".into()),
                _ => None,
            };
            Address::find(&env)
        };
        let url = find("unix:///x/y.sock").unwrap().target();
        assert_eq!(*url.path, *Path::new("/x/y.sock"));
        let error = find("~/y.sock").unwrap_err();
        assert_eq!(
            error.to_string(),
            "$DOMO_TOKEN_SOCKET is \"~/y.sock\": the tilde is not expanded; \
             write /home/etl/y.sock"
        );
        assert!(!error.is_retryable());
    }
}

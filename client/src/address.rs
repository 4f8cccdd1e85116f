//! Where a caller looks for the broker, and whom it takes for the broker there.

#[cfg(unix)]
mod unix;
#[cfg(windows)]
mod windows;

use std::ffi::OsString;
use std::io;
use std::path::PathBuf;

use crate::error::Error;

/// A socket, and how it came to be chosen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Address {
    pub(crate) path: PathBuf,
    /// All paths looked at, for whoever has to find out why there is no broker.
    pub(crate) tried: Vec<PathBuf>,
    /// Whether a person or a variable named it; the usual places are judged more strictly.
    #[cfg(unix)]
    named: bool,
}

impl Address {
    /// The socket a person named.
    pub(crate) fn named(path: PathBuf) -> Self {
        Self {
            tried: vec![path.clone()],
            path,
            #[cfg(unix)]
            named: true,
        }
    }

    /// `$DOMO_TOKEN_SOCKET`, else where a broker usually is.
    pub(crate) fn find(env: &dyn Fn(&str) -> Option<OsString>) -> Self {
        let variable = |name: &str| {
            env(name)
                .filter(|value| !value.is_empty())
                .map(PathBuf::from)
        };
        variable("DOMO_TOKEN_SOCKET").map_or_else(|| Self::usual(&variable), Self::named)
    }

    /// What a failed connection means, once it is not going to be tried again.
    pub(crate) fn error(&self, source: io::Error) -> Error {
        let kind = source.kind();
        if matches!(
            kind,
            io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused
        ) {
            let tried = self.tried.clone();
            return Error::NotRunning { tried };
        }
        if kind == io::ErrorKind::PermissionDenied {
            let cause = self.how_to_join();
            return Error::NotPermitted { cause };
        }
        Error::Io {
            path: self.path.clone(),
            source: source.into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn the_variable_wins_and_is_the_only_place() {
        let env = |name: &str| (name == "DOMO_TOKEN_SOCKET").then(|| "/x/y.sock".into());
        let address = Address::find(&env);
        assert_eq!(address.path, Path::new("/x/y.sock"));
        assert_eq!(address.tried.len(), 1);
    }
}

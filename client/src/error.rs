//! What a caller can do when there is no token.

use std::fmt;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use crate::clock::{BootTime, boot_now};
use crate::duration;
use crate::scope::ScopeError;
use crate::wire::{Refusal, RefusalKind, VERSION};

/// How a broker is started.
const START: &str = if cfg!(windows) {
    "domo-tokend"
} else {
    "systemctl start domo-tokend, or: domo-tokend"
};

/// How a user's own broker is started.
const START_OWN: &str = "systemctl --user start domo-tokend.socket, or: domo-tokend";

/// Why there is no token, by what the caller can do about it. No message holds a secret.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Error {
    /// No broker listens: start one.
    #[non_exhaustive]
    NotRunning {
        /// The paths tried.
        tried: Vec<PathBuf>,
        /// The user's own config, because of which the host's broker was not tried.
        own_config: Option<PathBuf>,
    },
    /// The broker, or the socket's permissions, don't let this process have the token.
    #[non_exhaustive]
    NotPermitted {
        /// Why, and what to do.
        cause: String,
    },
    /// Whoever listens can't be trusted to be the broker.
    #[non_exhaustive]
    Untrusted {
        /// Why, and what to do.
        cause: String,
    },
    /// The broker has no such client or scope set: its config must name it.
    #[non_exhaustive]
    Unknown {
        /// What there is instead.
        cause: String,
    },
    /// No token lives as long as asked for.
    #[non_exhaustive]
    MinTtlTooLong {
        /// How long they live, and the most one may ask.
        cause: String,
    },
    /// Domo refuses the credentials or the scopes: a person has to mend it.
    #[non_exhaustive]
    Denied {
        /// Domo's words.
        cause: String,
        /// The time until the broker asks Domo again.
        next_attempt: Option<Duration>,
    },
    /// The scope set was removed from the broker's config.
    #[non_exhaustive]
    Gone {
        /// What was removed.
        cause: String,
    },
    /// Not now: Domo can't be reached, the broker is busy, or the deadline passed.
    #[non_exhaustive]
    TryLater {
        /// What is in the way.
        cause: String,
        /// The time until the broker asks Domo again.
        next_attempt: Option<Duration>,
    },
    /// The broker speaks other protocol versions: install matching ones.
    #[non_exhaustive]
    Protocol {
        /// The broker's version.
        theirs: u8,
    },
    /// What was asked for is no scope set.
    InvalidScope(ScopeError),
    /// The other side broke the protocol.
    #[non_exhaustive]
    Broken {
        /// What came.
        cause: String,
    },
    /// The socket can't be used.
    #[non_exhaustive]
    Io {
        /// The socket.
        path: PathBuf,
        /// What the system said.
        source: Arc<io::Error>,
    },
}

impl Error {
    /// Whether the same call may succeed later with nothing mended: no broker yet, or not now.
    #[must_use]
    pub fn is_temporary(&self) -> bool {
        matches!(self, Self::NotRunning { .. } | Self::TryLater { .. })
    }

    /// Whether it is what the broker, or the system, has decided about this caller and this set.
    pub(crate) fn is_verdict(&self) -> bool {
        match self {
            Self::NotPermitted { .. }
            | Self::Unknown { .. }
            | Self::MinTtlTooLong { .. }
            | Self::Denied { .. }
            | Self::Gone { .. }
            | Self::InvalidScope(_) => true,
            Self::NotRunning { .. }
            | Self::Untrusted { .. }
            | Self::TryLater { .. }
            | Self::Protocol { .. }
            | Self::Broken { .. }
            | Self::Io { .. } => false,
        }
    }

    pub(crate) fn later(cause: &str) -> Self {
        Self::TryLater {
            cause: cause.to_owned(),
            next_attempt: None,
        }
    }

    pub(crate) fn late() -> Self {
        Self::later("the broker did not answer in time")
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotRunning { tried, own_config } => {
                let tried: Vec<String> = tried
                    .iter()
                    .map(|path| path.display().to_string())
                    .collect();
                write!(f, "no broker listens on {}", tried.join(" or "))?;
                let Some(config) = own_config else {
                    return write!(f, "; start it with: {START}");
                };
                let config = config.display();
                write!(
                    f,
                    ", the only socket that is used because {config} exists; \
                     start your own broker with: {START_OWN}"
                )
            }
            Self::NotPermitted { cause }
            | Self::Untrusted { cause }
            | Self::Unknown { cause }
            | Self::MinTtlTooLong { cause }
            | Self::Gone { cause }
            | Self::Broken { cause } => f.write_str(cause),
            Self::Denied {
                cause,
                next_attempt,
            }
            | Self::TryLater {
                cause,
                next_attempt,
            } => {
                f.write_str(cause)?;
                match next_attempt {
                    Some(wait) => write!(f, "; next attempt in {}", duration::show(*wait)),
                    None => Ok(()),
                }
            }
            Self::Protocol { theirs } => write!(
                f,
                "the broker speaks protocol version {theirs}, this program {VERSION}; \
                 install matching versions and restart the broker"
            ),
            Self::InvalidScope(error) => error.fmt(f),
            Self::Io { path, source } => write!(f, "{}: {source}", path.display()),
        }
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Io { source, .. } => Some(source.as_ref()),
            Self::InvalidScope(error) => Some(error),
            Self::NotRunning { .. }
            | Self::NotPermitted { .. }
            | Self::Untrusted { .. }
            | Self::Unknown { .. }
            | Self::MinTtlTooLong { .. }
            | Self::Denied { .. }
            | Self::Gone { .. }
            | Self::TryLater { .. }
            | Self::Protocol { .. }
            | Self::Broken { .. } => None,
        }
    }
}

impl From<ScopeError> for Error {
    fn from(error: ScopeError) -> Self {
        Self::InvalidScope(error)
    }
}

impl From<Refusal> for Error {
    fn from(refusal: Refusal) -> Self {
        let Refusal {
            kind,
            cause,
            next_attempt,
        } = refusal;
        let next_attempt = next_attempt.map(|at: BootTime| at.saturating_since(boot_now()));
        match kind {
            RefusalKind::NotPermitted => Self::NotPermitted { cause },
            RefusalKind::UnknownClient | RefusalKind::UnknownScope => Self::Unknown { cause },
            RefusalKind::MinTtlTooLong => Self::MinTtlTooLong { cause },
            RefusalKind::Denied => Self::Denied {
                cause,
                next_attempt,
            },
            RefusalKind::Gone => Self::Gone { cause },
            RefusalKind::Unavailable | RefusalKind::Busy => Self::TryLater {
                cause,
                next_attempt,
            },
        }
    }
}

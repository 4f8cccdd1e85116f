//! [`Error`]: why there is no token, by what the caller can do about it.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use crate::clock::{BootTime, boot_now};
use domo_token_protocol::duration;
use domo_token_protocol::messages::{Refusal, RefusalKind, VERSION};
use domo_token_protocol::scope::ScopeError;

/// The socket of the host's broker, except on Windows.
pub const HOST_SOCKET: &str = "/run/domo-token/broker.sock";

/// Where the path of a socket comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SocketOrigin {
    /// The app, or a flag of the helper.
    Caller,
    /// `$DOMO_TOKEN_SOCKET`.
    Variable,
    /// The default path of the user's own broker.
    Own,
    /// The default path of the host's broker.
    Host,
}

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
        /// Where the last of these paths comes from.
        #[doc(hidden)]
        origin: SocketOrigin,
    },
    /// The broker, or the socket's permissions, deny this process the token.
    #[non_exhaustive]
    NotPermitted {
        /// Why, and what to do.
        cause: String,
        /// The name of the group whose members may use the socket.
        #[doc(hidden)]
        group: Option<String>,
    },
    /// The server on the socket can't be trusted to be the broker.
    #[non_exhaustive]
    Untrusted {
        /// Why, and what to do.
        cause: String,
    },
    /// The broker has no such client or scope set: its config must name it.
    #[non_exhaustive]
    Unknown {
        /// What the config has instead.
        cause: String,
    },
    /// No token is valid for as long as requested.
    #[non_exhaustive]
    MinTtlTooLong {
        /// The lifetime of the tokens, and the most that can be requested.
        cause: String,
    },
    /// Domo rejects the credentials or the scopes: the administrator has to fix them.
    #[non_exhaustive]
    Denied {
        /// Domo's message.
        cause: String,
        /// The time until the broker's next request to Domo.
        next_attempt: Option<Duration>,
    },
    /// The scope set was removed from the broker's config.
    #[non_exhaustive]
    Gone {
        /// What was removed.
        cause: String,
    },
    /// Try again later: Domo can't be reached, the broker is busy, or the deadline passed.
    #[non_exhaustive]
    TryLater {
        /// Why not now.
        cause: String,
        /// The time until the broker's next request to Domo.
        next_attempt: Option<Duration>,
        /// The socket from which not even a greeting was received.
        #[doc(hidden)]
        silent: Option<Arc<Path>>,
    },
    /// The broker uses another protocol version: install matching ones.
    #[non_exhaustive]
    Protocol {
        /// The broker's version.
        theirs: u8,
    },
    /// The requested scopes are not a valid scope set.
    InvalidScope(ScopeError),
    /// `$DOMO_TOKEN_SOCKET` is not the path of a socket.
    #[non_exhaustive]
    InvalidSocket {
        /// What is wrong with it, and what to write.
        cause: String,
    },
    /// The broker violated the protocol, or the connection failed.
    #[non_exhaustive]
    Broken {
        /// What was wrong.
        cause: String,
    },
    /// The socket can't be used.
    #[non_exhaustive]
    Io {
        /// The socket.
        path: PathBuf,
        /// The system's error.
        source: Arc<io::Error>,
    },
}

impl Error {
    /// Returns whether the same call may succeed later without a fix: no broker yet, or not now.
    #[must_use]
    pub fn is_temporary(&self) -> bool {
        matches!(self, Self::NotRunning { .. } | Self::TryLater { .. })
    }

    /// Returns whether the broker, or the system, has decided against this caller and scope set.
    pub(crate) fn is_decision(&self) -> bool {
        match self {
            Self::NotPermitted { .. }
            | Self::Unknown { .. }
            | Self::MinTtlTooLong { .. }
            | Self::Denied { .. }
            | Self::Gone { .. }
            | Self::InvalidScope(_)
            | Self::InvalidSocket { .. } => true,
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
            silent: None,
        }
    }

    /// Returns the same error, of a connection to that socket on which no greeting was received.
    pub(crate) fn without_greeting(mut self, socket: &Arc<Path>) -> Self {
        if let Self::TryLater { silent, .. } = &mut self {
            *silent = Some(Arc::clone(socket));
        }
        self
    }

    /// Displays the error without its advice, for a program that gives better advice.
    #[doc(hidden)]
    #[must_use]
    pub fn facts(&self) -> impl fmt::Display {
        Facts(self)
    }

    /// Returns the advice that fits any program, if the cause contains none.
    fn advice(&self) -> Option<&'static str> {
        match self {
            Self::NotRunning { origin, .. } => Some(match origin {
                SocketOrigin::Caller | SocketOrigin::Variable => "start a broker there",
                SocketOrigin::Own => "start your own broker: domo-tokend",
                SocketOrigin::Host => "start domo-tokend, or set it up first: domo-tokend init",
            }),
            Self::NotPermitted { group: Some(_), .. } => {
                Some("ask to be added to that group, and log in again")
            }
            Self::TryLater {
                silent: Some(socket),
                ..
            } if **socket == *Path::new(HOST_SOCKET) => {
                Some("under systemd, see: systemctl status domo-tokend")
            }
            Self::NotPermitted { .. }
            | Self::Untrusted { .. }
            | Self::Unknown { .. }
            | Self::MinTtlTooLong { .. }
            | Self::Denied { .. }
            | Self::Gone { .. }
            | Self::TryLater { .. }
            | Self::Protocol { .. }
            | Self::InvalidScope(_)
            | Self::InvalidSocket { .. }
            | Self::Broken { .. }
            | Self::Io { .. } => None,
        }
    }

    pub(crate) fn late() -> Self {
        Self::later("the broker did not answer in time")
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Facts(self).fmt(f)?;
        match self.advice() {
            Some(advice) => write!(f, "; {advice}"),
            None => Ok(()),
        }
    }
}

struct Facts<'a>(&'a Error);

impl fmt::Display for Facts<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Error::NotRunning {
                tried,
                own_config,
                origin,
            } => not_running(f, tried, own_config.as_deref(), *origin),
            Error::NotPermitted { cause, .. }
            | Error::Untrusted { cause }
            | Error::Unknown { cause }
            | Error::MinTtlTooLong { cause }
            | Error::Gone { cause }
            | Error::InvalidSocket { cause }
            | Error::Broken { cause } => f.write_str(cause),
            Error::Denied {
                cause,
                next_attempt,
            } => with_next_attempt(f, cause, *next_attempt),
            Error::TryLater {
                cause,
                next_attempt,
                silent,
            } => {
                with_next_attempt(f, cause, *next_attempt)?;
                match silent {
                    Some(socket) => write!(f, ": nothing was received from {}", socket.display()),
                    None => Ok(()),
                }
            }
            Error::Protocol { theirs } => write!(
                f,
                "the broker speaks protocol version {theirs}, this program {VERSION}; \
                 install matching versions and restart the broker"
            ),
            Error::InvalidScope(error) => error.fmt(f),
            Error::Io { path, source } => write!(f, "{}: {source}", path.display()),
        }
    }
}

fn not_running(
    f: &mut fmt::Formatter<'_>,
    tried: &[PathBuf],
    own_config: Option<&Path>,
    origin: SocketOrigin,
) -> fmt::Result {
    let shown = tried.iter().map(|path| path.display().to_string());
    let shown = shown.collect::<Vec<_>>().join(" or ");
    if origin == SocketOrigin::Variable {
        return write!(f, "$DOMO_TOKEN_SOCKET is {shown}: no broker listens there");
    }
    write!(f, "no broker listens on {shown}")?;
    match own_config.map(Path::display) {
        Some(config) => write!(f, ", the only socket that is used because {config} exists"),
        None => Ok(()),
    }
}

fn with_next_attempt(
    f: &mut fmt::Formatter<'_>,
    cause: &str,
    next_attempt: Option<Duration>,
) -> fmt::Result {
    f.write_str(cause)?;
    match next_attempt {
        Some(wait) => write!(f, "; next attempt in {}", duration::show(wait)),
        None => Ok(()),
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        if let Self::Io { source, .. } = self {
            return Some(source.as_ref());
        }
        if let Self::InvalidScope(error) = self {
            return Some(error);
        }
        None
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
            RefusalKind::NotPermitted => Self::NotPermitted { cause, group: None },
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
                silent: None,
            },
        }
    }
}

//! Why the daemon ends with an error, and with which exit code.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;

use crate::load::ConfigLoadError;
use crate::platform::descriptors;
use crate::server::BindError;
use domo_token_core::masking::masked;

/// The exit code for what the operator has to fix (`EX_CONFIG` of sysexits): systemd does not restart the daemon.
pub const EX_CONFIG: u8 = 78;

/// Why the daemon doesn't start, or ends without a signal.
#[derive(Debug, thiserror::Error)]
pub enum DaemonError {
    #[error(transparent)]
    Config(#[from] ConfigLoadError),
    /// No client can be loaded, by name and reason.
    #[error("{}", reasons(.0))]
    NoClient(Vec<(String, String)>),
    /// No client can be loaded for lack of descriptors, by name and reason.
    #[error("{}", reasons(.0))]
    Exhausted(Vec<(String, String)>),
    /// No directory for the socket, with what to do.
    #[error(
        "no directory for the socket: neither $RUNTIME_DIRECTORY nor an absolute $XDG_RUNTIME_DIR is \
         set; {0}"
    )]
    NoSocket(String),
    /// The value of the flag or the variable is not the path of a socket.
    #[error("{}", masked(.0))]
    SocketPath(String),
    /// The callers' group can't be used.
    #[error("broker.{0}")]
    Group(&'static str),
    #[error("metrics.listen {address}: {source}; free the port, or choose another one")]
    Metrics {
        address: SocketAddr,
        source: io::Error,
    },
    #[error("{key} {address}: {source}; free the port, or choose another one")]
    Gateway {
        key: &'static str,
        address: SocketAddr,
        source: io::Error,
    },
    /// systemd passed a port of this name, but the config has no gateway.
    #[error(
        "descriptor {0:?}: the config has no [gateway]; add the table, or disable the socket unit"
    )]
    UnusedPort(&'static str),
    /// systemd passed a port for TLS, but the config has no certificate.
    #[error(
        "descriptor \"gateway-tls\": [gateway] has no tls_cert_file; set tls_listen, tls_cert_file and \
         tls_key_file, or disable the socket unit"
    )]
    NoCertificate,
    /// The audit file can't be written.
    #[error("audit.file {path}: {source}{}", audit_advice(.source), path = .path.display())]
    Audit { path: PathBuf, source: io::Error },
    #[error(transparent)]
    Bind(#[from] BindError),
    #[error("socket removed or replaced, and cannot be bound again: {0}")]
    SocketLost(BindError),
    /// A part of the daemon panicked; its message has been printed.
    #[error("the daemon stopped because of a bug; please report it with the lines above")]
    Bug,
}

fn reasons(clients: &[(String, String)]) -> String {
    let reason = |(name, reason): &(String, String)| format!("client \"{name}\": {reason}");
    let reasons: Vec<String> = clients.iter().map(reason).collect();
    reasons.join("; ")
}

fn audit_advice(error: &io::Error) -> &'static str {
    if has_no_reader(error) {
        "; start its reader first"
    } else if descriptors::is_exhausted(error) {
        descriptors::RAISE_LIMIT
    } else if error.raw_os_error().is_some() {
        "; choose a file that the daemon can write"
    } else {
        // The daemon's own errors include what to do.
        ""
    }
}

/// Returns whether the error is that of a pipe whose reader may still be started.
fn has_no_reader(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::NotConnected
}

impl DaemonError {
    /// Returns the exit code (sysexits): 70 for a bug; 75 if another daemon runs, the socket is lost,
    /// the audit's pipe has no reader or no descriptor is left; else 78.
    #[must_use]
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Bug => 70,
            Self::Bind(
                BindError::InUse(_)
                | BindError::Path {
                    is_exhausted: true, ..
                },
            )
            | Self::SocketLost(_)
            | Self::Exhausted(_) => 75,
            Self::Audit { source, .. } if has_no_reader(source) => 75,
            Self::Metrics { source, .. }
            | Self::Gateway { source, .. }
            | Self::Audit { source, .. }
                if descriptors::is_exhausted(source) =>
            {
                75
            }
            Self::Config(error) if error.is_exhausted() => 75,
            Self::Bind(BindError::Path { .. })
            | Self::Config(_)
            | Self::NoClient(_)
            | Self::Group(_)
            | Self::Metrics { .. }
            | Self::Gateway { .. }
            | Self::UnusedPort(_)
            | Self::NoCertificate
            | Self::Audit { .. }
            | Self::NoSocket(_)
            | Self::SocketPath(_) => EX_CONFIG,
        }
    }
}

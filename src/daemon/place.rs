//! Where the daemon listens, and for whom.

use std::path::PathBuf;

use tracing::warn;

use super::{DaemonError, Options};
use crate::config::{Config, Env, path_in};
use crate::ipc::{Callers, Socket, usual_place};
use crate::systemd::Bound;

/// The socket that was handed over, or the right to bind one, and who may open it.
pub(super) fn take(
    handed_over: Option<Bound>,
    options: &Options,
    config: &Config,
    env: Env,
) -> Result<(Socket, Callers), DaemonError> {
    let socket = if let Some(listener) = handed_over {
        Socket::inherited(listener)
    } else {
        let path = socket_path(options, config, env).ok_or(DaemonError::NoSocket)?;
        Socket::lock(&path, config.shared_directory)?
    };
    let callers = Callers::of(config).map_err(DaemonError::Group)?;
    if socket.is_inherited() && callers != Callers::default() {
        warn!(
            "systemd has bound the socket: its SocketMode= and SocketGroup= hold, and not the config's"
        );
    }
    Ok((socket, callers))
}

/// Where the daemon listens: the first place that is named, else the usual one of its user.
fn socket_path(options: &Options, config: &Config, env: Env) -> Option<PathBuf> {
    let named = options.socket.clone();
    named
        .or_else(|| path_in(env, "DOMO_TOKEN_SOCKET"))
        .or_else(|| config.socket.clone())
        .or_else(|| usual_place(env))
}

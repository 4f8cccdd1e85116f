//! Where the daemon listens, and who may connect.

use std::path::PathBuf;

use domo_token_client::parse_socket_path::SocketPath;
use tracing::warn;

use super::{DaemonError, Options, runtime_directory};
use crate::config::{Config, Env, path_in};
use crate::platform::systemd::InheritedListener;
use crate::server::{Callers, Socket, default_path};

/// Returns the inherited sockets, or locks the path of one to bind, and who may open it.
pub(super) fn claim(
    inherited: Vec<InheritedListener>,
    options: &Options,
    config: &Config,
    env: Env,
) -> Result<(Socket, Callers), DaemonError> {
    let mut inherited = inherited.into_iter();
    let socket = if let Some(first) = inherited.next() {
        Socket::inherited(first, inherited.collect())
    } else {
        let path = socket_path(options, config, env)?;
        let locked = Socket::lock(&path, config.broker.shared_directory);
        let foreign = || runtime_directory::advice_if_foreign(env, &path);
        locked.map_err(|error| foreign().map_or(error.into(), DaemonError::SocketPath))?
    };
    let callers = Callers::of(config).map_err(DaemonError::Group)?;
    if socket.is_inherited() && callers != Callers::default() {
        warn!(
            "systemd bound the socket; SocketMode and SocketGroup of the socket unit apply, not the config"
        );
    }
    Ok((socket, callers))
}

/// Checks where the daemon would listen: the path as text, and what is there. A service manager may set
/// the path only at a start, so a missing one is no error here.
///
/// # Errors
///
/// [`DaemonError::SocketPath`] or [`DaemonError::Bind`].
pub fn check_socket(options: &Options, config: &Config, env: Env) -> Result<(), DaemonError> {
    match socket_path(options, config, env) {
        Ok(path) => Ok(Socket::check_kind(&path)?),
        Err(DaemonError::NoSocket(_)) => Ok(()),
        Err(error) => Err(error),
    }
}

/// Returns the socket's path: of the flag, the variable or the config, else the default of this user.
/// Flag and variable may be the `unix:` URL of a path, as they may for callers.
fn socket_path(options: &Options, config: &Config, env: Env) -> Result<PathBuf, DaemonError> {
    let home = path_in(env, "HOME");
    let read = |name: &str, value: PathBuf| {
        let path = SocketPath::read(value.as_os_str(), home.as_deref());
        path.map(SocketPath::into_path).map_err(|problem| {
            let value = value.display();
            DaemonError::SocketPath(format!("{name} \"{value}\": {problem}"))
        })
    };
    if let Some(flag) = options.socket.clone() {
        return read("--socket", flag);
    }
    if let Some(variable) = path_in(env, "DOMO_TOKEN_SOCKET") {
        return read("$DOMO_TOKEN_SOCKET is", variable);
    }
    let path = config.broker.socket.clone().or_else(|| default_path(env));
    path.ok_or_else(|| DaemonError::NoSocket(runtime_directory::advice(env)))
}

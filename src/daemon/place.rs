//! Where the daemon listens, and for which group.

use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

use tracing::warn;

use super::{DaemonError, Options};
use crate::config::{self, Config, Env};
use crate::ipc::Socket;
use crate::policy::Principal;
use crate::users;

/// The name of the socket in whichever directory it is.
const SOCKET_NAME: &str = "broker.sock";

/// The socket that was handed over, or the right to bind one, and the group it is for.
pub(super) fn take(
    handed_over: Option<UnixListener>,
    options: &Options,
    config: &Config,
    env: Env,
) -> Result<(Socket, Option<u32>), DaemonError> {
    let socket = if let Some(listener) = handed_over {
        Socket::inherited(listener)
    } else {
        let path = socket_path(options, config, env).ok_or(DaemonError::NoSocket)?;
        Socket::lock(&path, config.shared_directory)?
    };
    let group = socket_group(config)?;
    if socket.is_inherited() && (group.is_some() || config.socket_mode != config::SOCKET_MODE) {
        warn!(
            "systemd has bound the socket: its SocketMode= and SocketGroup= hold, and not the config's"
        );
    }
    Ok((socket, group))
}

/// The group that the socket is given to, if the config names one.
///
/// # Errors
///
/// [`DaemonError::Group`] if there is none of that name, or it is our own.
pub fn socket_group(config: &Config) -> Result<Option<u32>, DaemonError> {
    let group = match &config.socket_group {
        None => return Ok(None),
        Some(Principal::Id(id)) => *id,
        Some(Principal::Name(name)) => {
            let unknown = "there is no such group; add it, or name another";
            users::group(name).ok_or(DaemonError::Group(unknown))?
        }
    };
    if group == rustix::process::getegid().as_raw() {
        let own = "this is the daemon's own group, which its files may be open to; name another";
        return Err(DaemonError::Group(own));
    }
    Ok(Some(group))
}

/// Where the daemon listens: the first place that is named, else the usual one of its user.
fn socket_path(options: &Options, config: &Config, env: Env) -> Option<PathBuf> {
    let variable = |name| {
        env(name)
            .filter(|value| !value.is_empty())
            .map(PathBuf::from)
    };
    let runtime = || {
        let directories = env("RUNTIME_DIRECTORY").filter(|value| !value.is_empty())?;
        let first = std::env::split_paths(&directories).next()?;
        Some(first.join(SOCKET_NAME))
    };
    let root = || {
        rustix::process::geteuid()
            .is_root()
            .then(|| Path::new("/run/domo-token").join(SOCKET_NAME))
    };
    let user = || {
        Some(
            variable("XDG_RUNTIME_DIR")?
                .join("domo-token")
                .join(SOCKET_NAME),
        )
    };
    let named = options
        .socket
        .clone()
        .or_else(|| variable("DOMO_TOKEN_SOCKET"));
    named
        .or_else(|| config.socket.clone())
        .or_else(runtime)
        .or_else(root)
        .or_else(user)
}

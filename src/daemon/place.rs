//! Where the daemon listens, and for whom.

use std::path::PathBuf;
use std::pin::pin;

use domo_token_client::socket_path::SocketPath;
use tokio::sync::mpsc;
use tracing::warn;

use super::load::Stamped;
use super::{DaemonError, Options, runtime_directory};
use crate::config::{Config, Env, path_in};
use crate::platform::file_watch::Files;
use crate::platform::signals::Signal;
use crate::platform::systemd::InheritedListener;
use crate::server::{BindError, Callers, Socket, usual_place};

/// The sockets that were handed over, or the right to bind one, and who may open it.
pub(super) fn take(
    handed_over: Vec<InheritedListener>,
    options: &Options,
    config: &Config,
    env: Env,
) -> Result<(Socket, Callers), DaemonError> {
    let mut handed_over = handed_over.into_iter();
    let socket = if let Some(first) = handed_over.next() {
        Socket::inherited(first, handed_over.collect())
    } else {
        let path = socket_path(options, config, env)?;
        let locked = Socket::lock(&path, config.broker.shared_directory);
        let foreign = || runtime_directory::advice_if_foreign(env, &path);
        locked.map_err(|error| foreign().map_or(error.into(), DaemonError::SocketPath))?
    };
    let callers = Callers::of(config).map_err(DaemonError::Group)?;
    if socket.is_inherited() && callers != Callers::default() {
        warn!(
            "systemd has bound the socket: its SocketMode= and SocketGroup= hold, and not the config's"
        );
    }
    Ok((socket, callers))
}

/// Checks where the daemon would listen: the path as text, and what is there. A service manager may name
/// the place only at a start, so none is no error here.
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

/// Watches the files that the daemon was loaded from, and its sockets, whose changes are received.
pub(super) fn watch(files: Stamped, socket: &Socket) -> (Files, mpsc::Receiver<()>) {
    let mut watched = Files::new();
    watched.watch(files);
    let hints = watched.watch_socket(socket.watched());
    (watched, hints)
}

/// Passes the `signals` on to `receiver` until the socket needs no keeper any more. Once it is lost for
/// good the daemon is ended as by a signal.
pub(super) async fn end_if_lost(
    kept: impl Future<Output = Result<(), BindError>>,
    mut signals: mpsc::Receiver<Signal>,
    receiver: mpsc::Sender<Signal>,
) -> Result<(), DaemonError> {
    let mut kept = pin!(kept);
    let mut open = true;
    // A receiver that has ended already needs no signal.
    loop {
        tokio::select! {
            kept = &mut kept => {
                if kept.is_err() {
                    let _ = receiver.send(Signal::Stop).await;
                }
                return kept.map_err(DaemonError::SocketLost);
            }
            signal = signals.recv(), if open => {
                open = signal.is_some();
                let _ = receiver.send(signal.unwrap_or(Signal::Stop)).await;
            }
        }
    }
}

/// Where the daemon listens: the first place that is named, else the usual one of its user. Flag and
/// variable may be the `unix:` URL of a path, as they may for callers.
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
    let unnamed = config.broker.socket.clone().or_else(|| usual_place(env));
    unnamed.ok_or_else(|| DaemonError::NoSocket(runtime_directory::advice(env)))
}

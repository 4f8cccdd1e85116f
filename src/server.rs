//! The socket: accepts callers, and serves each of them in a session of its own.
//!
//! - `socket`: binds the Unix socket, or creates the named pipe on Windows, and accepts from it.
//! - `stream`: one connection, as sessions read and write it.
//! - `peer`: what the kernel reports of a caller, the systemd unit included.
//! - `identities`: users and groups from the user database.
//! - `attestor`: makes callers of peers.
//! - `slot_table`, `round_robin`: how users share connections, and in which order their requests are served.
//! - `connection_limits`: connections in all and per user, watchers per user.
//! - `frames`: the answers of the API as messages of the protocol.
//! - `reject`: callers past a limit, or of a daemon that cannot start.
//! - `session`: one connection: protocol version, deadlines, one request at a time.

mod attestor;
mod slot_table;
mod identities;
mod reject;
#[cfg_attr(windows, path = "server/stream_windows.rs")]
mod stream;
mod peer;
mod connection_limits;
mod session;
#[cfg_attr(windows, path = "server/socket_windows.rs")]
mod socket;
mod round_robin;

use std::io;
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::task::{JoinSet, yield_now};
use tokio_util::sync::CancellationToken;
use tracing::{debug, error, warn};

use crate::broker::Broker;
use crate::config::Limits;
use crate::platform::clock::{BootTime, Clock, boot_now};

use attestor::Attestor;
use connection_limits::ConnectionLimits;
use session::Connection;
use socket::{Listener, Stream};

pub use connection_limits::clamp_to_nofile;
pub use peer::Peer;
#[cfg(unix)]
pub use reject::reject_backlog;
pub use socket::{Callers, Socket, usual_place};

/// How long callers that wait are given to take their last answer when the daemon stops.
const DRAIN: Duration = Duration::from_secs(1);

/// How long accepting rests when the system is out of descriptors or memory.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// The least time between two warnings that callers can't be accepted.
const WARN_EVERY: Duration = Duration::from_secs(60);

/// Why the socket can't be had.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// Another daemon serves this path.
    #[error("{path}: another domo-tokend serves this socket; stop it, or choose another --socket", path = .0.display())]
    InUse(PathBuf),
    /// Something about the path is not as it must be.
    #[error("{path}: {problem}", path = .path.display())]
    Path {
        /// The file or directory.
        path: PathBuf,
        /// What is wrong and what to do.
        problem: String,
        /// Whether it is only that no descriptor is left.
        is_exhausted: bool,
    },
}

fn path_error(path: &Path, problem: &str) -> BindError {
    BindError::Path {
        path: path.to_owned(),
        problem: problem.to_owned(),
        is_exhausted: false,
    }
}

/// Serves callers within `limits` until `stop` is cancelled, then lets those that wait receive their last
/// answer.
pub async fn serve<C: Clock>(
    mut listener: Listener,
    broker: Broker<C>,
    limits: Limits,
    stop: CancellationToken,
) {
    let server = Server {
        broker: Arc::new(broker),
        limits: ConnectionLimits::new(limits),
        attestor: Attestor::new(),
        end_sessions: CancellationToken::new(),
    };
    let mut warned: Option<BootTime> = None;
    let mut sessions = JoinSet::new();
    let mut empty: Option<BootTime> = None;
    let mut accepts_left = server.limits.accepts_per_turn();
    let mut stopped = pin!(stop.cancelled());
    loop {
        empty = peer::backlog_empty_at(&listener).or(empty);
        let accepted = tokio::select! {
            // Sessions that have ended keep their memory until they are joined, and callers may come
            // without a pause.
            biased;
            () = &mut stopped => break,
            Some(ended) = sessions.join_next(), if !sessions.is_empty() => {
                report_panic(ended);
                continue;
            }
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok(stream) => {
                let peer = Peer::of(&stream, empty);
                server.admit(stream, peer, &mut sessions).await;
                accepts_left -= 1;
                if accepts_left == 0 {
                    accepts_left = server.limits.accepts_per_turn();
                    // New sessions read what their callers have sent, and replaced ones end.
                    yield_now().await;
                }
            }
            Err(error) if is_of_one_caller(&error) => {}
            Err(error) => {
                log_accept_error(&mut warned, &error);
                // The caller stays in the backlog, and trying again immediately would only burn the
                // processor. No accept error ends the daemon.
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
    // The system refuses callers that connect now. They try again, which finds the next daemon.
    drop(listener);
    server.stop(sessions).await;
}

/// What all sessions share.
struct Server<C> {
    broker: Arc<Broker<C>>,
    limits: Arc<ConnectionLimits>,
    attestor: Attestor,
    end_sessions: CancellationToken,
}

impl<C: Clock> Server<C> {
    /// Starts a session for a caller, or rejects it if there is no room.
    async fn admit(&self, stream: Stream, peer: Peer, sessions: &mut JoinSet<()>) {
        let accepted = boot_now();
        match self.limits.acquire(&peer, accepted) {
            Ok(permit) => {
                let slot = permit.slot();
                let connection = Box::new(Connection {
                    stream,
                    peer,
                    permit,
                    accepted,
                });
                let (broker, stop) = (Arc::clone(&self.broker), self.end_sessions.clone());
                let session = session::run(connection, self.attestor.clone(), broker, stop);
                // The slot is new, so that there is no session yet.
                let _ = slot.holder.set(sessions.spawn(session));
            }
            // Before the next accept, so that rejected callers never hold more than one descriptor.
            Err(cause) => reject::reject(stream, cause, accepted).await,
        }
    }

    /// Ends all sessions. Those that have not ended after [`DRAIN`] are dropped with the set.
    async fn stop(&self, mut sessions: JoinSet<()>) {
        self.broker.shut_down();
        self.end_sessions.cancel();
        let drained = async {
            while let Some(ended) = sessions.join_next().await {
                report_panic(ended);
            }
        };
        let _ = tokio::time::timeout(DRAIN, drained).await;
    }
}

/// Logs an accept error: as a warning now and then, else at debug level.
fn log_accept_error(warned: &mut Option<BootTime>, error: &io::Error) {
    let now = boot_now();
    if warned.is_none_or(|warned| now.saturating_since(warned) >= WARN_EVERY) {
        *warned = Some(now);
        warn!("callers can't be accepted for now: {error}");
    } else {
        debug!("callers still can't be accepted: {error}");
    }
}

/// Whether an accept error is about one caller that has left.
fn is_of_one_caller(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted | io::ErrorKind::Interrupted | io::ErrorKind::WouldBlock
    )
}

fn report_panic(ended: Result<(), tokio::task::JoinError>) {
    if ended.is_err_and(|error| error.is_panic()) {
        error!("a caller's session ended by a bug; the others go on");
    }
}

#[cfg(all(unix, any(test, fuzzing)))]
pub(crate) use peer::fuzzing;

#[cfg(test)]
mod tests;

//! The socket: accepts callers, and serves each of them in its own session.
//!
//! - `socket`: binds the Unix socket, or creates the named pipe on Windows, and accepts from it.
//! - `stream`: one connection, as sessions read and write it.
//! - `peer`: what the kernel reports of a caller, the systemd unit included.
//! - `identities`: users and groups from the user database.
//! - `attestor`: identifies peers: user, groups, systemd unit.
//! - `slot_table`, `round_robin`: how users share connections, and in which order their requests are served.
//! - `connection_limits`: connections in all and per user, watchers per user.
//! - `sniff`: which protocol a caller speaks.
//! - `session`: one connection: who it is, its bytes, deadlines.
//! - `frames`: requests and answers in frames.
//! - `http`: requests and answers over HTTP/1.1.
//! - `reject`: rejects callers past a limit, or of a daemon that cannot start.

mod attestor;
mod slot_table;
mod frames;
mod http;
mod identities;
mod reject;
mod sniff;
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
use reject::Rejecter;
use session::{Connection, Shared};
use socket::{Listener, Stream};

pub use connection_limits::clamp_to_nofile;
pub use peer::Peer;
#[cfg(unix)]
pub use reject::reject_backlog;
pub use socket::{Callers, Socket, default_path};

/// How long waiting callers have to receive their last answer when the daemon stops.
const DRAIN: Duration = Duration::from_secs(1);

/// How long accepting pauses when the system is out of descriptors or memory.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// The least time between two warnings of one kind.
const WARN_EVERY: Duration = Duration::from_secs(60);

/// When a warning was last logged.
#[derive(Debug, Default)]
struct WarnLimit(Option<BootTime>);

impl WarnLimit {
    /// Returns whether the warning is to be logged now, which counts as logged.
    fn is_due(&mut self, now: BootTime) -> bool {
        let is_due = self
            .0
            .is_none_or(|last| now.saturating_since(last) >= WARN_EVERY);
        if is_due {
            self.0 = Some(now);
        }
        is_due
    }
}

/// Why the socket cannot be bound.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// Another daemon serves this path.
    #[error("{path}: another domo-tokend serves this socket; stop it, or choose another socket with \
             --socket", path = .0.display())]
    InUse(PathBuf),
    /// The path cannot be used.
    #[error("{path}: {problem}", path = .path.display())]
    Path {
        /// The file or directory.
        path: PathBuf,
        /// What is wrong, and what to do.
        problem: String,
        /// Whether the cause is that no descriptor is left.
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

/// What a server needs to know besides its broker.
#[derive(Clone, Debug)]
pub struct Settings {
    pub limits: Limits,
    /// The path of the socket, which responses name.
    pub socket: PathBuf,
    /// Whether HTTP is served.
    pub http: bool,
}

/// Serves callers until `stop` is cancelled, and then sends waiting ones their last answer.
pub async fn serve<C: Clock>(
    mut listener: Listener,
    broker: Broker<C>,
    settings: Settings,
    stop: CancellationToken,
) {
    let server = Arc::new(Server::new(broker, settings));
    let mut warn_limit = WarnLimit::default();
    let mut sessions = JoinSet::new();
    let mut empty: Option<BootTime> = None;
    let mut accepts_left = server.limits.accepts_per_turn();
    let mut stopped = pin!(stop.cancelled());
    loop {
        empty = peer::backlog_empty_at(&listener).or(empty);
        let accepted = tokio::select! {
            // First, because ended sessions keep their memory until they are joined, and callers may connect
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
                log_accept_error(&mut warn_limit, &error);
                // The caller stays in the backlog, and trying again immediately would only burn the
                // processor. No accept error ends the daemon.
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
    // Connections are refused from now on. Clients try again, and then reach the next daemon.
    drop(listener);
    server.stop(sessions).await;
}

/// What all sessions share.
struct Server<C> {
    broker: Broker<C>,
    limits: Arc<ConnectionLimits>,
    rejecter: Rejecter,
    shared: Arc<Shared>,
    end_sessions: CancellationToken,
}

impl<C: Clock> Server<C> {
    fn new(broker: Broker<C>, settings: Settings) -> Self {
        Self {
            broker,
            limits: ConnectionLimits::new(settings.limits),
            rejecter: Rejecter::new(settings.http),
            shared: Arc::new(Shared {
                attestor: Attestor::new(),
                socket: settings.socket,
                http: settings.http,
            }),
            end_sessions: CancellationToken::new(),
        }
    }

    /// Starts a session for a caller, or rejects it if there is no room.
    async fn admit(self: &Arc<Self>, stream: Stream, peer: Peer, sessions: &mut JoinSet<()>) {
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
                let session = session::run(connection, Arc::clone(self));
                // The slot is new, so that there is no session yet.
                let _ = slot.holder.set(sessions.spawn(session));
            }
            // Before the next accept, so that rejected callers hold few descriptors.
            Err(cause) => {
                if let Some(waiting) = self.rejecter.reject(stream, cause, accepted).await {
                    sessions.spawn(waiting);
                }
            }
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
fn log_accept_error(limit: &mut WarnLimit, error: &io::Error) {
    if limit.is_due(boot_now()) {
        warn!("cannot accept connections: {error}");
    } else {
        debug!("still cannot accept connections: {error}");
    }
}

/// Returns whether an accept error concerns one caller that has disconnected.
fn is_of_one_caller(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted | io::ErrorKind::Interrupted | io::ErrorKind::WouldBlock
    )
}

fn report_panic(ended: Result<(), tokio::task::JoinError>) {
    if ended.is_err_and(|error| error.is_panic()) {
        error!("the session of a caller panicked; other sessions continue; please report this bug");
    }
}

#[cfg(all(unix, any(test, fuzzing)))]
pub(crate) mod fuzzing;

#[cfg(test)]
mod tests;

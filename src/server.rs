//! The door: accepts callers and starts a session for each.

mod attestor;
mod bind;
mod fair_share;
mod frames;
mod identities;
mod reject;
mod stream;
mod peer;
#[cfg(windows)]
mod pipe;
mod connection_limits;
mod session;
#[cfg(unix)]
mod socket;
mod request_fairness;

use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::task::{JoinSet, yield_now};
use tokio_util::sync::CancellationToken;
use tracing::{debug, error, warn};

use crate::broker::Broker;
use crate::config::Limits;
use crate::platform::clock::{BootTime, Clock, boot_now};

#[cfg(windows)]
use pipe as platform;
#[cfg(unix)]
use socket as platform;

use attestor::Attestor;
use connection_limits::ConnectionLimits;
use platform::{Listener, Stream};
use session::Connection;

pub use bind::BindError;
pub use connection_limits::clamp_to_nofile;
pub use peer::Peer;
pub use platform::{Callers, Socket, usual_place};
#[cfg(unix)]
pub use reject::reject_backlog;

/// How long callers that wait are given to take their last answer when the daemon stops.
const DRAIN: Duration = Duration::from_secs(1);

/// How long accepting rests when the system is out of descriptors or memory.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// How often the operator hears that callers can't be accepted.
const TELL_EVERY: Duration = Duration::from_secs(60);

/// Serves callers within `limits` until `stop` is cancelled, then lets those who wait have their last
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
    let mut told: Option<BootTime> = None;
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
            Err(error) if is_callers(&error) => {}
            Err(error) => {
                tell(&mut told, &error);
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
                let place = permit.place();
                let connection = Box::new(Connection {
                    stream,
                    peer,
                    permit,
                    accepted,
                });
                let (broker, stop) = (Arc::clone(&self.broker), self.end_sessions.clone());
                let session = session::run(connection, self.attestor.clone(), broker, stop);
                // The place is new, so that there is no session yet.
                let _ = place.holder.set(sessions.spawn(session));
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

/// Loudly now and then, else quietly.
fn tell(told: &mut Option<BootTime>, error: &io::Error) {
    let now = boot_now();
    if told.is_none_or(|told| now.saturating_since(told) >= TELL_EVERY) {
        *told = Some(now);
        warn!("callers can't be accepted for now: {error}");
    } else {
        debug!("callers still can't be accepted: {error}");
    }
}

/// Whether an accept error is about one caller that has left.
fn is_callers(error: &io::Error) -> bool {
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

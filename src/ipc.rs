//! The door: accepts callers and starts a session for each.

mod line;
mod peer;
mod seats;
mod session;
mod socket;

use std::io;
use std::sync::Arc;
use std::time::Duration;

use interprocess::local_socket::tokio::{Listener, Stream};
use interprocess::local_socket::traits::tokio::Listener as _;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tracing::{error, warn};

use crate::broker::Broker;
use crate::clock::Clock;
use crate::config::Limits;

use seats::{Seat, Seats};

pub use peer::Peer;
pub use seats::fit;
pub use socket::{BindError, Socket};

/// How long callers that wait are given to take their last answer when the daemon stops.
const DRAIN: Duration = Duration::from_secs(1);

/// How long accepting rests when the system is out of descriptors or memory.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Serves callers within `limits` until `stop` turns true, then lets those who wait have their last answer.
pub async fn serve<C: Clock>(
    listener: Listener,
    broker: Broker<C>,
    limits: Limits,
    mut stop: watch::Receiver<bool>,
) {
    let broker = Arc::new(broker);
    let seats = Seats::new(limits);
    let mut sessions = JoinSet::new();
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            Some(ended) = sessions.join_next(), if !sessions.is_empty() => {
                report_panic(ended);
                continue;
            }
            _stopped = stop.wait_for(|stop| *stop) => break,
        };
        match accepted {
            Ok(stream) => {
                let peer = Peer::of(&stream);
                let seat = seats.take(&peer);
                let broker = Arc::clone(&broker);
                sessions.spawn(greet(stream, peer, seat, broker, stop.clone()));
            }
            Err(error) => rest_if_short(&error).await,
        }
    }
    // Whoever comes now is refused by the system and tries again, which finds the next daemon.
    drop(listener);
    let drained = async {
        while let Some(ended) = sessions.join_next().await {
            report_panic(ended);
        }
    };
    // Whoever hasn't taken its answer by then is cut off when the set is dropped.
    let _late = tokio::time::timeout(DRAIN, drained).await;
}

async fn greet<C: Clock>(
    stream: Stream,
    peer: Peer,
    seat: Result<Seat, String>,
    broker: Arc<Broker<C>>,
    stop: watch::Receiver<bool>,
) {
    let _counted = broker.arrive();
    match seat {
        Ok(seat) => session::run(stream, peer, seat, &broker, stop).await,
        Err(cause) => session::turn_away(stream, peer, cause).await,
    }
}

/// No accept error ends the daemon. When descriptors are short the caller stays in the backlog,
/// and trying again at once would only burn the processor.
async fn rest_if_short(error: &io::Error) {
    let is_callers = matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted | io::ErrorKind::Interrupted | io::ErrorKind::WouldBlock
    );
    if !is_callers {
        warn!("a caller can't be accepted: {error}");
        tokio::time::sleep(ACCEPT_PAUSE).await;
    }
}

fn report_panic(ended: Result<(), tokio::task::JoinError>) {
    if ended.is_err_and(|error| error.is_panic()) {
        error!("a caller's session ended by a bug; the others go on");
    }
}

#[cfg(test)]
mod tests;

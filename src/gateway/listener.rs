//! Accepts connections of applications, with and without TLS.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::task::{JoinSet, yield_now};
use tokio::time::{sleep, sleep_until, timeout};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use super::Gateway;
use super::connection::Connection;
use super::limits::Place;
use crate::connect::Stream;
use crate::platform::clock::{BootTime, Clock, boot_now, timer_now};
use crate::platform::descriptors::{RAISE_LIMIT, is_exhausted};

/// How long accepting pauses when the system is out of descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// How often a failure to accept is a warning.
const WARN_INTERVAL: Duration = Duration::from_secs(60);

/// How an application connects.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Scheme {
    Http,
    Https,
}

impl Scheme {
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Https => "https",
        }
    }
}

/// Serves the connections of one listener until `stop` is cancelled, and then what is in flight.
pub(super) async fn serve<C: Clock>(
    listener: TcpListener,
    scheme: Scheme,
    gateway: Gateway<C>,
    stop: CancellationToken,
) {
    let mut tasks = JoinSet::new();
    let mut last_warning = None;
    loop {
        let now = timer_now();
        let full_until = gateway.0.places.full_until().filter(|until| *until > now);
        let accepted = tokio::select! {
            biased;
            () = stop.cancelled() => break,
            Some(_) = tasks.join_next(), if !tasks.is_empty() => continue,
            () = sleep_until(full_until.unwrap_or(now)), if full_until.is_some() => continue,
            accepted = listener.accept(), if full_until.is_none() => accepted,
        };
        match accepted {
            Ok((stream, _)) => {
                let (place, slot) = gateway.0.places.enter(timer_now());
                let served = serve_stream(stream, scheme, gateway.clone(), place, stop.clone());
                let task = tasks.spawn(served);
                // It is set once.
                slot.set(task).ok();
                // It may show its credentials before the next one takes a place.
                yield_now().await;
            }
            Err(error) => {
                report(&error, &mut last_warning);
                sleep(ACCEPT_PAUSE).await;
            }
        }
    }
    drop(listener);
    let finished = async { while tasks.join_next().await.is_some() {} };
    if timeout(gateway.0.timing.stop, finished).await.is_err() {
        debug!("requests of applications did not end in time; their connections are closed");
    }
}

fn report(error: &io::Error, last_warning: &mut Option<BootTime>) {
    let now = boot_now();
    let is_recent = |last: BootTime| now.saturating_since(last) < WARN_INTERVAL;
    if last_warning.is_some_and(is_recent) {
        debug!("cannot accept a connection of an application: {error}");
        return;
    }
    *last_warning = Some(now);
    let hint = if is_exhausted(error) { RAISE_LIMIT } else { "" };
    warn!("cannot accept connections of applications: {error}{hint}");
}

async fn serve_stream<C: Clock>(
    stream: TcpStream,
    scheme: Scheme,
    gateway: Gateway<C>,
    place: Place,
    stop: CancellationToken,
) {
    let deadline = timer_now() + gateway.0.timing.first_head;
    // Requests are small. A failure only costs time.
    let _ = stream.set_nodelay(true);
    let stream: Box<dyn Stream> = match scheme {
        Scheme::Http => Box::new(stream),
        Scheme::Https => {
            let Some(config) = gateway.state().tls.clone() else {
                return;
            };
            let accepting = TlsAcceptor::from(Arc::clone(&config)).accept(stream);
            match tokio::time::timeout_at(deadline, accepting).await {
                Ok(Ok(stream)) => Box::new(stream),
                Ok(Err(error)) => {
                    debug!("no TLS handshake with an application: {error}");
                    return;
                }
                Err(_) => return,
            }
        }
    };
    Connection::new(stream, scheme, gateway, place, deadline)
        .run(stop)
        .await;
}

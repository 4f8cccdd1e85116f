//! Connections to the server of an API: through the client's connector, and kept for a while after each request.

use std::future::poll_fn;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::task::Poll;
use std::time::Duration;

use tokio::time::{Instant, sleep_until};
use url::{Position, Url};

use super::buffer::Link;
use crate::connect::{self, Connector, Diagnosis, is_closed, one_line};
use crate::platform::clock::timer_now;

/// The most connections that are kept.
const MAX_IDLE: usize = 16;

/// How long a connection is kept: less than most servers and load balancers do, because a request on a connection that
/// the server closes at the same moment is lost.
const MAX_IDLE_TIME: Duration = Duration::from_secs(15);

/// How long a connection may take, the lookup of the name included.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(30);

/// The server of an API.
pub(super) struct Upstream {
    url: Url,
    /// The value of Host.
    host: String,
    /// `None` if the client is not loaded.
    connector: Option<Arc<Connector>>,
    idle: Mutex<Idle>,
}

#[derive(Default)]
struct Idle {
    /// The longest kept first.
    links: Vec<(ServerLink, Instant)>,
    /// Whether a task closes them in time.
    has_closer: bool,
}

/// A connection to the server.
pub(super) struct ServerLink {
    pub(super) link: Link,
    diagnosis: Diagnosis,
    /// Whether it has carried a request before.
    pub(super) is_reused: bool,
}

/// Why there is no response of the server.
#[derive(Debug)]
pub(super) enum UpstreamError {
    /// The connection or the response cannot be used: one line without secrets.
    Failed(String),
    /// There is none in time.
    NoAnswer,
}

impl Upstream {
    pub(super) fn new(url: Url, connector: Option<Arc<Connector>>) -> Arc<Self> {
        Arc::new(Self {
            host: url[Position::BeforeHost..Position::AfterPort].to_owned(),
            url,
            connector,
            idle: Mutex::default(),
        })
    }

    /// Returns whether it connects to the same server in the same way.
    pub(super) fn is(&self, url: &Url, connector: Option<&Arc<Connector>>) -> bool {
        let pointer = |connector: Option<&Arc<Connector>>| connector.map(Arc::as_ptr);
        self.url == *url && pointer(self.connector.as_ref()) == pointer(connector)
    }

    pub(super) fn url(&self) -> &Url {
        &self.url
    }

    pub(super) fn host(&self) -> &str {
        &self.host
    }

    /// Returns a kept connection that the server has not closed, or a new one.
    ///
    /// # Errors
    ///
    /// The connector's message.
    pub(super) async fn connection(&self) -> Result<ServerLink, UpstreamError> {
        loop {
            let Some((mut server, _)) = self.idle().links.pop() else {
                // Boxed, because most requests need none of its memory.
                return Box::pin(self.connect()).await;
            };
            let is_usable = poll_fn(|context| {
                let is_closed = server.link.poll_closed(context).is_ready();
                // A server that sends without a request is out of step.
                Poll::Ready(!is_closed && server.link.buffer.is_empty())
            });
            if is_usable.await {
                return Ok(server);
            }
        }
    }

    /// Returns a new connection.
    ///
    /// # Errors
    ///
    /// The connector's message.
    pub(super) async fn connect(&self) -> Result<ServerLink, UpstreamError> {
        let deadline = timer_now() + CONNECT_TIMEOUT;
        let connector = self.connector.as_ref().ok_or_else(|| {
            UpstreamError::Failed("the client of the application is not loaded".to_owned())
        })?;
        let connected = connector.connect(&self.url, deadline, &|| {}).await;
        let connection =
            connected.map_err(|error| UpstreamError::Failed(one_line(&error.message)))?;
        Ok(ServerLink {
            link: Link::new(connection.stream),
            diagnosis: connection.diagnosis,
            is_reused: false,
        })
    }

    /// Keeps a connection, whose last response is complete, for other requests.
    pub(super) fn keep(self: &Arc<Self>, mut server: ServerLink) {
        server.is_reused = true;
        server.link.buffer.shrink();
        let now = timer_now();
        let mut idle = self.idle();
        if idle.links.len() == MAX_IDLE {
            idle.links.remove(0);
        }
        idle.links.push((server, now));
        if !idle.has_closer {
            idle.has_closer = true;
            tokio::spawn(close_idle(Arc::downgrade(self), now + MAX_IDLE_TIME));
        }
    }

    /// Returns why a connection has ended before a response.
    pub(super) fn failure(&self, server: &ServerLink, error: &std::io::Error) -> UpstreamError {
        if let Some(explained) = server.diagnosis.explain(error) {
            return UpstreamError::Failed(one_line(&explained.message));
        }
        let name = connect::display_name(&self.url, None);
        let hint = server.diagnosis.hint();
        UpstreamError::Failed(if is_closed(error) {
            format!("{name} closed the connection before its response was complete{hint}")
        } else {
            let cause = one_line(&error.to_string());
            format!("the connection to {name} failed: {cause}{hint}")
        })
    }

    fn idle(&self) -> MutexGuard<'_, Idle> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Closes what was kept for too long. Returns when that is to be done again; `None` if none is kept.
    fn close_old(&self, now: Instant) -> Option<Instant> {
        let mut idle = self.idle();
        idle.links.retain(|(_, since)| *since + MAX_IDLE_TIME > now);
        let next = idle.links.first().map(|(_, since)| *since + MAX_IDLE_TIME);
        idle.has_closer = next.is_some();
        next
    }
}

/// Closes kept connections in time, until none is kept.
async fn close_idle(upstream: Weak<Upstream>, mut due: Instant) {
    loop {
        sleep_until(due).await;
        let Some(upstream) = upstream.upgrade() else {
            return;
        };
        match upstream.close_old(timer_now()) {
            Some(next) => due = next,
            None => return,
        }
    }
}

//! Metrics and health over HTTP, on a loopback port: `/metrics`, `/livez`, `/readyz` and
//! `/readyz/{client}/{scope}`. Live means that the broker's loop answers; ready means that there is a valid
//! token.
//!
//! Web pages in a browser of this machine can send requests here, too: requests with another host or with an
//! origin are rejected.

mod connections;

use std::convert::Infallible;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::header::{CONTENT_TYPE, HOST, HeaderMap, HeaderValue, ORIGIN};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use percent_encoding::percent_decode_str;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{JoinSet, yield_now};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tracing::debug;

use crate::api;
use crate::broker::{Broker, METRICS_TYPE};
use crate::platform::clock::{BootTime, Clock, boot_now};
use domo_token_core::access_policy::Caller;

use connections::Connections;

/// The most open connections; a further one replaces another.
const MAX_CONNECTIONS: usize = 16;

/// How many connections are accepted before the task yields to those that are open.
const ACCEPTS_PER_TURN: usize = 4;

/// How long the request's head may take.
const HEAD_TIMEOUT: Duration = Duration::from_secs(1);

/// How long a connection may last in total; each has one request.
const CONNECTION_TIMEOUT: Duration = Duration::from_secs(10);

/// How long the text of the metrics is served before it is rendered again.
const METRICS_MAX_AGE: Duration = Duration::from_secs(1);

/// How long accepting pauses when the system is out of descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Binds and listens.
///
/// # Errors
///
/// If the address is in use, or not this machine's.
///
/// # Panics
///
/// Outside a tokio runtime.
pub fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    let listener = std::net::TcpListener::bind(address)?;
    listener.set_nonblocking(true)?;
    TcpListener::from_std(listener)
}

/// Serves until `stop` is cancelled.
pub async fn serve<C: Clock>(listener: TcpListener, broker: Broker<C>, stop: CancellationToken) {
    let health = Arc::new(Health::new(broker));
    let accepting = async {
        let mut tasks = JoinSet::new();
        let mut open = Connections::default();
        let mut accepts_left = ACCEPTS_PER_TURN;
        loop {
            let accepted = tokio::select! {
                biased;
                Some(_) = tasks.join_next(), if !tasks.is_empty() => continue,
                accepted = listener.accept() => accepted,
            };
            match accepted {
                Ok((stream, _)) => {
                    let health = Arc::clone(&health);
                    let has_request = Arc::new(AtomicBool::new(false));
                    let notice = Arc::clone(&has_request);
                    let task = tasks.spawn(async move {
                        timeout(CONNECTION_TIMEOUT, health.serve(stream, &notice))
                            .await
                            .ok();
                    });
                    open.add(task, has_request, MAX_CONNECTIONS);
                }
                Err(error) => {
                    debug!("cannot accept a metrics connection: {error}");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
            accepts_left -= 1;
            if accepts_left == 0 {
                accepts_left = ACCEPTS_PER_TURN;
                yield_now().await;
            }
        }
    };
    tokio::select! {
        () = accepting => {}
        () = stop.cancelled() => {}
    }
}

struct Health<C> {
    broker: Broker<C>,
    /// Every local user may connect, so the config that enables the port permits them all.
    caller: Caller,
    /// The text of the metrics, and when it was made.
    metrics: Mutex<Option<(BootTime, Bytes)>>,
}

type Answer = Response<Full<Bytes>>;

impl<C: Clock> Health<C> {
    fn new(broker: Broker<C>) -> Self {
        Self {
            broker,
            caller: Caller {
                privileged: true,
                ..Caller::default()
            },
            metrics: Mutex::new(None),
        }
    }

    async fn serve(&self, stream: TcpStream, has_request: &AtomicBool) {
        let service = service_fn(|request| async move {
            has_request.store(true, Ordering::Relaxed);
            let answer = self.answer(&request).await;
            Ok::<Answer, Infallible>(answer)
        });
        let mut http = http1::Builder::new();
        http.timer(TokioTimer::new())
            .header_read_timeout(HEAD_TIMEOUT)
            .keep_alive(false);
        let stream = TokioIo::new(stream);
        if let Err(error) = http.serve_connection(stream, service).await {
            debug!("metrics connection failed: {error}");
        }
    }

    async fn answer(&self, request: &Request<Incoming>) -> Answer {
        if !is_local(request.headers()) {
            let text = "use a loopback address or localhost, and no Origin header\n";
            return plain(StatusCode::FORBIDDEN, text);
        }
        if ![Method::GET, Method::HEAD].contains(request.method()) {
            return plain(StatusCode::METHOD_NOT_ALLOWED, "GET or HEAD\n");
        }
        let path = request.uri().path();
        match path {
            "/metrics" => self.metrics(),
            "/livez" => self.live().await,
            "/readyz" => self.ready(),
            _ => match path.strip_prefix("/readyz/") {
                Some(set) => self.ready_set(set),
                None => plain(
                    StatusCode::NOT_FOUND,
                    "/metrics, /livez, /readyz or /readyz/CLIENT/SCOPES\n",
                ),
            },
        }
    }

    fn metrics(&self) -> Answer {
        let text = self.metrics_text(boot_now());
        let mut answer = Response::new(Full::new(text));
        let kind = HeaderValue::from_static(METRICS_TYPE);
        answer.headers_mut().insert(CONTENT_TYPE, kind);
        answer
    }

    /// Renders the metrics once a second at most, regardless of the number of requests.
    fn metrics_text(&self, now: BootTime) -> Bytes {
        let mut cached = self.metrics.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((made, text)) = &*cached
            && now.saturating_since(*made) < METRICS_MAX_AGE
        {
            return text.clone();
        }
        let text = Bytes::from(self.broker.metrics(&self.caller));
        *cached = Some((now, text.clone()));
        text
    }

    async fn live(&self) -> Answer {
        match api::live(&self.broker).await {
            Ok(text) => plain(StatusCode::OK, text),
            Err(text) => plain(StatusCode::SERVICE_UNAVAILABLE, text),
        }
    }

    fn ready(&self) -> Answer {
        match api::ready(&self.broker, &self.caller) {
            Ok(text) => plain(StatusCode::OK, text),
            Err(text) => plain(StatusCode::SERVICE_UNAVAILABLE, text),
        }
    }

    /// Answers for one scope set, such as `acme/data%20user` or `acme/data,user`.
    fn ready_set(&self, set: &str) -> Answer {
        let decoded = percent_decode_str(set).decode_utf8_lossy();
        let (client, scope) = decoded.split_once('/').unwrap_or((&decoded, ""));
        match api::ready_set(&self.broker, client, scope, &self.caller) {
            Some(Ok(text)) => plain(StatusCode::OK, text),
            Some(Err(text)) => plain(StatusCode::SERVICE_UNAVAILABLE, text),
            None => plain(
                StatusCode::NOT_FOUND,
                format!("{}\n", api::NO_SUCH_SCOPE_SET),
            ),
        }
    }
}

fn plain(status: StatusCode, text: impl Into<Bytes>) -> Answer {
    let mut answer = Response::new(Full::new(text.into()));
    *answer.status_mut() = status;
    answer
}

/// Returns whether the request names this machine as its host, and no web page sent it.
fn is_local(headers: &HeaderMap) -> bool {
    let mut hosts = headers.get_all(HOST).iter();
    let host = hosts.next().and_then(|host| host.to_str().ok());
    let named = host.is_some_and(|host| {
        let address = host.parse().map(|address: SocketAddr| address.ip()).ok();
        let bare = host.trim_start_matches('[').trim_end_matches(']');
        let address: Option<IpAddr> = address.or_else(|| bare.parse().ok());
        let name = host.split(':').next().unwrap_or(host);
        address.map_or_else(
            || name.eq_ignore_ascii_case("localhost"),
            |a| a.is_loopback(),
        )
    });
    named && hosts.next().is_none() && !headers.contains_key(ORIGIN)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::broker::{BrokerConfig, Engine};
    use crate::platform::clock::SystemClock;
    use crate::source::TokenSource;
    use domo_token_core::fetch::{Fetch, Occasion, Progress};

    /// The source of no client.
    struct NoSource;

    impl TokenSource for NoSource {
        async fn fetch(&self, _occasion: &Occasion, _: &(dyn Fn(Progress) + Send + Sync)) -> Fetch {
            std::future::pending().await
        }
    }

    #[tokio::test]
    async fn liveness_fails_when_the_loop_does_not_answer() {
        let broker = Broker::new(SystemClock::new(), 1, BrokerConfig::default());
        let (engine, _handle) = Engine::<NoSource, _>::new(&broker, Vec::new());
        let health = Health::new(broker);
        let stuck = health.live().await;
        assert_eq!(stuck.status(), StatusCode::SERVICE_UNAVAILABLE);
        let engine = tokio::spawn(engine.run());
        assert_eq!(health.live().await.status(), StatusCode::OK);
        engine.abort();
    }

    #[test]
    fn metrics_are_rendered_once_a_second() {
        let broker = Broker::new(SystemClock::new(), 1, BrokerConfig::default());
        let health = Health::new(broker);
        let at = |millis| health.metrics_text(BootTime::from_millis(millis));
        let count = |text: &Bytes| text.as_ptr();
        let first = at(1000);
        assert_eq!(count(&at(1999)), count(&first));
        assert_ne!(count(&at(2000)), count(&first));
    }

    #[test]
    fn request_for_another_host_or_from_a_web_page_is_rejected() {
        let with = |host: &str, origin: bool| {
            let mut headers = HeaderMap::new();
            headers.insert(HOST, host.parse().unwrap());
            if origin {
                headers.insert(ORIGIN, "http://localhost".parse().unwrap());
            }
            is_local(&headers)
        };
        for host in [
            "127.0.0.1:9347",
            "127.0.0.1",
            "[::1]:1",
            "[::1]",
            "localhost:9347",
            "LOCALHOST",
        ] {
            assert!(with(host, false), "{host}");
            assert!(!with(host, true), "{host}");
        }
        for host in [
            "evil.example",
            "localhost.evil.example",
            "10.0.0.1:9347",
            "",
            "127.0.0.1.evil",
        ] {
            assert!(!with(host, false), "{host}");
        }
        assert!(!is_local(&HeaderMap::new()));
    }
}

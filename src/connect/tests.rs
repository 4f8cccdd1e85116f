#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "in a test, what fails says so"
)]

mod proxies;
pub(crate) mod tls;
#[cfg(not(target_vendor = "apple"))]
mod trust_store;

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::thread;
use std::time::Duration;

use domo_sandbox::Sandbox;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;

use super::*;

/// What the sandbox answers to a path that it does not have.
const NOT_FOUND: &str = "HTTP/1.1 404 Not Found";

/// Longer than anything here takes.
const PATIENCE: Duration = Duration::from_secs(60);

/// Returns a connector that trusts that CA besides the system's.
fn connector(ca: Option<&str>, proxy: Option<Proxy>) -> Connector {
    let ca = ca.map(|ca| (ca.as_bytes(), "ca.pem"));
    Connector::new(&Shared::default(), ca, proxy, Naming::Keys).unwrap()
}

#[expect(clippy::unnecessary_wraps, reason = "it is what connectors take")]
fn through(url: &str) -> Option<Proxy> {
    Some(Proxy {
        url: url.parse().unwrap(),
        login: None,
    })
}

pub(crate) fn block_on<T>(work: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    runtime.unwrap().block_on(work)
}

#[test]
fn document_states_the_current_limits() {
    let document = include_str!("../../docs/network.md");
    for limit in [
        format!("and TLS together | {} s |", CONNECT_TIMEOUT.as_secs()),
        format!("At most {} run in all", name_lookup::MAX_LOOKUPS),
        format!("\n{} s a second one", name_lookup::SLOW.as_secs()),
        format!("fewer than {} run", name_lookup::MAX_LOOKUPS / 2),
        format!(
            "tried after {} ms",
            happy_eyeballs::NEXT_ATTEMPT.as_millis()
        ),
        format!("may have {} KiB", proxy::MAX_HEAD / 1024),
    ] {
        assert!(document.contains(&limit), "{limit}");
    }
}

/// Connects, and returns why that failed.
fn failure(connector: &Connector, url: &str) -> ConnectError {
    let url = url.parse().unwrap();
    let connect = async {
        connector
            .connect(&url, timer_now() + PATIENCE, &|| ())
            .await
            .err()
    };
    block_on(connect).expect("a connection came about")
}

/// Connects, sends a request that the sandbox answers, and returns the first line of the answer.
fn first_line(connector: &Connector, url: &str) -> String {
    let url = url.parse().unwrap();
    block_on(async {
        let connection = connector
            .connect(&url, timer_now() + PATIENCE, &|| ())
            .await;
        let mut stream = connection.unwrap().stream;
        let request = "GET /nothing HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        answer.lines().next().unwrap_or_default().to_owned()
    })
}

/// Accepts connections and lets `serve` have each of them, on a thread. Returns host and port.
fn server(serve: impl Fn(TcpStream) + Send + 'static) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    thread::spawn(move || {
        for stream in listener.incoming() {
            serve(stream.unwrap());
        }
    });
    address
}

/// Reads up to the blank line that ends the head of a request.
fn read_head(stream: &mut TcpStream) -> String {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") && stream.read(&mut byte).is_ok_and(|count| count == 1) {
        head.extend_from_slice(&byte);
    }
    String::from_utf8_lossy(&head).into_owned()
}

#[test]
fn http_goes_only_to_loopback_addresses_whatever_the_name_resolves_to() {
    let target = Server::of(&"http://localhost:8080/".parse().unwrap()).unwrap();
    let addresses = |list: &[&str]| {
        let parsed: Vec<SocketAddr> = list.iter().map(|text| text.parse().unwrap()).collect();
        loopback_only(parsed, &target)
    };
    let kept = addresses(&[
        "10.9.0.1:80",
        "[::1]:80",
        "127.9.9.9:80",
        "[::ffff:127.0.0.1]:80",
    ]);
    assert_eq!(kept.unwrap().len(), 3);
    for other in [
        "10.9.0.1:80",
        "0.0.0.0:80",
        "[fd09::1]:80",
        "[::ffff:10.0.0.1]:80",
    ] {
        let error = addresses(&[other]).unwrap_err();
        let message = "which is not a loopback address; the secret is not sent over http to it";
        assert!(error.message.contains(message), "{error}");
        assert!(
            error.message.starts_with("localhost resolves to "),
            "{error}"
        );
    }
}

#[test]
fn http_is_not_sent_through_a_proxy() {
    let connector = connector(None, through("http://127.0.0.1:1"));
    let error = failure(&connector, "http://127.0.0.1:2/");
    assert!(
        error.message.contains("not sent through a proxy"),
        "{error}"
    );
}

#[test]
fn refused_connection_names_the_proxy_if_it_refused() {
    let free = TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    let connector = connector(None, through(&format!("http://{free}")));
    let error = failure(&connector, "https://domo.example/");
    let message = format!("cannot connect to the proxy {free}: Connection refused");
    assert!(error.message.starts_with(&message), "{error}");
    assert!(matches!(error.failure, ConnectFailure::Unreachable));
}

#[test]
fn step_that_takes_too_long_is_named() {
    // It accepts, and sends nothing.
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let elsewhere = "https://127.0.0.1:9/".to_owned();
    for (url, proxy, message) in [
        (
            format!("https://{address}/"),
            None,
            format!("no TLS handshake with {address} in time"),
        ),
        (
            elsewhere.clone(),
            through(&format!("http://{address}")),
            format!("no response from the proxy {address} to CONNECT in time"),
        ),
        (
            elsewhere,
            through(&format!("https://{address}")),
            format!(
                "no TLS handshake with the proxy {address} in time; if it speaks http, write proxy"
            ),
        ),
    ] {
        let connector = Connector {
            timeout: Duration::from_millis(50),
            ..connector(None, proxy)
        };
        let error = failure(&connector, &url);
        assert!(error.message.starts_with(&message), "{error}");
        assert!(matches!(error.failure, ConnectFailure::TimedOut));
    }
}

/// Returns a resolver that answers once `go` is dropped.
fn slow_resolver(go: std::sync::mpsc::Receiver<()>) -> Resolver {
    let go = std::sync::Mutex::new(go);
    Resolver::new(move |_| {
        let _ = go.lock().unwrap().recv();
        Ok(vec![([127, 0, 0, 1], 0).into()])
    })
}

#[tokio::test]
async fn slow_lookup_counts_against_the_whole_alone_and_is_named() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let (go, gone) = std::sync::mpsc::channel();
    let connector = Connector {
        resolver: Arc::new(slow_resolver(gone)),
        timeout: Duration::from_millis(50),
        ..connector(None, None)
    };
    let url = format!("http://slow.example:{port}/").parse().unwrap();
    let whole = timer_now() + Duration::from_millis(50);
    let error = connector.connect(&url, whole, &|| ()).await.err().unwrap();
    let message = "no response from the resolver for slow.example in time";
    assert!(error.message.starts_with(message), "{error}");
    assert!(matches!(error.failure, ConnectFailure::TimedOut));
    let connect = connector.connect(&url, timer_now() + PATIENCE, &|| ());
    let mut connect = std::pin::pin!(connect);
    let longer_than_the_steps = Duration::from_millis(100);
    assert!(timeout(longer_than_the_steps, &mut connect).await.is_err());
    drop(go);
    assert!(connect.await.is_ok());
}

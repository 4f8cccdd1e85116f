//! Watches and kept tokens of async apps.

#![cfg(unix)]
#![cfg(feature = "tokio")]
#![cfg(test)]

#[allow(dead_code, reason = "each test file uses its own part")]
mod fake;

use std::future::{Future, poll_fn};
use std::io::{Read, Write};
use std::pin::Pin;
use std::sync::Mutex;
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use domo_token_client::clock::boot_now;
use domo_token_client::{Error, ErrorKind, Token, tokio as tokio_client};
use domo_token_protocol::frame;
use domo_token_protocol::messages::{RefusalKind, Request};
use futures_core::Stream;
use tokio::runtime::Builder;
use tokio::time::timeout;

use fake::{Fake, HOUR, PATIENCE, gate, refusal, socket_path, token, token_with, wait_until};

/// Runs a future to completion.
fn run<T>(test: impl Future<Output = T>) -> T {
    let mut runtime = Builder::new_current_thread();
    let runtime = runtime.enable_all().build().unwrap();
    // Only a test that fails takes that long.
    runtime.block_on(async { timeout(2 * PATIENCE, test).await.expect("timed out") })
}

async fn connect(fake: &Fake) -> tokio_client::Broker {
    let broker = tokio_client::Broker::connect_to(fake.path()).await.unwrap();
    broker.with_timeout(PATIENCE)
}

/// Returns the next item by the trait.
async fn next<S: Stream<Item = Result<Token, Error>> + Unpin>(
    tokens: &mut S,
) -> Option<Result<u64, Error>> {
    let next = poll_fn(|context| Pin::new(&mut *tokens).poll_next(context));
    let item = timeout(PATIENCE, next).await.expect("no item");
    Some(item?.map(|token| token.generation()))
}

/// A broker that answers each watch with tokens 5 and 6, and each other request with token 4. It sends a message when a
/// watch has disconnected.
fn watched() -> (Fake, Receiver<()>) {
    let (closed_sender, closed) = channel();
    let closed_sender = Mutex::new(closed_sender);
    let fake = Fake::start(move |_, mut peer| {
        while let Some(request) = peer.request() {
            if matches!(request, Request::Watch(_)) {
                peer.answer(&token(5));
                peer.answer(&token(6));
                let _ = peer.stream.read(&mut [0]);
                closed_sender.lock().unwrap().send(()).unwrap();
                return;
            }
            peer.answer(&token_with(4, HOUR, HOUR / 2));
        }
    });
    (fake, closed)
}

#[test]
fn watch_receives_each_token_and_disconnects_when_dropped() {
    let (fake, closed) = watched();
    run(async {
        let broker = connect(&fake).await;
        let mut watch = broker.watch("data").unwrap();
        for generation in [5, 6] {
            let token = watch.next().await.unwrap().unwrap();
            assert_eq!(token.generation(), generation);
        }
        assert_eq!(broker.token("data").await.unwrap().generation(), 6);
        drop(watch);
        closed.recv_timeout(PATIENCE).unwrap();
    });
    assert_eq!(fake.requests(), 1);
}

#[test]
fn watch_is_a_stream_for_any_executor() {
    fn assert_stream<S: Stream<Item = Result<Token, Error>> + Unpin + Send + Sync>(_: &S) {}
    let (fake, _closed) = watched();
    run(async {
        let mut watch = connect(&fake).await.watch("data").unwrap();
        assert_stream(&watch);
        assert_eq!(next(&mut watch).await.unwrap().unwrap(), 5);
        assert_eq!(next(&mut watch).await.unwrap().unwrap(), 6);
    });
}

#[test]
fn watch_reports_an_outage_once_and_continues_after_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let path = socket_path(folder.path());
    let start = |generation| {
        Fake::start_at(&path, move |_, mut peer| {
            while peer.request().is_some() {
                peer.answer(&token(generation));
            }
        })
    };
    run(async {
        let fake = start(1);
        let mut watch = connect(&fake).await.watch("data").unwrap();
        assert_eq!(next(&mut watch).await.unwrap().unwrap(), 1);
        drop(fake);
        let error = next(&mut watch).await.unwrap().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NotRunning, "{error}");
        let again = timeout(Duration::from_millis(300), watch.next()).await;
        assert!(again.is_err(), "{again:?}");
        let _fake = start(2);
        assert_eq!(next(&mut watch).await.unwrap().unwrap(), 2);
    });
}

#[test]
fn watch_of_a_busy_broker_returns_one_error_and_pauses_between_retries() {
    const BUSY: usize = 4;
    let fake = Fake::start(|number, mut peer| {
        // The first connection is the broker's own.
        while peer.request().is_some() {
            if number <= BUSY {
                peer.answer(&refusal(RefusalKind::Busy));
                return;
            }
            peer.answer(&token(7));
        }
    });
    run(async {
        let mut watch = connect(&fake).await.watch("data").unwrap();
        let start = boot_now();
        let error = next(&mut watch).await.unwrap().unwrap_err();
        assert!(error.is_retryable(), "{error}");
        assert_eq!(next(&mut watch).await.unwrap().unwrap(), 7);
        // Each pause is twice the last one, and at least 10 ms longer.
        let pauses = Duration::from_millis(10 + 30 + 70 + 150);
        assert!(boot_now().saturating_since(start) >= pauses);
    });
    assert_eq!(fake.connections(), BUSY + 2);
}

#[test]
fn watch_ends_after_a_decision_of_the_broker() {
    let fake = Fake::start(|_, mut peer| {
        while peer.request().is_some() {
            peer.answer(&refusal(RefusalKind::Gone));
        }
    });
    run(async {
        let mut watch = connect(&fake).await.watch("data").unwrap();
        assert!(next(&mut watch).await.unwrap().is_err());
        assert!(next(&mut watch).await.is_none());
        assert!(next(&mut watch).await.is_none());
    });
    assert_eq!(fake.requests(), 1);
}

#[test]
fn future_dropped_within_a_response_loses_no_item() {
    let (release, rest) = gate();
    let fake = Fake::start(move |_, mut peer| {
        if peer.request().is_some() {
            peer.answer(&token(5));
            let frame = frame::encode(&token(6)).unwrap();
            let (start, end) = frame.split_at(frame.len() / 2);
            peer.stream.write_all(start).unwrap();
            rest.wait();
            peer.stream.write_all(end).unwrap();
            let _ = peer.stream.read(&mut [0]);
        }
    });
    run(async {
        let mut watch = connect(&fake).await.watch("data").unwrap();
        assert_eq!(next(&mut watch).await.unwrap().unwrap(), 5);
        for _ in 0..3 {
            let dropped = timeout(Duration::from_millis(10), watch.next()).await;
            assert!(dropped.is_err(), "{dropped:?}");
        }
        release.send(()).unwrap();
        assert_eq!(next(&mut watch).await.unwrap().unwrap(), 6);
    });
}

#[test]
fn kept_token_needs_no_request_and_its_task_ends_with_the_last_clone() {
    let (fake, closed) = watched();
    run(async {
        let broker = connect(&fake).await;
        for _ in 0..2 {
            broker.keep("data").unwrap();
        }
        let clone = broker.clone();
        while clone.token("data").await.unwrap().generation() != 6 {
            tokio::task::yield_now().await;
        }
        drop(broker);
        for _ in 0..100 {
            tokio::task::yield_now().await;
        }
        assert!(closed.try_recv().is_err(), "a clone is left");
        drop(clone);
        // The runtime drops the task.
        while closed.try_recv().is_err() {
            tokio::task::yield_now().await;
        }
    });
    assert_eq!(fake.connections(), 2, "the broker's own and the watch's");
}

/// Returns how many threads of this process receive tokens.
#[cfg(target_os = "linux")]
fn receiving_threads() -> usize {
    let threads = std::fs::read_dir("/proc/self/task").unwrap();
    let name = |thread: std::fs::DirEntry| std::fs::read_to_string(thread.path().join("comm"));
    let names = threads.filter_map(|thread| name(thread.unwrap()).ok());
    names.filter(|name| name.trim() == "domo-token").count()
}

#[cfg(target_os = "linux")]
#[test]
fn watches_and_kept_tokens_use_no_thread() {
    let (fake, _closed) = watched();
    let blocking = fake.broker();
    run(async {
        let broker = tokio_client::Broker::from(blocking.clone());
        broker.keep("user").unwrap();
        let mut watches = Vec::new();
        for number in 0..50 {
            let mut watch = broker.watch(&number.to_string()).unwrap();
            let item = next(&mut watch).await.unwrap();
            assert!(item.is_err(), "of another scope set");
            watches.push(watch);
        }
        fake.wait_for_requests(51);
        assert_eq!(receiving_threads(), 0);
    });
    blocking.keep("data").unwrap();
    wait_until(|| receiving_threads() == 1);
}

//! A broker that connects on its first call.

#![cfg(unix)]
#![cfg(test)]

#[allow(dead_code, reason = "each test file uses its own part")]
mod fake;

use std::path::Path;
use std::thread;
use std::time::Duration;

use domo_token_client::clock::boot_now;
use domo_token_client::{Broker, Error, ErrorKind, Token};

use fake::{Fake, PATIENCE, granted, socket_path, token};

/// A broker that grants this generation for each request.
fn start_at(path: &Path, generation: u64) -> Fake {
    Fake::start_at(path, move |_, mut peer| {
        while let Some(request) = peer.token_request() {
            peer.answer(&granted(&request.subject, token(generation)));
        }
    })
}

/// Checks that a call fails because there is no broker, and does not wait for one.
fn fails_immediately(call: impl FnOnce() -> Result<Token, Error>) {
    let start = boot_now();
    let error = call().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotRunning, "{error}");
    assert!(error.is_retryable());
    let took = boot_now().saturating_since(start);
    assert!(took < Duration::from_secs(5), "{took:?}");
}

#[test]
fn lazy_broker_connects_on_its_first_call() {
    let fake = Fake::granting();
    let broker = Broker::lazy_at(fake.path());
    assert_eq!(broker.socket(), fake.path());
    assert_eq!(fake.connections(), 0);
    broker.token("data").unwrap();
    broker.token("user").unwrap();
    assert_eq!((fake.connections(), fake.requests()), (1, 2));
}

#[test]
fn lazy_broker_fails_until_there_is_a_broker_and_then_waits_for_its_restart() {
    let folder = tempfile::tempdir().unwrap();
    let path = socket_path(folder.path());
    let broker = Broker::lazy_at(&path).with_timeout(PATIENCE);
    fails_immediately(|| broker.token("data"));
    fails_immediately(|| broker.token("data"));
    let fake = start_at(&path, 1);
    let first = broker.token("data").unwrap();
    assert_eq!(first.generation(), 1);
    drop(fake);
    thread::scope(|scope| {
        let waiting = scope.spawn(|| broker.renew(&first).unwrap().generation());
        // A call that does not wait for the broker fails before this one, which the other one outlasts.
        let short = broker.with_timeout(Duration::from_millis(200));
        assert_eq!(
            short.token("user").unwrap_err().kind(),
            ErrorKind::NotRunning
        );
        assert!(!waiting.is_finished());
        let _fake = start_at(&path, 2);
        assert_eq!(waiting.join().unwrap(), 2);
    });
}

#[test]
fn watch_of_a_lazy_broker_returns_one_error_and_then_the_token() {
    let folder = tempfile::tempdir().unwrap();
    let path = socket_path(folder.path());
    let mut watch = Broker::lazy_at(&path).watch("data").unwrap();
    let error = watch.next().unwrap().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotRunning, "{error}");
    let _fake = Fake::start_at(&path, |_, mut peer| {
        while peer.request().is_some() {
            peer.answer(&token(1));
        }
    });
    assert_eq!(watch.next().unwrap().unwrap().generation(), 1);
}

#[cfg(feature = "tokio")]
#[test]
fn lazy_broker_of_tokio_fails_until_there_is_a_broker() {
    let folder = tempfile::tempdir().unwrap();
    let path = socket_path(folder.path());
    let broker = domo_token_client::tokio::Broker::lazy_at(&path);
    let mut runtime = tokio::runtime::Builder::new_current_thread();
    let runtime = runtime.enable_all().build().unwrap();
    fails_immediately(|| runtime.block_on(broker.token("data")));
    let _fake = start_at(&path, 1);
    let token = runtime.block_on(broker.token("data")).unwrap();
    assert_eq!(token.generation(), 1);
}

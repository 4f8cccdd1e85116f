//! The broker for async apps.

#![cfg(unix)]
#![cfg(feature = "tokio")]
#![cfg(test)]

#[allow(dead_code, reason = "each test file uses its own part")]
mod fake;

use std::future::Future;
use std::pin::pin;
use std::sync::Mutex;
use std::sync::mpsc::channel;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use domo_token_client::{ErrorKind, tokio as tokio_client};
use domo_token_protocol::messages::{RefusalKind, Request, Response};
use tokio::task::JoinSet;

use fake::{Fake, PATIENCE, holding, refusal, renewed, token};

/// Runs a future to completion.
fn run<T>(test: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()
        .unwrap();
    runtime.block_on(test)
}

async fn connect(fake: &Fake) -> tokio_client::Broker {
    let broker = tokio_client::Broker::connect_to(fake.path()).await.unwrap();
    broker.with_timeout(PATIENCE)
}

async fn wait_for_requests(fake: &Fake, count: usize) {
    while fake.requests() < count {
        tokio::task::yield_now().await;
    }
}

#[test]
fn cached_token_is_returned_immediately_and_shared_with_the_blocking_broker() {
    let fake = Fake::granting();
    let blocking = fake.broker();
    let broker = tokio_client::Broker::from(blocking.clone());
    run(async {
        assert_eq!(broker.token("user,data").await.unwrap().generation(), 7);
    });
    assert_eq!(blocking.token("data user").unwrap().generation(), 7);
    // Outside of any runtime, and ready when first polled.
    let mut context = Context::from_waker(Waker::noop());
    let cached = pin!(broker.token("user,data")).poll(&mut context);
    assert!(matches!(cached, Poll::Ready(Ok(_))));
    assert_eq!(fake.requests(), 1);
}

#[test]
fn thousand_concurrent_tasks_share_one_request() {
    let (fake, release) = holding(|_| token(7));
    run(async {
        let broker = connect(&fake).await;
        let mut tasks = JoinSet::new();
        for _ in 0..1000 {
            let broker = broker.clone();
            tasks.spawn(async move { broker.token("data").await.unwrap().generation() });
        }
        wait_for_requests(&fake, 1).await;
        release.send(()).unwrap();
        assert_eq!(tasks.join_all().await, [7; 1000]);
    });
    assert_eq!((fake.requests(), fake.connections()), (1, 1));
}

#[test]
fn dropping_the_task_that_leads_a_request_does_not_cancel_it_for_others() {
    let (fake, release) = holding(|_| token(7));
    run(async {
        let broker = connect(&fake).await;
        let clone = broker.clone();
        let first = tokio::spawn(async move { clone.token("data").await });
        wait_for_requests(&fake, 1).await;
        let clone = broker.clone();
        let second = tokio::spawn(async move { clone.token("data").await });
        tokio::task::yield_now().await;
        first.abort();
        assert!(first.await.is_err());
        release.send(()).unwrap();
        assert_eq!(second.await.unwrap().unwrap().generation(), 7);
    });
    assert_eq!(fake.requests(), 1);
}

#[test]
fn each_task_has_its_own_deadline() {
    let (fake, release) = holding(|_| token(7));
    run(async {
        let broker = connect(&fake).await;
        let clone = broker.clone();
        let long = tokio::spawn(async move { clone.token("data").await });
        wait_for_requests(&fake, 1).await;
        let short = broker.with_timeout(Duration::from_millis(20));
        let error = short.token("data").await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Timeout, "{error}");
        release.send(()).unwrap();
        assert!(long.await.unwrap().is_ok());
    });
    assert_eq!(fake.requests(), 1);
}

#[test]
fn errors_of_the_broker_are_returned_to_tasks() {
    let fake = Fake::answering(|_, request| match request.subject.scope.as_str() {
        "data" => renewed(request),
        _ => refusal(RefusalKind::UnknownScope),
    });
    run(async {
        let broker = connect(&fake).await;
        let error = broker.token("nosuch").await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::UnknownScope, "{error}");
        let error = broker.token(" ").await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidScope, "{error}");
        let first = broker.token("data").await.unwrap();
        assert_eq!(broker.renew(&first).await.unwrap().generation(), 2);
        let enough = broker.request("data").min_ttl(Duration::from_secs(60));
        assert_eq!(enough.send().await.unwrap().generation(), 2);
        let rejected = broker.request("data").rejected(2).send().await;
        assert_eq!(rejected.unwrap().generation(), 3);
    });
    assert_eq!(fake.requests(), 4);
}

#[test]
fn connecting_without_a_broker_is_not_running() {
    let folder = tempfile::tempdir().unwrap();
    let error = run(tokio_client::Broker::connect_to(
        folder.path().join("no.sock"),
    ));
    assert_eq!(error.unwrap_err().kind(), ErrorKind::NotRunning);
}

#[test]
fn watch_receives_each_token_and_disconnects_when_dropped() {
    let (closed_sender, closed) = channel();
    let closed_sender = Mutex::new(closed_sender);
    let fake = Fake::start(move |_, mut peer| {
        if let Some(Request::Watch(_)) = peer.request() {
            peer.answer(&token(5));
            peer.answer(&token(6));
            let _ = std::io::Read::read(&mut peer.stream, &mut [0]);
            closed_sender.lock().unwrap().send(()).unwrap();
        }
    });
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
fn futures_are_send() {
    fn assert_send<T: Send>(_: &T) {}
    let fake = Fake::granting();
    let broker = tokio_client::Broker::from(fake.broker());
    assert_send(&broker.token("data"));
    assert_send(&broker.request("data").send());
    assert_send(&broker.status());
    assert_send(&broker.explain("data"));
}

#[test]
fn metrics_are_the_pieces_of_the_answer_together() {
    let fake = Fake::start(|_, mut peer| {
        assert_eq!(peer.request(), Some(Request::Metrics));
        let pieces = ["up 1\n", "# EOF\n"].map(|piece| Response::Metrics(piece.to_owned()));
        peer.answer_all(&[&pieces[..], &[Response::End]].concat());
    });
    let text = run(async { connect(&fake).await.metrics().await });
    assert_eq!(text.unwrap(), "up 1\n# EOF\n");
}

//! The broker for async apps.

#![cfg(unix)]
#![cfg(feature = "tokio")]
#![cfg(test)]

#[allow(dead_code, reason = "each test file uses its own part")]
mod fake;

use std::future::Future;
use std::io::Write;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::sync::Mutex;
use std::sync::mpsc::channel;
use std::task::{Context, Poll, Waker};
use std::thread;
use std::time::Duration;

use domo_token_client::{ErrorKind, tokio as tokio_client};
use domo_token_protocol::messages::{RefusalKind, Request, Response};
use tokio::runtime::{Builder, Runtime};
use tokio::task::JoinSet;
use tokio::time::timeout;

use fake::{Fake, PATIENCE, Peer, broker_status, gate, granted, holding, refusal, renewed, token};

/// A runtime that runs only within `block_on`.
fn runtime() -> Runtime {
    Builder::new_current_thread().enable_all().build().unwrap()
}

/// Runs a future to completion.
fn run<T>(test: impl Future<Output = T>) -> T {
    // Only a test that fails takes that long.
    let limited = async { timeout(2 * PATIENCE, test).await.expect("timed out") };
    runtime().block_on(limited)
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
    let connecting = tokio_client::Broker::connect_to(folder.path().join("no.sock"));
    let error = run(connecting).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotRunning);
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

#[test]
fn hundred_concurrent_requests_succeed_while_the_only_blocking_thread_is_busy() {
    const REQUESTS: usize = 100;
    // No request is answered before the last one has arrived.
    let all = std::sync::Barrier::new(REQUESTS);
    let fake = Fake::start(move |_, mut peer| {
        while let Some(request) = peer.token_request() {
            all.wait();
            peer.answer(&granted(&request.subject, token(7)));
        }
    });
    let (release, blocked) = gate();
    let mut runtime = Builder::new_current_thread();
    let runtime = runtime.max_blocking_threads(1).enable_all();
    runtime.build().unwrap().block_on(async {
        let blocking = tokio::task::spawn_blocking(move || blocked.wait());
        let broker = connect(&fake).await;
        let mut tasks = JoinSet::new();
        for number in 0..REQUESTS {
            let broker = broker.clone();
            tasks.spawn(async move {
                let token = broker.token(&number.to_string()).await.unwrap();
                token.generation()
            });
        }
        assert_eq!(tasks.join_all().await, [7; REQUESTS]);
        assert!(!blocking.is_finished());
        release.send(()).unwrap();
        blocking.await.unwrap();
    });
    assert_eq!((fake.requests(), fake.connections()), (REQUESTS, REQUESTS));
}

#[test]
fn call_outlasts_a_restart_of_the_broker() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("broker.sock");
    let start = || {
        Fake::start_at(&path, |_, mut peer| {
            while let Some(request) = peer.token_request() {
                peer.answer(&renewed(&request));
            }
        })
    };
    run(async {
        let fake = start();
        let broker = connect(&fake).await;
        let first = broker.token("data").await.unwrap();
        drop(fake);
        let mut tasks = JoinSet::new();
        for _ in 0..8 {
            let (broker, first) = (broker.clone(), first.clone());
            tasks.spawn(async move { broker.renew(&first).await.unwrap().generation() });
        }
        // A caller with less time gets its error by then, and the others continue.
        let short = broker.with_timeout(Duration::from_millis(200));
        let error = short.token("user").await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NotRunning, "{error}");
        assert!(tasks.try_join_next().is_none());
        let fake = start();
        assert_eq!(tasks.join_all().await, [2; 8]);
        assert_eq!(fake.requests(), 1);
    });
}

#[test]
fn busy_broker_is_requested_again_until_the_deadline() {
    let fake = Fake::start(|number, mut peer| {
        while peer.request().is_some() {
            peer.answer(&if number < 2 {
                refusal(RefusalKind::Busy)
            } else {
                token(7)
            });
        }
    });
    run(async {
        assert!(connect(&fake).await.token("data").await.is_ok());
    });
    assert_eq!(fake.connections(), 3);
    let fake = Fake::answering(|_, _| refusal(RefusalKind::Busy));
    run(async {
        let broker = connect(&fake).await;
        let short = broker.with_timeout(Duration::from_millis(100));
        let error = short.token("data").await.unwrap_err();
        assert!(error.is_retryable(), "{error}");
        assert!(error.to_string().starts_with("because"), "{error}");
    });
    assert!(fake.requests() > 1);
}

#[test]
fn broker_that_speaks_version_1_alone_is_spoken_to_in_that() {
    let fake = Fake::start(|_, mut peer| {
        while peer.request().is_some() {
            if peer.hello != Some(1) {
                return peer.stream.write_all(b"DTK\x01").unwrap_or_default();
            }
            peer.answer(&token(7));
        }
    });
    run(async {
        let broker = connect(&fake).await;
        assert_eq!(broker.token("data").await.unwrap().generation(), 7);
        assert_eq!(fake.connections(), 2, "one for each version");
        let again = broker.request("data").renew().send().await.unwrap();
        assert_eq!(again.generation(), 7);
        assert_eq!(fake.connections(), 0, "the second one is kept");
        let watched = broker.watch("data").unwrap().next().await;
        assert_eq!(watched.unwrap().unwrap().generation(), 7);
    });
}

#[test]
fn silent_broker_is_an_error_at_the_deadline() {
    let fake = Fake::start(|_, mut peer| while peer.request().is_some() {});
    run(async {
        let broker = connect(&fake).await;
        let short = broker.with_timeout(Duration::from_millis(50));
        let error = short.token("data").await.unwrap_err();
        assert!(error.is_retryable(), "{error}");
        let error = short.status().await.unwrap_err();
        assert!(error.is_retryable(), "{error}");
    });
}

/// Accepts a single connection at a time, and none before the gate opens.
#[cfg(target_os = "linux")]
#[test]
fn full_backlog_is_retried_until_the_deadline() {
    use rustix::net::{AddressFamily, SocketAddrUnix, SocketType, bind, listen, socket};
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("broker.sock");
    let listener = socket(AddressFamily::UNIX, SocketType::STREAM, None).unwrap();
    bind(&listener, &SocketAddrUnix::new(&path).unwrap()).unwrap();
    listen(&listener, 0).unwrap();
    let fills = std::os::unix::net::UnixStream::connect(&path).unwrap();
    let listener = std::os::unix::net::UnixListener::from(listener);
    run(async {
        let connecting = tokio_client::Broker::connect_to(&path);
        let mut connecting = pin!(connecting);
        let waited = timeout(Duration::from_millis(50), connecting.as_mut()).await;
        assert!(waited.is_err(), "{waited:?}");
        drop((listener.accept().unwrap(), fills));
        connecting.await.unwrap();
    });
}

#[test]
fn query_that_is_dropped_closes_its_connection() {
    let (closed_sender, closed) = channel();
    let closed_sender = Mutex::new(closed_sender);
    let fake = Fake::start(move |number, mut peer| {
        while peer.request().is_some() {
            if number > 0 {
                peer.answer_all(&[broker_status(), Response::End]);
            } else {
                // The first one gets a part of its answer.
                peer.answer(&broker_status());
            }
        }
        closed_sender.lock().unwrap().send(number).unwrap();
    });
    run(async {
        let broker = connect(&fake).await;
        let waiting = timeout(Duration::from_millis(20), broker.status());
        assert!(waiting.await.is_err());
        assert_eq!(closed.recv_timeout(PATIENCE), Ok(0));
        assert_eq!(broker.status().await.unwrap().broker.pid, 4242);
    });
}

#[test]
fn runtimes_and_blocking_calls_share_the_idle_connection() {
    let fake = Fake::answering(|_, request| renewed(request));
    let blocking = fake.broker();
    let broker = tokio_client::Broker::from(blocking.clone());
    for number in 0..3 {
        let scopes = format!("async{number}");
        // Each on a runtime of its own, which has ended when the next one begins.
        assert!(run(broker.token(&scopes)).is_ok());
        assert!(blocking.token(&format!("blocking{number}")).is_ok());
    }
    assert_eq!((fake.requests(), fake.connections()), (6, 1));
}

/// A broker that does not answer its first request.
fn silent_at_first() -> Fake {
    Fake::start(|_, mut peer: Peer| {
        while let Some(request) = peer.token_request() {
            if peer.earlier_requests() > 0 {
                peer.answer(&granted(&request.subject, token(7)));
            }
        }
    })
}

#[test]
fn caller_does_not_wait_for_a_request_on_a_runtime_that_does_not_run() {
    let fake = silent_at_first();
    let blocking = fake.broker().with_timeout(PATIENCE);
    let broker = tokio_client::Broker::from(blocking.clone());
    let runtime = runtime();
    runtime.block_on(async {
        let short = broker.with_timeout(Duration::from_millis(100));
        let dropped = timeout(Duration::from_millis(1), short.token("data"));
        assert!(dropped.await.is_err());
        // Its request has been sent before the runtime stops.
        wait_for_requests(&fake, 1).await;
    });
    assert_eq!(blocking.token("data").unwrap().generation(), 7);
    assert_eq!(fake.requests(), 2);
    drop(runtime);
}

#[test]
fn caller_sends_its_own_request_when_the_runtime_of_another_one_ends() {
    let fake = silent_at_first();
    let blocking = fake.broker().with_timeout(PATIENCE);
    let broker = tokio_client::Broker::from(blocking.clone());
    let (end, ended) = tokio::sync::oneshot::channel::<()>();
    thread::scope(|scope| {
        // The runtime ends with its thread.
        let running = scope.spawn(|| {
            run(async {
                tokio::spawn(async move { broker.token("data").await });
                ended.await.unwrap();
            });
        });
        fake.wait_for_requests(1);
        let calling = scope.spawn(|| blocking.token("data"));
        assert!(!calling.is_finished());
        end.send(()).unwrap();
        running.join().unwrap();
        assert_eq!(calling.join().unwrap().unwrap().generation(), 7);
    });
    assert_eq!(fake.requests(), 2);
}

#[test]
fn runtime_without_io_driver_is_a_panic_and_no_endless_retry() {
    let fake = Fake::granting();
    let broker = tokio_client::Broker::from(fake.broker().with_timeout(PATIENCE));
    let runtime = Builder::new_current_thread().enable_time().build().unwrap();
    let call = || runtime.block_on(broker.token("data"));
    assert!(catch_unwind(AssertUnwindSafe(call)).is_err());
    assert_eq!(run(broker.token("data")).unwrap().generation(), 7);
}

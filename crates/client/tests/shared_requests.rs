//! Threads that need the same token share one request.

#![cfg(unix)]
#![cfg(test)]

#[allow(dead_code, reason = "each test file uses its own part")]
mod fake;

use std::sync::Barrier;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use domo_token_client::ErrorKind;
use domo_token_protocol::messages::RefusalKind;

use fake::{Fake, HOUR, PATIENCE, gate, holding, refusal, renewed, token, token_with, wait_until};

const MINUTE: Duration = Duration::from_secs(60);

/// Runs `job` on that many threads at the same time.
fn concurrently<T: Send>(count: usize, job: impl Fn(usize) -> T + Sync) -> Vec<T> {
    let start = Barrier::new(count);
    thread::scope(|scope| {
        let (job, start) = (&job, &start);
        let run = move |number| {
            start.wait();
            job(number)
        };
        let threads: Vec<_> = (0..count)
            .map(|number| scope.spawn(move || run(number)))
            .collect();
        let results = threads.into_iter().map(thread::ScopedJoinHandle::join);
        results.map(Result::unwrap).collect()
    })
}

#[test]
fn thousand_concurrent_threads_share_one_request() {
    let (fake, release) = holding(|_| token(7));
    let broker = fake.broker().with_timeout(PATIENCE);
    let tokens = thread::scope(|scope| {
        let asking = scope.spawn(|| concurrently(1000, |_| broker.token("data").unwrap()));
        fake.wait_for_requests(1);
        release.send(()).unwrap();
        asking.join().unwrap()
    });
    assert_eq!(tokens.len(), 1000);
    assert_eq!((fake.requests(), fake.connections()), (1, 1));
}

#[test]
fn waiting_threads_share_the_refusal_of_one_request() {
    let (fake, release) = holding(|_| refusal(RefusalKind::Denied));
    let broker = fake.broker().with_timeout(PATIENCE);
    let calls = AtomicUsize::new(0);
    thread::scope(|scope| {
        let asking = scope.spawn(|| {
            concurrently(1000, |_| {
                calls.fetch_add(1, Ordering::SeqCst);
                let error = broker.token("data").unwrap_err();
                assert_eq!(error.kind(), ErrorKind::Rejected, "{error}");
            })
        });
        wait_until(|| calls.load(Ordering::SeqCst) == 1000);
        fake.wait_for_requests(1);
        // A thread that comes after the refusal requests again, because errors are not cached.
        while !asking.is_finished() {
            let _ = release.send(());
            thread::yield_now();
        }
        asking.join().unwrap();
    });
    assert!(fake.requests() < 500, "{}", fake.requests());
}

#[test]
fn follower_keeps_its_own_deadline() {
    let (fake, release) = holding(|_| token(7));
    let broker = fake.broker().with_timeout(PATIENCE);
    thread::scope(|scope| {
        let leader = scope.spawn(|| broker.token("data"));
        fake.wait_for_requests(1);
        let short = broker.with_timeout(Duration::from_millis(20));
        let error = short.token("data").unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Timeout, "{error}");
        release.send(()).unwrap();
        assert_eq!(leader.join().unwrap().unwrap().generation(), 7);
    });
    assert_eq!(fake.requests(), 1);
}

#[test]
fn follower_with_more_time_than_the_leader_requests_again() {
    let fake = Fake::answering(|earlier, _| {
        if earlier == 0 {
            thread::park();
        }
        token(7)
    });
    let broker = fake.broker().with_timeout(PATIENCE);
    thread::scope(|scope| {
        let short = broker.with_timeout(Duration::from_millis(50));
        let leader = scope.spawn(move || short.token("data"));
        fake.wait_for_requests(1);
        assert_eq!(broker.token("data").unwrap().generation(), 7);
        // It may return the other thread's token when it times out.
        let _ = leader.join().unwrap();
    });
    assert_eq!(fake.requests(), 2);
}

#[test]
fn caller_without_conditions_does_not_wait_for_a_strict_request() {
    let (release, gate) = gate();
    let fake = Fake::answering(move |_, request| {
        if request.min_ttl_ms.is_none() {
            return token_with(1, HOUR, MINUTE * 10);
        }
        gate.wait();
        token(2)
    });
    let broker = fake.broker().with_timeout(PATIENCE);
    thread::scope(|scope| {
        let strict = scope.spawn(|| broker.request("data").min_ttl(MINUTE * 30).send());
        fake.wait_for_requests(2);
        assert_eq!(broker.token("data").unwrap().generation(), 1);
        release.send(()).unwrap();
        assert_eq!(strict.join().unwrap().unwrap().generation(), 2);
    });
    assert_eq!(fake.requests(), 2);
    assert_eq!(broker.token("data").unwrap().generation(), 2);
}

#[test]
fn rejected_token_is_evicted_and_replaced_by_one_request_for_all() {
    let fake = Fake::answering(|_, request| renewed(request));
    let broker = fake.broker();
    let refused = broker.token("data").unwrap();
    let others = concurrently(50, |_| broker.renew(&refused).unwrap().generation());
    assert_eq!(others, [refused.generation() + 1; 50]);
    assert_eq!(fake.requests(), 2);
    // The cache has its replacement.
    assert_eq!(broker.renew(&refused).unwrap().generation(), 2);
    assert_eq!(broker.token("data").unwrap().generation(), 2);
    assert_eq!(fake.requests(), 2);
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
    let fake = start();
    let broker = fake.broker().with_timeout(PATIENCE);
    let first = broker.token("data").unwrap();
    drop(fake);
    thread::scope(|scope| {
        let calling =
            scope.spawn(|| concurrently(8, |_| broker.renew(&first).unwrap().generation()));
        // A caller with one second gets its error by then, and the others continue.
        let short = broker.with_timeout(Duration::from_secs(1));
        let error = short.token("user").unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NotRunning, "{error}");
        assert!(!calling.is_finished());
        let fake = start();
        assert_eq!(calling.join().unwrap(), [2; 8]);
        assert_eq!(fake.requests(), 1);
    });
}

#[test]
fn dropping_a_broker_during_a_call_does_not_end_it() {
    let (fake, release) = holding(|_| token(7));
    let broker = fake.broker().with_timeout(PATIENCE);
    let calling = thread::spawn({
        let broker = broker.clone();
        move || broker.token("data")
    });
    fake.wait_for_requests(1);
    drop(broker);
    release.send(()).unwrap();
    assert!(calling.join().unwrap().is_ok());
}

//! Cached tokens: when they are returned without a request, and when a call requests another one.

#![cfg(unix)]
#![cfg(test)]

#[allow(dead_code, reason = "each test file uses its own part")]
mod fake;

use std::io::Write;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use domo_token_client::clock::boot_now;
use domo_token_client::{Broker, ErrorKind};
use domo_token_protocol::BootTime;
use domo_token_protocol::messages::{RefusalKind, Renew, Request, Response};

use fake::{Fake, HOUR, PATIENCE, gate, granted, refusal, token, token_with, wait_until};

const MINUTE: Duration = Duration::from_secs(60);

/// A token within the margin before its expiry, which is still valid for as long as a test runs.
fn expiring(generation: u64) -> Response {
    token_with(generation, HOUR, Duration::from_secs(30))
}

#[test]
fn cached_token_is_returned_without_a_broker_for_every_spelling_of_its_set() {
    let fake = Fake::granting();
    let broker = fake.broker();
    for spelling in ["data user", "user,data", "user data"] {
        assert_eq!(broker.token(spelling).unwrap().generation(), 7);
    }
    assert_eq!(fake.requests(), 1);
    drop(fake);
    for spelling in ["data user", "user,data", " data\tuser user"] {
        assert!(broker.clone().token(spelling).is_ok());
    }
    let enough = broker.request("data user").min_ttl(HOUR / 2).send();
    assert!(enough.is_ok());
}

#[test]
fn same_scope_set_of_two_clients_is_cached_separately() {
    let fake = Fake::answering(|_, request| {
        token(match request.subject.client.as_deref() {
            None => 0,
            Some(name) => u64::try_from(name.len()).unwrap(),
        })
    });
    let broker = fake.broker();
    for _ in 0..2 {
        for (name, generation) in [("a", 1), ("bb", 2)] {
            let token = broker.with_client(name).token("data").unwrap();
            assert_eq!(token.generation(), generation);
        }
        assert_eq!(broker.token("data").unwrap().generation(), 0);
    }
    assert_eq!(fake.requests(), 3);
}

#[test]
fn token_in_its_last_minute_or_tenth_is_requested_again() {
    let fake = Fake::answering(|earlier, request| {
        assert_eq!(request.min_ttl_ms, None);
        match earlier {
            0..3 => expiring(1),
            3 => token_with(2, Duration::from_secs(20), Duration::from_millis(1900)),
            _ => token_with(3, Duration::from_secs(20), Duration::from_secs(15)),
        }
    });
    let broker = fake.broker();
    for (generation, requests) in [(1, 1), (1, 2), (1, 3), (2, 4), (3, 5), (3, 5)] {
        assert_eq!(broker.token("data").unwrap().generation(), generation);
        assert_eq!(fake.requests(), requests);
    }
}

#[test]
fn min_ttl_beyond_the_cached_token_is_requested_from_the_broker() {
    let fake = Fake::answering(|earlier, request| {
        let needs = [None, Some(3_000_000), None, Some(2_000_000)];
        assert_eq!(request.min_ttl_ms, needs[earlier]);
        token_with(
            u64::try_from(earlier).unwrap(),
            HOUR,
            Duration::from_secs(1000) * (u32::try_from(earlier).unwrap() + 1),
        )
    });
    let broker = fake.broker();
    let with = |set, least| {
        broker
            .request(set)
            .min_ttl(Duration::from_secs(least))
            .send()
    };
    assert_eq!(broker.token("data").unwrap().generation(), 0);
    assert_eq!(with("data", 900).unwrap().generation(), 0, "from memory");
    assert_eq!(with("data", 3000).unwrap().generation(), 1);
    // Without a cached token, one without conditions is requested first and cached for others.
    let fake = Fake::answering(|earlier, request| {
        assert_eq!(request.min_ttl_ms, [None, Some(3_000_000)][earlier]);
        token_with(
            u64::try_from(earlier).unwrap(),
            HOUR,
            Duration::from_secs(2000) * (u32::try_from(earlier).unwrap() + 1),
        )
    });
    let broker = fake.broker();
    let with = |least| {
        broker
            .request("data")
            .min_ttl(Duration::from_secs(least))
            .send()
    };
    assert_eq!(with(3000).unwrap().generation(), 1);
    assert_eq!(fake.requests(), 2);
}

#[test]
fn valid_token_outlasts_the_broker_and_an_expired_one_does_not() {
    let fake = Fake::answering(|_, request| match request.subject.scope.as_str() {
        "data" => expiring(1),
        // It must be received before it expires, on a busy machine as well.
        _ => token_with(2, Duration::from_secs(1), Duration::from_millis(500)),
    });
    let broker = fake.broker();
    let first = broker.token("data").unwrap();
    let expired = broker.token("user").unwrap();
    wait_until(|| expired.expires_in().is_zero());
    drop(fake);
    let start = boot_now();
    for _ in 0..100 {
        assert_eq!(
            broker.token("data").unwrap().generation(),
            first.generation()
        );
    }
    assert!(
        boot_now().saturating_since(start) < Duration::from_secs(1),
        "none waits"
    );
    let broker = broker.with_timeout(Duration::from_millis(100));
    let error = broker.token("user").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotRunning, "{error}");
}

#[test]
fn hanging_broker_delays_a_caller_with_a_valid_token_by_a_second() {
    let fake = Fake::answering(|earlier, _| {
        if earlier > 0 {
            thread::park();
        }
        expiring(1)
    });
    let broker = fake.broker().with_timeout(PATIENCE);
    broker.token("data").unwrap();
    let start = boot_now();
    assert!(broker.token("data").is_ok());
    let took = boot_now().saturating_since(start);
    assert!(took < Duration::from_secs(5), "{took:?}");
}

#[test]
fn decision_of_the_broker_overrides_a_valid_token_and_is_not_cached() {
    let fake = Fake::answering(|earlier, _| match earlier {
        1 => refusal(RefusalKind::NotPermitted),
        2 => refusal(RefusalKind::Unavailable),
        _ => expiring(1),
    });
    let broker = fake.broker();
    assert!(broker.token("data").is_ok());
    let refused = broker.token("data").unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::NotPermitted, "{refused}");
    assert!(
        broker.token("data").is_ok(),
        "\"not now\" evicts no valid token"
    );
    assert!(broker.token("data").is_ok());
    assert_eq!(fake.requests(), 4);
}

#[test]
fn rejected_token_is_not_returned_again_if_there_is_no_other() {
    let fake = Fake::answering(|_, request| match request.renew {
        Some(Renew::Rejected(1)) => refusal(RefusalKind::Unavailable),
        Some(_) | None => token(1),
    });
    let broker = fake.broker();
    let refused = broker.token("data").unwrap();
    let error = broker.renew(&refused).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
    // A caller that did not reject the token gets the broker's answer.
    assert_eq!(broker.token("data").unwrap().generation(), 1);
    assert_eq!(fake.requests(), 3);
}

#[test]
fn scope_sets_beyond_the_cache_size_are_requested_each_time() {
    let fake = Fake::granting();
    let broker = fake.broker();
    for _ in 0..2 {
        for number in 0..300 {
            assert!(broker.token(&format!("scope{number}")).is_ok());
        }
    }
    assert_eq!(fake.requests(), 300 + 300 - 256);
}

#[test]
fn token_that_expired_before_it_was_received_is_not_returned() {
    // As if this process had been stopped after the broker answered.
    let fake = Fake::answering(|earlier, _| match earlier % 2 {
        0 => token_with(7, HOUR, Duration::ZERO),
        _ => token(8),
    });
    let broker = fake.broker();
    let error = broker.token("data").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
    assert!(error.is_retryable());
    assert_eq!(broker.token("data").unwrap().generation(), 8);
    let renewed = broker.request("data").renew().send();
    assert_eq!(renewed.unwrap_err().kind(), ErrorKind::Unavailable);
    assert_eq!(
        broker.token("data").unwrap().generation(),
        8,
        "it is cached"
    );
}

#[test]
fn broker_with_another_clock_does_not_extend_a_token_and_its_token_is_returned() {
    // Since version 2, the greeting carries the clock.
    let fake = Fake::start(|_, mut peer| {
        while let Some(request) = peer.token_request() {
            if peer.hello != Some(1) {
                return peer.stream.write_all(b"DTK\x01").unwrap_or_default();
            }
            let Response::Token(mut answer) = token(7) else {
                panic!("no token");
            };
            answer.expires = match request.subject.scope.as_str() {
                "far" => BootTime::from_millis(u64::MAX),
                _ => BootTime::from_millis(0),
            };
            peer.answer(&granted(&request.subject, Response::Token(answer)));
        }
    });
    let broker = fake.broker();
    assert!(broker.token("far").unwrap().expires_in() <= HOUR);
    for requests in 3..6 {
        assert_eq!(broker.token("past").unwrap().expires_in(), Duration::ZERO);
        assert_eq!(fake.requests(), requests, "it is not cached");
    }
    let demanding = broker.request("past").min_ttl(MINUTE).send();
    assert!(demanding.is_ok(), "what the broker says counts");
}

#[test]
fn answer_overtaken_by_a_newer_token_is_not_cached() {
    let (publish, updates) = channel();
    let (updates, publish) = (Mutex::new(updates), Mutex::new(publish));
    let (release, gate) = gate();
    let fake = Fake::start(move |_, mut peer| {
        while let Some(request) = peer.request() {
            if matches!(request, Request::Token(_)) {
                publish.lock().unwrap().send(()).unwrap();
                gate.wait();
                peer.answer(&token_with(1, HOUR, MINUTE * 10));
            } else {
                updates.lock().unwrap().recv_timeout(PATIENCE).unwrap();
                peer.answer(&token(2));
            }
        }
    });
    let broker = fake.broker().with_timeout(PATIENCE);
    thread::scope(|scope| {
        let asking = scope.spawn(|| broker.token("data").unwrap().generation());
        assert_eq!(
            broker
                .watch("data")
                .unwrap()
                .next()
                .unwrap()
                .unwrap()
                .generation(),
            2
        );
        release.send(()).unwrap();
        assert_eq!(asking.join().unwrap(), 1, "it is valid");
    });
    assert_eq!(broker.token("data").unwrap().generation(), 2);
}

/// A broker that sends each published token to watchers, and reports closed connections.
fn notifying() -> (Fake, Sender<Response>, Receiver<()>) {
    let (publish, updates) = channel::<Response>();
    let (closed_sender, closed) = channel();
    let updates = Arc::new(Mutex::new(updates));
    let fake = Fake::start(move |_, mut peer| {
        while let Some(request) = peer.request() {
            if !matches!(request, Request::Token(_)) {
                break;
            }
            peer.answer(&token_with(1, HOUR, MINUTE * 10));
        }
        let mut reader = peer.stream.try_clone().unwrap();
        thread::scope(|scope| {
            let is_closed = Arc::new(std::sync::atomic::AtomicBool::new(false));
            let reader_closed = Arc::clone(&is_closed);
            scope.spawn(move || {
                let _ = std::io::Read::read(&mut reader, &mut [0]);
                reader_closed.store(true, std::sync::atomic::Ordering::SeqCst);
            });
            while !is_closed.load(std::sync::atomic::Ordering::SeqCst) {
                let next = updates
                    .lock()
                    .unwrap()
                    .recv_timeout(Duration::from_millis(5));
                if let Ok(response) = next {
                    peer.answer(&response);
                }
            }
        });
        let _ = closed_sender.send(());
    });
    (fake, publish, closed)
}

#[test]
fn kept_set_is_received_and_not_requested_until_its_broker_is_dropped() {
    let (fake, publish, closed) = notifying();
    let broker = fake.broker();
    broker.keep("data").unwrap();
    broker.keep("data").unwrap();
    fake.wait_for_requests(1);
    for generation in [5, 6] {
        publish.send(token(generation)).unwrap();
        // The first call may come before the thread has received it, and request a token.
        wait_until(|| broker.token("data").unwrap().generation() == generation);
    }
    let requests = fake.requests();
    assert!(broker.token("data").is_ok());
    assert_eq!(fake.requests(), requests);
    drop(broker);
    closed.recv_timeout(PATIENCE).unwrap();
}

#[test]
fn denied_set_can_be_kept_again() {
    let fake = Fake::start(|number, mut peer| {
        while peer.request().is_some() {
            peer.answer(&match number {
                0 | 1 => refusal(RefusalKind::UnknownScope),
                _ => token(7),
            });
        }
    });
    let broker = fake.broker();
    let kept = || {
        broker.keep("data").unwrap();
        broker.request("data").send().is_ok()
    };
    // The second thread starts after the end of the first.
    wait_until(kept);
    assert!(fake.requests() >= 3);
}

#[test]
fn watched_token_is_cached_for_all_callers() {
    let (fake, publish, closed) = notifying();
    let broker = fake.broker();
    let mut watch = broker.watch("data").unwrap();
    for generation in [5, 6] {
        publish.send(token(generation)).unwrap();
        assert_eq!(watch.next().unwrap().unwrap().generation(), generation);
        assert_eq!(broker.token("data").unwrap().generation(), generation);
    }
    assert_eq!(fake.requests(), 1, "the watch alone");
    drop(watch);
    closed.recv_timeout(PATIENCE).unwrap();
}

#[test]
fn public_types_can_be_used_on_any_thread() {
    fn on_any_thread<T: Send + Sync + 'static>() {}
    on_any_thread::<Broker>();
    on_any_thread::<domo_token_client::Token>();
    on_any_thread::<domo_token_client::Watch>();
    on_any_thread::<domo_token_client::Authorization>();
    on_any_thread::<domo_token_client::Error>();
}

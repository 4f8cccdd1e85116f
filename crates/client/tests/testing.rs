//! The broker for the tests of apps, and tokens without a broker.

#![cfg(unix)]
#![cfg(feature = "testing")]
#![cfg(test)]

use std::io::Read;
use std::os::unix::net::UnixStream;
use std::thread;
use std::time::Duration;

use domo_token_client::testing::FakeBroker;
use domo_token_client::{Broker, ErrorKind, Token};

const SHORT: Duration = Duration::from_millis(50);

fn text(broker: &Broker, scopes: &str) -> String {
    broker.token(scopes).unwrap().secret().to_owned()
}

#[test]
fn granted_token_is_served_for_its_scopes_and_others_are_generated() {
    let fake = FakeBroker::start().unwrap();
    fake.grant("user,data", "t0ken");
    let broker = fake.broker();
    let token = broker.token("data user").unwrap();
    assert_eq!(token.secret(), "t0ken");
    assert_eq!((token.scope(), token.client()), ("data user", "default"));
    assert_eq!(token.broker(), fake.socket());
    assert_eq!(text(&broker.with_client("acme"), "data user"), "t0ken");
    assert_ne!(text(&broker, "data"), text(&broker, "user"));
    assert_eq!(fake.requests(), 4);
    assert_eq!(text(&broker, "user data"), "t0ken");
    assert_eq!(fake.requests(), 4, "it was cached");
    // Each broker has its own cache.
    assert_eq!(text(&fake.broker(), "data user"), "t0ken");
    assert_eq!(
        text(&Broker::connect_to(fake.socket()).unwrap(), "data user"),
        "t0ken"
    );
    assert_eq!(fake.requests(), 6);
}

#[test]
fn renewed_token_has_another_text_and_generation() {
    let fake = FakeBroker::start().unwrap();
    fake.grant("data", "t0ken");
    let broker = fake.broker();
    let first = broker.token("data").unwrap();
    let second = broker.renew(&first).unwrap();
    assert_ne!(second.secret(), "t0ken");
    assert_ne!(second.generation(), first.generation());
    assert_eq!(fake.rejections("data"), 1);
    // Another process that held the first one.
    let third = fake
        .broker()
        .request("data")
        .rejected(first.generation())
        .send()
        .unwrap();
    assert_eq!(third.generation(), second.generation());
    assert_eq!(fake.rejections("data"), 2);
    let fourth = broker.request("data").renew().send().unwrap();
    assert_ne!(fourth.generation(), second.generation());
    // The same text is the same token.
    fake.grant("data", fourth.secret());
    let same = fake.broker().token("data").unwrap();
    assert_eq!(same.generation(), fourth.generation());
}

#[test]
fn lifetime_decides_expiry_and_the_longest_min_ttl() {
    const MINUTE: Duration = Duration::from_secs(60);
    let fake = FakeBroker::start().unwrap();
    let hour = fake.broker().token("data").unwrap();
    assert!(hour.expires_in() > MINUTE * 59);
    fake.set_lifetime(MINUTE);
    let broker = fake.broker();
    let short = broker.token("user").unwrap();
    assert_eq!(short.lifetime(), MINUTE);
    assert!(broker.request("user").min_ttl(MINUTE / 2).send().is_ok());
    let error = broker
        .request("user")
        .min_ttl(MINUTE * 2)
        .send()
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::MinTtlTooLong);
    // A token that expires before is replaced.
    fake.set_lifetime(MINUTE * 10);
    let longer = broker.request("user").min_ttl(MINUTE * 2).send().unwrap();
    assert_ne!(longer.generation(), short.generation());
}

#[test]
fn expired_token_is_replaced() {
    let fake = FakeBroker::start().unwrap();
    fake.set_lifetime(Duration::ZERO);
    fake.grant("data", "t0ken");
    fake.set_lifetime(Duration::from_secs(60));
    assert_ne!(text(&fake.broker(), "data"), "t0ken");
}

#[test]
fn failure_of_each_kind_is_an_error_until_the_scopes_are_granted() {
    for kind in [
        ErrorKind::NotPermitted,
        ErrorKind::UnknownClient,
        ErrorKind::UnknownScope,
        ErrorKind::MinTtlTooLong,
        ErrorKind::Rejected,
        ErrorKind::Gone,
        ErrorKind::Unavailable,
        ErrorKind::Busy,
        ErrorKind::Timeout,
        ErrorKind::IncompatibleVersion,
        ErrorKind::Protocol,
    ] {
        let fake = FakeBroker::start().unwrap();
        fake.fail("data", kind);
        // On a new connection, and on one that has been used.
        let broker = fake.broker().with_timeout(SHORT);
        for _ in 0..2 {
            let error = broker.token("data").unwrap_err();
            assert_eq!(error.kind(), kind, "{error}");
            assert_eq!(error.retry_after(), None);
            assert!(broker.token("user").is_ok(), "another scope set");
        }
        let mut watch = broker.watch("data").unwrap();
        if kind != ErrorKind::Timeout {
            assert_eq!(watch.next().unwrap().unwrap_err().kind(), kind);
        }
        fake.grant("data", "t0ken");
        assert_eq!(text(&broker, "data"), "t0ken");
    }
}

#[test]
fn retry_after_of_a_failure_is_that_of_the_error() {
    const MINUTE: Duration = Duration::from_secs(60);
    let fake = FakeBroker::start().unwrap();
    fake.fail_with_retry_after("data", ErrorKind::Unavailable, MINUTE);
    let error = fake.broker().token("data").unwrap_err();
    let wait = error.retry_after().unwrap();
    assert!(wait > MINUTE / 2 && wait <= MINUTE, "{wait:?}");
}

#[test]
fn failing_others_leaves_only_what_was_granted() {
    let fake = FakeBroker::start().unwrap();
    fake.grant("data", "t0ken");
    fake.fail_others(ErrorKind::UnknownScope);
    let broker = fake.broker();
    assert_eq!(text(&broker, "data"), "t0ken");
    let error = broker.token("data user").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::UnknownScope);
    fake.grant("data user", "both");
    assert_eq!(text(&broker, "data user"), "both");
}

#[test]
fn watch_receives_each_granted_and_renewed_token_and_each_refusal_in_order() {
    let fake = FakeBroker::start().unwrap();
    fake.grant("data", "first");
    let broker = fake.broker().with_client("acme");
    let mut watch = broker.watch("data").unwrap();
    let mut next = || {
        watch
            .next()
            .map(|item| item.map(|token| token.secret().to_owned()))
    };
    assert_eq!(next().unwrap().unwrap(), "first");
    fake.grant("user", "other");
    fake.grant("data", "second");
    fake.grant("data", "third");
    assert_eq!(next().unwrap().unwrap(), "second");
    assert_eq!(next().unwrap().unwrap(), "third");
    let renewed = broker.request("data").renew().send().unwrap();
    assert_eq!(next().unwrap().unwrap(), renewed.secret());
    fake.fail("data", ErrorKind::Unavailable);
    let error = next().unwrap().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    fake.grant("data", "fourth");
    assert_eq!(next().unwrap().unwrap(), "fourth");
    fake.fail("data", ErrorKind::Gone);
    assert_eq!(next().unwrap().unwrap_err().kind(), ErrorKind::Gone);
    assert!(next().is_none());
}

#[test]
fn status_explanation_and_metrics_show_what_is_granted() {
    let fake = FakeBroker::start().unwrap();
    let broker = fake.broker();
    let token = broker.token("data").unwrap();
    fake.fail("user", ErrorKind::Rejected);
    let status = broker.status().unwrap();
    assert_eq!(status.broker.pid, std::process::id());
    let [data, user] = &status.scopes[..] else {
        panic!("{status:?}");
    };
    assert_eq!((data.scope.as_str(), user.scope.as_str()), ("data", "user"));
    assert_eq!(data.generation, Some(token.generation()));
    assert_eq!(
        (data.last_error.is_some(), user.last_error.is_some()),
        (false, true)
    );
    assert_ne!(data.state, user.state);
    let metrics = broker.metrics().unwrap();
    assert!(metrics.contains("\ndomo_token_build_info{"), "{metrics}");
    let named = broker.with_client("acme");
    assert!(named.explain("data").unwrap().denied.is_none());
    assert!(broker.explain("user").unwrap().denied.is_some());
}

#[test]
fn status_of_many_scope_sets_is_complete() {
    let fake = FakeBroker::start().unwrap();
    for number in 0..2000 {
        fake.grant(&format!("scope{number}"), "t0ken");
    }
    let requests = fake.requests();
    let status = fake.broker().status().unwrap();
    assert_eq!(status.scopes.len(), 2000);
    assert_eq!(fake.requests(), requests + 1, "it was not requested again");
}

#[test]
fn stopped_broker_is_not_running_and_serves_the_same_tokens_after_a_restart() {
    let fake = FakeBroker::start().unwrap();
    fake.grant("data", "t0ken");
    let broker = fake.broker();
    let token = broker.token("data").unwrap();
    fake.stop();
    assert!(!fake.socket().exists());
    assert_eq!(text(&broker, "data"), "t0ken", "it is cached");
    let error = broker.with_timeout(SHORT).token("user").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotRunning);
    thread::scope(|scope| {
        // This call lasts until the restart.
        let calling = scope.spawn(|| broker.token("user").map(drop));
        fake.restart().unwrap();
        calling.join().unwrap().unwrap();
    });
    let same = fake.broker().token("data").unwrap();
    assert_eq!(same.generation(), token.generation());
    // Also if it was not stopped, and stopped twice.
    fake.restart().unwrap();
    assert_eq!(text(&fake.broker(), "data"), "t0ken");
    fake.stop();
    fake.stop();
}

#[test]
fn watch_continues_after_a_restart() {
    let fake = FakeBroker::start().unwrap();
    fake.grant("data", "first");
    let mut watch = fake.broker().watch("data").unwrap();
    assert_eq!(watch.next().unwrap().unwrap().secret(), "first");
    fake.stop();
    fake.grant("data", "second");
    fake.restart().unwrap();
    let next = watch.find_map(Result::ok).unwrap();
    assert_eq!(next.secret(), "second");
}

#[test]
fn hundred_concurrent_threads_are_served() {
    let fake = FakeBroker::start().unwrap();
    thread::scope(|scope| {
        for number in 0..100 {
            let broker = fake.broker();
            scope.spawn(move || broker.token(&format!("scope{number}")).unwrap());
        }
    });
    assert_eq!(fake.requests(), 100);
}

#[test]
fn dropped_broker_closes_connections_and_leaves_no_files() {
    let fake = FakeBroker::start().unwrap();
    let mut stream = UnixStream::connect(fake.socket()).unwrap();
    // Connections are accepted in order.
    fake.broker().token("data").unwrap();
    let directory = fake.socket().parent().unwrap().to_owned();
    assert!(directory.exists());
    drop(fake);
    assert_eq!(stream.read(&mut [0]).unwrap(), 0);
    assert!(!directory.exists());
}

#[test]
fn token_for_tests_has_its_text_scopes_and_lifetime() {
    const MINUTE: Duration = Duration::from_secs(60);
    let token = Token::for_tests("user,data", "t0ken", MINUTE);
    assert_eq!(token.authorization().as_str(), "Bearer t0ken");
    assert_eq!((token.scope(), token.client()), ("data user", "default"));
    assert_eq!(token.lifetime(), MINUTE);
    assert!(token.expires_in() > MINUTE / 2);
    let other = Token::for_tests("data", "t0ken", MINUTE);
    assert_ne!(token.generation(), other.generation());
    assert!(
        Token::for_tests("data", "t0ken", Duration::ZERO)
            .expires_in()
            .is_zero()
    );
    assert!(!format!("{token:?}").contains("t0ken"));
}

#[test]
fn invalid_scopes_texts_and_kinds_panic_with_the_reason() {
    let fake = FakeBroker::start().unwrap();
    let message = |test: &dyn Fn()| {
        let unwind = std::panic::AssertUnwindSafe(test);
        let payload = std::panic::catch_unwind(unwind).unwrap_err();
        let formatted = payload.downcast_ref::<String>().cloned();
        let literal = payload
            .downcast_ref::<&str>()
            .map(|text| (*text).to_owned());
        formatted.or(literal).unwrap()
    };
    let text = message(&|| fake.grant("data", "t 0ken"));
    assert!(text.contains("only letters"), "{text}");
    let scopes = message(&|| fake.fail(" ", ErrorKind::Busy));
    assert!(scopes.contains("at least one scope"), "{scopes}");
    let kind = message(&|| fake.fail("data", ErrorKind::Untrusted));
    assert_eq!(kind, "no answer of a broker causes Untrusted");
    // It still serves.
    assert!(fake.broker().token("data").is_ok());
}

#[cfg(feature = "tokio")]
#[test]
fn async_broker_is_served() {
    let fake = FakeBroker::start().unwrap();
    fake.grant("data", "first");
    let broker = domo_token_client::tokio::Broker::from(fake.broker());
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        assert_eq!(broker.token("data").await.unwrap().secret(), "first");
        let mut watch = broker.watch("data").unwrap();
        assert_eq!(watch.next().await.unwrap().unwrap().secret(), "first");
        fake.grant("data", "second");
        assert_eq!(watch.next().await.unwrap().unwrap().secret(), "second");
        fake.stop();
        fake.restart().unwrap();
        assert!(broker.token("user").await.is_ok());
    });
}

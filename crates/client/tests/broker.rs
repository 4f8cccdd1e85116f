//! Connections and calls of the client, against a minimal broker.

#![cfg(test)]

#[allow(dead_code, reason = "each test file uses its own part")]
mod fake;

use std::thread;
use std::time::Duration;

use domo_token_client::clock::boot_now;
use domo_token_client::{Broker, ErrorKind};
use domo_token_protocol::messages::{RefusalKind, Request, Response};

use fake::{
    Fake, FakeListener, broker_status, granted, refusal, renewed, socket_path, token, token_of,
};

#[test]
fn one_connection_serves_many_calls() {
    let fake = Fake::granting();
    let broker = fake.broker();
    for number in 0..10 {
        let token = broker.token(&format!("scope{number}")).unwrap();
        assert_eq!((token.secret(), token.generation()), ("c4nary-token-7", 7));
        assert!(token.expires_in() > Duration::from_secs(3500));
    }
    assert_eq!((fake.connections(), fake.requests()), (1, 10));
}

#[test]
fn concurrent_requests_do_not_wait_for_each_other() {
    // The first request is answered only after the second has arrived.
    let fake = Fake::start(|number, mut peer| {
        static SECOND: std::sync::Barrier = std::sync::Barrier::new(2);
        assert!(number < 2);
        while let Some(request) = peer.token_request() {
            SECOND.wait();
            peer.answer(&granted(&request.subject, token(7)));
        }
    });
    let broker = fake.broker();
    thread::scope(|scope| {
        for scopes in ["data", "user"] {
            let broker = &broker;
            scope.spawn(move || broker.token(scopes).unwrap());
        }
    });
    assert_eq!(fake.connections(), 2);
}

#[test]
fn connection_lost_before_its_answer_is_made_again() {
    let fake = Fake::start(|number, mut peer| {
        while peer.request().is_some() {
            if number < 2 {
                return;
            }
            peer.answer(&token(7));
        }
    });
    assert!(fake.broker().token("data").is_ok());
    assert_eq!(fake.connections(), 3);
}

#[test]
fn busy_broker_is_requested_again() {
    let fake = Fake::start(|number, mut peer| {
        while peer.request().is_some() {
            peer.answer(&if number < 2 {
                refusal(RefusalKind::Busy)
            } else {
                token(7)
            });
        }
    });
    assert!(fake.broker().token("data").is_ok());
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
    let mut watch = fake.broker().watch("data").unwrap();
    let start = boot_now();
    let error = watch.next().unwrap().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Busy, "{error}");
    assert_eq!(watch.next().unwrap().unwrap().generation(), 7);
    // Each pause is twice the last one, and at least 10 ms longer.
    let pauses = Duration::from_millis(10 + 30 + 70 + 150);
    assert!(boot_now().saturating_since(start) >= pauses);
    assert_eq!(fake.connections(), BUSY + 2);
}

#[cfg(unix)]
#[test]
fn watch_continues_after_a_local_connect_error_once_a_broker_has_answered() {
    let folder = tempfile::tempdir().unwrap();
    let path = socket_path(folder.path());
    let start = |generation| {
        Fake::start_at(&path, move |_, mut peer| {
            while peer.request().is_some() {
                peer.answer(&token(generation));
            }
        })
    };
    // A loop of symlinks causes an error until the test removes it.
    let stop = |fake: Fake| {
        drop(fake);
        std::os::unix::fs::symlink(&path, &path).unwrap();
    };
    let fake = start(1);
    let broker = Broker::connect_to(&path).unwrap();
    let (mut answered, mut unanswered) =
        (broker.watch("data").unwrap(), broker.watch("data").unwrap());
    assert_eq!(answered.next().unwrap().unwrap().generation(), 1);
    stop(fake);
    let error = answered.next().unwrap().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Io, "{error}");
    let error = unanswered.next().unwrap().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Io, "{error}");
    assert!(unanswered.next().is_none(), "no broker has answered it");
    std::fs::remove_file(&path).unwrap();
    let _fake = start(2);
    let next = answered
        .next()
        .map(|item| item.map(|token| token.generation()));
    assert!(matches!(next, Some(Ok(2))), "{next:?}");
}

#[test]
fn socket_is_that_of_the_broker_that_answered() {
    let fake = Fake::start(|_, mut peer| {
        while let Some(request) = peer.request() {
            if request == Request::Status {
                peer.answer_all(&[broker_status(), Response::End]);
            } else {
                peer.answer(&token(7));
            }
        }
    });
    let broker = fake.broker();
    assert_eq!(broker.token("data").unwrap().broker(), fake.path());
    assert_eq!(broker.status().unwrap().socket, fake.path());
    assert_eq!(broker.socket(), fake.path());
    let watched = broker.watch("data").unwrap().next().unwrap().unwrap();
    assert_eq!(watched.broker(), fake.path());
}

#[test]
fn silent_broker_is_an_error_at_the_deadline() {
    let fake = Fake::start(|_, mut peer| while peer.request().is_some() {});
    let broker = fake.broker().with_timeout(Duration::from_millis(50));
    let error = broker.token("data").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Timeout, "{error}");
    assert!(error.is_retryable() && error.retry_after().is_none());
}

#[test]
fn renew_sends_the_rejected_generation_and_the_requested_scopes() {
    let fake = Fake::answering(|_, request| {
        assert_eq!(request.subject.scope, "user", "not the scopes granted");
        token_of("acme", "data user", renewed(request))
    });
    let broker = fake.broker();
    let first = broker.token("user").unwrap();
    assert_eq!(first.scope(), "data user", "as granted");
    assert_eq!(broker.renew(&first).unwrap().generation(), 2);
}

#[test]
fn missing_socket_and_refusing_socket_are_not_running() {
    let folder = tempfile::tempdir().unwrap();
    let path = socket_path(folder.path());
    let kind = || Broker::connect_to(&path).unwrap_err().kind();
    assert_eq!(kind(), ErrorKind::NotRunning);
    drop(FakeListener::open(&path));
    assert_eq!(kind(), ErrorKind::NotRunning);
}

#[test]
#[cfg(unix)]
fn empty_path_is_an_error_that_names_the_cause() {
    let error = Broker::connect_to("").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Io);
    assert!(
        error
            .to_string()
            .contains("the path of the socket is empty")
    );
}

#[test]
fn debug_output_contains_no_token() {
    let fake = Fake::granting();
    let broker = fake.broker();
    let token = broker.token("data").unwrap();
    let header = token.authorization();
    assert_eq!(header.as_str(), "Bearer c4nary-token-7");
    let shown = format!("{token:?} {broker:?} {header:?} {:?}", self::token(7));
    assert!(!shown.contains("c4nary"), "{shown}");
}

#[test]
fn invalid_scope_set_is_not_requested() {
    let fake = Fake::start(|_, _| {});
    for scopes in ["", " , ", "da\nta"] {
        let error = fake.broker().token(scopes).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidScope, "{error}");
    }
}

/// Any process can create a pipe first. Windows permits only some users to set another owner.
#[cfg(windows)]
#[test]
fn pipe_of_another_owner_is_not_used() {
    let folder = tempfile::tempdir().unwrap();
    let path = socket_path(folder.path());
    let Ok(_listener) = FakeListener::open_as(&path, "S-1-1-0") else {
        return;
    };
    let error = Broker::connect_to(&path).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Untrusted, "{error}");
    assert!(error.to_string().contains("S-1-1-0"), "{error}");
}

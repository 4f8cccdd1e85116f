//! Which responses of a broker the client accepts, in each protocol version.

#![cfg(test)]

#[allow(dead_code, reason = "each test file uses its own part")]
mod fake;

use std::io::Write;
use std::time::Duration;

use domo_token_client::clock::boot_now;
use domo_token_client::{Broker, Error, ErrorKind, TokenOrigin};
use domo_token_protocol::greeting::{GREETING, Greeting};
use domo_token_protocol::messages::{
    self, BrokerStatus, Explanation, OLDEST_VERSION, RefusalKind, Request, Response, ScopeState,
    ScopeStatus, VERSION,
};

use fake::{Fake, HOUR, PATIENCE, Peer, broker_status, granted, refusal, token, token_of};

/// What the broker does with a connection of that number.
type Serve = fn(usize, Peer);

/// Sends this response to each request, but closes the first connection after two parts.
fn closing_mid_response(answer: impl Fn() -> Vec<Response> + Send + Sync + 'static) -> Fake {
    Fake::start(move |number, mut peer| {
        while peer.request().is_some() {
            let parts = if number == 0 { 2 } else { usize::MAX };
            for part in answer().iter().take(parts) {
                peer.answer(part);
            }
            if number == 0 {
                return;
            }
        }
    })
}

#[test]
fn incomplete_answer_is_discarded_and_requested_again() {
    let piece = |text: &str| Response::Metrics(text.to_owned());
    let fake =
        closing_mid_response(move || vec![piece("a\n"), piece("b\n"), piece("c\n"), Response::End]);
    assert_eq!(fake.broker().metrics().unwrap(), "a\nb\nc\n");
    assert_eq!(fake.connections(), 2);

    let fake =
        closing_mid_response(|| vec![broker_status(), set("data"), set("user"), Response::End]);
    let status = fake.broker().status().unwrap();
    let scopes: Vec<&str> = status.scopes.iter().map(|set| set.scope.as_str()).collect();
    assert_eq!(scopes, ["data", "user"]);
    assert_eq!(fake.connections(), 2);
}

fn set(scope: &str) -> Response {
    Response::Scope(ScopeStatus {
        client: "acme".to_owned(),
        client_id: "441e307a".to_owned(),
        scope: scope.to_owned(),
        state: ScopeState::Fetching,
        obtained: None,
        expires: None,
        generation: None,
        next_attempt: None,
        requests: 1,
        attempts: 0,
        last_error: None,
        last_error_at: None,
        rejected: 0,
        last_rejected_by: None,
        credentials_error: None,
        from: None,
    })
}

#[test]
fn each_refusal_kind_maps_to_its_error() {
    let kinds = [
        (RefusalKind::NotPermitted, ErrorKind::NotPermitted),
        (RefusalKind::UnknownClient, ErrorKind::UnknownClient),
        (RefusalKind::UnknownScope, ErrorKind::UnknownScope),
        (RefusalKind::MinTtlTooLong, ErrorKind::MinTtlTooLong),
        (RefusalKind::Denied, ErrorKind::Rejected),
        (RefusalKind::Gone, ErrorKind::Gone),
        (RefusalKind::Unavailable, ErrorKind::Unavailable),
    ];
    let fake = Fake::start(move |_, mut peer| {
        while let Some(Request::Token(request)) = peer.request() {
            let number: usize = request.subject.scope.parse().unwrap();
            peer.answer(&refusal(kinds[number].0));
        }
    });
    let broker = fake.broker();
    for (number, (_, expected)) in kinds.into_iter().enumerate() {
        let error = broker.token(&number.to_string()).unwrap_err();
        assert_eq!(error.kind(), expected);
        assert_eq!(error.is_retryable(), expected == ErrorKind::Unavailable);
        assert!(error.to_string().starts_with("because; next attempt in "));
        assert!(error.retry_after().unwrap() > Duration::from_secs(50));
    }
    assert_eq!(fake.connections(), 1, "a refusal costs no connection");
}

#[test]
fn other_protocol_version_is_named_in_the_error() {
    let fake = Fake::start(|_, mut peer| {
        peer.request();
        peer.stream.write_all(b"DTK\x09").unwrap();
    });
    let error = fake.broker().token("data").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::IncompatibleVersion, "{error}");
    assert!(error.to_string().contains("version 9"));
}

/// A broker that speaks only this version: to any other one it sends its greeting and closes.
fn broker_of_version(version: u8, answer: impl Fn(&mut Peer) + Send + Sync + 'static) -> Fake {
    Fake::start(move |_, mut peer| {
        while peer.request().is_some() {
            if peer.hello != Some(version) {
                let greeting = Greeting::new(version, boot_now());
                let greeting = greeting.encode(&mut [0; GREETING]).to_vec();
                return peer.stream.write_all(&greeting).unwrap_or_default();
            }
            answer(&mut peer);
        }
    })
}

#[test]
fn status_of_an_older_broker_has_no_fleet_and_no_applications_and_that_of_a_new_one_has_them() {
    for version in OLDEST_VERSION..=VERSION {
        let fake = broker_of_version(version, |peer| {
            let mut broker = broker_status();
            if let Response::Broker(status) = &mut broker {
                status.fleet = Some(fleet());
                status.apps = vec![app()];
                status.more_apps = 900;
            }
            let mut set = set("data");
            if let Response::Scope(status) = &mut set {
                status.from = Some(messages::TokenOrigin::Fleet);
            }
            peer.answer_all(&[broker, set, Response::End]);
        });
        let status = fake.broker().status().unwrap();
        let broker = status.broker;
        let place = broker.fleet.map(|fleet| fleet.place);
        let apps = broker.apps.iter().map(|app| &*app.name).collect::<Vec<_>>();
        let found = (place.as_deref(), status.scopes[0].from);
        let apps = (apps, broker.more_apps);
        let (expected, expected_apps) = if version < 3 {
            ((None, None), (vec![], 0))
        } else {
            let fleet = (Some("cache.example:6379"), Some(TokenOrigin::Fleet));
            (fleet, (vec!["etl"], 900))
        };
        assert_eq!(apps, expected_apps, "version {version}");
        assert_eq!(found, expected, "version {version}");
        assert_eq!(status.scopes[0].scope, "data");
    }
}

fn app() -> messages::AppStatus {
    messages::AppStatus {
        name: "etl".to_owned(),
        client: "acme".to_owned(),
        ..messages::AppStatus::default()
    }
}

fn fleet() -> messages::FleetStatus {
    messages::FleetStatus {
        place: "cache.example:6379".to_owned(),
        up: true,
        since: Some(boot_now()),
        last_error: None,
        clock_difference_ms: Some(-12),
    }
}

#[test]
fn broker_that_speaks_version_1_alone_is_spoken_to_in_that() {
    let fake = broker_of_version(1, |peer| peer.answer(&token(7)));
    let broker = fake.broker();
    assert_eq!(broker.token("data").unwrap().generation(), 7);
    assert_eq!(fake.connections(), 2, "one for each version");
    let again = broker.request("data").renew().send().unwrap();
    assert_eq!(again.generation(), 7);
    assert_eq!(fake.connections(), 0, "the second one is kept");
    let watched = broker.watch("data").unwrap().next().unwrap().unwrap();
    assert_eq!(watched.generation(), 7);
}

#[test]
fn broker_that_answers_before_it_has_read_the_hello_is_understood() {
    let fake = Fake::start(|number, mut peer| {
        if number == 0 {
            peer.hello = Some(1);
            peer.answer(&refusal(RefusalKind::Busy));
        } else {
            peer.request();
            assert_eq!(peer.hello, Some(VERSION), "it may be of any version");
            peer.answer(&token(7));
        }
    });
    assert_eq!(fake.broker().token("data").unwrap().generation(), 7);
    assert_eq!(fake.connections(), 2);
}

#[test]
fn times_of_a_broker_with_another_boot_clock_are_right() {
    const DAY: Duration = Duration::from_secs(86_400);
    let before = Duration::from_millis(boot_now().as_millis()) / 2;
    for (ahead, behind) in [(DAY, Duration::ZERO), (Duration::ZERO, before)] {
        let theirs = move || boot_now() + ahead - behind;
        let fake = Fake::start(move |_, mut peer| {
            peer.clock = theirs();
            while let Some(request) = peer.request() {
                let mut answer = if request == Request::Status {
                    let started = theirs() - Duration::from_secs(60);
                    let status = BrokerStatus {
                        started,
                        ..BrokerStatus::default()
                    };
                    peer.answer(&Response::Broker(status));
                    Response::End
                } else {
                    token(7)
                };
                if let Response::Token(token) = &mut answer {
                    token.expires = theirs() + HOUR;
                }
                peer.answer(&answer);
            }
        });
        let broker = fake.broker();
        let is_an_hour =
            |left: Duration| left <= HOUR && HOUR.saturating_sub(left) < Duration::from_secs(30);
        let token = broker.token("data").unwrap();
        assert!(is_an_hour(token.expires_in()), "{:?}", token.expires_in());
        broker.token("data").unwrap();
        assert_eq!(fake.requests(), 1, "it is cached");
        let watched = broker.watch("data").unwrap().next().unwrap().unwrap();
        assert!(is_an_hour(watched.expires_in()));
        let status = broker.status().unwrap();
        let since = status.broker.started.elapsed();
        assert!((60..90).contains(&since.as_secs()), "{since:?}");
    }
}

#[test]
fn server_that_is_no_broker_is_a_protocol_error() {
    let answers: [Serve; 4] = [
        |_, mut peer| {
            peer.stream
                .write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n")
                .unwrap_or_default();
        },
        |_, mut peer| {
            peer.stream
                .write_all(b"DTK\x01\xff\xff\xff\xff")
                .unwrap_or_default();
        },
        |_, mut peer| {
            peer.stream
                .write_all(b"DTK\x01\x01\x00\x00\x00\x63")
                .unwrap_or_default();
        },
        |_, mut peer| {
            peer.request();
            peer.answer(&Response::End);
            peer.request();
        },
    ];
    for answer in answers {
        let fake = Fake::start(answer);
        let error = fake.broker().token("data").unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Protocol, "{error}");
    }
}

fn explanation(client: Option<&str>, scope: &str) -> Response {
    Response::Explanation(Explanation {
        client: client.map(str::to_owned),
        scope: scope.to_owned(),
        peer: "uid 1004".to_owned(),
        refused: None,
        rule: "everyone".to_owned(),
    })
}

type Call<'a> = &'a dyn Fn(&Broker) -> Result<(), Error>;

/// Checks that the call fails with a protocol error, and that the client closes the connection.
fn is_rejected(
    answer: Vec<Response>,
    call: impl Fn(&Broker) -> Result<(), Error>,
) -> Result<(), String> {
    let (closed, is_closed) = std::sync::mpsc::channel();
    let fake = Fake::start(move |number, mut peer| {
        while let Some(request) = peer.request() {
            if number == 0 {
                for part in &answer {
                    peer.answer(part);
                }
            } else if let Request::Token(request) = request {
                peer.answer(&granted(&request.subject, token(7)));
            }
        }
        let _ = closed.send(number);
    });
    let broker = fake.broker().with_client("acme");
    let result = call(&broker);
    if result.as_ref().err().map(Error::kind) != Some(ErrorKind::Protocol) {
        return Err(format!("{result:?}"));
    }
    let first = is_closed.recv_timeout(PATIENCE);
    let requests_before = fake.requests();
    let next = broker.token("data").map(|token| token.generation());
    match (first, next, fake.requests() - requests_before) {
        (Ok(0), Ok(7), 1) => Ok(()),
        other => Err(format!("{other:?}")),
    }
}

#[test]
fn answer_to_another_request_is_a_protocol_error_that_ends_the_connection() {
    let token_data = |broker: &Broker| broker.token("data").map(drop);
    let renew = |broker: &Broker| broker.request("data").rejected(1).send().map(drop);
    let explain = |broker: &Broker| broker.explain("data").map(drop);
    let status = |broker: &Broker| broker.status().map(drop);
    let metrics = |broker: &Broker| broker.metrics().map(drop);
    let other_client = || token_of("beta", "data", token(7));
    let other_scopes = || token_of("acme", "user audit dat", token(7));
    let cases: [(&str, Response, Call); 13] = [
        ("token of another client", other_client(), &token_data),
        ("token of other scopes", other_scopes(), &token_data),
        ("status for a token", broker_status(), &token_data),
        ("rejected token", token(1), &renew),
        (
            "explanation of a client",
            explanation(Some("beta"), "data"),
            &explain,
        ),
        (
            "explanation of no client",
            explanation(None, "data"),
            &explain,
        ),
        (
            "explanation of a scope",
            explanation(Some("acme"), "user"),
            &explain,
        ),
        ("token for an explanation", token(7), &explain),
        ("token for the status", token(7), &status),
        ("set before the daemon", set("data"), &status),
        ("end before the daemon", Response::End, &status),
        ("token for the metrics", token(7), &metrics),
        (
            "metrics for a token",
            Response::Metrics(String::new()),
            &token_data,
        ),
    ];
    for (name, answer, call) in cases {
        is_rejected(vec![answer], call).unwrap_or_else(|seen| panic!("{name}: {seen}"));
    }
    is_rejected(vec![broker_status(), broker_status()], status).unwrap();
    is_rejected(vec![token_of("ac…", "data", token(7))], token_data).unwrap();
    is_rejected(vec![explanation(Some("ac…"), "data")], explain).unwrap();
    // A watch has its own connection, so that it is not the first.
    for answer in [other_client(), other_scopes(), explanation(None, "data")] {
        let (closed, is_closed) = std::sync::mpsc::channel();
        let fake = Fake::start(move |_, mut peer| {
            if peer.request().is_some() {
                peer.answer(&answer);
                assert!(peer.request().is_none());
                let _ = closed.send(());
            }
        });
        let broker = fake.broker().with_client("acme");
        let mut tokens = broker.watch("data").unwrap();
        let error = tokens.next().unwrap().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Protocol, "{error}");
        is_closed.recv_timeout(PATIENCE).unwrap();
        assert!(tokens.next().is_none());
    }
}

#[test]
fn answers_of_the_requested_client_with_more_scopes_are_accepted() {
    let fake = Fake::start(|_, mut peer| {
        while let Some(request) = peer.request() {
            peer.answer(&if let Request::Explain(subject) = request {
                let cut = subject.client.filter(|name| name.len() <= 64);
                explanation(Some(cut.as_deref().unwrap_or("xxxx…")), &subject.scope)
            } else {
                token_of("acme", "audit data user", token(7))
            });
        }
    });
    let broker = fake.broker();
    assert!(broker.token("user data").is_ok(), "no client was named");
    assert!(broker.with_client("acme").token("data").is_ok());
    assert!(broker.with_client("acme").explain("data").is_ok());
    let too_long = "x".repeat(2000);
    assert!(broker.with_client(&too_long).explain("data").is_ok());
    assert!(broker.with_client(&"x".repeat(65)).explain("data").is_ok());
    assert_eq!(fake.connections(), 1);
}

#[test]
fn connection_with_bytes_after_the_response_is_not_reused() {
    let fake = Fake::start(|number, mut peer| {
        while let Some(request) = peer.token_request() {
            let generation = number as u64 + 1;
            let answer = granted(&request.subject, token(generation));
            peer.answer_all(&[answer.clone(), answer]);
        }
    });
    let broker = fake.broker();
    assert_eq!(broker.token("data").unwrap().generation(), 1);
    assert_eq!(
        broker.request("data").renew().send().unwrap().generation(),
        2
    );
    assert_eq!(fake.connections(), 2);
}

/// What arrives between two requests is no response to the second, and a closed connection is no error.
#[cfg(unix)]
#[test]
fn idle_connection_is_replaced_after_a_late_frame_a_refusal_or_its_end() {
    let late = [
        Some(token_of("acme", "user", token(1))),
        Some(refusal(RefusalKind::Denied)),
        Some(Response::End),
        None,
    ];
    for frame in late {
        let (start, started) = fake::gate();
        let (sent, is_sent) = std::sync::mpsc::channel();
        let extra = frame.clone();
        let fake = Fake::start(move |number, mut peer| {
            while let Some(request) = peer.token_request() {
                peer.answer(&granted(&request.subject, token(number as u64 + 1)));
                if number == 0 {
                    started.wait();
                    match &extra {
                        Some(frame) => peer.answer(frame),
                        None => peer.stream.shutdown(std::net::Shutdown::Both).unwrap(),
                    }
                    sent.send(()).unwrap();
                }
            }
        });
        let broker = fake.broker();
        assert_eq!(broker.token("data").unwrap().generation(), 1);
        start.send(()).unwrap();
        is_sent.recv_timeout(PATIENCE).unwrap();
        let next = broker.token("user").map(|token| token.generation());
        assert_eq!(next.ok(), Some(2), "{frame:?}");
        assert_eq!(fake.connections(), 2);
    }
}

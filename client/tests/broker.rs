//! The client against a broker made of a few lines.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "in a test, what fails says so"
)]

use std::io::{Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::Duration;

use domo_token_client::clock::{BootTime, boot_now};
use domo_token_client::frame::{self, HEAD, HELLO};
use domo_token_client::wire::{
    Refusal, RefusalKind, Renew, Request, Response, TokenAnswer, TokenText,
};
use domo_token_client::{Broker, Error};
use tempfile::TempDir;

/// What the broker does with one connection, by its number.
type Serve = fn(usize, Peer);

struct Fake {
    _folder: TempDir,
    path: PathBuf,
    accepted: Receiver<usize>,
}

impl Fake {
    fn start(serve: Serve) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("broker.sock");
        let listener = UnixListener::bind(&path).unwrap();
        let (sender, accepted) = channel();
        thread::spawn(move || {
            for (number, stream) in listener.incoming().enumerate() {
                if sender.send(number).is_err() {
                    return;
                }
                let stream = stream.unwrap();
                let peer = Peer {
                    stream,
                    welcomed: false,
                };
                thread::spawn(move || serve(number, peer));
            }
        });
        Self {
            _folder: folder,
            path,
            accepted,
        }
    }

    fn broker(&self) -> Broker {
        Broker::connect_to(&self.path)
            .unwrap()
            .timeout(Duration::from_secs(5))
    }

    fn connections(&self) -> usize {
        self.accepted.try_iter().count()
    }
}

struct Peer {
    stream: UnixStream,
    welcomed: bool,
}

impl Peer {
    /// The next request, or `None` once the caller has left.
    fn request(&mut self) -> Option<Request> {
        if !self.welcomed {
            let mut hello = [0; HELLO];
            self.stream.read_exact(&mut hello).ok()?;
            assert_eq!(hello, *b"DTK\x01");
        }
        let mut head = [0; HEAD];
        self.stream.read_exact(&mut head).ok()?;
        let mut body = vec![0; frame::body_length(head).unwrap()];
        self.stream.read_exact(&mut body).ok()?;
        Some(frame::decode(&body).unwrap())
    }

    fn answer(&mut self, response: &Response) {
        let frame = frame::encode(response).unwrap();
        let hello: &[u8] = if self.welcomed { b"" } else { b"DTK\x01" };
        self.welcomed = true;
        // Byte by byte, as a stream may.
        for byte in [hello, &frame].concat() {
            let _left = self.stream.write_all(&[byte]);
        }
    }
}

fn token(generation: u64) -> Response {
    Response::Token(TokenAnswer {
        access_token: TokenText::new("c4nary-token".to_owned()),
        client: "acme".to_owned(),
        scope: "data".to_owned(),
        generation,
        lifetime_ms: 3_599_000,
        expires: boot_now() + Duration::from_secs(3599),
    })
}

fn refusal(kind: RefusalKind) -> Response {
    Response::Refusal(Refusal {
        kind,
        cause: "because".to_owned(),
        next_attempt: Some(BootTime::from_millis(boot_now().as_millis() + 60_000)),
    })
}

#[test]
fn one_connection_serves_many_calls() {
    let fake = Fake::start(|_, mut peer| {
        while peer.request().is_some() {
            peer.answer(&token(7));
        }
    });
    let broker = fake.broker();
    for _ in 0..10 {
        let token = broker.token("data").unwrap();
        assert_eq!((token.secret(), token.generation()), ("c4nary-token", 7));
        assert!(token.expires_in() > Duration::from_secs(3500));
    }
    assert_eq!(fake.connections(), 1);
}

#[test]
fn threads_that_ask_at_once_do_not_wait_for_each_other() {
    // The first request is answered only once the second has come.
    let fake = Fake::start(|number, mut peer| {
        static SECOND: std::sync::Barrier = std::sync::Barrier::new(2);
        assert!(number < 2);
        while peer.request().is_some() {
            SECOND.wait();
            peer.answer(&token(7));
        }
    });
    let broker = fake.broker();
    thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| broker.token("data").unwrap());
        }
    });
    assert_eq!(fake.connections(), 2);
}

#[test]
fn a_connection_lost_before_its_answer_is_made_again() {
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
fn a_busy_broker_is_asked_again() {
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
fn every_refusal_says_what_the_caller_can_do() {
    let fake = Fake::start(|_, mut peer| {
        while let Some(Request::Token(request)) = peer.request() {
            let kinds = [
                RefusalKind::NotPermitted,
                RefusalKind::UnknownClient,
                RefusalKind::UnknownScope,
                RefusalKind::MinTtlTooLong,
                RefusalKind::Denied,
                RefusalKind::Gone,
                RefusalKind::Unavailable,
            ];
            let number: usize = request.asked.scope.parse().unwrap();
            peer.answer(&refusal(kinds[number]));
        }
    });
    let broker = fake.broker();
    let error = |number: &str| broker.token(number).unwrap_err();
    assert!(matches!(error("0"), Error::NotPermitted { .. }));
    assert!(matches!(error("1"), Error::Unknown { .. }));
    assert!(matches!(error("2"), Error::Unknown { .. }));
    assert!(matches!(error("3"), Error::MinTtlTooLong { .. }));
    assert!(matches!(error("4"), Error::Denied { .. }));
    assert!(matches!(error("5"), Error::Gone { .. }));
    let Error::TryLater {
        cause,
        next_attempt,
    } = error("6")
    else {
        panic!("not later");
    };
    assert_eq!(cause, "because");
    assert!(next_attempt.unwrap() > Duration::from_secs(50));
    assert_eq!(fake.connections(), 1, "a refusal costs no connection");
}

#[test]
fn another_protocol_version_is_named() {
    let fake = Fake::start(|_, mut peer| {
        let _request = peer.request();
        peer.stream.write_all(b"DTK\x09").unwrap();
    });
    let error = fake.broker().token("data").unwrap_err();
    assert!(matches!(error, Error::Protocol { theirs: 9 }));
    assert!(error.to_string().contains("version 9"));
}

#[test]
fn whatever_is_no_broker_is_not_taken_for_one() {
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
            let _request = peer.request();
            peer.answer(&Response::End);
            let _gone = peer.request();
        },
    ];
    for answer in answers {
        let fake = Fake::start(answer);
        assert!(matches!(
            fake.broker().token("data"),
            Err(Error::Broken { .. })
        ));
    }
}

#[test]
fn a_silent_broker_is_given_up_at_the_deadline() {
    let fake = Fake::start(|_, mut peer| while peer.request().is_some() {});
    let broker = fake.broker().timeout(Duration::from_millis(50));
    assert!(matches!(broker.token("data"), Err(Error::TryLater { .. })));
}

#[test]
fn renewing_names_the_generation_that_was_refused_and_the_scopes_asked_for() {
    let fake = Fake::start(|_, mut peer| {
        while let Some(Request::Token(request)) = peer.request() {
            let rejected = match request.renew {
                Some(Renew::Rejected(generation)) => generation,
                Some(Renew::Current) | None => 0,
            };
            assert_eq!(request.asked.scope, "user", "not the scopes granted");
            peer.answer(&token(rejected + 1));
        }
    });
    let broker = fake.broker();
    let first = broker.token("user").unwrap();
    assert_eq!(first.scope(), "data", "as granted");
    assert_eq!(broker.renew(&first).unwrap().generation(), 2);
}

#[test]
fn nothing_there_and_nothing_listening_are_not_running() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("broker.sock");
    assert!(matches!(
        Broker::connect_to(&path),
        Err(Error::NotRunning { .. })
    ));
    drop(UnixListener::bind(&path).unwrap());
    assert!(matches!(
        Broker::connect_to(&path),
        Err(Error::NotRunning { .. })
    ));
}

#[test]
fn debug_shows_no_token() {
    let fake = Fake::start(|_, mut peer| {
        while peer.request().is_some() {
            peer.answer(&token(7));
        }
    });
    let broker = fake.broker();
    let token = broker.token("data").unwrap();
    let shown = format!("{token:?} {broker:?} {:?}", self::token(7));
    assert!(!shown.contains("c4nary"), "{shown}");
}

#[test]
fn what_is_no_scope_set_is_not_asked_for() {
    let fake = Fake::start(|_, _| {});
    for scopes in ["", " , ", "da\nta"] {
        assert!(matches!(
            fake.broker().token(scopes),
            Err(Error::InvalidScope(_))
        ));
    }
}

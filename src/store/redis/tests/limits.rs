//! Servers that send nothing, too much, or nonsense.

use super::*;

#[tokio::test]
async fn endless_answers_end_at_the_limit() {
    for start in [
        "$536870912\r\n",
        "+",
        "-ERR ",
        "*2\r\n$1\r\n1\r\n$99999\r\n",
    ] {
        let error = failure(move |_| Answer::Endless {
            start: start.as_bytes().to_vec(),
            rest: vec![b'x'; 4096],
        });
        let error = error.await;
        assert_eq!(error.cause, StoreFailure::Protocol, "{start}");
        assert!(error.message.contains("sent more than 64 KiB"), "{error}");
    }
    let error = failure(|_| Answer::Endless {
        start: b"*2147483647\r\n".to_vec(),
        rest: b"*0\r\n".repeat(1000),
    });
    let error = error.await;
    assert!(error.message.contains("sent more than 64 KiB"), "{error}");
}

#[tokio::test]
async fn nested_and_malformed_answers_are_no_redis_protocol() {
    for answer in [
        b"*1\r\n".repeat(20_000),
        b"*2147483647\r\n:1\r\n".repeat(2000),
        b"%2147483647\r\n:1\r\n".repeat(2000),
        b"$x\r\n".to_vec(),
        b"*2\r\n$1\r\n1\r\n$1\r\n23\r\n".to_vec(),
        b"\0\0\0\0".to_vec(),
        b"+\xff\r\n".to_vec(),
    ] {
        let error = failure(move |_| Answer::Send(answer.clone())).await;
        assert_eq!(error.cause, StoreFailure::Protocol);
        assert!(
            error
                .message
                .contains("does not answer in the Redis protocol"),
            "{error}"
        );
    }
}

#[tokio::test]
async fn silence_and_half_an_answer_end_after_a_second() {
    let half = |bytes: &'static [u8]| {
        failure(move |command| match command {
            "TIME" => send(bytes),
            _ => Answer::Silence,
        })
    };
    let start = crate::platform::clock::boot_now();
    let errors = tokio::join!(
        failure(|_| Answer::Silence),
        half(b"*2\r\n$10\r\n17645"),
        half(b"*2147483647\r\n"),
        half(b"$536870912\r\n"),
    );
    let took = crate::platform::clock::boot_now().saturating_since(start);
    assert!(took >= Duration::from_millis(990), "{took:?}");
    for error in [errors.0, errors.1, errors.2, errors.3] {
        assert_eq!(error.cause, StoreFailure::Timeout, "{error}");
        assert!(
            error
                .message
                .ends_with("within 1 s; check that it runs and is not overloaded"),
            "{error}"
        );
    }
}

#[tokio::test]
async fn record_of_the_longest_length_passes_and_a_longer_one_is_an_error() {
    let record = |length: usize| format!("${length}\r\n{}\r\n", "r".repeat(length));
    for (length, is_valid) in [(MAX_RECORD, true), (MAX_RECORD + 1, false)] {
        let server = Scripted::start(move |command| match command {
            "TIME" => send(TIME),
            _ => send(record(length)),
        });
        let server = server.await;
        let mut session = server.store().session(NAME);
        // Also for the second time over a connection.
        for _ in 0..2 {
            match session.look().await {
                Ok(look) => assert!(is_valid && look.token.unwrap().len() == length),
                Err(error) => assert!(
                    !is_valid && error.cause == StoreFailure::Protocol,
                    "{error}"
                ),
            }
        }
    }
}

#[tokio::test]
async fn record_that_is_too_long_is_not_sent() {
    let server = Scripted::start(empty).await;
    let mut session = server.store().session(NAME);
    let record = vec![0; MAX_RECORD + 1];
    for result in [
        session.put_token(&record, LEASE_TIME).await,
        session.put_note(&record, LEASE_TIME).await,
    ] {
        assert_eq!(result.unwrap_err().cause, StoreFailure::Protocol);
    }
    assert!(server.take_commands().is_empty());
    session.put_note(&record[1..], LEASE_TIME).await.unwrap();
}

#[tokio::test]
async fn cancelled_operation_leaves_no_connection_with_answers_to_come() {
    let server = Scripted::start(|command| match command {
        command if command.starts_with("SET") => Answer::Silence,
        command => empty(command),
    });
    let server = server.await;
    let mut session = server.store().session(NAME);
    session.look().await.unwrap();
    tokio::select! {
        _ = session.put_note(b"note", LEASE_TIME) => panic!("it is not answered"),
        () = until_received(&server, "SET ") => {}
    }
    server.closed.notified().await;
    assert_eq!(session.look().await.unwrap().time_ms, 1_764_538_000_123);
}

async fn until_received(server: &Scripted, start: &str) {
    let is_there = || {
        server
            .commands
            .lock()
            .unwrap()
            .iter()
            .any(|command| command.starts_with(start))
    };
    while !is_there() {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn server_that_does_not_answer_a_tls_handshake_may_expect_none() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let store = store(Place::Server(address(port)), |settings| {
        settings.tls = Some(TlsSettings {
            ca: None,
            identity: None,
        });
    });
    let error = store.session(NAME).look().await.unwrap_err();
    assert_eq!(error.cause, StoreFailure::Timeout);
    let message = "if it expects no TLS, write redis instead of rediss";
    assert!(error.message.ends_with(message), "{error}");
}

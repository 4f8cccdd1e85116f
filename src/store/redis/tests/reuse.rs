//! Which connections are used for another operation.

use super::*;

/// Returns a server that answers commands that start like this with `answer`.
async fn server_with(start: &'static str, answer: &'static str) -> Scripted {
    Scripted::start(move |command| match command {
        command if command.starts_with(start) => send(answer),
        command => empty(command),
    })
    .await
}

#[tokio::test]
async fn answer_that_does_not_fit_its_command_ends_the_connection() {
    for (start, answer) in [
        ("TIME", "+OK\r\n"),
        ("GET", ":1\r\n"),
        ("SET", ":1\r\n"),
        ("SET", "+QUEUED\r\n"),
        ("PEXPIRE", "+OK\r\n"),
        ("DEL", "$-1\r\n"),
    ] {
        let server = server_with(start, answer).await;
        let mut session = server.store().session(NAME);
        let error = match start {
            "TIME" | "GET" => session.look().await.unwrap_err(),
            "PEXPIRE" => session.extend(LEASE_TIME).await.unwrap_err(),
            _ => session.put_token(b"sealed", LEASE_TIME).await.unwrap_err(),
        };
        assert_eq!(error.cause, StoreFailure::Protocol, "{error}");
        let invalid = format!("to {start} is invalid");
        assert!(error.message.contains(&invalid), "{error}");
        server.closed.notified().await;
    }
}

#[tokio::test]
async fn two_answers_to_one_command_are_an_error_and_end_the_connection() {
    let server = server_with("SET", "+OK\r\n$-1\r\n").await;
    let mut session = server.store().session(NAME);
    let error = session.claim("id", LEASE_TIME).await.unwrap_err();
    assert_eq!(error.cause, StoreFailure::Protocol, "{error}");
    let message = "sent more answers than it received commands";
    assert!(error.message.contains(message), "{error}");
    server.closed.notified().await;
    session.look().await.unwrap();
}

#[tokio::test]
async fn two_answers_to_the_login_are_an_error() {
    let server = server_with("AUTH", "+OK\r\n+OK\r\n").await;
    let store = store(Place::Server(server.address.clone()), |settings| {
        settings.login = Some(Login {
            username: None,
            password: "secret".into(),
        });
    });
    let error = store.session(NAME).look().await.unwrap_err();
    assert_eq!(error.cause, StoreFailure::Protocol, "{error}");
    assert_eq!(server.take_commands(), ["AUTH secret"]);
}

#[tokio::test]
async fn connection_that_the_server_closed_between_operations_is_replaced() {
    let server = Scripted::start(|command| match command {
        command if command.ends_with(":note") => Answer::Last(b"$-1\r\n".to_vec()),
        command => empty(command),
    });
    let server = server.await;
    let mut session = server.store().session(NAME);
    for _ in 0..3 {
        session.look().await.unwrap();
        server.closed.notified().await;
        // The end of the connection arrives when the runtime waits for events.
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn login_and_selection_are_answered_with_ok() {
    for (command, answer) in [
        ("AUTH", "$-1\r\n"),
        ("AUTH", ":1\r\n"),
        ("AUTH", "+QUEUED\r\n"),
        ("SELECT", "*0\r\n"),
        ("SELECT", "$2\r\nOK\r\n"),
    ] {
        let server = server_with(command, answer).await;
        let store = store(Place::Server(server.address.clone()), |settings| {
            settings.database = 3;
            settings.login = Some(Login {
                username: None,
                password: "secret".into(),
            });
        });
        let error = store.session(NAME).look().await.unwrap_err();
        assert_eq!(error.cause, StoreFailure::Protocol, "{answer:?}");
        let invalid = format!("to {command} is invalid");
        assert!(error.message.contains(&invalid), "{error}");
    }
}

#[tokio::test]
async fn error_of_a_server_that_then_closes_the_connection_is_reported() {
    for (answer, cause, message) in [
        (
            "-DENIED Redis is running in protected mode\r\n",
            StoreFailure::Login,
            "accepts only connections of its own machine (DENIED); set a password",
        ),
        (
            "-ERR max number of clients reached\r\n",
            StoreFailure::Connect,
            "raise its maxclients",
        ),
    ] {
        let server = Scripted::start(move |_| Answer::Last(answer.as_bytes().to_vec())).await;
        let error = server.store().session(NAME).look().await.unwrap_err();
        assert_eq!(error.cause, cause, "{error}");
        assert!(error.message.contains(message), "{error}");
        assert_eq!(server.take_commands(), ["TIME"]);
        let greeting = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = greeting.local_addr().unwrap().port();
        let store = store(Place::Server(address(port)), |_| ());
        let mut session = store.session(NAME);
        let reject = async {
            let (mut stream, _) = greeting.accept().await.unwrap();
            stream.write_all(answer.as_bytes()).await.unwrap();
        };
        let (look, ()) = tokio::join!(session.look(), reject);
        let error = look.unwrap_err();
        assert_eq!(error.cause, cause, "{error}");
    }
}

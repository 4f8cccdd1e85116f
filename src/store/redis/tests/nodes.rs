//! Sentinels, and clusters.

use super::*;

fn sentinels(servers: &[&Scripted], password: Option<&str>) -> RedisStore {
    let addresses = servers
        .iter()
        .map(|server| server.address.clone())
        .collect();
    let place = Place::Sentinels {
        addresses,
        service: "mymaster".to_owned(),
        password: password.map(Into::into),
    };
    store(place, |_| ())
}

/// A sentinel that names that port.
async fn sentinel(port: u16) -> Scripted {
    let port = port.to_string();
    let named = format!("*2\r\n$9\r\n127.0.0.1\r\n${}\r\n{port}\r\n", port.len());
    let answer = move |command: &str| match command {
        "SENTINEL GET-MASTER-ADDR-BY-NAME mymaster" => send(&named),
        command => empty(command),
    };
    Scripted::start(answer).await
}

#[tokio::test]
async fn master_is_named_by_any_sentinel_that_answers() {
    let master = Scripted::start(empty).await;
    let working = sentinel(master.address.port).await;
    let failing = Scripted::start(|_| Answer::Close).await;
    let unaware = Scripted::start(|_| send("*-1\r\n")).await;
    let store = sentinels(&[&failing, &working, &unaware], Some("s3ntinel"));
    for _ in 0..10 {
        store.session(NAME).look().await.unwrap();
        assert_eq!(
            working.take_commands(),
            ["AUTH s3ntinel", "SENTINEL GET-MASTER-ADDR-BY-NAME mymaster"]
        );
        assert_eq!(master.take_commands().len(), 3);
    }
}

#[tokio::test]
async fn silent_sentinels_leave_time_for_one_that_answers() {
    let master = Scripted::start(empty).await;
    let working = sentinel(master.address.port).await;
    let silent = Scripted::start(|_| Answer::Silence).await;
    let store = sentinels(&[&silent, &silent, &working], None);
    for _ in 0..3 {
        store.session(NAME).look().await.unwrap();
    }
}

#[tokio::test]
async fn failure_of_all_sentinels_is_that_of_one() {
    let unaware = Scripted::start(|_| send("*-1\r\n")).await;
    let error = sentinels(&[&unaware], None)
        .session(NAME)
        .look()
        .await
        .unwrap_err();
    assert_eq!(error.cause, StoreFailure::Protocol);
    assert!(
        error
            .message
            .ends_with("does not know the service mymaster; check service"),
        "{error}"
    );
    let server = Scripted::start(|_| send("-ERR unknown command 'SENTINEL'\r\n")).await;
    let error = sentinels(&[&server], None).session(NAME).look().await;
    let message = error.unwrap_err().message;
    assert!(
        message.ends_with("is not a sentinel; check the ports of sentinels"),
        "{message}"
    );
    let closed = Scripted::start(|_| send("-NOAUTH Authentication required.\r\n")).await;
    let error = sentinels(&[&closed], None)
        .session(NAME)
        .look()
        .await
        .unwrap_err();
    assert_eq!(error.cause, StoreFailure::Login);
    assert!(
        error.message.ends_with("set sentinel_password_file"),
        "{error}"
    );
    let silent = Scripted::start(|_| Answer::Silence).await;
    let error = sentinels(&[&silent, &silent], None)
        .session(NAME)
        .look()
        .await
        .unwrap_err();
    assert_eq!(error.cause, StoreFailure::Timeout);
    assert!(
        error
            .message
            .starts_with("no response from the sentinel 127.0.0.1:"),
        "{error}"
    );
}

#[tokio::test]
async fn look_is_repeated_on_the_node_that_has_the_keys_and_the_session_stays_there() {
    let node = Scripted::start(empty).await;
    let moved = format!("-MOVED 3999 :{}\r\n", node.address.port);
    let first = Scripted::start(move |command| match command {
        "TIME" => send(TIME),
        _ => send(&moved),
    });
    let first = first.await;
    let mut session = first.store().session(NAME);
    session.look().await.unwrap();
    session.claim("id", LEASE_TIME).await.unwrap();
    assert_eq!(first.take_commands().len(), 3);
    let expected = [
        "TIME".to_owned(),
        format!("GET {TOKEN}"),
        format!("GET {NOTE}"),
        format!("SET {LEASE} id NX PX 5000"),
    ];
    assert_eq!(node.take_commands(), expected);
}

#[tokio::test]
async fn keys_that_move_on_are_not_followed_twice() {
    let port = Arc::new(Mutex::new(0));
    let own = Arc::clone(&port);
    let answer = move |_: &str| send(format!("-MOVED 3999 127.0.0.1:{}\r\n", own.lock().unwrap()));
    let node = Scripted::start(answer).await;
    *port.lock().unwrap() = node.address.port;
    let error = node.store().session(NAME).look().await.unwrap_err();
    assert_eq!(error.cause, StoreFailure::Protocol);
    assert!(
        error.message.contains("rejects TIME: MOVED 3999"),
        "{error}"
    );
    assert_eq!(node.take_commands().len(), 6);
}

#[tokio::test]
async fn address_that_repeats_a_secret_is_not_used() {
    let password = "C4nary-Password";
    for host in [
        password.to_owned(),
        format!("x.{password}.example"),
        NAME.to_owned(),
    ] {
        let server = Scripted::start(move |command| match command {
            command if command.starts_with("AUTH") => empty(command),
            _ => send(format!("-MOVED 1 {host}:6379\r\n")),
        });
        let server = server.await;
        let store = store(Place::Server(server.address.clone()), |settings| {
            settings.login = Some(Login {
                username: None,
                password: password.into(),
            });
        });
        let error = store.session(NAME).look().await.unwrap_err();
        assert!(error.message.contains("rejects TIME: MOVED 1 "), "{error}");
        let shown = error.message.to_lowercase();
        assert!(
            !shown.contains(&password.to_lowercase()) && !shown.contains(NAME),
            "{error}"
        );
    }
    let named = format!("*2\r\n$15\r\n{password}\r\n$4\r\n6379\r\n");
    let sentinel = Scripted::start(move |command| match command {
        command if command.starts_with("AUTH") => empty(command),
        _ => send(&named),
    });
    let sentinel = sentinel.await;
    let store = sentinels(&[&sentinel], Some(password));
    let error = store.session(NAME).look().await.unwrap_err();
    assert!(error.message.contains("to SENTINEL is invalid"), "{error}");
}

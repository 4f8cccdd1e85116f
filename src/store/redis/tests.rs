//! Servers that follow a script.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "in a test, what fails says so"
)]

mod limits;
mod login;
mod nodes;
mod reuse;

use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::tcp::OwnedReadHalf;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;
use url::Host;

use super::*;
use crate::store::{MAX_RECORD, StoreError, StoreFailure, StoreSession};

const NAME: &str = "0123456789abcdef0123456789abcdef";
const TOKEN: &str = "domo-token:{0123456789abcdef0123456789abcdef}:token";
const LEASE: &str = "domo-token:{0123456789abcdef0123456789abcdef}:lease";
const NOTE: &str = "domo-token:{0123456789abcdef0123456789abcdef}:note";

const TIME: &str = "*2\r\n$10\r\n1764538000\r\n$6\r\n123456\r\n";
const LEASE_TIME: Duration = Duration::from_secs(5);

/// What a server does about a command.
enum Answer {
    Send(Vec<u8>),
    /// Sends the rest again and again.
    Endless {
        start: Vec<u8>,
        rest: Vec<u8>,
    },
    /// Sends an answer and closes the connection.
    Last(Vec<u8>),
    Silence,
    Close,
}

fn send(text: impl AsRef<[u8]>) -> Answer {
    Answer::Send(text.as_ref().to_vec())
}

/// A server, and the commands that it received, those of all connections.
struct Scripted {
    address: Address,
    commands: Arc<Mutex<Vec<String>>>,
    closed: Arc<Notify>,
}

impl Scripted {
    async fn start(answer: impl Fn(&str) -> Answer + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let (commands, closed) = (
            Arc::<Mutex<Vec<String>>>::default(),
            Arc::<Notify>::default(),
        );
        let (answer, log, end) = (Arc::new(answer), Arc::clone(&commands), Arc::clone(&closed));
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (answer, log, end) = (Arc::clone(&answer), Arc::clone(&log), Arc::clone(&end));
                tokio::spawn(async move {
                    converse(stream, &*answer, &log).await;
                    end.notify_one();
                });
            }
        });
        Self {
            address: address(port),
            commands,
            closed,
        }
    }

    /// Returns the commands received until now, each on one line.
    fn take_commands(&self) -> Vec<String> {
        std::mem::take(&mut *self.commands.lock().unwrap())
    }

    fn store(&self) -> RedisStore {
        store(Place::Server(self.address.clone()), |_| ())
    }
}

fn address(port: u16) -> Address {
    Address {
        host: Host::Ipv4([127, 0, 0, 1].into()),
        port,
    }
}

fn store(place: Place, adjust: impl FnOnce(&mut Settings)) -> RedisStore {
    let mut settings = Settings {
        place,
        database: 0,
        tls: None,
        login: None,
        login_keys: "username and password_file",
        prefix: "domo-token".to_owned(),
    };
    adjust(&mut settings);
    RedisStore::new(settings, &Shared::default()).unwrap()
}

async fn converse(
    stream: TcpStream,
    answer: &(dyn Fn(&str) -> Answer + Send + Sync),
    log: &Mutex<Vec<String>>,
) {
    let (read, mut write) = stream.into_split();
    let mut read = BufReader::new(read);
    while let Some(command) = command(&mut read).await {
        log.lock().unwrap().push(command.clone());
        match answer(&command) {
            Answer::Send(bytes) => {
                let _ = write.write_all(&bytes).await;
            }
            Answer::Endless { start, rest } => {
                let _ = write.write_all(&start).await;
                while write.write_all(&rest).await.is_ok() {}
            }
            Answer::Last(bytes) => {
                let _ = write.write_all(&bytes).await;
                return;
            }
            Answer::Silence => {}
            Answer::Close => return,
        }
    }
}

async fn command(read: &mut BufReader<OwnedReadHalf>) -> Option<String> {
    let count = line(read).await?.strip_prefix('*')?.parse().unwrap();
    let mut words = Vec::new();
    for _ in 0..count {
        let length: usize = line(read).await?.strip_prefix('$')?.parse().unwrap();
        let mut word = vec![0; length + 2];
        read.read_exact(&mut word).await.ok()?;
        word.truncate(length);
        words.push(String::from_utf8_lossy(&word).into_owned());
    }
    Some(words.join(" "))
}

async fn line(read: &mut BufReader<OwnedReadHalf>) -> Option<String> {
    let mut line = String::new();
    let count = read.read_line(&mut line).await.ok()?;
    (count > 0).then(|| line.trim_end().to_owned())
}

/// Answers as a server without any records does.
fn empty(command: &str) -> Answer {
    match command.split(' ').next().unwrap() {
        "TIME" => send(TIME),
        "GET" => send("$-1\r\n"),
        "PEXPIRE" | "DEL" => send(":0\r\n"),
        "SET" | "AUTH" | "SELECT" => send("+OK\r\n"),
        other => panic!("{other}"),
    }
}

/// Returns the error of the first look at a server that answers so to each command.
async fn failure(answer: impl Fn(&str) -> Answer + Send + Sync + 'static) -> StoreError {
    let server = Scripted::start(answer).await;
    let mut session = server.store().session(NAME);
    let error = session.look().await.unwrap_err();
    assert!(
        !error.message.contains('\n') && !error.message.contains(NAME),
        "{error}"
    );
    error
}

#[tokio::test]
async fn look_sends_three_commands_and_returns_both_records() {
    let server = Scripted::start(|command| match command {
        command if command.ends_with(":token") => send("$3\r\na\0\n\r\n"),
        command => empty(command),
    });
    let server = server.await;
    let mut session = server.store().session(NAME);
    let look = session.look().await.unwrap();
    assert_eq!(look.time_ms, 1_764_538_000_123);
    assert_eq!(look.token.unwrap().as_slice(), b"a\0\n");
    assert!(look.note.is_none() && look.asked <= look.answered);
    let expected = [
        "TIME".to_owned(),
        format!("GET {TOKEN}"),
        format!("GET {NOTE}"),
    ];
    assert_eq!(server.take_commands(), expected);
}

#[tokio::test]
async fn operations_send_only_what_the_recommended_permissions_allow() {
    let server = Scripted::start(empty).await;
    let mut session = server.store().session(NAME);
    assert!(session.claim("id", LEASE_TIME).await.unwrap());
    session.extend(LEASE_TIME).await.unwrap();
    session
        .put_token(b"sealed", Duration::from_millis(1500))
        .await
        .unwrap();
    session.put_note(b"note", Duration::ZERO).await.unwrap();
    let expected = [
        format!("SET {LEASE} id NX PX 5000"),
        format!("PEXPIRE {LEASE} 5000"),
        format!("SET {TOKEN} sealed PX 1500"),
        format!("DEL {NOTE}"),
        format!("SET {NOTE} note PX 1"),
    ];
    assert_eq!(server.take_commands(), expected);
}

#[tokio::test]
async fn lease_that_is_held_is_not_taken() {
    let server = Scripted::start(|_| send("$-1\r\n")).await;
    let mut session = server.store().session(NAME);
    assert!(!session.claim("id", LEASE_TIME).await.unwrap());
}

#[tokio::test]
async fn note_stays_if_the_token_is_not_stored() {
    let server = Scripted::start(|_| send("-OOM command not allowed\r\n")).await;
    let mut session = server.store().session(NAME);
    let error = session.put_token(b"sealed", LEASE_TIME).await.unwrap_err();
    assert_eq!(error.cause, StoreFailure::Full);
    assert_eq!(server.take_commands().len(), 1);
}

#[tokio::test]
async fn connection_closes_with_its_session_and_another_follows_an_error() {
    let server = Scripted::start(|command| match command {
        "TIME" => send(TIME),
        command if command.starts_with("SET") => send("-ERR no\r\n"),
        command => empty(command),
    });
    let server = server.await;
    let mut session = server.store().session(NAME);
    session.look().await.unwrap();
    session.look().await.unwrap();
    assert!(session.put_note(b"note", LEASE_TIME).await.is_err());
    server.closed.notified().await;
    session.look().await.unwrap();
    drop(session);
    server.closed.notified().await;
}

/// Answers of servers, with the cause and a part of the message that each results in.
const ERRORS: [(&str, StoreFailure, &str); 13] = [
    (
        "-NOAUTH Authentication required.",
        StoreFailure::Login,
        "set username and password_file",
    ),
    (
        "-NOPERM this user has no permissions to run the 'time' command",
        StoreFailure::Login,
        "does not permit TIME (NOPERM); grant it: ACL SETUSER default ~domo-token:* +get +set +time +pexpire +del",
    ),
    (
        "-OOM command not allowed when used memory > 'maxmemory'.",
        StoreFailure::Full,
        "raise its maxmemory",
    ),
    (
        "-READONLY You can't write against a read only replica.",
        StoreFailure::ReadOnly,
        "is a replica",
    ),
    (
        "-MISCONF Redis is configured to save RDB snapshots",
        StoreFailure::ReadOnly,
        "see its log",
    ),
    (
        "-LOADING Redis is loading the dataset in memory",
        StoreFailure::Protocol,
        "rejects TIME: LOADING Redis is loading",
    ),
    (
        "-ERR max number of clients reached",
        StoreFailure::Connect,
        "raise its maxclients",
    ),
    (
        "-CLUSTERDOWN The cluster is down",
        StoreFailure::Protocol,
        "CLUSTERDOWN The cluster is down; see its log",
    ),
    (
        "-ERR unknown command 'TIME', with args beginning with: 'domo-token:{0123456789abcdef0123456789abcdef}:note'",
        StoreFailure::Protocol,
        "rejects TIME: ERR unknown command 'TIME'; see its log",
    ),
    (
        "-ERR no 0123456789abcdef0123456789abcdef here",
        StoreFailure::Protocol,
        "ERR no [redacted] here",
    ),
    ("+PONG", StoreFailure::Protocol, "the answer of 127.0.0.1:"),
    ("*0", StoreFailure::Protocol, "to TIME is invalid"),
    (
        "HTTP/1.1 400 Bad Request",
        StoreFailure::Protocol,
        "does not answer in the Redis protocol",
    ),
];

#[tokio::test]
async fn errors_of_servers_have_a_cause_and_advice() {
    for (answer, cause, message) in ERRORS {
        let error = failure(move |_| send(format!("{answer}\r\n"))).await;
        assert_eq!(error.cause, cause, "{error}");
        assert!(error.message.contains(message), "{error}");
    }
}

#[tokio::test]
async fn unreachable_server_and_closed_connection_are_failures_to_connect() {
    let error = failure(|_| Answer::Close).await;
    assert_eq!(error.cause, StoreFailure::Connect);
    assert!(
        error
            .message
            .contains("closed the connection before it answered; if it expects TLS, write rediss"),
        "{error}"
    );
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let free = listener.local_addr().unwrap().port();
    drop(listener);
    let store = store(Place::Server(address(free)), |_| ());
    let error = store.session(NAME).look().await.unwrap_err();
    assert_eq!(error.cause, StoreFailure::Connect);
    assert!(
        error.message.starts_with("cannot connect to 127.0.0.1:"),
        "{error}"
    );
    let advice = "; check host and port, and that the server runs and admits this host";
    assert!(error.message.ends_with(advice), "{error}");
}

#[tokio::test]
async fn probe_reports_each_permission_and_removes_its_key() {
    let server = Scripted::start(|command| match command {
        command if command.starts_with("PEXPIRE") => send("-NOPERM no\r\n"),
        command => empty(command),
    });
    let server = server.await;
    let probe = server.store().probe().await.unwrap();
    let granted: Vec<bool> = probe.permissions.iter().map(|one| one.is_granted).collect();
    assert_eq!(granted, [true, true, true, false, true]);
    assert!(!probe.is_sufficient() && probe.clock_difference_ms.is_some());
    let commands = server.take_commands();
    let key = commands[2].strip_prefix("GET ").unwrap();
    assert!(
        key.starts_with("domo-token:probe:") && key.len() == 33,
        "{key}"
    );
    assert_eq!(commands[1], format!("SET {key} 1 PX 5000"));
    assert_eq!(commands[4], format!("DEL {key}"));
    let failing = Scripted::start(|_| send("-NOAUTH no\r\n")).await;
    let error = failing.store().probe().await.unwrap_err();
    assert_eq!(error.cause, StoreFailure::Login);
}

//! What remains of a token in the daemon's memory after its scope set was removed.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;

use crate::common;
use crate::common::secrecy::found_in_memory;
use crate::common::wait::until;
use crate::common::{
    CANARY_SECRET, Daemon, HOUR, PATIENCE, config_text, print_skip, sandbox, token,
};

#[test]
fn removed_sets_token_is_nowhere_in_memory_and_a_valid_one_is_there_with_its_frame() {
    let sandbox = sandbox(HOUR);
    let mut daemon = Daemon::start(&config_text(&sandbox, "[\"data\", \"user\"]"));
    let (data, user) = (token(&daemon.ask(&["data"])), token(&daemon.ask(&["user"])));
    let end = |token: &str| token.as_bytes()[token.len() - 200..].to_vec();
    let count = |token: &str| found_in_memory(daemon.pid(), &end(token));
    let Some(before) = count(&user) else {
        print_skip("this user may not read another process's memory");
        return;
    };
    assert_eq!(before, 2, "its text and its frame");
    sandbox.wait_for_requests(2, PATIENCE).unwrap();
    daemon.write("config.toml", &config_text(&sandbox, "[\"data\"]"));
    daemon.wait_for_log("config loaded");
    assert_eq!(daemon.ask(&["user"]).status.code(), Some(78));
    assert_eq!(found_in_memory(daemon.pid(), &end(&user)), Some(0));
    assert_eq!(found_in_memory(daemon.pid(), &end(&data)), Some(2));
}

/// Each format, and a watch; and callers that do not read their responses.
#[test]
fn no_response_over_http_leaves_a_copy_of_its_token() {
    let sandbox = sandbox(HOUR);
    let daemon = Daemon::start(&config_text(&sandbox, "[\"data\", \"user\"]"));
    let text = token(&daemon.ask(&["user"]));
    let end = text.as_bytes()[text.len() - 200..].to_vec();
    let count = || found_in_memory(daemon.pid(), &end);
    if count().is_none() {
        print_skip("this user may not read another process's memory");
        return;
    }
    let send = |target: &str, times: usize| {
        let mut caller = UnixStream::connect(daemon.socket()).unwrap();
        caller.set_read_timeout(Some(PATIENCE)).unwrap();
        let request = format!("GET {target} HTTP/1.1\r\nHost: localhost\r\n\r\n");
        caller.write_all(request.repeat(times).as_bytes()).unwrap();
        caller
    };
    let mut callers = Vec::new();
    for target in [
        "/v1/token/user",
        "/v1/token/user?format=token",
        "/v1/token/user?format=header",
        "/v1/watch/user",
    ] {
        let mut caller = send(target, 1);
        let mut received = Vec::new();
        while !received.windows(end.len()).any(|part| part == end) {
            let mut buffer = [0; 4096];
            let read = caller.read(&mut buffer).unwrap();
            assert!(read > 0, "{target}");
            received.extend_from_slice(&buffer[..read]);
        }
        callers.push(caller);
    }
    let unread = "/v1/token/user?format=token";
    let mut waiting: Vec<UnixStream> = (0..4).map(|_| send(unread, 100)).collect();
    for caller in &mut waiting {
        // The first response has begun, and the others do not fit the socket's buffer.
        caller.read_exact(&mut [0]).unwrap();
    }
    assert_eq!(count(), Some(2), "a response is no copy");
    drop(waiting);
    daemon.write("config.toml", &config_text(&sandbox, "[\"data\"]"));
    until(|| match count() {
        Some(0) => Ok(()),
        other => Err(other),
    });
    drop(callers);
    assert_eq!(daemon.ask(&["user"]).status.code(), Some(78));
    assert_eq!(count(), Some(0));
}

#[test]
fn secret_of_a_removed_client_is_wiped() {
    let sandbox = sandbox(HOUR);
    sandbox.add_client("another-id", "an0ther-secret-of-the-tests", &["data"]);
    let mut daemon = Daemon::start(&config_text(&sandbox, "[\"data\"]"));
    token(&daemon.ask(&["data"]));
    let count = |secret: &str| found_in_memory(daemon.pid(), secret.as_bytes());
    let Some(before) = count(CANARY_SECRET) else {
        print_skip("this user may not read another process's memory");
        return;
    };
    assert!(before >= 1, "it is in memory while it is valid");
    let other = config_text(&sandbox, "[\"data\"]").replace(common::CLIENT_ID, "another-id");
    daemon.write("acme.secret", "an0ther-secret-of-the-tests\n");
    daemon.write("config.toml", &other);
    daemon.wait_for_log("config loaded");
    sandbox.wait_for_requests(2, PATIENCE).unwrap();
    daemon.wait_for_log("token renewed");
    let count = |secret: &str| found_in_memory(daemon.pid(), secret.as_bytes());
    assert_eq!(count(CANARY_SECRET), Some(0));
    assert!(count("an0ther-secret-of-the-tests") >= Some(1));
}

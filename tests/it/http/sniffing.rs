//! Frames and HTTP on one socket: the first four bytes decide.

use std::time::Duration;

use super::connection::{Connection, head};
use super::{first_token, get};
use crate::common::callers::{token_request, watch_request};
use crate::common::{Daemon, HOUR, config_text, sandbox, sandbox_and_daemon, timed, token};

/// Sends bytes and returns what the daemon sends until it closes the connection.
#[track_caller]
fn until_closed(daemon: &Daemon, bytes: &[u8]) -> Vec<u8> {
    let mut connection = Connection::open(daemon);
    connection.send(bytes);
    connection.read_to_end()
}

/// A config in which each wait of a connection ends soon.
fn short_deadlines() -> String {
    "[limits]\nfirst_request_deadline = \"1s\"\nrequest_deadline = \"1s\"\n".to_owned()
}

#[test]
fn three_capital_letters_begin_http() {
    let (_sandbox, daemon) = sandbox_and_daemon(HOUR);
    for method in [
        "DEL", "DELETE", "DTX", "PUT", "AAA", "ZZZ", "GETX", "GET-IT",
    ] {
        let answer = Connection::open(&daemon).request(method, "/v1/status", &[]);
        answer.problem("method_not_allowed");
    }
    let bytes = head("DELETE", "/v1/status", &[]);
    let mut connection = Connection::open(&daemon);
    for byte in bytes.bytes() {
        connection.send([byte]);
    }
    connection.answer("DELETE").problem("method_not_allowed");
}

#[test]
fn frames_are_served_when_they_arrive_byte_by_byte() {
    let (_sandbox, daemon) = sandbox_and_daemon(HOUR);
    let (text, _) = first_token(&daemon);
    let mut connection = Connection::open(&daemon);
    for byte in token_request() {
        connection.send([byte]);
    }
    let greeting = connection.take(4);
    assert_eq!(&greeting[..3], b"DTK");
    // The boot clock, the length of the frame, its kind, and the length of the text.
    let rest = connection.take(8 + 4 + 1 + 3 + text.len());
    assert!(rest.windows(text.len()).any(|part| part == text.as_bytes()));
}

#[test]
fn unknown_version_of_frames_is_not_http() {
    let (_sandbox, daemon) = sandbox_and_daemon(HOUR);
    for bytes in [
        &b"DTK "[..],
        b"DTKX /livez HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"DTK\x00",
        b"DTK\xff",
    ] {
        let sent = until_closed(&daemon, bytes);
        assert!(
            sent.is_empty() || sent.starts_with(b"DTK"),
            "{bytes:?}: {sent:?}"
        );
    }
}

#[test]
fn anything_else_closes_the_connection_without_an_answer() {
    let sandbox = sandbox(HOUR);
    // None of these is closed only because it took too long.
    let limits = "[limits]\nfirst_request_deadline = \"10m\"\nrequest_deadline = \"10m\"\n";
    let daemon = Daemon::start(&(limits.to_owned() + &config_text(&sandbox, "[\"data\"]")));
    let client_hello = b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03abcdefghijklmnopqrstuvwxyz";
    for bytes in [
        &b"get /livez HTTP/1.1\r\nHost: localhost\r\n\r\n"[..],
        b"Get /livez HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"GEt /livez HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"GE /livez HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"G /livez HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"dtk\x02",
        b"DT\x02\x02",
        b"DTk\x02",
        b"\r\nGET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b" GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"M-SEARCH * HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"\0\0\0\0",
        b"\xff\xff\xff\xff",
        b"G\xc3\x8bT /livez HTTP/1.1\r\n\r\n",
        b"{\"token\":\"data\"}",
        &client_hello[..],
    ] {
        let sent = until_closed(&daemon, bytes);
        assert_eq!(sent, b"", "{}", String::from_utf8_lossy(bytes));
    }
}

#[test]
fn connection_that_sends_too_little_is_closed_by_the_first_request_deadline() {
    let sandbox = sandbox(HOUR);
    let daemon = Daemon::start(&(short_deadlines() + &config_text(&sandbox, "[\"data\"]")));
    let mut connections = [&b""[..], b"G", b"GET", b"DTK", b"D"].map(|bytes| {
        let mut connection = Connection::open(&daemon);
        connection.send(bytes);
        connection
    });
    let (took, ()) = timed(|| connections.iter_mut().for_each(Connection::assert_closed));
    assert!(took > Duration::from_millis(500), "{took:?}");
    assert!(took < Duration::from_secs(5), "{took:?}");
}

#[test]
fn slow_bytes_do_not_extend_the_first_request_deadline() {
    let sandbox = sandbox(HOUR);
    let daemon = Daemon::start(&(short_deadlines() + &config_text(&sandbox, "[\"data\"]")));
    let mut connection = Connection::open(&daemon);
    let (took, ()) = timed(|| {
        connection.send("G");
        // The daemon has received it when it has answered another caller.
        assert_eq!(get(&daemon, "/livez").status, 200);
        connection.send("E");
        connection.assert_closed();
    });
    assert!(took < Duration::from_secs(5), "{took:?}");
}

#[test]
fn caller_that_disconnects_early_leaves_the_daemon_as_it_was() {
    let (_sandbox, daemon) = sandbox_and_daemon(HOUR);
    for bytes in [&b""[..], b"GE", b"GET ", b"GET /livez HTTP/1.1\r\nHo"] {
        let mut connection = Connection::open(&daemon);
        connection.send(bytes);
        connection.finish();
        connection.assert_closed();
    }
    token(&daemon.ask(&["data"]));
    assert_eq!(get(&daemon, "/livez").status, 200);
}

#[test]
fn connection_keeps_its_protocol() {
    let (_sandbox, daemon) = sandbox_and_daemon(HOUR);
    first_token(&daemon);
    let mut http = Connection::open(&daemon);
    http.get("/livez");
    let answer = http.exchange([&token_request()[..], b"\r\n\r\n"].concat());
    answer.problem("bad_request");
    http.assert_closed();
    let mut frames = Connection::open(&daemon);
    frames.send(watch_request());
    frames.take(64);
    frames.send(head("GET", "/livez", &[]));
    let rest = frames.read_to_end();
    assert!(!rest.windows(5).any(|part| part == b"HTTP/"), "{rest:?}");
}

#[test]
fn http_can_be_turned_off() {
    let sandbox = sandbox(HOUR);
    let config = "[broker]\nhttp = false\n".to_owned() + &config_text(&sandbox, "[\"data\"]");
    let daemon = Daemon::start(&config);
    token(&daemon.ask(&["data"]));
    for target in ["/v1/token/data", "/livez"] {
        let sent = until_closed(&daemon, head("GET", target, &[]).as_bytes());
        assert_eq!(sent, b"", "{target}");
    }
    token(&daemon.ask(&["data"]));
    let on = "[broker]\nhttp = true\n".to_owned() + &config_text(&sandbox, "[\"data\"]");
    assert_eq!(get(&Daemon::start(&on), "/livez").status, 200);
}

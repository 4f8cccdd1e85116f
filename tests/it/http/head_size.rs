//! Limits of a request's head: 8 KiB and 64 headers.

use super::connection::{Connection, head};
use super::get_with;
use super::heads::assert_rejected;
use crate::common::{HOUR, sandbox_and_daemon};

/// A request whose head has exactly that many bytes.
fn head_of_size(size: usize) -> String {
    let request = head("GET", "/livez", &[("A", "")]);
    let padding = "a".repeat(size - request.len());
    let request = head("GET", "/livez", &[("A", &padding)]);
    assert_eq!(request.len(), size);
    request
}

#[test]
fn head_of_more_than_8_kib_is_431() {
    let (_sandbox, daemon) = sandbox_and_daemon(HOUR);
    let mut connection = Connection::open(&daemon);
    for _ in 0..2 {
        assert_eq!(connection.exchange(head_of_size(8192)).text(), "live\n");
    }
    let target = format!("/v1/token/{}", "a".repeat(9000));
    let heads = [
        head_of_size(8193),
        head_of_size(9000),
        head_of_size(100_000),
        head("GET", &target, &[]),
        head(
            "GET",
            "/livez",
            &[("A", &"a".repeat(8000)), ("B", &"b".repeat(8000))],
        ),
    ];
    assert_rejected(&daemon, "head_too_large", &heads);
}

#[test]
fn head_without_an_end_is_431_once_it_is_too_large() {
    let (_sandbox, daemon) = sandbox_and_daemon(HOUR);
    for start in ["GET /", "GET /livez HTTP/1.1\r\nHost: localhost\r\nA: "] {
        let mut connection = Connection::open(&daemon);
        connection.send(start.to_owned() + &"a".repeat(10_000));
        connection.answer("GET").problem("head_too_large");
        connection.assert_closed();
    }
}

#[test]
fn second_head_of_a_pipeline_has_the_same_limit() {
    let (_sandbox, daemon) = sandbox_and_daemon(HOUR);
    let mut connection = Connection::open(&daemon);
    connection.send(head_of_size(8192) + &head_of_size(8192) + &head_of_size(8193));
    assert_eq!(connection.answer("GET").text(), "live\n");
    assert_eq!(connection.answer("GET").text(), "live\n");
    connection.answer("GET").problem("head_too_large");
    connection.assert_closed();
}

#[test]
fn more_than_64_headers_are_431() {
    let (_sandbox, daemon) = sandbox_and_daemon(HOUR);
    // `Host` is the first one.
    let fields: Vec<_> = (1..65).map(|_| ("A", "b")).collect();
    assert_eq!(get_with(&daemon, "/livez", &fields[..63]).status, 200);
    let heads = [
        head("GET", "/livez", &fields),
        head("GET", "/livez", &fields.repeat(4)),
    ];
    assert_rejected(&daemon, "head_too_large", &heads);
}

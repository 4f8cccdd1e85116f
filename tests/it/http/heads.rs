//! Heads that are rejected: what is ambiguous, what only a browser or a proxy sends, and what is too large.
//!
//! After each of them whose end is uncertain, and after what a browser or a proxy sent, the connection ends, and nothing
//! that followed is executed.

use super::connection::{Connection, head};
use super::{first_token, get_with};
use crate::common::{Daemon, HOUR, sandbox_and_daemon};

/// Sends a head and a request for a token after it, and returns the kind of the only response.
#[track_caller]
pub(super) fn only_answer(daemon: &Daemon, bytes: impl AsRef<[u8]>) -> String {
    let bytes = bytes.as_ref();
    let mut connection = Connection::open(daemon);
    let after = head("GET", "/v1/token/data", &[]);
    connection.send([bytes, after.as_bytes()].concat());
    let answer = connection.answer("GET");
    let shown = String::from_utf8_lossy(bytes);
    assert!(answer.status >= 400, "{shown:?}: {}", answer.status);
    let rest = connection.read_to_end();
    assert_eq!(String::from_utf8_lossy(&rest), "", "after {shown:?}");
    assert!(answer.closes(), "RFC 9112 §9.6: {shown:?} {answer:?}");
    answer.kind()
}

#[track_caller]
pub(super) fn assert_rejected(daemon: &Daemon, expected: &str, heads: &[String]) {
    for bytes in heads {
        assert_eq!(only_answer(daemon, bytes), expected, "{bytes:?}");
    }
    // The daemon serves as before.
    assert!(!first_token(daemon).0.is_empty());
}

fn with_fields(fields: &str) -> String {
    format!("GET /v1/token/data HTTP/1.1\r\nHost: localhost\r\n{fields}\r\n\r\n")
}

fn with_target(target: &str) -> String {
    format!("GET {target} HTTP/1.1\r\nHost: localhost\r\n\r\n")
}

#[test]
fn ambiguous_length_is_400() {
    let (_sandbox, daemon) = sandbox_and_daemon(HOUR);
    let fields = [
        "Content-Length: 5\r\nTransfer-Encoding: chunked",
        "Transfer-Encoding: chunked\r\nContent-Length: 0",
        "Content-Length: 0\r\nTransfer-Encoding: identity",
        "Content-Length: 0\r\nContent-Length: 0",
        "Content-Length: 0\r\nContent-Length: 5",
        "Content-Length: 0, 0",
        "Content-Length: +0",
        "Content-Length: -1",
        "Content-Length: 0x0",
        "Content-Length: 0 0",
        "Content-Length:",
        "Content-Length: 99999999999999999999999",
        "Transfer-Encoding: gzip",
        "Transfer-Encoding: chunked, gzip",
        "Transfer-Encoding: gzip, chunked",
        "Transfer-Encoding: chunked, chunked",
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked",
        "Transfer-Encoding: \x0bchunked",
        "Transfer-Encoding: xchunked",
        "Transfer-Encoding:",
    ];
    assert_rejected(&daemon, "bad_request", &fields.map(with_fields));
}

#[test]
fn get_with_a_body_is_400() {
    let (_sandbox, daemon) = sandbox_and_daemon(HOUR);
    let smuggled = head("GET", "/v1/token/data", &[]);
    let length = smuggled.len();
    let heads = [
        with_fields("Content-Length: 5") + "hello",
        with_fields(&format!("Content-Length: {length}")) + &smuggled,
        with_fields("Transfer-Encoding: chunked") + "0\r\n\r\n",
        with_fields("Transfer-Encoding: chunked")
            + &format!("{length:x}\r\n{smuggled}\r\n0\r\n\r\n"),
        with_fields("Content-Length: 1000000000000"),
    ];
    assert_rejected(&daemon, "bad_request", &heads);
    let mut head_request = Connection::open(&daemon);
    let answer = head_request.request("HEAD", "/livez", &[("Content-Length", "3")]);
    assert_eq!(answer.status, 400, "a HEAD is answered as the GET");
}

#[test]
fn target_in_another_form_than_a_path_is_400() {
    let (_sandbox, daemon) = sandbox_and_daemon(HOUR);
    let heads = [
        "GET http://localhost/v1/token/data",
        "GET HTTP://localhost/v1/token/data",
        "GET http://evil.example/v1/token/data",
        "GET https://localhost/v1/token/data",
        "GET file:///v1/token/data",
        "GET localhost:80",
        "GET localhost",
        "GET v1/token/data",
        "GET ?client=acme",
        "GET *",
        "OPTIONS *",
        "CONNECT localhost:80",
        "CONNECT /v1/token/data",
        "CONNECT evil.example:443",
    ];
    let heads = heads.map(|line| format!("{line} HTTP/1.1\r\nHost: localhost\r\n\r\n"));
    assert_rejected(&daemon, "bad_request", &heads);
}

#[test]
fn empty_and_dot_segments_are_400() {
    let (_sandbox, daemon) = sandbox_and_daemon(HOUR);
    let targets = [
        "//v1/token/data",
        "/v1//token/data",
        "/v1/token//data",
        "/v1/token/data//",
        "//",
        "//localhost/v1/token/data",
        "/./v1/token/data",
        "/../v1/token/data",
        "/v1/./token/data",
        "/v1/status/../token/data",
        "/v1/token/.",
        "/v1/token/..",
        "/v1/token/data/.",
        "/v1/token/data/..",
        "/v1/token/data/../data",
        "/%2e/v1/token/data",
        "/%2E/v1/token/data",
        "/%2e%2e/v1/token/data",
        "/%2E%2e/v1/token/data",
        "/.%2e/v1/token/data",
        "/%2E./v1/token/data",
        "/v1/status/%2e%2e/token/data",
        "/v1/token/%2e",
        "/v1/token/%2E%2E",
        "/readyz/../livez",
        "/readyz/%2e%2e/livez",
        "/readyz//data",
    ];
    // Where such a request ends is certain, so the connection may continue.
    for target in targets {
        let answer = get_with(&daemon, target, &[]);
        answer.problem("bad_request");
    }
}

#[test]
fn encoded_slashes_and_double_encoding_reach_no_other_path() {
    let (_sandbox, daemon) = sandbox_and_daemon(HOUR);
    for target in [
        "/v1/token/%252e%252e",
        "/v1/token/%252E",
        "/v1/status/%252e%252e/token/data",
        "/v1%2ftoken%2fdata",
        "/v1/token%2Fdata",
        "/v1/token/..%2ftoken/data",
        "/v1/status%2f..%2ftoken/data",
        "/v1/token/x%2f..%2fdata",
        "/v1/token/%2e%2e%2fdata",
        "/v1/token/..%5cdata",
        "/%76%31/../v1/token/data",
        "/v1/token/data%2e",
        "/v1/token/data;x=1",
        "/v1/token/data%3Fclient=acme",
        "/v1\\token\\data",
    ] {
        let answer = get_with(&daemon, target, &[]);
        assert!(
            [400, 404].contains(&answer.status),
            "{target} {}",
            answer.text()
        );
        assert!(!answer.text().contains("access_token"));
    }
    // Dots and slashes of a query are not segments.
    let answer = get_with(&daemon, "/v1/token/data?client=../acme//", &[]);
    answer.problem("unknown_client");
}

#[test]
fn bare_line_feed_is_400() {
    let (_sandbox, daemon) = sandbox_and_daemon(HOUR);
    let heads = [
        "GET /v1/token/data HTTP/1.1\nHost: localhost\n\n",
        "GET /v1/token/data HTTP/1.1\nHost: localhost\r\n\r\n",
        "GET /v1/token/data HTTP/1.1\r\nHost: localhost\n\r\n",
        "GET /v1/token/data HTTP/1.1\r\nHost: localhost\r\n\n",
        "GET /v1/token/data HTTP/1.1\r\nHost: localhost\r\nA: b\nC: d\r\n\r\n",
        "GET /v1/token/data HTTP/1.1\r\nHost: localhost\n\n",
    ];
    assert_rejected(&daemon, "bad_request", &heads.map(str::to_owned));
    let mut connection = Connection::open(&daemon);
    connection.get("/livez");
    connection.send("\n");
    connection
        .exchange(head("GET", "/livez", &[]))
        .problem("bad_request");
    connection.assert_closed();
}

#[test]
fn line_end_alone_does_not_hide_a_bare_line_feed_that_follows() {
    let (_sandbox, daemon) = sandbox_and_daemon(HOUR);
    let mut connection = Connection::open(&daemon);
    connection.get("/livez");
    // Ignoring an empty line before a request is permitted (RFC 9112 §2.2), and so is rejecting it.
    let answer = connection.exchange("\r\nGET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n");
    assert!([200, 400].contains(&answer.status), "{}", answer.status);
    let mut connection = Connection::open(&daemon);
    connection.get("/livez");
    connection.send("\r\nGET /livez HTTP/1.1\nHost: localhost\n\n");
    connection.answer("GET").problem("bad_request");
    connection.assert_closed();
}

#[test]
fn control_characters_and_folded_lines_are_400() {
    let (_sandbox, daemon) = sandbox_and_daemon(HOUR);
    let fields = [
        "A: b\rC: d",
        "A: b\r",
        "A: b\0c",
        "A: b\x01c",
        "A: b\x0bc",
        "A: b\x7fc",
        "A\0: b",
        "A\x01: b",
        "A: b\r\n folded",
        "A: b\r\n\tfolded",
        "A : b",
        "A\t: b",
        "Transfer-Encoding : chunked",
        "Content-Length : 5",
        "Host : evil.example",
        ": b",
        "A",
        "A b: c",
        "A(b): c",
        "\u{e4}: b",
        " A: b",
    ];
    let mut heads: Vec<String> = fields.map(with_fields).to_vec();
    heads.push("GET /v1/token/data HTTP/1.1\r\n A: b\r\nHost: localhost\r\n\r\n".to_owned());
    heads.push("GET /v1/token/data HTTP/1.1\r\n\tHost: localhost\r\n\r\n".to_owned());
    for character in ['\0', '\x01', '\x0b', '\x1b', '\x7f', '\t', '\r'] {
        heads.push(with_target(&format!("/v1/token/da{character}ta")));
    }
    assert_rejected(&daemon, "bad_request", &heads);
}

#[test]
fn characters_that_no_target_may_have_are_400() {
    let (_sandbox, daemon) = sandbox_and_daemon(HOUR);
    let targets = [
        "/v1/token/d\u{e4}ta",
        "/v1/token/data?client=\u{e4}",
        "/v1/token/data#fragment",
        "/v1/token/data?format=json#fragment",
        "/#/v1/token/data",
    ];
    assert_rejected(&daemon, "bad_request", &targets.map(with_target));
    let raw = [&b"GET /v1/token/data\xff HTTP/1.1\r\nHost: localhost\r\n\r\n"[..]].concat();
    assert_eq!(only_answer(&daemon, raw), "bad_request");
}

#[test]
fn headers_of_browsers_and_proxies_are_403_in_any_case() {
    let (_sandbox, daemon) = sandbox_and_daemon(HOUR);
    let mut heads = Vec::new();
    for name in [
        "Origin",
        "Referer",
        "Sec-Fetch-Site",
        "Sec-Fetch-Mode",
        "Sec-Fetch-Dest",
        "Sec-Fetch-User",
        "Sec-Fetch-Storage-Access",
        "Forwarded",
        "X-Forwarded-For",
        "X-Forwarded-Host",
        "X-Forwarded-Proto",
        "X-Forwarded-Port",
        "X-Forwarded-Anything",
    ] {
        for name in [name.to_owned(), name.to_lowercase(), name.to_uppercase()] {
            for value in ["x", "http://localhost", "null", "none", ""] {
                heads.push(with_fields(&format!("{name}: {value}")));
            }
        }
    }
    assert_rejected(&daemon, "forbidden_origin", &heads);
    for target in ["/metrics", "/livez", "/nosuch", "/v1/token/data?nosuch=1"] {
        let answer = get_with(&daemon, target, &[("Origin", "http://a.example")]);
        answer.problem("forbidden_origin");
    }
    let harmless = [
        ("X-Forwarder", "a"),
        ("Sec-CH-UA", "a"),
        ("Original", "a"),
        ("Via", "a"),
    ];
    assert_eq!(get_with(&daemon, "/livez", &harmless).status, 200);
}

#[test]
fn preflight_of_a_browser_is_403_without_permission() {
    let (_sandbox, daemon) = sandbox_and_daemon(HOUR);
    let headers = [
        ("Origin", "http://a.example"),
        ("Access-Control-Request-Method", "GET"),
    ];
    let mut connection = Connection::open(&daemon);
    let answer = connection.request("OPTIONS", "/v1/token/data", &headers);
    answer.problem("forbidden_origin");
    assert!(answer.all("access-control-allow-methods").is_empty());
}

#[test]
fn rejected_heads_reach_neither_broker_nor_domo() {
    let (sandbox, daemon) = sandbox_and_daemon(std::time::Duration::from_secs(20));
    let (_, generation) = first_token(&daemon);
    // Any of these would renew the token or count a rejection.
    let after = head("GET", &format!("/v1/token/data?rejected={generation}"), &[]);
    for bad in [
        with_fields("Content-Length: 5\r\nTransfer-Encoding: chunked"),
        with_fields("Origin: http://a.example"),
        with_target("http://localhost/v1/token/data"),
        format!("GET /v1/token/data?rejected={generation} HTTP/1.1\nHost: localhost\n\n"),
    ] {
        only_answer(&daemon, bad + &after);
    }
    assert_eq!(daemon.status_of("data")["rejected"], 0);
    assert_eq!(sandbox.requests().len(), 1);
}

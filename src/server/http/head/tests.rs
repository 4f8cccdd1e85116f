use super::*;

fn head(lines: &[&str]) -> Vec<u8> {
    format!("{}\r\n\r\n", lines.join("\r\n")).into_bytes()
}

fn kind_of(bytes: &[u8]) -> Option<Kind> {
    parse(bytes).err().map(|problem| problem.kind)
}

/// Returns the kind of problem of a GET with these fields besides `Host`.
fn with(fields: &[&str]) -> Option<Kind> {
    let lines = [&["GET /livez HTTP/1.1", "Host: localhost"], fields].concat();
    kind_of(&head(&lines))
}

#[test]
fn head_of_a_usual_request_is_parsed() {
    let bytes = head(&[
        "GET /v1/token/data?format=token HTTP/1.1",
        "HOST: localhost:80",
        "if-none-match: \"7\"",
        "Last-Event-ID: 9",
        "Connection: keep-alive, Close",
    ]);
    let expected = Head {
        method: Method::Get,
        target: "/v1/token/data?format=token",
        has_body: false,
        closes: true,
        if_none_match: vec!["\"7\""],
        last_event_id: Some("9"),
    };
    assert_eq!(parse(&bytes).unwrap(), expected);
    let after_an_empty_line = [b"\r\n", &bytes[..]].concat();
    assert_eq!(parse(&after_an_empty_line).unwrap(), expected);
}

#[test]
fn length_is_found_at_any_split_and_limited() {
    let bytes = [
        &head(&["GET / HTTP/1.1", "Host: localhost"])[..],
        b"GET /next",
    ]
    .concat();
    let expected = bytes.len() - b"GET /next".len();
    for first in 0..bytes.len() {
        let found = length(&bytes[..first], 0).unwrap();
        assert_eq!(found, (first >= expected).then_some(expected), "{first}");
        if found.is_none() {
            assert_eq!(length(&bytes, first).unwrap(), Some(expected), "{first}");
        }
    }
    let long = [b'a'; MAX_HEAD + 1];
    assert_eq!(length(&long[..MAX_HEAD], 0).unwrap(), None);
    assert_eq!(length(&long, 0).unwrap_err().kind, Kind::HeadTooLarge);
    let mut whole = long[..MAX_HEAD - 4].to_vec();
    whole.extend_from_slice(b"\r\n\r\n");
    assert_eq!(length(&whole, 0).unwrap(), Some(MAX_HEAD));
    whole.insert(0, b'a');
    assert_eq!(length(&whole, 0).unwrap_err().kind, Kind::HeadTooLarge);
}

#[test]
fn ambiguous_head_is_rejected() {
    for fields in [
        &["Content-Length: 1", "Transfer-Encoding: chunked"][..],
        &["Content-Length: 0", "Transfer-Encoding: chunked"],
        &["Content-Length: 1", "Content-Length: 1"],
        &["Content-Length: +1"],
        &["Content-Length: 1, 1"],
        &["Content-Length:"],
        &["Host: localhost"],
        &["A : b"],
        &[" folded"],
        &["A: b\0"],
        &["A: b\rc"],
        &["A: b\nC: d"],
        &["no field"],
    ] {
        assert_eq!(with(fields), Some(Kind::BadRequest), "{fields:?}");
    }
    for line in [
        "GET http://localhost/livez HTTP/1.1",
        "GET localhost:80 HTTP/1.1",
        "CONNECT localhost:80 HTTP/1.1",
        "CONNECT /livez HTTP/1.1",
        "OPTIONS * HTTP/1.1",
        "GET  /livez HTTP/1.1",
        "GET /livez  HTTP/1.1",
        "GET /livez",
        "GET /li#vez HTTP/1.1",
        "GET /li\u{e4}vez HTTP/1.1",
        "GET /livez HTTP/1.1 ",
        "GET /livez http/1.1",
        "GET /livez HTTP/11",
    ] {
        let bytes = head(&[line, "Host: localhost"]);
        assert_eq!(kind_of(&bytes), Some(Kind::BadRequest), "{line}");
    }
    assert_eq!(
        kind_of(b"GET /livez HTTP/1.1\nHost: localhost\n\n"),
        Some(Kind::BadRequest)
    );
    assert_eq!(
        kind_of(b"GET /livez HTTP/1.1\r\n\r\n"),
        Some(Kind::BadRequest),
        "no Host"
    );
}

#[test]
fn other_version_of_http_is_not_supported() {
    for line in [
        "GET /livez HTTP/1.0",
        "PRI * HTTP/2.0",
        "GET /livez HTTP/3.0",
        "GET / HTTP/1.2",
    ] {
        let bytes = head(&[line, "Host: localhost"]);
        assert_eq!(kind_of(&bytes), Some(Kind::VersionNotSupported), "{line}");
    }
}

#[test]
fn only_loopback_hosts_are_accepted() {
    let host = |host: &str| kind_of(&head(&["GET /livez HTTP/1.1", &format!("Host: {host}")]));
    for local in [
        "localhost",
        "LOCALHOST:1",
        "localhost:",
        "127.0.0.1",
        "127.1.2.3:80",
        "[::1]",
        "[::1]:8080",
    ] {
        assert_eq!(host(local), None, "{local}");
    }
    for other in [
        "",
        "evil.example",
        "localhost.evil.example",
        "10.0.0.1",
        "127.0.0.1.evil",
        "user@localhost",
        "localhost:80:80",
        "localhost:a",
        "localhost:999999",
        "[::2]",
        "[::1",
        "::1",
        "[localhost]",
        "localhost.",
        "localhost,localhost",
        "127.0.0.1:80@evil",
        "0.0.0.0",
        "[::ffff:127.0.0.1]x",
    ] {
        assert_eq!(host(other), Some(Kind::ForbiddenOrigin), "{other:?}");
    }
}

#[test]
fn fields_of_web_pages_and_proxies_are_rejected() {
    for name in [
        "Origin",
        "ORIGIN",
        "Referer",
        "Forwarded",
        "X-Forwarded-For",
        "x-forwarded-host",
        "Sec-Fetch-Site",
        "sec-fetch-mode",
    ] {
        let field = format!("{name}: x");
        assert_eq!(with(&[&field]), Some(Kind::ForbiddenOrigin), "{name}");
        let empty = format!("{name}:");
        assert_eq!(with(&[&empty]), Some(Kind::ForbiddenOrigin), "{name}");
    }
    for name in ["Original", "X-Forward", "Accept", "Sec-Ch-Ua"] {
        assert_eq!(with(&[&format!("{name}: x")]), None, "{name}");
    }
}

#[test]
fn header_fields_are_limited() {
    let fields = |count: usize| -> Vec<String> { (1..count).map(|n| format!("A{n}: b")).collect() };
    let (most, more) = (fields(MAX_HEADERS), fields(MAX_HEADERS + 1));
    let texts = |fields: &[String]| with(&fields.iter().map(String::as_str).collect::<Vec<_>>());
    assert_eq!(texts(&most), None);
    assert_eq!(texts(&more), Some(Kind::HeadTooLarge));
}

#[test]
fn body_is_noticed() {
    let has_body = |fields: &[&str]| {
        let lines = [&["POST /livez HTTP/1.1", "Host: localhost"], fields].concat();
        parse(&head(&lines)).unwrap().has_body
    };
    assert!(!has_body(&[]));
    assert!(!has_body(&["Content-Length: 0"]));
    assert!(has_body(&["Content-Length: 10"]));
    assert!(has_body(&["Transfer-Encoding: chunked"]));
}

#[test]
fn empty_lines_before_a_request_are_found_whatever_follows() {
    for (bytes, expected) in [
        (&b"GET / HTTP/1.1\r\n"[..], 0),
        (b"\r\nGET", 2),
        (b"\r\n\r\n\r\nGET", 6),
        (b"\r\n\r", 2),
        (b"\r", 0),
        (b"\n\r\n", 0),
        (b"\r\n\n\r\n", 2),
    ] {
        assert_eq!(empty_lines(bytes), expected, "{bytes:?}");
    }
}

use super::*;
use crate::request_head::HeadErrorKind;

const LOCAL: &str = "Host: 127.0.0.1:8640";

fn bytes(lines: &[&str]) -> Vec<u8> {
    format!("{}\r\n\r\n", lines.join("\r\n")).into_bytes()
}

/// Returns the status of the refusal of a request line with these fields; 0 if it is accepted.
fn status(line: &str, fields: &[&str]) -> u16 {
    let bytes = bytes(&[&[line], fields].concat());
    let mut storage = storage();
    parse(&bytes, &mut storage).map_or_else(|refusal| refusal.status().0, |_| 0)
}

#[test]
fn usual_request_is_accepted() {
    let bytes = bytes(&[
        "PUT /v1/datasets/x/data?updateMethod=APPEND HTTP/1.1",
        LOCAL,
        "authorization: bearer a.b.c",
        "Expect: 100-Continue",
        "Transfer-Encoding: chunked",
        "X-Forwarded-For: 10.0.0.1",
        "Forwarded: for=10.0.0.1",
        "X_Y: z",
        "Connection: close, x_y",
    ]);
    let mut storage = storage();
    let head = parse(&bytes, &mut storage).unwrap();
    assert_eq!(head.method, "PUT");
    assert_eq!(head.target.path, "/v1/datasets/x/data");
    assert_eq!(head.target.query, Some("updateMethod=APPEND"));
    assert_eq!(head.body, BodyLength::Chunked);
    assert_eq!(head.authorization, Some(&b"bearer a.b.c"[..]));
    assert!(head.expects_continue && head.closes);
    assert_eq!(head.fields.iter().count(), 8);
}

#[test]
fn ambiguous_or_unforwardable_request_is_rejected() {
    for (fields, expected) in [
        (&[LOCAL][..], 0),
        (&["Host: localhost"], 0),
        (&["Host: [::1]:8640"], 0),
        (&[], 400),
        (&["Host:"], 403),
        (&["Host: api.domo.com"], 403),
        (&["Host: rebound.example:8640"], 403),
        (&[LOCAL, LOCAL], 400),
        (&[LOCAL, "host: localhost"], 400),
        (&[LOCAL, "Origin: null"], 403),
        (&[LOCAL, "Referer: http://localhost/"], 403),
        (&[LOCAL, "Sec-Fetch-Mode: cors"], 403),
        (
            &[LOCAL, "Content-Length: 1", "Transfer-Encoding: chunked"],
            400,
        ),
        (&[LOCAL, "Content-Length: 1", "Content-Length: 1"], 400),
        (&[LOCAL, "Content-Length: 1,1"], 400),
        (&[LOCAL, "Content-Length: 99999999999999999999"], 400),
        (&[LOCAL, "Transfer-Encoding: gzip, chunked"], 501),
        (&[LOCAL, "Transfer-Encoding: gzip"], 501),
        (&[LOCAL, "Transfer-Encoding: xchunked"], 501),
        (&[LOCAL, "Transfer-Encoding:\x0bchunked"], 400),
        (
            &[
                LOCAL,
                "Transfer-Encoding: chunked",
                "Transfer-Encoding: identity",
            ],
            501,
        ),
        (&[LOCAL, "Transfer-Encoding : chunked"], 400),
        (&[LOCAL, "Upgrade: websocket"], 400),
        (&[LOCAL, "Upgrade:"], 400),
        (&[LOCAL, "Authorization: a", "Authorization: a"], 400),
        (&[LOCAL, "Expect: 200-ok"], 417),
        (&[LOCAL, "Expect: 100-continue", "Expect: x"], 417),
        (&[LOCAL, " folded"], 400),
        (&[LOCAL, "A: b\n c"], 400),
        (&[LOCAL, "A: b\0"], 400),
        (&[LOCAL, "A: b\rc"], 400),
        (&[LOCAL, "A: b\nC: d"], 400),
        (&[LOCAL, "A\u{e4}: b"], 400),
        (&[LOCAL, ": b"], 400),
    ] {
        let found = status("POST /v1/users HTTP/1.1", fields);
        assert_eq!(found, expected, "{fields:?}");
    }
}

#[test]
fn request_line_that_is_not_forwarded_is_rejected() {
    for (line, expected) in [
        ("OPTIONS /v1/users HTTP/1.1", 0),
        ("GET /oauth/token?grant_type=client_credentials HTTP/1.1", 0),
        ("GET https://api.domo.com/v1/users HTTP/1.1", 400),
        ("CONNECT api.domo.com:443 HTTP/1.1", 400),
        ("CONNECT /v1/users HTTP/1.1", 400),
        ("OPTIONS * HTTP/1.1", 400),
        ("GET /v1/users HTTP/1.0", 505),
        ("PRI * HTTP/2.0", 505),
        ("GET /v1/users HTTP/1.1 x", 400),
        ("GET /v1/us ers HTTP/1.1", 400),
        ("GET /v1/users", 400),
        ("GET /v1/../v2 HTTP/1.1", 400),
        ("GET /v1/%2e%2E/v2 HTTP/1.1", 400),
        ("GET //v1/users HTTP/1.1", 400),
        ("GET /v1/users#a HTTP/1.1", 400),
        ("GET /v2/users HTTP/1.1", 404),
        ("TRACE /v1/users HTTP/1.1", 405),
        ("track /v1/users HTTP/1.1", 405),
        ("G@T /v1/users HTTP/1.1", 400),
    ] {
        assert_eq!(status(line, &[LOCAL]), expected, "{line}");
    }
    let bare = b"GET /v1/users HTTP/1.1\nHost: localhost\n\n";
    assert_eq!(parse(bare, &mut storage()).unwrap_err().status().0, 400);
}

#[test]
fn head_is_limited() {
    let field = "A: b";
    let line = "GET /v1/users HTTP/1.1";
    let most = vec![field; MAX_FIELDS - 1];
    assert_eq!(status(line, &[&[LOCAL], &most[..]].concat()), 0);
    assert_eq!(status(line, &[&[LOCAL, field], &most[..]].concat()), 431);
    let long = vec![b'a'; MAX_HEAD + 1];
    assert_eq!(length(&long[1..], 0), Ok(None));
    let Err(Refusal::Head(error)) = length(&long, 0) else {
        panic!("accepted");
    };
    assert_eq!(error.kind, HeadErrorKind::TooLarge);
    assert_eq!(error.detail, "the head of a request has at most 64 KiB");
}

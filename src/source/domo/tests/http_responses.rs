//! Heads and bodies of HTTP responses.

use super::*;

#[test]
fn redirect_is_not_followed() {
    let other = server().start().unwrap();
    let error = fetched(Fault::redirect(307, &other.token_url())).unwrap_err();
    let cause = Cause::RedirectRefused;
    assert!(matches!(error, FetchError::Transient { cause: is, .. } if is == cause));
    assert!(other.requests().is_empty());
}

#[test]
fn body_in_pieces_is_read_up_to_its_limit() {
    let padded = |bytes: usize| {
        let body = TOKEN.to_owned() + &" ".repeat(bytes - TOKEN.len());
        fetched(Fault::status(200).body(body))
    };
    for bytes in [TOKEN.len(), 100_000, MAX_BODY] {
        assert_eq!(padded(bytes).unwrap().text.expose_secret(), "a", "{bytes}");
    }
    let error = format!("{:?}", padded(MAX_BODY + 1).unwrap_err());
    assert!(error.contains("exceeds 1048576 bytes"), "{error}");
}

#[test]
fn response_headers_are_limited_in_number_and_size() {
    let many = |count| "Set-Cookie: a=b; Path=/\r\n".repeat(count);
    let long = |bytes| format!("X-Long: {}\r\n", "a".repeat(bytes));
    for lines in [many(150), many(transport::MAX_HEADERS - 2), long(500_000)] {
        assert!(fetched_raw(answer_with(&lines)).is_ok());
    }
    for lines in [many(transport::MAX_HEADERS), long(transport::MAX_HEAD)] {
        let message = transient_message(fetched_raw(answer_with(&lines)), Cause::Connect);
        assert!(
            message.contains("exceeds 524288 bytes or 1024 lines"),
            "{message}"
        );
    }
}

#[test]
fn unusual_response_heads_are_parsed() {
    let lf = answer_with("").replace("\r\n", "\n");
    let early = format!(
        "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n{}",
        answer_with("")
    );
    let old = format!("HTTP/1.0 200\r\n\r\n{TOKEN}");
    for answer in [
        lf,
        early,
        old,
        answer_with(&format!("Content-Length: {}\r\n", TOKEN.len())),
    ] {
        assert!(fetched_raw(answer.clone()).is_ok(), "{answer}");
    }
    let mut latin1 = answer_with("X-Note: caf?\r\n").into_bytes();
    let index = latin1.iter().position(|byte| *byte == b'?').unwrap();
    latin1[index] = 0xe9;
    assert!(fetched_raw(latin1).is_ok());
}

#[test]
fn invalid_response_is_named_in_the_error() {
    let malformed = "is malformed, which is not supported";
    for (answer, expected) in [
        (
            String::new(),
            "closed the connection before its response was complete",
        ),
        (
            "HTTP/1.1 200 OK\r\nX: ".to_owned(),
            "closed the connection before its response was complete",
        ),
        ("SSH-2.0-OpenSSH_9.2\r\n".to_owned(), "does not speak HTTP"),
        (
            "\x15\x03\x01\0\x02\x02\x46".to_owned(),
            "does not speak HTTP",
        ),
        (answer_with("X-Bad : 1\r\n"), malformed),
        (
            "HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n".to_owned(),
            "is malformed, or in HTTP/1.0, which is not supported",
        ),
        (
            answer_with("Content-Length: 1\r\n"),
            "is malformed, or two differ",
        ),
        (answer_with("X Y: 1\r\n"), malformed),
        (answer_with("X-Fold: a\r\n b\r\n"), malformed),
    ] {
        let message = transient_message(fetched_raw(answer.clone()), Cause::Connect);
        assert!(
            message.contains("127.0.0.1:") && message.contains(expected),
            "{answer}: {message}"
        );
    }
}

#[test]
fn error_with_an_incomplete_body_is_used_as_far_as_it_arrived() {
    let body = "{\"error\":\"invalid_scope\"}";
    let status = "HTTP/1.1 400 Bad Request\r\nContent-Type: application/json\r\n";
    let padding = " ".repeat(MAX_BODY);
    for answer in [
        format!("{status}Content-Length: 1000\r\n\r\n{body}"),
        format!(
            "{status}Transfer-Encoding: chunked\r\n\r\n{:x}\r\n{body}\r\n",
            body.len()
        ),
        format!("{status}\r\n{body}{padding}{padding}"),
    ] {
        let error = fetched_raw(answer).unwrap_err();
        let is_denied = matches!(
            error,
            FetchError::Denied {
                scope_only: true,
                ..
            }
        );
        assert!(is_denied, "{error:?}");
    }
}

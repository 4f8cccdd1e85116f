use std::time::UNIX_EPOCH;

use serde_json::{Value, json};

use super::*;

const DELIVERY: Delivery = Delivery {
    is_head: false,
    closes: false,
    now: UNIX_EPOCH,
};

/// Returns the lines of the head, and the body.
fn parts(response: &[u8]) -> (Vec<String>, Value) {
    let text = str::from_utf8(response).unwrap();
    let (head, body) = text.split_once("\r\n\r\n").unwrap();
    let lines: Vec<String> = head.split("\r\n").map(str::to_owned).collect();
    let length = format!("Content-Length: {}", body.len());
    assert!(lines.contains(&length), "{text}");
    (lines, serde_json::from_str(body).unwrap())
}

fn has(lines: &[String], line: &str) -> bool {
    lines.iter().any(|other| other == line)
}

fn head_error(kind: HeadErrorKind) -> Refusal {
    Refusal::Head(HeadError {
        kind,
        detail: "a detail".into(),
    })
}

fn scopes(text: &str) -> ScopeSet {
    ScopeSet::parse(text).unwrap()
}

/// Each refusal, its status, Retry-After, whether the connection ends, and its error at the token endpoint.
fn refusals() -> Vec<(Refusal, u16, Option<u64>, bool, &'static str)> {
    use Refusal::*;
    let no_token = |retry_after| NoToken {
        message: "Domo rejected the credentials".to_owned(),
        retry_after,
    };
    vec![
        (
            head_error(HeadErrorKind::BadRequest),
            400,
            None,
            true,
            "invalid_request",
        ),
        (
            head_error(HeadErrorKind::ForbiddenOrigin),
            403,
            None,
            true,
            "invalid_request",
        ),
        (
            head_error(HeadErrorKind::TooLarge),
            431,
            None,
            true,
            "invalid_request",
        ),
        (
            head_error(HeadErrorKind::VersionNotSupported),
            505,
            None,
            true,
            "server_error",
        ),
        (
            Target(TargetError::DotSegment),
            400,
            None,
            true,
            "invalid_request",
        ),
        (
            Target(TargetError::NotFound),
            404,
            None,
            true,
            "invalid_request",
        ),
        (Invalid("a text"), 400, None, true, "invalid_request"),
        (TransferCoding, 501, None, true, "server_error"),
        (Expectation, 417, None, true, "invalid_request"),
        (Method { allow: "GET" }, 405, None, true, "invalid_request"),
        (Chunk(ChunkError::Size), 400, None, true, "invalid_request"),
        (BodyTooLong, 413, None, true, "invalid_request"),
        (Late, 408, None, true, "invalid_request"),
        (
            Token(InvalidToken::Missing),
            401,
            None,
            false,
            "invalid_request",
        ),
        (
            Token(InvalidToken::Expired),
            401,
            None,
            false,
            "invalid_request",
        ),
        (NoRule, 403, None, false, "invalid_request"),
        (
            MissingScopes(scopes("data")),
            403,
            None,
            false,
            "invalid_request",
        ),
        (
            AppConnections { max: 64 },
            429,
            Some(1),
            true,
            "temporarily_unavailable",
        ),
        (Busy, 503, Some(1), true, "temporarily_unavailable"),
        (
            AppUnusable("a file".to_owned()),
            503,
            Some(5),
            false,
            "temporarily_unavailable",
        ),
        (
            no_token(None),
            503,
            Some(5),
            false,
            "temporarily_unavailable",
        ),
        (
            no_token(Some(Duration::ZERO)),
            503,
            Some(1),
            false,
            "temporarily_unavailable",
        ),
        (
            no_token(Some(Duration::from_millis(7001))),
            503,
            Some(8),
            false,
            "temporarily_unavailable",
        ),
        (
            Unreachable("timed out".to_owned()),
            502,
            None,
            false,
            "server_error",
        ),
        (NoAnswer, 504, None, false, "server_error"),
        (InvalidClient("a text"), 400, None, false, "invalid_client"),
        (
            InvalidRequest("a text"),
            400,
            None,
            false,
            "invalid_request",
        ),
        (GrantType, 400, None, false, "unsupported_grant_type"),
        (ScopeSyntax, 400, None, false, "invalid_scope"),
        (
            Scope {
                excess: "audit".to_owned(),
                allowed: scopes("data"),
            },
            400,
            None,
            false,
            "invalid_scope",
        ),
    ]
}

#[test]
fn each_refusal_has_its_response() {
    for (refusal, status, retry, closes, error) in refusals() {
        let message = refusal.to_string();
        assert!(
            !message.is_empty() && !message.contains(char::is_control),
            "{refusal:?}"
        );
        let Status(code, reason) = refusal.status();
        assert_eq!(code, status, "{refusal:?}");
        let (lines, body) = parts(&refusal.response("/v1/users", Toe(0), DELIVERY));
        let expected = json!({
            "status": status, "statusReason": reason, "path": "/v1/users", "message": message,
            "toe": "00000-00000",
        });
        assert_eq!(body, expected);
        assert!(has(&lines, &format!("HTTP/1.1 {status} {reason}")));
        assert!(has(&lines, "Domo-Token-Gateway: 1") && has(&lines, "Cache-Control: no-store"));
        let retry = retry.map(|seconds| format!("Retry-After: {seconds}"));
        let found = lines.iter().find(|line| line.starts_with("Retry-After"));
        assert_eq!(found, retry.as_ref(), "{refusal:?}");
        assert_eq!(has(&lines, "Connection: close"), closes, "{refusal:?}");
        let (_, body) = parts(&refusal.response(TOKEN_PATH, Toe(0), DELIVERY));
        assert_eq!(body["error"], error, "{refusal:?}");
        assert_eq!(body["error_description"], message.as_str());
        assert_eq!(body["message"], message.as_str());
    }
}

#[test]
fn challenge_and_methods_are_named() {
    let lines = |refusal: &Refusal| parts(&refusal.response("", Toe(0), DELIVERY)).0;
    let missing = lines(&Refusal::Token(InvalidToken::Missing));
    assert!(has(&missing, "WWW-Authenticate: Bearer"));
    let invalid = lines(&Refusal::Token(InvalidToken::Signature));
    assert!(has(
        &invalid,
        "WWW-Authenticate: Bearer error=\"invalid_token\""
    ));
    let method = lines(&Refusal::Method { allow: "GET, POST" });
    assert!(has(&method, "Allow: GET, POST"));
}

#[test]
fn path_is_shortened_and_escaped_and_has_no_query() {
    let path = |path: &str| {
        let body = parts(&Refusal::NoRule.response(path, Toe(0), DELIVERY)).1;
        body["path"].as_str().unwrap().to_owned()
    };
    assert_eq!(path("/v1/a\"b\n\u{1}?key=c4nary"), "/v1/a\"b\n\u{1}");
    assert_eq!(path(&"ä".repeat(300)), "ä".repeat(300));
    assert_eq!(path(&"ä".repeat(301)), format!("{}…", "ä".repeat(300)));
}

#[test]
fn response_to_head_has_no_body_and_closes_on_request() {
    let delivery = Delivery {
        is_head: true,
        closes: true,
        ..DELIVERY
    };
    let response = Refusal::NoRule.response("/v1/users", Toe(0), delivery);
    let text = str::from_utf8(&response).unwrap();
    assert!(text.ends_with("\r\nConnection: close\r\n\r\n"), "{text}");
    assert!(!text.contains("Content-Length: 0"), "{text}");
    assert!(
        text.contains("\r\nDate: Thu, 01 Jan 1970 00:00:00 GMT\r\n"),
        "{text}"
    );
}

#[test]
fn toe_shows_fifty_bits() {
    assert_eq!(Toe(1).to_string(), "00000-00001");
    assert_eq!(Toe(u64::MAX).to_string(), "ZZZZZ-ZZZZZ");
    assert_eq!(Toe(1 << 50).to_string(), "00000-00000");
    assert_eq!(Toe(1 << 25).to_string(), "00001-00000");
}

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

fn no_token(retry_after: Option<Duration>) -> Refusal {
    let message = "Domo rejected the credentials".to_owned();
    Refusal::NoToken {
        message,
        retry_after,
    }
}

/// Each refusal, its status, Retry-After, and whether the connection ends.
fn refusals() -> Vec<(Refusal, u16, Option<u64>, bool)> {
    use Refusal::*;
    let (excess, allowed) = ("audit".to_owned(), scopes("data"));
    vec![
        (head_error(HeadErrorKind::BadRequest), 400, None, true),
        (head_error(HeadErrorKind::ForbiddenOrigin), 403, None, true),
        (head_error(HeadErrorKind::TooLarge), 431, None, true),
        (
            head_error(HeadErrorKind::VersionNotSupported),
            505,
            None,
            true,
        ),
        (Target(TargetError::DotSegment), 400, None, true),
        (Target(TargetError::NotFound), 404, None, true),
        (Invalid("a text"), 400, None, true),
        (TransferCoding, 501, None, true),
        (Expectation, 417, None, true),
        (Method { allow: "GET" }, 405, None, true),
        (Chunk(ChunkError::Size), 400, None, true),
        (BodyTooLong, 413, None, true),
        (Late, 408, None, true),
        (Token(InvalidToken::Missing), 401, None, false),
        (Token(InvalidToken::Expired), 401, None, false),
        (NoRule, 403, None, false),
        (MissingScopes(scopes("data")), 403, None, false),
        (AppConnections { max: 64 }, 429, Some(1), true),
        (Busy, 503, Some(1), true),
        (AppUnusable("a file".to_owned()), 503, Some(5), false),
        (no_token(None), 503, Some(5), false),
        (no_token(Some(Duration::ZERO)), 503, Some(1), false),
        (
            no_token(Some(Duration::from_millis(7001))),
            503,
            Some(8),
            false,
        ),
        (Unreachable("timed out".to_owned()), 502, None, false),
        (NoAnswer, 504, None, false),
        (InvalidClient("a text"), 400, None, false),
        (InvalidRequest("a text"), 400, None, false),
        (GrantType, 400, None, false),
        (ScopeSyntax, 400, None, false),
        (Scope { excess, allowed }, 400, None, false),
    ]
}

/// Returns the error at the token endpoint.
fn oauth_error(refusal: &Refusal) -> &'static str {
    match (refusal, refusal.status().0) {
        (Refusal::InvalidClient(_), _) => "invalid_client",
        (Refusal::GrantType, _) => "unsupported_grant_type",
        (Refusal::ScopeSyntax | Refusal::Scope { .. }, _) => "invalid_scope",
        (_, 503 | 429) => "temporarily_unavailable",
        (_, 501 | 502 | 504 | 505) => "server_error",
        _ => "invalid_request",
    }
}

#[test]
fn each_refusal_has_its_response() {
    for (refusal, status, retry, closes) in refusals() {
        let message = refusal.to_string();
        assert!(
            !message.is_empty() && !message.contains(char::is_control),
            "{refusal:?}"
        );
        let Status(code, reason) = refusal.status();
        assert_eq!(code, status, "{refusal:?}");
        let (lines, body) = parts(&refusal.response("/v1/users", Toe(0), DELIVERY));
        let mut expected = json!({
            "status": status, "statusReason": reason, "path": "/v1/users", "message": message,
            "toe": "00000-00000",
        });
        let error = match status {
            401 => Some("invalid_token"),
            403 if matches!(refusal, Refusal::MissingScopes(_)) => Some("insufficient_scope"),
            _ => None,
        };
        if let Some(error) = error {
            expected["error"] = error.into();
            expected["error_description"] = message.clone().into();
        }
        assert_eq!(body, expected);
        assert!(has(&lines, &format!("HTTP/1.1 {status} {reason}")));
        assert!(has(&lines, "Domo-Token-Gateway: 1") && has(&lines, "Cache-Control: no-store"));
        let retry = retry.map(|seconds| format!("Retry-After: {seconds}"));
        let found = lines.iter().find(|line| line.starts_with("Retry-After"));
        assert_eq!(found, retry.as_ref(), "{refusal:?}");
        assert_eq!(has(&lines, "Connection: close"), closes, "{refusal:?}");
        let (_, body) = parts(&refusal.response(TOKEN_PATH, Toe(0), DELIVERY));
        assert_eq!(body["error"], oauth_error(&refusal), "{refusal:?}");
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

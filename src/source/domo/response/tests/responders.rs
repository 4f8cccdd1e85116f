//! The responder, its message and the hint in errors.

use super::*;

const HTML: (&str, &str) = ("content-type", "text/html; charset=utf-8");

/// Status, headers, body, message.
type Case = (
    u16,
    &'static [(&'static str, &'static str)],
    &'static str,
    &'static str,
);

const SENDERS: &[Case] = &[
    (
        403,
        &[HTML, ("server", "Zscaler/6.2")],
        "<html>Blocked</html>",
        "api.domo.example returned 403 (text/html, server Zscaler/6.2): the response may be from a proxy or gateway",
    ),
    (
        401,
        &[
            HTML,
            ("server", "Zscaler"),
            ("www-authenticate", "Basic realm=\"Company gateway\""),
        ],
        "<html>sign in</html>",
        "api.domo.example returned 401 (text/html, server Zscaler): the response may be from a proxy or gateway",
    ),
    (
        503,
        &[],
        "",
        "api.domo.example returned 503: the response may be from a proxy or gateway",
    ),
    (
        503,
        &[("server", "nginx")],
        r#"{"status":503,"message":"Sorry","toe":"A-B-C"}"#,
        "Domo returned 503: Sorry (toe A-B-C)",
    ),
    (
        403,
        &[("content-type", "application/problem+json")],
        r#"{"type":"about:blank","title":"Forbidden","status":403,"detail":"IP 203.0.113.7 is not on the allow list"}"#,
        "api.domo.example returned 403 (application/problem+json): Forbidden: IP 203.0.113.7 is not on the allow list",
    ),
    (
        401,
        &[],
        r#"{"error":{"code":"disabled","message":"API client is disabled"}}"#,
        "api.domo.example returned 401: disabled: API client is disabled",
    ),
    (
        401,
        &[],
        r#"{"errors":[{"message":"API client is disabled"},{"message":"ask Ann"},"now"]}"#,
        "api.domo.example returned 401: API client is disabled: ask Ann: now",
    ),
    (
        400,
        &[("content-type", "application/json")],
        r#"{"message":"API client is disabled"}"#,
        "api.domo.example returned 400: API client is disabled",
    ),
    (
        401,
        &[],
        r#"{"fault":{"faultstring":"Invalid ApiKey","detail":{"errorcode":"x"}}}"#,
        "api.domo.example returned 401: Invalid ApiKey",
    ),
    (
        401,
        &[(
            "www-authenticate",
            "Basic realm=\"oauth\", error=\"invalid_client\", error_description=\"client disabled\"",
        )],
        "",
        "Domo returned 401: invalid_client: client disabled",
    ),
    (
        400,
        &[],
        r#"{"timestamp":"2026-01-01","status":400,"error":"Bad Request","path":"/oauth/token"}"#,
        "api.domo.example returned 400: Bad Request",
    ),
    (
        403,
        &[],
        "\u{feff}{\"error\":\"access_denied\",\"message\":\"access_denied\"}",
        "Domo returned 403: access_denied",
    ),
];

#[test]
fn domo_is_named_only_for_an_answer_of_its_shape() {
    for (status, headers, body, shown) in SENDERS {
        assert_eq!(message(refuse(*status, headers, body)), *shown);
    }
}

/// Status, headers, body, parts of the message.
type Hint = (
    u16,
    &'static [(&'static str, &'static str)],
    &'static str,
    [&'static str; 2],
);

const NGINX: &str = "<html>The plain HTTP request was sent to HTTPS port</html>";

const HINTS: &[Hint] = &[
    (
        201,
        &[],
        r#"{"access_token":"abc"}"#,
        [
            "api.domo.example returned 201; ",
            "a token response has status 200",
        ],
    ),
    (
        203,
        &[],
        r#"{"access_token":"abc"}"#,
        [
            "api.domo.example returned 203; ",
            "a proxy may have changed",
        ],
    ),
    (
        302,
        &[],
        "",
        [
            "returned 302; redirects are not followed",
            "check token_url",
        ],
    ),
    (
        400,
        &[HTML],
        NGINX,
        [
            "(text/html); the port speaks TLS",
            "write https:// in token_url",
        ],
    ),
    (
        400,
        &[],
        "Client sent an HTTP request to an HTTPS server.\n",
        ["TLS", "https://"],
    ),
    (
        404,
        &[],
        r#"{"status":404,"message":"no such page"}"#,
        ["Domo returned 404: no such page; ", "check token_url"],
    ),
    (405, &[], "", ["returned 405; ", "token_method"]),
    (
        407,
        &[HTML],
        "",
        [
            "(text/html); an intermediate proxy requires a login",
            "proxy_auth_file",
        ],
    ),
    (421, &[], "", ["returned 421; ", "check token_url"]),
    (
        426,
        &[("upgrade", "h2")],
        "",
        ["returned 426; ", "HTTP/1.1"],
    ),
    (
        511,
        &[HTML],
        "",
        ["returned 511 (text/html); ", "captive portal"],
    ),
];

#[test]
fn message_has_the_hint_that_fits_the_status() {
    for (status, headers, body, parts) in HINTS {
        let message = message(refuse(*status, headers, body));
        for part in parts {
            assert!(message.contains(part), "{part}: {message}");
        }
        assert!(!message.contains("a proxy or gateway"), "{message}");
    }
}

#[test]
fn message_contains_no_secret_and_no_line_break() {
    let hex = "0123456789abcdef".repeat(4);
    let basic = STANDARD.encode(format!("an-id:{SECRET}"));
    let body = format!(
        r#"{{"error":"bad\nline\u001b[31m","error_description":"you sent c4nary-secret and {hex} and
            c4nary%2Dsecret and {basic}","toe":"c4nary-secret"}}"#
    )
    .replace("\n            ", " ");
    let (_, message) = denied(refuse(401, &[("server", "c4nary-secret\t\u{e9}")], &body));
    let (_, named) = transient(refuse(503, &[("server", "c4nary-secret v1")], "no"));
    for message in [message, named] {
        for secret in [SECRET, "c4nary", &hex, &basic, "%2Dsecret"] {
            assert!(!message.contains(secret), "{message}");
        }
        assert!(!message.chars().any(char::is_control), "{message:?}");
        assert!(message.contains("[redacted]"), "{message}");
    }
    let turned = "{\"error\":\"a\u{202e}b\u{2066}c\u{200f}d\"}";
    assert!(denied(refuse(401, &[], turned)).1.ends_with("a b c d"));
    let long = format!(
        r#"{{"error":"invalid_x","message":"{}"}}"#,
        "word ".repeat(10_000)
    );
    let (_, message) = denied(refuse(400, &[], long));
    assert!(
        message.chars().count() <= crate::connect::MAX_TEXT + 30,
        "{message}"
    );
}

#[test]
fn login_that_a_proxy_sends_back_in_place_of_domo_is_redacted() {
    let login = crate::credentials::ProxyLogin {
        user: "alice".to_owned(),
        password: "pwCANARY99x".into(),
    };
    let secrets = Secrets {
        client_secret: SECRET,
        login: Some(&login),
    };
    let body = r#"{"message":"alice:pwCANARY99x is not allowed, c4nary-secret"}"#;
    let answer = answer(403, &[("server", "pwCANARY99x")], body);
    let message =
        message(read(&answer, &requested(), secrets, SERVER_NAME, Naming::Keys).unwrap_err());
    assert!(
        message.contains("(server [redacted]): [redacted] is not allowed, [redacted]"),
        "{message}"
    );
}

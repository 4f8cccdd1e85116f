//! A 200: a token, or an error that names the problem.

use super::*;

#[test]
fn documented_token_response_is_parsed() {
    let body = r#"{"access_token":"abc.def","customer":"acme","expires_in":3599,"jti":"x",
        "role":"Admin","scope":"data user","token_type":"bearer","userId":964382593,"env":"prod1"}"#;
    let fetched = token(body).unwrap();
    assert_eq!(fetched.text.expose_secret(), "abc.def");
    assert_eq!(fetched.lifetime, Duration::from_secs(3599));
    assert_eq!(fetched.lifetime_source, LifetimeSource::Stated);
    assert_eq!(fetched.granted, requested());
}

/// Members besides a valid token, and their problem.
const ODD_MEMBERS: &[(&str, &str)] = &[
    ("\"x\":\0", "contains a NUL byte"),
    (r#""access_token":"def""#, "has \"access_token\" twice"),
    (
        r#""expires_in":1,"expires_in":1"#,
        "has \"expires_in\" twice",
    ),
    (
        r#""token_type":"bearer","token_type":"bearer""#,
        "has \"token_type\" twice",
    ),
    (
        r#""scope":"data user","scope":"data""#,
        "has \"scope\" twice",
    ),
    (
        r#""token_type":"mac""#,
        "its token_type is the string \"mac\", not \"bearer\"",
    ),
    (
        r#""token_type":"BearerToken""#,
        "the string \"BearerToken\"",
    ),
    (r#""token_type":1"#, "its token_type is 1, not"),
    (r#""token_type":[]"#, "its token_type is an array, not"),
    (
        r#""expires_in":"3599.0""#,
        "its expires_in is the string \"3599.0\", not",
    ),
    (r#""expires_in":-5"#, "its expires_in is -5, not a positive"),
    (
        r#""expires_in":false"#,
        "its expires_in is a boolean, not a positive",
    ),
    (r#""scope":7"#, "its scope is 7, not a list of scopes"),
    (
        r#""scope":[7]"#,
        "its scope is an array, not a list of scopes",
    ),
];

/// Values of `access_token`, and their problem.
const ODD_TOKENS: &[(&str, &str)] = &[
    ("null", "its access_token is null"),
    ("12", "its access_token is a number"),
    ("true", "its access_token is a boolean"),
    ("[\"abc\"]", "its access_token is an array"),
    ("{}", "its access_token is an object"),
    ("\"\"", "its access_token is empty"),
    (r#""a\nb""#, "invalid characters"),
    (r#""é""#, "invalid characters"),
    (r#""a\u0000""#, "invalid characters"),
];

/// Bodies that are no JSON object with a token, and their problem.
const ODD_BODIES: &[(&str, &str)] = &[
    ("", "the body is empty"),
    (" \n", "the body is empty"),
    ("{}", "the JSON has no access_token; check token_url"),
    (
        "<html>",
        "a web page, possibly a login page; check token_url",
    ),
    ("null", "not a JSON object"),
    (r#"["abc",3599,"data user","bearer"]"#, "not a JSON object"),
    ("{'access_token':'abc'}", "not valid JSON"),
    (r#"{"access_token":"abc""#, "the JSON is truncated"),
    (r#"{"access_token":"ab"#, "the JSON is truncated"),
    (
        "\u{feff}{\"access_token\":\"abc\"}",
        "byte order mark (BOM)",
    ),
    (
        r#"{"access_token":"abc"}<!-- scanned -->"#,
        "text follows the JSON",
    ),
    (
        r#"{"access_token":"abc"}{"access_token":"abc"}"#,
        "text follows the JSON",
    ),
    (
        "{\"access_token\":\"abc\"}\0",
        "a NUL byte follows the JSON",
    ),
];

#[test]
fn body_without_a_usable_token_is_transient_and_the_message_names_what_is_odd() {
    let token_of = |text: &str| format!(r#"{{"access_token":{text}}}"#);
    let good = token_of("\"abc\"");
    let wide: Vec<u8> = good.encode_utf16().flat_map(u16::to_le_bytes).collect();
    let marked = [&b"\xff\xfe"[..], &wide].concat();
    let long = token_of(&format!("\"{}\"", "a".repeat(MAX_TOKEN + 1)));
    let bodies = ODD_BODIES.iter().map(|(body, odd)| ((*body).into(), *odd));
    let tokens = ODD_TOKENS
        .iter()
        .map(|(text, odd)| (token_of(text).into(), *odd));
    let members = ODD_MEMBERS.iter().map(|(member, odd)| {
        let body = format!("{{\"access_token\":\"abc\",{member}}}");
        (body.into(), *odd)
    });
    let others: [(Vec<u8>, &str); 5] = [
        (b"{\"access_token\":\"\xe9\"}".into(), "not UTF-8"),
        (wide, "UTF-16"),
        (marked, "UTF-16"),
        (long.into(), "its access_token exceeds 16 KiB"),
        ("[".repeat(100_000).into(), "not a JSON object"),
    ];
    for (body, odd) in bodies.chain(tokens).chain(members).chain(others) {
        let (cause, message) = transient(token(&body).unwrap_err());
        assert_eq!(cause, Cause::Unusable, "{message}");
        assert!(message.contains(odd), "{odd}: {message}");
        assert!(
            message.starts_with("api.domo.example returned 200 without a "),
            "{message}"
        );
    }
    let longest = token_of(&format!("\"{}\"", "a".repeat(MAX_TOKEN)));
    assert!(token(longest).is_ok());
}

#[test]
fn token_that_is_no_b64token_is_unusable_and_not_shown() {
    for text in [
        "x;id>f", "a\\\"b", "a$(id)", "a`id`", "a b", "a|b", "a&b", "a'b", "a%b", "a:b", "a,b",
        "=", "==", "a=b", "a\\\\b", "{a}", "#a",
    ] {
        let body = format!(r#"{{"access_token":"{text}"}}"#);
        let (cause, message) = transient(token(body).unwrap_err());
        assert_eq!(cause, Cause::Unusable, "{text}");
        assert!(message.contains("invalid characters"), "{text}: {message}");
        assert!(!message.contains(text), "{message}");
    }
    for text in ["a", "eyJh.e30.c2ln", "a-._~+/Z9", "YQ==", "a="] {
        let body = format!(r#"{{"access_token":"{text}"}}"#);
        assert_eq!(token(body).unwrap().text.expose_secret(), text);
    }
}

#[test]
fn content_type_must_be_json_and_is_named_if_it_is_not() {
    let of = |content_type: &str| {
        let headers = [("content-type", content_type)];
        result(&answer(200, &headers, r#"{"access_token":"abc"}"#))
    };
    assert!(result(&answer(200, &[], r#"{"access_token":"abc"}"#)).is_ok());
    for json in [
        "application/json",
        "Application/JSON ;charset=UTF-8",
        "application/json; charset=utf-16",
        "application/json, application/json",
        "application/json;charset=UTF-8,text/json",
        "application/problem+json",
        "application/json,",
        "application/json charset=utf-8",
        "",
        " , ",
    ] {
        assert!(of(json).is_ok(), "{json}");
    }
    for (other, named) in [
        (
            "text/html;charset=UTF-8",
            "a web page, possibly a login page; check token_url",
        ),
        (
            "text/plain",
            "its Content-Type is \"text/plain\", not application/json",
        ),
        (
            "application/json, text/plain",
            "\"application/json, text/plain\"",
        ),
        ("jsonp", "\"jsonp\""),
        ("c4nary-secret", "\"[redacted]\""),
    ] {
        let (cause, message) = transient(of(other).unwrap_err());
        assert_eq!(cause, Cause::Unusable);
        assert!(message.contains(named), "{message}");
        assert!(!message.contains(SECRET), "{message}");
    }
}

#[test]
fn token_type_is_case_insensitive() {
    for kind in ["bearer", "Bearer", "BEARER"] {
        let body = format!(r#"{{"access_token":"abc","token_type":"{kind}"}}"#);
        assert!(token(body).is_ok());
    }
    assert!(token(r#"{"access_token":"abc","token_type":null}"#).is_ok());
}

#[test]
fn scope_that_was_not_granted_is_a_rejection_that_names_it() {
    let error = token(r#"{"access_token":"abc","scope":"data workflow"}"#).unwrap_err();
    let (scope_only, message) = denied(error);
    assert!(scope_only);
    assert!(message.contains("\"user\""), "{message}");
    assert!(token(r#"{"access_token":"abc","scope":["user","data"]}"#).is_ok());
    let empty = token(r#"{"access_token":"abc","scope":""}"#).unwrap();
    assert_eq!(empty.granted, requested(), "as if it were absent");
}

#[test]
fn error_with_status_200_is_transient_and_its_message_is_passed_on() {
    for (body, shown, cause) in [
        (
            r#"{"error":"invalid_client","error_description":"client disabled"}"#,
            "Domo returned 200 without a token: invalid_client: client disabled",
            Cause::Unusable,
        ),
        (
            r#"{"status":401,"statusReason":"Unauthorized","message":"Bad client credentials","toe":"A-B-C"}"#,
            "Domo returned 200 without a token: Bad client credentials (toe A-B-C)",
            Cause::Unusable,
        ),
        (
            r#"{"errors":[{"message":"API client is disabled"}]}"#,
            "api.domo.example returned 200 without a token: API client is disabled",
            Cause::Unusable,
        ),
        (
            r#"{"error":"slow_down"}"#,
            "Domo returned 200 without a token: slow_down",
            Cause::RateLimited,
        ),
    ] {
        assert_eq!(
            transient(token(body).unwrap_err()),
            (cause, shown.to_owned())
        );
    }
    assert!(token(r#"{"access_token":"abc","error":"none"}"#).is_ok());
}

#[test]
fn compressed_token_response_is_parsed_like_a_plain_one() {
    let body = r#"{"access_token":"abc","expires_in":3599}"#;
    for (headers, body) in [
        (&[("content-encoding", "gzip")][..], gzip(body)),
        (&[("content-encoding", "x-gzip, gzip")], gzip(gzip(body))),
        (
            &[
                ("content-encoding", "gzip"),
                ("transfer-encoding", "chunked"),
            ],
            gzip(body),
        ),
        (&[], gzip(body)),
    ] {
        let fetched = result(&answer(200, headers, body)).unwrap();
        assert_eq!(fetched.text.expose_secret(), "abc");
    }
    let coded = |coding: &str, body: &[u8]| {
        let headers = [("content-encoding", coding)];
        transient(result(&answer(200, &headers, body)).unwrap_err())
    };
    let half = gzip(body);
    for (coding, body, cause, named) in [
        (
            "br",
            &b"\x8b\x13\x80"[..],
            Cause::Unusable,
            "Content-Encoding \"br\" is not supported",
        ),
        (
            "gzip",
            &half[..20],
            Cause::Connect,
            "compressed response of api.domo.example is truncated",
        ),
        (
            "gzip",
            b"<html>",
            Cause::Unusable,
            "does not match its Content-Encoding",
        ),
        (
            "gzip",
            &gzip(vec![b' '; 2_000_000]),
            Cause::Unusable,
            "exceeds 1048576 bytes",
        ),
    ] {
        let (found, message) = coded(coding, body);
        assert_eq!(found, cause, "{message}");
        assert!(message.contains(named), "{message}");
    }
}

#[test]
fn complete_token_is_accepted_without_close_notify() {
    let body = r#"{"access_token":"abc","expires_in":3599}"#;
    let of = |headers: &[(&'static str, &str)], body: &[u8], cause| {
        result(&cut(answer(200, headers, body), cause))
    };
    for cause in [Cause::Connect, Cause::Tls] {
        assert!(of(&[], body.as_bytes(), cause).is_ok());
        assert!(of(&[("content-encoding", "gzip")], &gzip(body), cause).is_ok());
    }
    let incomplete = [
        (&[][..], &body[..body.len() - 1], Cause::Connect),
        (&[], "", Cause::Connect),
        (&[], "{}x", Cause::Connect),
        (&[], body, Cause::Timeout),
        (&[], body, Cause::Unusable),
        (&[("content-length", "99")], body, Cause::Connect),
        (&[("transfer-encoding", "chunked")], body, Cause::Connect),
    ];
    for (headers, body, cause) in incomplete {
        let error = of(headers, body.as_bytes(), cause).unwrap_err();
        assert_eq!(
            error,
            FetchError::transient(cause, "cut"),
            "{headers:?} {body}"
        );
    }
}

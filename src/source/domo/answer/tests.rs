use super::*;

fn asked() -> ScopeSet {
    ScopeSet::parse("data user").unwrap()
}

fn refuse(status: u16, body: &str) -> FetchError {
    let status = StatusCode::from_u16(status).unwrap();
    refusal(status, body.as_bytes(), None, "c4nary-secret")
}

#[track_caller]
fn transient(error: FetchError) -> (Cause, String) {
    match error {
        FetchError::Transient { cause, words, .. } => (cause, words),
        FetchError::Denied { words, .. } | FetchError::ProxyLogin { words } => {
            panic!("denied: {words}")
        }
    }
}

#[test]
fn domos_documented_answer_is_read() {
    let body = r#"{"access_token":"abc.def","customer":"acme","expires_in":3599,"jti":"x",
        "role":"Admin","scope":"data user","token_type":"bearer","userId":964382593,"env":"prod1"}"#;
    let fetched = token(body.as_bytes(), &asked()).unwrap();
    assert_eq!(fetched.text.expose_secret(), "abc.def");
    assert_eq!(fetched.lifetime, Duration::from_secs(3599));
    assert_eq!(fetched.lifetime_source, LifetimeSource::Stated);
    assert_eq!(fetched.granted, asked());
}

#[test]
fn expires_in_is_read_in_every_form_that_makes_sense() {
    let read = |text: &str| {
        let body = format!(r#"{{"access_token":"abc","expires_in":{text}}}"#);
        token(body.as_bytes(), &asked())
            .map(|fetched| fetched.lifetime.as_secs())
            .ok()
    };
    for (written, seconds) in [
        ("1", Some(1)),
        ("3599", Some(3599)),
        (r#""3599""#, Some(3599)),
        ("86401", Some(86_400)),
        ("3599.0", Some(3599)),
        ("3599.9", Some(3599)),
        ("1e3", Some(1000)),
        ("1e5", Some(86_400)),
        ("100000.5", Some(86_400)),
        ("1e18", Some(86_400)),
        ("1e300", Some(86_400)),
        ("100000000000000000000", Some(86_400)),
        (r#""100000000000000000000""#, Some(86_400)),
        ("null", Some(300)),
        ("0", None),
        ("0.5", None),
        ("-1", None),
        ("-1e300", None),
        (r#""3599.0""#, None),
        (r#"" 3599""#, None),
        (r#""-1""#, None),
        (r#""""#, None),
        (r#""soon""#, None),
        ("true", None),
        ("[]", None),
        ("{}", None),
    ] {
        assert_eq!(read(written), seconds, "{written}");
    }
    let long = br#"{"access_token":"abc","expires_in":3599000}"#;
    let stated = Duration::from_secs(3_599_000);
    let capped = token(long, &asked()).unwrap().lifetime_source;
    assert_eq!(capped, LifetimeSource::Capped { stated });
    let absent = token(br#"{"access_token":"abc"}"#, &asked()).unwrap();
    assert_eq!(
        (absent.lifetime, absent.lifetime_source),
        (LIFETIME_ASSUMED, LifetimeSource::Assumed)
    );
}

#[test]
fn a_200_without_a_usable_token_is_transient() {
    let newline = r#"{"access_token":"a\nb"}"#;
    let accent = r#"{"access_token":"é"}"#;
    let nul = r#"{"access_token":"a\u0000"}"#;
    let typed = r#"{"access_token":"abc","token_type":"mac"}"#;
    let twice = r#"{"access_token":"abc","access_token":"def"}"#;
    let long = format!(r#"{{"access_token":"{}"}}"#, "a".repeat(MAX_TOKEN + 1));
    let deep = "[".repeat(100_000);
    let bom = "\u{feff}{\"access_token\":\"abc\"}";
    let bodies = [
        "",
        "{}",
        "<html>",
        "null",
        r#"["abc",3599,"data user","bearer"]"#,
        r#"{"access_token":""}"#,
        newline,
        accent,
        nul,
        typed,
    ];
    for body in bodies.into_iter().chain([twice, &long, &deep, bom]) {
        let (cause, words) = transient(token(body.as_bytes(), &asked()).unwrap_err());
        assert_eq!(cause, Cause::Unusable, "{words}");
    }
    let longest = format!(r#"{{"access_token":"{}"}}"#, "a".repeat(MAX_TOKEN));
    assert!(token(longest.as_bytes(), &asked()).is_ok());
}

#[test]
fn a_token_that_is_no_b64token_is_unusable_and_not_shown() {
    for text in [
        "x;id>f", "a\\\"b", "a$(id)", "a`id`", "a b", "a|b", "a&b", "a'b", "a%b", "a:b", "a,b",
        "=", "==", "a=b", "a\\\\b", "{a}", "#a",
    ] {
        let body = format!(r#"{{"access_token":"{text}"}}"#);
        let (cause, words) = transient(token(body.as_bytes(), &asked()).unwrap_err());
        assert_eq!(cause, Cause::Unusable, "{text}");
        assert!(words.contains("characters no token has"), "{text}: {words}");
        assert!(!words.contains(text) || text == "=", "{words}");
    }
    for text in ["a", "eyJh.e30.c2ln", "a-._~+/Z9", "YQ==", "a="] {
        let body = format!(r#"{{"access_token":"{text}"}}"#);
        let fetched = token(body.as_bytes(), &asked()).unwrap();
        assert_eq!(fetched.text.expose_secret(), text);
    }
}

#[test]
fn a_body_that_is_said_to_be_no_json_is_no_token() {
    for json in [
        None,
        Some("application/json"),
        Some("Application/JSON ;charset=UTF-8"),
        Some("application/problem+json"),
    ] {
        assert_eq!(check_type(json), Ok(()), "{json:?}");
    }
    for other in [
        "",
        "text/html;charset=UTF-8",
        "text/plain",
        "jsonp",
        "x\u{1b}[31m",
    ] {
        let (cause, words) = transient(check_type(Some(other)).unwrap_err());
        assert_eq!(cause, Cause::Unusable);
        assert!(!words.contains(char::is_control), "{words:?}");
    }
}

#[test]
fn a_token_type_counts_in_any_case() {
    for kind in ["bearer", "Bearer", "BEARER"] {
        let body = format!(r#"{{"access_token":"abc","token_type":"{kind}"}}"#);
        assert!(token(body.as_bytes(), &asked()).is_ok());
    }
}

#[test]
fn a_scope_that_was_not_granted_is_a_refusal_that_names_it() {
    let body = br#"{"access_token":"abc","scope":"data workflow"}"#;
    let FetchError::Denied { scope_only, words } = token(body, &asked()).unwrap_err() else {
        panic!("not denied");
    };
    assert!(scope_only);
    assert!(words.contains("\"user\""), "{words}");
    assert!(
        token(
            br#"{"access_token":"abc","scope":["user","data"]}"#,
            &asked()
        )
        .is_ok()
    );
    let empty = token(br#"{"access_token":"abc","scope":""}"#, &asked()).unwrap();
    assert_eq!(empty.granted, asked(), "as if it were absent");
}

#[test]
fn the_server_says_no_in_both_shapes() {
    let domo = r#"{"status":401,"statusReason":"Unauthorized","message":"Bad client credentials","toe":"AB-CD-EF"}"#;
    let oauth = r#"{"error":"invalid_client","error_description":"who are you"}"#;
    for (status, body, named) in [
        (401, domo, "Bad client credentials (toe AB-CD-EF)"),
        (400, oauth, "invalid_client: who are you"),
        (403, domo, "Bad client credentials"),
        (401, "<html>", "Domo answered 401"),
        (401, "", "Domo answered 401"),
    ] {
        let FetchError::Denied { scope_only, words } = refuse(status, body) else {
            panic!("{status} {body} isn't denied");
        };
        assert!(!scope_only);
        assert!(words.contains(named), "{words}");
    }
    let scope = refuse(400, r#"{"error":"invalid_scope"}"#);
    assert!(matches!(
        scope,
        FetchError::Denied {
            scope_only: true,
            ..
        }
    ));
}

#[test]
fn everything_else_is_worth_another_try() {
    let oauth = r#"{"error":"temporarily_unavailable"}"#;
    for (status, body, cause) in [
        (400, "<html>", Cause::Unusable),
        (403, r#"{"message":"no"}"#, Cause::Unusable),
        (403, r#"{"status":403}"#, Cause::Unusable),
        (400, r#"{"error":null}"#, Cause::Unusable),
        (400, r#"["invalid_scope"]"#, Cause::Unusable),
        (400, r#"{"error":"a","error":"b"}"#, Cause::Unusable),
        (404, oauth, Cause::NotFound),
        (408, "", Cause::Server),
        (425, "", Cause::Server),
        (429, oauth, Cause::RateLimited),
        (500, oauth, Cause::Server),
        (503, "<html>", Cause::Server),
        (302, "", Cause::RedirectRefused),
        (307, oauth, Cause::RedirectRefused),
        (204, "", Cause::Unusable),
        (418, "", Cause::Unusable),
    ] {
        assert_eq!(transient(refuse(status, body)).0, cause, "{status} {body}");
    }
    let (_, words) = transient(refuse(405, ""));
    assert!(words.contains("token_method"), "{words}");
}

#[test]
fn nothing_secret_and_nothing_that_breaks_a_line_gets_into_the_words() {
    let hex = "0123456789abcdef".repeat(4);
    let body = format!(
        r#"{{"error":"bad\nline\u001b[31m","error_description":"you sent c4nary-secret and {hex}",
            "toe":"c4nary-secret"}}"#
    );
    let FetchError::Denied { words, .. } = refuse(400, &body) else {
        panic!("not denied");
    };
    assert!(
        !words.contains("c4nary") && !words.contains(&hex),
        "{words}"
    );
    assert!(!words.chars().any(char::is_control), "{words:?}");
    let turned = "{\"error\":\"a\u{202e}b\u{2066}c\u{200f}d\"}";
    let FetchError::Denied { words, .. } = refuse(400, turned) else {
        panic!("not denied");
    };
    assert!(words.ends_with("a b c d"), "{words:?}");
    let long = format!(r#"{{"error":"{}"}}"#, "word ".repeat(10_000));
    let FetchError::Denied { words, .. } = refuse(400, &long) else {
        panic!("not denied");
    };
    assert!(words.chars().count() <= MAX_WORDS + 1);
}

fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
    let pairs = pairs.iter();
    pairs
        .map(|(name, value)| ((*name).parse().unwrap(), value.parse().unwrap()))
        .collect()
}

#[test]
fn retry_after_is_read_in_both_forms_and_nonsense_is_absent() {
    let secs = |text| {
        retry_after(&headers(&[("retry-after", text)]), SystemTime::UNIX_EPOCH).map(|d| d.as_secs())
    };
    assert_eq!(secs("60"), Some(60));
    assert_eq!(secs("1000000000"), Some(1_000_000_000));
    assert_eq!(secs("99999999999999999999"), Some(u64::MAX));
    for nonsense in ["-1", "+60", "soon", "", "1.5", "60 s", "60, 120"] {
        assert_eq!(secs(nonsense), None, "{nonsense}");
    }
    let dated = headers(&[
        ("date", "Mon, 23 Nov 2026 12:00:00 GMT"),
        ("retry-after", "Mon, 23 Nov 2026 12:02:00 GMT"),
    ]);
    assert_eq!(
        retry_after(&dated, SystemTime::UNIX_EPOCH),
        Some(Duration::from_secs(120))
    );
    let past = headers(&[
        ("date", "Mon, 23 Nov 2026 12:00:00 GMT"),
        ("retry-after", "Mon, 23 Nov 2026 11:00:00 GMT"),
    ]);
    assert_eq!(
        retry_after(&past, SystemTime::UNIX_EPOCH),
        Some(Duration::ZERO)
    );
}

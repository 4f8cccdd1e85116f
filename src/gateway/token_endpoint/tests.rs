use std::time::UNIX_EPOCH;

use super::*;

/// `etl:s3cret` in Base64.
const LOGIN: &[u8] = b"Basic ZXRsOnMzY3JldA==";

fn get(query: &str) -> RawRequest<'_> {
    RawRequest {
        method: "GET",
        query: Some(query),
        authorization: Some(LOGIN),
        body: b"",
    }
}

fn post(body: &str) -> RawRequest<'_> {
    RawRequest {
        method: "POST",
        query: None,
        body: body.as_bytes(),
        ..get("")
    }
}

fn scopes(text: &str) -> ScopeSet {
    ScopeSet::parse(text).unwrap()
}

#[test]
fn requests_of_the_sdks_are_parsed() {
    let query = "grant_type=client_credentials";
    let old_python = RawRequest {
        method: "POST",
        ..get(query)
    };
    let both = RawRequest {
        query: Some("scope=data"),
        ..post(query)
    };
    for (sdk, request, expected) in [
        ("Python", post("grant_type=client_credentials"), None),
        (
            "Python",
            post("grant_type=client_credentials&scope=data+user"),
            Some("data user"),
        ),
        ("Python before 0.3.0.11", old_python, None),
        (
            "Java",
            post("grant_type=client_credentials&scope=data user"),
            Some("data user"),
        ),
        (
            "Node",
            get("grant_type=client_credentials&scope=data%20user"),
            Some("data user"),
        ),
        ("R", get(query), None),
        (
            "Go",
            get("grant_type=client_credentials&scope=data"),
            Some("data"),
        ),
        ("both places", both, Some("data")),
        (
            "empty",
            post("scope=&grant_type=client%5Fcredentials"),
            None,
        ),
        (
            "spaces",
            post("scope=+%20&grant_type=client_credentials"),
            None,
        ),
        (
            "unknown",
            post("a&b=c&=&&scope=user&grant_type=client_credentials"),
            Some("user"),
        ),
    ] {
        let parsed = TokenRequest::parse(request).unwrap();
        assert_eq!((&*parsed.app, &**parsed.secret), ("etl", &b"s3cret"[..]));
        assert_eq!(parsed.scopes, expected.map(scopes), "{sdk}");
        assert!(!format!("{parsed:?}").contains("s3cret"));
    }
}

fn assert_rejected(request: RawRequest<'_>, status: u16, expected: &str) {
    let refusal = TokenRequest::parse(request).unwrap_err();
    assert_eq!(refusal.status().0, status, "{refusal}");
    assert!(refusal.to_string().contains(expected), "{refusal}");
}

#[test]
fn request_of_another_form_is_rejected() {
    let valid = "grant_type=client_credentials";
    for method in ["PUT", "HEAD", "get"] {
        let request = RawRequest {
            method,
            ..get(valid)
        };
        assert_rejected(request, 405, "use GET, POST");
    }
    let long = format!("{valid}&a={}", "b".repeat(MAX_BODY));
    assert_rejected(post(&long), 413, "at most 8 KiB");
    let body_of_get = RawRequest {
        body: valid.as_bytes(),
        ..get("")
    };
    assert_rejected(body_of_get, 400, "grant_type must be");
    let both = RawRequest {
        query: Some(valid),
        ..post(valid)
    };
    assert_rejected(both, 400, "more than once");
}

#[test]
fn invalid_parameter_is_rejected() {
    for (parameters, expected) in [
        ("", "grant_type must be"),
        ("grant_type", "grant_type must be"),
        ("grant_type=password", "grant_type must be"),
        ("Grant_Type=client_credentials", "grant_type must be"),
        (
            "{\"grant_type\":\"client_credentials\"}",
            "grant_type must be",
        ),
        ("grant_type=%ff", "not text"),
        (
            "grant_type=client_credentials&grant_type=x",
            "more than once",
        ),
        (
            "grant_type=client_credentials&scope=a&scope=b",
            "more than once",
        ),
        ("grant_type=client_credentials&scope=%22", "scope must be"),
        ("grant_type=client_credentials&scope=,", "scope must be"),
    ] {
        assert_rejected(post(parameters), 400, expected);
        assert_rejected(get(parameters), 400, expected);
    }
}

#[test]
fn credentials_must_be_basic() {
    let login = |authorization| {
        let body = "grant_type=client_credentials&client_id=etl&client_secret=s3cret";
        TokenRequest::parse(RawRequest {
            authorization,
            ..post(body)
        })
    };
    for (value, secret) in [
        (&b"basic ZXRsOnMzY3JldA"[..], &b"s3cret"[..]),
        (b"Basic  ZXRsOnMzY3JldA== ", b"s3cret"),
        (b"Basic ZXRsOg==", b""),
        (b"Basic ZXRsOmE6Yv8=", b"a:b\xff"),
    ] {
        let parsed = login(Some(value)).unwrap();
        assert_eq!((&*parsed.app, &**parsed.secret), ("etl", secret));
    }
    let long = [b"Basic ", &b"a".repeat(MAX_AUTHORIZATION + 1)[..]].concat();
    for (value, expected) in [
        (None, USE_BASIC),
        (Some(&b""[..]), USE_BASIC),
        (Some(b"Bearer a.b.c"), USE_BASIC),
        (Some(b"Basic"), USE_BASIC),
        (Some(b"Basic "), "malformed"),
        (Some(b"Basic ZXRs"), "malformed"),
        (Some(b"Basic ZXRs!"), "malformed"),
        (Some(b"Basic ZXR sOg=="), "malformed"),
        (Some(&long), "malformed"),
        (Some(b"Basic /zph"), WRONG_CREDENTIALS),
    ] {
        let refusal = login(value).unwrap_err();
        assert!(matches!(refusal, Refusal::InvalidClient(_)), "{refusal:?}");
        assert!(refusal.to_string().contains(expected), "{refusal}");
    }
}

#[test]
fn scopes_are_those_of_the_application() {
    let rule = |scopes: &str| ApiRule {
        methods: domo_token_core::api_rules::Methods::Any,
        path: "/v1/users/**".parse().unwrap(),
        scopes: ScopeSet::parse(scopes).unwrap(),
    };
    let allowed = scopes_of(&[rule("user data"), rule("audit data")]).unwrap();
    assert_eq!(allowed, scopes("audit data user"));
    assert_eq!(scopes_of(&[]), None);
    let many = vec![rule("data"); 1000];
    assert_eq!(scopes_of(&many), Some(scopes("data")));
    let granted = |text: &str| {
        let body = format!("grant_type=client_credentials&scope={text}");
        TokenRequest::parse(post(&body)).unwrap().granted(&allowed)
    };
    assert_eq!(granted(""), Ok(allowed.clone()));
    assert_eq!(granted("user"), Ok(scopes("user")));
    let refusal = granted("buzz+data+workflow").unwrap_err();
    assert_eq!(
        refusal.to_string(),
        "the application may not have the scopes buzz workflow (allowed: audit data user)"
    );
}

#[test]
fn response_has_domos_members() {
    let delivery = Delivery {
        is_head: false,
        closes: false,
        now: UNIX_EPOCH,
    };
    let response = token_response("a.b.c", &scopes("user data"), TokenId(0), delivery);
    let text = str::from_utf8(&response).unwrap();
    assert!(text.starts_with("HTTP/1.1 200 OK\r\n"), "{text}");
    let body = "\r\n\r\n{\"access_token\":\"a.b.c\",\"expires_in\":3599,\
                \"jti\":\"00000000-0000-4000-8000-000000000000\",\"scope\":\"data user\",\"token_type\":\"bearer\"}";
    assert!(text.ends_with(body), "{text}");
}

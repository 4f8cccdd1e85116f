use super::*;

const NOW: u64 = 1_800_000_000;
const ID: TokenId = TokenId(0x0123_4567_89ab_cdef_0123_4567_89ab_cdef);

fn key(app: &str, secret: &str) -> SigningKey {
    SigningKey::derive(&[7; 32], app, &SecretHash::of(secret.as_bytes()))
}

fn scopes(text: &str) -> ScopeSet {
    ScopeSet::parse(text).unwrap()
}

fn token() -> Zeroizing<String> {
    issue("etl", &scopes("user data"), ID, &key("etl", "a"), NOW)
}

fn keys(app: &str) -> Option<Vec<SigningKey>> {
    (app == "etl").then(|| vec![key("etl", "old"), key("etl", "a")])
}

/// Signs any header and claims.
fn signed(header: &str, claims: &str, key: &SigningKey) -> String {
    let text = format!("{}.{}", BASE64.encode(header), BASE64.encode(claims));
    let signature = hmac::sign(&key.0, text.as_bytes());
    format!("{text}.{}", BASE64.encode(signature))
}

const PLAIN_HEADER: &str = r#"{"alg":"HS256","typ":"JWT"}"#;

fn plain_claims() -> serde_json::Value {
    let text = token();
    let claims = text.split('.').nth(1).unwrap();
    serde_json::from_slice(&BASE64.decode(claims).unwrap()).unwrap()
}

#[test]
fn token_is_a_jwt_with_the_documented_claims() {
    assert_eq!(BASE64.encode(PLAIN_HEADER), HEADER);
    let expected = serde_json::json!({
        "sub": "etl", "aud": "domo-token-gateway", "iat": NOW, "exp": NOW + 3599,
        "jti": "01234567-89ab-4def-8123-456789abcdef", "scope": ["data", "user"],
    });
    assert_eq!(plain_claims(), expected);
    let text = token();
    assert_eq!(text.split('.').count(), 3);
    // What RFC 7515, appendix A.1, calls the signing input, with the key of the derivation that GATEWAY documents.
    let again = signed(
        PLAIN_HEADER,
        &String::from_utf8(claims_bytes(&text)).unwrap(),
        &key("etl", "a"),
    );
    assert_eq!(*text, again);
}

fn claims_bytes(token: &str) -> Vec<u8> {
    BASE64.decode(token.split('.').nth(1).unwrap()).unwrap()
}

#[test]
fn valid_token_is_verified_with_any_key_of_its_application() {
    let expected = Verified {
        app: "etl".to_owned(),
        scopes: scopes("data user"),
    };
    for now in [NOW - 60, NOW, NOW + 3598] {
        assert_eq!(verify(&token(), keys, now), Ok(expected.clone()));
    }
    let old = issue("etl", &scopes("data user"), ID, &key("etl", "old"), NOW);
    assert_eq!(verify(&old, keys, NOW), Ok(expected));
}

#[test]
fn longest_scope_set_fits_a_token() {
    let many: Vec<String> = (0..93u8)
        .map(|n| char::from(b'!' + n))
        .filter(|c| !matches!(c, '"' | '\\' | ','))
        .flat_map(|c| [format!("{c}"), format!("{c}{c}{c}{c}{c}")])
        .collect();
    let scopes = scopes(&many.join(" "));
    let token = issue(&"n".repeat(255), &scopes, ID, &key("etl", "a"), NOW);
    assert!(token.len() <= MAX_TOKEN, "{}", token.len());
    assert!(verify(&token, |_| keys("etl"), NOW).is_ok());
}

fn assert_rejected(cases: &[(String, InvalidToken)]) {
    for (token, expected) in cases {
        assert_eq!(verify(token, keys, NOW), Err(*expected), "{token}");
        assert!(!expected.to_string().is_empty());
    }
}

#[test]
fn malformed_token_is_rejected() {
    let text = token();
    let plain = plain_claims().to_string();
    let (start, signature) = text.rsplit_once('.').unwrap();
    let none = BASE64.encode(r#"{"alg":"none","typ":"JWT"}"#);
    let header = |header: &str| signed(header, &plain, &key("etl", "a"));
    let claims = |claims: &str| signed(PLAIN_HEADER, claims, &key("etl", "a"));
    let tokens = [
        String::new(),
        "x".to_owned(),
        "..".to_owned(),
        format!("{}.x", &**text),
        format!("{start}.{signature}="),
        format!(" {}", &**text),
        format!("{}\n", &**text),
        start.to_owned(),
        "a".repeat(MAX_TOKEN + 1),
        format!("{none}.{}.", BASE64.encode(&plain)),
        header(r#"{"alg":"HS512","typ":"JWT"}"#),
        header(r#"{"typ":"JWT","alg":"HS256"}"#),
        header(r#"{"alg":"HS256"}"#),
        claims("not JSON"),
        claims("{}"),
        claims(r#"{"sub":1}"#),
    ];
    assert_rejected(&tokens.map(|token| (token, InvalidToken::Malformed)));
}

#[test]
fn token_of_another_key_or_without_signature_is_rejected() {
    let plain = plain_claims().to_string();
    let other = SigningKey::derive(&[8; 32], "etl", &SecretHash::of(b"a"));
    let text = token();
    let (start, _) = text.rsplit_once('.').unwrap();
    let keys = [key("etl", "b"), key("bi", "a"), other];
    let mut tokens: Vec<String> = keys
        .iter()
        .map(|key| signed(PLAIN_HEADER, &plain, key))
        .collect();
    tokens.push(format!("{start}."));
    let cases: Vec<(String, InvalidToken)> = tokens
        .into_iter()
        .map(|token| (token, InvalidToken::Signature))
        .collect();
    assert_rejected(&cases);
    let removed = |_: &str| Some(Vec::new());
    assert_eq!(verify(&text, removed, NOW), Err(InvalidToken::Signature));
}

#[test]
fn signed_token_with_other_claims_is_rejected() {
    let with = |name: &str, value: serde_json::Value| {
        let mut claims = plain_claims();
        claims[name] = value;
        signed(PLAIN_HEADER, &claims.to_string(), &key("etl", "a"))
    };
    let subject_only = signed(PLAIN_HEADER, r#"{"sub":"etl"}"#, &key("etl", "a"));
    assert_rejected(&[
        (with("sub", "bi".into()), InvalidToken::UnknownApp),
        (subject_only, InvalidToken::Claims),
        (with("aud", "domo".into()), InvalidToken::Claims),
        (with("exp", (NOW + 7200).into()), InvalidToken::Claims),
        (with("exp", "never".into()), InvalidToken::Claims),
        (with("iat", (NOW - 1).into()), InvalidToken::Claims),
        (with("scope", "data user".into()), InvalidToken::Claims),
        (with("scope", serde_json::json!([])), InvalidToken::Claims),
    ]);
    let text = token();
    assert_eq!(verify(&text, keys, NOW + 3599), Err(InvalidToken::Expired));
    assert_eq!(verify(&text, keys, NOW - 61), Err(InvalidToken::Future));
}

#[test]
fn token_is_found_in_the_header() {
    for (value, expected) in [
        (&b"Bearer a.b.c"[..], Ok("a.b.c")),
        (b"bearer  a.b.c ", Ok("a.b.c")),
        (b"BEARER ", Ok("")),
        (b"Bearer", Err(InvalidToken::Scheme)),
        (b"Basic YTpi", Err(InvalidToken::Scheme)),
        (b"", Err(InvalidToken::Scheme)),
        (b"Bearer \xff", Err(InvalidToken::Malformed)),
    ] {
        assert_eq!(bearer(value), expected, "{}", value.escape_ascii());
    }
}

#[test]
fn key_is_derived_as_documented() {
    // Computed with Python's hmac: prk = HMAC(salt, key); HMAC(prk, enc(application, hash line) + 0x01).
    let signature = hmac::sign(&key("etl", "a").0, b"test");
    assert_eq!(
        BASE64.encode(signature),
        "FbKLGLEIEAwWIoMXBxz51OZlyFrWZorNjUmbLv9y2r8"
    );
    assert_eq!(format!("{:?}", key("etl", "a")), "SigningKey([REDACTED])");
}

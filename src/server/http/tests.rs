use std::path::Path;
use std::time::{Duration, UNIX_EPOCH};

use domo_token_core::token::Validity;
use domo_token_protocol::scope::ScopeSet;
use serde_json::json;

use super::*;
use crate::platform::clock::BootTime;

#[test]
fn token_as_json_is_what_a_serializer_writes() {
    let text = "aB0-._~+/==";
    let boot = BootTime::from_millis(1_000_000);
    let validity = Validity {
        generation: 7,
        obtained: boot,
        lifetime: Duration::from_secs(60),
        expires: boot + Duration::from_secs(60),
    };
    let scope = ScopeSet::parse("data user").unwrap();
    let token = Token::new("a\"c", &scope, &text.to_owned().into(), validity).unwrap();
    let now = Now {
        boot,
        wall: UNIX_EPOCH + Duration::from_secs(1000),
    };
    let body = body::token_json("", &token, Path::new("/run/\"/\\"), now, "\n")
        .pieces()
        .concat();
    let value: serde_json::Value = serde_json::from_slice(&body).unwrap();
    let expected = json!({
        "access_token": text,
        "broker": "/run/\"/\\",
        "client": "a\"c",
        "expires_at": 1060,
        "expires_in": 60,
        "generation": 7,
        "scope": "data user",
        "token_type": "bearer",
    });
    assert_eq!(value, expected);
    assert!(body.ends_with(b"}\n"));
}

#[test]
fn etag_matches_its_generation_in_every_form() {
    for fields in [
        &["\"7\""][..],
        &["W/\"7\""],
        &["\"6\", \"7\""],
        &["\"6\"", "\"7\""],
        &["*"],
    ] {
        assert!(has_etag(fields, 7), "{fields:?}");
    }
    for fields in [
        &[][..],
        &["\"8\""],
        &["7"],
        &["\"\""],
        &["\"7"],
        &["\"7x\""],
        &["\"07\""],
        &["\"+7\""],
        &["\"6\", *"],
    ] {
        assert!(!has_etag(fields, 7), "{fields:?}");
    }
}

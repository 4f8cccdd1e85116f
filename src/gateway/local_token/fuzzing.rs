//! Entry point for fuzzers: tokens that nobody issued.

#![allow(clippy::expect_used, reason = "a panic is how a finding is reported")]

use super::{SigningKey, TokenId, issue, verify};
use crate::credentials::SecretHash;
use domo_token_protocol::scope::ScopeSet;

const NOW: u64 = 1_800_000_000;

/// A token that was not issued does not verify: the bytes themselves, these as claims, and one that was issued with one
/// bit flipped, whose position is the first two bytes.
pub(crate) fn token(bytes: &[u8]) {
    let key = SigningKey::derive(&[7; 32], "etl", &SecretHash::of(b"secret"));
    let keys = [key];
    let lookup = |app: &str| (app == "etl").then_some(&keys[..]);
    let scopes = ScopeSet::parse("data user").expect("a scope set");
    let [key] = &keys;
    let valid = issue("etl", &scopes, TokenId(1), key, NOW);
    assert!(verify(&valid, lookup, NOW).is_ok());
    if let Ok(text) = str::from_utf8(bytes) {
        assert!(text == valid.as_str() || verify(text, lookup, NOW).is_err());
        check_parts(text, &valid, lookup);
    }
    let Some((position, _)) = bytes.split_first_chunk() else {
        return;
    };
    let bit = usize::from(u16::from_be_bytes(*position)) % (8 * valid.len());
    let mut flipped = valid.as_bytes().to_vec();
    let byte = flipped.get_mut(bit / 8).expect("a byte of the token");
    *byte ^= 1 << (bit % 8);
    if let Ok(flipped) = str::from_utf8(&flipped) {
        assert!(
            verify(flipped, lookup, NOW).is_err(),
            "bit {bit}: {flipped}"
        );
    }
}

/// Replaces each part of a valid token by the text, and also puts the text before and after it.
fn check_parts<'a>(text: &str, valid: &str, lookup: impl Fn(&str) -> Option<&'a [SigningKey]>) {
    let parts: Vec<&str> = valid.split('.').collect();
    for at in 0..parts.len() {
        let mut parts = parts.clone();
        if let Some(part) = parts.get_mut(at) {
            *part = text;
        }
        let forged = parts.join(".");
        assert!(forged == valid || verify(&forged, &lookup, NOW).is_err());
    }
    let claims = base64::Engine::encode(&super::BASE64, text);
    let [header, _, signature] = parts[..] else {
        return;
    };
    let forged = [header, &claims, signature].join(".");
    assert!(forged == valid || verify(&forged, &lookup, NOW).is_err());
    for forged in [format!("{text}{valid}"), format!("{valid}{text}")] {
        assert!(forged == valid || verify(&forged, &lookup, NOW).is_err());
    }
}

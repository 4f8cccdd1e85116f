//! Tokens like Domo's: JWTs for RS256, with a random signature.

use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::json;

/// The bytes of an RS256 signature with a 2048-bit key.
const SIGNATURE: usize = 256;

/// Returns the text and the id of a new token.
pub(crate) fn issue(client_id: &str, scopes: &[String], expires: Duration) -> (String, String) {
    let jti = uuid();
    let payload = json!({
        "role": "Admin",
        "scope": scopes,
        "exp": expires.as_secs(),
        "env": "prod1",
        "userId": 964_382_593,
        "jti": jti,
        "client_id": client_id,
        "customer": "sandbox",
    });
    let mut signature = [0; SIGNATURE];
    fastrand::fill(&mut signature);
    let parts = [
        URL_SAFE_NO_PAD.encode(r#"{"alg":"RS256"}"#),
        URL_SAFE_NO_PAD.encode(payload.to_string()),
        URL_SAFE_NO_PAD.encode(signature),
    ];
    (parts.join("."), jti)
}

/// Returns a random UUID of version 4.
pub(crate) fn uuid() -> String {
    let bits = (fastrand::u128(..) & !(0xf << 76) & !(0x3 << 62)) | (0x4 << 76) | (0x2 << 62);
    let hex = format!("{bits:032x}");
    let cuts = [(0, 8), (8, 12), (12, 16), (16, 20), (20, 32)];
    let parts = cuts.map(|(from, to)| hex.get(from..to).unwrap_or_default());
    parts.join("-")
}

/// Returns a trace id as in Domo's errors.
pub(crate) fn trace_id() -> String {
    let part = |length: usize| -> String {
        let digit =
            |_| fastrand::choice(*b"ABCDEFGHJKLMNPQRSTUVWXYZ0123456789").map_or('0', char::from);
        (0..length).map(digit).collect()
    };
    [part(10), part(5), part(5)].join("-")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn token_has_the_length_of_domos_tokens_and_is_unique() {
        let scopes = ["data".to_owned(), "user".to_owned()];
        let id = "441e307a-b2a1-4a99-8561-174e5b153fe1";
        let (token, jti) = issue(id, &scopes, Duration::from_secs(1_501_783_519));
        assert!((600..700).contains(&token.len()), "{}", token.len());
        assert_eq!(token.split('.').count(), 3);
        assert_eq!(jti.len(), 36);
        assert_ne!(issue(id, &scopes, Duration::ZERO).0, token);
    }
}

//! The lifetime of a token: by `expires_in`, and by its own `exp`.

use std::time::{Duration, SystemTime};

use base64::Engine;
use base64::alphabet::URL_SAFE;
use base64::engine::DecodePaddingMode;
use base64::engine::general_purpose::{GeneralPurpose, GeneralPurposeConfig};
use serde::Deserialize;
use zeroize::Zeroizing;

use super::json::Loose;
use domo_token_core::fetch_result::LifetimeSource;
use domo_token_core::token::MAX_LIFETIME;

/// The lifetime of a token without `expires_in`.
pub(in super::super) const LIFETIME_ASSUMED: Duration = Duration::from_secs(300);

/// The longest lifetime that is accepted, in seconds: a day.
pub(in super::super) const LIFETIME_MAX: u64 = MAX_LIFETIME.as_secs();

/// A token's own expiry is used if it is earlier by more than this: clocks differ, and times are rounded.
pub(in super::super) const EXPIRY_TOLERANCE: Duration = Duration::from_secs(60);

/// Plausible expiry times, in seconds since 1970: of the years 2020 to 2099.
const EXPIRIES: std::ops::Range<u64> = 1_577_836_800..4_102_444_800;

/// Base64url as in a JWT (RFC 7515 §2).
const BASE64URL: GeneralPurpose = GeneralPurpose::new(
    &URL_SAFE,
    GeneralPurposeConfig::new()
        .with_decode_padding_mode(DecodePaddingMode::RequireNone)
        .with_decode_allow_trailing_bits(true),
);

/// Returns the lifetime by `expires_in`, and how it was derived; `None` if the value is invalid.
pub(super) fn stated(expires_in: &Loose) -> Option<(Duration, LifetimeSource)> {
    let seconds = match expires_in {
        Loose::Absent | Loose::Null => return Some((LIFETIME_ASSUMED, LifetimeSource::Assumed)),
        // Some SDKs expect a number, some a text.
        Loose::Number(number) => whole_seconds(number)?,
        Loose::Text(text) => decimal_seconds(text)?,
        Loose::Bool | Loose::List(_) | Loose::Object(_) | Loose::Deep => return None,
    };
    let stated = Duration::from_secs(seconds);
    match seconds {
        0 => None,
        1..=LIFETIME_MAX => Some((stated, LifetimeSource::Stated)),
        _ => Some((MAX_LIFETIME, LifetimeSource::Capped { stated })),
    }
}

/// Returns the time from `server_time` to the token's own `exp`, if that is earlier than `lifetime` by more than
/// [`EXPIRY_TOLERANCE`].
pub(super) fn left_by_itself(
    token: &str,
    server_time: SystemTime,
    lifetime: Duration,
) -> Option<Duration> {
    let expires = SystemTime::UNIX_EPOCH.checked_add(expiry(token)?)?;
    let left = expires.duration_since(server_time).unwrap_or_default();
    let latest = server_time
        .checked_add(lifetime)?
        .checked_sub(EXPIRY_TOLERANCE)?;
    (expires < latest).then_some(left)
}

/// Returns the `exp` of a JWT (RFC 7519 §4.1.4) since 1970, if it is plausible.
fn expiry(token: &str) -> Option<Duration> {
    #[derive(Deserialize)]
    struct Claims {
        exp: serde_json::Number,
    }
    let parts: Vec<&str> = token.split('.').collect();
    let &[header, payload, signature] = parts.as_slice() else {
        return None;
    };
    let decode = |part: &str| BASE64URL.decode(part).ok().map(Zeroizing::new);
    let (_header, payload, _signature) = (decode(header)?, decode(payload)?, decode(signature)?);
    // serde would also accept an array of the fields' values.
    payload
        .trim_ascii_start()
        .first()
        .filter(|byte| **byte == b'{')?;
    let claims: Claims = serde_json::from_slice(&payload).ok()?;
    let seconds = whole_seconds(&claims.exp)?;
    EXPIRIES
        .contains(&seconds)
        .then(|| Duration::from_secs(seconds))
}

/// Returns whole seconds. A number with a point, an exponent or more than 64 bits is parsed as a float.
fn whole_seconds(number: &serde_json::Number) -> Option<u64> {
    let float = || {
        let float = number.as_f64()?;
        if float >= 1e18 {
            return Some(u64::MAX);
        }
        Some(Duration::try_from_secs_f64(float).ok()?.as_secs())
    };
    number.as_u64().or_else(float)
}

/// Parses digits; more than 64 bits are the maximum.
pub(super) fn decimal_seconds(text: &str) -> Option<u64> {
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    digits.then(|| text.parse().unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use base64::engine::general_purpose::URL_SAFE_NO_PAD;
    use proptest::prelude::*;

    use super::*;

    const NOW: u64 = 1_795_000_000;

    fn jwt(payload: &str) -> String {
        let parts = [r#"{"alg":"RS256"}"#, payload, "signature"];
        parts.map(|part| URL_SAFE_NO_PAD.encode(part)).join(".")
    }

    #[test]
    fn jwt_expiry_is_read_if_it_is_plausible() {
        let payload = |exp: &str| {
            jwt(&format!(
                r#"{{"role":"Admin","exp":{exp},"scope":["data"]}}"#
            ))
        };
        for (exp, read) in [
            ("1795000000", Some(NOW)),
            ("1795000000.9", Some(NOW)),
            ("1.795e9", Some(NOW)),
            ("1577836800", Some(1_577_836_800)),
            ("1577836799", None),
            ("4102444799", Some(4_102_444_799)),
            ("4102444800", None),
            ("1795000000000", None),
            ("0", None),
            ("-1795000000", None),
            ("\"1795000000\"", None),
            ("null", None),
            ("1e300", None),
        ] {
            let found = expiry(&payload(exp)).map(|span| span.as_secs());
            assert_eq!(found, read, "{exp}");
        }
        let good = payload("1795000000");
        let (header, rest) = good.split_once('.').unwrap();
        let (body, _) = rest.split_once('.').unwrap();
        assert!(expiry(&format!("{header}.{body}.")).is_some());
        for other in [
            String::new(),
            "opaque".to_owned(),
            body.to_owned(),
            format!("{header}.{body}"),
            format!("{header}.{body}.c.d.e"),
            format!("{header}.{body}=.c2ln"),
            format!("~.{body}.c2ln"),
            jwt("[1795000000]"),
            jwt("{}"),
            jwt("{\"exp\":1795000000"),
            jwt(r#"{"exp":1795000000,"exp":1}"#),
        ] {
            assert_eq!(expiry(&other), None, "{other}");
        }
    }

    proptest! {
        #[test]
        fn jwt_expiry_never_extends_a_token(
            exp in any::<u64>(), now in any::<u64>(), seconds in 1..=LIFETIME_MAX,
        ) {
            let lifetime = Duration::from_secs(seconds);
            let token = jwt(&format!("{{\"exp\":{exp}}}"));
            let now = SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(now));
            let left = now.and_then(|now| left_by_itself(&token, now, lifetime));
            prop_assert!(left.is_none_or(|left| left < lifetime));
        }
    }
}

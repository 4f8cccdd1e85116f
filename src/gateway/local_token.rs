//! Local tokens: what the gateway gives to applications instead of Domo's tokens. Pure: time and ids are arguments.
//!
//! A local token is a JWT (RFC 7519) with HMAC-SHA256. Its key is derived from this host's key, the application and the
//! hash of its secret, so the gateway stores no tokens: they stay valid over a restart, and end with the secret.

use std::borrow::Cow;
use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64;
use domo_token_protocol::scope::ScopeSet;
use ring::hmac;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use crate::credentials::SecretHash;
use crate::source::key_derivation::{enc, hkdf};

/// How long a local token is valid, in seconds: as long as Domo's.
pub const LIFETIME_S: u64 = 3599;

/// The longest token that is examined, in bytes.
pub const MAX_TOKEN: usize = 4 * 1024;

/// How much later than now a token may have been issued, in seconds. With more, the clock was set back, and the token
/// would be valid for too long.
const MAX_AHEAD_S: u64 = 60;

/// `{"alg":"HS256","typ":"JWT"}` in Base64, the only header that is accepted.
const HEADER: &str = "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9";

const AUDIENCE: &str = "domo-token-gateway";
const SALT: &[u8] = b"domo-token gateway v1";

/// The key that signs the local tokens of one secret of an application. ring does not wipe it.
#[derive(Clone)]
pub struct SigningKey(hmac::Key);

/// The id of a token, which is random.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TokenId(pub u128);

/// Whom a valid token belongs to, and what it is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verified {
    pub app: String,
    pub scopes: ScopeSet,
}

/// Why a request has no valid local token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InvalidToken {
    /// There is no `Authorization`.
    Missing,
    /// `Authorization` has another scheme than Bearer.
    Scheme,
    /// It is too long, or not a JWT with the one accepted header.
    Malformed,
    /// No application has this name, or it has no secret.
    UnknownApp,
    /// None of the application's keys has signed it.
    Signature,
    /// It is signed, but not by this version of the gateway.
    Claims,
    /// It was issued in the future.
    Future,
    /// It has expired.
    Expired,
}

impl fmt::Display for InvalidToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Missing => {
                "no local token: the request has no Authorization; get a token from /oauth/token"
            }
            Self::Scheme => "no local token: use Authorization: Bearer with a token of /oauth/token",
            // One text for all, because it must not reveal to callers without a token which applications there are.
            Self::Malformed | Self::UnknownApp | Self::Signature | Self::Claims | Self::Future => {
                "invalid local token: it is not from this gateway, or was revoked; get one from /oauth/token"
            }
            Self::Expired => "the local token has expired; get one from /oauth/token",
        })
    }
}

impl SigningKey {
    /// Derives the key of an application's secret.
    #[must_use]
    pub fn derive(host_key: &[u8; 32], app: &str, hash: &SecretHash) -> Self {
        let info = enc(&[app.as_bytes(), hash.to_string().as_bytes()]);
        let key = hkdf(host_key, SALT, &info);
        Self(hmac::Key::new(hmac::HMAC_SHA256, &key))
    }
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SigningKey([REDACTED])")
    }
}

/// A UUID of random bits (RFC 9562 §5.4).
impl fmt::Display for TokenId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bits = self.0 & !(0xf << 76) & !(0b11 << 62) | (4 << 76) | (0b10 << 62);
        write!(
            f,
            "{:08x}-{:04x}-{:04x}-{:04x}-{:012x}",
            bits >> 96,
            (bits >> 80) & 0xffff,
            (bits >> 64) & 0xffff,
            (bits >> 48) & 0xffff,
            bits & 0xffff_ffff_ffff
        )
    }
}

/// The content of a token. As in Domo's tokens, the scopes are an array.
#[derive(Serialize, Deserialize)]
struct Claims<'a> {
    #[serde(borrow)]
    sub: Cow<'a, str>,
    aud: Cow<'a, str>,
    iat: u64,
    exp: u64,
    jti: Cow<'a, str>,
    scope: Vec<Cow<'a, str>>,
}

/// The claim that names the key.
#[derive(Deserialize)]
struct Subject<'a> {
    #[serde(borrow)]
    sub: Cow<'a, str>,
}

/// Issues a token at `now`, in seconds since 1970.
#[must_use]
pub fn issue(
    app: &str,
    scopes: &ScopeSet,
    id: TokenId,
    key: &SigningKey,
    now: u64,
) -> Zeroizing<String> {
    let claims = Claims {
        sub: app.into(),
        aud: AUDIENCE.into(),
        iat: now,
        exp: now.saturating_add(LIFETIME_S),
        jti: id.to_string().into(),
        scope: scopes.iter().map(Cow::from).collect(),
    };
    // Texts and numbers can be serialized.
    let claims = serde_json::to_vec(&claims).unwrap_or_default();
    // With all of its space, so that no copy is left behind.
    let mut token = Zeroizing::new(String::with_capacity(MAX_TOKEN));
    token.push_str(HEADER);
    token.push('.');
    BASE64.encode_string(claims, &mut token);
    let signature = hmac::sign(&key.0, token.as_bytes());
    token.push('.');
    BASE64.encode_string(signature, &mut token);
    token
}

/// Returns the token in the value of `Authorization`.
///
/// # Errors
///
/// [`InvalidToken`] if it has another scheme, or is not text.
pub fn bearer(authorization: &[u8]) -> Result<&str, InvalidToken> {
    let text = str::from_utf8(authorization).map_err(|_| InvalidToken::Malformed)?;
    let (scheme, token) = text.split_once(' ').ok_or(InvalidToken::Scheme)?;
    if !scheme.eq_ignore_ascii_case("bearer") {
        return Err(InvalidToken::Scheme);
    }
    Ok(token.trim_matches(' '))
}

/// Verifies a token at `now`, in seconds since 1970. `keys` returns the keys of an application, one for each of its
/// secrets. Before the signature is verified, nothing but the name of the application is used.
///
/// # Errors
///
/// [`InvalidToken`]: the reason.
pub fn verify<K: AsRef<[SigningKey]>>(
    token: &str,
    keys: impl FnOnce(&str) -> Option<K>,
    now: u64,
) -> Result<Verified, InvalidToken> {
    if token.len() > MAX_TOKEN {
        return Err(InvalidToken::Malformed);
    }
    let (signed, signature) = token.rsplit_once('.').ok_or(InvalidToken::Malformed)?;
    let claims = signed
        .strip_prefix(HEADER)
        .and_then(|claims| claims.strip_prefix('.'))
        .ok_or(InvalidToken::Malformed)?;
    let decoded = |text| BASE64.decode(text).map_err(|_| InvalidToken::Malformed);
    let (claims, signature) = (decoded(claims)?, decoded(signature)?);
    let Subject { sub } = serde_json::from_slice(&claims).map_err(|_| InvalidToken::Malformed)?;
    let keys = keys(&sub).ok_or(InvalidToken::UnknownApp)?;
    let signs = |key: &SigningKey| hmac::verify(&key.0, signed.as_bytes(), &signature).is_ok();
    if !keys.as_ref().iter().any(signs) {
        return Err(InvalidToken::Signature);
    }
    let claims: Claims<'_> = serde_json::from_slice(&claims).map_err(|_| InvalidToken::Claims)?;
    check_claims(claims, now)
}

fn check_claims(claims: Claims<'_>, now: u64) -> Result<Verified, InvalidToken> {
    if claims.aud != AUDIENCE || claims.exp.checked_sub(claims.iat) != Some(LIFETIME_S) {
        return Err(InvalidToken::Claims);
    }
    if claims.iat > now.saturating_add(MAX_AHEAD_S) {
        return Err(InvalidToken::Future);
    }
    if claims.exp <= now {
        return Err(InvalidToken::Expired);
    }
    let scopes = ScopeSet::parse(&claims.scope.join(" ")).map_err(|_| InvalidToken::Claims)?;
    Ok(Verified {
        app: claims.sub.into_owned(),
        scopes,
    })
}

#[cfg(all(unix, any(test, fuzzing)))]
pub(crate) mod fuzzing;
#[cfg(test)]
mod tests;

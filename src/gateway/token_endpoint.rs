//! Requests to `/oauth/token` as the SDKs send them, and the answer to a successful one. Bytes in, values out.
//!
//! The parameters are in the query (Node, R, Go), in the body of a POST (Python, Java), or in the query of a POST with
//! an empty body (older versions). The credentials are always Basic.

use std::collections::BTreeSet;
use std::fmt;

use base64::Engine;
use base64::alphabet::STANDARD;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use domo_token_core::api_rules::ApiRule;
use domo_token_protocol::scope::ScopeSet;
use percent_encoding::percent_decode;
use serde::Serialize;
use zeroize::Zeroizing;

use super::error::Refusal;
use super::local_token::{LIFETIME_S, TokenId};
use super::own_response::{Delivery, Status, response};

/// The longest body of a request, in bytes.
pub const MAX_BODY: usize = 8 * 1024;

/// The longest value of `Authorization`, in bytes.
const MAX_AUTHORIZATION: usize = 4 * 1024;

/// Basic credentials, with or without padding at the end.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

const USE_BASIC: &str = "send the application's name and secret as Authorization: Basic";
const WRONG_CREDENTIALS: &str = "unknown application, or wrong secret";

/// A request as it arrived.
#[derive(Clone, Copy)]
pub struct RawRequest<'a> {
    pub method: &'a str,
    pub query: Option<&'a str>,
    /// The value of `Authorization`.
    pub authorization: Option<&'a [u8]>,
    pub body: &'a [u8],
}

/// A well-formed request.
pub struct TokenRequest {
    /// The name of the application.
    pub app: String,
    pub secret: Zeroizing<Vec<u8>>,
    /// `None` for all scopes of the application.
    pub scopes: Option<ScopeSet>,
}

/// Without the secret.
impl fmt::Debug for TokenRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TokenRequest")
            .field("app", &self.app)
            .field("scopes", &self.scopes)
            .finish_non_exhaustive()
    }
}

impl TokenRequest {
    /// Parses a request.
    ///
    /// # Errors
    ///
    /// [`Refusal`] if it is not a request for client credentials with Basic.
    pub fn parse(request: RawRequest<'_>) -> Result<Self, Refusal> {
        let RawRequest {
            method,
            query,
            authorization,
            body,
        } = request;
        let body = match method {
            "GET" => &[],
            "POST" => body,
            _ => return Err(Refusal::Method { allow: "GET, POST" }),
        };
        if body.len() > MAX_BODY {
            return Err(Refusal::BodyTooLong);
        }
        let (app, secret) = basic(authorization)?;
        let query = query.unwrap_or_default().as_bytes();
        let grant_type = parameter("grant_type", query, body)?;
        if grant_type.as_deref() != Some("client_credentials") {
            return Err(Refusal::GrantType);
        }
        let scopes = parameter("scope", query, body)?
            .filter(|scopes| !scopes.trim_matches(' ').is_empty())
            .map(|scopes| ScopeSet::parse(&scopes).map_err(|_| Refusal::ScopeSyntax));
        Ok(Self {
            app,
            secret,
            scopes: scopes.transpose()?,
        })
    }

    /// Returns the scopes of the token: those that are requested, or all of the application.
    ///
    /// # Errors
    ///
    /// [`Refusal::Scope`] if the application lacks one of them.
    pub fn granted(&self, allowed: &ScopeSet) -> Result<ScopeSet, Refusal> {
        let Some(requested) = &self.scopes else {
            return Ok(allowed.clone());
        };
        let excess = requested.missing_from(allowed);
        if excess.is_empty() {
            return Ok(requested.clone());
        }
        Err(Refusal::Scope {
            excess: excess.join(" "),
            allowed: allowed.clone(),
        })
    }
}

/// Returns the refusal of a request with the wrong name or secret.
#[must_use]
pub const fn wrong_credentials() -> Refusal {
    Refusal::InvalidClient(WRONG_CREDENTIALS)
}

/// Returns all scopes that the rules of an application need; `None` if it has no rule, or if together they are too long
/// for a scope set.
#[must_use]
pub fn scopes_of(rules: &[ApiRule]) -> Option<ScopeSet> {
    let scopes: BTreeSet<&str> = rules.iter().flat_map(|rule| rule.scopes.iter()).collect();
    let scopes: Vec<&str> = scopes.into_iter().collect();
    ScopeSet::parse(&scopes.join(" ")).ok()
}

/// The answer, with those of Domo's members that the gateway knows.
#[derive(Serialize)]
struct Answer<'a> {
    access_token: &'a str,
    expires_in: u64,
    jti: String,
    scope: &'a str,
    token_type: &'static str,
}

/// Returns the response with a token.
#[must_use]
pub fn token_response(
    token: &str,
    scopes: &ScopeSet,
    id: TokenId,
    delivery: Delivery,
) -> Zeroizing<Vec<u8>> {
    let answer = Answer {
        access_token: token,
        expires_in: LIFETIME_S,
        jti: id.to_string(),
        scope: scopes.as_str(),
        token_type: "bearer",
    };
    // With space for the members, whose names and short values have less than 200 bytes.
    let space = token.len() + scopes.as_str().len() + 200;
    let mut body = Zeroizing::new(Vec::with_capacity(space));
    // Texts and numbers can be written to memory.
    serde_json::to_writer(&mut *body, &answer).ok();
    response(Status(200, "OK"), &[], &body, delivery)
}

/// Returns name and secret of Basic credentials (RFC 7617). A name that is not text is that of no application.
fn basic(authorization: Option<&[u8]>) -> Result<(String, Zeroizing<Vec<u8>>), Refusal> {
    let value = authorization.ok_or(Refusal::InvalidClient(USE_BASIC))?;
    let scheme = value.get(..6).unwrap_or_default();
    if !scheme.eq_ignore_ascii_case(b"basic ") {
        return Err(Refusal::InvalidClient(USE_BASIC));
    }
    let malformed = Refusal::InvalidClient("the Basic credentials are malformed");
    let text = value.get(6..).unwrap_or_default().trim_ascii();
    if text.len() > MAX_AUTHORIZATION {
        return Err(malformed);
    }
    let mut decoded = Zeroizing::new(vec![0; base64::decoded_len_estimate(text.len())]);
    let Ok(length) = BASE64.decode_slice(text, &mut decoded) else {
        return Err(malformed);
    };
    let decoded = decoded.get(..length).unwrap_or_default();
    let Some(colon) = decoded.iter().position(|byte| *byte == b':') else {
        return Err(malformed);
    };
    let (name, secret) = decoded.split_at(colon);
    let secret = Zeroizing::new(secret.get(1..).unwrap_or_default().to_vec());
    let Ok(name) = str::from_utf8(name) else {
        return Err(wrong_credentials());
    };
    Ok((name.to_owned(), secret))
}

/// Returns the value of a parameter, from the query or the body. Values of other parameters, which may be secrets, are
/// not decoded.
fn parameter(name: &str, query: &[u8], body: &[u8]) -> Result<Option<String>, Refusal> {
    let pairs = [query, body]
        .into_iter()
        .flat_map(|text| text.split(|byte| *byte == b'&'));
    let mut values = pairs.filter_map(|pair| {
        let end = pair.iter().position(|byte| *byte == b'=')?;
        let (key, value) = pair.split_at(end);
        (key == name.as_bytes()).then(|| value.get(1..).unwrap_or_default())
    });
    let Some(value) = values.next() else {
        return Ok(None);
    };
    if values.next().is_some() {
        return Err(Refusal::InvalidRequest(
            "a parameter is there more than once",
        ));
    }
    let spaced: Vec<u8> = value
        .iter()
        .map(|byte| if *byte == b'+' { b' ' } else { *byte })
        .collect();
    let decoded = percent_decode(&spaced).decode_utf8();
    decoded
        .map(|text| Some(text.into_owned()))
        .map_err(|_| Refusal::InvalidRequest("the value of a parameter is not text"))
}
#[cfg(test)]
mod tests;

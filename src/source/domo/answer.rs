//! PURE. What a token endpoint's answer means.

use std::time::{Duration, SystemTime};

use domo_token_client::scope::ScopeSet;
use domo_token_client::wire::is_b64token;
use reqwest::StatusCode;
use reqwest::header::{CONTENT_TYPE, DATE, HeaderMap, HeaderName, RETRY_AFTER};
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use zeroize::Zeroizing;

use crate::source::{Cause, FetchError, Fetched, LifetimeSource};
use crate::token::{MAX_LIFETIME, MAX_TOKEN};

/// The lifetime of a token whose answer names none.
pub(super) const LIFETIME_ASSUMED: Duration = Duration::from_secs(300);

/// The longest lifetime that is believed: a day.
pub(super) const LIFETIME_MAX: u64 = MAX_LIFETIME.as_secs();

/// The most of Domo's words that is passed on, in characters.
const MAX_WORDS: usize = 300;

/// A run of letters and digits this long is a token, a secret or a hash, and of no use to a person.
const LONGEST_WORD: usize = 40;

/// A whole answer, as HTTP brought it.
pub(super) struct Answer {
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
    /// What has come of the body.
    pub(super) body: Zeroizing<Vec<u8>>,
    /// When its head was read.
    pub(super) received: SystemTime,
    /// Why it is not the whole body.
    pub(super) cut: Option<FetchError>,
}

/// Returns what an answer to a request for `asked` means. Nothing of `secret` gets into messages;
/// `place` names the server.
pub(super) fn read(
    answer: &Answer,
    asked: &ScopeSet,
    secret: &str,
    _place: &str,
) -> Result<Fetched, FetchError> {
    if answer.status == StatusCode::OK {
        check_type(text_of(&answer.headers, &CONTENT_TYPE))?;
        if let Some(cut) = &answer.cut {
            return Err(cut.clone());
        }
        return token(&answer.body, asked);
    }
    let retry_after = retry_after(&answer.headers, answer.received);
    Err(refusal(answer.status, &answer.body, retry_after, secret))
}

/// A 200's body. Only the token is needed; the SDKs disagree on the rest and its types.
#[derive(Deserialize)]
struct TokenBody {
    access_token: SecretString,
    #[serde(default)]
    expires_in: Value,
    #[serde(default)]
    scope: Value,
    #[serde(default)]
    token_type: Value,
}

/// An error's body, in OAuth's shape (RFC 6749 §5.2) or in Domo's.
#[derive(Default, Deserialize)]
#[serde(default)]
struct ErrorBody {
    error: Value,
    error_description: Value,
    status: Value,
    message: Value,
    toe: Value,
}

/// Reads a 200's body.
pub(super) fn token(body: &[u8], asked: &ScopeSet) -> Result<Fetched, FetchError> {
    let unusable = |words: &str| FetchError::transient(Cause::Unusable, words);
    let body: TokenBody = object(body).ok_or_else(|| {
        unusable("answered 200 without a token: the body is not a token response")
    })?;
    if !is_usable(body.access_token.expose_secret()) {
        let most = MAX_TOKEN / 1024;
        let words = format!(
            "answered with a token that is empty, over {most} KiB, or has characters no token has"
        );
        return Err(unusable(&words));
    }
    match &body.token_type {
        Value::Null => {}
        Value::String(kind) if kind.eq_ignore_ascii_case("bearer") => {}
        Value::String(_)
        | Value::Bool(_)
        | Value::Number(_)
        | Value::Array(_)
        | Value::Object(_) => {
            return Err(unusable(
                "answered with a token whose type is not \"bearer\"",
            ));
        }
    }
    let lifetime = if body.expires_in.is_null() {
        Some((LIFETIME_ASSUMED, LifetimeSource::Assumed))
    } else {
        lifetime(&body.expires_in)
    };
    let (lifetime, lifetime_source) = lifetime
        .ok_or_else(|| unusable("answered with an expires_in that is no positive number"))?;
    let granted = granted(&body.scope, asked)
        .ok_or_else(|| unusable("answered with a scope that is no list of scopes"))?;
    let missing = asked.missing_from(&granted);
    if !missing.is_empty() {
        let missing = missing.join(" ");
        return Err(FetchError::Denied {
            scope_only: true,
            words: format!(
                "Domo granted a token without the scope \"{missing}\": give it to the client"
            ),
        });
    }
    Ok(Fetched {
        text: body.access_token,
        lifetime,
        lifetime_source,
        granted,
    })
}

/// Whether a 200 says that its body is JSON (RFC 6749 §5.1), or says nothing.
pub(super) fn check_type(content_type: Option<&str>) -> Result<(), FetchError> {
    let Some(named) = content_type else {
        return Ok(());
    };
    let essence = named.split(';').next().unwrap_or_default().trim();
    let essence = essence.to_ascii_lowercase();
    if ["application/json", "text/json"].contains(&&*essence) || essence.ends_with("+json") {
        return Ok(());
    }
    let words = format!("answered 200 with \"{named}\", and a token comes as application/json");
    Err(FetchError::transient(Cause::Unusable, one_line(&words)))
}

/// Sorts an answer that isn't a 200. Nothing of `secret` gets into the words.
pub(super) fn refusal(
    status: StatusCode,
    body: &[u8],
    retry_after: Option<Duration>,
    secret: &str,
) -> FetchError {
    let error: Option<ErrorBody> = object(body);
    let words = words(status, error.as_ref(), secret);
    let error = error.unwrap_or_default();
    let is_oauth = error.error.is_string();
    let is_domo = !error.status.is_null() && !error.message.is_null();
    let denied = status == StatusCode::UNAUTHORIZED
        || matches!(status.as_u16(), 400 | 403) && (is_oauth || is_domo);
    if denied {
        let scope_only = error.error == "invalid_scope";
        return FetchError::Denied { scope_only, words };
    }
    let (cause, words) = match status.as_u16() {
        429 => (Cause::RateLimited, words),
        408 | 425 | 500..=599 => (Cause::Server, words),
        300..=399 => {
            let hint =
                "redirects are not followed, they would carry the secret along; check token_url";
            (Cause::RedirectRefused, format!("{words}; {hint}"))
        }
        404 => (Cause::NotFound, format!("{words}; check token_url")),
        405 => {
            let hint = "set token_method to the other of \"post\" and \"get\"";
            (Cause::Unusable, format!("{words}; {hint}"))
        }
        _ => (Cause::Unusable, words),
    };
    FetchError::Transient {
        cause,
        words,
        retry_after,
    }
}

/// A JSON object. The parser by itself would take an array of the fields' values too, and its error
/// may quote the body.
fn object<T: DeserializeOwned>(body: &[u8]) -> Option<T> {
    let begins = body.trim_ascii_start().first();
    begins.filter(|byte| **byte == b'{')?;
    serde_json::from_slice(body).ok()
}

fn is_usable(token: &str) -> bool {
    token.len() <= MAX_TOKEN && is_b64token(token)
}

/// The lifetime named, unless it is nonsense. Some SDKs expect a number, some a text.
fn lifetime(expires_in: &Value) -> Option<(Duration, LifetimeSource)> {
    let seconds = match expires_in {
        Value::Number(number) => whole_seconds(number)?,
        Value::String(text) => decimal_seconds(text)?,
        Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_) => return None,
    };
    let stated = Duration::from_secs(seconds);
    match seconds {
        0 => None,
        1..=LIFETIME_MAX => Some((stated, LifetimeSource::Stated)),
        _ => Some((MAX_LIFETIME, LifetimeSource::Capped { stated })),
    }
}

/// What has a point, an exponent or more than 64 bits comes as a float.
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

/// Digits alone; more of them than 64 bits hold are as many as these hold.
fn decimal_seconds(text: &str) -> Option<u64> {
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    digits.then(|| text.parse().unwrap_or(u64::MAX))
}

/// The scopes granted; absent means as asked (RFC 6749 §5.1).
fn granted(scope: &Value, asked: &ScopeSet) -> Option<ScopeSet> {
    match scope {
        Value::Null => Some(asked.clone()),
        Value::String(text) if text.is_empty() => Some(asked.clone()),
        Value::String(text) => ScopeSet::parse(text).ok(),
        Value::Array(items) => {
            let items: Option<Vec<&str>> = items.iter().map(Value::as_str).collect();
            ScopeSet::parse(&items?.join(" ")).ok()
        }
        Value::Bool(_) | Value::Number(_) | Value::Object(_) => None,
    }
}

/// A header's value; one that isn't ASCII counts as absent.
fn text_of<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a str> {
    headers.get(name)?.to_str().ok()
}

/// `Retry-After` in seconds or as a date (RFC 9110 §10.2.3); anything else counts as absent. A
/// date is reckoned from the answer's own `Date`, so that a wrong clock here doesn't matter.
pub(super) fn retry_after(headers: &HeaderMap, received: SystemTime) -> Option<Duration> {
    let text = text_of(headers, &RETRY_AFTER)?.trim();
    if let Some(seconds) = decimal_seconds(text) {
        return Some(Duration::from_secs(seconds));
    }
    let until = httpdate::parse_http_date(text).ok()?;
    let date = text_of(headers, &DATE);
    let date = date.and_then(|date| httpdate::parse_http_date(date).ok());
    Some(
        until
            .duration_since(date.unwrap_or(received))
            .unwrap_or_default(),
    )
}

/// Domo's own words, fit for one line, with the trace id its support asks for.
fn words(status: StatusCode, error: Option<&ErrorBody>, secret: &str) -> String {
    let mut words = format!("Domo answered {}", status.as_u16());
    let Some(error) = error else {
        return words;
    };
    for part in [&error.error, &error.error_description, &error.message] {
        if let Some(text) = part.as_str().filter(|text| !text.is_empty()) {
            words.push_str(": ");
            words.push_str(text);
        }
    }
    if let Some(toe) = error.toe.as_str().filter(|toe| !toe.is_empty()) {
        words.push_str(" (toe ");
        words.push_str(toe);
        words.push(')');
    }
    one_line(&words.replace(secret, "[redacted]"))
}

/// Makes a stranger's text fit for a log line: no control characters, no long runs that may be
/// secrets, and an end.
pub(super) fn one_line(text: &str) -> String {
    let plain: String = text
        .chars()
        .map(|c| if c.is_control() || is_bidi(c) { ' ' } else { c })
        .collect();
    let redacted: Vec<&str> = plain
        .split_whitespace()
        .map(|word| {
            if looks_secret(word) {
                "[redacted]"
            } else {
                word
            }
        })
        .collect();
    let line = redacted.join(" ");
    if line.chars().count() <= MAX_WORDS {
        return line;
    }
    line.chars().take(MAX_WORDS).chain(['…']).collect()
}

/// Characters that turn a line's reading order round can make it say something else.
fn is_bidi(c: char) -> bool {
    matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

fn looks_secret(word: &str) -> bool {
    let of_a_secret = |c: char| c.is_ascii_alphanumeric() || "-_+=%".contains(c);
    word.split(|c: char| !of_a_secret(c))
        .any(|run| run.len() >= LONGEST_WORD)
}

#[cfg(test)]
mod tests;

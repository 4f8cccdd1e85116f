//! Parses headers: `Retry-After`, `Date`, `Age`, `Content-Type`, and the error in `WWW-Authenticate`.

use std::time::{Duration, SystemTime};

use hyper::header::{
    AGE, CONTENT_LENGTH, DATE, HeaderMap, HeaderName, RETRY_AFTER, TRANSFER_ENCODING,
    WWW_AUTHENTICATE,
};

use super::lifetime::decimal_seconds;

/// Returns a header's value; one that is not ASCII counts as absent.
pub(super) fn text_of<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a str> {
    headers.get(name)?.to_str().ok()
}

/// Returns `Retry-After` in seconds or as a date (RFC 9110 §10.2.3); anything else counts as absent.
/// A date is relative to the response's own `Date`, so that a wrong local clock does not matter.
pub(in super::super) fn retry_after(headers: &HeaderMap, received: SystemTime) -> Option<Duration> {
    let text = text_of(headers, &RETRY_AFTER)?.trim();
    if let Some(seconds) = decimal_seconds(text) {
        return Some(Duration::from_secs(seconds));
    }
    let until = httpdate::parse_http_date(text).ok()?;
    let from = date(headers).unwrap_or(received);
    Some(until.duration_since(from).unwrap_or_default())
}

/// Returns the server's time when the response was received: its `Date` plus the `Age` that a cache adds.
pub(super) fn server_time(headers: &HeaderMap) -> Option<SystemTime> {
    date(headers)?.checked_add(age(headers).unwrap_or_default())
}

fn date(headers: &HeaderMap) -> Option<SystemTime> {
    httpdate::parse_http_date(text_of(headers, &DATE)?.trim()).ok()
}

/// Returns how long the response has been in a cache (RFC 9111 §5.1).
pub(super) fn age(headers: &HeaderMap) -> Option<Duration> {
    let text = text_of(headers, &AGE)?.trim();
    decimal_seconds(text).map(Duration::from_secs)
}

/// Returns whether the end of the connection ends the body, so that nothing but the body itself
/// shows that it is whole (RFC 9112 §6.3).
pub(in super::super) fn ends_with_connection(headers: &HeaderMap) -> bool {
    !headers.contains_key(CONTENT_LENGTH) && !headers.contains_key(TRANSFER_ENCODING)
}

/// Returns the media type in lower case without parameters, which a ";" or a blank precedes.
pub(super) fn media_type(content_type: &str) -> String {
    let mut parts = content_type.trim().split([';', ' ', '\t']);
    parts.next().unwrap_or_default().to_ascii_lowercase()
}

/// Returns `error` and `error_description` of the challenges in `WWW-Authenticate` (RFC 6750 §3).
pub(super) fn challenge_error(headers: &HeaderMap) -> (Option<String>, Option<String>) {
    let (mut error, mut description) = (None, None);
    for value in headers.get_all(WWW_AUTHENTICATE) {
        for (name, value) in value.to_str().map(parameters).unwrap_or_default() {
            if name.eq_ignore_ascii_case("error") {
                error.get_or_insert(value);
            } else if name.eq_ignore_ascii_case("error_description") {
                description.get_or_insert(value);
            }
        }
    }
    (error, description)
}

/// Returns the parameters of all challenges: `name=token` and `name="quoted \"text\""`.
fn parameters(challenges: &str) -> Vec<(&str, String)> {
    let mut found = Vec::new();
    let mut rest = challenges;
    while let Some(equals) = rest.find('=') {
        let (before, after) = rest.split_at(equals);
        let name = before.trim_end().rsplit([' ', ',', '\t']).next();
        let after = after.get(1..).unwrap_or_default().trim_start();
        let (value, end) = match after.strip_prefix('"') {
            Some(quoted) => unquoted(quoted),
            None => token(after),
        };
        found.push((name.unwrap_or_default(), value));
        rest = end;
    }
    found
}

fn token(text: &str) -> (String, &str) {
    let end = text.find([' ', ',', '\t']).unwrap_or(text.len());
    let (token, rest) = text.split_at(end);
    (token.to_owned(), rest)
}

/// Returns the text up to the closing quote, and what follows.
fn unquoted(text: &str) -> (String, &str) {
    let mut value = String::new();
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        match c {
            '"' => break,
            '\\' => value.extend(chars.next()),
            _ => value.push(c),
        }
    }
    (value, chars.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        let pairs = pairs.iter();
        pairs
            .map(|(name, value)| ((*name).parse().unwrap(), value.parse().unwrap()))
            .collect()
    }

    #[test]
    fn retry_after_is_parsed_in_both_forms_and_ignored_otherwise() {
        let secs = |text| {
            retry_after(&headers(&[("retry-after", text)]), SystemTime::UNIX_EPOCH)
                .map(|d| d.as_secs())
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

    #[test]
    fn server_time_is_date_and_age_and_absent_without_date() {
        let date = ("date", "Thu, 01 Jan 1970 00:01:00 GMT");
        let at = |pairs: &[(&'static str, &str)]| {
            let time = server_time(&headers(pairs))?;
            Some(
                time.duration_since(SystemTime::UNIX_EPOCH)
                    .unwrap()
                    .as_secs(),
            )
        };
        assert_eq!(at(&[date]), Some(60));
        assert_eq!(at(&[date, ("age", "3000")]), Some(3060));
        assert_eq!(at(&[date, ("age", "old")]), Some(60));
        assert_eq!(at(&[date, ("age", "99999999999999999999")]), None);
        assert_eq!(at(&[("age", "3000")]), None);
        assert_eq!(at(&[("date", "yesterday")]), None);
    }

    #[test]
    fn challenge_error_is_read_from_any_challenge_and_not_from_a_quoted_text() {
        let of = |values: &[&str]| {
            let mut headers = HeaderMap::new();
            for value in values {
                headers.append(WWW_AUTHENTICATE, value.parse().unwrap());
            }
            let (error, description) = challenge_error(&headers);
            (error.unwrap_or_default(), description.unwrap_or_default())
        };
        let both = ("invalid_client".to_owned(), "client disabled".to_owned());
        for values in [
            &[
                r#"Basic realm="oauth", error="invalid_client", error_description="client disabled""#,
            ][..],
            &[
                "Basic realm=\"x\"",
                "Bearer error = invalid_client,error_description=\"client disabled\"",
            ],
            &[
                r#"Bearer realm="a, error=\"no\"", ERROR="invalid_client", error_description="client \disabled""#,
            ],
        ] {
            assert_eq!(of(values), both, "{values:?}");
        }
        for values in [
            &[][..],
            &["Negotiate"],
            &[r#"Basic realm="error=invalid_client""#],
            &["Basic ="],
            &["Basic a=\"open"],
        ] {
            assert_eq!(of(values), (String::new(), String::new()), "{values:?}");
        }
    }
}

//! Checks the target of a request: its path decides which rule applies, so Domo must read it as it was compared here.

use std::fmt;

use percent_encoding::percent_decode_str;

/// The path of the token endpoint.
pub const TOKEN_PATH: &str = "/oauth/token";

/// The start of the paths of Domo's API.
pub const API_PREFIX: &str = "/v1/";

/// A valid target, as it was sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Target<'a> {
    pub path: &'a str,
    /// What follows the first `?`.
    pub query: Option<&'a str>,
}

/// Why a target is rejected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TargetError {
    /// It is not a path.
    NotAPath,
    /// It contains what is not printable ASCII, or `#`, or its path contains `\`.
    Character,
    /// Its path contains `//`, also before `;`.
    EmptySegment,
    /// A segment of its path is `.` or `..`, also before `;`.
    DotSegment,
    /// Its path encodes a character that must not be encoded, or encodes twice.
    Encoded,
    /// Its path contains `%` without two hexadecimal digits.
    PercentEncoding,
    /// What its path encodes is not UTF-8. Some servers decode longer forms of a character, such as `%C0%AE` for a dot.
    NotText,
    /// It is valid, and the gateway does not have such a path.
    NotFound,
}

impl fmt::Display for TargetError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NotAPath => "the target of a request must be a path, without scheme and host",
            Self::Character => "the target of a request contains an invalid character",
            Self::EmptySegment => "a path must not contain // or /;",
            Self::DotSegment => "a path must not contain the segments . and ..",
            Self::Encoded => "a path must not contain %00, %2E, %2F, %5C, or % encoded as %25",
            Self::PercentEncoding => "a path contains % without two hexadecimal digits after it",
            Self::NotText => "the percent-encoded characters of a path must be UTF-8",
            Self::NotFound => "the gateway has only /oauth/token and paths below /v1/",
        })
    }
}

impl<'a> Target<'a> {
    /// Checks a target. The query does not choose a rule, so only its characters are checked.
    ///
    /// # Errors
    ///
    /// [`TargetError`]: the reason.
    pub fn parse(target: &'a str) -> Result<Self, TargetError> {
        let (path, query) = match target.split_once('?') {
            Some((path, query)) => (path, Some(query)),
            None => (target, None),
        };
        if !path.starts_with('/') {
            return Err(TargetError::NotAPath);
        }
        let is_allowed = |byte: u8| byte.is_ascii_graphic() && byte != b'#';
        if !target.bytes().all(is_allowed) || path.contains('\\') {
            return Err(TargetError::Character);
        }
        if path.contains("//") {
            return Err(TargetError::EmptySegment);
        }
        check_encoding(path)?;
        if path.split('/').any(is_parameter) {
            return Err(TargetError::EmptySegment);
        }
        if path.split('/').any(is_dot_segment) {
            return Err(TargetError::DotSegment);
        }
        let is_served = path == TOKEN_PATH || path.starts_with(API_PREFIX);
        is_served
            .then_some(Self { path, query })
            .ok_or(TargetError::NotFound)
    }

    /// Returns whether it is the token endpoint.
    #[must_use]
    pub fn is_token_endpoint(&self) -> bool {
        self.path == TOKEN_PATH
    }
}

/// Checks the percent-encoding of a path. Each server decodes these characters at another point, and some decode twice.
fn check_encoding(path: &str) -> Result<(), TargetError> {
    for encoded in path.split('%').skip(1) {
        let decoded = encoded
            .get(..2)
            .filter(|digits| digits.bytes().all(|digit| digit.is_ascii_hexdigit()))
            .and_then(|digits| u8::from_str_radix(digits, 16).ok());
        match decoded {
            None => return Err(TargetError::PercentEncoding),
            Some(b'%' | b'.' | b'/' | b'\\' | 0) => return Err(TargetError::Encoded),
            Some(_) => {}
        }
    }
    let decoded = percent_decode_str(path).decode_utf8();
    decoded.map(|_| ()).map_err(|_| TargetError::NotText)
}

/// Returns whether a text begins with `;`: for a server that removes path parameters, nothing is left of it.
fn is_parameter(text: &str) -> bool {
    let is_encoded = |start: &str| start.eq_ignore_ascii_case("%3b");
    text.starts_with(';') || text.get(..3).is_some_and(is_encoded)
}

/// Returns whether a segment is `.` or `..` for a server that removes path parameters first, as servlet containers do.
fn is_dot_segment(segment: &str) -> bool {
    let Some(rest) = segment.strip_prefix('.') else {
        return false;
    };
    let rest = rest.strip_prefix('.').unwrap_or(rest);
    rest.is_empty() || is_parameter(rest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn path_and_query_are_kept_as_they_were_sent() {
        for (target, path, query) in [
            ("/v1/datasets", "/v1/datasets", None),
            ("/v1/datasets/", "/v1/datasets/", None),
            ("/v1/", "/v1/", None),
            (
                "/v1/users?limit=5&x=a/../b//c\\%2e%zz",
                "/v1/users",
                Some("limit=5&x=a/../b//c\\%2e%zz"),
            ),
            ("/v1/users?", "/v1/users", Some("")),
            ("/v1/users??a", "/v1/users", Some("?a")),
            (
                "/v1/a%20b%C3%A4/...;x/..a",
                "/v1/a%20b%C3%A4/...;x/..a",
                None,
            ),
            (
                "/oauth/token?grant_type=x",
                "/oauth/token",
                Some("grant_type=x"),
            ),
        ] {
            let expected = Target { path, query };
            assert_eq!(Target::parse(target), Ok(expected), "{target}");
            assert_eq!(expected.is_token_endpoint(), path == TOKEN_PATH);
        }
    }

    #[test]
    fn invalid_target_is_rejected() {
        use TargetError::{
            Character, DotSegment, EmptySegment, Encoded, NotAPath, NotFound, PercentEncoding,
        };
        for (target, expected) in [
            ("", NotAPath),
            ("*", NotAPath),
            ("?a", NotAPath),
            ("http://api.domo.com/v1/users", NotAPath),
            ("api.domo.com:443", NotAPath),
            ("//api.domo.com/v1/users", EmptySegment),
            ("/v1//users", EmptySegment),
            ("/v1/users//", EmptySegment),
            ("/v1/users\\7", Character),
            ("/v1/us ers", Character),
            ("/v1/users\0", Character),
            ("/v1/users\x1f", Character),
            ("/v1/users\x7f", Character),
            ("/v1/us\u{e4}rs", Character),
            ("/v1/users#a", Character),
            ("/v1/users?#a", Character),
            ("/v1/users?a\n", Character),
            ("/v1/.", DotSegment),
            ("/v1/./users", DotSegment),
            ("/v1/users/../datasets", DotSegment),
            ("/../v1/users", DotSegment),
            ("/v1/users/..;/datasets", DotSegment),
            ("/v1/users/..;a=b/datasets", DotSegment),
            ("/v1/users/..%3B/datasets", DotSegment),
            ("/v1/users/..%3b", DotSegment),
            ("/v1/users/.;", DotSegment),
            ("/v1/users/%2e%2e/datasets", Encoded),
            ("/v1/users/.%2E/datasets", Encoded),
            ("/v1/users/a%2eb", Encoded),
            ("/v1/users%2f7", Encoded),
            ("/v1/users%2F7", Encoded),
            ("/v1/users%5c7", Encoded),
            ("/v1/users%5C7", Encoded),
            ("/v1/users%00", Encoded),
            ("/v1/users%252e", Encoded),
            ("/v1/users%2", PercentEncoding),
            ("/v1/users%", PercentEncoding),
            ("/v1/users%%41", PercentEncoding),
            ("/v1/users%+1", PercentEncoding),
            ("/v1/users%zz", PercentEncoding),
            ("/", NotFound),
            ("/v1", NotFound),
            ("/v2/users", NotFound),
            ("/V1/users", NotFound),
            ("/%761/users", NotFound),
            ("/oauth/token/", NotFound),
            ("/oauth/token;a", NotFound),
            ("/oauth/authorize", NotFound),
            ("/api/v1/users", NotFound),
        ] {
            assert_eq!(Target::parse(target), Err(expected), "{target:?}");
            assert!(!expected.to_string().is_empty());
        }
    }

    #[test]
    fn what_a_server_may_read_as_another_path_is_rejected() {
        use TargetError::{EmptySegment, NotText};
        for (target, expected) in [
            ("/v1/users/;", EmptySegment),
            ("/v1/users/;a=b/7", EmptySegment),
            ("/v1/users/%3B", EmptySegment),
            ("/v1/users/%3bx", EmptySegment),
            ("/v1/users/%C0%AE%C0%AE/datasets", NotText),
            ("/v1/users/%e0%80%ae", NotText),
            ("/v1/users/%FF", NotText),
            ("/v1/users%C3", NotText),
        ] {
            assert_eq!(Target::parse(target), Err(expected), "{target:?}");
            assert!(!expected.to_string().is_empty());
        }
    }
}

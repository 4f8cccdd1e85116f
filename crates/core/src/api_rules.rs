//! Rules about requests to Domo's API: which scopes a method and a path need.
//!
//! Paths are compared as they are sent, without decoding: an encoded path matches no rule that names it in clear.

use std::error::Error;
use std::fmt;
use std::str::FromStr;

use domo_token_protocol::scope::ScopeSet;

/// The scopes that requests with one of these methods and such a path need.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ApiRule {
    /// The methods.
    pub methods: Methods,
    /// The paths.
    pub path: PathPattern,
    /// The scope set whose token is sent.
    pub scopes: ScopeSet,
}

/// The methods of a rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Methods {
    /// Each method.
    Any,
    /// These methods, case-sensitive (RFC 9110 §9.1).
    These(Vec<String>),
}

/// The paths of a rule: a path whose segment `*` stands for any one segment, and whose last segment `**` stands for
/// nothing or for any number of segments.
///
/// ```
/// use domo_token_core::api_rules::PathPattern;
///
/// let users: PathPattern = "/v1/users/**".parse()?;
/// assert!(users.matches("/v1/users") && users.matches("/v1/users/7/"));
/// assert!(!users.matches("/v1/users2"));
/// # Ok::<(), domo_token_core::api_rules::InvalidPattern>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PathPattern(String);

/// Why a text is not a pattern.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InvalidPattern {
    /// It does not begin with `/v1/`.
    NoApiPath,
    /// A segment contains `*` besides other characters, or `**` is not the last one.
    Wildcard,
    /// It contains what no request may contain.
    Character,
}

impl fmt::Display for InvalidPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NoApiPath => "must begin with /v1/, like \"/v1/datasets/**\"",
            Self::Wildcard => {
                "* stands for one whole segment, and ** only for the end, like \"/v1/datasets/**\""
            }
            Self::Character => "must not contain dot segments, //, spaces, '?', '#', '%' or '\\'",
        })
    }
}

impl Error for InvalidPattern {}

/// Returns the first rule that a request with this method and path matches. `path` is without the query.
#[must_use]
pub fn first_match<'a>(rules: &'a [ApiRule], method: &str, path: &str) -> Option<&'a ApiRule> {
    let matches = |rule: &&ApiRule| rule.methods.contain(method) && rule.path.matches(path);
    rules.iter().find(matches)
}

impl ApiRule {
    /// Returns whether each request that `other` matches also matches this rule.
    #[must_use]
    pub fn covers(&self, other: &Self) -> bool {
        self.methods.cover(&other.methods) && self.path.covers(&other.path)
    }
}

impl Methods {
    fn cover(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Any, _) => true,
            (Self::These(_), Self::Any) => false,
            (Self::These(_), Self::These(others)) => others.iter().all(|other| self.contain(other)),
        }
    }

    /// Returns whether a request with this method is meant.
    #[must_use]
    pub fn contain(&self, method: &str) -> bool {
        match self {
            Self::Any => true,
            Self::These(methods) => methods.iter().any(|other| other == method),
        }
    }
}

impl PathPattern {
    /// Returns the pattern before `/**`, and whether it ends with that.
    fn parts(&self) -> (&str, bool) {
        match self.0.strip_suffix("/**") {
            Some(start) => (start, true),
            None => (self.0.as_str(), false),
        }
    }

    /// Returns whether it stands for each path that `other` stands for.
    fn covers(&self, other: &Self) -> bool {
        let ((_, takes_rest), (start, has_rest)) = (self.parts(), other.parts());
        // In its place, `*` of the other pattern is a segment like any other: only `*` matches it.
        (takes_rest || !has_rest) && self.matches(start)
    }

    /// Returns whether it stands for this path.
    #[must_use]
    pub fn matches(&self, path: &str) -> bool {
        let (pattern, takes_rest) = self.parts();
        let mut segments = path.split('/');
        let is_start = pattern.split('/').all(|wanted| {
            let segment = segments.next();
            segment
                .is_some_and(|segment| segment == wanted || (wanted == "*" && !segment.is_empty()))
        });
        is_start && (takes_rest || segments.next().is_none())
    }
}

impl FromStr for PathPattern {
    type Err = InvalidPattern;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let Some(rest) = text.strip_prefix("/v1/") else {
            return Err(InvalidPattern::NoApiPath);
        };
        let is_allowed = |c: char| c.is_ascii_graphic() && !matches!(c, '?' | '#' | '%' | '\\');
        let is_segment = |segment: &str| !matches!(segment, "." | "..");
        if !text.chars().all(is_allowed) || text.contains("//") || !rest.split('/').all(is_segment)
        {
            return Err(InvalidPattern::Character);
        }
        let before_end = text.strip_suffix("/**").unwrap_or(text);
        let is_whole = |segment: &str| segment == "*" || !segment.contains('*');
        if !before_end.split('/').all(is_whole) {
            return Err(InvalidPattern::Wildcard);
        }
        Ok(Self(text.to_owned()))
    }
}

impl fmt::Display for PathPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Display for Methods {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Any => f.write_str("*"),
            Self::These(methods) => f.write_str(&methods.join(", ")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pattern(text: &str) -> PathPattern {
        text.parse().unwrap()
    }

    #[test]
    fn double_star_matches_the_path_itself_and_everything_below() {
        let users = pattern("/v1/users/**");
        for path in ["/v1/users", "/v1/users/", "/v1/users/7", "/v1/users/7/x/"] {
            assert!(users.matches(path), "{path}");
        }
        for path in [
            "/v1/users2",
            "/v1/user",
            "/v1",
            "/v1/Users",
            "/v1/%75sers",
            "/v1/users%2f7",
        ] {
            assert!(!users.matches(path), "{path}");
        }
        assert!(pattern("/v1/**").matches("/v1/x"));
    }

    #[test]
    fn path_without_wildcards_matches_itself_alone() {
        let query = pattern("/v1/accounts");
        assert!(query.matches("/v1/accounts"));
        assert!(!query.matches("/v1/accounts/"));
        assert!(!query.matches("/v1/accounts/7"));
    }

    #[test]
    fn star_matches_one_segment() {
        let data = pattern("/v1/datasets/*/data");
        assert!(data.matches("/v1/datasets/7/data"));
        for path in [
            "/v1/datasets/data",
            "/v1/datasets//data",
            "/v1/datasets/7/8/data",
            "/v1/datasets/7/data/",
        ] {
            assert!(!data.matches(path), "{path}");
        }
    }

    #[test]
    fn rule_covers_another_if_it_matches_each_request_that_the_other_matches() {
        let rule = |methods: &str, path: &str| ApiRule {
            methods: match methods {
                "*" => Methods::Any,
                methods => Methods::These(methods.split(' ').map(str::to_owned).collect()),
            },
            path: pattern(path),
            scopes: ScopeSet::parse("data").unwrap(),
        };
        for (earlier, later, covers) in [
            (("*", "/v1/**"), ("GET", "/v1/users/**"), true),
            (
                ("GET POST", "/v1/users/**"),
                ("GET", "/v1/users/*/x/"),
                true,
            ),
            (("*", "/v1/users/**"), ("GET", "/v1/users"), true),
            (("*", "/v1/users/**"), ("*", "/v1/users/**"), true),
            (("*", "/v1/*"), ("*", "/v1/users"), true),
            (("*", "/v1/*/data"), ("*", "/v1/*/data"), true),
            (("*", "/v1/*/**"), ("*", "/v1/users/**"), true),
            (("GET", "/v1/**"), ("*", "/v1/users"), false),
            (("GET", "/v1/**"), ("GET POST", "/v1/users"), false),
            (("*", "/v1/users/7"), ("*", "/v1/users/*"), false),
            (("*", "/v1/users/*"), ("*", "/v1/users/**"), false),
            (("*", "/v1/users"), ("*", "/v1/users/**"), false),
            (("*", "/v1/users/*"), ("*", "/v1/users/"), false),
            (("*", "/v1/users/**"), ("*", "/v1/**"), false),
            (("*", "/v1/users/**"), ("*", "/v1/users2/**"), false),
        ] {
            let found = rule(earlier.0, earlier.1).covers(&rule(later.0, later.1));
            assert_eq!(found, covers, "{earlier:?} {later:?}");
        }
    }

    #[test]
    fn invalid_pattern_is_an_error() {
        for (text, error) in [
            ("v1/users", InvalidPattern::NoApiPath),
            ("/oauth/token", InvalidPattern::NoApiPath),
            ("/**", InvalidPattern::NoApiPath),
            ("/v1/us*", InvalidPattern::Wildcard),
            ("/v1/**/data", InvalidPattern::Wildcard),
            ("/v1/users/***", InvalidPattern::Wildcard),
            ("/v1/a/../b", InvalidPattern::Character),
            ("/v1//users", InvalidPattern::Character),
            ("/v1/users?x=1", InvalidPattern::Character),
            ("/v1/us ers", InvalidPattern::Character),
        ] {
            assert_eq!(text.parse::<PathPattern>(), Err(error), "{text}");
        }
    }

    #[test]
    fn first_rule_that_matches_wins() {
        let scopes = |text: &str| ScopeSet::parse(text).unwrap();
        let rule = |methods: &[&str], path: &str, scope: &str| ApiRule {
            methods: match methods {
                ["*"] => Methods::Any,
                methods => Methods::These(methods.iter().map(|&name| name.to_owned()).collect()),
            },
            path: pattern(path),
            scopes: scopes(scope),
        };
        let rules = [
            rule(&["GET"], "/v1/users/**", "user"),
            rule(&["*"], "/v1/datasets/**", "data"),
            rule(&["*"], "/v1/**", "audit"),
        ];
        let scope = |method, path| {
            first_match(&rules, method, path).map(|rule| rule.scopes.as_str().to_owned())
        };
        assert_eq!(scope("GET", "/v1/users/7").as_deref(), Some("user"));
        assert_eq!(scope("POST", "/v1/users").as_deref(), Some("audit"));
        assert_eq!(scope("get", "/v1/users").as_deref(), Some("audit"));
        assert_eq!(scope("PUT", "/v1/datasets/").as_deref(), Some("data"));
        assert_eq!(scope("GET", "/oauth/token"), None);
    }
}

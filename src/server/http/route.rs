//! What a request is for: its path and query, as a request of the API.

use std::borrow::Cow;
use std::time::Duration;

use domo_token_protocol::duration;
use domo_token_protocol::messages::{MAX_TIME_LEFT_MS, Renew, TokenRequest, TokenSubject};
use domo_token_protocol::scope::ScopeSet;
use percent_encoding::percent_decode_str;

use super::head::{Head, Method};
use super::problem::{Kind, Problem};

/// How long a caller waits that does not say so.
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(10);

/// Above every generation.
const MAX_GENERATION: u64 = 1 << 53;

/// The most changed letters between a wrong name and the one that is suggested.
const MAX_TYPOS: usize = 2;

const METHODS: &str = "GET, HEAD";

#[derive(Debug, PartialEq, Eq)]
pub(super) enum Route {
    Token(TokenRequest, Format),
    Watch(TokenSubject),
    Status,
    Explain(TokenSubject),
    Metrics,
    Live,
    /// Readiness of every scope set that the caller may see.
    Ready,
    /// Readiness of one scope set.
    ReadySet {
        client: String,
        scope: String,
    },
    OpenApi,
}

/// The form of a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Format {
    Json,
    Token,
    Header,
}

impl Route {
    /// Returns its name for logs.
    pub(super) fn name(&self) -> &'static str {
        match self {
            Self::Token(..) => "token",
            Self::Watch(_) => "watch",
            Self::Status => "status",
            Self::Explain(_) => "explain",
            Self::Metrics => "metrics",
            Self::Live => "livez",
            Self::Ready | Self::ReadySet { .. } => "readyz",
            Self::OpenApi => "openapi",
        }
    }
}

/// Returns what a request is for.
///
/// # Errors
///
/// What is wrong with its path, method or query.
pub(super) fn route(head: &Head<'_>) -> Result<Route, Problem> {
    if head.has_body && head.method != Method::Other {
        return Err(bad("a request must not have a body"));
    }
    let (path, query) = match head.target.split_once('?') {
        Some((path, query)) => (path, Some(query)),
        None => (head.target, None),
    };
    let segments = segments(path)?;
    let segments: Vec<&str> = segments.iter().map(|segment| &**segment).collect();
    let endpoint = endpoint(&segments)?;
    let is_watch = matches!(endpoint, Endpoint::Watch(_));
    match head.method {
        Method::Get => {}
        Method::Head if !is_watch => {}
        Method::Head | Method::Other => {
            let allow = if is_watch { "GET" } else { METHODS };
            return Err(Problem {
                allow: Some(allow),
                ..Problem::new(Kind::MethodNotAllowed, format!("use {allow}"))
            });
        }
    }
    endpoint.route(query.unwrap_or_default())
}

/// A path that exists.
enum Endpoint<'a> {
    Token(&'a str),
    Watch(&'a str),
    Explain(&'a str),
    Plain(Route),
}

fn endpoint<'a>(segments: &[&'a str]) -> Result<Endpoint<'a>, Problem> {
    Ok(match segments {
        ["v1", "token", scopes] => Endpoint::Token(scopes),
        ["v1", "watch", scopes] => Endpoint::Watch(scopes),
        ["v1", "explain", scopes] => Endpoint::Explain(scopes),
        ["v1", "status"] => Endpoint::Plain(Route::Status),
        ["v1", "openapi.json"] => Endpoint::Plain(Route::OpenApi),
        ["metrics"] => Endpoint::Plain(Route::Metrics),
        ["livez"] => Endpoint::Plain(Route::Live),
        ["readyz"] => Endpoint::Plain(Route::Ready),
        ["readyz", client, scope] => Endpoint::Plain(Route::ReadySet {
            client: (*client).to_owned(),
            scope: (*scope).to_owned(),
        }),
        _ => {
            let detail = "no such path; the paths are listed in /v1/openapi.json";
            return Err(Problem::new(Kind::NotFound, detail));
        }
    })
}

impl Endpoint<'_> {
    fn route(self, query: &str) -> Result<Route, Problem> {
        match self {
            Self::Token(scopes) => {
                let keys = ["client", "min_ttl", "timeout", "format", "rejected"];
                let query = Query::parse(query, &keys)?;
                Ok(Route::Token(query.token_request(scopes)?, query.format()?))
            }
            Self::Watch(scopes) => {
                let query = Query::parse(query, &["client"])?;
                Ok(Route::Watch(query.subject(scopes)?))
            }
            Self::Explain(scopes) => {
                let query = Query::parse(query, &["client"])?;
                Ok(Route::Explain(query.subject(scopes)?))
            }
            Self::Plain(route) => {
                Query::parse(query, &[])?;
                Ok(route)
            }
        }
    }
}

fn bad(detail: impl Into<String>) -> Problem {
    Problem::new(Kind::BadRequest, detail)
}

/// Returns the decoded segments of a path.
fn segments(path: &str) -> Result<Vec<Cow<'_, str>>, Problem> {
    let path = path.strip_prefix('/').unwrap_or(path);
    let mut segments = Vec::new();
    let mut raw = path.split('/').peekable();
    while let Some(segment) = raw.next() {
        if segment.is_empty() && raw.peek().is_some() {
            return Err(bad("the path contains an empty segment (\"//\")"));
        }
        let segment = decode(segment)?;
        if segment == "." || segment == ".." {
            return Err(bad("the path contains a dot segment"));
        }
        segments.push(segment);
    }
    Ok(segments)
}

/// Decodes percent-encoding, strictly.
fn decode(text: &str) -> Result<Cow<'_, str>, Problem> {
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        let is_digit = |digit: Option<u8>| digit.is_some_and(|digit| digit.is_ascii_hexdigit());
        if byte == b'%' && !(is_digit(rest.next()) && is_digit(rest.next())) {
            return Err(bad(
                "% must be followed by two hexadecimal digits; write it as %25",
            ));
        }
    }
    percent_decode_str(text)
        .decode_utf8()
        .map_err(|_| bad("the target of a request must be UTF-8"))
}

/// The parameters of a query.
struct Query<'a>(Vec<(Cow<'a, str>, Cow<'a, str>)>);

impl<'a> Query<'a> {
    fn parse(text: &'a str, known: &[&str]) -> Result<Self, Problem> {
        let mut pairs: Vec<(Cow<'a, str>, Cow<'a, str>)> = Vec::new();
        for pair in text.split('&').filter(|pair| !pair.is_empty()) {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            // Libraries write a space in a query as +.
            let value = value.replace('+', "%20");
            let (key, value) = (decode(key)?, Cow::Owned(decode(&value)?.into_owned()));
            if !known.contains(&&*key) {
                return Err(unknown_key(&key, known));
            }
            if pairs.iter().any(|(other, _)| *other == key) {
                return Err(bad(format!("the query has {key} more than once")));
            }
            pairs.push((key, value));
        }
        Ok(Self(pairs))
    }

    fn get(&self, key: &str) -> Option<&str> {
        let found = self.0.iter().find(|(name, _)| name == key);
        found.map(|(_, value)| &**value)
    }

    fn subject(&self, scopes: &str) -> Result<TokenSubject, Problem> {
        // Only in a query does + mean a space.
        if scopes.contains('+') {
            return Err(bad("separate scopes by a comma or by %20, not by +"));
        }
        let scope = ScopeSet::parse(scopes).map_err(|error| bad(error.to_string()))?;
        Ok(TokenSubject {
            client: self.get("client").map(str::to_owned),
            scope: scope.as_str().to_owned(),
        })
    }

    fn token_request(&self, scopes: &str) -> Result<TokenRequest, Problem> {
        let timeout = self.duration("timeout")?.unwrap_or(DEFAULT_TIMEOUT);
        let time_left_ms = millis(timeout);
        if time_left_ms > MAX_TIME_LEFT_MS {
            return Err(bad("timeout is at most 10m"));
        }
        let rejected = self.get("rejected").map(|text| {
            let generation = text.parse().ok().filter(|number| *number < MAX_GENERATION);
            let is_number = text.bytes().all(|digit| digit.is_ascii_digit());
            generation
                .filter(|_| is_number)
                .ok_or_else(|| bad("rejected must be the generation of a token"))
        });
        Ok(TokenRequest {
            subject: self.subject(scopes)?,
            min_ttl_ms: self.duration("min_ttl")?.map(millis),
            time_left_ms,
            renew: rejected.transpose()?.map(Renew::Rejected),
        })
    }

    fn duration(&self, key: &str) -> Result<Option<Duration>, Problem> {
        let Some(text) = self.get(key) else {
            return Ok(None);
        };
        duration::parse(text).map(Some).ok_or_else(|| {
            bad(format!(
                "{key} must be a duration: 90s, 5m, 1h, 1h30m, or a number of seconds"
            ))
        })
    }

    fn format(&self) -> Result<Format, Problem> {
        match self.get("format") {
            None | Some("json") => Ok(Format::Json),
            Some("token") => Ok(Format::Token),
            Some("header") => Ok(Format::Header),
            Some(_) => Err(bad("format must be json, token or header")),
        }
    }
}

fn millis(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}

fn unknown_key(key: &str, known: &[&str]) -> Problem {
    let distance = |other: &&&str| strsim::osa_distance(key, other);
    // A long name costs too much to compare.
    let near = known
        .iter()
        .filter(|_| key.len() <= 64)
        .min_by_key(distance);
    let near = near.filter(|near| distance(near) <= MAX_TYPOS);
    let start: String = key.chars().take(64).collect();
    bad(match near {
        Some(near) => format!("unknown query parameter {start:?}; did you mean \"{near}\"?"),
        None if known.is_empty() => {
            format!("unknown query parameter {start:?}; this path has none")
        }
        None => format!(
            "unknown query parameter {start:?}; this path has {}",
            known.join(", ")
        ),
    })
}

#[cfg(test)]
mod tests;

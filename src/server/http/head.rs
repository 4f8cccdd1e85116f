//! Parses the head of an HTTP/1.1 request (RFC 9112), and rejects what is ambiguous: a head that two programs could
//! read differently. Bytes in, values out.

use std::mem::MaybeUninit;
use std::net::{Ipv4Addr, Ipv6Addr};

use httparse::Header;

use super::problem::{Kind, Problem};

/// The longest head, in bytes.
pub(in crate::server) const MAX_HEAD: usize = 8 * 1024;

/// The most header fields.
pub(super) const MAX_HEADERS: usize = 64;

/// Header fields that only web pages and proxies send; neither has a reason to send requests here.
const FORBIDDEN: [&str; 3] = ["origin", "referer", "forwarded"];

/// Prefixes of such header fields.
const FORBIDDEN_PREFIXES: [&str; 2] = ["sec-fetch-", "x-forwarded-"];

/// What matters of a head.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Head<'a> {
    pub(super) method: Method,
    /// The path and the query.
    pub(super) target: &'a str,
    /// Whether a body follows.
    pub(super) has_body: bool,
    /// Whether the caller closes the connection after this request.
    pub(super) closes: bool,
    /// The values of `If-None-Match`.
    pub(super) if_none_match: Vec<&'a str>,
    pub(super) last_event_id: Option<&'a str>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Method {
    Get,
    Head,
    Other,
}

/// Returns the length of the empty lines at the start of `bytes`.
pub(super) fn empty_lines(bytes: &[u8]) -> usize {
    let lines = bytes.chunks_exact(2).take_while(|line| line == b"\r\n");
    2 * lines.count()
}

impl Method {
    /// Returns the method of a request by its first bytes, even if the request is invalid.
    pub(super) fn of(start: &[u8]) -> Self {
        if start.starts_with(b"GET ") {
            Self::Get
        } else if start.starts_with(b"HEAD ") || start == b"HEAD" {
            Self::Head
        } else {
            Self::Other
        }
    }
}

/// Returns the length of the head at the start of `bytes`, once it is complete. Of these bytes, `seen` were searched
/// before.
///
/// # Errors
///
/// [`Kind::HeadTooLarge`] if it is longer than [`MAX_HEAD`].
pub(in crate::server) fn length(bytes: &[u8], seen: usize) -> Result<Option<usize>, Problem> {
    // The end may have begun in the bytes seen before.
    let from = seen.saturating_sub(2);
    let rest = bytes.get(from..).unwrap_or_default();
    let mut lines = (0..rest.len()).filter(|at| rest.get(*at) == Some(&b'\n'));
    let end = lines.find_map(|at| match rest.get(at + 1..) {
        Some([b'\n', ..]) => Some(from + at + 2),
        Some([b'\r', b'\n', ..]) => Some(from + at + 3),
        _ => None,
    });
    if end.unwrap_or(bytes.len()) > MAX_HEAD {
        return Err(Problem::new(
            Kind::HeadTooLarge,
            "the head of a request has at most 8 KiB",
        ));
    }
    Ok(end)
}

/// Parses a complete head.
///
/// # Errors
///
/// What is wrong with it. Where the next request begins is then unknown.
pub(super) fn parse(bytes: &[u8]) -> Result<Head<'_>, Problem> {
    if has_bare_line_end(bytes) {
        return Err(bad("each line of a request must end with CR and LF"));
    }
    let mut fields = [const { MaybeUninit::uninit() }; MAX_HEADERS];
    let mut request = httparse::Request::new(&mut []);
    match request.parse_with_uninit_headers(bytes, &mut fields) {
        Ok(httparse::Status::Complete(length)) if length == bytes.len() => {}
        Ok(_) => return Err(bad("the request is incomplete")),
        Err(httparse::Error::Version) => return Err(version_problem(bytes)),
        Err(httparse::Error::TooManyHeaders) => {
            let detail = "a request has at most 64 header fields";
            return Err(Problem::new(Kind::HeadTooLarge, detail));
        }
        Err(error) => return Err(bad(format!("not an HTTP request: {error}"))),
    }
    let (Some(method), Some(target), Some(version)) =
        (request.method, request.path, request.version)
    else {
        return Err(bad("the request is incomplete"));
    };
    if version != 1 {
        return Err(version_problem(bytes));
    }
    let fields = Fields(request.headers);
    let has_body = fields.body()?;
    if method == "CONNECT" || !target.starts_with('/') {
        return Err(bad(
            "the target of a request must be a path, such as /v1/status",
        ));
    }
    if !target.bytes().all(|byte| byte.is_ascii_graphic()) || target.contains('#') {
        return Err(bad("the target of a request contains an invalid character"));
    }
    fields.check_host()?;
    fields.check_origin()?;
    Ok(Head {
        method: match method {
            "GET" => Method::Get,
            "HEAD" => Method::Head,
            _ => Method::Other,
        },
        target,
        has_body,
        closes: fields.closes(),
        if_none_match: fields.texts("if-none-match").collect(),
        last_event_id: fields.texts("last-event-id").next(),
    })
}

fn bad(detail: impl Into<String>) -> Problem {
    Problem::new(Kind::BadRequest, detail)
}

/// Returns whether any LF follows no CR. A CR without LF is an error of the parser.
fn has_bare_line_end(bytes: &[u8]) -> bool {
    let mut before = 0;
    bytes.iter().any(|byte| {
        let is_bare = *byte == b'\n' && before != b'\r';
        before = *byte;
        is_bare
    })
}

/// Distinguishes another version of HTTP from what is none.
fn version_problem(bytes: &[u8]) -> Problem {
    let line = bytes
        .split(|byte| *byte == b'\r')
        .next()
        .unwrap_or_default();
    let mut parts = line.split(|byte| *byte == b' ').skip(2);
    let is_version = matches!(
        (parts.next(), parts.next()),
        (Some([b'H', b'T', b'T', b'P', b'/', major, b'.', minor]), None)
            if major.is_ascii_digit() && minor.is_ascii_digit()
    );
    if is_version {
        return Problem::new(Kind::VersionNotSupported, "use HTTP/1.1");
    }
    bad("not an HTTP request: invalid HTTP version")
}

/// The header fields of a request.
struct Fields<'h, 'a>(&'h [Header<'a>]);

impl<'a> Fields<'_, 'a> {
    fn all(&self, name: &str) -> impl Iterator<Item = &'a [u8]> {
        let named = self
            .0
            .iter()
            .filter(move |field| field.name.eq_ignore_ascii_case(name));
        named.map(|field| field.value)
    }

    /// Returns the values that are ASCII.
    fn texts(&self, name: &str) -> impl Iterator<Item = &'a str> {
        self.all(name)
            .filter_map(|value| str::from_utf8(value).ok())
    }

    /// Returns whether a body follows (RFC 9112 §6.3).
    fn body(&self) -> Result<bool, Problem> {
        let mut lengths = self.all("content-length");
        let length = lengths.next();
        let is_chunked = self.all("transfer-encoding").next().is_some();
        if is_chunked && length.is_some() {
            return Err(bad(
                "Content-Length and Transfer-Encoding exclude each other",
            ));
        }
        if lengths.next().is_some() {
            return Err(bad("more than one Content-Length"));
        }
        let Some(length) = length else {
            return Ok(is_chunked);
        };
        if length.is_empty() || !length.iter().all(u8::is_ascii_digit) {
            return Err(bad("Content-Length must be a number"));
        }
        Ok(length.iter().any(|digit| *digit != b'0'))
    }

    fn check_host(&self) -> Result<(), Problem> {
        let mut hosts = self.all("host");
        let (Some(host), None) = (hosts.next(), hosts.next()) else {
            return Err(bad("a request needs exactly one Host; use localhost"));
        };
        let is_local = str::from_utf8(host).is_ok_and(is_loopback);
        is_local.then_some(()).ok_or_else(|| {
            let detail = "Host must be localhost or a loopback address";
            Problem::new(Kind::ForbiddenOrigin, detail)
        })
    }

    fn check_origin(&self) -> Result<(), Problem> {
        let is_forbidden = |field: &&Header<'_>| {
            let name = field.name;
            let has_prefix = |prefix: &&str| {
                let start = name.get(..prefix.len());
                start.is_some_and(|start| start.eq_ignore_ascii_case(prefix))
            };
            let is_name = |forbidden: &&str| name.eq_ignore_ascii_case(forbidden);
            FORBIDDEN.iter().any(is_name) || FORBIDDEN_PREFIXES.iter().any(has_prefix)
        };
        let Some(field) = self.0.iter().find(is_forbidden) else {
            return Ok(());
        };
        let name = field.name;
        let detail = format!(
            "requests of web pages and proxies are rejected; send the request without {name}"
        );
        Err(Problem::new(Kind::ForbiddenOrigin, detail))
    }

    fn closes(&self) -> bool {
        let mut options = self.texts("connection").flat_map(|value| value.split(','));
        options.any(|option| option.trim().eq_ignore_ascii_case("close"))
    }
}

/// Returns whether a `Host` is localhost or a loopback address, with any port.
fn is_loopback(host: &str) -> bool {
    let bracketed = host.strip_prefix('[').and_then(|host| host.split_once(']'));
    let (is_loopback, port) = if let Some((address, port)) = bracketed {
        let address: Option<Ipv6Addr> = address.parse().ok();
        (address.is_some_and(|address| address.is_loopback()), port)
    } else {
        let (name, port) = host.split_at(host.find(':').unwrap_or(host.len()));
        let address: Option<Ipv4Addr> = name.parse().ok();
        let is_address = address.is_some_and(|address| address.is_loopback());
        (is_address || name.eq_ignore_ascii_case("localhost"), port)
    };
    let is_port = |port: &str| port.bytes().all(|digit| digit.is_ascii_digit()) && port.len() <= 5;
    is_loopback && (port.is_empty() || port.strip_prefix(':').is_some_and(is_port))
}

#[cfg(test)]
mod tests;

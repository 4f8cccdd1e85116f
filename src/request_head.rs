//! Parses the head of an HTTP/1.1 request (RFC 9112), and rejects what is ambiguous: a head that two programs could
//! read differently. Bytes in, values out.
//!
//! It is what the socket and the gateway have in common. Heads are parsed by httparse, as hyper does.

use std::borrow::Cow;
use std::mem::MaybeUninit;
use std::net::{Ipv4Addr, Ipv6Addr};

use httparse::Header;

/// Header fields that only web pages send; none has a reason to send requests here.
const OF_WEB_PAGES: [&str; 2] = ["origin", "referer"];

/// The prefix of such header fields.
const OF_WEB_PAGES_PREFIX: &str = "sec-fetch-";

/// The header field of proxies (RFC 7239), and the prefix of those that proxies had before.
const OF_PROXIES: &str = "forwarded";
const OF_PROXIES_PREFIX: &str = "x-forwarded-";

/// Where the header fields of a head are put. Its length is the most of them that are accepted.
pub type FieldStorage<'a> = [MaybeUninit<Header<'a>>];

/// Why a head is rejected. Where the next request begins is then unknown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HeadError {
    pub kind: HeadErrorKind,
    pub detail: Cow<'static, str>,
}

/// The kinds of invalid heads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HeadErrorKind {
    /// Invalid or ambiguous.
    BadRequest,
    /// Sent by a web page or a proxy, or to another host.
    ForbiddenOrigin,
    /// Too many bytes or header fields.
    TooLarge,
    /// Another version of HTTP.
    VersionNotSupported,
}

/// What happens to the header fields that proxies add.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ForwardedFields {
    /// A head with one of them is rejected.
    Reject,
    /// They are not checked.
    Accept,
}

/// A head.
#[derive(Debug)]
pub struct RequestHead<'h, 'a> {
    pub method: &'a str,
    /// The path and the query: printable ASCII that begins with `/` and contains no `#`.
    pub target: &'a str,
    pub body: BodyLength,
    pub fields: Fields<'h, 'a>,
}

/// How long the body of a request is (RFC 9112 §6.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BodyLength {
    /// There is no body.
    None,
    /// Its bytes, at least one.
    Length(u64),
    /// The body itself shows its end. Whether that is the only coding: [`Fields::is_only_chunked`].
    Chunked,
}

/// The header fields of a request.
#[derive(Clone, Copy, Debug)]
pub struct Fields<'h, 'a>(&'h [Header<'a>]);

/// Returns the length of the empty lines at the start of `bytes`.
#[must_use]
pub fn empty_lines(bytes: &[u8]) -> usize {
    let lines = bytes.chunks_exact(2).take_while(|line| line == b"\r\n");
    2 * lines.count()
}

/// Returns the length of the head at the start of `bytes`, once it is complete. Of these bytes, `seen` were searched
/// before.
///
/// # Errors
///
/// [`HeadErrorKind::TooLarge`] if it is longer than `max` bytes.
pub fn length(bytes: &[u8], seen: usize, max: usize) -> Result<Option<usize>, HeadError> {
    // The end may have begun in the bytes seen before.
    let from = seen.saturating_sub(2);
    let rest = bytes.get(from..).unwrap_or_default();
    let mut lines = (0..rest.len()).filter(|at| rest.get(*at) == Some(&b'\n'));
    let end = lines.find_map(|at| match rest.get(at + 1..) {
        Some([b'\n', ..]) => Some(from + at + 2),
        Some([b'\r', b'\n', ..]) => Some(from + at + 3),
        _ => None,
    });
    if end.unwrap_or(bytes.len()) > max {
        let kib = max / 1024;
        return Err(HeadError {
            kind: HeadErrorKind::TooLarge,
            detail: format!("the head of a request has at most {kib} KiB").into(),
        });
    }
    Ok(end)
}

/// Parses a complete head.
///
/// # Errors
///
/// What is wrong with it.
pub fn parse<'h, 'a>(
    bytes: &'a [u8],
    storage: &'h mut FieldStorage<'a>,
    forwarded: ForwardedFields,
) -> Result<RequestHead<'h, 'a>, HeadError> {
    if has_bare_line_end(bytes) {
        return Err(bad("each line of a request must end with CR and LF"));
    }
    let max_fields = storage.len();
    let mut request = httparse::Request::new(&mut []);
    match request.parse_with_uninit_headers(bytes, storage) {
        Ok(httparse::Status::Complete(length)) if length == bytes.len() => {}
        Ok(_) => return Err(bad("the request is incomplete")),
        Err(httparse::Error::Version) => return Err(version_error(bytes)),
        Err(httparse::Error::TooManyHeaders) => {
            return Err(HeadError {
                kind: HeadErrorKind::TooLarge,
                detail: format!("a request has at most {max_fields} header fields").into(),
            });
        }
        Err(error) => return Err(bad(format!("not an HTTP request: {error}"))),
    }
    let (Some(method), Some(target), Some(version)) =
        (request.method, request.path, request.version)
    else {
        return Err(bad("the request is incomplete"));
    };
    if version != 1 {
        return Err(version_error(bytes));
    }
    let fields = Fields(request.headers);
    let body = fields.body()?;
    if method == "CONNECT" || !target.starts_with('/') {
        return Err(bad(
            "the target of a request must be a path, without scheme and host",
        ));
    }
    if !target.bytes().all(|byte| byte.is_ascii_graphic()) || target.contains('#') {
        return Err(bad("the target of a request contains an invalid character"));
    }
    fields.check_host()?;
    fields.check_origin(forwarded)?;
    Ok(RequestHead {
        method,
        target,
        body,
        fields,
    })
}

fn bad(detail: impl Into<Cow<'static, str>>) -> HeadError {
    HeadError {
        kind: HeadErrorKind::BadRequest,
        detail: detail.into(),
    }
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
fn version_error(bytes: &[u8]) -> HeadError {
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
        return HeadError {
            kind: HeadErrorKind::VersionNotSupported,
            detail: "use HTTP/1.1".into(),
        };
    }
    bad("not an HTTP request: invalid HTTP version")
}

impl<'a> Fields<'_, 'a> {
    /// Returns the names and values of all fields, in order.
    pub fn iter(&self) -> impl Iterator<Item = (&'a str, &'a [u8])> {
        self.0.iter().map(|field| (field.name, field.value))
    }

    /// Returns the values of the fields with this name.
    pub fn all(&self, name: &str) -> impl Iterator<Item = &'a [u8]> {
        let named = self
            .0
            .iter()
            .filter(move |field| field.name.eq_ignore_ascii_case(name));
        named.map(|field| field.value)
    }

    /// Returns the values that are UTF-8.
    pub fn texts(&self, name: &str) -> impl Iterator<Item = &'a str> {
        self.all(name)
            .filter_map(|value| str::from_utf8(value).ok())
    }

    /// Returns whether the sender closes the connection after this request.
    #[must_use]
    pub fn closes(&self) -> bool {
        let mut options = self.texts("connection").flat_map(|value| value.split(','));
        options.any(|option| option.trim().eq_ignore_ascii_case("close"))
    }

    /// Returns whether the body has the transfer coding `chunked` and no other.
    #[must_use]
    pub fn is_only_chunked(&self) -> bool {
        let mut codings = self.all("transfer-encoding");
        let coding = codings.next();
        coding.is_some_and(|coding| coding.eq_ignore_ascii_case(b"chunked"))
            && codings.next().is_none()
    }

    fn body(&self) -> Result<BodyLength, HeadError> {
        let mut lengths = self.all("content-length");
        let length = lengths.next();
        let has_coding = self.all("transfer-encoding").next().is_some();
        if has_coding && length.is_some() {
            return Err(bad(
                "Content-Length and Transfer-Encoding exclude each other",
            ));
        }
        if lengths.next().is_some() {
            return Err(bad("more than one Content-Length"));
        }
        let Some(length) = length else {
            return Ok(if has_coding {
                BodyLength::Chunked
            } else {
                BodyLength::None
            });
        };
        // Not by FromStr alone, which accepts a plus sign.
        let is_number = !length.is_empty() && length.iter().all(u8::is_ascii_digit);
        let number = str::from_utf8(length).ok().filter(|_| is_number);
        match number.and_then(|number| number.parse().ok()) {
            Some(0) => Ok(BodyLength::None),
            Some(length) => Ok(BodyLength::Length(length)),
            None => Err(bad("Content-Length must be a number")),
        }
    }

    fn check_host(&self) -> Result<(), HeadError> {
        let mut hosts = self.all("host");
        let (Some(host), None) = (hosts.next(), hosts.next()) else {
            return Err(bad("a request needs exactly one Host; use localhost"));
        };
        let is_local = str::from_utf8(host).is_ok_and(is_loopback);
        is_local.then_some(()).ok_or_else(|| HeadError {
            kind: HeadErrorKind::ForbiddenOrigin,
            detail: "Host must be localhost or a loopback address".into(),
        })
    }

    fn check_origin(&self, forwarded: ForwardedFields) -> Result<(), HeadError> {
        let is_forbidden = |field: &&Header<'_>| {
            let name = field.name;
            let has_prefix = |prefix: &str| {
                let start = name.get(..prefix.len());
                start.is_some_and(|start| start.eq_ignore_ascii_case(prefix))
            };
            let is_name = |forbidden: &&str| name.eq_ignore_ascii_case(forbidden);
            OF_WEB_PAGES.iter().any(is_name)
                || has_prefix(OF_WEB_PAGES_PREFIX)
                || (forwarded == ForwardedFields::Reject
                    && (is_name(&OF_PROXIES) || has_prefix(OF_PROXIES_PREFIX)))
        };
        let Some(field) = self.0.iter().find(is_forbidden) else {
            return Ok(());
        };
        let name = field.name;
        Err(HeadError {
            kind: HeadErrorKind::ForbiddenOrigin,
            detail: format!(
                "requests of web pages and proxies are rejected; send the request without {name}"
            )
            .into(),
        })
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

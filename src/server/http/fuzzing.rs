//! Entry points for fuzzers: heads, and the responses of a whole session.

#![allow(
    clippy::expect_used,
    clippy::panic,
    reason = "a panic is how a finding is reported"
)]

use std::time::UNIX_EPOCH;

use domo_token_protocol::scope::ScopeSet;

use super::head::{self, MAX_HEADERS, Method};
use super::problem::Problem;
use super::response::{ConnectionEnd, EVENTS, Response};
use super::route::{self, Route};

/// The longest head that is also parsed without its end.
const MAX_CUT: usize = 512;

/// Finds and parses the first head, and finds its route.
pub(crate) fn head(bytes: &[u8]) {
    let whole = head::length(bytes, 0);
    let mut piecewise = Ok(None);
    for end in 0..=bytes.len() {
        let start = bytes.get(..end).unwrap_or_default();
        piecewise = head::length(start, end.saturating_sub(1));
        if piecewise != Ok(None) {
            break;
        }
    }
    assert_eq!(piecewise, whole, "its end depends on how it arrives");
    let bytes = match whole {
        Ok(Some(length)) => bytes.get(..length).expect("no more than there is"),
        Ok(None) => return,
        Err(problem) => return check_problem(problem),
    };
    let parsed = match head::parse(bytes) {
        Ok(parsed) => parsed,
        Err(problem) => return check_problem(problem),
    };
    check_head(bytes, &parsed);
    for end in 0..bytes.len().min(MAX_CUT) {
        let start = bytes.get(..end).unwrap_or_default();
        assert!(head::parse(start).is_err(), "{end} bytes are enough");
    }
    match route::route(&parsed) {
        Ok(route) => check_route(&route, parsed.target),
        Err(problem) => check_problem(problem),
    }
}

/// Compares a head with what the grammar of RFC 9112 makes of it.
fn check_head(bytes: &[u8], head: &head::Head<'_>) {
    let mut text = bytes;
    while let Some(rest) = text.strip_prefix(b"\r\n") {
        text = rest;
    }
    let text = text.strip_suffix(b"\r\n\r\n").expect("an empty line");
    assert!(!text.contains(&0), "a NUL");
    let mut lines = text.split(|byte| *byte == b'\n').peekable();
    let mut whole_lines = Vec::new();
    while let Some(line) = lines.next() {
        let line = if lines.peek().is_some() {
            line.strip_suffix(b"\r").expect("no bare LF")
        } else {
            line
        };
        assert!(!line.contains(&b'\r'), "a bare CR");
        whole_lines.push(line);
    }
    let (request_line, fields) = whole_lines.split_first().expect("a request line");
    assert!(fields.len() <= MAX_HEADERS);
    let target = head.target.as_bytes();
    let method = request_line.strip_suffix(b" HTTP/1.1");
    let method = method.and_then(|line| line.strip_suffix(target));
    let method = method.and_then(|line| line.strip_suffix(b" "));
    let method = method.expect("the method, the target and the version");
    let expected = match method {
        b"GET" => Method::Get,
        b"HEAD" => Method::Head,
        method => {
            assert!(is_name(method), "no method");
            Method::Other
        }
    };
    assert_eq!(head.method, expected);
    assert!(target.starts_with(b"/"));
    assert!(target.iter().all(u8::is_ascii_graphic));
    check_fields(fields, head);
}

fn check_fields(lines: &[&[u8]], head: &head::Head<'_>) {
    let fields: Vec<(String, &[u8])> = lines.iter().map(|line| field(line)).collect();
    let named = |name: &str| -> Vec<&[u8]> {
        let fields = fields.iter().filter(|(other, _)| other == name);
        fields.map(|(_, value)| *value).collect()
    };
    assert_eq!(named("host").len(), 1, "not one Host");
    let (lengths, codings) = (named("content-length"), named("transfer-encoding"));
    assert!(lengths.len() <= 1 && (lengths.is_empty() || codings.is_empty()));
    let has_length = lengths
        .iter()
        .any(|length| length.iter().any(|digit| *digit != b'0'));
    assert_eq!(head.has_body, has_length || !codings.is_empty());
    for forbidden in ["origin", "referer", "forwarded"] {
        assert!(named(forbidden).is_empty(), "{forbidden}");
    }
    for (name, _) in &fields {
        let is_forbidden = name.starts_with("sec-fetch-") || name.starts_with("x-forwarded-");
        assert!(!is_forbidden, "{name}");
    }
    let texts = |name| {
        let values = named(name).into_iter();
        values.filter_map(|value| str::from_utf8(value).ok())
    };
    let tags: Vec<&str> = texts("if-none-match").collect();
    assert_eq!(head.if_none_match, tags);
    assert_eq!(head.last_event_id, texts("last-event-id").next());
}

/// Returns the lower-case name of a field and its value (RFC 9112 §5).
fn field(line: &[u8]) -> (String, &[u8]) {
    let colon = line.iter().position(|byte| *byte == b':');
    let (name, value) = line.split_at(colon.expect("a colon"));
    assert!(is_name(name), "no name of a field");
    let name = String::from_utf8_lossy(name).to_ascii_lowercase();
    let value = value.strip_prefix(b":").unwrap_or_default();
    // Not trim_ascii, which removes more than spaces and tabs.
    let is_space = |byte: &u8| matches!(byte, b' ' | b'\t');
    let start = value.iter().position(|byte| !is_space(byte));
    let end = value.iter().rposition(|byte| !is_space(byte));
    let (Some(start), Some(end)) = (start, end) else {
        return (name, b"");
    };
    (name, value.get(start..=end).unwrap_or_default())
}

/// Returns whether it is a token (RFC 9110 §5.6.2).
fn is_name(text: &[u8]) -> bool {
    let is_char = |byte: &u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(byte);
    !text.is_empty() && text.iter().all(is_char)
}

fn check_route(route: &Route, target: &str) {
    let path = target.split('?').next().unwrap_or_default();
    assert!(!path.contains("//"), "an empty segment");
    let segments = path.split('/');
    for segment in segments {
        let decoded = segment.to_ascii_lowercase().replace("%2e", ".");
        assert!(decoded != "." && decoded != "..", "a dot segment");
    }
    let subject = match route {
        Route::Token(request, _) => &request.subject,
        Route::Watch(subject) | Route::Explain(subject) => subject,
        Route::Status
        | Route::Metrics
        | Route::Live
        | Route::Ready
        | Route::ReadySet { .. }
        | Route::OpenApi => return,
    };
    let scope = ScopeSet::parse(&subject.scope).expect("a scope set");
    assert_eq!(scope.as_str(), subject.scope, "not normalized");
}

fn check_problem(problem: Problem) {
    let (status, allow) = (problem.kind.status().0, problem.allow);
    assert!((400..500).contains(&status) || status == 505, "{problem:?}");
    assert_eq!(status == 405, allow.is_some());
    let detail = &problem.detail;
    assert!(!detail.is_empty() && !detail.contains(char::is_control));
    let response = Response::from(problem);
    let mut bytes = response.head(ConnectionEnd::Close, UNIX_EPOCH);
    bytes.extend_from_slice(&response.body_for(Method::Get).concat());
    assert_eq!(responses(&bytes, &[]), [status]);
}

/// Returns the status of each response in `bytes`, which must be well-formed. Those to requests whose bit is set in
/// `without_body` have no body.
fn responses(mut bytes: &[u8], without_body: &[bool]) -> Vec<u16> {
    let mut statuses = Vec::new();
    let mut closed = false;
    while !bytes.is_empty() {
        assert!(!closed, "a response after the last one");
        let mut fields = [httparse::EMPTY_HEADER; 16];
        let mut response = httparse::Response::new(&mut fields);
        let parsed = response.parse(bytes).expect("a response");
        assert_eq!(response.version, Some(1));
        let status = response.code.expect("a status");
        let field = |name: &str| {
            let mut named = response.headers.iter();
            let field = named.find(|field| field.name == name)?;
            str::from_utf8(field.value).ok()
        };
        assert_eq!(field("Cache-Control"), Some("no-store"));
        assert!(field("Date").is_some_and(|date| httpdate::parse_http_date(date).is_ok()));
        closed = field("Connection") == Some("close");
        bytes = bytes.get(parsed.unwrap()..).unwrap_or_default();
        let is_bodyless = without_body.get(statuses.len()).copied().unwrap_or(false);
        statuses.push(status);
        let length = field("Content-Length").map(|length| length.parse().expect("a number"));
        let is_chunked = field("Transfer-Encoding") == Some("chunked");
        assert_ne!(length.is_some(), is_chunked || status == 304);
        let body = if is_bodyless || status == 304 {
            Vec::new()
        } else if is_chunked {
            let body;
            (body, bytes) = chunks(bytes, field("Content-Type") == Some(EVENTS));
            body
        } else {
            let (body, rest) = bytes
                .split_at_checked(length.unwrap_or_default())
                .expect("the whole body");
            bytes = rest;
            body.to_vec()
        };
        let has_json = field("Content-Type").is_some_and(|content| content.contains("json"));
        if has_json && !body.is_empty() {
            let text = body.strip_suffix(b"\n").expect("a newline");
            let value: serde_json::Value = serde_json::from_slice(text).expect("JSON");
            if status >= 400 {
                assert_eq!(value.get("status"), Some(&status.into()));
            }
        }
    }
    statuses
}

/// Returns a body in chunks, and what follows it. Events end without the last chunk if the caller disconnects.
fn chunks(mut bytes: &[u8], are_events: bool) -> (Vec<u8>, &[u8]) {
    let mut body = Vec::new();
    loop {
        if are_events && bytes.is_empty() {
            return (body, bytes);
        }
        let parsed = httparse::parse_chunk_size(bytes).expect("a chunk");
        let httparse::Status::Complete((start, length)) = parsed else {
            panic!("an incomplete chunk");
        };
        let length = usize::try_from(length).expect("a length");
        let chunk = bytes.get(start..).unwrap_or_default();
        let (chunk, rest) = chunk.split_at_checked(length).expect("the whole chunk");
        body.extend_from_slice(chunk);
        bytes = rest.strip_prefix(b"\r\n").expect("the end of a chunk");
        if length == 0 {
            return (body, bytes);
        }
    }
}

/// Returns the status of each response of a session that was sent `requests` and answered with `bytes`.
pub(in crate::server) fn session_responses(mut requests: &[u8], bytes: &[u8]) -> Vec<u16> {
    let mut without_body = Vec::new();
    loop {
        let empty = head::empty_lines(requests);
        requests = requests.get(empty..).unwrap_or_default();
        let Ok(Some(length)) = head::length(requests, 0) else {
            break;
        };
        let (head, rest) = requests.split_at(length);
        let is_head = Method::of(head) == Method::Head;
        without_body.push(is_head);
        requests = rest;
    }
    responses(bytes, &without_body)
}

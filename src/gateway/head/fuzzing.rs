//! Entry point for fuzzers: heads of requests to the gateway.

#![allow(clippy::expect_used, reason = "a panic is how a finding is reported")]

use std::time::UNIX_EPOCH;

use super::{Head, MAX_FIELDS, length, parse, storage};
use crate::gateway::error::{Refusal, Toe};
use crate::gateway::local_token::bearer;
use crate::gateway::own_response::Delivery;
use crate::gateway::target::TOKEN_PATH;
use crate::gateway::token_endpoint::{RawRequest, TokenRequest};
use crate::request_head::BodyLength;

/// Names that no accepted head may have.
const REFUSED: [&str; 3] = ["origin", "referer", "upgrade"];

/// Parses the first head. What follows it is the body of a token request.
pub(crate) fn head(bytes: &[u8]) {
    let end = match length(bytes, 0) {
        Ok(Some(end)) => end,
        Ok(None) => return,
        Err(refusal) => return check_refusal(&refusal),
    };
    let (bytes, body) = bytes.split_at(end);
    let mut fields = storage();
    match parse(bytes, &mut fields) {
        Ok(head) => {
            check_fields(&head);
            check_path(head.target.path);
            check_again(&head);
            check_login(&head, body);
        }
        Err(refusal) => check_refusal(&refusal),
    }
}

fn check_fields(head: &Head<'_, '_>) {
    let fields: Vec<(String, &[u8])> = head
        .fields
        .iter()
        .map(|(name, value)| (name.to_ascii_lowercase(), value))
        .collect();
    assert!(fields.len() <= MAX_FIELDS);
    let count = |name: &str| fields.iter().filter(|(other, _)| other == name).count();
    assert_eq!(count("host"), 1, "not one Host");
    assert!(count("authorization") <= 1);
    let framings = count("content-length") + count("transfer-encoding");
    assert!(framings <= 1, "two framings");
    for (name, value) in &fields {
        assert!(
            !name.is_empty() && !REFUSED.contains(&name.as_str()),
            "{name}"
        );
        assert!(!name.starts_with("sec-fetch-"), "{name}");
        let is_control = |byte: &u8| matches!(byte, 0..=8 | 10..=31 | 127);
        assert!(!value.iter().any(is_control), "a control character");
        match name.as_str() {
            "transfer-encoding" => {
                assert!(value.eq_ignore_ascii_case(b"chunked"));
                assert_eq!(head.body, BodyLength::Chunked);
            }
            "content-length" => {
                let text = str::from_utf8(value).expect("digits");
                let length: u64 = text.parse().expect("a number");
                assert!(!text.starts_with('+'));
                let expected = match length {
                    0 => BodyLength::None,
                    length => BodyLength::Length(length),
                };
                assert_eq!(head.body, expected);
            }
            _ => {}
        }
    }
    assert!(framings == 1 || head.body == BodyLength::None);
}

/// A server that decodes the path, however often, and removes path parameters finds the same segments.
fn check_path(path: &str) {
    assert!(path == TOKEN_PATH || path.starts_with("/v1/"), "{path}");
    assert!(path.bytes().all(|byte| byte.is_ascii_graphic()), "{path}");
    let mut decoded = path.as_bytes().to_vec();
    for _ in 0..3 {
        decoded = percent_encoding::percent_decode(&decoded).collect();
    }
    assert!(!decoded.contains(&0) && !decoded.contains(&b'\\'), "{path}");
    let segments = || decoded.split(|byte| *byte == b'/');
    assert_eq!(segments().count(), path.split('/').count(), "{path}");
    let mut inner = segments().skip(1).peekable();
    while let Some(segment) = inner.next() {
        assert!(!segment.is_empty() || inner.peek().is_none(), "{path}");
        let name = segment.split(|byte| *byte == b';').next();
        assert!(!matches!(name, Some(b"." | b"..")), "{path}");
    }
}

/// A head that is written again is parsed to the same.
fn check_again(head: &Head<'_, '_>) {
    let query = head.target.query.map(|query| format!("?{query}"));
    let query = query.unwrap_or_default();
    let line = format!("{} {}{query} HTTP/1.1\r\n", head.method, head.target.path);
    let mut bytes = line.into_bytes();
    for (name, value) in head.fields.iter() {
        bytes.extend_from_slice(format!("{name}: ").as_bytes());
        bytes.extend_from_slice(value);
        bytes.extend_from_slice(b"\r\n");
    }
    bytes.extend_from_slice(b"\r\n");
    // Spaces that were added may make it too long for the limit of bytes, which parsing does not check.
    let mut fields = storage();
    let again = parse(&bytes, &mut fields).expect("the same head");
    assert_eq!(again.method, head.method);
    assert_eq!(again.target, head.target);
    assert_eq!(again.body, head.body);
    assert_eq!(again.authorization, head.authorization);
    assert_eq!(again.expects_continue, head.expects_continue);
    assert_eq!(again.closes, head.closes);
    assert!(again.fields.iter().eq(head.fields.iter()));
}

fn check_login(head: &Head<'_, '_>, body: &[u8]) {
    if let Some(Ok(token)) = head.authorization.map(bearer) {
        assert!(!token.starts_with(' ') && !token.ends_with(' '));
    }
    let request = RawRequest {
        method: head.method,
        query: head.target.query,
        authorization: head.authorization,
        body,
    };
    match TokenRequest::parse(request) {
        Ok(request) => assert!(!request.app.contains(':')),
        Err(refusal) => check_refusal(&refusal),
    }
}

/// A refusal is a response that can be parsed, and never 401: without a valid head nobody has logged in.
fn check_refusal(refusal: &Refusal) {
    let message = refusal.to_string();
    assert!(!message.is_empty() && !message.contains(char::is_control));
    let delivery = Delivery {
        is_head: false,
        closes: false,
        now: UNIX_EPOCH,
    };
    let bytes = refusal.response(TOKEN_PATH, Toe(0), delivery);
    let mut fields = [httparse::EMPTY_HEADER; 16];
    let mut response = httparse::Response::new(&mut fields);
    let length = response.parse(&bytes).expect("a response").unwrap();
    let status = response.code.expect("a status");
    assert!(matches!(status, 400 | 403..=599), "{status}");
    let body = bytes.get(length..).expect("a body");
    let body: serde_json::Value = serde_json::from_slice(body).expect("JSON");
    assert_eq!(body.get("status"), Some(&status.into()));
}

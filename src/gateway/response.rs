//! A response of the server as the application receives it: which head it gets. Bytes in, bytes out.

use std::borrow::Cow;
use std::mem::MaybeUninit;

use url::Url;

use super::headers::{HeadOf, append, is_forwarded, rewritten_location};
use super::response_head::{self, MAX_FIELDS, ResponseBody, ResponseHead};

/// Tells an application that a request after this response would be sent with a newer token.
const RENEWED: &[u8] = b"Domo-Token-Renewed: 1\r\n";

/// What the head of a response depends on besides the response.
#[derive(Clone, Copy)]
pub(super) struct Rewriting<'a> {
    pub(super) upstream: &'a Url,
    /// Scheme and host by which the application reached the gateway.
    pub(super) base: &'a str,
    /// Whether the request was a HEAD request.
    pub(super) is_head: bool,
}

/// The start of a response.
#[derive(Debug)]
pub(super) struct ResponseStart {
    /// How many bytes the head had.
    pub(super) length: usize,
    pub(super) status: u16,
    pub(super) body: ResponseBody,
    /// Whether the connection to the server can carry another request after the body.
    pub(super) keeps_open: bool,
    /// The value of Content-Length.
    declared: Option<u64>,
    /// The head for the application, without what is about its connection.
    head: Vec<u8>,
}

/// What is added to the head for the application.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Additions {
    /// Whether its connection is closed afterwards.
    pub(super) closes: bool,
    /// Whether there is a newer token than that of the request.
    pub(super) is_renewed: bool,
}

impl ResponseStart {
    /// Parses the complete head at the start of `bytes`.
    ///
    /// # Errors
    ///
    /// What is wrong with it.
    pub(super) fn parse(bytes: &[u8], rewriting: Rewriting<'_>) -> Result<Self, Cow<'static, str>> {
        let mut storage = [const { MaybeUninit::uninit() }; MAX_FIELDS];
        let parsed = response_head::parse(bytes, &mut storage, rewriting.is_head)?;
        let parsed = parsed.ok_or("its head is malformed")?;
        let is_final = parsed.status >= 200;
        Ok(Self {
            length: parsed.length,
            status: parsed.status,
            body: parsed.body,
            keeps_open: parsed.keeps_open,
            declared: declared_length(&parsed),
            head: if is_final {
                forwarded_head(&parsed, rewriting)
            } else {
                Vec::new()
            },
        })
    }

    /// Replaces the body by one of that length.
    pub(super) fn set_length(&mut self, length: u64) {
        self.declared = Some(length);
        self.body = ResponseBody::Length(length);
    }

    /// Returns the complete head.
    pub(super) fn finish(self, additions: Additions) -> Vec<u8> {
        let mut head = self.head;
        if matches!(self.body, ResponseBody::Chunked | ResponseBody::UntilClose) {
            append(&mut head, "Transfer-Encoding", b"chunked");
        } else if let Some(length) = self.declared {
            append(&mut head, "Content-Length", length.to_string().as_bytes());
        }
        if additions.is_renewed {
            head.extend_from_slice(RENEWED);
        }
        if additions.closes {
            head.extend_from_slice(b"Connection: close\r\n");
        }
        head.extend_from_slice(b"\r\n");
        head
    }
}

/// Returns the value of Content-Length, which responses without a body can have, too.
fn declared_length(parsed: &ResponseHead<'_, '_>) -> Option<u64> {
    match parsed.body {
        ResponseBody::Length(length) => Some(length),
        ResponseBody::None if parsed.status != 204 => {
            let value = response_head::values(parsed.fields, "content-length").next();
            str::from_utf8(value?).ok()?.parse().ok()
        }
        ResponseBody::None | ResponseBody::Chunked | ResponseBody::UntilClose => None,
    }
}

fn forwarded_head(parsed: &ResponseHead<'_, '_>, rewriting: Rewriting<'_>) -> Vec<u8> {
    let mut head = Vec::with_capacity(parsed.length + 128);
    head.extend_from_slice(b"HTTP/1.1 ");
    head.extend_from_slice(parsed.status.to_string().as_bytes());
    head.push(b' ');
    head.extend_from_slice(parsed.reason.as_bytes());
    head.extend_from_slice(b"\r\n");
    let named: Vec<&[u8]> = response_head::values(parsed.fields, "connection").collect();
    for field in parsed.fields {
        if !is_forwarded(field.name, HeadOf::Response, &named) {
            continue;
        }
        if field.name.eq_ignore_ascii_case("location") {
            let value = rewritten_location(field.value, rewriting.upstream, rewriting.base);
            append(&mut head, field.name, &value);
        } else {
            append(&mut head, field.name, field.value);
        }
    }
    head
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head(response: &str, is_head: bool, additions: Additions) -> String {
        let upstream = Url::parse("https://api.domo.com").unwrap();
        let rewriting = Rewriting {
            upstream: &upstream,
            base: "http://localhost:8640",
            is_head,
        };
        let start = ResponseStart::parse(response.as_bytes(), rewriting).unwrap();
        String::from_utf8(start.finish(additions)).unwrap()
    }

    #[test]
    fn response_has_its_fields_and_the_framing_of_the_gateway() {
        let response = "HTTP/1.1 201 Created\r\nContent-Length: 5\r\nKeep-Alive: timeout=5\r\n\
                        Connection: keep-alive\r\nSet-Cookie: a=b\r\nETag: \"x\"\r\n\
                        Location: https://api.domo.com/v1/streams/7\r\n\r\n";
        let expected = "HTTP/1.1 201 Created\r\nETag: \"x\"\r\n\
                        Location: http://localhost:8640/v1/streams/7\r\nContent-Length: 5\r\n\r\n";
        assert_eq!(head(response, false, Additions::default()), expected);
        assert_eq!(head(response, true, Additions::default()), expected);
        let additions = Additions {
            closes: true,
            is_renewed: true,
        };
        let response = "HTTP/1.1 401 Unauthorized\r\nA: b\r\n\r\n";
        let expected = "HTTP/1.1 401 Unauthorized\r\nA: b\r\nTransfer-Encoding: chunked\r\n\
                        Domo-Token-Renewed: 1\r\nConnection: close\r\n\r\n";
        assert_eq!(head(response, false, additions), expected);
    }

    #[test]
    fn response_without_a_body_gets_no_framing() {
        let without = "HTTP/1.1 204 No Content\r\nA: b\r\n\r\n";
        assert_eq!(head(without, false, Additions::default()), without);
        let unchanged = "HTTP/1.1 304 Not Modified\r\nContent-Length: 7\r\n\r\n";
        assert_eq!(head(unchanged, false, Additions::default()), unchanged);
    }
}

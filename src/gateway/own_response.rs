//! The responses that the gateway itself gives, as bytes: tokens and errors, both JSON.

use std::time::SystemTime;

use zeroize::Zeroizing;

/// The header field that distinguishes the gateway's own responses from Domo's.
pub const MARK: &str = "Domo-Token-Gateway: 1";

/// A status code and its reason phrase.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Status(pub u16, pub &'static str);

/// How a response is sent.
#[derive(Clone, Copy, Debug)]
pub struct Delivery {
    /// Whether the request was a HEAD, whose response has no body.
    pub is_head: bool,
    /// Whether the connection ends after it.
    pub closes: bool,
    pub now: SystemTime,
}

/// Returns head and body. `fields` are additional lines of the head.
pub(super) fn response(
    status: Status,
    fields: &[String],
    body: &[u8],
    delivery: Delivery,
) -> Zeroizing<Vec<u8>> {
    let Status(code, reason) = status;
    let date = httpdate::fmt_http_date(delivery.now);
    let length = body.len();
    let mut head = format!(
        "HTTP/1.1 {code} {reason}\r\nDate: {date}\r\nContent-Type: application/json;charset=UTF-8\r\n\
         Content-Length: {length}\r\nCache-Control: no-store\r\nPragma: no-cache\r\n{MARK}\r\n"
    );
    for field in fields {
        head.push_str(field);
        head.push_str("\r\n");
    }
    if delivery.closes {
        head.push_str("Connection: close\r\n");
    }
    head.push_str("\r\n");
    let body = if delivery.is_head { &[] } else { body };
    // With all of its space, because a token in the body must not stay behind.
    let mut response = Zeroizing::new(Vec::with_capacity(head.len() + body.len()));
    response.extend_from_slice(head.as_bytes());
    response.extend_from_slice(body);
    response
}

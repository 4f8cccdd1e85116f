//! A request on its way to an API: what was decided about it, and its head for the server. Bytes in, bytes out.

use std::sync::Arc;

use domo_token_protocol::messages::TokenRequest;
use secrecy::{ExposeSecret, SecretString};
use zeroize::Zeroizing;

use super::head::Head;
use super::headers::{HeadOf, accepts_csv, append, is_forwarded};
use super::settings::App;
use super::target::Target;
use super::upload::RequestBody;
use crate::request_head::BodyLength;

/// The methods of requests that have a body in general: a server needs to know that there is none.
const WITH_BODY: [&str; 3] = ["POST", "PUT", "PATCH"];

/// A request that may be forwarded.
pub(super) struct Forwarded {
    pub(super) app: Arc<App>,
    /// The request for the token of the rule that permits it.
    pub(super) token_request: Arc<TokenRequest>,
    pub(super) method: String,
    /// The path without the query.
    pub(super) path: String,
    /// Scheme and host by which the application reached the gateway.
    pub(super) base: String,
    pub(super) body: BodyLength,
    /// Whether the application waits for the permission to send its body.
    pub(super) is_awaited: bool,
    /// Whether Domo may answer 406 instead of 401.
    accepts_csv: bool,
    /// The head for the server, without credentials and framing.
    start: Vec<u8>,
}

impl Forwarded {
    /// Builds the head for the server of `app`, with the token of `token_request`.
    pub(super) fn new(
        head: &Head<'_, '_>,
        app: Arc<App>,
        token_request: Arc<TokenRequest>,
        scheme: &str,
    ) -> Self {
        let Target { path, query } = head.target;
        let fields = &head.fields;
        let named: Vec<&[u8]> = fields.all("connection").collect();
        let mut start = Vec::with_capacity(1024);
        let mark = if query.is_some() { "?" } else { "" };
        let query = query.unwrap_or_default();
        for part in [head.method, " ", path, mark, query, " HTTP/1.1\r\n"] {
            start.extend_from_slice(part.as_bytes());
        }
        append(&mut start, "Host", app.upstream.host().as_bytes());
        for (name, value) in fields.iter() {
            if is_forwarded(name, HeadOf::Request, &named) {
                append(&mut start, name, value);
            }
        }
        let host = fields.texts("host").next().unwrap_or_default();
        Self {
            token_request,
            method: head.method.to_owned(),
            path: path.to_owned(),
            base: format!("{scheme}://{host}"),
            body: head.body,
            is_awaited: head.expects_continue,
            accepts_csv: fields.all("accept").any(accepts_csv),
            start,
            app,
        }
    }

    pub(super) fn is_head(&self) -> bool {
        self.method == "HEAD"
    }

    /// Returns whether such a response can mean that the token is not valid any more.
    pub(super) fn is_rejection(&self, status: u16) -> bool {
        status == 401 || (status == 406 && self.accepts_csv)
    }

    /// Returns whether the server is asked whether it receives the body before it is sent.
    pub(super) fn is_gated(&self, body: &RequestBody) -> bool {
        self.app.expects && matches!(body, RequestBody::Streamed { .. })
    }

    /// Returns the whole head for the server.
    pub(super) fn head(&self, token: &SecretString, body: &RequestBody) -> Zeroizing<Vec<u8>> {
        let token = token.expose_secret();
        let capacity = self.start.len() + token.len() + 128;
        let mut head = Zeroizing::new(Vec::with_capacity(capacity));
        head.extend_from_slice(&self.start);
        head.extend_from_slice(b"Authorization: Bearer ");
        head.extend_from_slice(token.as_bytes());
        head.extend_from_slice(b"\r\n");
        let length = match body {
            RequestBody::Held(bytes) => {
                let method = self.method.as_str();
                (!bytes.is_empty() || WITH_BODY.contains(&method)).then_some(bytes.len() as u64)
            }
            RequestBody::Streamed { length, .. } => {
                if length.is_none() {
                    head.extend_from_slice(b"Transfer-Encoding: chunked\r\n");
                }
                *length
            }
        };
        if let Some(length) = length {
            append(&mut head, "Content-Length", length.to_string().as_bytes());
        }
        if self.is_gated(body) {
            head.extend_from_slice(b"Expect: 100-continue\r\n");
        }
        head.extend_from_slice(b"\r\n");
        head
    }
}

//! Faults of the token endpoint and of the API.

use std::fmt;

use serde_json::Value;

/// One fault. Faults of the response's head, its body and the token can be combined by the methods that take `self`.
#[derive(Clone, Default, PartialEq)]
pub struct Fault {
    pub(crate) status: Option<u16>,
    pub(crate) headers: Vec<(&'static str, String)>,
    pub(crate) body: Option<Vec<u8>>,
    pub(crate) content_type: Option<&'static str>,
    pub(crate) flow: Flow,
    pub(crate) fields: Vec<(&'static str, Option<Value>)>,
    pub(crate) token: Option<TokenFault>,
}

/// How the response is sent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Flow {
    #[default]
    Whole,
    HangBeforeHead,
    HoldBeforeHead,
    HangInBody,
    CutBeforeHead,
    CutInBody,
}

/// When a call is rejected whose token is revoked during its upload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RejectTiming {
    /// Immediately. The rest of the body is discarded.
    DuringBody,
    /// After the whole body.
    AfterBody,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum TokenFault {
    Text(String),
    Size(usize),
    Same,
}

impl fmt::Debug for Fault {
    /// Omits the token's text that a fault may contain.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Fault")
            .field("status", &self.status)
            .field("flow", &self.flow)
            .finish_non_exhaustive()
    }
}

impl Fault {
    /// Responds with that status, and with Domo's error body unless another is set.
    #[must_use]
    pub fn status(status: u16) -> Self {
        Self {
            status: Some(status),
            ..Self::default()
        }
    }

    /// Responds with that status and an error in OAuth's form (RFC 6749 §5.2).
    #[must_use]
    pub fn oauth_error(status: u16, error: &str, description: &str) -> Self {
        let body = serde_json::json!({ "error": error, "error_description": description });
        Self::status(status).body(body.to_string())
    }

    /// Sends nothing until [`crate::Sandbox::recover`], and then closes the connection.
    #[must_use]
    pub fn hang() -> Self {
        Self::flowing(Flow::HangBeforeHead)
    }

    /// Sends the normal response after [`crate::Sandbox::recover`].
    #[must_use]
    pub fn hold() -> Self {
        Self::flowing(Flow::HoldBeforeHead)
    }

    /// Closes the connection without a response.
    #[must_use]
    pub fn cut() -> Self {
        Self::flowing(Flow::CutBeforeHead)
    }

    /// Closes the connection in the middle of the body.
    #[must_use]
    pub fn cut_in_body() -> Self {
        Self::flowing(Flow::CutInBody)
    }

    /// Responds with that status and an HTML page.
    #[must_use]
    pub fn html(status: u16) -> Self {
        let page = "<!DOCTYPE html><html><head><title>Domo</title></head><body>Sorry</body></html>";
        let mut fault = Self::status(status).body(page);
        fault.content_type = Some("text/html;charset=UTF-8");
        fault
    }

    /// Responds with 200 and an empty body.
    #[must_use]
    pub fn empty() -> Self {
        Self::status(200).body("")
    }

    /// Responds with 200 and bytes that are no JSON.
    #[must_use]
    pub fn garbage() -> Self {
        Self::status(200).body([b"{\"access_token\":".as_slice(), &[0xff, 0xfe, 0]].concat())
    }

    /// Responds with 200 and that many blanks.
    #[must_use]
    pub fn oversized(bytes: usize) -> Self {
        Self::status(200).body(vec![b' '; bytes])
    }

    /// Responds with that status and a `Location`.
    #[must_use]
    pub fn redirect(status: u16, location: &str) -> Self {
        Self::status(status).header("location", location).body("")
    }

    /// Sends another `expires_in`, of any type. The token's actual lifetime stays.
    #[must_use]
    pub fn expires_in(value: Value) -> Self {
        Self::default().field("expires_in", Some(value))
    }

    /// Omits `expires_in`.
    #[must_use]
    pub fn no_expires_in() -> Self {
        Self::default().field("expires_in", None)
    }

    /// Sends another `scope`.
    #[must_use]
    pub fn scope(scope: &str) -> Self {
        Self::default().field("scope", Some(scope.into()))
    }

    /// Omits `scope`.
    #[must_use]
    pub fn no_scope() -> Self {
        Self::default().field("scope", None)
    }

    /// Sends another `token_type`.
    #[must_use]
    pub fn token_type(kind: &str) -> Self {
        Self::default().field("token_type", Some(kind.into()))
    }

    /// Issues a token with that text.
    #[must_use]
    pub fn token(text: &str) -> Self {
        Self::with_token(TokenFault::Text(text.to_owned()))
    }

    /// Issues a token of that many bytes.
    #[must_use]
    pub fn token_size(bytes: usize) -> Self {
        Self::with_token(TokenFault::Size(bytes))
    }

    /// Issues the last token of this client and these scopes again, with its remaining lifetime.
    #[must_use]
    pub fn same_token() -> Self {
        Self::with_token(TokenFault::Same)
    }

    /// Adds the header `Retry-After`.
    #[must_use]
    pub fn retry_after(self, value: &str) -> Self {
        self.header("retry-after", value)
    }

    /// Sends nothing after half the body until [`crate::Sandbox::recover`].
    #[must_use]
    pub fn hanging(mut self) -> Self {
        self.flow = Flow::HangInBody;
        self
    }

    /// Replaces the body.
    #[must_use]
    pub fn body(mut self, body: impl Into<Vec<u8>>) -> Self {
        self.body = Some(body.into());
        self
    }

    /// Adds a header. An invalid one is omitted.
    #[must_use]
    pub fn header(mut self, name: &'static str, value: &str) -> Self {
        self.headers.push((name, value.to_owned()));
        self
    }

    fn field(mut self, name: &'static str, value: Option<Value>) -> Self {
        self.fields.push((name, value));
        self
    }

    fn flowing(flow: Flow) -> Self {
        Self {
            flow,
            ..Self::default()
        }
    }

    fn with_token(token: TokenFault) -> Self {
        Self {
            token: Some(token),
            ..Self::default()
        }
    }
}

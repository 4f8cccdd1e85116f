//! Calls of the API, and their replies.

use hyper::HeaderMap;
use hyper::header::{CONTENT_ENCODING, CONTENT_TYPE, HeaderName};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use url::form_urlencoded;

/// A call that was authorized.
pub(crate) struct Call<'a> {
    pub(crate) method: &'a str,
    /// The segments of the path after the name of the family.
    pub(crate) path: &'a [&'a str],
    pub(crate) query: &'a str,
    pub(crate) headers: &'a HeaderMap,
    pub(crate) body: &'a [u8],
}

/// A successful reply.
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) content: Content,
}

pub(crate) enum Content {
    None,
    Json(Value),
    Csv(Vec<u8>),
}

/// An error, which is sent in Domo's form.
#[derive(Debug)]
pub(crate) struct Problem {
    pub(crate) status: u16,
    pub(crate) message: String,
}

pub(crate) type Result<T = Reply> = std::result::Result<T, Problem>;

#[expect(
    clippy::unnecessary_wraps,
    reason = "each is the last expression of functions that can fail"
)]
impl Reply {
    pub(super) fn ok(body: impl Into<Value>) -> Result {
        Self::json(200, body)
    }

    pub(super) fn created(body: impl Into<Value>) -> Result {
        Self::json(201, body)
    }

    fn json(status: u16, body: impl Into<Value>) -> Result {
        Ok(Self {
            status,
            content: Content::Json(body.into()),
        })
    }

    pub(super) fn csv(body: Vec<u8>) -> Result {
        Ok(Self {
            status: 200,
            content: Content::Csv(body),
        })
    }

    pub(super) fn no_content() -> Result {
        Ok(Self {
            status: 204,
            content: Content::None,
        })
    }
}

impl Problem {
    pub(super) fn new(status: u16, message: impl Into<String>) -> Self {
        Self {
            status,
            message: message.into(),
        }
    }

    pub(super) fn bad_request(message: impl Into<String>) -> Self {
        Self::new(400, message)
    }

    pub(super) fn not_found() -> Self {
        Self::new(404, "Not Found")
    }

    pub(super) fn method_not_allowed() -> Self {
        Self::new(405, "Request method not supported")
    }

    /// Returns the error for what the sandbox does not store. Domo has no such limits.
    pub(super) fn limit(what: &str) -> Self {
        Self::new(507, format!("sandbox limit: {what}"))
    }

    pub(crate) fn too_large(limit: usize) -> Self {
        Self::new(413, format!("the body has more than {limit} bytes"))
    }
}

impl Call<'_> {
    /// Returns the first value of a parameter of the query.
    pub(super) fn parameter(&self, name: &str) -> Option<String> {
        let mut pairs = form_urlencoded::parse(self.query.as_bytes());
        pairs
            .find(|(key, _)| key == name)
            .map(|(_, value)| value.into_owned())
    }

    /// Reads the body as a JSON object.
    pub(super) fn json<T: DeserializeOwned>(&self) -> Result<T> {
        serde_json::from_slice(self.body)
            .map_err(|error| Problem::bad_request(format!("the body is invalid: {error}")))
    }

    fn header(&self, name: HeaderName) -> &str {
        let value = self.headers.get(name);
        value
            .and_then(|value| value.to_str().ok())
            .unwrap_or_default()
    }

    /// Returns whether the body is compressed, if its type is one of CSV.
    pub(super) fn is_compressed_csv(&self) -> Result<bool> {
        let content_type = self.header(CONTENT_TYPE);
        let media_type = content_type.split(';').next().unwrap_or_default().trim();
        let is_gzip = media_type.eq_ignore_ascii_case("application/gzip");
        if !is_gzip && !media_type.eq_ignore_ascii_case("text/csv") {
            return Err(Problem::new(415, "Content-Type must be text/csv"));
        }
        match self.header(CONTENT_ENCODING) {
            "" | "identity" => Ok(is_gzip),
            "gzip" => Ok(true),
            _ => Err(Problem::new(415, "Content-Encoding must be gzip")),
        }
    }

    /// Returns the page of a list that `limit` and `offset` select.
    pub(super) fn page<T>(&self, items: Vec<T>, max: usize) -> Result<Vec<T>> {
        let number = |name: &str, default: usize| match self.parameter(name).as_deref() {
            None | Some("") => Ok(default),
            Some(text) => text
                .parse()
                .map_err(|_| Problem::bad_request(format!("{name} is not a number"))),
        };
        let limit = number("limit", DEFAULT_PAGE)?.min(max);
        let offset = number("offset", 0)?;
        Ok(items.into_iter().skip(offset).take(limit).collect())
    }
}

/// The items of a list without `limit`.
const DEFAULT_PAGE: usize = 50;

/// The most items of a list, except of datasets.
pub(super) const MAX_PAGE: usize = 500;

/// Returns a value of this crate as JSON.
pub(super) fn to_json(value: &impl Serialize) -> Value {
    // The types of the API have string keys and no fallible conversions.
    serde_json::to_value(value).unwrap_or_default()
}

/// Returns the item with that id.
pub(super) fn find<T>(items: &mut [T], is_it: impl FnMut(&&mut T) -> bool) -> Result<&mut T> {
    items.iter_mut().find(is_it).ok_or_else(Problem::not_found)
}

/// Removes the items that match, of which there must be one.
pub(super) fn remove<T>(items: &mut Vec<T>, is_it: impl Fn(&T) -> bool) -> Result {
    let before = items.len();
    items.retain(|item| !is_it(item));
    if items.len() == before {
        return Err(Problem::not_found());
    }
    Reply::no_content()
}

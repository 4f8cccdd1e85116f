//! The head of a request to the gateway: what it is for, and what the gateway does not forward.

use std::mem::MaybeUninit;

use httparse::Header;

use super::error::Refusal;
use super::target::Target;
use crate::request_head::{self, BodyLength, Fields, ForwardedFields, RequestHead};

/// The longest head, in bytes.
pub const MAX_HEAD: usize = 64 * 1024;

/// The most header fields.
pub const MAX_FIELDS: usize = 128;

/// Methods whose response repeats the request, and with it Domo's token.
const ECHOING: [&str; 2] = ["TRACE", "TRACK"];

/// The methods of Domo's API.
const METHODS: &str = "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS";

/// Where the header fields of a head are put.
pub type Storage<'a> = [MaybeUninit<Header<'a>>; MAX_FIELDS];

/// Returns an empty storage.
#[must_use]
pub const fn storage<'a>() -> Storage<'a> {
    [const { MaybeUninit::uninit() }; MAX_FIELDS]
}

/// A head that may be forwarded.
#[derive(Debug)]
pub struct Head<'h, 'a> {
    pub method: &'a str,
    pub target: Target<'a>,
    pub body: BodyLength,
    /// The value of `Authorization`.
    pub authorization: Option<&'a [u8]>,
    /// Whether the application waits for a 100 before it sends the body.
    pub expects_continue: bool,
    /// Whether the application closes the connection after this request.
    pub closes: bool,
    /// All fields, also those that are not forwarded.
    pub fields: Fields<'h, 'a>,
}

/// Returns the length of the head at the start of `bytes`, once it is complete. Of these bytes, `seen` were searched
/// before.
///
/// # Errors
///
/// [`Refusal::Head`] if it is longer than [`MAX_HEAD`].
pub fn length(bytes: &[u8], seen: usize) -> Result<Option<usize>, Refusal> {
    request_head::length(bytes, seen, MAX_HEAD).map_err(Refusal::Head)
}

/// Parses a complete head.
///
/// # Errors
///
/// [`Refusal`]: what is wrong with it, or not forwarded.
pub fn parse<'h, 'a>(
    bytes: &'a [u8],
    storage: &'h mut Storage<'a>,
) -> Result<Head<'h, 'a>, Refusal> {
    let RequestHead {
        method,
        target,
        body,
        fields,
    } = request_head::parse(bytes, storage, ForwardedFields::Accept).map_err(Refusal::Head)?;
    if body == BodyLength::Chunked && !fields.is_only_chunked() {
        return Err(Refusal::TransferCoding);
    }
    let target = Target::parse(target).map_err(Refusal::Target)?;
    if fields.all("upgrade").next().is_some() {
        return Err(Refusal::Invalid("the gateway does not forward Upgrade"));
    }
    let mut logins = fields.all("authorization");
    let authorization = logins.next();
    if logins.next().is_some() {
        return Err(Refusal::Invalid("more than one Authorization"));
    }
    if ECHOING
        .iter()
        .any(|echoing| method.eq_ignore_ascii_case(echoing))
    {
        return Err(Refusal::Method { allow: METHODS });
    }
    Ok(Head {
        method,
        target,
        body,
        authorization,
        expects_continue: expects_continue(fields)?,
        closes: fields.closes(),
        fields,
    })
}

/// Returns whether there is `Expect: 100-continue`, and rejects other expectations (RFC 9110 §10.1.1).
fn expects_continue(fields: Fields<'_, '_>) -> Result<bool, Refusal> {
    let mut expected = false;
    for value in fields.all("expect") {
        if !value.eq_ignore_ascii_case(b"100-continue") {
            return Err(Refusal::Expectation);
        }
        expected = true;
    }
    Ok(expected)
}

#[cfg(all(unix, any(test, fuzzing)))]
pub(crate) mod fuzzing;
#[cfg(test)]
mod tests;

//! Parses the head of a response, and decides where its body ends (RFC 9112 §6.3). Bytes in, values out.

use std::borrow::Cow;
use std::mem::MaybeUninit;

use httparse::{Header, ParserConfig};

/// The longest head of a response, in bytes.
pub(super) const MAX_HEAD: usize = 64 * 1024 - 1024;

/// The most header fields of a response.
pub(super) const MAX_FIELDS: usize = 256;

/// Where header fields are put.
pub(super) type Storage<'a> = [MaybeUninit<Header<'a>>; MAX_FIELDS];

/// The head of a response.
#[derive(Debug)]
pub(super) struct ResponseHead<'h, 'a> {
    /// How many bytes it has.
    pub(super) length: usize,
    pub(super) status: u16,
    pub(super) reason: &'a str,
    pub(super) fields: &'h [Header<'a>],
    pub(super) body: ResponseBody,
    /// Whether the connection can carry another request after the body.
    pub(super) keeps_open: bool,
}

/// Where the body of a response ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ResponseBody {
    /// There is none.
    None,
    /// After so many bytes.
    Length(u64),
    /// The body itself shows its end.
    Chunked,
    /// Where the connection ends.
    UntilClose,
}

/// Returns an informational or final head at the start of `bytes`, once it is complete. The request was a HEAD request
/// if `is_head`.
///
/// # Errors
///
/// What is wrong with it.
pub(super) fn parse<'h, 'a>(
    bytes: &'a [u8],
    storage: &'h mut Storage<'a>,
    is_head: bool,
) -> Result<Option<ResponseHead<'h, 'a>>, Cow<'static, str>> {
    let mut response = httparse::Response::new(&mut []);
    let parsed =
        ParserConfig::default().parse_response_with_uninit_headers(&mut response, bytes, storage);
    let length = match parsed {
        Ok(httparse::Status::Complete(length)) => length,
        Ok(httparse::Status::Partial) if bytes.len() >= MAX_HEAD => {
            return Err(format!("its head exceeds {MAX_HEAD} bytes").into());
        }
        Ok(httparse::Status::Partial) => return Ok(None),
        Err(httparse::Error::TooManyHeaders) => {
            return Err(format!("its head exceeds {MAX_FIELDS} header fields").into());
        }
        Err(error) => return Err(format!("its head is malformed: {error}").into()),
    };
    let (Some(status), Some(version)) = (response.code, response.version) else {
        return Err("its head is malformed".into());
    };
    let fields: &'h [Header<'a>] = response.headers;
    let body = body(fields, status, is_head)?;
    let keeps_open = version == 1 && body != ResponseBody::UntilClose && !closes(fields);
    Ok(Some(ResponseHead {
        length,
        status,
        reason: response.reason.unwrap_or_default(),
        fields,
        body,
        keeps_open,
    }))
}

/// Returns the values of the fields with this name.
pub(super) fn values<'a>(fields: &[Header<'a>], name: &str) -> impl Iterator<Item = &'a [u8]> {
    let named = fields
        .iter()
        .filter(move |field| field.name.eq_ignore_ascii_case(name));
    named.map(|field| field.value)
}

fn body(
    fields: &[Header<'_>],
    status: u16,
    is_head: bool,
) -> Result<ResponseBody, Cow<'static, str>> {
    if is_head || status < 200 || matches!(status, 204 | 304) {
        return Ok(ResponseBody::None);
    }
    let mut lengths = values(fields, "content-length");
    let length = lengths.next();
    let mut codings = values(fields, "transfer-encoding");
    if let Some(coding) = codings.next() {
        if length.is_some() {
            return Err("it has both Content-Length and Transfer-Encoding".into());
        }
        if !coding.eq_ignore_ascii_case(b"chunked") || codings.next().is_some() {
            return Err("its Transfer-Encoding is not supported".into());
        }
        return Ok(ResponseBody::Chunked);
    }
    let Some(length) = length else {
        return Ok(ResponseBody::UntilClose);
    };
    if lengths.any(|other| other != length) {
        return Err("it has two different Content-Length".into());
    }
    // Not by FromStr alone, which accepts a plus sign.
    let is_number = !length.is_empty() && length.iter().all(u8::is_ascii_digit);
    let number = str::from_utf8(length).ok().filter(|_| is_number);
    match number.and_then(|number| number.parse().ok()) {
        Some(0) => Ok(ResponseBody::None),
        Some(length) => Ok(ResponseBody::Length(length)),
        None => Err("its Content-Length is malformed".into()),
    }
}

fn closes(fields: &[Header<'_>]) -> bool {
    let options = values(fields, "connection").filter_map(|value| str::from_utf8(value).ok());
    options
        .flat_map(|value| value.split(','))
        .any(|option| option.trim().eq_ignore_ascii_case("close"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn framing(head: &str, is_head: bool) -> Result<(ResponseBody, bool), String> {
        let mut storage = [const { MaybeUninit::uninit() }; MAX_FIELDS];
        let head = parse(head.as_bytes(), &mut storage, is_head).map_err(Cow::into_owned)?;
        let head = head.ok_or("incomplete")?;
        Ok((head.body, head.keeps_open))
    }

    #[test]
    fn body_ends_where_the_head_says() {
        let cases = [
            ("Content-Length: 5\r\n", ResponseBody::Length(5), true),
            ("Content-Length: 0\r\n", ResponseBody::None, true),
            (
                "Content-Length: 5\r\ncontent-length: 5\r\nConnection: x, Close\r\n",
                ResponseBody::Length(5),
                false,
            ),
            (
                "Transfer-Encoding: chunked\r\n",
                ResponseBody::Chunked,
                true,
            ),
            ("", ResponseBody::UntilClose, false),
        ];
        for (fields, body, keeps_open) in cases {
            let head = format!("HTTP/1.1 200 OK\r\n{fields}\r\n");
            assert_eq!(framing(&head, false), Ok((body, keeps_open)), "{fields}");
            let without = (ResponseBody::None, !fields.contains("Close"));
            assert_eq!(framing(&head, true), Ok(without), "{fields}");
        }
        for status in ["100 Continue", "204 No Content", "304 Not Modified"] {
            let head = format!("HTTP/1.1 {status}\r\nContent-Length: 7\r\n\r\n");
            assert_eq!(framing(&head, false), Ok((ResponseBody::None, true)));
        }
        let old = "HTTP/1.0 200 OK\r\nContent-Length: 5\r\n\r\n";
        assert_eq!(framing(old, false), Ok((ResponseBody::Length(5), false)));
    }

    #[test]
    fn ambiguous_head_is_rejected() {
        let cases = [
            "Content-Length: 5\r\nContent-Length: 6\r\n",
            "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n",
            "Transfer-Encoding: gzip, chunked\r\n",
            "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n",
            "Content-Length: +5\r\n",
            "Content-Length: \r\n",
            "Content-Length: 99999999999999999999\r\n",
            "A: b\r\n c: d\r\n",
            "A b\r\n",
        ];
        for fields in cases {
            let head = format!("HTTP/1.1 200 OK\r\n{fields}\r\n");
            assert!(framing(&head, false).is_err(), "{fields}");
        }
        assert!(framing("SSH-2.0-OpenSSH\r\n\r\n", false).is_err());
        let long = format!("HTTP/1.1 200 OK\r\nA: {}", "a".repeat(MAX_HEAD));
        assert_ne!(framing(&long, false), Err("incomplete".to_owned()));
    }

    #[test]
    fn incomplete_head_is_none() {
        let head = "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n";
        for end in 0..head.len() {
            let error = framing(&head[..end], false);
            assert_eq!(error, Err("incomplete".to_owned()), "{end}");
        }
    }
}

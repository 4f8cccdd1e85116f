//! Frames: messages as bytes.
//!
//! A frame is a `u32` little-endian length and that many bytes of bincode. Nothing here performs I/O.

use bincode::config::{self, Configuration, Limit, LittleEndian, Varint};
use bincode::enc::write::SizeWriter;
use serde::Serialize;
use serde::de::DeserializeOwned;
use zeroize::Zeroizing;

/// The longest body a frame may have, in bytes.
pub const MAX_BODY: usize = 64 * 1024;

/// The longest body of a request, in bytes. The longest valid request has fewer than 1200: a scope set
/// has at most [`crate::scope::MAX_SCOPE_BYTES`], a client's name in a config at most 64.
pub const MAX_REQUEST: usize = 4 * 1024;

/// The bytes of the length before each body.
pub const HEAD: usize = 4;

/// Why bytes are not a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FrameError {
    /// The four bytes are not a hello.
    #[error("the peer does not speak domo-token's protocol")]
    NotHello,
    /// The announced or encoded body is longer than [`MAX_BODY`].
    #[error("a frame of {0} bytes exceeds the limit of {MAX_BODY}")]
    TooLong(usize),
    /// The announced or encoded body of a request is longer than [`MAX_REQUEST`].
    #[error("a request of {0} bytes exceeds the limit of {MAX_REQUEST}; use a shorter client name")]
    RequestTooLong(usize),
    /// The body is not a message of this protocol version, or bytes follow the message.
    #[error("the frame is not a message of this protocol version")]
    Malformed,
}

/// Encodes a frame, head and body. The buffer has exactly the frame's size and is wiped when dropped, so that no copy
/// of a token remains.
///
/// # Errors
///
/// [`FrameError::TooLong`] if the body is over [`MAX_BODY`].
pub fn encode<T: Serialize>(message: &T) -> Result<Zeroizing<Vec<u8>>, FrameError> {
    let mut size = SizeWriter::default();
    bincode::serde::encode_into_writer(message, &mut size, encoding())
        .map_err(|_| FrameError::Malformed)?;
    let length = size.bytes_written;
    let head = u32::try_from(length).map_err(|_| FrameError::TooLong(length))?;
    if length > MAX_BODY {
        return Err(FrameError::TooLong(length));
    }
    let mut frame = Zeroizing::new(vec![0; HEAD + length]);
    let (start, body) = frame.split_at_mut(HEAD);
    start.copy_from_slice(&head.to_le_bytes());
    bincode::serde::encode_into_slice(message, body, encoding())
        .map_err(|_| FrameError::Malformed)?;
    Ok(frame)
}

/// Encodes a request as [`encode`] does.
///
/// # Errors
///
/// [`FrameError::RequestTooLong`] if the body is over [`MAX_REQUEST`].
pub fn encode_request<T: Serialize>(request: &T) -> Result<Zeroizing<Vec<u8>>, FrameError> {
    let frame = encode(request).map_err(|error| match error {
        FrameError::TooLong(length) => FrameError::RequestTooLong(length),
        FrameError::NotHello | FrameError::RequestTooLong(_) | FrameError::Malformed => error,
    })?;
    let length = frame.len() - HEAD;
    if length > MAX_REQUEST {
        return Err(FrameError::RequestTooLong(length));
    }
    Ok(frame)
}

/// Returns the length of the body that follows `head`.
///
/// # Errors
///
/// [`FrameError::TooLong`], before anything is allocated for it.
pub fn body_length(head: [u8; HEAD]) -> Result<usize, FrameError> {
    let length = usize::try_from(u32::from_le_bytes(head)).unwrap_or(usize::MAX);
    if length > MAX_BODY {
        return Err(FrameError::TooLong(length));
    }
    Ok(length)
}

/// Decodes a body.
///
/// # Errors
///
/// [`FrameError::Malformed`] if it is not exactly one message.
pub fn decode<T: DeserializeOwned>(body: &[u8]) -> Result<T, FrameError> {
    let (message, used) =
        bincode::serde::decode_from_slice(body, decoding()).map_err(|_| FrameError::Malformed)?;
    if used == body.len() {
        Ok(message)
    } else {
        Err(FrameError::Malformed)
    }
}

/// Returns the body of the frame at the start of `bytes`, and the length of the frame; `None` while more bytes are
/// needed.
///
/// # Errors
///
/// [`FrameError::TooLong`] as soon as the head is complete.
pub fn split(bytes: &[u8]) -> Result<Option<(&[u8], usize)>, FrameError> {
    let Some((head, rest)) = bytes.split_first_chunk::<HEAD>() else {
        return Ok(None);
    };
    let length = body_length(*head)?;
    Ok(rest.get(..length).map(|body| (body, HEAD + length)))
}

/// Returns the request at the start of `bytes`, as [`split`] does.
///
/// # Errors
///
/// [`FrameError::RequestTooLong`] as soon as the head announces more than [`MAX_REQUEST`].
pub fn split_request(bytes: &[u8]) -> Result<Option<(&[u8], usize)>, FrameError> {
    if let Some(head) = bytes.first_chunk::<HEAD>() {
        let length = usize::try_from(u32::from_le_bytes(*head)).unwrap_or(usize::MAX);
        if length > MAX_REQUEST {
            return Err(FrameError::RequestTooLong(length));
        }
    }
    split(bytes)
}

type Encoding = Configuration<LittleEndian, Varint>;

fn encoding() -> Encoding {
    config::standard()
}

/// Without a limit, bincode would allocate a length that a few bytes announce, which aborts the process.
fn decoding() -> Configuration<LittleEndian, Varint, Limit<MAX_BODY>> {
    config::standard().with_limit::<MAX_BODY>()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::BootTime;
    use crate::messages::{Response, TokenAnswer, TokenText};

    fn answer(text: &str) -> Response {
        Response::Token(TokenAnswer {
            access_token: TokenText::new(text.to_owned()),
            client: "acme".to_owned(),
            scope: "data".to_owned(),
            generation: 7,
            lifetime_ms: 1000,
            expires: BootTime::from_millis(1),
        })
    }

    #[test]
    fn token_answer_with_shell_characters_is_malformed() {
        for text in ["x;id>f", "a\"b\\c$(id)`id`", "a b", "a\nb", "", "=", "a=b"] {
            let frame = encode(&answer(text)).unwrap();
            let read = decode::<Response>(&frame[HEAD..]);
            assert_eq!(read, Err(FrameError::Malformed), "{text:?}");
        }
        for text in ["eyJh.e30.c2ln-_~+/", "YQ=="] {
            let frame = encode(&answer(text)).unwrap();
            assert_eq!(decode::<Response>(&frame[HEAD..]), Ok(answer(text)));
        }
    }

    #[test]
    fn message_is_unchanged_by_encoding_and_decoding() {
        let frame = encode(&("data", 7_u64)).unwrap();
        let (body, used) = split(&frame).unwrap().unwrap();
        assert_eq!(used, frame.len());
        assert_eq!(decode::<(String, u64)>(body), Ok(("data".to_owned(), 7)));
    }

    #[test]
    fn frame_is_complete_only_with_its_last_byte() {
        let frame = encode(&"data").unwrap();
        for cut in 0..frame.len() {
            assert_eq!(split(&frame[..cut]), Ok(None), "cut at {cut}");
        }
    }

    #[test]
    fn announced_length_over_the_limit_is_an_error_before_the_body() {
        for length in [MAX_BODY + 1, u32::MAX as usize] {
            let head = u32::try_from(length).unwrap().to_le_bytes();
            assert_eq!(split(&head), Err(FrameError::TooLong(length)));
        }
        let longest = u32::try_from(MAX_BODY).unwrap().to_le_bytes();
        assert_eq!(split(&longest), Ok(None));
    }

    #[test]
    fn body_over_the_limit_is_not_encoded() {
        let text = "x".repeat(MAX_BODY);
        assert!(matches!(encode(&text), Err(FrameError::TooLong(_))));
    }

    #[test]
    fn body_of_exactly_the_limit_is_encoded() {
        assert_eq!(MAX_BODY, 65_536, "as in the protocol");
        // Three bytes are the text's length.
        let text = "x".repeat(MAX_BODY - 3);
        assert_eq!(encode(&text).unwrap().len(), HEAD + MAX_BODY);
    }

    #[test]
    fn request_over_4_kib_is_neither_encoded_nor_awaited() {
        assert_eq!(MAX_REQUEST, 4096, "as in the protocol");
        let text = |body: usize| "x".repeat(body - 3);
        assert_eq!(
            encode_request(&text(MAX_REQUEST)).unwrap().len(),
            HEAD + MAX_REQUEST
        );
        for length in [MAX_REQUEST + 1, MAX_BODY, MAX_BODY + 1] {
            let result = encode_request(&text(length));
            assert_eq!(result, Err(FrameError::RequestTooLong(length)));
        }
        let head = |length: usize| u32::try_from(length).unwrap().to_le_bytes();
        assert_eq!(split_request(&head(MAX_REQUEST)), Ok(None));
        for length in [MAX_REQUEST + 1, u32::MAX as usize] {
            let head = head(length);
            let result = split_request(&head);
            assert_eq!(result, Err(FrameError::RequestTooLong(length)));
        }
    }

    #[test]
    fn longest_valid_request_fits_4_kib() {
        use crate::messages::{Renew, Request, TokenRequest, TokenSubject};
        use crate::scope::MAX_SCOPE_BYTES;
        let longest = Request::Token(TokenRequest {
            subject: TokenSubject {
                client: Some("c".repeat(64)),
                scope: "s".repeat(MAX_SCOPE_BYTES),
            },
            min_ttl_ms: Some(u64::MAX),
            time_left_ms: u64::MAX,
            renew: Some(Renew::Rejected(u64::MAX)),
        });
        assert!(encode_request(&longest).unwrap().len() < 1200);
    }

    #[test]
    fn bytes_left_over_and_bytes_missing_are_malformed() {
        assert_eq!(decode::<u8>(&[1, 2]), Err(FrameError::Malformed));
        assert_eq!(decode::<u8>(&[]), Err(FrameError::Malformed));
    }

    #[test]
    fn length_inside_a_body_causes_no_allocation() {
        let huge = [253, 255, 255, 255, 255, 255, 255, 255, 127];
        assert_eq!(decode::<String>(&huge), Err(FrameError::Malformed));
        assert_eq!(decode::<Vec<u64>>(&huge), Err(FrameError::Malformed));
    }
}

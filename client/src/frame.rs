//! Frames: what goes over the socket, as bytes.
//!
//! A frame is a `u32` little-endian length and that many bytes of bincode. Each side starts with
//! four bytes of hello, [`hello`]. Nothing here reads or writes: bytes in, messages out.

use bincode::config::{self, Configuration, Limit, LittleEndian, Varint};
use bincode::enc::write::SizeWriter;
use serde::Serialize;
use serde::de::DeserializeOwned;
use zeroize::Zeroizing;

/// The longest body a frame may have, in bytes.
pub const MAX_BODY: usize = 64 * 1024;

/// Bytes of the length before each body.
pub const HEAD: usize = 4;

/// Bytes of a hello.
pub const HELLO: usize = 4;

const MAGIC: [u8; 3] = *b"DTK";

/// Why bytes aren't a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FrameError {
    /// The four bytes aren't a hello.
    #[error("the other side doesn't speak domo-token's protocol")]
    NotHello,
    /// The announced or encoded body is longer than [`MAX_BODY`].
    #[error("a frame of {0} bytes is over the limit of {MAX_BODY}")]
    TooLong(usize),
    /// The body isn't a message of this protocol version, or has bytes left over.
    #[error("a frame that isn't a message of this protocol version")]
    Malformed,
}

/// The four bytes each side sends first: `DTK` and a protocol version.
#[must_use]
pub const fn hello(version: u8) -> [u8; HELLO] {
    [MAGIC[0], MAGIC[1], MAGIC[2], version]
}

/// Reads a hello and gives its version.
///
/// # Errors
///
/// [`FrameError::NotHello`] if the bytes don't start with `DTK`.
pub fn hello_version(bytes: [u8; HELLO]) -> Result<u8, FrameError> {
    let [a, b, c, version] = bytes;
    if [a, b, c] == MAGIC {
        Ok(version)
    } else {
        Err(FrameError::NotHello)
    }
}

/// Encodes a whole frame, head and body. The buffer has exactly the frame's size and is wiped when
/// dropped, so a token in it leaves no copy behind.
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

/// The length of the body that follows `head`.
///
/// # Errors
///
/// [`FrameError::TooLong`] before anything is allocated for it.
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
/// [`FrameError::Malformed`] if it isn't exactly one message.
pub fn decode<T: DeserializeOwned>(body: &[u8]) -> Result<T, FrameError> {
    let (message, used) =
        bincode::serde::decode_from_slice(body, decoding()).map_err(|_| FrameError::Malformed)?;
    if used == body.len() {
        Ok(message)
    } else {
        Err(FrameError::Malformed)
    }
}

/// The first whole frame at the start of `bytes`: its body, and how many bytes it takes with its
/// head. `None` while more bytes are needed.
///
/// # Errors
///
/// [`FrameError::TooLong`] as soon as the head says so.
pub fn split(bytes: &[u8]) -> Result<Option<(&[u8], usize)>, FrameError> {
    let Some((head, rest)) = bytes.split_first_chunk::<HEAD>() else {
        return Ok(None);
    };
    let length = body_length(*head)?;
    Ok(rest.get(..length).map(|body| (body, HEAD + length)))
}

type Encoding = Configuration<LittleEndian, Varint>;

fn encoding() -> Encoding {
    config::standard()
}

/// Without a limit an announced length of a few bytes makes bincode allocate until the process is
/// aborted.
fn decoding() -> Configuration<LittleEndian, Varint, Limit<MAX_BODY>> {
    config::standard().with_limit::<MAX_BODY>()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_comes_back_as_it_went() {
        let frame = encode(&("data", 7_u64)).unwrap();
        let (body, used) = split(&frame).unwrap().unwrap();
        assert_eq!(used, frame.len());
        assert_eq!(decode::<(String, u64)>(body), Ok(("data".to_owned(), 7)));
    }

    #[test]
    fn a_frame_is_complete_only_with_its_last_byte() {
        let frame = encode(&"data").unwrap();
        for cut in 0..frame.len() {
            assert_eq!(split(&frame[..cut]), Ok(None), "cut at {cut}");
        }
    }

    #[test]
    fn an_announced_length_over_the_limit_is_refused_at_its_head() {
        for length in [MAX_BODY + 1, u32::MAX as usize] {
            let head = u32::try_from(length).unwrap().to_le_bytes();
            assert_eq!(split(&head), Err(FrameError::TooLong(length)));
        }
        let longest = u32::try_from(MAX_BODY).unwrap().to_le_bytes();
        assert_eq!(split(&longest), Ok(None));
    }

    #[test]
    fn a_body_over_the_limit_is_not_encoded() {
        let text = "x".repeat(MAX_BODY);
        assert!(matches!(encode(&text), Err(FrameError::TooLong(_))));
    }

    #[test]
    fn a_body_of_just_the_limit_is_encoded() {
        assert_eq!(MAX_BODY, 65_536, "the protocol says so");
        // Three bytes tell the text's length.
        let text = "x".repeat(MAX_BODY - 3);
        assert_eq!(encode(&text).unwrap().len(), HEAD + MAX_BODY);
    }

    #[test]
    fn bytes_left_over_and_bytes_missing_are_malformed() {
        assert_eq!(decode::<u8>(&[1, 2]), Err(FrameError::Malformed));
        assert_eq!(decode::<u8>(&[]), Err(FrameError::Malformed));
    }

    #[test]
    fn a_length_inside_a_body_can_not_make_it_allocate() {
        let huge = [253, 255, 255, 255, 255, 255, 255, 255, 127];
        assert_eq!(decode::<String>(&huge), Err(FrameError::Malformed));
        assert_eq!(decode::<Vec<u64>>(&huge), Err(FrameError::Malformed));
    }

    #[test]
    fn hello_carries_its_version() {
        assert_eq!(hello_version(hello(9)), Ok(9));
        assert_eq!(hello_version(*b"GET "), Err(FrameError::NotHello));
    }
}

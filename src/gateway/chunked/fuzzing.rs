//! Entry point for fuzzers: bodies in chunks, against a decoder that has the whole body.

#![allow(clippy::expect_used, reason = "a panic is how a finding is reported")]

use super::{ChunkError, ChunkHead, Decoder, LAST_CHUNK, MAX_SIZE_LINE, MAX_TRAILERS};

/// What a body is: its content, and how many bytes it has if it ends.
type Body = (Vec<u8>, Option<usize>);

/// Decodes the bytes after the first one, whole and in pieces whose length is the first one, and compares the results
/// with each other and with those of a simple decoder.
pub(crate) fn body(bytes: &[u8]) {
    let Some((length, bytes)) = bytes.split_first() else {
        return;
    };
    let whole = decode([bytes].into_iter());
    let length = usize::from(*length).max(1);
    assert_eq!(decode(bytes.chunks(length)), whole, "it depends on pieces");
    assert_eq!(decode(bytes.chunks(1)), whole, "it depends on pieces");
    match (whole, simple(bytes)) {
        (Ok(whole), Some(simple)) => {
            assert_eq!(whole, simple);
            encoded_again(&whole.0);
        }
        (Err(_), None) => {}
        (whole, simple) => unreachable!("{whole:?} is not {simple:?}"),
    }
}

fn decode<'a>(pieces: impl Iterator<Item = &'a [u8]>) -> Result<Body, ChunkError> {
    let mut decoder = Decoder::new();
    let (mut content, mut used) = (Vec::new(), 0);
    for mut piece in pieces {
        while !piece.is_empty() {
            let step = decoder.step(piece)?;
            let end = step.skip + step.data;
            let data = piece.get(step.skip..end).expect("no more than there is");
            content.extend_from_slice(data);
            used += end;
            assert_eq!(step.is_end, decoder.is_end());
            if step.is_end {
                assert_eq!(step.data, 0, "content at the end");
                return Ok((content, Some(used)));
            }
            assert!(step.data > 0 || end == piece.len(), "no progress");
            piece = piece.get(end..).unwrap_or_default();
        }
    }
    Ok((content, None))
}

/// Decodes a body by its lines; `None` if it is invalid.
fn simple(bytes: &[u8]) -> Option<Body> {
    let (mut content, mut rest) = (Vec::new(), bytes);
    loop {
        let (line, after) = match line(rest, MAX_SIZE_LINE)? {
            Ok(line) => line,
            Err(part) => return is_size_start(part).then_some((content, None)),
        };
        let size = size(line)?;
        rest = after;
        if size == 0 {
            break;
        }
        let available = u64::try_from(rest.len()).ok()?;
        if size >= available {
            content.extend_from_slice(rest);
            return Some((content, None));
        }
        let (data, end) = rest.split_at(usize::try_from(size).ok()?);
        content.extend_from_slice(data);
        match end.strip_prefix(b"\r\n") {
            Some(after) => rest = after,
            None => return (end == b"\r").then_some((content, None)),
        }
    }
    let mut left = MAX_TRAILERS;
    loop {
        match line(rest, left)? {
            Ok((trailer, after)) => {
                left -= trailer.len() + 2;
                rest = after;
                if trailer.is_empty() {
                    return Some((content, Some(bytes.len() - rest.len())));
                }
            }
            Err(_) => return Some((content, None)),
        }
    }
}

/// Returns the first line and what follows it, or the start of a line; `None` if it is invalid or longer than `max`.
#[expect(clippy::type_complexity, reason = "used here only")]
fn line(bytes: &[u8], max: usize) -> Option<Result<(&[u8], &[u8]), &[u8]>> {
    let is_control = |byte: &u8| byte.is_ascii_control() && *byte != b'\t';
    let end = bytes.iter().position(is_control).unwrap_or(bytes.len());
    let (text, rest) = bytes.split_at(end);
    let used = end + rest.len().min(2);
    match rest {
        [] | [b'\r'] if used <= max => Some(Err(bytes)),
        [b'\r', b'\n', rest @ ..] if used <= max => Some(Ok((text, rest))),
        _ => None,
    }
}

/// Returns the size in a line. Spaces may follow it only before an extension.
fn size(line: &[u8]) -> Option<u64> {
    match line.iter().position(|byte| *byte == b';') {
        Some(end) => digits(line.get(..end)?.trim_ascii_end()),
        None => digits(line),
    }
}

fn digits(text: &[u8]) -> Option<u64> {
    let text = str::from_utf8(text).ok()?;
    let is_hex = !text.is_empty() && text.bytes().all(|digit| digit.is_ascii_hexdigit());
    match (is_hex, text.trim_start_matches('0')) {
        (false, _) => None,
        (true, "") => Some(0),
        (true, digits) => u64::from_str_radix(digits, 16).ok(),
    }
}

/// Returns whether an unfinished line can become one with a size.
fn is_size_start(part: &[u8]) -> bool {
    let is_ended = part.ends_with(b"\r");
    let text = part.strip_suffix(b"\r").unwrap_or(part);
    let with_extension = [text, b";"].concat();
    let line = if is_ended { text } else { &with_extension };
    part.is_empty() || size(line).is_some()
}

/// A body that is encoded is decoded to the same.
fn encoded_again(content: &[u8]) {
    let mut encoded = Vec::new();
    if !content.is_empty() {
        encoded.extend_from_slice(ChunkHead::new(content.len()).as_bytes());
        encoded.extend_from_slice(content);
        encoded.extend_from_slice(super::CHUNK_END);
    }
    encoded.extend_from_slice(LAST_CHUNK);
    let decoded = decode([&encoded[..]].into_iter());
    assert_eq!(decoded, Ok((content.to_vec(), Some(encoded.len()))));
}

//! Decodes and encodes the transfer coding `chunked` (RFC 9112 §7.1), a slice at a time and without copies.
//!
//! Extensions and trailers are dropped. What two programs could read differently is an error, first of all a line that
//! does not end with CR and LF.

use std::fmt;

/// The longest line with the size of a chunk, in bytes, its end included.
const MAX_SIZE_LINE: usize = 4 * 1024;

/// The most bytes of all trailers together.
const MAX_TRAILERS: usize = 8 * 1024;

/// What ends a chunk.
pub const CHUNK_END: &[u8] = b"\r\n";

/// What ends a body, without trailers.
pub const LAST_CHUNK: &[u8] = b"0\r\n\r\n";

/// Why a body is invalid. Where the next request begins is then unknown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChunkError {
    /// A chunk does not begin with its size, or the size has more than 64 bits.
    Size,
    /// The line with the size is too long.
    LongSizeLine,
    /// A line does not end with CR and LF, or contains a control character.
    Line,
    /// A chunk is longer than its size.
    ChunkEnd,
    /// The trailers are too long.
    LongTrailers,
}

impl fmt::Display for ChunkError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Size => "a chunk must begin with its size in hexadecimal digits",
            Self::LongSizeLine => "the line with the size of a chunk has at most 4 KiB",
            Self::Line => "each line of a chunked body must end with CR and LF",
            Self::ChunkEnd => "a chunk must have its size and end with CR and LF",
            Self::LongTrailers => "the trailers of a body have at most 8 KiB",
        })
    }
}

/// What a slice begins with.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Step {
    /// The bytes at its start that are no content.
    pub skip: usize,
    /// The bytes after these that are content. If there are none and the body has not ended, the whole slice is used.
    pub data: usize,
    /// Whether the body has ended. What follows in the slice does not belong to it.
    pub is_end: bool,
}

/// Decodes one body.
#[derive(Clone, Debug)]
pub struct Decoder {
    state: State,
}

#[derive(Clone, Copy, Debug)]
enum State {
    /// In the line with a size: what it is so far, the bytes of the line, and the part of the line.
    Size {
        size: u64,
        line: usize,
        part: SizePart,
    },
    /// In a chunk: the bytes left.
    Data(u64),
    /// After a chunk, before CR.
    ChunkCr,
    /// After a chunk, before LF.
    ChunkLf,
    /// In the trailers: the bytes of all, and the part of the line.
    Trailer { all: usize, part: TrailerPart },
    /// After the body.
    End,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum SizePart {
    /// Before the first digit.
    Start,
    /// After a digit.
    Digits,
    /// In spaces after the digits, where only an extension may follow.
    Space,
    /// In an extension.
    Extension,
    /// Before LF.
    Lf,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum TrailerPart {
    /// At the start of a line.
    Start,
    /// In a line that is not empty.
    Line,
    /// Before the LF of such a line.
    Lf,
    /// Before the LF of the empty line, which is the last.
    LastLf,
}

impl Default for Decoder {
    fn default() -> Self {
        Self::new()
    }
}

impl Decoder {
    #[must_use]
    pub const fn new() -> Self {
        Self {
            state: State::Size {
                size: 0,
                line: 0,
                part: SizePart::Start,
            },
        }
    }

    /// Returns whether the body has ended.
    #[must_use]
    pub const fn is_end(&self) -> bool {
        matches!(self.state, State::End)
    }

    /// Decodes the start of `bytes`: up to the end of the first content in it, or of the body.
    ///
    /// # Errors
    ///
    /// [`ChunkError`]; the connection must then be closed.
    pub fn step(&mut self, bytes: &[u8]) -> Result<Step, ChunkError> {
        for (skip, byte) in bytes.iter().enumerate() {
            match self.state {
                State::Data(left) => return Ok(self.take(left, skip, bytes.len() - skip)),
                State::End => {
                    return Ok(Step {
                        skip,
                        data: 0,
                        is_end: true,
                    });
                }
                State::Size { size, line, part } => {
                    self.state = size_line(size, line + 1, part, *byte)?;
                }
                State::ChunkCr if *byte == b'\r' => self.state = State::ChunkLf,
                State::ChunkLf if *byte == b'\n' => self.state = Self::new().state,
                State::ChunkCr | State::ChunkLf => return Err(ChunkError::ChunkEnd),
                State::Trailer { all, part } => self.state = trailer(all + 1, part, *byte)?,
            }
        }
        Ok(Step {
            skip: bytes.len(),
            data: 0,
            is_end: self.is_end(),
        })
    }

    /// Takes content: as much of the `left` bytes as there are.
    fn take(&mut self, left: u64, skip: usize, available: usize) -> Step {
        let data = usize::try_from(left).map_or(available, |left| left.min(available));
        // A usize has at most 64 bits.
        let rest = left - data as u64;
        self.state = if rest == 0 {
            State::ChunkCr
        } else {
            State::Data(rest)
        };
        Step {
            skip,
            data,
            is_end: false,
        }
    }
}

fn size_line(size: u64, line: usize, part: SizePart, byte: u8) -> Result<State, ChunkError> {
    if line > MAX_SIZE_LINE {
        return Err(ChunkError::LongSizeLine);
    }
    let digit = char::from(byte).to_digit(16).map(u64::from);
    let (size, part) = match (part, byte, digit) {
        (SizePart::Start | SizePart::Digits, _, Some(digit)) => {
            let size = size
                .checked_mul(16)
                .and_then(|size| size.checked_add(digit));
            (size.ok_or(ChunkError::Size)?, SizePart::Digits)
        }
        (SizePart::Digits | SizePart::Extension, b'\r', _) => (size, SizePart::Lf),
        (SizePart::Digits | SizePart::Space, b' ' | b'\t', _) => (size, SizePart::Space),
        (SizePart::Digits | SizePart::Space, b';', _) => (size, SizePart::Extension),
        (SizePart::Start | SizePart::Digits | SizePart::Space, ..) => {
            return Err(ChunkError::Size);
        }
        (SizePart::Extension, _, _) if is_text(byte) => (size, SizePart::Extension),
        (SizePart::Lf, b'\n', _) if size == 0 => {
            return Ok(State::Trailer {
                all: 0,
                part: TrailerPart::Start,
            });
        }
        (SizePart::Lf, b'\n', _) => return Ok(State::Data(size)),
        (SizePart::Extension | SizePart::Lf, ..) => return Err(ChunkError::Line),
    };
    Ok(State::Size { size, line, part })
}

fn trailer(all: usize, part: TrailerPart, byte: u8) -> Result<State, ChunkError> {
    if all > MAX_TRAILERS {
        return Err(ChunkError::LongTrailers);
    }
    let part = match (part, byte) {
        (TrailerPart::Start, b'\r') => TrailerPart::LastLf,
        (TrailerPart::LastLf, b'\n') => return Ok(State::End),
        (TrailerPart::Line, b'\r') => TrailerPart::Lf,
        (TrailerPart::Lf, b'\n') => TrailerPart::Start,
        (TrailerPart::Start | TrailerPart::Line, byte) if is_text(byte) => TrailerPart::Line,
        _ => return Err(ChunkError::Line),
    };
    Ok(State::Trailer { all, part })
}

/// Returns whether a byte can be in a line: any but control characters.
fn is_text(byte: u8) -> bool {
    byte == b'\t' || (byte >= b' ' && byte != 0x7f)
}

/// The most bytes of a chunk's head: 16 digits, CR and LF.
const MAX_CHUNK_HEAD: usize = 18;

/// The line with the size of a chunk.
#[derive(Clone, Copy, Debug)]
pub struct ChunkHead {
    /// Filled from the end.
    bytes: [u8; MAX_CHUNK_HEAD],
    start: usize,
}

impl ChunkHead {
    /// Encodes the size of a chunk, which must not be empty: that would be the last one.
    #[must_use]
    pub fn new(length: usize) -> Self {
        const DIGITS: &[u8; 16] = b"0123456789abcdef";
        let mut bytes = [0; MAX_CHUNK_HEAD];
        let mut start = MAX_CHUNK_HEAD;
        let mut left = length;
        for (at, byte) in bytes.iter_mut().enumerate().rev() {
            *byte = match MAX_CHUNK_HEAD - at {
                1 => b'\n',
                2 => b'\r',
                _ => {
                    let digit = DIGITS.get(left % 16).copied().unwrap_or_default();
                    left /= 16;
                    digit
                }
            };
            start = at;
            if left == 0 && at + 2 < MAX_CHUNK_HEAD {
                break;
            }
        }
        Self { bytes, start }
    }

    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        self.bytes.get(self.start..).unwrap_or_default()
    }
}

#[cfg(all(unix, any(test, fuzzing)))]
pub(crate) mod fuzzing;
#[cfg(test)]
mod tests;

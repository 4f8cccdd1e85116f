//! Moves a body from one connection to another, with one buffer: removes its framing, and adds that of the other side.

use std::io;
use std::ops::Range;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use super::buffer::{Buffer, Link, PART};
use super::chunked::{ChunkError, Decoder};
use crate::connect::Stream;

/// How the end of a body is found.
pub(super) enum Framing {
    /// So many bytes are left.
    Length(u64),
    Chunked(Decoder),
    UntilClose,
}

/// The framing that is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Encoding {
    /// The head has the length.
    Identity,
    Chunked,
}

/// Why a body is incomplete.
#[derive(Debug)]
pub(super) enum PumpError {
    /// The sender has closed the connection, or it failed.
    Read,
    /// The framing is invalid.
    Malformed(ChunkError),
    /// The receiver has closed the connection, or it failed.
    Write(io::Error),
}

/// What a part of a body consists of.
pub(super) struct Part {
    /// Where its data is in the buffer.
    pub(super) data: Range<usize>,
    /// Whether it is the last one.
    pub(super) is_last: bool,
}

impl Framing {
    /// Removes the framing of what `buffer` contains, up to the end of the body.
    pub(super) fn decode(&mut self, buffer: &mut Buffer) -> Result<Part, PumpError> {
        match self {
            Self::Length(left) => {
                let most = usize::try_from(*left).unwrap_or(usize::MAX);
                let count = buffer.len().min(most);
                let start = buffer.range().start;
                buffer.consume(count);
                *left -= count as u64;
                Ok(Part {
                    data: start..start + count,
                    is_last: *left == 0,
                })
            }
            Self::UntilClose => {
                let data = buffer.range();
                buffer.consume(data.len());
                Ok(Part {
                    data,
                    is_last: false,
                })
            }
            Self::Chunked(decoder) => decode_chunks(decoder, buffer),
        }
    }
}

/// Moves the data of all chunks together.
fn decode_chunks(decoder: &mut Decoder, buffer: &mut Buffer) -> Result<Part, PumpError> {
    let start = buffer.range().start;
    let mut data = start..start;
    while !buffer.is_empty() && !decoder.is_end() {
        let step = decoder.step(buffer.content());
        let step = step.map_err(PumpError::Malformed)?;
        let from = buffer.range().start + step.skip;
        let count = step.data;
        if data.is_empty() {
            data = from..from + count;
        } else if count > 0 {
            buffer.copy_back(from..from + count, data.end);
            data.end += count;
        }
        buffer.consume(step.skip + count);
    }
    Ok(Part {
        data,
        is_last: decoder.is_end(),
    })
}

/// One body on its way.
pub(super) struct Pump {
    framing: Framing,
    encoding: Encoding,
    /// What is written next, in the sender's buffer.
    out: Range<usize>,
    is_complete: bool,
    is_flushed: bool,
    /// The bytes that were written.
    moved: u64,
}

impl Pump {
    pub(super) fn new(framing: Framing, encoding: Encoding) -> Self {
        Self {
            framing,
            encoding,
            out: 0..0,
            is_complete: false,
            // The head before the body was not flushed.
            is_flushed: false,
            moved: 0,
        }
    }

    /// Returns how many bytes were written so far.
    pub(super) fn moved(&self) -> u64 {
        self.moved
    }

    /// Returns whether something was read that is not written yet.
    pub(super) fn has_output(&self) -> bool {
        !self.out.is_empty()
    }

    /// Decodes what was read already, and returns what is written of it, so that it can be sent together with the head.
    /// After that [`Self::poll`] continues.
    pub(super) fn take_first(
        &mut self,
        buffer: &mut Buffer,
        on_data: &mut dyn FnMut(usize),
    ) -> Result<Range<usize>, PumpError> {
        if !buffer.is_empty() {
            self.next_part(buffer, on_data)?;
        }
        Ok(std::mem::take(&mut self.out))
    }

    /// Moves what it can. Returns once the body was sent. Calls `on_data` with the size of each part.
    pub(super) fn poll(
        &mut self,
        context: &mut Context<'_>,
        from: &mut Link,
        to: &mut dyn Stream,
        on_data: &mut dyn FnMut(usize),
    ) -> Poll<Result<(), PumpError>> {
        loop {
            ready!(self.poll_write(context, &from.buffer, to))?;
            if self.is_complete {
                ready!(Pin::new(to).poll_flush(context)).map_err(PumpError::Write)?;
                return Poll::Ready(Ok(()));
            }
            if !from.buffer.is_empty() {
                self.next_part(&mut from.buffer, on_data)?;
                continue;
            }
            let read = from.poll_fill(context);
            if read.is_pending() {
                self.flush(context, to)?;
            }
            match ready!(read) {
                Ok(0) => self.end(&mut from.buffer)?,
                Ok(_) if !from.buffer.has_room() => from.buffer.grow(PART),
                Ok(_) => {}
                // Many servers close TLS without its own end.
                Err(error)
                    if matches!(self.framing, Framing::UntilClose)
                        && error.kind() == io::ErrorKind::UnexpectedEof =>
                {
                    self.end(&mut from.buffer)?;
                }
                Err(_) => return Poll::Ready(Err(PumpError::Read)),
            }
        }
    }

    fn poll_write(
        &mut self,
        context: &mut Context<'_>,
        from: &Buffer,
        to: &mut dyn Stream,
    ) -> Poll<Result<(), PumpError>> {
        while !self.out.is_empty() {
            let bytes = from.slice(&self.out);
            let written = ready!(Pin::new(&mut *to).poll_write(context, bytes));
            match written.map_err(PumpError::Write)? {
                0 => return Poll::Ready(Err(PumpError::Write(io::ErrorKind::WriteZero.into()))),
                count => {
                    self.out.start += count;
                    self.moved += count as u64;
                }
            }
            self.is_flushed = false;
        }
        Poll::Ready(Ok(()))
    }

    /// Decodes what was read, and encodes it in place.
    fn next_part(
        &mut self,
        buffer: &mut Buffer,
        on_data: &mut dyn FnMut(usize),
    ) -> Result<(), PumpError> {
        let part = self.framing.decode(buffer)?;
        self.is_complete = part.is_last;
        on_data(part.data.len());
        self.out = match self.encoding {
            Encoding::Identity => part.data,
            Encoding::Chunked => buffer.encode_chunk(part.data, part.is_last),
        };
        Ok(())
    }

    /// Ends a body at the end of its connection.
    fn end(&mut self, buffer: &mut Buffer) -> Result<(), PumpError> {
        if !matches!(self.framing, Framing::UntilClose) {
            return Err(PumpError::Read);
        }
        self.is_complete = true;
        if self.encoding == Encoding::Chunked {
            let start = buffer.range().start;
            self.out = buffer.encode_chunk(start..start, true);
        }
        Ok(())
    }

    /// Sends what a layer such as TLS still holds, before a wait for more.
    fn flush(&mut self, context: &mut Context<'_>, to: &mut dyn Stream) -> Result<(), PumpError> {
        if !self.is_flushed
            && let Poll::Ready(flushed) = Pin::new(to).poll_flush(context)
        {
            flushed.map_err(PumpError::Write)?;
            self.is_flushed = true;
        }
        Ok(())
    }
}

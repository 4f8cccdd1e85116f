//! One end of a connection: its bytes, and what was read of them and not used yet.
//!
//! Bodies are forwarded from the buffer that they were read into. It leaves room before and after its content, where
//! the framing of a chunk is written without moving the chunk.

use std::io;
use std::ops::Range;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::ReadBuf;

use super::chunked::{CHUNK_END, ChunkHead, LAST_CHUNK};
use crate::connect::Stream;

/// The size of a buffer until a body fills it.
const SMALL: usize = 8 * 1024;

/// The largest content of a buffer.
pub(super) const LARGE: usize = 64 * 1024;

/// The largest part of a body that is moved at once. Larger ones take fewer system calls, but leave the processor's
/// cache between the read and the write.
pub(super) const PART: usize = 32 * 1024;

/// The room before the content: the longest size line of a chunk.
pub(super) const FRONT: usize = 16;

/// The room after the content: the end of a chunk, and the last chunk.
pub(super) const BACK: usize = 8;

/// A connection to an application or to the server of an API.
pub(super) struct Link {
    pub(super) stream: Box<dyn Stream>,
    pub(super) buffer: Buffer,
}

impl Link {
    pub(super) fn new(stream: Box<dyn Stream>) -> Self {
        Self {
            stream,
            buffer: Buffer::default(),
        }
    }

    /// Reads once, and returns the number of bytes; 0 at the end of the connection.
    pub(super) fn poll_fill(&mut self, context: &mut Context<'_>) -> Poll<io::Result<usize>> {
        self.buffer.poll_fill(context, &mut *self.stream)
    }

    /// Returns once the other end has closed the connection, or its direction of it. What it sends meanwhile is kept,
    /// as far as there is room.
    pub(super) fn poll_closed(&mut self, context: &mut Context<'_>) -> Poll<()> {
        while self.buffer.has_room() {
            match ready!(self.poll_fill(context)) {
                Ok(0) | Err(_) => return Poll::Ready(()),
                Ok(_) => {}
            }
        }
        Poll::Pending
    }
}

/// Bytes that were read and not used yet.
#[derive(Default)]
pub(super) struct Buffer {
    /// Empty until the first read.
    bytes: Vec<u8>,
    content: Range<usize>,
}

impl Buffer {
    pub(super) fn content(&self) -> &[u8] {
        self.bytes.get(self.content.clone()).unwrap_or_default()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.content.is_empty()
    }

    pub(super) fn len(&self) -> usize {
        self.content.len()
    }

    /// Removes bytes from the start of the content.
    pub(super) fn consume(&mut self, count: usize) {
        self.content.start = self.content.end.min(self.content.start + count);
    }

    /// Returns where the content is in [`Self::bytes`].
    pub(super) fn range(&self) -> Range<usize> {
        self.content.clone()
    }

    pub(super) fn slice(&self, range: &Range<usize>) -> &[u8] {
        self.bytes.get(range.clone()).unwrap_or_default()
    }

    /// Copies bytes that were consumed to an earlier position.
    pub(super) fn copy_back(&mut self, from: Range<usize>, to: usize) {
        self.bytes.copy_within(from, to);
    }

    /// Writes the framing of a chunk around data that was consumed: its size line before it, and after it its end, and
    /// the last chunk if `is_last`. There is room for both: the framing that the data had, or [`FRONT`] and [`BACK`].
    /// Returns where the result is.
    pub(super) fn encode_chunk(&mut self, data: Range<usize>, is_last: bool) -> Range<usize> {
        let size = ChunkHead::new(data.len());
        let size = size.as_bytes();
        let (before, after): (&[u8], &[u8]) = match (data.is_empty(), is_last) {
            (true, true) => (LAST_CHUNK, b""),
            (true, false) => return data,
            (false, true) => (size, b"\r\n0\r\n\r\n"),
            (false, false) => (size, CHUNK_END),
        };
        let start = data.start.saturating_sub(before.len());
        if let Some(room) = self.bytes.get_mut(start..data.start) {
            room.copy_from_slice(before);
        }
        let end = data.end + after.len();
        if let Some(room) = self.bytes.get_mut(data.end..end) {
            room.copy_from_slice(after);
        }
        start..end
    }

    /// Returns whether a read is possible.
    pub(super) fn has_room(&self) -> bool {
        self.len() + FRONT + BACK < self.bytes.len().max(SMALL)
    }

    /// Doubles the room for content, up to that size.
    pub(super) fn grow(&mut self, most: usize) {
        let size = (self.bytes.len().max(SMALL) * 2).min(most + FRONT + BACK);
        if size > self.bytes.len() {
            self.bytes.resize(size, 0);
        }
    }

    /// Returns the memory of a large buffer, if its content does not need it.
    pub(super) fn shrink(&mut self) {
        if self.bytes.len() <= SMALL || self.len() + FRONT + BACK >= SMALL {
            return;
        }
        let mut bytes = vec![0; SMALL];
        let content = FRONT..FRONT + self.len();
        if let Some(to) = bytes.get_mut(content.clone()) {
            to.copy_from_slice(self.content());
        }
        *self = Self { bytes, content };
    }

    fn poll_fill(
        &mut self,
        context: &mut Context<'_>,
        stream: &mut dyn Stream,
    ) -> Poll<io::Result<usize>> {
        self.make_room();
        let end = self.bytes.len().saturating_sub(BACK);
        let Some(room) = self.bytes.get_mut(self.content.end..end) else {
            return Poll::Ready(Ok(0));
        };
        let mut read = ReadBuf::new(room);
        ready!(Pin::new(stream).poll_read(context, &mut read))?;
        let count = read.filled().len();
        self.content.end += count;
        Poll::Ready(Ok(count))
    }

    /// Moves the content to the front, if there is no room behind it.
    fn make_room(&mut self) {
        if self.bytes.is_empty() {
            self.bytes.resize(SMALL, 0);
        }
        let end = self.bytes.len().saturating_sub(BACK);
        if self.is_empty() {
            self.content = FRONT..FRONT;
        } else if self.content.end >= end && self.content.start > FRONT {
            let length = self.len();
            self.bytes.copy_within(self.content.clone(), FRONT);
            self.content = FRONT..FRONT + length;
        }
    }
}

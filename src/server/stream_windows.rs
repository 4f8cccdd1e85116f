//! On Windows: a caller's connection through a named pipe, as a session reads and writes it.

use std::future::{Ready, ready as ready_now};
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWriteExt, ReadBuf};
use tokio::time::timeout;

use super::Stream;

/// How long the last write to a rejected caller may take. It has read nothing yet, so there is room.
const FINAL_WRITE_TIMEOUT: Duration = Duration::from_millis(100);

pub(super) struct CallerStream(Stream);

#[expect(
    clippy::unnecessary_wraps,
    clippy::unused_self,
    reason = "the same interface on every platform"
)]
impl CallerStream {
    pub(super) fn new(stream: Stream) -> io::Result<Self> {
        Ok(Self(stream))
    }

    /// Reads once; zero bytes mean that the caller has disconnected.
    pub(super) fn poll_read(
        &mut self,
        context: &mut Context<'_>,
        buffer: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        let mut buffer = ReadBuf::new(buffer);
        ready!(Pin::new(&mut self.0.pipe()).poll_read(context, &mut buffer))?;
        Poll::Ready(Ok(buffer.filled().len()))
    }

    /// Returns immediately: a caller that has ended one direction of a pipe has ended both.
    pub(super) fn closed(&mut self) -> Ready<io::Result<()>> {
        ready_now(Ok(()))
    }

    /// Does nothing: a pipe is closed in both directions or not at all.
    pub(super) fn shut_down(&self) {}

    /// Writes nothing: a pipe has no write without waiting.
    pub(super) fn try_write<const N: usize>(&self, _: [&[u8]; N]) -> io::Result<usize> {
        Ok(0)
    }

    /// Writes all pieces, waiting for room.
    pub(super) async fn write_all<const N: usize>(&mut self, pieces: [&[u8]; N]) -> io::Result<()> {
        for bytes in pieces {
            self.0.pipe().write_all(bytes).await?;
        }
        Ok(())
    }
}

/// Reads nothing: a pipe has no read without waiting.
pub(super) fn read_ready(_: &Stream, _: &mut [u8]) -> usize {
    0
}

/// Writes the only answer to a rejected caller.
pub(super) async fn write_final(stream: Stream, bytes: &[u8]) -> io::Result<()> {
    timeout(FINAL_WRITE_TIMEOUT, stream.pipe().write_all(bytes)).await?
}

//! On Windows: a named pipe.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWriteExt, ReadBuf};
use tokio::time::timeout;

use crate::server::Stream;

/// How long telling a caller that it is left may take. It has read nothing yet, so it takes no time
/// at all.
const LAST_WORDS: Duration = Duration::from_millis(100);

pub(in crate::server) struct CallerStream(Stream);

#[expect(
    clippy::unnecessary_wraps,
    clippy::unused_self,
    reason = "the same face everywhere"
)]
impl CallerStream {
    pub(in crate::server) fn new(stream: Stream) -> io::Result<Self> {
        Ok(Self(stream))
    }

    /// Reads once; zero bytes mean that the caller has left.
    pub(in crate::server) fn poll_read(
        &mut self,
        context: &mut Context<'_>,
        buffer: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        let mut buffer = ReadBuf::new(buffer);
        ready!(Pin::new(&mut self.0.pipe()).poll_read(context, &mut buffer))?;
        Poll::Ready(Ok(buffer.filled().len()))
    }

    /// Here there is no writing without waiting.
    pub(in crate::server) fn try_write(&self, _: &[u8], _: &[u8]) -> io::Result<usize> {
        Ok(0)
    }

    /// Writes all pieces, waiting for room.
    pub(in crate::server) async fn write_all(&mut self, pieces: [&[u8]; 2]) -> io::Result<()> {
        for bytes in pieces {
            self.0.pipe().write_all(bytes).await?;
        }
        Ok(())
    }
}

/// Here there is no reading without waiting.
pub(in crate::server) fn read_at_once(_: &Stream, _: &mut [u8]) -> usize {
    0
}

/// Writes to a caller that is about to be left.
pub(in crate::server) async fn write_final(stream: Stream, bytes: &[u8]) -> io::Result<()> {
    timeout(LAST_WORDS, stream.pipe().write_all(bytes)).await?
}

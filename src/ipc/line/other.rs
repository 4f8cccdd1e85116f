//! Elsewhere: the library's own stream.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use interprocess::local_socket::tokio::Stream;
use tokio::io::{AsyncRead, AsyncWriteExt, ReadBuf};

pub(in crate::ipc) struct Line(Stream);

impl Line {
    pub(in crate::ipc) fn new(stream: Stream) -> io::Result<Self> {
        Ok(Self(stream))
    }

    /// Reads once; zero bytes mean that the caller has left.
    pub(in crate::ipc) fn poll_read(
        &self,
        context: &mut Context<'_>,
        buffer: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        let mut buffer = ReadBuf::new(buffer);
        ready!(Pin::new(&mut &self.0).poll_read(context, &mut buffer))?;
        Poll::Ready(Ok(buffer.filled().len()))
    }

    /// Here there is no writing without waiting.
    pub(in crate::ipc) fn try_write(&self, _: &[u8]) -> io::Result<usize> {
        Ok(0)
    }

    /// The pipe's buffer is small as it is.
    pub(in crate::ipc) fn keep_little(&self) {}

    /// Writes all, waiting for room.
    pub(in crate::ipc) async fn write_all(&self, bytes: &[u8]) -> io::Result<()> {
        (&self.0).write_all(bytes).await
    }
}

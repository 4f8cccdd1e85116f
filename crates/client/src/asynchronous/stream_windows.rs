//! On Windows: the byte stream of a connection over a named pipe, without blocking.

use std::io;
use std::os::windows::io::{AsHandle, BorrowedHandle};
use std::path::Path;
use std::pin::Pin;
use std::task::{Context, Poll};

use interprocess::os::windows::named_pipe::pipe_mode::Bytes;
use interprocess::os::windows::named_pipe::tokio::DuplexPipeStream;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::stream::{closed, open};

pub(crate) struct AsyncStream(DuplexPipeStream<Bytes>);

impl AsyncStream {
    /// Connects. A broker whose instances are all taken is [`io::ErrorKind::WouldBlock`].
    #[expect(clippy::unused_async, reason = "the same interface on all platforms")]
    pub(crate) async fn open(path: &Path) -> io::Result<Self> {
        open(path).map(Self)
    }

    pub(crate) fn poll_write(
        &mut self,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.0).poll_write(context, bytes);
        written.map_err(closed)
    }

    /// Returns the number of bytes read; zero if the broker has disconnected.
    pub(crate) fn poll_read(
        &mut self,
        context: &mut Context<'_>,
        space: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        let mut buffer = ReadBuf::new(space);
        let read = Pin::new(&mut self.0).poll_read(context, &mut buffer);
        read.map_ok(|()| buffer.filled().len()).map_err(closed)
    }

    /// Does nothing: no other process has a duplicate of the handle.
    #[expect(clippy::unused_self, reason = "the same interface on all platforms")]
    pub(crate) fn shutdown(&self) {}
}

impl AsHandle for AsyncStream {
    fn as_handle(&self) -> BorrowedHandle<'_> {
        self.0.as_handle()
    }
}

impl Drop for AsyncStream {
    fn drop(&mut self) {
        // Waiting until the broker has read everything would take a thread.
        self.0.assume_flushed();
    }
}

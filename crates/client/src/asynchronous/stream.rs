//! The byte stream of a connection over a Unix socket, without blocking.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;
use std::pin::Pin;
use std::task::{Context, Poll};

use rustix::net::Shutdown;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::UnixStream;

use crate::stream::{self, Stream};

pub(crate) struct AsyncStream(UnixStream);

impl AsyncStream {
    /// Connects. A broker whose backlog is full is [`io::ErrorKind::WouldBlock`].
    pub(crate) async fn open(path: &Path) -> io::Result<Self> {
        stream::address(path)?;
        UnixStream::connect(path).await.map(Self)
    }

    /// Returns the same connection for the tokio runtime of this thread.
    pub(crate) fn from_blocking(stream: Stream) -> io::Result<Self> {
        stream.0.set_nonblocking(true)?;
        UnixStream::from_std(stream.0).map(Self)
    }

    /// Returns the same connection, which no longer belongs to a runtime.
    pub(crate) fn into_blocking(self) -> io::Result<Stream> {
        let stream = self.0.into_std()?;
        stream.set_nonblocking(false)?;
        Ok(Stream(stream))
    }

    pub(crate) fn poll_write(
        &mut self,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(context, bytes)
    }

    /// Returns the number of bytes read; zero if the broker has disconnected.
    pub(crate) fn poll_read(
        &mut self,
        context: &mut Context<'_>,
        space: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        let mut buffer = ReadBuf::new(space);
        let read = Pin::new(&mut self.0).poll_read(context, &mut buffer);
        read.map_ok(|()| buffer.filled().len())
    }

    /// Ends the connection, also if a forked child has a duplicate of the socket.
    pub(crate) fn shutdown(&self) {
        // Fails only if the connection has already ended.
        let _ = rustix::net::shutdown(&self.0, Shutdown::Both);
    }
}

impl AsFd for AsyncStream {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

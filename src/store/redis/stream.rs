//! The bytes of a connection, of which a server can make this host read only so many.

use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::connect::Stream;

/// The most bytes that are read for one operation. Its answers have at most two records.
pub(super) const MAX_EXCHANGE: usize = 64 * 1024;

/// Why reading ended.
#[derive(Debug)]
pub(super) enum End {
    /// The server sent more than it may.
    TooLong,
    Closed,
    Failed(io::Error),
}

/// What the owner of a stream's connection knows about the stream.
#[derive(Debug)]
pub(super) struct Meter {
    left: AtomicUsize,
    end: Mutex<Option<End>>,
}

impl Meter {
    pub(super) fn new() -> Arc<Self> {
        Arc::new(Self {
            left: AtomicUsize::new(MAX_EXCHANGE),
            end: Mutex::default(),
        })
    }

    /// Permits the bytes of another operation.
    pub(super) fn reset(&self) {
        self.left.store(MAX_EXCHANGE, Ordering::Relaxed);
    }

    /// Returns why reading ended, once.
    pub(super) fn take_end(&self) -> Option<End> {
        self.end
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take()
    }

    fn set_end(&self, end: End) {
        let mut current = self.end.lock().unwrap_or_else(PoisonError::into_inner);
        current.get_or_insert(end);
    }
}

pub(super) struct BoundedStream {
    inner: Box<dyn Stream>,
    meter: Arc<Meter>,
}

impl BoundedStream {
    pub(super) fn new(inner: Box<dyn Stream>, meter: Arc<Meter>) -> Self {
        Self { inner, meter }
    }

    /// Records the error for messages, and returns one for the library.
    fn record(&self, error: io::Error) -> io::Error {
        let kind = error.kind();
        self.meter.set_end(End::Failed(error));
        kind.into()
    }
}

impl AsyncRead for BoundedStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let left = self.meter.left.load(Ordering::Relaxed);
        if left == 0 {
            self.meter.set_end(End::TooLong);
            return Poll::Ready(Err(io::ErrorKind::InvalidData.into()));
        }
        let room = left.min(buffer.remaining());
        let mut part = ReadBuf::new(buffer.initialize_unfilled_to(room));
        let result = ready!(Pin::new(&mut self.inner).poll_read(context, &mut part));
        let read = part.filled().len();
        buffer.advance(read);
        self.meter.left.fetch_sub(read, Ordering::Relaxed);
        if let Err(error) = result {
            return Poll::Ready(Err(self.record(error)));
        }
        if read == 0 {
            self.meter.set_end(End::Closed);
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for BoundedStream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let result = Pin::new(&mut self.inner).poll_write(context, bytes);
        result.map_err(|error| self.record(error))
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let result = Pin::new(&mut self.inner).poll_flush(context);
        result.map_err(|error| self.record(error))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(context)
    }
}

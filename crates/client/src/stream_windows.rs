//! On Windows: the byte stream of a connection over a named pipe, with time limits.
//!
//! Windows has no timeouts for reading and writing one, and cancels an operation only if the pipe was opened for
//! overlapped I/O, so tokio does the waiting.

use std::fs::OpenOptions;
use std::future::Future;
use std::io;
use std::os::windows::fs::OpenOptionsExt;
use std::os::windows::io::{AsHandle, BorrowedHandle, OwnedHandle};
use std::panic::resume_unwind;
use std::path::Path;
use std::thread;
use std::time::Duration;

use interprocess::os::windows::named_pipe::pipe_mode::Bytes;
use interprocess::os::windows::named_pipe::tokio::DuplexPipeStream;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::runtime::{Builder, Handle, Runtime};
use tokio::time::timeout;

use crate::pipe;

/// `FILE_FLAG_OVERLAPPED`: operations can be cancelled.
const OVERLAPPED: u32 = 0x4000_0000;

/// `ERROR_PIPE_NOT_CONNECTED`: the broker has closed its end.
const NOT_CONNECTED: i32 = 233;

pub(crate) struct Stream {
    pipe: DuplexPipeStream<Bytes>,
    waiter: Waiter,
}

/// The runtime that waits for the pipe.
struct Waiter(Option<Runtime>);

impl Stream {
    /// Connects. A broker whose instances are all taken is [`io::ErrorKind::WouldBlock`].
    pub(crate) fn open(path: &Path, _left: Duration) -> io::Result<Self> {
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let pipe = {
            let _context = runtime.enter();
            open(path)?
        };
        let waiter = Waiter(Some(runtime));
        Ok(Self { pipe, waiter })
    }

    /// Sends all bytes within `left`.
    pub(crate) fn send(&mut self, bytes: &[u8], left: Duration) -> io::Result<()> {
        let Self { pipe, waiter } = self;
        let sent = waiter.wait(async { timeout(left, pipe.write_all(bytes)).await? });
        sent.map_err(closed)
    }

    /// Reads what was received, and waits for `left` at most if that is nothing. Zero bytes mean that the broker has
    /// disconnected.
    pub(crate) fn receive(&mut self, room: &mut [u8], left: Duration) -> io::Result<usize> {
        let Self { pipe, waiter } = self;
        let read = waiter.wait(async { timeout(left, pipe.read(room)).await? });
        read.map_err(closed)
    }

    /// Always true: a pipe is not read from between two answers.
    #[expect(clippy::unused_self, reason = "the same interface on all platforms")]
    pub(crate) fn is_quiet(&self) -> bool {
        true
    }
}

impl AsHandle for Stream {
    fn as_handle(&self) -> BorrowedHandle<'_> {
        self.pipe.as_handle()
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        // Waiting until the broker has read everything would take a thread.
        self.pipe.assume_flushed();
    }
}

impl Waiter {
    /// Waits on this thread, or on a new one if this thread belongs to another tokio runtime, which must
    /// not be blocked.
    fn wait<T: Send>(&self, work: impl Future<Output = io::Result<T>> + Send) -> io::Result<T> {
        let Some(runtime) = &self.0 else {
            return Err(io::ErrorKind::NotConnected.into());
        };
        if Handle::try_current().is_err() {
            return runtime.block_on(work);
        }
        let ended = thread::scope(|scope| scope.spawn(|| runtime.block_on(work)).join());
        ended.unwrap_or_else(|panicked| resume_unwind(panicked))
    }
}

impl Drop for Waiter {
    fn drop(&mut self) {
        // Within another runtime a blocking shutdown panics; this one has no tasks left.
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}

/// Connects to the pipe at `path`, for the tokio runtime of this thread.
pub(crate) fn open(path: &Path) -> io::Result<DuplexPipeStream<Bytes>> {
    if !pipe::is_pipe_name(path) {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            pipe::NOT_A_PIPE,
        ));
    }
    let mut options = OpenOptions::new();
    let file = options
        .access_mode(pipe::CLIENT_ACCESS)
        .security_qos_flags(pipe::IDENTIFICATION)
        .custom_flags(OVERLAPPED)
        .open(path)
        .map_err(|error| match error.raw_os_error() {
            Some(pipe::BUSY) => io::ErrorKind::WouldBlock.into(),
            _ => error,
        })?;
    let opened = DuplexPipeStream::try_from(OwnedHandle::from(file));
    let no_pipe = || io::Error::other("it is no pipe");
    opened.map_err(|error| error.cause.unwrap_or_else(no_pipe))
}

/// Returns the error of a pipe; one that the broker has closed is [`io::ErrorKind::BrokenPipe`].
pub(crate) fn closed(error: io::Error) -> io::Error {
    match error.raw_os_error() {
        Some(NOT_CONNECTED) => io::ErrorKind::BrokenPipe.into(),
        _ => error,
    }
}

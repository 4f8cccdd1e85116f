//! A caller's connection, as a session reads and writes it. It wakes its session only for bytes to read.

use std::io::{self, IoSlice};
use std::net::Shutdown;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use rustix::io::Errno;
use rustix::net::sockopt::set_socket_send_buffer_size;
use rustix::net::{RecvFlags, SendAncillaryBuffer, SendFlags, recv, send, sendmsg};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use super::Stream;

/// The kernel's send buffer, in bytes, which counts against the memory limit of the daemon's cgroup while a caller does
/// not read. Linux doubles it for its own overhead (socket(7)), which makes it the minimum, and accepts one more piece
/// before it is full: about 9 KiB in all.
const SEND_BUFFER: usize = 2304;

/// The session is not woken for room to write: a caller makes room by each answer that it reads, and a wake-up for it
/// would cost as much as the answer.
pub(super) struct CallerStream {
    stream: Arc<UnixStream>,
    /// Absent while the session waits for room: the runtime waits for one kind of event per descriptor, and a second
    /// descriptor may exceed the limit.
    readable: Option<AsyncFd<Arc<UnixStream>>>,
}

impl CallerStream {
    pub(super) fn new(stream: Stream) -> io::Result<Self> {
        // With the default size it only takes longer until a caller that does not read is disconnected.
        let _ = set_socket_send_buffer_size(&stream, SEND_BUFFER);
        let stream = Arc::new(stream);
        let readable = Some(watched(Arc::clone(&stream), Interest::READABLE)?);
        Ok(Self { stream, readable })
    }

    /// Reads once; zero bytes mean that the caller sends nothing more.
    pub(super) fn poll_read(
        &mut self,
        context: &mut Context<'_>,
        buffer: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        let readable = match &mut self.readable {
            Some(readable) => readable,
            none => none.insert(watched(Arc::clone(&self.stream), Interest::READABLE)?),
        };
        loop {
            let mut ready = ready!(readable.poll_read_ready(context))?;
            match recv(&self.stream, &mut *buffer, RecvFlags::DONTWAIT) {
                Err(Errno::WOULDBLOCK) => ready.clear_ready(),
                Err(Errno::INTR) => {}
                Err(error) => return Poll::Ready(Err(error.into())),
                Ok((read, _)) => {
                    // That was everything. Another call to confirm it would be expensive.
                    if read > 0 && read < buffer.len() {
                        ready.clear_ready();
                    }
                    return Poll::Ready(Ok(read));
                }
            }
        }
    }

    /// Returns once the caller has closed its connection. Until then a caller that has ended only its own direction, as
    /// `nc -N` does, can still read.
    pub(super) async fn closed(&mut self) -> io::Result<()> {
        self.readable = None;
        // A hang-up is reported whatever the session waits for; the end of one direction only to those that read.
        let hung_up = watched(Arc::clone(&self.stream), Interest::PRIORITY)?;
        hung_up.ready(Interest::PRIORITY).await.map(drop)
    }

    /// Ends the stream to the caller, which can read everything written before.
    pub(super) fn shut_down(&self) {
        // A caller that has disconnected needs no end.
        let _ = self.stream.shutdown(Shutdown::Write);
    }

    /// Writes pieces in one call without waiting. Returns how much there was room for: usually all.
    pub(super) fn try_write<const N: usize>(&self, pieces: [&[u8]; N]) -> io::Result<usize> {
        let mut filled = pieces.iter().filter(|piece| !piece.is_empty());
        if let (Some(only), None) = (filled.next(), filled.next()) {
            return write_now(&self.stream, only);
        }
        let pieces = pieces.map(IoSlice::new);
        let flags = SendFlags::NOSIGNAL | SendFlags::DONTWAIT;
        now(|| {
            sendmsg(
                &self.stream,
                &pieces,
                &mut SendAncillaryBuffer::default(),
                flags,
            )
        })
    }

    /// Writes all pieces, waiting for room.
    pub(super) async fn write_all<const N: usize>(&mut self, pieces: [&[u8]; N]) -> io::Result<()> {
        self.readable = None;
        let writable = watched(Arc::clone(&self.stream), Interest::WRITABLE)?;
        for mut bytes in pieces {
            while !bytes.is_empty() {
                let mut ready = writable.writable().await?;
                let written = write_now(&self.stream, bytes)?;
                if written == 0 {
                    ready.clear_ready();
                }
                bytes = bytes.get(written..).unwrap_or_default();
            }
        }
        Ok(())
    }
}

impl AsFd for CallerStream {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.stream.as_fd()
    }
}

/// Reads what a caller has already sent. Most callers send as they connect, and a wake-up for it costs as much as the
/// answer. Returns zero if there is nothing, or the caller has disconnected.
pub(super) fn read_ready(stream: &Stream, buffer: &mut [u8]) -> usize {
    recv(stream, buffer, RecvFlags::DONTWAIT).map_or(0, |(read, _)| read)
}

/// Writes the only answer to a rejected caller, for which the buffer has room.
pub(super) async fn write_final(stream: Stream, bytes: &[u8]) -> io::Result<()> {
    write_now(&stream, bytes).map(drop)
}

/// Registers a socket with the runtime.
#[expect(
    deprecated,
    reason = "its successor asks for unsafe code; a socket that nobody else holds is all it needs"
)]
pub(super) fn watched<T: AsRawFd>(socket: T, interest: Interest) -> io::Result<AsyncFd<T>> {
    AsyncFd::with_interest(socket, interest)
}

fn write_now(stream: &UnixStream, bytes: &[u8]) -> io::Result<usize> {
    now(|| send(stream, bytes, SendFlags::NOSIGNAL | SendFlags::DONTWAIT))
}

/// Returns how much a system call has written: zero if there is no room.
fn now(mut write: impl FnMut() -> rustix::io::Result<usize>) -> io::Result<usize> {
    loop {
        match write() {
            Err(Errno::WOULDBLOCK) => return Ok(0),
            Err(Errno::INTR) => {}
            written => return Ok(written?),
        }
    }
}

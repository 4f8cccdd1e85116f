//! A caller's connection, as a session reads and writes it: a stream that wakes its session for bytes alone.

use std::io::{self, IoSlice};
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

/// What the kernel keeps for a caller that doesn't read, in bytes; it counts against the memory limit of
/// the daemon's cgroup. Linux doubles this, to count its own cost (socket(7)), which makes it the least that
/// there can be, and takes one piece more before it is full: about 9 KiB in all.
const SEND_BUFFER: usize = 2304;

/// The session is woken for bytes to read, and not for room to write: a caller that takes its answer makes
/// room, and a wake-up for each would cost as much again as the answer.
pub(super) struct CallerStream {
    stream: Arc<UnixStream>,
    /// Absent while the session waits for room: the runtime waits for one kind of event on a descriptor, and
    /// a second descriptor may be one too many.
    readable: Option<AsyncFd<Arc<UnixStream>>>,
}

impl CallerStream {
    pub(super) fn new(stream: Stream) -> io::Result<Self> {
        // With the usual one it only takes longer until a caller that doesn't read is closed.
        let _set = set_socket_send_buffer_size(&stream, SEND_BUFFER);
        let stream = Arc::new(stream);
        let readable = Some(watched(Arc::clone(&stream), Interest::READABLE)?);
        Ok(Self { stream, readable })
    }

    /// Reads once; zero bytes mean that the caller has left.
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
                    // That was all there was. To find out by another call is dear.
                    if read > 0 && read < buffer.len() {
                        ready.clear_ready();
                    }
                    return Poll::Ready(Ok(read));
                }
            }
        }
    }

    /// Writes what there is room for of two pieces, as one, without waiting: nearly always all.
    pub(super) fn try_write(&self, start: &[u8], rest: &[u8]) -> io::Result<usize> {
        if start.is_empty() {
            return write_now(&self.stream, rest);
        }
        let pieces = [IoSlice::new(start), IoSlice::new(rest)];
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
    pub(super) async fn write_all(&mut self, pieces: [&[u8]; 2]) -> io::Result<()> {
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

/// Reads what a caller has sent already, before it is watched: most send as they connect, and a
/// wake-up for it costs as much as the answer. Zero if there is nothing yet, or never will be.
pub(super) fn read_ready(stream: &Stream, buffer: &mut [u8]) -> usize {
    recv(stream, buffer, RecvFlags::DONTWAIT).map_or(0, |(read, _)| read)
}

/// Writes to a caller that is about to be left. Nothing lies before it, so there is room.
pub(super) async fn write_final(stream: Stream, bytes: &[u8]) -> io::Result<()> {
    write_now(&stream, bytes).map(drop)
}

/// What the runtime wakes tasks up for.
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

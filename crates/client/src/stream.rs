//! The byte stream of a connection over a Unix socket, with time limits.

use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use rustix::io::Errno;
use rustix::net::{RecvFlags, SocketAddrUnix, recv};

use crate::clock::boot_now;

/// The shortest time limit: the system takes zero for none at all.
const MIN_TIMEOUT: Duration = Duration::from_millis(1);

pub(crate) struct Stream(pub(crate) UnixStream);

impl Stream {
    /// Connects within `left`. A broker whose backlog is full until then is
    /// [`io::ErrorKind::WouldBlock`].
    pub(crate) fn open(path: &Path, left: Duration) -> io::Result<Self> {
        connect(path, left).map(Self)
    }

    /// Sends all bytes. Waits for `left` at most each time the system accepts no more.
    pub(crate) fn send(&mut self, bytes: &[u8], left: Duration) -> io::Result<()> {
        let mut rest = bytes;
        while !rest.is_empty() {
            let limit = |left| self.0.set_write_timeout(Some(left));
            match retry_interrupted(left, limit, || (&self.0).write(rest))? {
                0 => return Err(io::ErrorKind::WriteZero.into()),
                written => rest = rest.get(written..).unwrap_or_default(),
            }
        }
        Ok(())
    }

    /// Reads what was received, and waits for `left` at most if that is nothing. Zero bytes mean that the broker has
    /// disconnected.
    pub(crate) fn receive(&mut self, room: &mut [u8], left: Duration) -> io::Result<usize> {
        let limit = |left| self.0.set_read_timeout(Some(left));
        retry_interrupted(left, limit, || (&self.0).read(room))
    }

    /// Returns whether there is nothing to read and the broker has not disconnected. Does not wait.
    pub(crate) fn is_quiet(&self) -> bool {
        let flags = RecvFlags::PEEK | RecvFlags::DONTWAIT;
        recv(self, &mut [0; 1], flags).is_err_and(|error| error == Errno::WOULDBLOCK)
    }
}

impl AsFd for Stream {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// Returns the user id of the server of a connected socket, from the kernel.
#[cfg(any(target_os = "linux", target_os = "android"))]
pub(crate) fn server(socket: &impl AsFd) -> io::Result<u32> {
    use nix::sys::socket::{getsockopt, sockopt::PeerCredentials};
    Ok(getsockopt(&socket.as_fd(), PeerCredentials)?.uid())
}

/// Returns the address of the socket at a path.
pub(crate) fn address(path: &Path) -> io::Result<SocketAddrUnix> {
    let invalid = |wrong| io::Error::new(io::ErrorKind::InvalidInput, wrong);
    // The system would take it for a socket without a name.
    if path.as_os_str().is_empty() {
        return Err(invalid("the path of the socket is empty"));
    }
    // The system would end the path at a NUL, or take it for an abstract name.
    if path.as_os_str().as_bytes().contains(&0) {
        return Err(invalid("there is a NUL in the path"));
    }
    SocketAddrUnix::new(path).map_err(|_| invalid("the path is too long for a socket"))
}

/// Calls `job` with its `limit` set to the time that is left; again after each signal that interrupts it.
fn retry_interrupted<T>(
    left: Duration,
    limit: impl Fn(Duration) -> io::Result<()>,
    mut job: impl FnMut() -> io::Result<T>,
) -> io::Result<T> {
    limit(left.max(MIN_TIMEOUT))?;
    let deadline = boot_now() + left;
    loop {
        match job() {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {
                let left = deadline.saturating_since(boot_now());
                if left.is_zero() {
                    return Err(io::ErrorKind::WouldBlock.into());
                }
                limit(left.max(MIN_TIMEOUT))?;
            }
            done => return done,
        }
    }
}

/// Only on Linux does connecting wait while the backlog is full; the time limit of writing is that of
/// connecting there.
#[cfg(any(target_os = "linux", target_os = "android"))]
fn connect(path: &Path, left: Duration) -> io::Result<UnixStream> {
    use rustix::net::{AddressFamily, SocketFlags, SocketType, connect, socket_with};
    let address = address(path)?;
    let flags = SocketFlags::CLOEXEC;
    let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
    let stream = UnixStream::from(socket);
    let limit = |left| stream.set_write_timeout(Some(left));
    retry_interrupted(left, limit, || Ok(connect(&stream, &address)?))?;
    Ok(stream)
}

#[cfg(not(any(target_os = "linux", target_os = "android")))]
fn connect(path: &Path, _left: Duration) -> io::Result<UnixStream> {
    address(path)?;
    UnixStream::connect(path)
}

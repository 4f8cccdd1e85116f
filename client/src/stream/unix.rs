//! A Unix socket.

use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use socket2::{Domain, SockAddr, Socket, Type};

use crate::clock::boot_now;

/// The shortest time limit there is: none at all is what zero means to the system.
const LEAST_WAIT: Duration = Duration::from_millis(1);

pub(crate) struct Stream(UnixStream);

impl Stream {
    /// Connects within `left`. A broker whose backlog is full until then is
    /// [`io::ErrorKind::WouldBlock`].
    pub(crate) fn open(path: &Path, left: Duration) -> io::Result<Self> {
        let address = SockAddr::unix(path)?;
        let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
        let deadline = boot_now() + left;
        loop {
            // On Linux that is the limit of connecting as well.
            let left = deadline.saturating_since(boot_now());
            socket.set_write_timeout(Some(left.max(LEAST_WAIT)))?;
            match socket.connect(&address) {
                Ok(()) => return Ok(Self(UnixStream::from(OwnedFd::from(socket)))),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// Sends all of it, and waits for `left` at most each time the system takes no more.
    pub(crate) fn send(&mut self, bytes: &[u8], left: Duration) -> io::Result<()> {
        self.0.set_write_timeout(Some(left))?;
        self.0.write_all(bytes)
    }

    /// Reads what is there, and waits for `left` at most if there is nothing. Zero bytes mean that
    /// the broker has gone.
    pub(crate) fn receive(&mut self, room: &mut [u8], left: Duration) -> io::Result<usize> {
        self.0.set_read_timeout(Some(left))?;
        loop {
            match self.0.read(room) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                read => return read,
            }
        }
    }

    /// The user that serves, as the kernel says.
    #[cfg(any(target_os = "linux", target_os = "android"))]
    pub(crate) fn server(&self) -> io::Result<u32> {
        let server = rustix::net::sockopt::socket_peercred(self)?;
        Ok(server.uid.as_raw())
    }
}

impl AsFd for Stream {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

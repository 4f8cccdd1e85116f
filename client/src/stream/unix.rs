//! A Unix socket.

use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
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
        let address = address(path)?;
        let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
        // On Linux that is the limit of connecting as well.
        let limit = |left| socket.set_write_timeout(Some(left));
        patiently(left, limit, || socket.connect(&address))?;
        Ok(Self(UnixStream::from(OwnedFd::from(socket))))
    }

    /// Sends all of it, and waits for `left` at most each time the system takes no more.
    pub(crate) fn send(&mut self, bytes: &[u8], left: Duration) -> io::Result<()> {
        let mut rest = bytes;
        while !rest.is_empty() {
            let limit = |left| self.0.set_write_timeout(Some(left));
            match patiently(left, limit, || (&self.0).write(rest))? {
                0 => return Err(io::ErrorKind::WriteZero.into()),
                written => rest = rest.get(written..).unwrap_or_default(),
            }
        }
        Ok(())
    }

    /// Reads what is there, and waits for `left` at most if there is nothing. Zero bytes mean that
    /// the broker has gone.
    pub(crate) fn receive(&mut self, room: &mut [u8], left: Duration) -> io::Result<usize> {
        let limit = |left| self.0.set_read_timeout(Some(left));
        patiently(left, limit, || (&self.0).read(room))
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

/// Calls `job` with its `limit` set to what there is left, anew after each signal that comes between.
fn patiently<T>(
    left: Duration,
    limit: impl Fn(Duration) -> io::Result<()>,
    mut job: impl FnMut() -> io::Result<T>,
) -> io::Result<T> {
    limit(left.max(LEAST_WAIT))?;
    let deadline = boot_now() + left;
    loop {
        match job() {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {
                let left = deadline.saturating_since(boot_now());
                if left.is_zero() {
                    return Err(io::ErrorKind::WouldBlock.into());
                }
                limit(left.max(LEAST_WAIT))?;
            }
            done => return done,
        }
    }
}

fn address(path: &Path) -> io::Result<SockAddr> {
    let wrong = |problem| io::Error::new(io::ErrorKind::InvalidInput, problem);
    // Which the system would take for the path's end, or for a name that isn't in the file system.
    if path.as_os_str().as_bytes().contains(&0) {
        return Err(wrong("there is a NUL in the path"));
    }
    SockAddr::unix(path).map_err(|_| wrong("the path is too long for a socket"))
}

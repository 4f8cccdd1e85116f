//! A Unix socket.

use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;
use std::time::Duration;

use interprocess::ConnectWaitMode;
use interprocess::local_socket::traits::Stream as _;
use interprocess::local_socket::{self, ConnectOptions, GenericFilePath, ToFsName};

pub(crate) struct Stream(local_socket::Stream);

impl Stream {
    /// Connects within `left`.
    pub(crate) fn open(path: &Path, left: Duration) -> io::Result<Self> {
        let name = path.as_os_str().to_fs_name::<GenericFilePath>()?;
        let options = ConnectOptions::new()
            .name(name)
            .wait_mode(ConnectWaitMode::Timeout(left));
        Ok(Self(options.connect_sync()?))
    }

    /// Sends all of it, and waits for `left` at most each time the system takes no more.
    pub(crate) fn send(&mut self, bytes: &[u8], left: Duration) -> io::Result<()> {
        self.0.set_send_timeout(Some(left))?;
        self.0.write_all(bytes)
    }

    /// Reads what is there, and waits for `left` at most if there is nothing. Zero bytes mean that
    /// the broker has gone.
    pub(crate) fn receive(&mut self, room: &mut [u8], left: Duration) -> io::Result<usize> {
        self.0.set_recv_timeout(Some(left))?;
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
        let local_socket::Stream::UdSocket(stream) = &self.0;
        stream.as_fd()
    }
}

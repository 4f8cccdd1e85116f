//! Shuts down a connection that another thread is reading from.

use crate::blocking::BlockingConnection;

/// A handle that shuts down both directions of a connection, also while another thread reads from it.
#[cfg(unix)]
pub(crate) struct Shutdown(std::os::fd::OwnedFd);

#[cfg(unix)]
impl Shutdown {
    /// Returns `None` if the process has no file descriptor left.
    pub(crate) fn of(connection: &BlockingConnection) -> Option<Self> {
        use std::os::fd::AsFd;
        let duplicate = connection.stream.as_fd().try_clone_to_owned();
        duplicate.ok().map(Self)
    }

    pub(crate) fn now(&self) {
        // Fails only if the connection has already ended.
        let _ = rustix::net::shutdown(&self.0, rustix::net::Shutdown::Both);
    }
}

/// Not available: the reading thread polls its stop flag.
#[cfg(not(unix))]
pub(crate) enum Shutdown {}

#[cfg(not(unix))]
impl Shutdown {
    pub(crate) fn of(_: &BlockingConnection) -> Option<Self> {
        None
    }

    pub(crate) fn now(&self) {
        match *self {}
    }
}

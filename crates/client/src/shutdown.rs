//! Ends a connection that another thread is reading from.

use crate::connection::Connection;

/// Both ends of the connection see its end once told, whoever is reading.
#[cfg(unix)]
pub(crate) struct Shutdown(std::os::fd::OwnedFd);

#[cfg(unix)]
impl Shutdown {
    /// `None` where there is no descriptor left for it.
    pub(crate) fn of(connection: &Connection) -> Option<Self> {
        use std::os::fd::AsFd;
        let duplicate = connection.stream().as_fd().try_clone_to_owned();
        duplicate.ok().map(Self)
    }

    pub(crate) fn now(&self) {
        // One that has ended by itself needs no end.
        let _ended = rustix::net::shutdown(&self.0, rustix::net::Shutdown::Both);
    }
}

/// There is none: whoever reads looks from time to time.
#[cfg(not(unix))]
pub(crate) enum Shutdown {}

#[cfg(not(unix))]
impl Shutdown {
    pub(crate) fn of(_: &Connection) -> Option<Self> {
        None
    }

    pub(crate) fn now(&self) {
        match *self {}
    }
}

//! Who is calling, as the kernel says.

use std::fmt;

use interprocess::local_socket::tokio::Stream;

/// The process at the other end of a connection, when it connected.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Peer {
    /// Its effective user id.
    pub uid: Option<u32>,
    /// Its process id; absent if it runs in a PID namespace that can't be seen from here.
    pub pid: Option<u32>,
}

impl Peer {
    /// Asks the kernel.
    #[must_use]
    #[cfg(any(target_os = "linux", target_os = "android"))]
    pub fn of(stream: &Stream) -> Self {
        use std::os::fd::AsFd;
        let Stream::UdSocket(stream) = stream;
        let Ok(credentials) = rustix::net::sockopt::socket_peercred(stream.as_fd()) else {
            return Self::default();
        };
        let pid = u32::try_from(credentials.pid.as_raw_nonzero().get()).ok();
        Self {
            uid: Some(credentials.uid.as_raw()),
            pid,
        }
    }

    /// Elsewhere the kernel isn't asked yet.
    #[must_use]
    #[cfg(not(any(target_os = "linux", target_os = "android")))]
    pub fn of(_: &Stream) -> Self {
        Self::default()
    }
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.uid {
            Some(uid) => write!(f, "uid {uid}")?,
            None => f.write_str("an unknown user")?,
        }
        match self.pid {
            Some(pid) => write!(f, ", pid {pid}"),
            None => Ok(()),
        }
    }
}

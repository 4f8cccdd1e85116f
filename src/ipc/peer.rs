//! Who is calling, as the kernel says.

mod unit;

#[cfg(any(test, fuzzing))]
pub(crate) use unit::fuzzing;

use std::sync::OnceLock;

use interprocess::local_socket::tokio::Stream;

use super::line::Line;
use crate::policy::Caller;
use crate::users;

/// The process at the other end of a connection, as it was when it connected.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Peer {
    /// Its effective user id; `None` for the overflow uid, which is anyone of another user
    /// namespace.
    pub uid: Option<u32>,
    /// Its effective group id; `None` for the overflow gid.
    pub gid: Option<u32>,
    /// Its process id; absent if it runs in a PID namespace that can't be seen from here.
    pub pid: Option<u32>,
    /// When its process started, where the kernel can't tell later whether it still lives.
    pub(super) started: Option<u64>,
}

impl Peer {
    /// Asks the kernel.
    #[must_use]
    #[cfg(any(target_os = "linux", target_os = "android"))]
    pub fn of(stream: &Stream) -> Self {
        use nix::sys::socket::{getsockopt, sockopt};
        let Stream::UdSocket(stream) = stream;
        let Ok(found) = getsockopt(stream, sockopt::PeerCredentials) else {
            return Self::default();
        };
        let pid = u32::try_from(found.pid()).ok().filter(|pid| *pid != 0);
        Self {
            uid: Some(found.uid()).filter(|uid| *uid != users::overflow_uid()),
            gid: Some(found.gid()).filter(|gid| *gid != users::overflow_gid()),
            pid,
            started: pid.and_then(|pid| unit::start_to_remember(stream, pid)),
        }
    }

    /// Elsewhere the kernel isn't asked yet.
    #[must_use]
    #[cfg(not(any(target_os = "linux", target_os = "android")))]
    pub fn of(_: &Stream) -> Self {
        Self::default()
    }

    /// The systemd unit that it runs in now, if it still lives: whoever connects and hands its
    /// connection on lends nobody its unit once it is gone.
    #[must_use]
    #[cfg(any(target_os = "linux", target_os = "android"))]
    pub(super) fn unit(&self, line: &Line) -> Option<String> {
        let process = unit::Process {
            pid: self.pid?,
            user: (
                self.uid.unwrap_or_else(users::overflow_uid),
                self.gid.unwrap_or_else(users::overflow_gid),
            ),
            started: self.started,
        };
        unit::of(line, &process)
    }

    /// There are no units elsewhere.
    #[must_use]
    #[cfg(not(any(target_os = "linux", target_os = "android")))]
    pub(super) fn unit(&self, _: &Line) -> Option<String> {
        None
    }

    /// As policy sees it, with nothing looked up.
    #[must_use]
    pub fn caller(&self) -> Caller {
        Caller {
            uid: self.uid,
            pid: self.pid,
            privileged: self.uid == Some(0) || self.uid == Some(our_uid()),
            ..Caller::default()
        }
    }
}

/// It never changes, and is wanted for each request.
fn our_uid() -> u32 {
    static FOUND: OnceLock<u32> = OnceLock::new();
    *FOUND.get_or_init(|| rustix::process::geteuid().as_raw())
}

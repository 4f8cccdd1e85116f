//! The process at the other end of a connection, as the kernel reports it (`SO_PEERCRED`).

#[cfg(unix)]
mod systemd_unit;

#[cfg(all(unix, any(test, fuzzing)))]
pub(crate) use systemd_unit::fuzzing;

#[cfg(unix)]
use std::sync::OnceLock;
use std::time::Duration;

use super::stream::CallerStream;
use super::{Listener, Stream};
use crate::platform::clock::BootTime;
#[cfg(unix)]
use crate::platform::clock::boot_now;
#[cfg(unix)]
use crate::platform::users;
use domo_token_core::access_policy::Caller;

/// The systemd unit of a process.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(windows, expect(dead_code, reason = "there are no units"))]
pub(super) enum Unit {
    Named(String),
    /// It runs in none, or the process that connected has ended.
    None,
    /// Another process may have its process id now; a new connection makes it certain.
    Ambiguous,
}

/// The resolution of start times in `/proc`: 100 per second on every machine (time(7), `USER_HZ`).
pub(super) const USER_HZ_TICK: Duration = Duration::from_millis(10);

/// Returns the current time if no caller waits to be accepted, and this kernel needs it to identify processes.
#[must_use]
#[cfg(unix)]
pub(super) fn backlog_empty_at(listener: &Listener) -> Option<BootTime> {
    if systemd_unit::has_descriptors() {
        return None;
    }
    let now = boot_now();
    listener
        .is_idle(|socket| systemd_unit::not_readable(&socket))
        .then_some(now)
}

/// There are no units on Windows.
#[must_use]
#[cfg(windows)]
pub(super) fn backlog_empty_at(_: &Listener) -> Option<BootTime> {
    None
}

/// The process at the other end of a connection, as it was when it connected.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Peer {
    /// Its effective user id; `None` for the overflow uid, which stands for all users of other user namespaces, and
    /// on Windows, where users have no number.
    pub uid: Option<u32>,
    /// Its effective group id; `None` for the overflow gid.
    pub gid: Option<u32>,
    /// Its process id; `None` if it runs in a PID namespace that is not visible here.
    pub pid: Option<u32>,
    /// When last no caller was waiting to be accepted, before this one; only where the kernel does not identify
    /// the process.
    #[cfg(unix)]
    pub(super) backlog_empty_at: Option<BootTime>,
}

impl Peer {
    /// Returns what the kernel reports. `backlog_empty_at` is as in [`Self`].
    #[must_use]
    #[cfg(unix)]
    pub(super) fn of(stream: &Stream, backlog_empty_at: Option<BootTime>) -> Self {
        use nix::sys::socket::{getsockopt, sockopt};
        let Ok(found) = getsockopt(stream, sockopt::PeerCredentials) else {
            return Self::default();
        };
        let pid = u32::try_from(found.pid()).ok().filter(|pid| *pid != 0);
        Self {
            uid: Some(found.uid()).filter(|uid| *uid != users::overflow_uid()),
            gid: Some(found.gid()).filter(|gid| *gid != users::overflow_gid()),
            pid,
            backlog_empty_at,
        }
    }

    /// Returns the systemd unit that it runs in now, if it still runs: a process that inherits the connection does
    /// not get the unit of one that has ended.
    #[must_use]
    #[cfg(unix)]
    pub(super) fn unit(&self, stream: &CallerStream) -> Unit {
        match self.pid {
            Some(pid) => systemd_unit::of(stream, pid, self),
            None => Unit::None,
        }
    }

    /// Returns its process id, which is all that the system reports.
    #[must_use]
    #[cfg(windows)]
    pub(super) fn of(stream: &Stream, _: Option<BootTime>) -> Self {
        Self {
            pid: stream.pipe().client_process_id().ok(),
            ..Self::default()
        }
    }

    /// There are no units on Windows.
    #[must_use]
    #[cfg(windows)]
    #[expect(clippy::unused_self, reason = "the same interface on every platform")]
    pub(super) fn unit(&self, _: &CallerStream) -> Unit {
        Unit::None
    }

    /// Returns it as a caller, with nothing looked up.
    #[must_use]
    pub fn caller(&self) -> Caller {
        Caller {
            uid: self.uid,
            pid: self.pid,
            privileged: is_privileged(self.uid),
            ..Caller::default()
        }
    }
}

/// Returns whether that is root or the daemon's own user.
#[cfg(unix)]
fn is_privileged(uid: Option<u32>) -> bool {
    uid == Some(0) || uid == Some(our_uid())
}

/// Users have no number on Windows, and none is privileged.
#[cfg(windows)]
fn is_privileged(_: Option<u32>) -> bool {
    false
}

/// Returns the daemon's user, which never changes and is needed for each request.
#[cfg(unix)]
fn our_uid() -> u32 {
    static FOUND: OnceLock<u32> = OnceLock::new();
    *FOUND.get_or_init(|| rustix::process::geteuid().as_raw())
}

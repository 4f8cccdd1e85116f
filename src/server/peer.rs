//! Who is calling, as the kernel reports it.

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

/// Where a process runs.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(windows, expect(dead_code, reason = "there are no units"))]
pub(super) enum Unit {
    /// In the unit of that name.
    Named(String),
    /// In none, or the process that connected is gone.
    None,
    /// Another process may have its process id by now; a new connection will show it.
    Ambiguous,
}

/// The resolution of start times in `/proc`: 100 per second on every machine (time(7), `USER_HZ`).
pub(super) const USER_HZ_TICK: Duration = Duration::from_millis(10);

/// Returns the time if no caller waits to be accepted now; `None` too where this kernel identifies processes
/// without it.
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
    /// Its effective user id; `None` for the overflow uid, which is anyone of another user
    /// namespace, and on Windows, where users have no number.
    pub uid: Option<u32>,
    /// Its effective group id; `None` for the overflow gid.
    pub gid: Option<u32>,
    /// Its process id; absent if it runs in a PID namespace that can't be seen from here.
    pub pid: Option<u32>,
    /// When no caller was waiting to be accepted, last before this one; where the kernel does not identify
    /// the process.
    #[cfg(unix)]
    pub(super) backlog_empty_at: Option<BootTime>,
}

impl Peer {
    /// Returns what the kernel reports. `backlog_empty_at` is when no caller was waiting to be accepted, last
    /// before this one.
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

    /// Returns the systemd unit that it runs in now, if it still runs: a process that passes its connection on
    /// and ends does not lend its unit to the next one.
    #[must_use]
    #[cfg(unix)]
    pub(super) fn unit(&self, stream: &CallerStream) -> Unit {
        match self.pid {
            Some(pid) => systemd_unit::of(stream, pid, self),
            None => Unit::None,
        }
    }

    /// Returns its process, which is all that the system reports.
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

/// Whether it is root or the daemon's own user.
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

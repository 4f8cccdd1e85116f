//! Looks up the systemd unit of a peer by its cgroup in `/proc`, which is valid only while the process that connected
//! still runs (`SO_PEERPIDFD`).

use std::fs;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::sync::OnceLock;

use nix::errno::Errno;
use nix::sys::socket::{getsockopt, sockopt};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::time::Timespec;
use tracing::warn;

use super::{Peer, USER_HZ_TICK, Unit};
use crate::platform::clock::BootTime;
use crate::platform::users;

/// Returns whether the kernel returns a descriptor of the process that connected, as from 6.5 on. Without one a process
/// is known only by its process id, which another may have now.
pub(super) fn has_descriptors() -> bool {
    static FOUND: OnceLock<bool> = OnceLock::new();
    *FOUND.get_or_init(|| {
        let Ok((one, _other)) = UnixStream::pair() else {
            return false;
        };
        getsockopt(&one, sockopt::PeerPidfd).is_ok()
    })
}

/// Returns the unit of the process `pid`, if it is the one that connected as `peer`, still runs, and still has
/// the user and group that it connected as.
pub(super) fn of(stream: &impl AsFd, pid: u32, peer: &Peer) -> Unit {
    if !proc_is_ours() {
        return Unit::None;
    }
    let descriptor = getsockopt(&stream, sockopt::PeerPidfd);
    let cgroup = cgroup(pid, peer);
    let is_it = match descriptor {
        Ok(descriptor) => is_running(&descriptor),
        Err(Errno::ENOPROTOOPT) => match is_older_than_its_connection(pid, peer.backlog_empty_at) {
            Some(false) => return Unit::Ambiguous,
            found => found.is_some(),
        },
        // The process has ended, and another may have its id.
        Err(_) => false,
    };
    let unit = cgroup.filter(|_| is_it).and_then(|text| unit_in(&text));
    unit.map_or(Unit::None, Unit::Named)
}

/// Returns the cgroups of the process, if it has the user and group of `peer`.
fn cgroup(pid: u32, peer: &Peer) -> Option<String> {
    let text = fs::read_to_string(format!("/proc/{pid}/cgroup")).ok()?;
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let uid = peer.uid.unwrap_or_else(users::overflow_uid);
    let gid = peer.gid.unwrap_or_else(users::overflow_gid);
    (user_in(&status)? == (uid, gid)).then_some(text)
}

/// Returns whether the process started before a connection that was made after `backlog_empty_at`: then it is the
/// one that made it. `None` if there is no such process.
fn is_older_than_its_connection(pid: u32, backlog_empty_at: Option<BootTime>) -> Option<bool> {
    let start = start_in(&fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)?;
    let ticks = |time: BootTime| u128::from(time.as_millis()) / USER_HZ_TICK.as_millis();
    Some(backlog_empty_at.is_some_and(|empty| u128::from(start) < ticks(empty)))
}

/// Returns effective user and group (proc(5)).
fn user_in(status: &str) -> Option<(u32, u32)> {
    let effective = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name))?;
        line.split_whitespace().nth(1)?.parse().ok()
    };
    Some((effective("Uid:")?, effective("Gid:")?))
}

/// Returns whether `/proc` is of our PID namespace. In that of another one a peer's id belongs to a different process.
fn proc_is_ours() -> bool {
    static FOUND: OnceLock<bool> = OnceLock::new();
    *FOUND.get_or_init(|| {
        let own = fs::read_link("/proc/self").ok();
        let is_ours = own.is_some_and(|own| own.as_os_str() == &*std::process::id().to_string());
        if !is_ours {
            warn!("/proc belongs to another PID namespace; access rules by unit grant nothing");
        }
        is_ours
    })
}

/// Returns whether the process runs: its descriptor becomes readable when it ends.
fn is_running(process: &impl AsFd) -> bool {
    not_readable(process)
}

/// Returns whether there is nothing to read and no caller to accept.
pub(super) fn not_readable(descriptor: &impl AsFd) -> bool {
    let mut polled = [PollFd::new(descriptor, PollFlags::IN)];
    matches!(poll(&mut polled, Some(&Timespec::default())), Ok(0))
}

/// Returns field 22 of `/proc/PID/stat` (proc(5)), unless the process has ended. The command's name before it may
/// contain anything, so it ends with the last parenthesis.
fn start_in(stat: &str) -> Option<u64> {
    let (_, fields) = stat.rsplit_once(')')?;
    let mut fields = fields.split_whitespace();
    let state = fields.next()?;
    let is_running = !matches!(state, "Z" | "X");
    fields.nth(18)?.parse().ok().filter(|_| is_running)
}

/// Returns the unit by systemd's own hierarchy, which version 1 and hybrids have, else by version 2, which an inner
/// systemd may use on a host that has both.
fn unit_in(cgroup: &str) -> Option<String> {
    let mut lines = cgroup.lines();
    let of_systemd = lines.find_map(|line| line.split_once(':')?.1.strip_prefix("name=systemd:"));
    let unified = cgroup.lines().find_map(|line| line.strip_prefix("0::"));
    let unit = of_systemd.and_then(unit_of);
    unit.or_else(|| unified.and_then(unit_of))
}

/// Returns the first part of the cgroup's path that is no slice: for a user's service that user's manager, for a
/// container's process the container's unit.
fn unit_of(path: &str) -> Option<String> {
    let mut parts = path.strip_prefix('/')?.split('/');
    let unit = parts.find(|part| !has_suffix(part, ".slice"))?;
    // systemd prefixes names that would collide with the kernel's files.
    let unit = unit.strip_prefix('_').unwrap_or(unit);
    // A path out of the visible hierarchy identifies nothing.
    let is_name = !unit.is_empty() && unit != ".." && unit != ".";
    is_name.then(|| unit.to_owned())
}

fn has_suffix(part: &str, suffix: &str) -> bool {
    part.len() > suffix.len() && part.ends_with(suffix)
}

/// Entry points for fuzzers.
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzzing {
    /// Reads it as a cgroup file and as a stat file.
    pub(crate) fn process(text: &str) {
        let _ = super::start_in(text);
        if let Some(unit) = super::unit_in(text) {
            assert!(!unit.contains('/') && !unit.contains('\n'), "{unit:?}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unit_is_the_first_component_that_is_not_a_slice() {
        let unit = |path: &str| unit_in(&format!("0::{path}\n"));
        let named = |name: &str| Some(name.to_owned());
        assert_eq!(unit("/system.slice/etl.service"), named("etl.service"));
        assert_eq!(
            unit("/system.slice/system-a.slice/a@1.service/sub"),
            named("a@1.service")
        );
        let own = "/user.slice/user-1000.slice/user@1000.service/app.slice/etl.service";
        assert_eq!(unit(own), named("user@1000.service"));
        assert_eq!(
            unit("/user.slice/user-1000.slice/session-2.scope"),
            named("session-2.scope")
        );
        let docker = "/system.slice/docker.service/etl.service";
        assert_eq!(unit(docker), named("docker.service"));
        for none in [
            "/",
            "",
            "/system.slice",
            "/../..",
            "/system.slice/../x",
            "relative",
        ] {
            assert_eq!(unit(none), None, "{none}");
        }
        assert_eq!(
            unit("/system.slice/_memory.service"),
            named("memory.service")
        );
        assert_eq!(unit("/system.slice/__x.service"), named("_x.service"));
        assert_eq!(
            unit("/.slice"),
            named(".slice"),
            "no slice has an empty name"
        );
    }

    #[test]
    fn cgroup_v1_v2_and_hybrid_paths_are_parsed() {
        let named = Some("etl.service".to_owned());
        let v1 = "12:pids:/x.slice/wrong.service\n1:name=systemd:/system.slice/etl.service\n";
        assert_eq!(unit_in(v1), named);
        let hybrid = "1:name=systemd:/system.slice/etl.service\n0::/system.slice/etl.service\n";
        assert_eq!(unit_in(hybrid), named);
        let inner = "1:name=systemd:/\n0::/system.slice/etl.service\n";
        assert_eq!(unit_in(inner), named);
        assert_eq!(
            unit_in("0::/system.slice/etl.service:with:colons\n").unwrap(),
            "etl.service:with:colons"
        );
        assert_eq!(unit_in("2:cpu:/system.slice/etl.service\n"), None);
        assert_eq!(unit_in(""), None);
    }

    #[test]
    fn effective_user_and_group_are_read() {
        let status = "Name:\tUid:\t9\nUid:\t1\t2\t3\t4\nGid:\t5\t6\t7\t8\n";
        assert_eq!(user_in(status), Some((2, 6)));
        assert_eq!(user_in("Uid:\t1\n"), None);
        assert_eq!(user_in(""), None);
        assert!(proc_is_ours());
    }

    #[test]
    fn process_older_than_its_connection_is_distinguished_from_a_younger_one() {
        let now = crate::platform::clock::boot_now();
        let own = std::process::id();
        let older = |backlog_empty_at| is_older_than_its_connection(own, backlog_empty_at);
        assert_eq!(older(Some(now + USER_HZ_TICK * 2)), Some(true));
        assert_eq!(older(Some(BootTime::from_millis(0))), Some(false));
        assert_eq!(
            older(None),
            Some(false),
            "nothing is known of its connection"
        );
        assert_eq!(is_older_than_its_connection(u32::MAX, Some(now)), None);
    }

    #[test]
    fn command_with_parentheses_does_not_shift_the_fields() {
        let fields = "S 1 1 1 0 -1 4194560 100 0 0 0 1 2 0 0 20 0 1 0 987654 1000 10";
        assert_eq!(start_in(&format!("42 (a) b (c)) {fields}")), Some(987_654));
        assert_eq!(start_in("42 (a"), None);
        assert_eq!(start_in("42 (a) S 1"), None);
        assert_eq!(
            start_in(&format!("42 (a) {}", fields.replace('S', "Z"))),
            None
        );
    }
}

//! Namespaces of containers.

use std::path::Path;
use std::process::{Command, Output};

use super::callers::is_root;
use super::print_skip;
use super::process::wrapped;

/// Which namespaces a container has besides that of its mounts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Container {
    /// A PID namespace, as usual.
    Pid,
    /// A user namespace as well, in which only the caller's uid exists, as root: a rootless container.
    PidAndUser,
}

impl Container {
    pub(crate) const ALL: [Self; 2] = [Self::Pid, Self::PidAndUser];

    /// A command that runs another one in such a container, as a user of the host.
    pub(crate) fn command(self, uid: u32, inner: &Command) -> Command {
        let uid = uid.to_string();
        let user = [
            "setpriv",
            "--reuid",
            &uid,
            "--regid",
            &uid,
            "--clear-groups",
        ];
        let mut unshare = vec!["unshare", "--pid", "--fork", "--kill-child", "--mount-proc"];
        let words = match self {
            Self::Pid => {
                unshare.extend(user);
                unshare
            }
            // Creating a user namespace gives the rights to create the others.
            Self::PidAndUser => {
                unshare.extend(["--user", "--map-root-user"]);
                [user.to_vec(), unshare].concat()
            }
        };
        wrapped(&words, inner)
    }
}

/// A command that runs another one with an empty `/run` except for `folder`, mounted at `/run/domo-token`.
pub(crate) fn with_host_socket_in(folder: &Path, inner: &Command) -> Command {
    let script = "mount -t tmpfs -o mode=755 none /run && mkdir /run/domo-token && \
                  mount --bind \"$0\" /run/domo-token && exec \"$@\"";
    let folder = folder.to_str().unwrap();
    wrapped(&["unshare", "-m", "sh", "-c", script, folder], inner)
}

/// A command that runs another one with a boot clock shifted by that many seconds.
pub(crate) fn with_boot_clock(ahead: i64, inner: &Command) -> Command {
    let ahead = ahead.to_string();
    let unshare = [
        "unshare",
        "--time",
        "--boottime",
        &ahead,
        "--fork",
        "--kill-child",
    ];
    wrapped(&unshare, inner)
}

/// Returns whether time namespaces can be created; otherwise prints that the test is skipped.
pub(crate) fn can_shift_clocks() -> bool {
    let probe = with_boot_clock(1, &Command::new("true")).output();
    let can_create = probe.is_ok_and(|probe| probe.status.success());
    if !can_create {
        print_skip("no time namespace can be made here");
    }
    can_create
}

/// Returns whether root can create containers; otherwise prints that the test is skipped.
pub(crate) fn can_create_containers() -> bool {
    if !is_root() {
        return false;
    }
    let can_create = |container: Container| {
        let probe = container.command(4242, &Command::new("true")).output();
        probe.is_ok_and(|probe: Output| probe.status.success())
    };
    let all = Container::ALL.into_iter().all(can_create);
    if !all {
        print_skip("no PID and user namespaces can be made here");
    }
    all
}

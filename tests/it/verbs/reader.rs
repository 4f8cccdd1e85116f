//! Commands that print repeatedly end when the reader of standard output closes it.

use std::fs::File;
use std::io::Read;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::process::{Command, Stdio};

use rustix::fs::{CWD, Mode, OFlags, openat};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};

use crate::common::process::{KillOnDrop, first_line, wait_for_exit};
use crate::common::wait::until;
use crate::common::{HOUR, helper, sandbox_and_daemon, secrecy};

const COMMANDS: [&[&str]; 3] = [
    &["watch", "data"],
    &["status", "--watch"],
    &["status", "--watch", "--json"],
];

struct Running(KillOnDrop);

impl Running {
    fn start(command: &mut Command) -> Self {
        Self(KillOnDrop(command.spawn().unwrap()))
    }

    /// Waits until it exits with 74, and checks that it has printed no error.
    fn assert_ends(mut self, what: &str) {
        let status = wait_for_exit(&mut self.0);
        let mut stderr = String::new();
        let mut pipe = self.0.stderr.take().unwrap();
        pipe.read_to_string(&mut stderr).unwrap();
        secrecy::assert_none("standard error", &stderr);
        assert_eq!((status.code(), stderr.as_str()), (Some(74), ""), "{what}");
    }
}

#[test]
fn watch_and_status_end_when_the_reader_of_a_pipe_closes() {
    let (_sandbox, daemon) = sandbox_and_daemon(HOUR);
    for arguments in COMMANDS {
        let mut running = Running::start(&mut daemon.helper(arguments));
        let line = first_line(running.0.stdout.take().unwrap());
        assert!(!line.is_empty());
        running.assert_ends(&format!("{arguments:?}"));
    }
}

#[test]
fn watch_and_status_end_when_the_reader_of_a_socket_or_terminal_closes() {
    let (_sandbox, daemon) = sandbox_and_daemon(HOUR);
    for arguments in COMMANDS {
        let (near, far) = UnixStream::pair().unwrap();
        let running = Running::start(daemon.helper(arguments).stdout(OwnedFd::from(far)));
        let line = first_line(near);
        assert!(!line.is_empty());
        running.assert_ends(&format!("{arguments:?} into a socket"));

        let near = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC).unwrap();
        grantpt(&near).unwrap();
        unlockpt(&near).unwrap();
        let name = ptsname(&near, Vec::new()).unwrap();
        let far = openat(
            CWD,
            name,
            OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC,
            Mode::empty(),
        )
        .unwrap();
        let running = Running::start(daemon.helper(arguments).stdout(far));
        let line = first_line(File::from(near));
        assert!(!line.is_empty());
        running.assert_ends(&format!("{arguments:?} on a terminal"));
    }
}

#[test]
fn watch_ends_before_its_first_token_when_its_reader_closes() {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("none.sock");
    let arguments = ["watch", "--wait", "--timeout", "10m", "data"];
    let mut running = Running::start(&mut helper(&socket, &arguments));
    drop(running.0.stdout.take());
    running.assert_ends("watch");
}

#[test]
fn watch_and_status_continue_where_no_reader_is_needed() {
    let (_sandbox, mut daemon) = sandbox_and_daemon(HOUR);
    let start = |arguments: &[&str]| {
        [Stdio::null(), tempfile::tempfile().unwrap().into()]
            .map(|stdout| Running::start(daemon.helper(arguments).stdout(stdout)))
    };
    let children: Vec<Running> = COMMANDS.into_iter().flat_map(start).collect();
    for child in &children {
        // Includes the thread that waits for the reader to close.
        until(|| {
            let tasks = std::fs::read_dir(format!("/proc/{}/task", child.0.id()));
            let count = tasks.unwrap().count();
            (count > 1).then_some(()).ok_or(count)
        });
    }
    daemon.signal("-TERM");
    daemon.wait();
    for mut child in children {
        let line = first_line(child.0.stderr.take().unwrap());
        assert!(line.contains("broker"), "{line:?}");
    }
    daemon.start_again();
}

//! Commands whose standard error nobody reads: a full pipe, or a terminal after Ctrl-S.

use std::io::{ErrorKind, Write, pipe};
use std::os::fd::OwnedFd;
use std::os::unix::process::ExitStatusExt;
use std::time::Duration;

use domo_sandbox::Fault;
use rustix::fs::{CWD, Mode, OFlags, fcntl_setfl, openat};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{Action, tcflow};

use super::watch::{wait_for, wait_for_token};
use crate::common::process::{send_signal, wait_for_exit};
use crate::common::sandbox_and_daemon;

/// Both ends of a pipe that is full.
fn full_pipe() -> (OwnedFd, OwnedFd) {
    let (reader, writer) = pipe().unwrap();
    fcntl_setfl(&writer, OFlags::NONBLOCK).unwrap();
    let mut file = writer.try_clone().unwrap();
    let full = loop {
        if let Err(error) = file.write(b"x") {
            break error;
        }
    };
    assert_eq!(full.kind(), ErrorKind::WouldBlock);
    fcntl_setfl(&writer, OFlags::empty()).unwrap();
    (reader.into(), writer.into())
}

/// Both ends of a terminal whose output is stopped.
fn stopped_terminal() -> (OwnedFd, OwnedFd) {
    let near = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC).unwrap();
    grantpt(&near).unwrap();
    unlockpt(&near).unwrap();
    let name = ptsname(&near, Vec::new()).unwrap();
    let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC;
    let far = openat(CWD, name, flags, Mode::empty()).unwrap();
    tcflow(&far, Action::OOff).unwrap();
    (near, far)
}

#[test]
fn watch_removes_its_file_and_ends_with_an_unread_standard_error() {
    let (sandbox, daemon) = sandbox_and_daemon(Duration::from_secs(3));
    for make in [full_pipe, stopped_terminal] {
        sandbox.recover();
        let (_reader, stderr) = make();
        let file = daemon.folder().join("token");
        let arguments = ["watch", "--wait", "--to", file.to_str().unwrap(), "data"];
        let mut child = daemon.helper(&arguments).stderr(stderr).spawn().unwrap();
        wait_for_token(&file);
        sandbox.always(Fault::status(503));
        wait_for(&file, |text| text.is_none());
        sandbox.recover();
        wait_for_token(&file);
        send_signal(child.id(), "-TERM");
        let status = wait_for_exit(&mut child);
        assert_eq!(status.signal(), Some(15));
        assert!(!file.exists());
    }
}

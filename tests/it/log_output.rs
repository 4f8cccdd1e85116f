//! The daemon's log: which lines it contains, and what happens where nobody reads it.

use std::io::{Read, pipe};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::{ExitStatus, Stdio};

use crate::common::process::{KillOnDrop, send_signal, wait_for_exit};
use crate::common::wait::until;
use crate::common::{
    Daemon, HOUR, config_text, folder, helper, parts, run_to_end, sandbox, sandbox_and_folder,
    secrecy, token,
};
use domo_sandbox::Sandbox;
use domo_token_client::Broker;
use rustix::fs::{Mode, OFlags};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{Action, tcflow};
use tempfile::TempDir;

/// A daemon with a standard error of the test's choice, killed when dropped.
struct Logging {
    child: KillOnDrop,
    folder: TempDir,
}

impl Logging {
    fn start(sandbox: &Sandbox, stderr: OwnedFd) -> Self {
        let folder = folder(&config_text(sandbox, "[\"data\"]"));
        let mut command = Daemon::command(folder.path());
        let child = KillOnDrop(command.stderr(Stdio::from(stderr)).spawn().unwrap());
        Self { child, folder }
    }

    fn socket(&self) -> PathBuf {
        self.folder.path().join("broker.sock")
    }

    fn ask(&self, arguments: &[&str]) -> String {
        let output = helper(&self.socket(), arguments).output().unwrap();
        let (code, stdout, stderr) = parts(&output);
        assert_eq!(code, Some(0), "{stderr}");
        stdout
    }

    fn dropped(&self) -> u64 {
        let metrics = self.ask(&["status", "--metrics"]);
        let name = "domo_token_log_lines_dropped_total ";
        let line = metrics.lines().find_map(|line| line.strip_prefix(name));
        line.unwrap().parse().unwrap()
    }

    /// Checks that callers are served while the daemon logs more than it and the system buffer.
    fn serves_until_lines_are_dropped(&self) {
        let wait = helper(&self.socket(), &["--wait", "data"]).output();
        token(&wait.unwrap());
        let broker = Broker::connect_to(self.socket()).unwrap();
        until(|| {
            for _ in 0..500 {
                broker.status().unwrap();
            }
            match self.dropped() {
                0 => Err("no line is dropped"),
                _ => Ok(()),
            }
        });
        assert_eq!(self.ask(&["status", "-q"]), "");
    }

    fn end(&mut self, signal: &str) -> ExitStatus {
        send_signal(self.child.id(), signal);
        wait_for_exit(&mut self.child)
    }
}

#[test]
fn daemon_with_an_unread_log_serves_drops_lines_and_stops() {
    let sandbox = sandbox(HOUR);
    let (_unread, pipe) = pipe().unwrap();
    let (socket, _other) = UnixStream::pair().unwrap();
    let terminal = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
    grantpt(&terminal).unwrap();
    unlockpt(&terminal).unwrap();
    let name = ptsname(&terminal, Vec::new()).unwrap();
    let line = rustix::fs::open(name, OFlags::RDWR | OFlags::NOCTTY, Mode::empty()).unwrap();
    // As Ctrl-S does.
    tcflow(&line, Action::OOff).unwrap();
    for stderr in [OwnedFd::from(pipe), OwnedFd::from(socket), line] {
        let mut daemon = Logging::start(&sandbox, stderr);
        daemon.serves_until_lines_are_dropped();
        assert_eq!(daemon.end("-TERM").code(), Some(0));
    }
}

#[test]
fn log_read_again_reports_the_number_of_dropped_lines_and_has_the_last_ones() {
    let sandbox = sandbox(HOUR);
    let (mut unread, stderr) = pipe().unwrap();
    let mut daemon = Logging::start(&sandbox, stderr.into());
    daemon.serves_until_lines_are_dropped();
    let reader = std::thread::spawn(move || {
        let mut log = String::new();
        unread.read_to_string(&mut log).unwrap();
        log
    });
    // The gap ends once the reader has caught up, and the report is the next line.
    let dropped = until(|| {
        let before = daemon.dropped();
        let after = daemon.dropped();
        if before == after {
            Ok(after)
        } else {
            Err(after)
        }
    });
    assert_eq!(daemon.end("-TERM").code(), Some(0));
    let log = reader.join().unwrap();
    let report = log.lines().find(|line| line.contains("log lines dropped"));
    let report = report.unwrap_or_else(|| panic!("{log}"));
    assert!(
        report.contains(&format!("lines={dropped}")),
        "{dropped}: {report}"
    );
    assert!(log.trim_end().ends_with("stopped"), "{log}");
    secrecy::assert_none("the log", &log);
}

#[test]
fn failing_daemon_exits_although_its_log_is_not_read() {
    let sandbox = sandbox(HOUR);
    let (_unread, stderr) = pipe().unwrap();
    let own = format!("/proc/self/fd/{}", stderr.as_raw_fd());
    let flags = OFlags::WRONLY | OFlags::NONBLOCK;
    let filling = rustix::fs::open(own, flags, Mode::empty()).unwrap();
    while rustix::io::write(&filling, b"x").is_ok() {}
    let folder = folder(&config_text(&sandbox, "[]"));
    let mut command = Daemon::command(folder.path());
    let child = command.stderr(Stdio::from(stderr)).spawn().unwrap();
    let status = wait_for_exit(&mut KillOnDrop(child));
    assert_eq!(status.code(), Some(78));
}

#[test]
fn rust_log_of_another_program_is_ignored_with_one_notice() {
    let (_sandbox, folder) = sandbox_and_folder(HOUR);
    let mut command = Daemon::command_of_config(folder.path());
    command.env("RUST_LOG", "my_app=trace");
    let daemon = Daemon::start_as(command, folder);
    let notices = daemon.log.matches("RUST_LOG ignored").count();
    assert_eq!(notices, 1, "{}", daemon.log);
}

#[test]
fn log_flag_with_a_target_of_another_program_is_a_usage_error_of_every_command() {
    let (_sandbox, folder) = sandbox_and_folder(HOUR);
    for verb in [None, Some("check"), Some("init")] {
        let mut command = Daemon::command_of_config(folder.path());
        command.args(verb).args(["--log", "my_app=trace"]);
        let (code, stderr) = run_to_end(command);
        assert_eq!(code, Some(2), "{verb:?}: {stderr}");
        assert!(stderr.contains("not a log level"), "{verb:?}: {stderr}");
    }
}

//! Signals: how they end the helper, also as PID 1, and what its command inherits.

use std::fs;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use rustix::process::{Pid, Signal, kill_process};

use super::watch::wait_for_token;
use crate::common::namespaces::can_create_containers;
use crate::common::process::{KillOnDrop, wait_for_exit, wrapped};
use crate::common::wait::until;
use crate::common::{HOUR, helper, parts, sandbox_and_daemon};

const TERMINATING: [(Signal, i32); 4] = [
    (Signal::HUP, 1),
    (Signal::INT, 2),
    (Signal::QUIT, 3),
    (Signal::TERM, 15),
];

/// Returns a mask of `/proc/PID/status`.
fn mask(pid: u32, name: &str) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    mask_in(&status, name)
}

fn mask_in(status: &str, name: &str) -> u64 {
    let line = status.lines().find_map(|line| line.strip_prefix(name));
    line.map_or(0, |mask| u64::from_str_radix(mask.trim(), 16).unwrap())
}

/// A command in a PID namespace.
struct FirstProcess {
    unshare: KillOnDrop,
    pid: u32,
}

impl FirstProcess {
    fn start(command: &Command) -> Self {
        let words = ["unshare", "--pid", "--fork", "--kill-child", "--mount-proc"];
        let mut command = wrapped(&words, command);
        command.stdout(Stdio::null()).stderr(Stdio::piped());
        let unshare = KillOnDrop(command.spawn().unwrap());
        let id = unshare.id();
        let pid = until(|| {
            let children = fs::read_to_string(format!("/proc/{id}/task/{id}/children")).unwrap();
            children.trim().parse().map_err(|_| children)
        });
        Self { unshare, pid }
    }

    /// Waits until it handles SIGTERM.
    fn wait_for_handler(&self) {
        let is_handled = || mask(self.pid, "SigCgt:") >> 14 & 1 == 1;
        until(|| is_handled().then_some(()).ok_or("no handler"));
    }

    /// Sends that signal and returns the exit code.
    fn end_by(mut self, signal: Signal) -> Option<i32> {
        let pid = Pid::from_raw(self.pid.cast_signed()).unwrap();
        kill_process(pid, signal).unwrap();
        wait_for_exit(&mut self.unshare).code()
    }
}

#[test]
fn first_process_of_a_pid_namespace_ends_by_signals_wherever_it_waits() {
    if !can_create_containers() {
        return;
    }
    let (_sandbox, daemon) = sandbox_and_daemon(HOUR);
    let missing = daemon.folder().join("none.sock");
    let wait = ["--wait", "--timeout", "10m", "data"];
    let file = daemon.folder().join("token");
    let to = file.to_str().unwrap();
    let commands = [
        helper(&missing, &wait),
        helper(&missing, &[&["watch"], &wait[..]].concat()),
        helper(&missing, &[&["watch", "--to", to], &wait[..]].concat()),
        helper(&missing, &[&["exec"], &wait[..], &["--", "true"]].concat()),
        daemon.helper(&["watch", "data"]),
        daemon.helper(&["status", "--watch"]),
    ];
    for command in &commands {
        for (signal, number) in TERMINATING {
            let first = FirstProcess::start(command);
            first.wait_for_handler();
            let code = first.end_by(signal);
            assert_eq!(code, Some(128 + number), "{command:?}");
        }
    }
    for (signal, number) in TERMINATING {
        let first = FirstProcess::start(&daemon.helper(&["watch", "--to", to, "data"]));
        wait_for_token(&file);
        assert_eq!(first.end_by(signal), Some(128 + number));
        assert!(!file.exists());
    }
}

/// A command that starts another one with SIGHUP and SIGQUIT ignored and SIGUSR1 blocked.
fn with_signals(prefix: &[&str], inner: &Command) -> Command {
    let mut words = prefix.to_vec();
    words.extend([
        "env",
        "--ignore-signal=HUP",
        "--ignore-signal=QUIT",
        "--block-signal=USR1",
    ]);
    wrapped(&words, inner)
}

#[test]
fn execs_command_has_the_signal_dispositions_that_the_helper_was_started_with() {
    let (_sandbox, daemon) = sandbox_and_daemon(HOUR);
    let list = ["grep", "^Sig[BIC]", "/proc/self/status"];
    let mut plain = Command::new(list[0]);
    plain.args(&list[1..]);
    let exec = daemon.helper(&[&["exec", "data", "--"], &list[..]].concat());
    let mut prefixes = vec![&[][..]];
    if can_create_containers() {
        prefixes.push(&["unshare", "--pid", "--fork", "--mount-proc"]);
    }
    for prefix in prefixes {
        let [expected, found] =
            [&plain, &exec].map(|command| parts(&with_signals(prefix, command).output().unwrap()));
        assert_eq!(expected.0, Some(0), "{expected:?}");
        assert_eq!(found, expected);
        // Signals 1, 3 and, in the mask, 10.
        let low = |name: &str| mask_in(&found.1, name) & 0x0fff;
        assert_eq!((low("SigBlk:"), low("SigIgn:")), (0x200, 0b101));
    }
}

#[test]
fn watch_leaves_signals_ignored_that_were_ignored_when_it_was_started() {
    let (_sandbox, daemon) = sandbox_and_daemon(HOUR);
    let file = daemon.folder().join("token");
    let watch = daemon.helper(&["watch", "--to", file.to_str().unwrap(), "data"]);
    let mut child = with_signals(&[], &watch).spawn().unwrap();
    wait_for_token(&file);
    assert_eq!(mask(child.id(), "SigIgn:") & 0b111, 0b101);
    assert_eq!(mask(child.id(), "SigCgt:") & 0b111, 0b010);
    end(&mut child, &file);
}

fn end(child: &mut Child, file: &Path) {
    kill_process(Pid::from_child(child), Signal::TERM).unwrap();
    child.wait().unwrap();
    assert!(!file.exists());
}

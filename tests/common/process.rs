//! Commands that run other commands, and child processes.

use std::io::{BufRead, BufReader, Read};
use std::ops::{Deref, DerefMut};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};

use rustix::fs::{CWD, FileType, Mode, mknodat};

use super::wait::until;

/// A command that runs another one as the last arguments of `words`, in `/` and with its environment.
pub(crate) fn wrapped(words: &[&str], inner: &Command) -> Command {
    let mut command = Command::new(words[0]);
    command.args(&words[1..]);
    command.arg(inner.get_program()).args(inner.get_args());
    command
        .env_clear()
        .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin");
    for (name, value) in inner.get_envs() {
        command.env(name, value.unwrap_or_default());
    }
    command.current_dir("/").stdin(Stdio::null());
    command
}

/// A shell that runs `before` and then becomes the command.
pub(crate) fn in_shell_after(before: &str, inner: &Command) -> Command {
    let script = format!("{before}; exec \"$0\" \"$@\"");
    wrapped(&["/bin/sh", "-c", &script], inner)
}

/// A child process that is killed when dropped.
pub(crate) struct KillOnDrop(pub(crate) Child);

impl Deref for KillOnDrop {
    type Target = Child;

    fn deref(&self) -> &Child {
        &self.0
    }
}

impl DerefMut for KillOnDrop {
    fn deref_mut(&mut self) -> &mut Child {
        &mut self.0
    }
}

impl Drop for KillOnDrop {
    fn drop(&mut self) {
        let _ = self.kill();
        let _ = self.wait();
    }
}

pub(crate) fn send_signal(pid: u32, signal: &str) {
    let mut kill = Command::new("kill");
    let status = kill.args([signal, &pid.to_string()]).status();
    assert!(status.unwrap().success());
}

/// Reads up to the first newline, or the end.
pub(crate) fn first_line(reader: impl Read) -> String {
    let mut line = String::new();
    BufReader::new(reader).read_line(&mut line).unwrap();
    line
}

/// Waits for the end of a child, and fails the test if it does not end.
pub(crate) fn wait_for_exit(child: &mut Child) -> ExitStatus {
    until(|| child.try_wait().unwrap().ok_or("still runs"))
}

pub(crate) fn make_fifo(path: &Path) {
    mknodat(CWD, path, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
}

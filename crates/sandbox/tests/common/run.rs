//! `domo-sandbox run` with the real daemon and the real helper, which a build of the workspace puts beside it.

use std::ffi::OsString;
use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Output, Stdio};
use std::sync::mpsc::channel;
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tempfile::TempDir;

use super::PATIENCE;

/// Prints the broker's process id.
pub(crate) const BROKER_PID: &str = "domo-token status | sed -n 's/.* pid \\([0-9]*\\),.*/\\1/p'";

/// The program.
pub(crate) const PROGRAM: &str = env!("CARGO_BIN_EXE_domo-sandbox");

/// A place for one run, whose temporary files are found afterwards.
pub(crate) struct Place(pub(crate) TempDir);

impl Place {
    pub(crate) fn new() -> Self {
        for name in ["domo-tokend", "domo-token"] {
            let program = beside(name);
            let command = "cargo build --workspace --bins";
            assert!(program.exists(), "{}: {command}", program.display());
        }
        Self(tempfile::tempdir().unwrap())
    }

    /// Returns the command that runs `words`.
    pub(crate) fn run(&self, flags: &[&str], words: &[&str]) -> Command {
        let mut command = Command::new(PROGRAM);
        command.arg("run").args(flags).arg("--").args(words);
        command.env("TMPDIR", self.0.path()).env("PATH", path());
        for variable in ["DOMO_TOKEN_SOCKET", "RUST_LOG"] {
            command.env_remove(variable);
        }
        command.stdin(Stdio::null());
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    /// Runs a script. Returns exit code, standard output and standard error, and asserts that nothing is left.
    #[track_caller]
    pub(crate) fn script(&self, flags: &[&str], script: &str) -> (Option<i32>, String, String) {
        let output = self.run(flags, &["sh", "-c", script]).output().unwrap();
        self.assert_empty();
        parts(output)
    }

    pub(crate) fn start(&self, flags: &[&str], script: &str) -> Running {
        Running::new(self.run(flags, &["sh", "-c", script]))
    }

    pub(crate) fn leftovers(&self) -> Vec<OsString> {
        let entries = fs::read_dir(self.0.path()).unwrap();
        entries.map(|entry| entry.unwrap().file_name()).collect()
    }

    #[track_caller]
    pub(crate) fn assert_empty(&self) {
        assert_eq!(self.leftovers(), [""; 0]);
    }
}

/// A run whose command prints lines.
pub(crate) struct Running {
    pub(crate) child: Child,
    lines: BufReader<ChildStdout>,
}

impl Running {
    pub(crate) fn new(mut command: Command) -> Self {
        let mut child = command.spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap());
        Self { child, lines }
    }

    pub(crate) fn line(&mut self) -> String {
        let mut line = String::new();
        self.lines.read_line(&mut line).unwrap();
        line.trim_end().to_owned()
    }

    pub(crate) fn send(&self, signal: Signal) {
        kill(Pid::from_raw(self.child.id().cast_signed()), signal).unwrap();
    }

    /// Waits for the end. Returns exit code and standard error.
    pub(crate) fn end(mut self) -> (Option<i32>, String) {
        let status = self.child.wait().unwrap();
        let mut stderr = String::new();
        let mut pipe = self.child.stderr.take().unwrap();
        pipe.read_to_string(&mut stderr).unwrap();
        (status.code(), stderr)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

pub(crate) fn beside(name: &str) -> PathBuf {
    Path::new(PROGRAM).with_file_name(name)
}

/// Returns a search path that begins with the programs of this build.
pub(crate) fn path() -> OsString {
    let own = Path::new(PROGRAM).parent().unwrap().to_owned();
    let variable = std::env::var_os("PATH").unwrap();
    std::env::join_paths([own].into_iter().chain(std::env::split_paths(&variable))).unwrap()
}

pub(crate) fn parts(output: Output) -> (Option<i32>, String, String) {
    let text = |bytes| String::from_utf8(bytes).unwrap();
    let (stdout, stderr) = (text(output.stdout), text(output.stderr));
    (output.status.code(), stdout, stderr)
}

/// Polls until `is_so`, and fails the test if that takes too long.
#[track_caller]
pub(crate) fn until(mut is_so: impl FnMut() -> bool) {
    let (sender, timer) = channel::<()>();
    let polls = PATIENCE.as_millis() / 5;
    for _ in 0..polls {
        if is_so() {
            return;
        }
        // Nothing is ever sent: this is the pause between two polls.
        let _ = timer.recv_timeout(Duration::from_millis(5));
    }
    drop(sender);
    panic!("not within {PATIENCE:?}");
}

/// Returns whether a process runs; one that is not reaped counts as ended.
pub(crate) fn runs(pid: i32) -> bool {
    let status = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let is_zombie = status
        .rsplit_once(") ")
        .is_some_and(|(_, rest)| rest.starts_with('Z'));
    kill(Pid::from_raw(pid), None) != Err(Errno::ESRCH) && !is_zombie
}

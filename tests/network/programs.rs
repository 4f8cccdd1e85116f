//! Programs that tests start, and that end with the test.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use crate::common::print_skip;

/// Directories of system programs, also if they are not in an ordinary user's `PATH`.
const DIRECTORIES: [&str; 4] = ["/usr/sbin", "/usr/bin", "/sbin", "/bin"];

/// Returns the path of a system program, if it is installed.
pub(crate) fn installed(name: &str) -> Option<PathBuf> {
    let mut paths = DIRECTORIES
        .iter()
        .map(|directory| Path::new(directory).join(name));
    paths.find(|path| path.exists())
}

/// Returns whether all of these are installed; otherwise prints that the test is skipped.
pub(crate) fn are_installed(names: &[&str]) -> bool {
    let missing: Vec<_> = names
        .iter()
        .filter(|name| installed(name).is_none())
        .collect();
    if !missing.is_empty() {
        print_skip(format_args!("not installed: {missing:?}"));
    }
    missing.is_empty()
}

/// A process that is terminated when dropped.
pub(crate) struct Running(Child);

impl Running {
    pub(crate) fn start(command: &mut Command) -> Self {
        Self(command.stdin(Stdio::null()).spawn().unwrap())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // By SIGTERM, so that it ends its own helpers.
        let pid = self.0.id().to_string();
        let _ = Command::new("kill").args(["-TERM", &pid]).status();
        let _ = self.0.wait();
    }
}

/// A dnsmasq on 127.0.0.53 with these arguments.
pub(crate) fn dnsmasq(arguments: &[&str]) -> Running {
    let mut command = Command::new(installed("dnsmasq").unwrap());
    command.args([
        "--keep-in-foreground",
        "--conf-file=/dev/null",
        "--no-resolv",
        "--no-hosts",
        "--listen-address=127.0.0.53",
        "--bind-interfaces",
        "--pid-file=",
        "--user=root",
        "--log-facility=-",
    ]);
    command.args(arguments).stderr(Stdio::piped());
    let mut running = Running::start(&mut command);
    let log = BufReader::new(running.0.stderr.take().unwrap());
    let mut lines = log.lines().map(Result::unwrap);
    assert!(lines.any(|line| line.contains("started, version")));
    running
}

//! A daemon for one test.

use std::collections::BTreeSet;
use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::thread;

use domo_token_client::Broker;
use serde_json::Value;
use tempfile::TempDir;

use super::process::send_signal;
use super::{PATIENCE, folder, helper, parts, secrecy};

/// A running `domo-tokend`, killed when dropped. Its output and files are then searched for secrets: see [`secrecy`].
pub(crate) struct Daemon {
    child: Child,
    folder: TempDir,
    lines: Receiver<String>,
    /// The log since its last start.
    pub(crate) log: String,
    /// The files in its folder before its start.
    initial_files: BTreeSet<OsString>,
    /// Whether the test put a secret into its environment.
    given_secret: bool,
}

impl Daemon {
    /// Starts a daemon with that config and waits until it listens.
    pub(crate) fn start(config: &str) -> Self {
        Self::start_in(folder(config))
    }

    pub(crate) fn start_in(folder: TempDir) -> Self {
        let command = Self::command(folder.path());
        Self::start_as(command, folder)
    }

    /// Starts a daemon by that command with the config in `folder`, and waits until it listens.
    pub(crate) fn start_as(command: Command, folder: TempDir) -> Self {
        let mut daemon = Self::spawn_as(command, folder);
        daemon.wait_for_log("started");
        daemon
    }

    /// Like [`Self::start_as`], without waiting.
    pub(crate) fn spawn_as(command: Command, folder: TempDir) -> Self {
        let mut initial_files = secrecy::names(folder.path());
        // This file exists already, but the daemon writes it.
        initial_files.remove(OsStr::new(STDOUT_FILE));
        let given = |value: &OsStr| value.to_string_lossy().contains("c4nary");
        let given_secret = command
            .get_envs()
            .any(|(_, value)| value.is_some_and(given));
        let (child, lines) = Self::launch(command);
        Self {
            child,
            folder,
            lines,
            log: String::new(),
            initial_files,
            given_secret,
        }
    }

    /// Stops it by that signal and starts it again in the same folder.
    pub(crate) fn restart(&mut self, signal: &str) {
        self.signal(signal);
        self.wait();
        self.start_again();
    }

    /// The same by that command.
    pub(crate) fn restart_as(&mut self, signal: &str, command: Command) {
        self.signal(signal);
        self.wait();
        self.start_again_as(command);
    }

    /// Starts it again in the same folder after its end.
    pub(crate) fn start_again(&mut self) {
        self.start_again_as(Self::command(self.folder.path()));
    }

    fn start_again_as(&mut self, command: Command) {
        self.drain();
        secrecy::assert_none("the log", &self.log);
        self.log.clear();
        (self.child, self.lines) = Self::launch(command);
        self.wait_for_log("started");
    }

    fn launch(mut command: Command) -> (Child, Receiver<String>) {
        let mut child = command.stderr(Stdio::piped()).spawn().unwrap();
        let stderr = child.stderr.take().unwrap();
        let (sender, lines) = channel();
        thread::spawn(move || {
            for line in BufReader::new(stderr).lines() {
                let Ok(line) = line else { return };
                if sender.send(line).is_err() {
                    return;
                }
            }
        });
        (child, lines)
    }

    /// The daemon's command with the config in `folder` and the log level `trace`.
    pub(crate) fn command(folder: &Path) -> Command {
        let mut command = Self::command_of_config(folder);
        command.args(["--log", "trace"]);
        command
    }

    /// The same with the log level of the config.
    pub(crate) fn command_of_config(folder: &Path) -> Command {
        Self::command_at(folder, &folder.join("broker.sock"))
    }

    /// The same with its socket at that path.
    pub(crate) fn command_at(folder: &Path, socket: &Path) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_domo-tokend"));
        command
            .env_clear()
            .stdin(Stdio::null())
            .stdout(stdout_file(folder));
        command.arg("--config").arg(folder.join("config.toml"));
        command.arg("--socket").arg(socket);
        command
    }

    /// Waits for a log line that contains `text`, and returns it.
    pub(crate) fn wait_for_log(&mut self, text: &str) -> String {
        self.wait_for_one_of(&[text])
    }

    /// Waits for a log line that contains one of these texts, and returns it.
    pub(crate) fn wait_for_one_of(&mut self, texts: &[&str]) -> String {
        loop {
            let Ok(line) = self.lines.recv_timeout(PATIENCE) else {
                panic!("none of {texts:?} in the log:\n{}", self.log);
            };
            self.log.push_str(&line);
            self.log.push('\n');
            if texts.iter().any(|text| line.contains(text)) {
                return line;
            }
        }
    }

    /// Sends SIGHUP and returns the log line with its result. A line about a reload that a file change
    /// caused earlier is ignored.
    pub(crate) fn reload(&mut self) -> String {
        self.signal("-HUP");
        self.wait_for_log("cause=SIGHUP")
    }

    pub(crate) fn socket(&self) -> PathBuf {
        self.folder.path().join("broker.sock")
    }

    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Replaces a file in its folder.
    pub(crate) fn write(&self, name: &str, text: &str) {
        fs::write(self.folder().join(name), text).unwrap();
    }

    pub(crate) fn broker(&self) -> Broker {
        Broker::connect_to(self.socket()).unwrap()
    }

    /// Returns the output of `domo-token status --json`.
    pub(crate) fn status(&self) -> Value {
        let (_, stdout, stderr) = parts(&self.ask(&["status", "--json"]));
        serde_json::from_str(&stdout).unwrap_or_else(|_| panic!("{stderr}"))
    }

    /// Returns the status of one scope set.
    pub(crate) fn status_of(&self, scope: &str) -> Value {
        let status = self.status();
        let sets = status["tokens"].as_array().unwrap();
        let found = sets.iter().find(|set| set["scope"] == scope);
        found.unwrap_or_else(|| panic!("{status}")).clone()
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn signal(&self, name: &str) {
        send_signal(self.pid(), name);
    }

    /// Sends SIGTERM and returns the exit code and the log.
    pub(crate) fn stop(self) -> (Option<i32>, String) {
        secrecy::assert_none_in_process(self.pid(), self.given_secret);
        self.signal("-TERM");
        self.wait_with_log()
    }

    pub(crate) fn has_ended(&mut self) -> bool {
        self.child.try_wait().unwrap().is_some()
    }

    /// Waits for its end.
    pub(crate) fn wait(&mut self) -> ExitStatus {
        self.child.wait().unwrap()
    }

    /// Waits for its end and returns the exit code and the log.
    pub(crate) fn wait_with_log(mut self) -> (Option<i32>, String) {
        let code = self.child.wait().unwrap().code();
        self.drain();
        self.search();
        (code, std::mem::take(&mut self.log))
    }

    /// Reads the rest of the log, which ends with the process.
    fn drain(&mut self) {
        while let Ok(line) = self.lines.recv_timeout(PATIENCE) {
            self.log.push_str(&line);
            self.log.push('\n');
        }
    }

    /// Searches its log and its files for secrets.
    #[track_caller]
    fn search(&self) {
        secrecy::assert_none("the log", &self.log);
        secrecy::assert_none_in_files(self.folder(), &self.initial_files);
    }

    /// The helper's command for this daemon.
    pub(crate) fn helper(&self, arguments: &[&str]) -> Command {
        helper(&self.socket(), arguments)
    }

    /// Runs the helper.
    pub(crate) fn ask(&self, arguments: &[&str]) -> Output {
        self.helper(arguments).output().unwrap()
    }
}

/// The file that receives a daemon's standard output.
const STDOUT_FILE: &str = "stdout";

/// Opens the file for standard output. The daemon should print nothing; what it prints is searched at its end.
pub(crate) fn stdout_file(folder: &Path) -> File {
    let path = folder.join(STDOUT_FILE);
    File::options()
        .create(true)
        .append(true)
        .open(path)
        .unwrap()
}

impl Drop for Daemon {
    fn drop(&mut self) {
        // A second panic would hide why the test failed.
        let is_searched = !thread::panicking();
        if is_searched {
            secrecy::assert_none_in_process(self.pid(), self.given_secret);
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
        self.drain();
        if is_searched {
            self.search();
        }
    }
}

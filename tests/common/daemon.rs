//! A daemon of a test's own.

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

/// A running `domo-tokend`, killed when dropped, and then searched for secrets: see [`secrecy`].
pub(crate) struct Daemon {
    child: Child,
    folder: TempDir,
    lines: Receiver<String>,
    /// All that it has logged since its last start.
    pub(crate) log: String,
    /// What was in its folder before it.
    before: BTreeSet<OsString>,
    /// Whether its environment holds a secret that a test put there.
    given_secret: bool,
}

impl Daemon {
    /// Starts it on that config and waits until it listens.
    pub(crate) fn start(config: &str) -> Self {
        Self::start_in(folder(config))
    }

    pub(crate) fn start_in(folder: TempDir) -> Self {
        let command = Self::command(folder.path());
        Self::start_as(command, folder)
    }

    /// Starts it by that command on the config in `folder`.
    pub(crate) fn start_as(command: Command, folder: TempDir) -> Self {
        let mut daemon = Self::spawn_as(command, folder);
        daemon.wait_for_log("started");
        daemon
    }

    /// The same without a wait until it listens.
    pub(crate) fn spawn_as(command: Command, folder: TempDir) -> Self {
        let mut before = secrecy::names(folder.path());
        // What it prints is its own, though there is a file for it already.
        before.remove(OsStr::new(SAID));
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
            before,
            given_secret,
        }
    }

    /// Ends it by that signal and starts it again in the same folder.
    pub(crate) fn restart(&mut self, signal: &str) {
        self.signal(signal);
        self.wait();
        self.start_again();
    }

    /// starts it again in the same folder once it has ended.
    pub(crate) fn start_again(&mut self) {
        self.drain();
        secrecy::assert_none("the log", &self.log);
        self.log.clear();
        (self.child, self.lines) = Self::launch(Self::command(self.folder.path()));
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

    /// The daemon's command on the config in `folder`, with the loudest log.
    pub(crate) fn command(folder: &Path) -> Command {
        let mut command = Self::command_of_config(folder);
        command.args(["--log", "trace"]);
        command
    }

    /// The same with what the config says of the log.
    pub(crate) fn command_of_config(folder: &Path) -> Command {
        Self::command_at(folder, &folder.join("broker.sock"))
    }

    /// The same with its socket at that path.
    pub(crate) fn command_at(folder: &Path, socket: &Path) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_domo-tokend"));
        command
            .env_clear()
            .stdin(Stdio::null())
            .stdout(said(folder));
        command.arg("--config").arg(folder.join("config.toml"));
        command.arg("--socket").arg(socket);
        command
    }

    /// Returns once a line with `text` has been logged.
    pub(crate) fn wait_for_log(&mut self, text: &str) -> String {
        self.wait_for_one_of(&[text])
    }

    /// The same with any of these texts.
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

    /// Has it read its files, and returns the line that says what came of it. That of a look after a
    /// change, which a slow machine may take before this one, doesn't count.
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

    /// What `domo-token status --json` shows.
    pub(crate) fn status(&self) -> Value {
        let (_, stdout, stderr) = parts(&self.ask(&["status", "--json"]));
        serde_json::from_str(&stdout).unwrap_or_else(|_| panic!("{stderr}"))
    }

    /// What it shows of one scope set.
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

    /// Sends SIGTERM and gives the exit code and the whole log.
    pub(crate) fn stop(self) -> (Option<i32>, String) {
        secrecy::assert_none_in_process(self.pid(), self.given_secret);
        self.signal("-TERM");
        self.ended()
    }

    pub(crate) fn has_ended(&mut self) -> bool {
        self.child.try_wait().unwrap().is_some()
    }

    /// Waits for its end.
    pub(crate) fn wait(&mut self) -> ExitStatus {
        self.child.wait().unwrap()
    }

    /// Waits for its end; gives the exit code and the whole log.
    pub(crate) fn ended(mut self) -> (Option<i32>, String) {
        let code = self.child.wait().unwrap().code();
        self.drain();
        self.search();
        (code, std::mem::take(&mut self.log))
    }

    /// Takes the log's rest over; it ends with the process.
    fn drain(&mut self) {
        while let Ok(line) = self.lines.recv_timeout(PATIENCE) {
            self.log.push_str(&line);
            self.log.push('\n');
        }
    }

    /// Searches what is left of it.
    #[track_caller]
    fn search(&self) {
        secrecy::assert_none("the log", &self.log);
        secrecy::assert_none_in_files(self.folder(), &self.before);
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

/// The file of what a daemon prints.
const SAID: &str = "said";

/// A file for what a daemon prints, which should be nothing, to be searched at its end.
pub(crate) fn said(folder: &Path) -> File {
    let path = folder.join(SAID);
    File::options()
        .create(true)
        .append(true)
        .open(path)
        .unwrap()
}

impl Drop for Daemon {
    fn drop(&mut self) {
        // A test that has failed already has something more to the point to say.
        let searched = !thread::panicking();
        if searched {
            secrecy::assert_none_in_process(self.pid(), self.given_secret);
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
        self.drain();
        if searched {
            self.search();
        }
    }
}

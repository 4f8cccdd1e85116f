//! A real daemon and a real helper against the sandbox.

#![allow(dead_code, reason = "each test file uses its own part")]
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "in a test, what fails says so"
)]

pub(crate) mod callers;
pub(crate) mod kernel;
pub(crate) mod many;
pub(crate) mod metrics;
pub(crate) mod secrecy;
pub(crate) mod service;
pub(crate) mod wait;

use std::collections::BTreeSet;
use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::Duration;

use domo_sandbox::{Recorded, Sandbox};
use domo_token_client::Broker;
use domo_token_client::clock::boot_now;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use serde_json::Value;
use tempfile::TempDir;

pub(crate) const CLIENT_ID: &str = "441e307a-b2a1-4a99-8561-174e5b153fe1";

/// Not 64 hex digits, so that nothing hides it but the care it is owed.
pub(crate) const CANARY_SECRET: &str = "c4nary-secret-never-to-be-seen";

/// How long Domo's tokens live.
pub(crate) const HOUR: Duration = Duration::from_secs(3599);

/// How long an event is waited for before a test fails; only ever reached by a failure.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

pub(crate) fn sandbox(lifetime: Duration) -> Sandbox {
    Sandbox::builder()
        .client(CLIENT_ID, CANARY_SECRET, &["data", "user", "audit"])
        .lifetime(lifetime)
        .start()
        .unwrap()
}

/// The config of a client `acme` at `sandbox`, with its secret in a file.
pub(crate) fn config_text(sandbox: &Sandbox, tokens: &str) -> String {
    client_text("acme", sandbox, tokens)
}

/// The same of a client of another name.
pub(crate) fn client_text(name: &str, sandbox: &Sandbox, tokens: &str) -> String {
    format!(
        "[clients.{name}]\nclient_id = \"{CLIENT_ID}\"\nclient_secret_file = \"acme.secret\"\n\
         tokens = {tokens}\ntoken_url = \"{}\"\nallow_http_loopback = true\n",
        sandbox.token_url()
    )
}

/// A folder with a config and its secret file.
pub(crate) fn folder(config: &str) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("config.toml"), config).unwrap();
    let secret = folder.path().join("acme.secret");
    fs::write(&secret, format!("{CANARY_SECRET}\n")).unwrap();
    fs::set_permissions(&secret, fs::Permissions::from_mode(0o600)).unwrap();
    folder
}

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

    /// Ends it by that signal and starts it anew in the same folder.
    pub(crate) fn restart(&mut self, signal: &str) {
        self.signal(signal);
        self.wait();
        self.start_again();
    }

    /// Starts it anew in the same folder once it has ended.
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
        let status = Command::new("kill")
            .args([name, &self.pid().to_string()])
            .status();
        assert!(status.unwrap().success());
    }

    /// Sends SIGTERM and gives the exit code and the whole log.
    pub(crate) fn stop(self) -> (Option<i32>, String) {
        secrecy::assert_none_in_process(self.pid(), self.given_secret);
        self.signal("-TERM");
        self.ended()
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
        let _ended = self.child.kill();
        let _reaped = self.child.wait();
        self.drain();
        if searched {
            self.search();
        }
    }
}

pub(crate) fn helper(socket: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_domo-token"));
    command
        .env_clear()
        .env("DOMO_TOKEN_SOCKET", socket)
        .args(arguments);
    command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command
}

/// What a process printed, with its exit code. A token goes to standard output and nowhere else.
#[track_caller]
pub(crate) fn parts(output: &Output) -> (Option<i32>, String, String) {
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    let (stdout, stderr) = (text(&output.stdout), text(&output.stderr));
    secrecy::assert_none("standard error", &stderr);
    (output.status.code(), stdout, stderr)
}

/// The one token on standard output.
#[track_caller]
pub(crate) fn token(output: &Output) -> String {
    let (code, stdout, stderr) = parts(output);
    assert_eq!(code, Some(0), "{stderr}");
    let token = stdout.strip_suffix('\n').unwrap();
    assert!(
        !token.is_empty() && !token.contains(char::is_whitespace),
        "{stdout:?}"
    );
    token.to_owned()
}

/// Lets this process, and the daemon it starts, open as many descriptors as the system allows.
pub(crate) fn raise_descriptor_limit() {
    let limit = getrlimit(Resource::Nofile);
    let current = limit.maximum;
    setrlimit(Resource::Nofile, Rlimit { current, ..limit }).unwrap();
}

/// How long `job` took, on the clock that the daemon goes by.
pub(crate) fn timed<T>(job: impl FnOnce() -> T) -> (Duration, T) {
    let start = boot_now();
    let result = job();
    (boot_now().saturating_since(start), result)
}

/// The rest between the answer to each of these requests and the next request. A daemon that
/// reckons in whole milliseconds may be that much early.
pub(crate) fn rests(requests: &[Recorded]) -> Vec<Duration> {
    let answered = |seen: &Recorded| seen.answered_at.unwrap();
    requests
        .windows(2)
        .map(|pair| pair[1].at.saturating_sub(answered(&pair[0])) + Duration::from_millis(1))
        .collect()
}

/// One GET with a bearer token over plain HTTP: the status.
pub(crate) fn get(url: &str, token: &str) -> u16 {
    let rest = url.strip_prefix("http://").unwrap();
    let (host, path) = rest.split_once('/').unwrap();
    let mut stream = TcpStream::connect(host).unwrap();
    let request = format!(
        "GET /{path} HTTP/1.1\r\nHost: {host}\r\nAuthorization: Bearer {token}\r\nConnection: close\r\n\r\n"
    );
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer.split(' ').nth(1).unwrap().parse().unwrap()
}

/// Runs `domo-tokend check` on that config.
#[track_caller]
pub(crate) fn check(config: &Path, arguments: &[&str]) -> (Option<i32>, String, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_domo-tokend"));
    command.env_clear().arg("check").args(arguments);
    parts(&command.arg("--config").arg(config).output().unwrap())
}

/// Runs a daemon that ends by itself.
pub(crate) fn run_to_end(mut command: Command) -> (Option<i32>, String) {
    let mut child = command.stderr(Stdio::piped()).spawn().unwrap();
    let mut text = String::new();
    child
        .stderr
        .take()
        .unwrap()
        .read_to_string(&mut text)
        .unwrap();
    (child.wait().unwrap().code(), text)
}

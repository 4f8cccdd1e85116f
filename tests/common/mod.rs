//! A real daemon and a real helper against the sandbox.

#![allow(dead_code, reason = "each test file uses its own part")]
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "in a test, what fails says so"
)]

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::Duration;

use domo_sandbox::Sandbox;
use tempfile::TempDir;

pub(crate) const CLIENT_ID: &str = "441e307a-b2a1-4a99-8561-174e5b153fe1";

/// Not 64 hex digits, so that nothing hides it but the care it is owed.
pub(crate) const CANARY_SECRET: &str = "c4nary-secret-never-to-be-seen";

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
    format!(
        "[clients.acme]\nclient_id = \"{CLIENT_ID}\"\nclient_secret_file = \"acme.secret\"\n\
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

/// A running `domo-tokend`, killed when dropped.
pub(crate) struct Daemon {
    child: Child,
    folder: TempDir,
    lines: Receiver<String>,
    /// All that it has logged so far.
    pub(crate) log: String,
}

impl Daemon {
    /// Starts it on that config and waits until it listens.
    pub(crate) fn start(config: &str) -> Self {
        Self::start_in(folder(config))
    }

    pub(crate) fn start_in(folder: TempDir) -> Self {
        let mut child = Self::command(folder.path())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
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
        let mut daemon = Self {
            child,
            folder,
            lines,
            log: String::new(),
        };
        daemon.wait_for_log("started");
        daemon
    }

    /// The daemon's command on the config in `folder`, with the loudest log.
    pub(crate) fn command(folder: &Path) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_domo-tokend"));
        command
            .env_clear()
            .stdin(Stdio::null())
            .stdout(Stdio::null());
        command.arg("--config").arg(folder.join("config.toml"));
        command.arg("--socket").arg(folder.join("broker.sock"));
        command.args(["--log", "trace"]);
        command
    }

    /// Returns once a line with `text` has been logged.
    pub(crate) fn wait_for_log(&mut self, text: &str) -> String {
        loop {
            let Ok(line) = self.lines.recv_timeout(PATIENCE) else {
                panic!("no {text:?} in the log:\n{}", self.log);
            };
            self.log.push_str(&line);
            self.log.push('\n');
            if line.contains(text) {
                return line;
            }
        }
    }

    pub(crate) fn socket(&self) -> PathBuf {
        self.folder.path().join("broker.sock")
    }

    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
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
        self.signal("-TERM");
        self.ended()
    }

    /// Waits for its end; gives the exit code and the whole log.
    pub(crate) fn ended(mut self) -> (Option<i32>, String) {
        let code = self.child.wait().unwrap().code();
        while let Ok(line) = self.lines.recv_timeout(PATIENCE) {
            self.log.push_str(&line);
            self.log.push('\n');
        }
        (code, std::mem::take(&mut self.log))
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

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ended = self.child.kill();
        let _reaped = self.child.wait();
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

/// What a process printed, with its exit code.
#[track_caller]
pub(crate) fn parts(output: &Output) -> (Option<i32>, String, String) {
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    (
        output.status.code(),
        text(&output.stdout),
        text(&output.stderr),
    )
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

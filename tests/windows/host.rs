//! A daemon, its folder, and the helper.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::windows::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::Duration;

use domo_sandbox::Sandbox;
use domo_token::platform::acl;
use domo_token_client::clock::boot_now;
use tempfile::TempDir;
use windows_permissions::LocalBox;
use windows_permissions::constants::{SeObjectType, SecurityInformation};
use windows_permissions::structures::SecurityDescriptor;
use windows_permissions::wrappers::SetSecurityInfo;

pub(crate) const CLIENT_ID: &str = "441e307a-b2a1-4a99-8561-174e5b153fe1";

/// Not 64 hex digits, so that no filter for tokens hides it.
pub(crate) const CANARY_SECRET: &str = "c4nary-secret-never-to-be-seen";

/// How long an event is waited for before a test fails; only ever reached by a failure.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// The client's end of a pipe on which nothing was sent yet.
pub(crate) fn call(pipe: &str) -> fs::File {
    const PIPE_BUSY: i32 = 231;
    let mut options = fs::OpenOptions::new();
    loop {
        match options.access_mode(0x0012_019B).open(pipe) {
            Err(error) if error.raw_os_error() == Some(PIPE_BUSY) => thread::yield_now(),
            opened => return opened.unwrap(),
        }
    }
}

/// Polls until `done`.
pub(crate) fn wait_until(done: impl Fn() -> bool) {
    let end = boot_now() + PATIENCE;
    while !done() {
        assert!(boot_now() < end, "waited in vain");
        thread::yield_now();
    }
}

pub(crate) fn sandbox() -> Sandbox {
    Sandbox::builder()
        .client(CLIENT_ID, CANARY_SECRET, &["data", "user"])
        .lifetime(Duration::from_secs(3599))
        .start()
        .unwrap()
}

/// One of our programs.
pub(crate) fn program(name: &str) -> Command {
    let path = match name {
        "domo-tokend" => env!("CARGO_BIN_EXE_domo-tokend"),
        _ => env!("CARGO_BIN_EXE_domo-token"),
    };
    let mut command = Command::new(path);
    for variable in ["DOMO_TOKEN_SOCKET", "DOMO_TOKEN_CONFIG", "RUST_LOG"] {
        command.env_remove(variable);
    }
    command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command
}

/// Returns exit code, standard output and standard error.
pub(crate) fn parts(command: &mut Command) -> (Option<i32>, String, String) {
    with_input(command, "")
}

pub(crate) fn with_input(command: &mut Command, line: &str) -> (Option<i32>, String, String) {
    let mut child = command.stdin(Stdio::piped()).spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    // A process that reads nothing may have ended.
    let _ = writeln!(stdin, "{line}");
    drop(stdin);
    let output = child.wait_with_output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (
        output.status.code(),
        text(output.stdout),
        text(output.stderr),
    )
}

pub(crate) fn first_line(from: impl Read) -> String {
    let mut line = String::new();
    BufReader::new(from).read_line(&mut line).unwrap();
    line
}

/// Gives everyone these rights to a file, besides the current user.
pub(crate) fn open_to_everyone(path: &Path, rights: &str) {
    let us = domo_token_client::windows_owner::current_user().unwrap();
    let list = format!("D:P(A;;FA;;;{us})(A;;{rights};;;WD)");
    let list: LocalBox<SecurityDescriptor> = list.parse().unwrap();
    let mut options = fs::OpenOptions::new();
    // READ_CONTROL and WRITE_DAC.
    let mut file = options.access_mode(0x6_0000).open(path).unwrap();
    let parts = SecurityInformation::Dacl | SecurityInformation::ProtectedDacl;
    let kind = SeObjectType::SE_KERNEL_OBJECT;
    SetSecurityInfo(&mut file, kind, parts, None, None, list.dacl(), None).unwrap();
}

/// A folder for a test, and a name for its pipe.
pub(crate) struct Folder {
    folder: TempDir,
    name: String,
}

impl Folder {
    pub(crate) fn new(name: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let name = name.to_owned();
        Self { folder, name }
    }

    /// A folder with the config of a client `acme` at `sandbox`, and its secret.
    pub(crate) fn with_config(name: &str, sandbox: &Sandbox) -> Self {
        let folder = Self::new(name);
        let url = sandbox.token_url();
        let config = format!(
            "[clients.acme]\nclient_id = \"{CLIENT_ID}\"\nclient_secret_file = \"acme.secret\"\n\
             tokens = [\"data\"]\ntoken_url = \"{url}\"\nallow_http_loopback = true\n"
        );
        for (file, text) in [
            ("config.toml", config.as_str()),
            ("acme.secret", CANARY_SECRET),
        ] {
            let mut file = acl::create_closed(&folder.file(file)).unwrap();
            file.write_all(text.as_bytes()).unwrap();
        }
        folder
    }

    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(crate) fn append(&self, name: &str, text: &str) {
        let mut options = fs::OpenOptions::new();
        let mut file = options.append(true).open(self.file(name)).unwrap();
        file.write_all(text.as_bytes()).unwrap();
    }
}

/// A running `domo-tokend`, killed when dropped.
pub(crate) struct Daemon {
    child: Child,
    pub(crate) folder: Folder,
    pipe: String,
    lines: Receiver<String>,
    log: String,
}

impl Daemon {
    /// Starts a daemon on its own pipe and waits until it listens.
    pub(crate) fn start(folder: Folder) -> Self {
        let pipe = format!(
            r"\\.\pipe\domo-token-{}-{}",
            folder.name,
            std::process::id()
        );
        Self::start_on(folder, &pipe)
    }

    pub(crate) fn start_on(folder: Folder, pipe: &str) -> Self {
        let mut child = Self::command(&folder, pipe).spawn().unwrap();
        let stderr = child.stderr.take().unwrap();
        let (sender, lines) = channel();
        thread::spawn(move || {
            for line in BufReader::new(stderr).lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    return;
                }
            }
        });
        let (pipe, log) = (pipe.to_owned(), String::new());
        let mut daemon = Self {
            child,
            folder,
            pipe,
            lines,
            log,
        };
        daemon.wait_for_log("started");
        daemon
    }

    /// The daemon's command with the config in `folder` and the log level `trace`.
    pub(crate) fn command(folder: &Folder, pipe: &str) -> Command {
        let mut command = program("domo-tokend");
        command.arg("--config").arg(folder.file("config.toml"));
        command.args(["--socket", pipe, "--log", "trace"]);
        command
    }

    pub(crate) fn wait_for_log(&mut self, text: &str) {
        loop {
            let Ok(line) = self.lines.recv_timeout(PATIENCE) else {
                panic!("no {text:?} in the log:\n{}", self.log);
            };
            self.log.push_str(&line);
            self.log.push('\n');
            if line.contains(text) {
                return;
            }
        }
    }

    pub(crate) fn pipe(&self) -> String {
        self.pipe.clone()
    }

    /// The helper's command for this daemon.
    pub(crate) fn helper(&self, arguments: &[&str]) -> Command {
        let mut command = program("domo-token");
        command.env("DOMO_TOKEN_SOCKET", &self.pipe).args(arguments);
        command
    }

    /// Kills it and returns its folder.
    pub(crate) fn kill(mut self) -> Folder {
        self.end();
        std::mem::replace(&mut self.folder, Folder::new("none"))
    }

    /// Kills it and returns its log.
    pub(crate) fn kill_for_log(mut self) -> String {
        self.end();
        while let Ok(line) = self.lines.recv_timeout(PATIENCE) {
            self.log.push_str(&line);
            self.log.push('\n');
        }
        std::mem::take(&mut self.log)
    }

    fn end(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        self.end();
    }
}

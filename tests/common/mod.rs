//! A real daemon and a real helper with a sandbox.

#![allow(dead_code, reason = "each test file uses its own part")]

pub(crate) mod callers;
pub(crate) mod daemon;
pub(crate) mod gateway;
pub(crate) mod kernel;
pub(crate) mod many;
pub(crate) mod metrics;
pub(crate) mod namespaces;
pub(crate) mod process;
pub(crate) mod redis;
pub(crate) mod secrecy;
pub(crate) mod service;
pub(crate) mod wait;

use std::fmt::Display;
use std::fs::{self, Permissions};
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::sync::mpsc::channel;
use std::thread;
use std::time::Duration;

use domo_sandbox::{Recorded, Sandbox};
use domo_token_client::clock::boot_now;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tempfile::TempDir;

pub(crate) use daemon::Daemon;

pub(crate) const CLIENT_ID: &str = "441e307a-b2a1-4a99-8561-174e5b153fe1";

/// Not 64 hex digits, so that no filter for tokens hides it.
pub(crate) const CANARY_SECRET: &str = "c4nary-secret-never-to-be-seen";

/// The lifetime of Domo's tokens.
pub(crate) const HOUR: Duration = Duration::from_secs(3599);

/// How long an event is waited for before a test fails; only ever reached by a failure.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// Prints why a test is skipped. The test harness shows the output of `println!` only for tests that fail, so this is
/// written past it.
pub(crate) fn print_skip(reason: impl Display) {
    writeln!(io::stderr(), "skipped: {reason}").unwrap();
}

pub(crate) fn sandbox(lifetime: Duration) -> Sandbox {
    Sandbox::builder()
        .client(CLIENT_ID, CANARY_SECRET, &["data", "user", "audit"])
        .lifetime(lifetime)
        .start()
        .unwrap()
}

/// A sandbox, and a daemon that gets tokens for `data` from it.
pub(crate) fn sandbox_and_daemon(lifetime: Duration) -> (Sandbox, Daemon) {
    let sandbox = sandbox(lifetime);
    let daemon = Daemon::start(&config_text(&sandbox, "[\"data\"]"));
    (sandbox, daemon)
}

/// A sandbox, and a folder with the config of [`sandbox_and_daemon`].
pub(crate) fn sandbox_and_folder(lifetime: Duration) -> (Sandbox, TempDir) {
    let sandbox = sandbox(lifetime);
    let folder = folder(&config_text(&sandbox, "[\"data\"]"));
    (sandbox, folder)
}

/// The config of a client `acme` at `sandbox`, with its secret in a file.
pub(crate) fn config_text(sandbox: &Sandbox, tokens: &str) -> String {
    client_text("acme", sandbox, tokens)
}

/// The config of a client with that name.
pub(crate) fn client_text(name: &str, sandbox: &Sandbox, tokens: &str) -> String {
    format!(
        "[clients.{name}]\nclient_id = \"{CLIENT_ID}\"\nclient_secret_file = \"acme.secret\"\n\
         tokens = {tokens}\ntoken_url = \"{}\"\nallow_http_loopback = true\n",
        sandbox.token_url()
    )
}

pub(crate) fn chmod(path: impl AsRef<Path>, mode: u32) {
    fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
}

/// Returns the permissions of a file.
pub(crate) fn mode(path: impl AsRef<Path>) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o7777
}

/// A folder with a config and its secret file.
pub(crate) fn folder(config: &str) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("config.toml"), config).unwrap();
    let secret = folder.path().join("acme.secret");
    fs::write(&secret, format!("{CANARY_SECRET}\n")).unwrap();
    chmod(&secret, 0o600);
    folder
}

/// A folder with a config whose client gets its tokens from that URL and trusts this CA as well.
pub(crate) fn folder_for(url: &str, ca: Option<&str>) -> TempDir {
    let mut config = format!(
        "[clients.acme]\nclient_id = \"{CLIENT_ID}\"\nclient_secret_file = \"acme.secret\"\n\
         tokens = [\"data\"]\ntoken_url = \"{url}\"\n"
    );
    if ca.is_some() {
        config.push_str("ca_file = \"ca.pem\"\n");
    }
    let folder = folder(&config);
    fs::write(folder.path().join("ca.pem"), ca.unwrap_or_default()).unwrap();
    folder
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

/// Returns exit code, standard output and standard error. Fails if standard error contains a token.
#[track_caller]
pub(crate) fn parts(output: &Output) -> (Option<i32>, String, String) {
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    let (stdout, stderr) = (text(&output.stdout), text(&output.stderr));
    secrecy::assert_none("standard error", &stderr);
    (output.status.code(), stdout, stderr)
}

/// Asserts that a process printed nothing and failed with that exit code. Returns standard error.
#[track_caller]
pub(crate) fn failure(output: &Output, expected: i32) -> String {
    let (code, stdout, stderr) = parts(output);
    assert_eq!((code, stdout.as_str()), (Some(expected), ""), "{stderr}");
    stderr
}

/// Returns the token on standard output. Fails if anything else is there.
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

/// Raises the limit of open descriptors, also for daemons started later, to the maximum.
pub(crate) fn raise_descriptor_limit() {
    let limit = getrlimit(Resource::Nofile);
    let current = limit.maximum;
    setrlimit(Resource::Nofile, Rlimit { current, ..limit }).unwrap();
}

/// Returns how long `job` took, by the daemon's clock.
pub(crate) fn timed<T>(job: impl FnOnce() -> T) -> (Duration, T) {
    let start = boot_now();
    let result = job();
    (boot_now().saturating_since(start), result)
}

/// Returns the pauses between each response and the next request. A daemon that counts in whole milliseconds may be
/// that much early.
pub(crate) fn pauses(requests: &[Recorded]) -> Vec<Duration> {
    let answered = |seen: &Recorded| seen.answered_at.unwrap();
    requests
        .windows(2)
        .map(|pair| pair[1].at.saturating_sub(answered(&pair[0])) + Duration::from_millis(1))
        .collect()
}

/// Sends a GET with a bearer token over HTTP and returns the status.
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

/// A listener that neither accepts nor rejects connections, and the connections that fill its backlog.
pub(crate) fn listener_with_full_backlog(address: SocketAddr) -> (TcpListener, Vec<TcpStream>) {
    let listener = TcpListener::bind(address).unwrap();
    rustix::net::listen(&listener, 1).unwrap();
    let address = listener.local_addr().unwrap();
    let connect = || TcpStream::connect_timeout(&address, Duration::from_millis(200)).ok();
    let pending: Vec<_> = std::iter::from_fn(connect).take(100).collect();
    assert!(pending.len() < 100, "its backlog is never full");
    (listener, pending)
}

/// Runs `domo-tokend check` on that config.
#[track_caller]
pub(crate) fn check(config: &Path, arguments: &[&str]) -> (Option<i32>, String, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_domo-tokend"));
    command.env_clear().arg("check").args(arguments);
    parts(&command.arg("--config").arg(config).output().unwrap())
}

/// Runs a daemon that ends by itself. One that does not is killed and has no exit code.
pub(crate) fn run_to_end(mut command: Command) -> (Option<i32>, String) {
    let mut child = command.stderr(Stdio::piped()).spawn().unwrap();
    let mut stderr = child.stderr.take().unwrap();
    let (sender, whole) = channel();
    let read = thread::spawn(move || {
        let mut text = String::new();
        stderr.read_to_string(&mut text).unwrap();
        let _ = sender.send(());
        text
    });
    if whole.recv_timeout(PATIENCE).is_err() {
        child.kill().unwrap();
    }
    let code = child.wait().unwrap().code();
    (code, read.join().unwrap())
}

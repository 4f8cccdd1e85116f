//! A daemon in the foreground of a terminal that is closed.

#![expect(clippy::unwrap_used, reason = "in a test, what fails says so")]

mod common;

use std::io::Read;
use std::process::{Child, Command, Stdio};

use common::wait::until;
use common::{HOUR, config_text, folder, helper, sandbox, token};
use tempfile::TempDir;

/// Runs the daemon in a terminal of its own, prints its process id once it serves, closes the
/// terminal at the end of standard input, and prints how the daemon has ended.
const TERMINAL: &str = "
import os, pty, signal, sys
pid, terminal = pty.fork()
if pid == 0:
    if sys.argv[1] == 'nohup':
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
    os.execv(sys.argv[2], sys.argv[2:])
seen = b''
while b'started' not in seen:
    seen += os.read(terminal, 4096)
print(pid, flush=True)
sys.stdin.read()
os.close(terminal)
print('closed', flush=True)
print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), flush=True)
";

/// The terminal, and the id of the daemon in it.
fn in_terminal(folder: &TempDir, how: &str) -> (Child, String) {
    let mut command = Command::new("python3");
    command.args(["-c", TERMINAL, how]);
    command.arg(env!("CARGO_BIN_EXE_domo-tokend"));
    command
        .arg("--config")
        .arg(folder.path().join("config.toml"));
    command
        .arg("--socket")
        .arg(folder.path().join("broker.sock"));
    command.stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut terminal = command.spawn().unwrap();
    let id = line(&mut terminal);
    (terminal, id)
}

/// The next line of standard output, and nothing after it.
fn line(terminal: &mut Child) -> String {
    let stdout = terminal.stdout.as_mut().unwrap();
    let mut line = String::new();
    let mut byte = [0];
    while stdout.read(&mut byte).unwrap() == 1 && byte != *b"\n" {
        line.push(char::from(byte[0]));
    }
    line
}

fn close(terminal: &mut Child) {
    drop(terminal.stdin.take());
    assert_eq!(line(terminal), "closed");
}

#[test]
fn daemon_ends_with_its_terminal() {
    let sandbox = sandbox(HOUR);
    let folder = folder(&config_text(&sandbox, "[\"data\"]"));
    let (mut terminal, _) = in_terminal(&folder, "foreground");
    let socket = folder.path().join("broker.sock");
    token(&helper(&socket, &["data"]).output().unwrap());
    close(&mut terminal);
    assert_eq!(line(&mut terminal), "0");
    terminal.wait().unwrap();
    assert!(!socket.exists());
}

#[test]
fn daemon_that_was_started_with_sighup_ignored_outlives_its_terminal_and_reloads() {
    let sandbox = sandbox(HOUR);
    let folder = folder(&config_text(&sandbox, "[\"data\"]"));
    let (mut terminal, id) = in_terminal(&folder, "nohup");
    close(&mut terminal);
    let kill = |signal: &str| {
        let status = Command::new("kill").args([signal, &id]).status();
        assert!(status.unwrap().success());
    };
    let two = config_text(&sandbox, "[\"data\", \"user\"]");
    std::fs::write(folder.path().join("config.toml"), two).unwrap();
    kill("-HUP");
    let socket = folder.path().join("broker.sock");
    until(|| {
        let output = helper(&socket, &["user"]).output().unwrap();
        output.status.success().then_some(()).ok_or(output)
    });
    kill("-TERM");
    assert_eq!(line(&mut terminal), "0");
    terminal.wait().unwrap();
}

//! A daemon whose terminal is closed, and commands in the background of a terminal.

use std::io::Read;
use std::net::TcpListener;
use std::process::{Child, Command, Stdio};

use crate::common::wait::until;
use crate::common::{
    HOUR, config_text, folder, helper, print_skip, sandbox, sandbox_and_folder, token,
};
use tempfile::TempDir;

/// Runs the daemon in a terminal, or as a job of an interactive shell there. Prints its process id once it serves,
/// closes the terminal at the end of standard input, and prints the daemon's exit code.
const TERMINAL: &str = "
import ctypes, os, pty, shlex, signal, sys
how, command = sys.argv[1], sys.argv[2:]
is_job = how in ('job', 'background job', 'tostop')
if is_job:
    # PR_SET_CHILD_SUBREAPER: the daemon outlives the shell.
    ctypes.CDLL(None).prctl(36, 1, 0, 0, 0)
pid, terminal = pty.fork()
if pid == 0:
    if how == 'nohup':
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
    if is_job:
        os.execvp('bash', ['bash', '--norc', '--noprofile', '-i'])
    os.execv(command[0], command)
if is_job:
    line = shlex.join(command) + ('' if how == 'job' else ' &')
    if how == 'tostop':
        # What a job in the background writes to the terminal stops it, unless it prevents that.
        line = 'stty tostop; ' + line
    os.write(terminal, line.encode() + b'\\n')
# A daemon that is stopped prints nothing.
signal.alarm(60)
seen = b''
while b'started' not in seen:
    seen += os.read(terminal, 4096)
signal.alarm(0)
if is_job:
    shell = pid
    pid = int(open(f'/proc/{shell}/task/{shell}/children').read())
print(pid, flush=True)
sys.stdin.read()
def kill(*_):
    os.kill(pid, signal.SIGKILL)
signal.signal(signal.SIGALRM, kill)
signal.alarm(20)
os.close(terminal)
print('closed', flush=True)
if is_job:
    os.waitpid(shell, 0)
print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), flush=True)
";

/// Returns the terminal, and the process id of the daemon in it.
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

/// Reads the next line of standard output, and nothing after it.
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
    let (_sandbox, folder) = sandbox_and_folder(HOUR);
    let (mut terminal, _) = in_terminal(&folder, "foreground");
    let socket = folder.path().join("broker.sock");
    token(&helper(&socket, &["data"]).output().unwrap());
    close(&mut terminal);
    assert_eq!(line(&mut terminal), "0");
    terminal.wait().unwrap();
    assert!(!socket.exists());
}

#[test]
fn daemon_that_is_a_job_of_a_shell_ends_with_its_terminal() {
    if Command::new("bash").arg("--version").output().is_err() {
        print_skip("there is no bash");
        return;
    }
    let sandbox = sandbox(HOUR);
    for how in ["job", "background job", "tostop"] {
        let folder = folder(&config_text(&sandbox, "[\"data\"]"));
        let (mut terminal, _) = in_terminal(&folder, how);
        let socket = folder.path().join("broker.sock");
        token(&helper(&socket, &["data"]).output().unwrap());
        close(&mut terminal);
        assert_eq!(line(&mut terminal), "0", "{how}");
        terminal.wait().unwrap();
        assert!(!socket.exists());
    }
}

#[test]
fn daemon_that_was_started_with_sighup_ignored_outlives_its_terminal_and_reloads() {
    let (sandbox, folder) = sandbox_and_folder(HOUR);
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

/// Runs a command in the background of a terminal that is its standard input, sends it SIGTERM once standard input
/// has a line, and prints how it ended, or that it was stopped.
const BACKGROUND: &str = "
import os, pty, signal, sys
command = sys.argv[1:]
# The terminal's other process waits for this too.
go, going = os.pipe()
pid, terminal = pty.fork()
if pid == 0:
    os.close(going)
    child = os.fork()
    if child == 0:
        os.setpgid(0, 0)
        os.execv(command[0], command)
    os.read(go, 1)
    os.kill(child, signal.SIGTERM)
    status = os.waitpid(child, os.WUNTRACED)[1]
    if os.WIFSTOPPED(status):
        os.kill(child, signal.SIGKILL)
        print('stopped by', os.WSTOPSIG(status), flush=True)
    else:
        print('ended by', os.waitstatus_to_exitcode(status), flush=True)
    os._exit(0)
sys.stdin.readline()
os.close(going)
screen = b''
while True:
    try:
        read = os.read(terminal, 4096)
    except OSError:
        break
    if not read:
        break
    screen += read
print(screen.decode())
";

#[test]
fn check_in_the_background_of_a_terminal_ends_by_sigterm() {
    // It accepts the request and does not answer.
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/oauth/token", silent.local_addr().unwrap());
    let sandbox = sandbox(HOUR);
    let config = config_text(&sandbox, "[\"data\"]").replace(&sandbox.token_url(), &url);
    let folder = folder(&config);
    let mut command = Command::new("python3");
    command.args(["-c", BACKGROUND, env!("CARGO_BIN_EXE_domo-tokend")]);
    command.args(["check", "--online", "--config"]);
    command.arg(folder.path().join("config.toml"));
    command.stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut terminal = command.spawn().unwrap();
    // It handles signals by then.
    let (_request, _) = silent.accept().unwrap();
    drop(terminal.stdin.take());
    let output = terminal.wait_with_output().unwrap();
    let screen = String::from_utf8(output.stdout).unwrap();
    assert!(screen.contains("ended by -15"), "{screen}");
}

//! `domo-token exec` in scripts, and the helper's use of system resources.

mod memory;
mod reader;
mod signals;
mod unread_errors;
mod watch;
mod watch_errors;
mod watch_target;

use std::fs;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::process::{Command, Stdio};

use crate::common::callers::is_root;
use crate::common::wait::until;
use crate::common::{HOUR, failure, helper, parts, sandbox_and_daemon, timed, token};
use domo_token_client::DEFAULT_TIMEOUT;
use rustix::process::{Pid, Signal, kill_process};

#[test]
fn exec_passes_the_token_in_a_variable_and_exits_with_the_commands_code() {
    let (_sandbox, daemon) = sandbox_and_daemon(HOUR);
    let cached = token(&daemon.ask(&["data"]));
    let script = "printf %s \"$DOMO_ACCESS_TOKEN\"; exit 7";
    let (code, stdout, _) = parts(&daemon.ask(&["exec", "data", "--", "/bin/sh", "-c", script]));
    assert_eq!((code, stdout), (Some(7), cached.clone()));
    let named = [
        "exec",
        "--env",
        "T",
        "data",
        "--",
        "/bin/sh",
        "-c",
        "printf %s \"$T\"",
    ];
    assert_eq!(parts(&daemon.ask(&named)).1, cached);
    let signal = ["exec", "data", "--", "/bin/sh", "-c", "kill -9 $$"];
    assert_eq!(
        daemon.ask(&signal).status.code(),
        None,
        "no process in between"
    );
}

#[test]
fn exec_passes_the_token_on_a_descriptor_and_not_in_the_environment() {
    let (_sandbox, daemon) = sandbox_and_daemon(HOUR);
    let cached = token(&daemon.ask(&["data"]));
    let script = "cat <&3; env | grep -c DOMO_ACCESS_TOKEN; echo x 2>/dev/null >&3 || echo sealed";
    let arguments = ["exec", "--fd", "3", "--format", "header", "data", "--"];
    let (_, stdout, stderr) =
        parts(&daemon.ask(&[&arguments[..], &["/bin/sh", "-c", script]].concat()));
    assert_eq!(
        stdout,
        format!("Authorization: Bearer {cached}\n0\nsealed\n"),
        "{stderr}"
    );
    let (_, stdout, _) = parts(&daemon.ask(&["exec", "--fd", "0", "data", "--", "/bin/cat"]));
    assert_eq!(stdout, format!("{cached}\n"));
    let mut command = daemon.helper(&[&arguments[..], &["/usr/bin/env"]].concat());
    command.env("DOMO_ACCESS_TOKEN", "another");
    let (code, stdout, _) = parts(&command.output().unwrap());
    assert_eq!(code, Some(0));
    assert!(!stdout.contains("DOMO_ACCESS_TOKEN"), "{stdout}");
    let far = [
        "exec", "--fd", "9", "data", "--", "/bin/sh", "-c", "cat <&9",
    ];
    assert_eq!(parts(&daemon.ask(&far)).1, format!("{cached}\n"));
}

#[test]
fn exec_runs_nothing_without_a_token_and_names_a_command_that_cannot_run() {
    let (_sandbox, daemon) = sandbox_and_daemon(HOUR);
    let (code, stdout, _) = parts(&daemon.ask(&["exec", "nosuch", "--", "/bin/echo", "ran"]));
    assert_eq!((code, stdout.as_str()), (Some(78), ""));
    for (program, expected) in [("/nowhere/curl", 127), ("/etc/passwd", 126)] {
        let (code, stdout, stderr) = parts(&daemon.ask(&["exec", "data", "--", program]));
        assert_eq!((code, stdout.as_str()), (Some(expected), ""), "{stderr}");
        assert!(stderr.contains(program), "{stderr}");
    }
    let missing = daemon.folder().join("none.sock");
    let output = helper(&missing, &["exec", "data", "--", "/bin/echo", "ran"]).output();
    let (code, stdout, _) = parts(&output.unwrap());
    assert_eq!((code, stdout.as_str()), (Some(69), ""));
    let mut taken = Command::new("/bin/sh");
    taken.args([
        "-c",
        "exec \"$0\" exec --fd 3 data -- /bin/echo ran 3</dev/null",
    ]);
    taken.arg(daemon.helper(&[]).get_program());
    taken.env("DOMO_TOKEN_SOCKET", daemon.socket());
    let stderr = failure(&taken.output().unwrap(), 126);
    assert!(
        stderr.contains("descriptor 3: it is already open"),
        "{stderr}"
    );
}

#[test]
fn exec_leaves_no_descriptors_of_its_own_to_the_command() {
    let (_sandbox, daemon) = sandbox_and_daemon(HOUR);
    let cached = token(&daemon.ask(&["data"]));
    let script = "echo $PPID; tr '\\0' ' ' </proc/$$/cmdline; tr '\\0' ' ' </proc/$$/environ";
    let sh = ["--", "/bin/sh", "-c", script];
    let command = [&["exec", "--fd", "3", "data"][..], &sh].concat();
    let (_, stdout, stderr) = parts(&daemon.ask(&command));
    let (parent, rest) = stdout.split_once('\n').unwrap();
    assert_eq!(parent, std::process::id().to_string(), "{stderr}");
    assert!(!rest.contains(&cached) && !rest.contains("DOMO_ACCESS_TOKEN"));
    let command = [&["exec", "data"][..], &sh].concat();
    let (_, stdout, _) = parts(&daemon.ask(&command));
    assert_eq!(
        stdout.matches(&cached).count(),
        1,
        "in its environment alone"
    );
    let list = ["/bin/ls", "/proc/self/fd"];
    let expected = Command::new(list[0])
        .arg(list[1])
        .stdin(Stdio::null())
        .output();
    let expected = parts(&expected.unwrap()).1;
    let open = |option: &[&str]| parts(&daemon.ask(&[option, &["data", "--"], &list].concat())).1;
    assert_eq!(open(&["exec"]), expected);
    let more: Vec<String> = open(&["exec", "--fd", "77"])
        .lines()
        .filter(|line| !expected.lines().any(|known| known == *line))
        .map(str::to_owned)
        .collect();
    assert_eq!(more, ["77"]);
}

/// Runs a command under strace. Returns `None`, and prints that the test is skipped, where this is impossible.
fn traced(socket: &Path, calls: &str, arguments: &[&str]) -> Option<String> {
    // The helper's memory is closed to other tracers.
    if !is_root() {
        return None;
    }
    let able = Command::new("strace")
        .args(["-o", "/dev/null", "true"])
        .output();
    if !able.is_ok_and(|output| output.status.success()) {
        println!("no strace here: what the helper asks of the system is not seen");
        return None;
    }
    let trace = tempfile::NamedTempFile::new().unwrap();
    let output = Command::new("strace")
        .args(["-f", "-s", "4096", "-e", calls, "-o"])
        .arg(trace.path())
        .args(arguments)
        .env("DOMO_TOKEN_SOCKET", socket)
        .output();
    let output = output.unwrap();
    assert!(output.status.success(), "{output:?}");
    Some(fs::read_to_string(trace.path()).unwrap())
}

#[test]
fn two_hundred_calls_write_the_token_to_standard_output_alone_and_leave_nothing() {
    let (_sandbox, daemon) = sandbox_and_daemon(HOUR);
    let cached = token(&daemon.ask(&["data"]));
    let helper = env!("CARGO_BIN_EXE_domo-token");
    let script = format!("for i in $(seq 200); do {helper} data >/dev/null || exit; done");
    let calls = "trace=%network,%file,write,writev,pwrite64,sendfile,memfd_create,openat";
    let Some(trace) = traced(&daemon.socket(), calls, &["sh", "-c", &script]) else {
        return;
    };
    let of = |part: &str| trace.lines().filter(|line| line.contains(part)).count();
    let with_token: Vec<_> = trace
        .lines()
        .filter(|line| line.contains(&cached))
        .collect();
    assert_eq!(with_token.len(), 400, "one read and one write each");
    assert!(
        with_token
            .iter()
            .all(|line| line.contains(" write(1, ") || line.contains(" recvfrom("))
    );
    assert_eq!(
        (of(" socket("), of(" connect(")),
        (200, 200),
        "one connection each"
    );
    let calls = |line: &&str| {
        ["O_CREAT", "memfd_create", "mkdir", "rename", "link("]
            .iter()
            .any(|call| line.contains(call))
    };
    // The shell's own redirections.
    let calls: Vec<_> = trace
        .lines()
        .filter(calls)
        .filter(|line| !line.contains("\"/dev/null\""))
        .collect();
    assert!(calls.is_empty(), "{calls:?}");
    assert!(!fs::read_dir(daemon.folder()).unwrap().any(|entry| {
        let path = entry.unwrap().path();
        fs::read_to_string(path).is_ok_and(|text| text.contains(&cached))
    }));
}

#[test]
fn invalid_sockets_exit_69_with_one_line_that_names_them() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("file");
    fs::write(&file, "").unwrap();
    std::os::unix::fs::symlink("loop", folder.path().join("loop")).unwrap();
    let long = "x".repeat(120);
    for name in ["none", "file", "file/x", "loop", ".", &long] {
        let socket = folder.path().join(name);
        for verb in ["get", "watch", "status"] {
            let words = if verb == "status" {
                vec![verb]
            } else {
                vec![verb, "data"]
            };
            let (code, stdout, stderr) = parts(&helper(&socket, &words).output().unwrap());
            assert_eq!((code, stdout.as_str()), (Some(69), ""), "{name}: {stderr}");
            assert_eq!(stderr.lines().count(), 1, "{stderr}");
            assert!(stderr.contains(socket.to_str().unwrap()), "{stderr}");
            assert!(
                stderr.contains("start it with") || stderr.contains("--socket"),
                "{stderr}"
            );
        }
    }
}

#[test]
fn helper_exits_2_without_contacting_a_broker_when_a_command_was_misspelled() {
    let folder = tempfile::tempdir().unwrap();
    // Exit code 69 shows that it tried to reach a broker.
    let socket = folder.path().join("none");
    for (words, hint) in [
        (
            &["data", "--", "curl", "-fsS"][..],
            "did you mean: domo-token exec data -- curl …",
        ),
        (&["list"], "domo-token status"),
        (&["token", "data"], "domo-token data"),
        (&["config", "get"], "domo-tokend check"),
        (&["wacth", "data"], "domo-token watch"),
    ] {
        let (code, stdout, stderr) = parts(&helper(&socket, words).output().unwrap());
        assert_eq!(
            (code, stdout.as_str()),
            (Some(2), ""),
            "{words:?}: {stderr}"
        );
        assert!(stderr.trim_end().ends_with(hint), "{words:?}: {stderr}");
        assert_eq!(stderr.lines().count(), 1, "{stderr}");
    }
    let (code, _, stderr) = parts(&helper(&socket, &["get", "list"]).output().unwrap());
    assert_eq!(code, Some(69), "{stderr}");
}

#[test]
fn help_contains_command_lines_that_work() {
    let (sandbox, daemon) = sandbox_and_daemon(HOUR);
    let (code, help, _) = parts(&daemon.ask(&["--help"]));
    assert_eq!(code, Some(0));
    let lines: Vec<&str> = help.lines().collect();
    let at = |part| lines.iter().position(|line| line.contains(part)).unwrap();
    let example = |part| lines[at(part)..=at(part) + 1].join("\n");
    let (exec, piped) = (example("exec --fd 3"), example("--format curl data |"));
    let path = Path::new(env!("CARGO_BIN_EXE_domo-token"))
        .parent()
        .unwrap();
    for line in [piped, exec] {
        let line = line.replace("https://api.domo.com", &sandbox.url(""));
        let output = Command::new("sh")
            .args(["-c", &line])
            .env(
                "PATH",
                format!("{}:{}", path.display(), std::env::var("PATH").unwrap()),
            )
            .env("DOMO_TOKEN_SOCKET", daemon.socket())
            .output();
        let (code, stdout, stderr) = parts(&output.unwrap());
        assert_eq!(code, Some(0), "{line}: {stderr}");
        assert!(stdout.contains("Leonhard Euler Party"), "{line}: {stdout}");
    }
    let (code, stdout, stderr) = parts(&daemon.helper(&[]).output().unwrap());
    assert_eq!((code, stdout.as_str(), stderr), (Some(2), "", help));
}

#[test]
fn get_times_out_when_the_daemon_accepts_no_connection() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("broker.sock");
    let listener = UnixListener::bind(&path).unwrap();
    rustix::net::listen(&listener, 0).unwrap();
    let _pending = UnixStream::connect(&path).unwrap();
    let arguments = ["--timeout", "1", "data"];
    let (took, output) = timed(|| helper(&path, &arguments).output().unwrap());
    failure(&output, 75);
    assert!(took < DEFAULT_TIMEOUT / 2, "{took:?}");
}

#[test]
fn signals_do_not_extend_the_timeout() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("broker.sock");
    // It accepts connections and never answers.
    let _listener = UnixListener::bind(&path).unwrap();
    let mut asking = helper(&path, &["--timeout", "1", "data"]).spawn().unwrap();
    let process = Pid::from_child(&asking);
    let status = until(|| {
        for signal in [Signal::STOP, Signal::CONT] {
            kill_process(process, signal).unwrap();
        }
        asking.try_wait().unwrap().ok_or("still runs")
    });
    assert_eq!(status.code(), Some(75));
}

//! A standard output that cannot be written to: closed at the start, read-only, or full.

use std::fs;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use crate::common::{
    CANARY_SECRET, CLIENT_ID, HOUR, config_text, folder, parts, sandbox, sandbox_and_daemon, token,
};

const HELPER: &str = env!("CARGO_BIN_EXE_domo-token");
const DAEMON: &str = env!("CARGO_BIN_EXE_domo-tokend");

/// Runs a program with a shell's redirection of standard output.
fn run(redirection: &str, socket: &Path, program: &str, arguments: &[&str]) -> Output {
    let mut command = Command::new("sh");
    command
        .env_clear()
        .env("PATH", "/usr/bin:/bin")
        .env("DOMO_TOKEN_SOCKET", socket)
        .stdin(Stdio::null())
        .args(["-c", &format!("exec \"$@\" {redirection}"), "sh", program])
        .args(arguments);
    command.output().unwrap()
}

#[track_caller]
fn assert_exits_74(redirection: &str, socket: &Path, program: &str, arguments: &[&str]) {
    let output = run(redirection, socket, program, arguments);
    let (code, _, stderr) = parts(&output);
    assert_eq!(code, Some(74), "{arguments:?} {redirection}: {stderr}");
    assert!(stderr.contains("standard output"), "{stderr}");
    assert_eq!(stderr.lines().count(), 1, "{stderr}");
}

#[test]
fn helper_exits_74_when_standard_output_cannot_be_written() {
    let (_sandbox, daemon) = sandbox_and_daemon(HOUR);
    for redirection in [">&-", "<&- >&-", "1</dev/null", ">/dev/full"] {
        for arguments in [
            &["data"][..],
            &["--explain", "data"],
            &["watch", "data"],
            &["status"],
            &["status", "--json", "--watch"],
            &["status", "--metrics"],
            &["completions", "bash"],
            &["--help"],
            &["version"],
        ] {
            assert_exits_74(redirection, &daemon.socket(), HELPER, arguments);
        }
    }
}

#[test]
fn helper_needs_no_standard_output_where_it_prints_nothing() {
    let (_sandbox, daemon) = sandbox_and_daemon(HOUR);
    token(&daemon.ask(&["data"]));
    for arguments in [&["status", "-q"][..], &["exec", "data", "--", "true"]] {
        let output = run(">&-", &daemon.socket(), HELPER, arguments);
        assert_eq!(parts(&output), (Some(0), String::new(), String::new()));
    }
}

#[test]
fn exec_passes_closed_standard_descriptors_to_its_command() {
    let (_sandbox, daemon) = sandbox_and_daemon(HOUR);
    let cached = token(&daemon.ask(&["data"]));
    let exec = |redirection: &str, options: &[&str], script: &str| {
        let command = ["data", "--", "sh", "-c", script];
        let arguments = [&["exec"], options, &command].concat();
        parts(&run(redirection, &daemon.socket(), HELPER, &arguments))
    };
    let list = "for n in 0 1 2; do if [ -e /proc/$$/fd/$n ]; then echo $n; fi; done";
    for (redirection, open) in [
        ("<&-", "1\n2\n"),
        ("2>&-", "0\n1\n"),
        ("<&- 2>&-", "1\n"),
        ("", "0\n1\n2\n"),
    ] {
        let found = exec(redirection, &[], list);
        assert_eq!(found, (Some(0), open.to_owned(), String::new()));
    }
    let (_, _, stderr) = exec(">&-", &[], "echo hi 2>/dev/null || echo failed >&2");
    assert_eq!(stderr, "failed\n");
    let found = exec("<&- 2>&-", &["--fd", "0"], "cat");
    assert_eq!(found, (Some(0), cached + "\n", String::new()));
}

/// Parents open /dev/null like this for children whose output they ignore.
#[test]
fn null_device_of_the_parent_is_not_a_closed_standard_output() {
    let (_sandbox, daemon) = sandbox_and_daemon(HOUR);
    for redirection in [">/dev/null", "1<>/dev/null", "0<>/dev/null 1>&0"] {
        for (program, argument) in [(HELPER, "data"), (DAEMON, "--version")] {
            let output = run(redirection, &daemon.socket(), program, &[argument]);
            assert_eq!(parts(&output), (Some(0), String::new(), String::new()));
        }
    }
}

#[test]
fn daemon_exits_74_when_standard_output_cannot_be_written() {
    let sandbox = sandbox(HOUR);
    let folder = folder(&config_text(&sandbox, "[\"data\"]"));
    let config = folder.path().join("config.toml");
    let config = config.to_str().unwrap();
    let socket = folder.path().join("broker.sock");
    for redirection in [">&-", "1</dev/null", ">/dev/full"] {
        for arguments in [
            &["--help"][..],
            &["--version"],
            &["check", "--help"],
            &["check", "--config", config],
            &["check", "--schema"],
        ] {
            assert_exits_74(redirection, &socket, DAEMON, arguments);
        }
    }
}

#[test]
fn init_exits_74_with_its_files_written_when_standard_output_is_closed() {
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("config.toml");
    let arguments = format!(
        "printf '%s\\n' {CANARY_SECRET} | \"$@\" init --offline --client-id {CLIENT_ID} --config {} >&-",
        config.display()
    );
    let mut command = Command::new("sh");
    command.args(["-c", &arguments, "sh", DAEMON]);
    let (code, _, stderr) = parts(&command.output().unwrap());
    assert_eq!(code, Some(74), "{stderr}");
    assert!(fs::exists(&config).unwrap());
}

//! `domo-sandbox run`: the command, its environment and its exit code; faults, logs and errors.

#![cfg(test)]
#![cfg(unix)]

mod common;

use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

use common::run::{PROGRAM, Place, Running, beside, parts};

#[test]
fn command_gets_tokens_that_the_api_accepts() {
    let script = "curl -fsS -H \"$(domo-token -o header data)\" \"$DOMO_SANDBOX_URL/v1/datasets\"";
    let (code, stdout, stderr) = Place::new().script(&[], script);
    assert_eq!((code, &*stderr), (Some(0), ""));
    assert!(stdout.contains("Leonhard Euler Party"), "{stdout}");
}

#[test]
fn every_default_scope_set_has_a_token_when_the_command_starts() {
    // Exit code 0: every scope set has a valid token.
    let script = "domo-token status -q && domo-token status --json";
    let (code, stdout, _) = Place::new().script(&["--delay", "50ms"], script);
    assert_eq!(code, Some(0));
    let status: serde_json::Value = serde_json::from_str(&stdout).unwrap();
    let sets = status["tokens"].as_array().unwrap().iter();
    let sets: Vec<&str> = sets.map(|set| set["scope"].as_str().unwrap()).collect();
    let all = "account audit buzz dashboard data user workflow";
    for set in all.split(' ').chain([all, "data user", "dashboard data"]) {
        assert!(sets.contains(&set), "{set}: {sets:?}");
    }
}

#[test]
fn exit_code_is_that_of_the_command() {
    let place = Place::new();
    for (script, expected) in [
        ("true", 0),
        ("exit 7", 7),
        ("kill -KILL $$", 137),
        ("kill -TERM $$", 143),
    ] {
        let (code, stdout, stderr) = place.script(&[], script);
        assert_eq!((code, &*stdout, &*stderr), (Some(expected), "", ""));
    }
}

#[test]
fn command_that_cannot_be_run_is_126_and_one_not_found_127() {
    let place = Place::new();
    let plain = place.0.path().join("plain");
    fs::write(&plain, "text").unwrap();
    let plain = plain.to_str().unwrap().to_owned();
    for (program, expected) in [("no-such-program", 127), ("/no/such", 127), (&plain, 126)] {
        let (code, stdout, stderr) = parts(place.run(&[], &[program]).output().unwrap());
        assert_eq!((code, &*stdout), (Some(expected), ""));
        let start = format!("domo-sandbox: cannot run {program}: ");
        assert!(stderr.starts_with(&start), "{stderr}");
    }
    assert_eq!(place.leftovers(), ["plain"]);
}

#[test]
fn usage_errors_are_2_and_start_nothing() {
    let place = Place::new();
    for arguments in [
        &["run"][..],
        &["run", "--"],
        &["run", "true"],
        &["run", "--tokens", ";", "--", "true"],
        &["run", "--verbose", "--log", "/nowhere/log", "--", "true"],
        &["--lifetime", "20s", "run", "--", "true"],
    ] {
        let mut command = Command::new(PROGRAM);
        command.args(arguments).env("TMPDIR", place.0.path());
        let (code, _, stderr) = parts(command.output().unwrap());
        assert_eq!(code, Some(2), "{arguments:?}: {stderr}");
    }
    place.assert_empty();
}

#[test]
fn nothing_of_the_caller_configures_the_broker() {
    let place = Place::new();
    let home = tempfile::tempdir().unwrap();
    let config = home.path().join("domo-token/config.toml");
    fs::create_dir(config.parent().unwrap()).unwrap();
    fs::write(&config, "not a config").unwrap();
    let script = "env; domo-token data >token";
    let mut command = place.run(&[], &["sh", "-c", script]);
    command.current_dir(home.path());
    for (name, value) in [
        ("XDG_CONFIG_HOME", home.path().to_str().unwrap()),
        ("HOME", home.path().to_str().unwrap()),
        ("DOMO_TOKEN_CONFIG", config.to_str().unwrap()),
        ("DOMO_TOKEN_CLIENT", "another"),
        ("DOMO_TOKEN_SOCKET", "/nonexistent/socket"),
        ("DOMO_SANDBOX_CA_FILE", "/nonexistent/ca.pem"),
        ("DOMO_CLIENT_ID", "id of the caller"),
        ("DOMO_TOKEN_URL", "http://192.0.2.1/oauth/token"),
        ("RUST_LOG", "trace"),
    ] {
        command.env(name, value);
    }
    let (code, stdout, stderr) = parts(command.output().unwrap());
    assert_eq!((code, &*stderr), (Some(0), ""));
    let variable = |name: &str| {
        let start = format!("{name}=");
        let mut lines = stdout.lines();
        lines.find_map(|line| line.strip_prefix(&start).map(str::to_owned))
    };
    for name in [
        "DOMO_TOKEN_CONFIG",
        "DOMO_TOKEN_CLIENT",
        "DOMO_SANDBOX_CA_FILE",
    ] {
        assert_eq!(variable(name), None, "{name}");
    }
    // The command's own variables stay.
    assert_eq!(variable("DOMO_CLIENT_ID").unwrap(), "id of the caller");
    let socket = variable("DOMO_TOKEN_SOCKET").unwrap();
    assert!(Path::new(&socket).starts_with(place.0.path()), "{socket}");
    let url = variable("DOMO_SANDBOX_URL").unwrap();
    assert!(url.starts_with("http://127.0.0.1:"), "{url}");
    place.assert_empty();
}

#[test]
fn directory_and_files_of_the_broker_are_private() {
    let script = "cd \"${DOMO_TOKEN_SOCKET%/*}\" && stat -c '%a' . config.toml";
    let (_, stdout, stderr) = Place::new().script(&[], script);
    assert_eq!((&*stdout, &*stderr), ("700\n600\n", ""));
}

#[test]
fn unknown_scope_set_is_reported_with_the_option_that_adds_it() {
    let place = Place::new();
    let script = "domo-token data >token && domo-token audit data";
    let script = format!("cd \"${{DOMO_TOKEN_SOCKET%/*}}\" && {script}");
    let (code, stdout, stderr) = place.script(&[], &script);
    assert_eq!((code, &*stdout), (Some(78), ""));
    let advice = "domo-sandbox: the command requested scope sets that the broker does not have: \
                  \"audit data\"; add them with --tokens 'audit data;data'\n";
    assert!(stderr.ends_with(advice), "{stderr}");

    let (code, _, stderr) = place.script(
        &["--tokens", "audit data;data"],
        &script.replace("audit data", "audit data >both"),
    );
    assert_eq!((code, &*stderr), (Some(0), ""));
}

#[test]
fn command_starts_although_domo_fails() {
    let place = Place::new();
    for (status, expected) in [("503", 75), ("429", 75), ("401", 78)] {
        let (code, _, stderr) = place.script(&["--fail", status], "domo-token --timeout 1s data");
        assert_eq!(code, Some(expected), "{stderr}");
        assert!(
            stderr.contains(&format!("Domo returned {status}")),
            "{stderr}"
        );
    }
    // The first request fails, and the second one brings the token.
    let flags = ["--fail", "503,200", "--tokens", "data"];
    let (code, _, stderr) = place.script(&flags, "domo-token --wait data | wc -l");
    assert_eq!((code, &*stderr), (Some(0), ""));
}

#[test]
fn fault_flags_apply_to_the_command() {
    let place = Place::new();
    let status = "curl -s -o \"$DOMO_TOKEN_SOCKET.body\" -w '%{http_code}' \
                  -H \"$(domo-token -o header data)\" \"$DOMO_SANDBOX_URL/v1/datasets\"";
    let of = |flags: &[&str], script: &str| place.script(flags, script).1;
    assert_eq!(of(&[], status), "200");
    assert_eq!(of(&["--revoke-after", "0"], status), "401");
    let lifetime = of(&["--lifetime", "20s"], "domo-token -o json data");
    let token: serde_json::Value = serde_json::from_str(&lifetime).unwrap();
    assert!(token["expires_in"].as_u64().unwrap() <= 20);
    for (after, expected) in [("0", "75\n"), ("1h", "0\n")] {
        let script = "domo-token --timeout 1s data >\"$DOMO_TOKEN_SOCKET.token\"; echo $?";
        assert_eq!(of(&["--fail-after", after], script), expected, "{after}");
    }
}

#[test]
fn https_works_with_the_ca_of_the_run() {
    let script = "curl -fsS --cacert \"$DOMO_SANDBOX_CA_FILE\" \
                  -H \"$(domo-token -o header user)\" \"$DOMO_SANDBOX_URL/v1/users\"";
    let (code, stdout, stderr) = Place::new().script(&["--https"], script);
    assert_eq!((code, &*stderr), (Some(0), ""));
    assert!(stdout.contains("Leonhard Euler"), "{stdout}");
}

#[test]
fn logs_are_printed_or_appended_on_request_only() {
    let place = Place::new();
    let (_, _, stderr) = place.script(&["--verbose"], "true");
    let is_complete =
        |text: &str| text.contains("msg=started") && text.contains(" scope \"data\": 200");
    assert!(is_complete(&stderr), "{stderr}");
    let log = tempfile::NamedTempFile::new().unwrap();
    fs::write(&log, "before\n").unwrap();
    let flags = ["--log", log.path().to_str().unwrap()];
    let (_, _, stderr) = place.script(&flags, "true");
    assert_eq!(stderr, "");
    let text = fs::read_to_string(&log).unwrap();
    assert!(text.starts_with("before\n") && is_complete(&text), "{text}");
}

/// Writes a program, by a process of its own. While this process had it open for writing, a child process of another test
/// could inherit the descriptor, and the program could not be run ("text file busy").
fn write_program(path: &Path, content: &[u8]) {
    let mut shell = Command::new("sh");
    shell.args(["-c", "cat >\"$1\" && chmod 755 \"$1\"", "sh"]);
    let mut child = shell.arg(path).stdin(Stdio::piped()).spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all(content).unwrap();
    drop(stdin);
    assert!(child.wait().unwrap().success());
}

#[test]
fn missing_daemon_is_71_and_names_the_option() {
    let place = Place::new();
    let elsewhere = tempfile::tempdir().unwrap();
    let copy = elsewhere.path().join("domo-sandbox");
    write_program(&copy, &fs::read(PROGRAM).unwrap());
    let run = |flags: &[&str], path: &Path| {
        let mut command = Command::new(&copy);
        command
            .arg("run")
            .args(flags)
            .args(["--", "/bin/sh", "-c", "echo ran"]);
        command.env("PATH", path).env("TMPDIR", place.0.path());
        parts(command.output().unwrap())
    };
    let (code, stdout, stderr) = run(&[], elsewhere.path());
    assert_eq!((code, &*stdout), (Some(71), ""));
    let expected = format!(
        "domo-sandbox: cannot find domo-tokend in {} or in $PATH; \
         install it there, or name it with --tokend FILE\n",
        elsewhere.path().display()
    );
    assert_eq!(stderr, expected);
    let (code, _, stderr) = run(&["--tokend", "/nonexistent"], elsewhere.path());
    assert_eq!(code, Some(71));
    assert!(stderr.contains("/nonexistent is not a program"), "{stderr}");

    let daemon = beside("domo-tokend");
    let (code, stdout, _) = run(&["--tokend", daemon.to_str().unwrap()], elsewhere.path());
    assert_eq!((code, &*stdout), (Some(0), "ran\n"));
    let (code, stdout, _) = run(&[], daemon.parent().unwrap());
    assert_eq!((code, &*stdout), (Some(0), "ran\n"));
    place.assert_empty();
}

#[test]
fn error_of_a_broker_that_does_not_start_is_shown() {
    let place = Place::new();
    let (code, stdout, stderr) = place.script(&["--client", "id:secret:da\"ta"], "echo ran");
    assert_eq!((code, &*stdout), (Some(71), ""));
    assert!(stderr.contains("clients.sandbox.tokens: "), "{stderr}");
    let end = "domo-sandbox: the broker ended with 78 at its start; its log is above\n";
    assert!(stderr.ends_with(end), "{stderr}");

    let daemon = place.0.path().join("daemon");
    write_program(&daemon, b"#!/bin/sh\nkill -SEGV $$\n");
    let flags = ["--tokend", daemon.to_str().unwrap()];
    let output = place.run(&flags, &["echo", "ran"]).output().unwrap();
    let (code, stdout, stderr) = parts(output);
    assert_eq!((code, &*stdout), (Some(71), ""));
    let expected = "domo-sandbox: the broker ended with 139 at its start\n";
    assert_eq!(stderr, expected);
    assert_eq!(place.leftovers(), ["daemon"]);
}

/// Sends requests that the log has a line for, over one connection.
const MANY_REQUESTS: &str = "
import http.client, os
host = os.environ['DOMO_SANDBOX_URL'].removeprefix('http://')
connection = http.client.HTTPConnection(host)
for _ in range(3000):
    connection.request('POST', '/oauth/token')
    response = connection.getresponse()
    response.read()
    assert response.status == 401, response.status
print('done')
";

#[test]
fn unread_log_does_not_block_the_command() {
    let place = Place::new();
    let flags = ["--verbose", "--tokens", "data"];
    // Standard error is a pipe that nobody reads.
    let mut running = Running::new(place.run(&flags, &["python3", "-c", MANY_REQUESTS]));
    assert_eq!(running.line(), "done");
    assert_eq!(running.child.wait().unwrap().code(), Some(0));
    place.assert_empty();
}

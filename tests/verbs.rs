//! `domo-token exec`, `watch` and `completions`, as scripts use them.

#![allow(clippy::unwrap_used, reason = "in a test, what fails says so")]

mod common;

use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use common::{Daemon, PATIENCE, config_text, parts, sandbox, token};
use domo_sandbox::Fault;
use domo_token_client::clock::boot_now;
use serde_json::Value;

const HOUR: Duration = Duration::from_secs(3599);

#[test]
fn exec_gives_the_token_in_a_variable_and_the_commands_own_code() {
    let sandbox = sandbox(HOUR);
    let daemon = Daemon::start(&config_text(&sandbox, "[\"data\"]"));
    let held = token(&daemon.ask(&["data"]));
    let script = "printf %s \"$DOMO_ACCESS_TOKEN\"; exit 7";
    let (code, stdout, _) = parts(&daemon.ask(&["exec", "data", "--", "/bin/sh", "-c", script]));
    assert_eq!((code, stdout), (Some(7), held.clone()));
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
    assert_eq!(parts(&daemon.ask(&named)).1, held);
    let signal = ["exec", "data", "--", "/bin/sh", "-c", "kill -9 $$"];
    assert_eq!(
        daemon.ask(&signal).status.code(),
        None,
        "no process in between"
    );
}

#[test]
fn exec_gives_the_token_behind_a_descriptor_and_not_in_the_environment() {
    let sandbox = sandbox(HOUR);
    let daemon = Daemon::start(&config_text(&sandbox, "[\"data\"]"));
    let held = token(&daemon.ask(&["data"]));
    let script = "cat <&3; env | grep -c DOMO_ACCESS_TOKEN; echo x 2>/dev/null >&3 || echo sealed";
    let arguments = ["exec", "--fd", "3", "--format", "header", "data", "--"];
    let (_, stdout, stderr) =
        parts(&daemon.ask(&[&arguments[..], &["/bin/sh", "-c", script]].concat()));
    assert_eq!(
        stdout,
        format!("Authorization: Bearer {held}\n0\nsealed\n"),
        "{stderr}"
    );
    let (_, stdout, _) = parts(&daemon.ask(&["exec", "--fd", "0", "data", "--", "/bin/cat"]));
    assert_eq!(stdout, format!("{held}\n"));
    let far = [
        "exec", "--fd", "9", "data", "--", "/bin/sh", "-c", "cat <&9",
    ];
    assert_eq!(parts(&daemon.ask(&far)).1, format!("{held}\n"));
}

#[test]
fn exec_runs_nothing_without_a_token_and_says_what_cannot_be_run() {
    let sandbox = sandbox(HOUR);
    let daemon = Daemon::start(&config_text(&sandbox, "[\"data\"]"));
    let (code, stdout, _) = parts(&daemon.ask(&["exec", "nosuch", "--", "/bin/echo", "ran"]));
    assert_eq!((code, stdout.as_str()), (Some(78), ""));
    for (program, expected) in [("/nowhere/curl", 127), ("/etc/passwd", 126)] {
        let (code, stdout, stderr) = parts(&daemon.ask(&["exec", "data", "--", program]));
        assert_eq!((code, stdout.as_str()), (Some(expected), ""), "{stderr}");
        assert!(stderr.contains(program), "{stderr}");
    }
    let missing = daemon.folder().join("none.sock");
    let output = common::helper(&missing, &["exec", "data", "--", "/bin/echo", "ran"]).output();
    let (code, stdout, _) = parts(&output.unwrap());
    assert_eq!((code, stdout.as_str()), (Some(69), ""));
}

#[test]
fn watch_prints_each_new_token_as_a_line() {
    let sandbox = sandbox(Duration::from_secs(3));
    let daemon = Daemon::start(&config_text(&sandbox, "[\"data\"]"));
    let mut watch = daemon.helper(&["watch", "data"]).spawn().unwrap();
    let lines = BufReader::new(watch.stdout.take().unwrap()).lines();
    let generations: Vec<u64> = lines
        .take(3)
        .map(|line| {
            let line: Value = serde_json::from_str(&line.unwrap()).unwrap();
            assert!(line["access_token"].as_str().unwrap().len() > 600);
            line["generation"].as_u64().unwrap()
        })
        .collect();
    assert_eq!(generations.len(), 3);
    assert!(
        generations
            .windows(2)
            .all(|pair| pair.first() != pair.last())
    );
    watch.kill().unwrap();
    watch.wait().unwrap();
}

/// Waits until the file holds something that `suits`.
fn wait_for(path: &Path, suits: impl Fn(Option<&str>) -> bool) {
    let end = boot_now() + PATIENCE;
    loop {
        let text = fs::read_to_string(path).ok();
        if suits(text.as_deref()) {
            return;
        }
        assert!(boot_now() < end, "{text:?}");
        std::thread::yield_now();
    }
}

#[test]
fn watch_keeps_a_file_that_is_whole_closed_and_gone_with_its_token() {
    let sandbox = sandbox(Duration::from_secs(3));
    let mut daemon = Daemon::start(&config_text(&sandbox, "[\"data\"]"));
    let file = daemon.folder().join("token");
    let to = file.to_str().unwrap();
    let arguments = ["watch", "--to", to, "--format", "header", "data"];
    let mut watch = daemon.helper(&arguments).spawn().unwrap();
    let is_whole = |text: Option<&str>| {
        text.is_some_and(|text| text.starts_with("Authorization: Bearer ") && text.ends_with('\n'))
    };
    wait_for(&file, is_whole);
    let first = fs::read_to_string(&file).unwrap();
    assert_eq!(
        fs::metadata(&file).unwrap().permissions().mode() & 0o777,
        0o600
    );
    wait_for(&file, |text| is_whole(text) && text != Some(&*first));
    daemon.restart("-KILL");
    let second = fs::read_to_string(&file).unwrap_or_default();
    wait_for(&file, |text| is_whole(text) && text != Some(&*second));
    sandbox.always(Fault::status(503));
    wait_for(&file, |text| text.is_none());
    sandbox.recover();
    wait_for(&file, is_whole);
    let left: Vec<_> = fs::read_dir(daemon.folder()).unwrap().collect();
    let names = left.into_iter().map(|entry| entry.unwrap().file_name());
    assert_eq!(
        names
            .filter(|name| name.to_string_lossy().starts_with("token"))
            .count(),
        1
    );
    daemon.write("config.toml", &config_text(&sandbox, "[\"user\"]"));
    assert_eq!(watch.wait().unwrap().code(), Some(78), "the set is gone");
    assert!(!file.exists());
}

#[test]
fn completions_are_scripts_that_their_shells_take() {
    let script = |shell: &str| {
        let socket = Path::new("/nowhere");
        let output = common::helper(socket, &["completions", shell]).output();
        let (code, stdout, stderr) = parts(&output.unwrap());
        assert_eq!(code, Some(0), "{stderr}");
        stdout
    };
    for shell in ["bash", "zsh", "fish", "powershell"] {
        let script = script(shell);
        for word in ["exec", "format", "watch", "data"] {
            assert!(script.contains(word), "{word} for {shell}");
        }
    }
    let complete = format!(
        "{}\nCOMP_WORDS=(domo-token --format c); COMP_CWORD=2; _domo_token; echo \"${{COMPREPLY[@]}}\"",
        script("bash")
    );
    let bash = Command::new("bash")
        .args(["-c", &complete])
        .stdin(Stdio::null())
        .output();
    assert_eq!(parts(&bash.unwrap()).1, "curl\n");
}

//! `domo-token watch`, as scripts use it.

use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::time::Duration;

use domo_sandbox::Fault;
use serde_json::Value;

use super::traced;
use crate::common::process::send_signal;
use crate::common::wait::until;
use crate::common::{
    self, Daemon, HOUR, config_text, helper, parts, pauses, sandbox, sandbox_and_daemon, token,
};

#[test]
fn watch_prints_each_new_token_as_a_line() {
    let (_sandbox, daemon) = sandbox_and_daemon(Duration::from_secs(3));
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

/// Waits until `condition` holds for the file's text, or for `None` if there is no file.
pub(super) fn wait_for(path: &Path, condition: impl Fn(Option<&str>) -> bool) {
    until(|| {
        let text = fs::read_to_string(path).ok();
        if condition(text.as_deref()) {
            Ok(())
        } else {
            Err(text)
        }
    });
}

/// Waits until the file holds a token.
pub(super) fn wait_for_token(path: &Path) {
    wait_for(path, |text| text.is_some_and(|text| text.len() > 600));
}

#[test]
fn watch_file_is_complete_private_and_removed_at_expiry() {
    let (sandbox, mut daemon) = sandbox_and_daemon(Duration::from_secs(3));
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
            .filter(|name| name.to_string_lossy().contains("token"))
            .count(),
        1
    );
    daemon.write("config.toml", &config_text(&sandbox, "[\"user\"]"));
    assert_eq!(watch.wait().unwrap().code(), Some(78), "the set is gone");
    assert!(!file.exists());
}

#[test]
fn watch_fails_as_get_does_without_a_first_token() {
    let sandbox = sandbox(HOUR);
    sandbox.always(Fault::status(503));
    let folder = common::folder(&config_text(&sandbox, "[\"data\"]"));
    let socket = folder.path().join("broker.sock");
    let file = folder.path().join("token");
    let to = ["watch", "--to", file.to_str().unwrap()];
    let watch = |arguments: &[&str]| helper(&socket, &[&to[..], arguments].concat());
    let missing = watch(&["data"]).output().unwrap();
    assert_eq!(missing.status.code(), Some(69));
    let late = watch(&["--wait", "--timeout", "1", "data"]).output();
    assert_eq!(late.unwrap().status.code(), Some(69));
    let mut patient = watch(&["--wait", "--timeout", "60", "data"])
        .spawn()
        .unwrap();
    let daemon = Daemon::start_in(folder);
    let (code, _, stderr) = parts(&watch(&["--timeout", "1", "data"]).output().unwrap());
    assert_eq!(code, Some(75), "{stderr}");
    assert!(stderr.contains("503"), "{stderr}");
    for (arguments, expected) in [
        (&["nosuch"][..], 78),
        (&["-c", "nobody", "data"], 78),
        (&["da\"ta"], 2),
    ] {
        let (code, _, stderr) = parts(&watch(arguments).output().unwrap());
        assert_eq!(code, Some(expected), "{arguments:?}: {stderr}");
        assert_eq!(stderr.lines().count(), 1, "{stderr}");
    }
    sandbox.recover();
    wait_for_token(&file);
    let long = watch(&["--min-ttl", "2h", "--wait", "data"]).output();
    assert_eq!(long.unwrap().status.code(), Some(78));
    assert_eq!(
        fs::read_to_string(&file).unwrap(),
        token(&daemon.ask(&["data"])) + "\n"
    );
    patient.kill().unwrap();
    patient.wait().unwrap();
}

#[test]
fn watch_prints_no_token_below_min_ttl_and_renews_in_time() {
    let (sandbox, daemon) = sandbox_and_daemon(Duration::from_secs(8));
    let arguments = ["watch", "--min-ttl", "5", "data"];
    let mut watch = daemon.helper(&arguments).spawn().unwrap();
    let lines = BufReader::new(watch.stdout.take().unwrap()).lines();
    for line in lines.take(4) {
        let line: Value = serde_json::from_str(&line.unwrap()).unwrap();
        let left = line["expires_in"].as_u64().unwrap();
        // Whole seconds, of which one may have begun.
        assert!((5..=8).contains(&(left + 1)), "{left}");
    }
    watch.kill().unwrap();
    watch.wait().unwrap();
    // Except for the first token, the broker renews after 5.6 s at the earliest.
    let pauses = pauses(&sandbox.requests());
    let late = pauses
        .iter()
        .skip(1)
        .any(|rest| *rest > Duration::from_secs(5));
    assert!(pauses.len() >= 3 && !late, "{pauses:?}");
}

#[test]
fn watch_removes_its_file_when_stopped_and_keeps_foreign_files() {
    let (_sandbox, daemon) = sandbox_and_daemon(HOUR);
    let file = daemon.folder().join("token");
    let to = file.to_str().unwrap();
    let start = |mode| {
        let mut command = daemon.helper(&["watch", "--to", to, "--mode", mode, "data"]);
        let child = command.spawn().unwrap();
        wait_for_token(&file);
        child
    };
    for (signal, number) in [
        ("-TERM", 15),
        ("-INT", 2),
        ("-HUP", 1),
        ("-QUIT", 3),
        ("-USR1", 10),
        ("-USR2", 12),
        ("-ALRM", 14),
        ("-XCPU", 24),
    ] {
        let mut watch = start("0640");
        let mode = fs::metadata(&file).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o640);
        send_signal(watch.id(), signal);
        assert_eq!(watch.wait().unwrap().signal(), Some(number));
        assert!(!file.exists());
    }
    let mut watch = start("0600");
    fs::remove_file(&file).unwrap();
    fs::write(&file, "another's").unwrap();
    send_signal(watch.id(), "-TERM");
    watch.wait().unwrap();
    assert_eq!(fs::read_to_string(&file).unwrap(), "another's");
    let nowhere = daemon.folder().join("none/token");
    let nowhere = daemon.ask(&["watch", "--to", nowhere.to_str().unwrap(), "data"]);
    let (code, _, stderr) = parts(&nowhere);
    assert_eq!(code, Some(74));
    assert!(
        stderr.contains("create its directory with: mkdir -p "),
        "{stderr}"
    );
}

#[test]
fn watch_file_is_synced_before_it_is_visible() {
    let (_sandbox, daemon) = sandbox_and_daemon(HOUR);
    token(&daemon.ask(&["data"]));
    let file = daemon.folder().join("token");
    let helper = env!("CARGO_BIN_EXE_domo-token");
    // The expiry ends it once the file exists.
    let script = format!(
        "{helper} watch --to {} data & until [ -s {0} ]; do :; done; kill $!; wait; true",
        file.display()
    );
    let calls = "trace=fsync,renameat,renameat2,openat";
    let Some(trace) = traced(&daemon.socket(), calls, &["sh", "-c", &script]) else {
        return;
    };
    let name = |line: &str| {
        line.split_whitespace()
            .nth(1)
            .unwrap_or("")
            .split('(')
            .next()
            .unwrap_or("")
            .to_owned()
    };
    let is_ours = |line: &&str| line.contains("fsync(") || line.contains("renameat2(");
    let order: Vec<String> = trace.lines().filter(is_ours).map(name).collect();
    assert_eq!(order[..3], ["fsync", "renameat2", "fsync"], "{trace}");
}

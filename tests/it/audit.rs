//! The audit file: which token was given to which caller.

use std::fs::{self, File};
use std::io::Write;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt, symlink};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use crate::common::process::{first_line, make_fifo};
use crate::common::wait::until;
use crate::common::{
    CANARY_SECRET, Daemon, HOUR, PATIENCE, check, config_text, folder, metrics, parts, run_to_end,
    sandbox, token,
};
use rustix::fs::OFlags;
use serde_json::Value;

fn audited(config: &str, file: &str) -> String {
    format!("{config}\n[audit]\nfile = \"{file}\"\n")
}

fn lines(path: &Path) -> Vec<Value> {
    let text = fs::read_to_string(path).unwrap_or_default();
    text.lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

/// Waits until the file has that many lines, and returns them.
fn wait_for_lines(path: &Path, count: usize) -> Vec<Value> {
    until(|| {
        let found = lines(path);
        if found.len() >= count {
            Ok(found)
        } else {
            Err(found)
        }
    })
}

#[test]
fn tokens_and_refusals_have_one_line_each_without_secrets() {
    let sandbox = sandbox(HOUR);
    let config = audited(&config_text(&sandbox, "[\"data\"]"), "audit.jsonl");
    let daemon = Daemon::start(&config);
    let path = daemon.folder().join("audit.jsonl");
    let text = token(&daemon.ask(&["data"]));
    daemon.ask(&["nosuch"]);
    let lines = wait_for_lines(&path, 2);
    let uid = fs::metadata("/proc/self").unwrap().uid();
    assert_eq!(lines[0]["outcome"], "served");
    assert_eq!(
        (&lines[0]["client"], &lines[0]["scope"]),
        (&"acme".into(), &"data".into())
    );
    assert_eq!(lines[0]["uid"], uid);
    assert!(lines[0]["user"].is_string() || uid != 0, "{}", lines[0]);
    assert!(lines[0]["generation"].is_u64() && lines[0]["time"].as_f64().unwrap() > 1.7e9);
    assert_eq!(lines[1]["outcome"], "unknown_scope");
    assert_eq!(
        fs::metadata(&path).unwrap().permissions().mode() & 0o777,
        0o600
    );
    // It is created again after a rotation.
    fs::rename(&path, daemon.folder().join("old")).unwrap();
    daemon.ask(&["data"]);
    assert_eq!(wait_for_lines(&path, 1).len(), 1);
    daemon.ask(&["data"]);
    let folder = daemon.folder().to_owned();
    let copy = tempfile::tempdir().unwrap();
    // A daemon has written all lines when it ends; its folder is removed then.
    let kept = copy.path().join("kept");
    fs::hard_link(folder.join("audit.jsonl"), &kept).unwrap();
    daemon.stop();
    let all = fs::read_to_string(&kept).unwrap();
    assert_eq!(all.lines().count(), 2);
    assert!(!all.contains(&text) && !all.contains(CANARY_SECRET));
}

/// Returns the number of lines that the daemon reports as lost.
fn lost(port: u16) -> u64 {
    let (_, metrics) = metrics::get(metrics::connect(port), "/metrics");
    let mut lines = metrics.lines();
    let count = lines.find_map(|line| line.strip_prefix("domo_token_audit_lost_total "));
    count.unwrap().parse().unwrap()
}

fn wait_for_lost(port: u16, count: u64) {
    until(|| {
        let lost = lost(port);
        (lost == count).then_some(()).ok_or(lost)
    });
}

#[test]
fn tokens_sent_to_watchers_have_one_line_each() {
    let sandbox = sandbox(Duration::from_secs(2));
    let config = audited(&config_text(&sandbox, "[\"data\"]"), "audit.jsonl");
    let daemon = Daemon::start(&config);
    let watch = daemon.broker().watch("data").unwrap();
    let generations: Vec<u64> = watch
        .flatten()
        .take(2)
        .map(|token| token.generation())
        .collect();
    let lines = wait_for_lines(&daemon.folder().join("audit.jsonl"), 2);
    for (line, generation) in lines.iter().zip(generations) {
        assert_eq!(line["outcome"], "served", "{line}");
        assert_eq!(line["generation"], generation, "{line}");
    }
}

#[test]
fn name_of_the_maximum_request_length_is_refused_and_logged_truncated() {
    let sandbox = sandbox(HOUR);
    let config = audited(&config_text(&sandbox, "[\"data\"]"), "audit.jsonl");
    let daemon = Daemon::start(&config);
    // Without a response the helper would retry until its deadline and exit with 75.
    for name in ["n".repeat(4000), "\u{1}".repeat(4000)] {
        for more in [&["data"][..], &["--explain", "data"]] {
            let arguments = [&["-c", &name], more].concat();
            let (code, stdout, stderr) = parts(&daemon.ask(&arguments));
            assert_eq!(code, Some(78), "{stderr}");
            let output = stdout + &stderr;
            assert!(
                output.contains('…') && output.len() < 2048,
                "{}",
                output.len()
            );
        }
    }
    let path = daemon.folder().join("audit.jsonl");
    for line in wait_for_lines(&path, 2) {
        assert_eq!(line["outcome"], "unknown_client");
        let client = line["client"].as_str().unwrap();
        assert_eq!(client.chars().count(), 65, "{line}");
    }
}

#[test]
fn write_failure_does_not_affect_callers_and_is_counted() {
    let sandbox = sandbox(HOUR);
    // Each write to it fails as on a full disk.
    let config = audited(&config_text(&sandbox, "[\"data\"]"), "/dev/stdout");
    let (mut daemon, port) = metrics::start_as(&config, |command| {
        command.stdout(File::options().write(true).open("/dev/full").unwrap());
    });
    assert_eq!(lost(port), 0);
    token(&daemon.ask(&["data"]));
    daemon.wait_for_log("audit file /dev/stdout");
    wait_for_lost(port, 1);
    token(&daemon.ask(&["data"]));
    daemon.ask(&["nosuch"]);
    wait_for_lost(port, 3);
    let (_, log) = daemon.stop();
    let notice = "audit file /dev/stdout";
    assert_eq!(
        log.matches(notice).count(),
        1,
        "once, and no good news: {log}"
    );
}

#[test]
fn unread_pipe_delays_neither_start_nor_shutdown() {
    let sandbox = sandbox(HOUR);
    let outside = tempfile::tempdir().unwrap();
    let path = outside.path().join("pipe");
    make_fifo(&path);
    let config = audited(&config_text(&sandbox, "[\"data\"]"), path.to_str().unwrap());
    let folder = folder(&config);
    let (code, stderr) = run_to_end(Daemon::command(folder.path()));
    assert_eq!(code, Some(75), "nobody has it open: {stderr}");
    assert!(
        stderr.contains("the pipe has no reader; start its reader first"),
        "{stderr}"
    );
    assert!(stderr.contains("audit.file"), "{stderr}");
    let mut options = File::options();
    options.custom_flags(OFlags::NONBLOCK.bits().cast_signed());
    let _reader = options.read(true).open(&path).unwrap();
    let mut daemon = Daemon::start_in(folder);
    let mut full = options.read(false).write(true).open(&path).unwrap();
    while full.write(&[b'\n'; 4096]).is_ok() {}
    token(&daemon.ask(&["data"]));
    daemon.ask(&["nosuch"]);
    daemon.signal("-TERM");
    daemon.wait_for_log("the queued lines are lost lost=2");
    let (code, log) = daemon.wait_with_log();
    assert_eq!(code, Some(0), "{log}");
}

#[test]
fn standard_output_of_any_kind_receives_the_lines() {
    let sandbox = sandbox(HOUR);
    let config = audited(&config_text(&sandbox, "[\"data\"]"), "/dev/stdout");
    let (ours, theirs) = UnixStream::pair().unwrap();
    let folder = folder(&config);
    let (code, _, stderr) = check(&folder.path().join("config.toml"), &[]);
    assert_eq!(code, Some(0), "{stderr}");
    let mut command = Daemon::command(folder.path());
    command.stdout(OwnedFd::from(theirs));
    let daemon = Daemon::start_as(command, folder);
    token(&daemon.ask(&["data"]));
    ours.set_read_timeout(Some(PATIENCE)).unwrap();
    let line = first_line(ours);
    let line: Value = serde_json::from_str(&line).unwrap();
    assert_eq!(line["outcome"], "served");
}

#[test]
fn symlink_exits_78_in_daemon_and_check_without_writing_through_it() {
    let sandbox = sandbox(HOUR);
    let config = audited(&config_text(&sandbox, "[\"data\"]"), "audit.jsonl");
    let folder = folder(&config);
    let elsewhere = folder.path().join("elsewhere");
    fs::write(&elsewhere, "kept\n").unwrap();
    symlink("elsewhere", folder.path().join("audit.jsonl")).unwrap();
    let (code, stderr) = run_to_end(Daemon::command(folder.path()));
    assert_eq!(code, Some(78), "{stderr}");
    let (code, _, output) = check(&folder.path().join("config.toml"), &[]);
    assert_eq!(code, Some(78), "{output}");
    for output in [stderr, output] {
        assert!(output.contains("audit.jsonl: is a symlink"), "{output}");
    }
    assert_eq!(fs::read_to_string(&elsewhere).unwrap(), "kept\n");
}

#[test]
fn file_that_cannot_be_opened_exits_78_and_is_named() {
    let sandbox = sandbox(HOUR);
    let config = audited(&config_text(&sandbox, "[\"data\"]"), "/proc/nowhere/audit");
    let folder = folder(&config);
    let (code, stderr) = run_to_end(Daemon::command(folder.path()));
    assert_eq!(code, Some(78), "{stderr}");
    assert!(
        stderr.contains("audit.file /proc/nowhere/audit"),
        "{stderr}"
    );
}

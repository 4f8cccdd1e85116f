//! The processes that the daemon starts, and as PID 1 of a container those that are left to it.

#![expect(clippy::unwrap_used, reason = "in a test, what fails says so")]

mod common;

use std::fs;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Command, Stdio};

use common::wait::until;
use common::{Daemon, HOUR, config_text, folder, sandbox};
use tempfile::TempDir;

/// The config of a client whose secret that script prints.
fn with_script(config: &str, script: &str) -> String {
    let command = format!("client_secret_command = [\"sh\", \"-c\", \"{script}\"]");
    config.replace("client_secret_file = \"acme.secret\"", &command)
}

/// The state letters and parents of all processes (proc(5)), by process id.
fn processes() -> Vec<(u32, char, u32)> {
    let entries = fs::read_dir("/proc").unwrap().flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    let process = |pid: u32| {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        let mut fields = stat.rsplit_once(')')?.1.split_whitespace();
        let state = fields.next()?.chars().next()?;
        Some((pid, state, fields.next()?.parse().ok()?))
    };
    pids.filter_map(process).collect()
}

fn kill(signal: &str, pid: u32) {
    let status = Command::new("kill")
        .args([signal, &pid.to_string()])
        .status();
    assert!(status.unwrap().success());
}

/// Waits for the end of a process, which nobody may have reaped yet.
fn until_ended(pid: u32) {
    until(|| {
        let all = processes();
        match all.into_iter().find(|(other, ..)| *other == pid) {
            Some((_, state, _)) if state != 'Z' => Err(state),
            Some(_) | None => Ok(()),
        }
    });
}

/// A script that writes its process id to a file, and then hangs with a child of its own.
fn hanging(folder: &TempDir) -> String {
    let pids = folder.path().join("pids");
    format!("sleep 600 & echo $$ $! > {}; wait", pids.display())
}

/// The process ids that the script has written.
fn hanging_pids(folder: &Path) -> Vec<u32> {
    until(|| {
        let text = fs::read_to_string(folder.join("pids")).unwrap_or_default();
        let pids: Vec<u32> = text.split_whitespace().flat_map(str::parse).collect();
        if pids.len() == 2 { Ok(pids) } else { Err(text) }
    })
}

#[test]
fn daemon_that_stops_ends_running_secret_commands_with_their_children() {
    let sandbox = sandbox(HOUR);
    let folder = folder("");
    let config = with_script(&config_text(&sandbox, "[\"data\"]"), &hanging(&folder));
    fs::write(folder.path().join("config.toml"), config).unwrap();
    let daemon = Daemon::start_in(folder);
    let pids = hanging_pids(daemon.folder());
    let (code, log) = daemon.stop();
    assert_eq!(code, Some(0), "{log}");
    pids.into_iter().for_each(until_ended);
}

#[test]
fn check_that_a_signal_ends_ends_running_secret_commands_with_their_children() {
    let sandbox = sandbox(HOUR);
    for signal in ["-INT", "-TERM", "-HUP", "-QUIT"] {
        let folder = folder("");
        let config = with_script(&config_text(&sandbox, "[\"data\"]"), &hanging(&folder));
        let path = folder.path().join("config.toml");
        fs::write(&path, config).unwrap();
        let mut check = Command::new(env!("CARGO_BIN_EXE_domo-tokend"));
        check.arg("check").arg("--config").arg(&path);
        check.stdin(Stdio::null());
        let mut check = check.spawn().unwrap();
        let pids = hanging_pids(folder.path());
        kill(signal, check.id());
        let ended = check.wait().unwrap();
        assert!(ended.signal().is_some(), "{signal}: {ended}");
        pids.into_iter().for_each(until_ended);
    }
}

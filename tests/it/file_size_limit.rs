//! Writes beyond the limit on file sizes (`ulimit -f`): they fail, and SIGXFSZ ends no program.

use std::fs;
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::process::{Command, Stdio};

use crate::common::process::in_shell_after;
use crate::common::wait::until;
use crate::common::{
    CANARY_SECRET, CLIENT_ID, Daemon, HOUR, config_text, folder, parts, sandbox,
    sandbox_and_daemon, sandbox_and_folder, token,
};

/// No byte can be written to any file.
const NO_FILES: &str = "ulimit -f 0";

/// Starts the daemon in that folder after the shell command `before`.
fn daemon_after(before: &str, folder: tempfile::TempDir) -> Daemon {
    let mut command = in_shell_after(before, &Daemon::command(folder.path()));
    command.stdout(Stdio::null());
    Daemon::start_as(command, folder)
}

fn metric(daemon: &Daemon, name: &str) -> u64 {
    let (_, text, _) = parts(&daemon.ask(&["status", "--metrics"]));
    let line = text.lines().find_map(|line| line.strip_prefix(name));
    line.unwrap().trim().parse().unwrap()
}

#[test]
fn daemon_past_the_limit_serves_and_counts_lost_audit_lines() {
    let sandbox = sandbox(HOUR);
    let folder = folder("");
    let audit = folder.path().join("audit.jsonl");
    let config = config_text(&sandbox, "[\"data\"]");
    let config = format!("{config}\n[audit]\nfile = \"{}\"\n", audit.display());
    fs::write(folder.path().join("config.toml"), config).unwrap();
    let mut daemon = daemon_after(NO_FILES, folder);
    token(&daemon.ask(&["data"]));
    token(&daemon.ask(&["data"]));
    daemon.wait_for_log("File too large");
    until(|| match metric(&daemon, "domo_token_audit_lost_total") {
        lost @ 0..2 => Err(lost),
        _ => Ok(()),
    });
    assert_eq!(fs::metadata(&audit).unwrap().len(), 0);
    let (code, log) = daemon.stop();
    assert_eq!(code, Some(0), "{log}");
    let warnings = log.matches("File too large").count();
    assert_eq!(warnings, 1, "it is logged once: {log}");
}

#[test]
fn daemon_whose_log_file_is_full_serves_and_counts_dropped_lines() {
    let (_sandbox, folder) = sandbox_and_folder(HOUR);
    let log = folder.path().join("log");
    // In units of 512 bytes.
    let before = format!("ulimit -f 1; exec 2>'{}'", log.display());
    let mut command = in_shell_after(&before, &Daemon::command(folder.path()));
    command.stdout(Stdio::null());
    let mut daemon = Daemon::spawn_as(command, folder);
    until(|| match daemon.ask(&["data"]) {
        output if output.status.success() => Ok(()),
        output => Err(output),
    });
    until(
        || match metric(&daemon, "domo_token_log_lines_dropped_total") {
            0 => Err("none is dropped"),
            _ => Ok(()),
        },
    );
    assert_eq!(fs::metadata(&log).unwrap().len(), 512);
    daemon.signal("-TERM");
    assert_eq!(daemon.wait().code(), Some(0));
}

#[test]
fn daemon_that_cannot_keep_tokens_for_a_restart_warns_and_serves() {
    let (_sandbox, folder) = sandbox_and_folder(HOUR);
    let path = folder.path().join("notify.sock");
    let systemd = UnixDatagram::bind(&path).unwrap();
    let mut command = in_shell_after(NO_FILES, &Daemon::command(folder.path()));
    command.env("NOTIFY_SOCKET", &path).stdout(Stdio::null());
    let mut daemon = Daemon::start_as(command, folder);
    let line = daemon.wait_for_log("cannot store tokens for a restart");
    assert!(line.contains("File too large"), "{line}");
    token(&daemon.ask(&["data"]));
    drop(systemd);
}

/// Runs the helper with the limit. Returns exit code and message.
fn limited(daemon: &Daemon, arguments: &[&str], output: &Path) -> (Option<i32>, String) {
    let mut command = in_shell_after(NO_FILES, &daemon.helper(arguments));
    let output = fs::File::create(output).unwrap();
    let output = command.stdout(output).output().unwrap();
    let (code, _, message) = parts(&output);
    (code, message)
}

#[test]
fn helper_past_the_limit_exits_with_a_message() {
    let (_sandbox, daemon) = sandbox_and_daemon(HOUR);
    let folder = tempfile::tempdir().unwrap();
    let (output, to) = (folder.path().join("output"), folder.path().join("to"));
    let watch = ["watch", "--to", to.to_str().unwrap(), "data"];
    let exec = ["exec", "--fd", "3", "data", "--", "/bin/true"];
    for (arguments, expected) in [(&["data"][..], 74), (&watch, 74), (&exec, 126)] {
        let (code, message) = limited(&daemon, arguments, &output);
        assert_eq!(code, Some(expected), "{arguments:?}: {message}");
        assert!(message.contains("File too large"), "{message}");
        assert_eq!(message.lines().count(), 1, "{message}");
    }
    assert_eq!(fs::metadata(&output).unwrap().len(), 0);
    let left: Vec<_> = fs::read_dir(folder.path()).unwrap().collect();
    assert_eq!(left.len(), 1, "{left:?}");
}

#[test]
fn check_and_init_past_the_limit_exit_with_a_message_and_leave_nothing() {
    let (_sandbox, folder) = sandbox_and_folder(HOUR);
    let program = env!("CARGO_BIN_EXE_domo-tokend");
    let mut check = Command::new(program);
    check.arg("check").arg("--config");
    check.arg(folder.path().join("config.toml"));
    let output = fs::File::create(folder.path().join("output")).unwrap();
    let output = in_shell_after(NO_FILES, &check)
        .stdout(output)
        .output()
        .unwrap();
    let (code, _, message) = parts(&output);
    assert_eq!(code, Some(74), "{message}");
    assert!(message.contains("File too large"), "{message}");

    let mut init = Command::new(program);
    init.args(["init", "--offline", "--client-id", CLIENT_ID, "--config"]);
    init.arg(folder.path().join("new.toml"));
    let piped = format!("{NO_FILES}; echo {CANARY_SECRET} | \"$0\" \"$@\"; exit $?");
    let (code, _, message) = parts(&in_shell_after(&piped, &init).output().unwrap());
    assert_eq!(code, Some(78), "{message}");
    assert!(message.contains("File too large"), "{message}");
    assert!(!folder.path().join("new.toml").exists());
    assert!(!folder.path().join("default.secret").exists());
}

/// The bit of SIGXFSZ, signal 25, in the masks of `/proc/PID/status` (proc(5)).
const XFSZ: u64 = 1 << 24;

/// Asserts that the process of that `/proc/PID/status` has the default action for SIGXFSZ.
#[track_caller]
fn assert_default(status: &str) {
    for name in ["SigBlk:", "SigIgn:", "SigCgt:"] {
        let mask = status.lines().find_map(|line| line.strip_prefix(name));
        let mask = u64::from_str_radix(mask.unwrap().trim(), 16).unwrap();
        assert_eq!(mask & XFSZ, 0, "{name} {mask:x}");
    }
}

/// As Python does, whose children inherit it.
const IGNORED: &str = "trap '' XFSZ";

#[test]
fn exec_gives_its_command_the_default_action() {
    let (_sandbox, daemon) = sandbox_and_daemon(HOUR);
    let exec = daemon.helper(&["exec", "data", "--", "cat", "/proc/self/status"]);
    for before in ["true", IGNORED] {
        let mut command = in_shell_after(before, &exec);
        command.env("PATH", "/usr/bin:/bin");
        let (code, status, message) = parts(&command.output().unwrap());
        assert_eq!(code, Some(0), "{message}");
        assert_default(&status);
    }
}

#[test]
fn secret_command_has_the_default_action() {
    let sandbox = sandbox(HOUR);
    for before in ["true", IGNORED] {
        let folder = folder("");
        let status = folder.path().join("status");
        let script = format!(
            "cat /proc/self/status > {}; cat {}",
            status.display(),
            folder.path().join("acme.secret").display()
        );
        let command = format!("client_secret_command = [\"sh\", \"-c\", \"{script}\"]");
        let config = config_text(&sandbox, "[\"data\"]");
        let config = config.replace("client_secret_file = \"acme.secret\"", &command);
        fs::write(folder.path().join("config.toml"), config).unwrap();
        let daemon = daemon_after(before, folder);
        token(&daemon.ask(&["data"]));
        assert_default(&fs::read_to_string(&status).unwrap());
    }
}

//! Secrets and tokens appear in no output, file or core dump, and other users cannot read a daemon's memory. The
//! search that all tests end with finds planted ones.

use std::fs;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::process::{Command, Stdio};

use crate::common;
use crate::common::callers::{USER_A, give_to, is_root};
use crate::common::process::{in_shell_after, wrapped};
use crate::common::{
    CANARY_SECRET, Daemon, HOUR, config_text, folder, kernel, parts, run_to_end, sandbox,
    sandbox_and_folder, token,
};
use domo_sandbox::Sandbox;

const TOKEN: &str = "eyJhbGciOiJSUzI1NiJ9.e30.c2ln";

/// The secret as HTTP Basic sends it: `id:` and the secret in base64.
const SENT: &str = "aWQ6YzRuYXJ5LXNlY3JldC1uZXZlci10by1iZS1zZWVu";

/// A shell script in place of a daemon, with the folder as `$1`. The script's file is one of those that may contain
/// tokens.
fn leaking_daemon(script: &str, folder: &Path) -> Command {
    let file = folder.join("token-script");
    let script = format!("{script}\necho started >&2\nwhile :; do read line || exit; done\n");
    fs::write(&file, script).unwrap();
    let mut command = Command::new("/bin/sh");
    // It runs until it is killed.
    command
        .env_clear()
        .stdin(Stdio::piped())
        .stdout(common::daemon::stdout_file(folder));
    command.arg(file).arg(folder);
    command
}

/// Returns the message of the search at its end, if it finds something.
fn found(script: &str, more: impl FnOnce(&mut Command)) -> Option<String> {
    let folder = folder("");
    let mut command = leaking_daemon(script, folder.path());
    more(&mut command);
    let daemon = Daemon::start_as(command, folder);
    let result = catch_unwind(AssertUnwindSafe(|| drop(daemon)));
    let panic = result.err()?;
    Some(panic.downcast_ref::<String>().unwrap().clone())
}

#[test]
fn planted_secret_or_token_is_detected_in_each_place() {
    assert_eq!(found(":", |_| {}), None, "nothing is planted");
    for what in [CANARY_SECRET, TOKEN, SENT] {
        let log = found(&format!("echo {what} >&2"), |_| {}).unwrap();
        assert!(log.contains("the log"), "{log}");
        let printed = found(&format!("echo {what}"), |_| {}).unwrap();
        assert!(printed.contains("the file stdout"), "{printed}");
        let file = found(&format!("echo {what} >$1/kept.json"), |_| {}).unwrap();
        assert!(file.contains("kept.json"), "{file}");
        let argument = found(":", |command| {
            command.arg(what);
        })
        .unwrap();
        assert!(argument.contains("cmdline"), "{argument}");
    }
    let own = found(&format!("echo {TOKEN} >>$1/config.toml"), |_| {}).unwrap();
    assert!(own.contains("config.toml"), "{own}");
    let environment = found(":", |command| {
        command.env("TOKEN", TOKEN);
    })
    .unwrap();
    assert!(environment.contains("environ"), "{environment}");
    let given = found(":", |command| {
        command.env("SECRET", CANARY_SECRET);
    });
    assert_eq!(given, None, "the test itself put it there");
}

#[test]
fn planted_secret_on_the_helpers_standard_error_is_detected() {
    let output = Command::new("/bin/sh")
        .args(["-c", "echo c4nary >&2"])
        .output()
        .unwrap();
    assert!(catch_unwind(|| parts(&output)).is_err());
}

#[test]
fn a_crash_leaves_no_core() {
    let (_sandbox, folder) = sandbox_and_folder(HOUR);
    let mut command = in_shell_after("ulimit -c unlimited", &Daemon::command(folder.path()));
    command.current_dir(folder.path()).stdout(Stdio::null());
    let mut daemon = Daemon::start_as(command, folder);
    daemon.wait_for_log("token obtained");
    let folder = daemon.folder().to_owned();
    daemon.signal("-ABRT");
    let status = daemon.wait();
    assert_eq!(status.signal(), Some(6), "{status}");
    assert!(!status.core_dumped(), "{status}");
    let left = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name());
    let cores = left.filter(|name| name.to_string_lossy().contains("core"));
    assert_eq!(cores.count(), 0);
}

#[test]
fn failing_process_hardening_ends_the_start_unless_debuggable() {
    let (sandbox, folder) = sandbox_and_folder(HOUR);
    let command = |more: &[&str]| {
        let mut command = wrapped(
            &kernel::WITHOUT_SET_DUMPABLE,
            &Daemon::command(folder.path()),
        );
        command.args(more).stdout(Stdio::null());
        command
    };
    let (code, stderr) = run_to_end(command(&[]));
    assert_eq!(code, Some(78), "{stderr}");
    assert!(
        stderr.contains("cannot disable core dumps and ptrace") && stderr.contains("--debuggable"),
        "{stderr}"
    );
    assert!(sandbox.requests().is_empty(), "it goes no further");
    let open = command(&["--debuggable"]);
    token(&Daemon::start_as(open, folder).ask(&["data"]));
}

/// A daemon that runs as user A.
fn daemon_of_user_a(sandbox: &Sandbox, more: &[&str]) -> Daemon {
    let folder = folder(&config_text(sandbox, "[\"data\"]"));
    give_to(USER_A, folder.path());
    let mut command = Daemon::command(folder.path());
    command.uid(USER_A).gid(USER_A).current_dir("/").args(more);
    Daemon::start_as(command, folder)
}

/// The error that user A gets when it reads a file of the daemon in `/proc`.
fn proc_error(daemon: &Daemon, name: &str) -> String {
    let mut head = Command::new("/bin/head");
    head.uid(USER_A).gid(USER_A).current_dir("/");
    head.arg("-c1")
        .arg(format!("/proc/{}/{name}", daemon.pid()));
    parts(&head.output().unwrap()).2
}

#[test]
fn daemon_is_not_dumpable_by_its_own_user() {
    const DENIED: &str = "Permission denied";
    if !is_root() {
        return;
    }
    let sandbox = sandbox(HOUR);
    let daemon = daemon_of_user_a(&sandbox, &[]);
    // Address 0 is unmapped, so that reading readable memory fails with another error.
    for name in ["environ", "mem", "maps", "fd", "auxv"] {
        let stderr = proc_error(&daemon, name);
        assert!(stderr.contains(DENIED), "{name}: {stderr}");
    }
    let open = daemon_of_user_a(&sandbox, &["--debuggable"]);
    for name in ["environ", "maps", "auxv"] {
        assert_eq!(proc_error(&open, name), "", "{name} of an open one");
    }
    let process = format!("/proc/{}", daemon.pid());
    let limits = fs::read_to_string(format!("{process}/limits")).unwrap();
    let core = limits
        .lines()
        .find(|line| line.starts_with("Max core file size"));
    assert_eq!(core.unwrap().split_whitespace().nth(4), Some("0"));
    let status = fs::read_to_string(format!("{process}/status")).unwrap();
    assert!(status.contains("NoNewPrivs:\t1"));
}

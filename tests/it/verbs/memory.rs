//! Who can read the memory of the helper, and of the command that it becomes.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::os::unix::process::CommandExt;
use std::process::Command;

use crate::common::callers::{USER_A, is_root, open_daemon};
use crate::common::process::wrapped;
use crate::common::wait::until;
use crate::common::{HOUR, kernel, parts, sandbox, sandbox_and_daemon, token};

#[test]
fn helper_is_not_dumpable_and_execs_command_is() {
    if !is_root() {
        return;
    }
    let sandbox = sandbox(HOUR);
    let daemon = open_daemon(&sandbox, "[\"data\"]", "", "");
    let as_user_a = |arguments: &[&str]| {
        let mut command = daemon.helper(arguments);
        command.uid(USER_A).gid(USER_A).current_dir("/");
        command
    };
    let missing = daemon.folder().join("none.sock");
    let missing = missing.to_str().unwrap();
    let waiting = ["--socket", missing, "--wait", "--timeout", "10m"];
    let get = [&waiting[..], &["data"]].concat();
    let exec = [&["exec"], &waiting[..], &["data", "--", "true"]].concat();
    for arguments in [&["watch", "data"][..], &get, &exec] {
        let mut child = as_user_a(arguments).spawn().unwrap();
        // Files there belong to root once the process isn't dumpable (proc(5)).
        until(|| {
            let owner = fs::metadata(format!("/proc/{}/mem", child.id())).unwrap();
            (owner.uid() == 0).then_some(()).ok_or(owner.uid())
        });
        child.kill().unwrap();
        child.wait().unwrap();
    }
    // A command inherits what it would have without the helper.
    let script = "stat -c %u /proc/self/mem; ulimit -c; ulimit -Hc";
    let mut plain = Command::new("sh");
    plain.args(["-c", script]).uid(USER_A).gid(USER_A);
    let plain = parts(&plain.current_dir("/").output().unwrap());
    let exec = ["exec", "data", "--", "sh", "-c", script];
    let exec = as_user_a(&exec).env("PATH", "/usr/bin:/bin").output();
    assert_eq!(parts(&exec.unwrap()), plain);
    assert!(plain.1.starts_with(&format!("{USER_A}\n")), "{plain:?}");
}

#[test]
fn caller_below_exec_is_identified() {
    if !is_root() {
        return;
    }
    let sandbox = sandbox(HOUR);
    let rule = format!("[clients.acme.access]\ndata = {{ users = [{USER_A}] }}\n");
    let daemon = open_daemon(&sandbox, "[\"data\"]", "", &rule);
    let helper = env!("CARGO_BIN_EXE_domo-token");
    let exec = ["exec", "data", "--", helper, "--explain", "data"];
    let mut command = daemon.helper(&exec);
    command.uid(USER_A).gid(USER_A).current_dir("/");
    let (code, stdout, stderr) = parts(&command.output().unwrap());
    assert_eq!(code, Some(0), "{stderr}");
    assert!(stdout.contains(&format!("peer: uid {USER_A}")), "{stdout}");
}

#[test]
fn token_is_printed_when_process_hardening_fails() {
    let (_sandbox, daemon) = sandbox_and_daemon(HOUR);
    let mut command = wrapped(&kernel::WITHOUT_SET_DUMPABLE, &daemon.helper(&["data"]));
    token(&command.output().unwrap());
}

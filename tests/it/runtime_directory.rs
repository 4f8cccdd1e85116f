//! Users without a runtime directory, or with another user's: the advice of helper and daemon works.

use std::fs::{self};
use std::os::unix::fs::chown;
use std::path::Path;
use std::process::{Command, Output};

use crate::common::callers::USER_A;
use crate::common::namespaces::can_create_containers;
use crate::common::process::wrapped;
use crate::common::{CANARY_SECRET, HOUR, chmod, config_text, parts, sandbox, token};
use domo_sandbox::Sandbox;
use tempfile::TempDir;

/// The home of a user with its own broker.
fn home(sandbox: &Sandbox) -> TempDir {
    let home = tempfile::tempdir().unwrap();
    let folder = home.path().join(".config/domo-token");
    fs::create_dir_all(&folder).unwrap();
    fs::write(
        folder.join("config.toml"),
        config_text(sandbox, "[\"data\"]"),
    )
    .unwrap();
    let secret = folder.join("acme.secret");
    fs::write(&secret, CANARY_SECRET).unwrap();
    chmod(&secret, 0o600);
    let config = home.path().join(".config");
    let file = folder.join("config.toml");
    for path in [home.path(), &config, &folder, &file, &secret] {
        chown(path, Some(USER_A), Some(USER_A)).unwrap();
    }
    home
}

/// Runs a script as that user after `prepare` has filled an empty `/run`.
fn run(home: &Path, prepare: &str, runtime: Option<&str>, script: &str) -> Output {
    let programs = Path::new(env!("CARGO_BIN_EXE_domo-token"))
        .parent()
        .unwrap();
    let mut shell = Command::new("sh");
    let path = format!("PATH={}:$PATH; {script}", programs.display());
    shell.args(["-c", &path]).env("HOME", home);
    if let Some(runtime) = runtime {
        shell.env("XDG_RUNTIME_DIR", runtime);
    }
    let id = USER_A.to_string();
    let as_user = ["setpriv", "--reuid", &id, "--regid", &id, "--clear-groups"];
    let script = format!("mount -t tmpfs -o mode=755 none /run && {prepare} exec \"$@\"");
    let shell = wrapped(&as_user, &shell);
    let words = ["unshare", "-m", "sh", "-c", &script, "sh"];
    wrapped(&words, &shell).output().unwrap()
}

const OWN: &str = "install -d -o 4242 -m 700 /run/user/4242 && ";

/// Asserts that a program fails, and returns its advice: the part of its only line after `start`.
#[track_caller]
fn advice(output: &Output, code: i32, before: &str) -> String {
    let (found, _, stderr) = parts(output);
    assert_eq!(found, Some(code), "{stderr}");
    assert_eq!(stderr.lines().count(), 1, "{stderr}");
    assert!(stderr.contains(before), "{before:?} in {stderr}");
    let advice = stderr.split_once(before).unwrap().1;
    advice.trim_end().to_owned()
}

/// Asserts that the script starts a broker that serves a token, and stops the broker.
#[track_caller]
fn assert_works(home: &Path, prepare: &str, runtime: Option<&str>, script: &str) {
    let script = format!("{script} domo-token --wait data; code=$?; kill $!; wait; exit $code");
    token(&run(home, prepare, runtime, &script));
}

#[test]
fn advice_without_systemd_starts_a_broker_that_callers_find() {
    if !can_create_containers() {
        return;
    }
    let sandbox = sandbox(HOUR);
    let home = home(&sandbox);
    let start = "for callers too: ";
    let daemons = advice(&run(home.path(), "", None, "domo-tokend"), 78, start);
    let helpers = advice(&run(home.path(), "", None, "domo-token data"), 69, start);
    assert_eq!(daemons, helpers);
    assert_works(home.path(), "", None, &daemons);
}

#[test]
fn advice_names_the_runtime_directory_that_exists() {
    if !can_create_containers() {
        return;
    }
    let sandbox = sandbox(HOUR);
    let home = home(&sandbox);
    let failed = run(home.path(), OWN, None, "domo-tokend");
    let command = advice(&failed, 78, "is set; run: ");
    assert_eq!(command, "XDG_RUNTIME_DIR=/run/user/4242 domo-tokend");
    assert_works(home.path(), OWN, None, &format!("{command} &"));
}

#[test]
fn foreign_runtime_directory_is_replaced_by_the_users_own() {
    if !can_create_containers() {
        return;
    }
    let sandbox = sandbox(HOUR);
    let home = home(&sandbox);
    let foreign = Some("/run/user/4243");
    // Only its owner can enter it, or everyone.
    for (mode, code) in [(700, 77), (755, 69)] {
        let only = format!("install -d -o 4243 -m {mode} /run/user/4243 && ");
        let both = format!("{OWN} {only}");
        let failed = run(home.path(), &both, foreign, "domo-token data");
        let start = "$XDG_RUNTIME_DIR belongs to user 4243; ";
        let shown = advice(&failed, code, start);
        let command = shown.split("run: ").nth(1).unwrap();
        assert_eq!(command, "export XDG_RUNTIME_DIR=/run/user/4242", "{shown}");
        let script = format!("{command}; domo-tokend &");
        assert_works(home.path(), &both, foreign, &script);
        let failed = run(home.path(), &both, foreign, "domo-tokend");
        let start = "$XDG_RUNTIME_DIR is /run/user/4243, which belongs to user 4243; run: ";
        let command = advice(&failed, 78, start);
        let export = "export XDG_RUNTIME_DIR=/run/user/4242; domo-tokend";
        assert_eq!(command, export);
        assert_works(home.path(), &both, foreign, &format!("{command} &"));
        let failed = run(home.path(), &only, foreign, "domo-token data");
        let unset = advice(&failed, code, "run: ");
        assert_eq!(unset, "unset XDG_RUNTIME_DIR");
    }
}

#[test]
fn broker_is_started_by_the_manager_that_runs_it() {
    if !can_create_containers() {
        return;
    }
    let sandbox = sandbox(HOUR);
    let home = home(&sandbox);
    let start = "to start the daemon, run: ";
    let own = run(home.path(), "", None, "domo-token start");
    let command = "systemctl --user start domo-tokend";
    assert_eq!(advice(&own, 2, start), command);
    let hosts = run(home.path(), "", None, "HOME=/nowhere domo-token start");
    assert_eq!(advice(&hosts, 2, start), "sudo systemctl start domo-tokend");
    let log = run(home.path(), "", None, "domo-token logs");
    let command = "journalctl --user -u domo-tokend";
    assert_eq!(advice(&log, 2, "log, run: "), command);
}

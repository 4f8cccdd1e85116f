//! Runs each case in its own network, mount and PID namespaces, with loopback only and its own files in `/etc`.

use std::fs;
use std::path::PathBuf;
use std::process::{Command, Output};
use std::thread;

use rustix::process::geteuid;

use super::programs::are_installed;
use crate::common::print_skip;

/// The variable with the folder of a case. It is set only within the namespaces of a case.
const FOLDER: &str = "NETWORK_TEST_FOLDER";

/// Addresses besides those of loopback.
const SCRIPT: &str = r#"
set -e
ip link set lo up
for address in 10.9.0.1 10.9.0.200 10.9.0.201 10.9.0.202; do ip address add $address/32 dev lo; done
for address in fd09::1 fd09::200; do ip -6 address add $address/128 dev lo nodad; done
printf 'hosts: files dns\n' > "$1/nsswitch.conf"
printf '127.0.0.1 localhost\n' > "$1/hosts"
: > "$1/resolv.conf"
for file in nsswitch.conf hosts resolv.conf; do mount --bind "$1/$file" /etc/$file; done
shift
exec "$@"
"#;

/// The command that creates the namespaces. When a case has ended, its other processes are killed.
const UNSHARE: [&str; 7] = [
    "unshare",
    "--net",
    "--mount",
    "--pid",
    "--fork",
    "--kill-child",
    "--mount-proc",
];

/// Runs ignored tests of this crate, each in its own namespaces, at the same time.
pub(crate) fn run_all(cases: &[&str]) {
    if !geteuid().is_root() {
        print_skip("only root can make network namespaces");
        return;
    }
    if !are_installed(&["unshare", "ip", "dnsmasq"]) {
        return;
    }
    let mut tried = Command::new(UNSHARE[0]);
    if !tried
        .args(&UNSHARE[1..])
        .arg("true")
        .output()
        .unwrap()
        .status
        .success()
    {
        print_skip("no network namespaces can be made here");
        return;
    }
    let outputs: Vec<(&str, Output)> = thread::scope(|scope| {
        let run = |case| (case, scope.spawn(move || run(case)));
        let running: Vec<_> = cases.iter().copied().map(run).collect();
        let results = running.into_iter();
        results
            .map(|(case, run)| (case, run.join().unwrap()))
            .collect()
    });
    let is_wrong = |output: &Output| {
        let ran = String::from_utf8_lossy(&output.stdout).contains("1 passed");
        !output.status.success() || !ran
    };
    let wrong: Vec<_> = outputs
        .iter()
        .filter(|(_, output)| is_wrong(output))
        .collect();
    for (case, output) in &wrong {
        let (stdout, stderr) = (&output.stdout, &output.stderr);
        let (stdout, stderr) = (
            String::from_utf8_lossy(stdout),
            String::from_utf8_lossy(stderr),
        );
        println!("==== {case}\n{stdout}{stderr}");
    }
    let wrong: Vec<_> = wrong.iter().map(|(case, _)| case).collect();
    assert!(wrong.is_empty(), "failed: {wrong:#?}");
}

fn run(case: &str) -> Output {
    let folder = tempfile::tempdir().unwrap();
    let mut command = Command::new(UNSHARE[0]);
    command.args(&UNSHARE[1..]).args(["sh", "-c", SCRIPT, "sh"]);
    command
        .arg(folder.path())
        .arg(std::env::current_exe().unwrap());
    command.args([case, "--exact", "--ignored", "--nocapture"]);
    command.env(FOLDER, folder.path()).output().unwrap()
}

/// The folder of this case.
pub(crate) fn folder() -> PathBuf {
    let folder = std::env::var_os(FOLDER);
    let is_inside = "only network_cases_pass_in_their_own_namespaces runs it";
    assert!(folder.is_some(), "{is_inside}");
    folder.unwrap().into()
}

/// Sets `/etc/resolv.conf` of this case.
pub(crate) fn set_resolv_conf(text: &str) {
    fs::write(folder().join("resolv.conf"), text).unwrap();
}

/// Sets `/etc/hosts` of this case.
pub(crate) fn set_hosts(text: &str) {
    fs::write(folder().join("hosts"), text).unwrap();
}

//! The daemon with few or no free descriptors.

use std::collections::BTreeSet;
use std::io::Write;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Child, Command};
use std::time::Duration;

use domo_sandbox::Fault;
use domo_token_protocol::greeting::HELLO;
use rustix::io::ioctl_fionread;

use super::common::callers::{USER_A, USER_B, is_root, open_folder, token_request};
use super::common::wait::until;
use super::common::{
    CANARY_SECRET, Daemon, HOUR, PATIENCE, config_text, folder, sandbox, sandbox_and_daemon, timed,
    token,
};
use super::{assert_others_are_served, many_connections, processor_ticks, sockets};
use crate::common::chmod;
use crate::common::process::in_shell_after;

#[test]
fn configured_connection_limit_is_not_reported_as_lack_of_descriptors() {
    let sandbox = sandbox(HOUR);
    let limits = "[limits]\nconnections = 8\n".to_owned();
    let daemon = Daemon::start(&(limits + &config_text(&sandbox, "[\"data\"]")));
    token(&daemon.ask(&["data"]));
    assert!(!daemon.log.contains("descriptors"), "{}", daemon.log);
}

/// The daemon's command with a limit of 64 descriptors.
fn with_64_descriptors(folder: &Path) -> Command {
    with_descriptors(64, folder)
}

/// The daemon's command with that limit of descriptors.
fn with_descriptors(count: u32, folder: &Path) -> Command {
    let daemon = Daemon::command_of_config(folder);
    in_shell_after(&format!("ulimit -n {count}"), &daemon)
}

#[test]
fn daemon_without_descriptors_at_its_start_exits_75_with_the_cause() {
    let sandbox = sandbox(HOUR);
    let config = config_text(&sandbox, "[\"data\"]");
    let inline = format!("client_secret = \"{CANARY_SECRET}\"");
    let inline = config.replace("client_secret_file = \"acme.secret\"", &inline);
    let mut causes = BTreeSet::new();
    for config in [config, inline] {
        for count in 4..24 {
            let folder = folder(&config);
            let path = folder.path().join("config.toml");
            chmod(path, 0o600);
            let command = with_descriptors(count, folder.path());
            let mut daemon = Daemon::spawn_as(command, folder);
            let line = daemon.wait_for_one_of(&["started", "domo-tokend: "]);
            if line.contains("started") {
                break;
            }
            assert!(line.contains("Too many open files"), "{count}: {line}");
            let hint = "raise the limit on open files";
            assert!(line.contains(hint), "{count}: {line}");
            let (code, log) = daemon.wait_with_log();
            assert_eq!(code, Some(75), "{count}: {log}");
            let cause = ["broker.sock", "acme.secret"];
            causes.extend(cause.into_iter().filter(|cause| line.contains(cause)));
        }
    }
    assert_eq!(causes.len(), 2, "{causes:?}");
}

#[test]
fn two_hostile_users_with_few_descriptors_leave_room_and_renewal_continues() {
    if !is_root() {
        return;
    }
    let sandbox = sandbox(Duration::from_secs(4));
    let folder = open_folder(&sandbox, "[\"data\"]", "", "");
    let mut daemon = Daemon::start_as(with_64_descriptors(folder.path()), folder);
    assert!(daemon.log.contains("limit on open files"), "{}", daemon.log);
    assert_others_are_served(&daemon, &sandbox, || {
        // The limit is 32 connections, two of them for root: the first user takes the rest, then each has half of
        // it.
        let first = many_connections(&daemon, USER_A, 200, 170);
        let second = many_connections(&daemon, USER_B, 200, 185);
        vec![first, second]
    });
    daemon.log.clear();
    let (_, log) = daemon.stop();
    assert!(!log.contains("cannot accept connections"), "{log}");
}

#[test]
fn unread_responses_use_no_descriptor_reserved_for_renewal() {
    let sandbox = sandbox(Duration::from_secs(4));
    sandbox.always(Fault::token_size(16 * 1024));
    let limits = "[limits]\nanswer_deadline = \"10m\"\n";
    let folder = folder(&(limits.to_owned() + &config_text(&sandbox, "[\"data\"]")));
    let daemon = Daemon::start_as(with_64_descriptors(folder.path()), folder);
    token(&daemon.ask(&["data"]));
    // All 32, because they belong to the daemon's own user.
    let mut idle_callers: Vec<UnixStream> = (0..32)
        .map(|_| {
            let mut caller = UnixStream::connect(daemon.socket()).unwrap();
            caller.write_all(&token_request()).unwrap();
            caller.set_nonblocking(true).unwrap();
            caller
        })
        .collect();
    // A write this short is never split.
    let more = token_request()[HELLO..].repeat(100);
    until(|| {
        let mut least_unread = u64::MAX;
        for caller in &mut idle_callers {
            let _ = caller.write(&more);
            least_unread = least_unread.min(ioctl_fionread(&*caller).unwrap());
        }
        if least_unread > 2 * 1024 {
            Ok(())
        } else {
            Err(least_unread)
        }
    });
    let seen = sandbox.requests().len();
    sandbox.wait_for_requests(seen + 3, PATIENCE).unwrap();
    assert!(sockets(&daemon) >= idle_callers.len());
}

#[test]
fn daemon_without_free_descriptors_pauses_and_resumes_when_some_are_free() {
    let (_sandbox, mut daemon) = sandbox_and_daemon(HOUR);
    let given = token(&daemon.ask(&["data"]));
    let pid = daemon.pid().to_string();
    let limit = |most: &str| {
        let mut command = Command::new("prlimit");
        command.args(["--pid", &pid, &format!("--nofile={most}:")]);
        assert!(command.status().unwrap().success());
    };
    // Fewer than it has open.
    limit("3");
    let asking: Vec<Child> = (0..5)
        .map(|_| daemon.helper(&["--timeout", "60", "data"]).spawn().unwrap())
        .collect();
    daemon.wait_for_log("cannot accept connections");
    let before = processor_ticks(&daemon);
    let (took, ()) = timed(|| {
        for _ in 0..20 {
            daemon.wait_for_log("still cannot accept connections");
        }
    });
    let used = u32::try_from(processor_ticks(&daemon) - before).unwrap();
    let load = f64::from(used) / took.as_secs_f64();
    assert!(load < 5.0, "{load} % of a processor");
    limit("1000");
    let (took, ()) = timed(|| {
        for asking in asking {
            assert_eq!(token(&asking.wait_with_output().unwrap()), given);
        }
    });
    assert!(took < Duration::from_secs(1), "recovers after {took:?}");
}

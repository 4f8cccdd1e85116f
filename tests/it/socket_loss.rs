//! The socket, its lock or its directory is removed or replaced while the daemon runs.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use crate::common::wait::until;
use crate::common::{
    Daemon, HOUR, config_text, failure, folder, helper, parts, run_to_end, sandbox, token,
};
use domo_sandbox::{Fault, Sandbox};
use domo_token_client::Broker;

/// A daemon with that socket.
fn daemon_at(sandbox: &Sandbox, socket: &Path) -> Daemon {
    let folder = folder(&config_text(sandbox, "[\"data\"]"));
    let command = Daemon::command_at(folder.path(), socket);
    Daemon::start_as(command, folder)
}

/// A daemon with its socket in a directory below its folder.
fn daemon(sandbox: &Sandbox) -> (Daemon, PathBuf) {
    let folder = folder(&config_text(sandbox, "[\"data\"]"));
    let socket = folder.path().join("run/broker.sock");
    let command = Daemon::command_at(folder.path(), &socket);
    (Daemon::start_as(command, folder), socket)
}

fn ask(socket: &Path) -> String {
    token(&helper(socket, &["data"]).output().unwrap())
}

fn shown(socket: &Path, arguments: &[&str]) -> String {
    parts(&helper(socket, arguments).output().unwrap()).1
}

fn lock(socket: &Path) -> PathBuf {
    socket.with_extension("sock.lock")
}

/// Returns the exit code and the message of a second daemon with that socket.
fn second_daemon(daemon: &Daemon, socket: &Path) -> (Option<i32>, String) {
    run_to_end(Daemon::command_at(daemon.folder(), socket))
}

#[test]
fn removed_socket_is_bound_again_and_open_connections_continue() {
    let sandbox = sandbox(HOUR);
    let (mut daemon, socket) = daemon(&sandbox);
    let open = Broker::connect_to(&socket).unwrap();
    let before = open.token("data").unwrap();
    // The loss of a socket that was bound again is detected as well.
    for _ in 0..3 {
        fs::remove_file(&socket).unwrap();
        daemon.wait_for_log("socket removed or replaced; bound it again");
        let mode = fs::metadata(&socket).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        assert_eq!(ask(&socket), before.secret());
        open.status().unwrap();
    }
    assert_eq!(sandbox.requests().len(), 1);
    let (code, log) = daemon.stop();
    assert_eq!(code, Some(0), "{log}");
    assert!(
        !socket.exists(),
        "it removes the socket that it has bound last"
    );
}

#[test]
fn removed_directory_is_created_again_and_a_second_daemon_does_not_start() {
    let sandbox = sandbox(HOUR);
    let (mut daemon, socket) = daemon(&sandbox);
    ask(&socket);
    let directory = socket.parent().unwrap();
    for _ in 0..2 {
        fs::remove_dir_all(directory).unwrap();
        daemon.wait_for_log("socket removed or replaced; bound it again");
        ask(&socket);
        let (code, stderr) = second_daemon(&daemon, &socket);
        assert_eq!(code, Some(75), "{stderr}");
    }
    assert_eq!(sandbox.requests().len(), 1);
}

#[test]
fn removed_lock_file_is_locked_again_and_excludes_a_second_daemon() {
    let sandbox = sandbox(HOUR);
    let (mut daemon, socket) = daemon(&sandbox);
    fs::remove_file(lock(&socket)).unwrap();
    daemon.wait_for_log("locked a new one");
    let (code, stderr) = second_daemon(&daemon, &socket);
    assert_eq!(code, Some(75), "{stderr}");
    assert!(stderr.contains("another domo-tokend serves"), "{stderr}");
    ask(&socket);
}

#[test]
fn daemon_whose_path_another_one_holds_exits_75_and_keeps_that_socket() {
    let sandbox = sandbox(HOUR);
    let run = tempfile::tempdir().unwrap();
    let socket = run.path().join("inner/broker.sock");
    let mut first = daemon_at(&sandbox, &socket);
    ask(&socket);
    // Suspended, so that the other one comes first.
    first.signal("-STOP");
    fs::remove_dir_all(socket.parent().unwrap()).unwrap();
    let _second_daemon = daemon_at(&sandbox, &socket);
    first.signal("-CONT");
    first.wait_for_log("another domo-tokend serves");
    let (code, log) = first.wait_with_log();
    assert_eq!(code, Some(75), "{log}");
    ask(&socket);
}

#[test]
fn daemon_that_cannot_rebind_refuses_its_waiters_and_exits_75() {
    let sandbox = sandbox(HOUR);
    sandbox.always(Fault::hang());
    let (mut daemon, socket) = daemon(&sandbox);
    let waiter = helper(&socket, &["--timeout", "60s", "data"])
        .spawn()
        .unwrap();
    let metrics = || shown(&socket, &["status", "--metrics"]);
    until(|| {
        let connections = "domo_token_connections 2";
        let has_come = metrics().contains(connections);
        has_come.then_some(()).ok_or("the waiter has not come")
    });
    let directory = socket.parent().unwrap();
    let aside = daemon.folder().join("aside");
    fs::rename(directory, &aside).unwrap();
    fs::write(directory, "not a directory").unwrap();
    let line = daemon.wait_for_log("cannot be bound again yet");
    assert!(line.contains("ERROR"), "{line}");
    let (code, log) = daemon.wait_with_log();
    assert_eq!(code, Some(75), "{log}");
    assert!(
        log.contains("domo-tokend: socket removed or replaced"),
        "{log}"
    );
    failure(&waiter.wait_with_output().unwrap(), 75);
}

#[test]
fn foreign_file_at_the_socket_path_is_not_replaced_and_its_removal_is_noticed() {
    let sandbox = sandbox(HOUR);
    let (mut daemon, socket) = daemon(&sandbox);
    fs::remove_file(&socket).unwrap();
    daemon.wait_for_log("bound it again");
    // Renamed over it, so that the path always exists.
    let file = socket.with_extension("new");
    fs::write(&file, "precious").unwrap();
    fs::rename(&file, &socket).unwrap();
    daemon.wait_for_log("cannot be bound again yet");
    assert_eq!(fs::read_to_string(&socket).unwrap(), "precious");
    fs::remove_file(&socket).unwrap();
    daemon.wait_for_log("bound it again");
    ask(&socket);
}

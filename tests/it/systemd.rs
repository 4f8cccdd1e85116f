//! Notifications to systemd: readiness, reload, status text and watchdog.

mod activation;
mod notified;
mod stored_tokens;

use std::fs::File;
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::net::{UnixDatagram, UnixStream};
use std::path::Path;

use crate::common::process::make_fifo;
use crate::common::wait::until;
use crate::common::{
    Daemon, HOUR, config_text, folder, run_to_end, sandbox, sandbox_and_folder, token,
};
use domo_sandbox::Fault;
use notified::Notified;
use rustix::fs::OFlags;

fn notified_daemon(config: &str) -> (Daemon, Notified) {
    let folder = folder(config);
    let mut command = Daemon::command(folder.path());
    let notified = Notified::bind(folder.path(), &mut command);
    command.env("WATCHDOG_USEC", "400000");
    (Daemon::start_as(command, folder), notified)
}

#[test]
fn start_reload_and_stop_are_notified_in_order() {
    let sandbox = sandbox(HOUR);
    let (daemon, notified) = notified_daemon(&config_text(&sandbox, "[\"data\"]"));
    assert!(
        notified.next().starts_with("READY=1"),
        "nothing comes before it"
    );
    token(&daemon.ask(&["data"]));
    notified.wait_for("STATUS=1 token fresh, next renewal in");
    daemon.signal("-HUP");
    let reloading = notified.wait_for("RELOADING=1");
    assert!(reloading.contains("MONOTONIC_USEC="), "{reloading}");
    notified.wait_for("READY=1");
    daemon.signal("-TERM");
    notified.wait_for("STOPPING=1");
}

#[test]
fn readiness_is_notified_once_callers_can_connect() {
    let sandbox = sandbox(HOUR);
    // A notification that is too early is only slightly early, so that not every try detects it.
    for _ in 0..5 {
        let folder = folder(&config_text(&sandbox, "[\"data\"]"));
        let mut command = Daemon::command(folder.path());
        let notified = Notified::bind(folder.path(), &mut command);
        let daemon = Daemon::spawn_as(command, folder);
        assert!(notified.next().starts_with("READY=1"));
        UnixStream::connect(daemon.socket()).unwrap();
    }
}

/// Opens a FIFO for writing as soon as it has a reader, which is waiting for that.
fn open_fifo_with_reader(gate: &Path) -> File {
    let flags = i32::try_from(OFlags::NONBLOCK.bits()).unwrap();
    let mut options = File::options();
    options.write(true).custom_flags(flags);
    until(|| options.open(gate))
}

#[test]
fn reload_is_not_reported_as_done_when_an_earlier_load_ends() {
    let sandbox = sandbox(HOUR);
    let config = config_text(&sandbox, "[\"data\"]");
    let (daemon, notified) = notified_daemon(&config);
    token(&daemon.ask(&["data"]));
    let outside = tempfile::tempdir().unwrap();
    let [first, second] = ["first", "second"].map(|name| outside.path().join(name));
    make_fifo(&first);
    make_fifo(&second);
    let command = format!(
        "cd '{}'; mkdir seen && cat first || cat second; cat '{}'",
        outside.path().display(),
        daemon.folder().join("acme.secret").display()
    );
    let slow = format!("client_secret_command = [\"sh\", \"-c\", \"{command}\"]");
    let file = "client_secret_file = \"acme.secret\"";
    daemon.write("config.toml", &config.replace(file, &slow));
    let first_look = open_fifo_with_reader(&first);
    daemon.signal("-HUP");
    notified.wait_for("RELOADING=1");
    drop(first_look);
    let second_look = open_fifo_with_reader(&second);
    notified.socket.set_nonblocking(true).unwrap();
    for message in std::iter::from_fn(|| notified.try_next()) {
        assert!(!message.contains("READY=1"), "{message}");
    }
    notified.socket.set_nonblocking(false).unwrap();
    drop(second_look);
    notified.wait_for("READY=1");
}

#[test]
fn notifications_reach_an_abstract_address() {
    let (_sandbox, folder) = sandbox_and_folder(HOUR);
    let name = format!("domo-token-test-{}", folder.path().display());
    let notified = Notified::bind_abstract(&name);
    let mut command = Daemon::command(folder.path());
    command.env("NOTIFY_SOCKET", format!("@{name}"));
    let _daemon = Daemon::start_as(command, folder);
    assert!(notified.next().starts_with("READY=1"));
}

#[test]
fn status_text_is_updated_after_each_attempt() {
    let sandbox = sandbox(HOUR);
    sandbox.script([Fault::status(503), Fault::status(401)]);
    let folder = folder(&config_text(&sandbox, "[\"data\"]"));
    let mut command = Daemon::command(folder.path());
    let notified = Notified::bind(folder.path(), &mut command);
    // Without a watchdog it sends nothing else for a minute.
    let daemon = Daemon::start_as(command, folder);
    assert!(
        notified
            .next()
            .contains("STATUS=requesting the first tokens\n")
    );
    notified.wait_for("STATUS=0 of 1 token fresh, 1 failing; run: domo-token status\n");
    notified.wait_for("STATUS=0 of 1 token fresh, 1 rejected; run: domo-token status\n");
    daemon.signal("-HUP");
    notified.wait_for("STATUS=1 token fresh, next renewal in");
}

#[test]
fn watchdog_is_pinged_while_domo_fails() {
    let sandbox = sandbox(HOUR);
    sandbox.always(Fault::status(503));
    let (daemon, notified) = notified_daemon(&config_text(&sandbox, "[\"data\"]"));
    for _ in 0..3 {
        notified.wait_for("WATCHDOG=1");
    }
    notified.wait_for("STATUS=0 of 1 token fresh, 1 failing; run: domo-token status\n");
    daemon.write("config.toml", "[clients");
    let status = notified.wait_for("STATUS=config not applied");
    assert_eq!(status.matches("STATUS").count(), 1);
    sandbox.always(Fault::status(401));
    daemon.signal("-HUP");
    let rejected = "STATUS=config not applied, 0 of 1 token fresh, 1 rejected; \
                    run: domo-tokend check\n";
    notified.wait_for(rejected);
    daemon.write("config.toml", &config_text(&sandbox, "[\"data\"]"));
    notified.wait_for("STATUS=0 of 1 token fresh, 1 rejected; run: domo-token status\n");
}

/// Returns all status texts up to the one that contains `text`.
fn statuses_until(notified: &Notified, text: &str) -> String {
    let mut all = String::new();
    while !all.contains(text) {
        let message = notified.next();
        let lines = message.lines().filter(|line| line.starts_with("STATUS="));
        all.extend(lines.map(|line| format!("{line}\n")));
    }
    all
}

#[test]
fn status_text_shows_no_name_no_message_and_no_output_of_a_command() {
    let sandbox = sandbox(HOUR);
    sandbox.script([Fault::status(503), Fault::status(401)]);
    let config = config_text(&sandbox, "[\"data\"]").replace("acme]", "payroll]");
    let folder = folder(&config);
    let mut command = Daemon::command(folder.path());
    let notified = Notified::bind(folder.path(), &mut command);
    // Without a watchdog, whose messages would never end.
    let daemon = Daemon::start_as(command, folder);
    let mut all = statuses_until(&notified, "1 failing");
    all += &statuses_until(&notified, "1 rejected");
    let command = "client_secret_command = [\"sh\", \"-c\", \"echo PW=letmein >&2; exit 3\"]";
    let failing = config.replace("client_secret_file = \"acme.secret\"", command);
    daemon.write("config.toml", &failing);
    daemon.signal("-HUP");
    all += &statuses_until(&notified, "1 client not loaded");
    daemon.write("config.toml", "[clients.payroll");
    all += &statuses_until(&notified, "config not applied");
    daemon.signal("-TERM");
    all += &statuses_until(&notified, "stopping");
    for hidden in [
        "payroll",
        "\"data\"",
        "401",
        "503",
        "PW",
        "sh",
        "exit status",
    ] {
        let shown = all.replace("fresh", "");
        assert!(!shown.contains(hidden), "{hidden} in {all}");
    }
}

#[test]
fn unread_notify_socket_delays_neither_callers_nor_shutdown() {
    let (_sandbox, folder) = sandbox_and_folder(HOUR);
    let path = folder.path().join("notify.sock");
    let unread = UnixDatagram::bind(&path).unwrap();
    let mut command = Daemon::command(folder.path());
    command
        .env("NOTIFY_SOCKET", &path)
        .env("WATCHDOG_USEC", "20000");
    let daemon = Daemon::start_as(command, folder);
    token(&daemon.ask(&["data"]));
    let filling = UnixDatagram::unbound().unwrap();
    filling.connect(&path).unwrap();
    filling.set_nonblocking(true).unwrap();
    while filling.send(b"STATUS=x").is_ok() {}
    for _ in 0..20 {
        assert_eq!(daemon.ask(&["status", "-q"]).status.code(), Some(0));
    }
    let (code, log) = daemon.stop();
    assert_eq!(code, Some(0), "{log}");
    drop(unread);
}

#[test]
fn start_error_is_the_last_status_text() {
    let folder = folder("[clients.acme]\nclient_secret = \"c4nary\"\n");
    let mut command = Daemon::command(folder.path());
    let notified = Notified::bind(folder.path(), &mut command);
    let (code, stderr) = run_to_end(command);
    assert_eq!(code, Some(78), "{stderr}");
    let status = notified.next();
    let expected = "STATUS=configuration error (exit 78); run: journalctl -u domo-tokend, or domo-tokend check\n";
    assert_eq!(status, expected);
    assert!(stderr.contains("acme.tokens"), "{stderr}");
}

//! What systemd sees of the daemon, and what the daemon's own user can't see of it.

mod notified;

use std::fs::{self, File};
use std::io::Read;
use std::net::TcpListener;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt, chown};
use std::os::unix::net::{UnixDatagram, UnixListener, UnixStream};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};

use crate::common;
use crate::common::callers::{USER_A, give_to, is_root};
use crate::common::process::make_fifo;
use crate::common::wait::until;
use crate::common::{Daemon, HOUR, config_text, folder, helper, parts, run_to_end, sandbox, token};
use domo_sandbox::{Fault, Sandbox};
use notified::Notified;
use rustix::fs::OFlags;

fn notified_daemon(config: &str) -> (Daemon, Notified) {
    let folder = folder(config);
    let path = folder.path().join("notify.sock");
    let notified = Notified::bind(&path);
    let mut command = Daemon::command(folder.path());
    command
        .env("NOTIFY_SOCKET", &path)
        .env("WATCHDOG_USEC", "400000");
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
    // Too early would be by so little that not every try shows it.
    for _ in 0..5 {
        let folder = folder(&config_text(&sandbox, "[\"data\"]"));
        let path = folder.path().join("notify.sock");
        let notified = Notified::bind(&path);
        let mut command = Daemon::command(folder.path());
        command.env("NOTIFY_SOCKET", &path);
        let daemon = Daemon::spawn_as(command, folder);
        assert!(notified.next().starts_with("READY=1"));
        UnixStream::connect(daemon.socket()).unwrap();
    }
}

/// A FIFO that somebody reads now, open at our end, which is what the reader waits for.
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

/// Has `sh` put descriptor 3 and on in place, and become the daemon as systemd would start it.
fn activated(folder: &Path, names: &str, redirect: &str) -> Command {
    let daemon = Daemon::command(folder);
    let mut command = Command::new("/bin/sh");
    let count = names.split(':').count();
    command.env_clear().arg("-c").arg(format!(
        "LISTEN_PID=$$ LISTEN_FDS={count} LISTEN_FDNAMES={names} exec \"$0\" \"$@\" {redirect}"
    ));
    command.arg(daemon.get_program()).args(daemon.get_args());
    command
}

#[test]
fn inherited_socket_is_served_and_not_removed() {
    let sandbox = sandbox(HOUR);
    let folder = folder(&config_text(&sandbox, "[\"data\"]"));
    let run = tempfile::tempdir().unwrap();
    let path = run.path().join("broker.sock");
    let listener = UnixListener::bind(&path).unwrap();
    // Who comes before the daemon waits for it.
    let early = helper(&path, &["data"]).spawn().unwrap();
    let mut command = activated(folder.path(), "broker", "3<&0");
    command.stdin(OwnedFd::from(listener.try_clone().unwrap()));
    command.stdout(Stdio::null());
    let daemon = Daemon::start_as(command, folder);
    let first = token(&early.wait_with_output().unwrap());
    assert_eq!(token(&helper(&path, &["data"]).output().unwrap()), first);
    assert!(!daemon.socket().exists(), "it has bound none of its own");
    let (code, log) = daemon.stop();
    assert_eq!(code, Some(0), "{log}");
    let left: Vec<_> = fs::read_dir(run.path()).unwrap().collect();
    assert!(path.exists() && left.len() == 1, "{left:?}");
}

#[test]
fn all_sockets_of_the_unit_are_served_and_named_in_the_log() {
    let sandbox = sandbox(HOUR);
    let run = tempfile::tempdir().unwrap();
    for names in [
        "broker:broker",
        "domo-tokend.socket:domo-tokend.socket",
        "unknown:",
    ] {
        let folder = folder(&config_text(&sandbox, "[\"data\"]"));
        let paths = ["one", "two"].map(|name| run.path().join(name));
        for path in &paths {
            let _ = fs::remove_file(path);
        }
        let listeners = paths
            .each_ref()
            .map(|path| UnixListener::bind(path).unwrap());
        // A caller that comes before the daemon waits for it on each of them.
        let early = paths
            .each_ref()
            .map(|path| helper(path, &["data"]).spawn().unwrap());
        let mut command = activated(folder.path(), names, "3<&0 4<&1");
        let [first, second] = listeners;
        command
            .stdin(OwnedFd::from(first))
            .stdout(OwnedFd::from(second));
        let daemon = Daemon::start_as(command, folder);
        for caller in early {
            token(&caller.wait_with_output().unwrap());
        }
        for path in paths.iter().cycle().take(6) {
            token(&helper(path, &["data"]).output().unwrap());
            assert!(
                daemon.log.contains(path.to_str().unwrap()),
                "{}",
                daemon.log
            );
        }
    }
}

#[test]
fn socket_of_another_name_exits_78_and_callers_of_the_broker_are_refused() {
    let sandbox = sandbox(HOUR);
    for (name, expected) in [
        ("gateway", "this version has no gateway"),
        ("gateway-tls", "this version has no gateway"),
        ("metrics", "set FileDescriptorName=broker"),
    ] {
        let folder = folder(&config_text(&sandbox, "[\"data\"]"));
        let path = folder.path().join("activated.sock");
        let listener = UnixListener::bind(&path).unwrap();
        let mut early = UnixStream::connect(&path).unwrap();
        let port = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let mut command = activated(folder.path(), &format!("broker:{name}"), "3<&0 4<&1");
        command
            .stdin(OwnedFd::from(listener))
            .stdout(OwnedFd::from(port));
        let (code, stderr) = run_to_end(command);
        assert_eq!(code, Some(78), "{stderr}");
        assert!(
            stderr.contains(expected) && stderr.contains(name),
            "{stderr}"
        );
        let mut answer = Vec::new();
        early.read_to_end(&mut answer).unwrap();
        assert!(answer.starts_with(b"DTK"), "{name}: {answer:?}");
    }
    assert_eq!(sandbox.requests().len(), 0);
}

#[test]
fn socket_under_the_name_of_stored_tokens_exits_78() {
    let sandbox = sandbox(HOUR);
    let folder = folder(&config_text(&sandbox, "[\"data\"]"));
    let listener = UnixListener::bind(folder.path().join("activated.sock")).unwrap();
    let mut command = activated(folder.path(), "tokens-x", "3<&0");
    command.stdin(OwnedFd::from(listener));
    let (code, stderr) = run_to_end(command);
    assert_eq!(code, Some(78), "{stderr}");
    assert!(
        stderr.contains("\"tokens-x\"") && stderr.contains("set FileDescriptorName=broker"),
        "{stderr}"
    );
}

#[test]
fn notifications_reach_an_abstract_address() {
    let sandbox = sandbox(HOUR);
    let folder = folder(&config_text(&sandbox, "[\"data\"]"));
    let name = format!("domo-token-test-{}", folder.path().display());
    let notified = Notified::bind_abstract(&name);
    let mut command = Daemon::command(folder.path());
    command.env("NOTIFY_SOCKET", format!("@{name}"));
    let _daemon = Daemon::start_as(command, folder);
    assert!(notified.next().starts_with("READY=1"));
}

#[test]
fn socket_of_a_unit_that_was_lost_before_the_start_is_reported() {
    let sandbox = sandbox(HOUR);
    let folder = folder(&config_text(&sandbox, "[\"data\"]"));
    let run = tempfile::tempdir().unwrap();
    let path = run.path().join("broker.sock");
    let listener = UnixListener::bind(&path).unwrap();
    fs::remove_file(&path).unwrap();
    let mut command = activated(folder.path(), "broker", "3<&0");
    command.stdin(OwnedFd::from(listener)).stdout(Stdio::null());
    let mut daemon = Daemon::spawn_as(command, folder);
    let line = daemon.wait_for_log("callers cannot connect");
    assert!(line.contains(path.to_str().unwrap()), "{line}");
}

#[test]
fn lost_socket_of_a_unit_is_reported_with_the_command_that_helps() {
    let sandbox = sandbox(HOUR);
    for (variable, expected) in [
        ("UNRELATED", "run: systemctl restart domo-tokend.socket"),
        (
            "MANAGERPID",
            "run: systemctl --user restart domo-tokend.socket",
        ),
    ] {
        let folder = folder(&config_text(&sandbox, "[\"data\"]"));
        let run = tempfile::tempdir().unwrap();
        let paths = ["one", "two"].map(|name| run.path().join(name));
        let [first, second] = paths
            .each_ref()
            .map(|path| UnixListener::bind(path).unwrap());
        let notify = folder.path().join("notify.sock");
        let notified = Notified::bind(&notify);
        let mut command = activated(folder.path(), "broker:broker", "3<&0 4<&1");
        command
            .stdin(OwnedFd::from(first))
            .stdout(OwnedFd::from(second));
        command.env("NOTIFY_SOCKET", &notify).env(variable, "1");
        let mut daemon = Daemon::start_as(command, folder);
        fs::rename(&paths[1], run.path().join("aside")).unwrap();
        let line = daemon.wait_for_log("callers cannot connect");
        assert!(line.contains(expected) && line.contains("ERROR"), "{line}");
        assert!(line.contains(paths[1].to_str().unwrap()), "{line}");
        assert!(!line.contains(paths[0].to_str().unwrap()), "{line}");
        let status = notified.wait_for("callers cannot connect");
        assert!(status.contains(expected), "{status}");
        let output = helper(&paths[0], &["status"]).output().unwrap();
        let shown = String::from_utf8(output.stdout).unwrap();
        assert!(shown.contains(expected), "{shown}");
        fs::rename(run.path().join("aside"), &paths[1]).unwrap();
        daemon.wait_for_log("socket is in its place again");
        token(&helper(&paths[1], &["data"]).output().unwrap());
        let output = helper(&paths[0], &["status"]).output().unwrap();
        let shown = String::from_utf8(output.stdout).unwrap();
        assert!(!shown.contains("cannot connect"), "{shown}");
    }
}

#[test]
fn server_of_an_inherited_socket_stays_the_user_that_bound_it() {
    if !is_root() {
        return;
    }
    let sandbox = sandbox(HOUR);
    let folder = folder(&config_text(&sandbox, "[\"data\"]"));
    let path = folder.path().join("handed.sock");
    let listener = UnixListener::bind(&path).unwrap();
    // Root's, as systemd's directories are; the daemon is another user.
    for name in ["config.toml", "acme.secret"] {
        chown(folder.path().join(name), Some(USER_A), None).unwrap();
    }
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let mut command = activated(folder.path(), "broker", "3<&0");
    command.stdin(OwnedFd::from(listener)).uid(USER_A);
    let daemon = Daemon::start_as(command, folder);
    let output = helper(&path, &["data"]).output().unwrap();
    token(&output);
    let stream = UnixStream::connect(&path).unwrap();
    let server = nix::sys::socket::getsockopt(&stream, nix::sys::socket::sockopt::PeerCredentials);
    assert_eq!(server.unwrap().uid(), 0);
    drop(daemon);
}

#[test]
fn socket_of_another_kind_exits_78_with_what_to_do() {
    let sandbox = sandbox(HOUR);
    let folder = folder(&config_text(&sandbox, "[\"data\"]"));
    let port = OwnedFd::from(TcpListener::bind(("127.0.0.1", 0)).unwrap());
    let datagrams = OwnedFd::from(UnixDatagram::unbound().unwrap());
    let (connected, _peer) = UnixStream::pair().unwrap();
    let fifo = OwnedFd::from(std::io::pipe().unwrap().0);
    for other in [port, datagrams, OwnedFd::from(connected), fifo] {
        let mut command = activated(folder.path(), "broker", "3<&0");
        command.stdin(other);
        let (code, stderr) = run_to_end(command);
        assert_eq!(code, Some(78), "{stderr}");
        assert!(stderr.contains("ListenStream= with a path"), "{stderr}");
    }
}

/// A daemon that systemd starts anew with what it has kept; `folder` outlives it.
fn restarted(folder: &Path, kept: (String, File), extra: &str) -> (Daemon, Notified) {
    let again = common::folder(&(fs::read_to_string(folder.join("config.toml")).unwrap() + extra));
    let path = again.path().join("notify.sock");
    let notified = Notified::bind(&path);
    let mut command = activated(again.path(), &kept.0, "3<&0");
    command.stdin(OwnedFd::from(kept.1)).stdout(Stdio::null());
    command.env("NOTIFY_SOCKET", &path);
    (Daemon::start_as(command, again), notified)
}

#[test]
fn tokens_survive_a_restart_even_by_sigkill_without_a_request_to_domo() {
    for signal in ["-TERM", "-KILL"] {
        let sandbox = sandbox(HOUR);
        let (daemon, notified) = notified_daemon(&config_text(&sandbox, "[\"data\"]"));
        let kept = notified.wait_for_kept();
        let before = daemon.broker().token("data").unwrap();
        daemon.signal(signal);
        let (again, notified) = restarted(daemon.folder(), kept, "");
        let after = again.broker().token("data").unwrap();
        assert_eq!(after.secret(), before.secret());
        assert_eq!(after.generation(), before.generation());
        assert_eq!(sandbox.requests().len(), 1, "{signal}");
        assert_eq!(again.status_of("data")["state"], "fresh");
        // It is handed over anew, and what was there is taken away.
        notified.wait_for_kept();
    }
}

#[test]
fn tokens_of_the_old_client_id_are_served_until_the_first_of_the_new_one() {
    let sandbox = sandbox(HOUR);
    let (daemon, notified) = notified_daemon(&config_text(&sandbox, "[\"data\"]"));
    let kept = notified.wait_for_kept();
    let before = token(&daemon.ask(&["data"]));
    let config = fs::read_to_string(daemon.folder().join("config.toml")).unwrap();
    let new = "7d1f0000-0000-4000-8000-000000000002";
    sandbox.add_client(new, common::CANARY_SECRET, &["data"]);
    daemon.write("config.toml", &config.replace(common::CLIENT_ID, new));
    sandbox.always(Fault::status(503));
    let (again, _notified) = restarted(daemon.folder(), kept, "");
    assert_eq!(token(&again.ask(&["data"])), before);
    sandbox.always(Fault::default());
    let broker = again.broker();
    let mut tokens = broker.watch("data").unwrap().map(Result::unwrap);
    let renewed = tokens.find(|token| token.secret() != before).unwrap();
    assert_eq!(renewed.scope(), "data");
}

#[test]
fn stored_token_of_a_client_that_is_not_loaded_stays_stored_and_unserved() {
    let sandbox = sandbox(HOUR);
    let two = common::client_text("beta", &sandbox, "[\"data\"]");
    let config = config_text(&sandbox, "[\"user\"]") + &two;
    let (mut daemon, notified) = notified_daemon(&config);
    token(&daemon.ask(&["-c", "acme", "user"]));
    let held = token(&daemon.ask(&["-c", "beta", "data"]));
    daemon.signal("-TERM");
    let kept = notified.kept_at_end(&mut daemon);
    let missing = two.replace("acme.secret", "missing.secret");
    daemon.write("config.toml", &config.replace(&two, &missing));
    let (mut again, notified) = restarted(daemon.folder(), kept, "");
    let (code, _, stderr) = parts(&again.ask(&["-c", "beta", "data"]));
    assert_eq!(code, Some(78), "{stderr}");
    again.signal("-TERM");
    let kept = notified.kept_at_end(&mut again);
    again.write("config.toml", &config);
    let (last, _notified) = restarted(again.folder(), kept, "");
    assert_eq!(token(&last.ask(&["-c", "beta", "data"])), held);
    assert_eq!(sandbox.requests().len(), 2);
}

#[test]
fn keep_over_restart_false_stores_no_tokens() {
    let sandbox = sandbox(HOUR);
    let config = config_text(&sandbox, "[\"data\"]");
    let (daemon, notified) = notified_daemon(&config);
    let kept = notified.wait_for_kept();
    daemon.signal("-TERM");
    let off = "[broker]\nkeep_over_restart = false\n";
    let (again, notified) = restarted(daemon.folder(), kept, off);
    token(&again.ask(&["data"]));
    assert_eq!(sandbox.requests().len(), 2, "asked anew");
    notified.wait_for("FDSTOREREMOVE=1");
    again.signal("-TERM");
    loop {
        let message = notified.next();
        assert!(!message.contains("FDSTORE=1"), "{message}");
        if message.contains("STOPPING=1") {
            break;
        }
    }
}

#[test]
fn status_text_is_updated_after_each_attempt() {
    let sandbox = sandbox(HOUR);
    sandbox.script([Fault::status(503), Fault::status(401)]);
    let folder = folder(&config_text(&sandbox, "[\"data\"]"));
    let path = folder.path().join("notify.sock");
    let notified = Notified::bind(&path);
    let mut command = Daemon::command(folder.path());
    // No watchdog, so that it has nothing else to say for a minute.
    command.env("NOTIFY_SOCKET", &path);
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

/// All that systemd is told until the socket has a message with that text.
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
    let path = folder.path().join("notify.sock");
    let notified = Notified::bind(&path);
    let mut command = Daemon::command(folder.path());
    // No watchdog, whose messages would go on for ever.
    command.env("NOTIFY_SOCKET", &path);
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
    let sandbox = sandbox(HOUR);
    let folder = folder(&config_text(&sandbox, "[\"data\"]"));
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
fn callers_of_a_daemon_that_cannot_start_are_refused_and_do_not_restart_it() {
    let folder = folder("[clients.acme]\ntokns = 1\n");
    let run = tempfile::tempdir().unwrap();
    let path = run.path().join("broker.sock");
    let listener = UnixListener::bind(&path).unwrap();
    let callers: Vec<_> = (0..3)
        .map(|_| helper(&path, &["data"]).spawn().unwrap())
        .collect();
    // Each is in the backlog by now, or soon: the daemon is run until all have been told.
    let outputs = callers.into_iter().map(|mut caller| {
        while caller.try_wait().unwrap().is_none() {
            let mut command = activated(folder.path(), "broker", "3<&0");
            command.stdin(OwnedFd::from(listener.try_clone().unwrap()));
            assert_eq!(run_to_end(command).0, Some(78));
        }
        parts(&caller.wait_with_output().unwrap())
    });
    for (code, stdout, stderr) in outputs {
        assert_eq!((code, stdout.as_str()), (Some(75), ""), "{stderr}");
        assert!(stderr.contains("cannot start"), "{stderr}");
    }
    listener.set_nonblocking(true).unwrap();
    assert!(listener.accept().is_err(), "nobody is left in the backlog");
}

#[test]
fn start_error_is_the_last_status_text() {
    let folder = folder("[clients.acme]\nclient_secret = \"c4nary\"\n");
    let path = folder.path().join("notify.sock");
    let notified = Notified::bind(&path);
    let mut command = Daemon::command(folder.path());
    command.env("NOTIFY_SOCKET", &path);
    let (code, stderr) = run_to_end(command);
    assert_eq!(code, Some(78), "{stderr}");
    let status = notified.next();
    let expected = "STATUS=configuration error (exit 78); run: journalctl -u domo-tokend, or domo-tokend check\n";
    assert_eq!(status, expected);
    assert!(stderr.contains("acme.tokens"), "{stderr}");
}

/// A daemon that runs as a user that no database knows.
fn daemon_of_user_a(sandbox: &Sandbox, more: &[&str]) -> Daemon {
    let folder = folder(&config_text(sandbox, "[\"data\"]"));
    give_to(USER_A, folder.path());
    let mut command = Daemon::command(folder.path());
    command.uid(USER_A).gid(USER_A).current_dir("/").args(more);
    Daemon::start_as(command, folder)
}

/// What that user hears when it reads a file of the daemon in `/proc`.
fn look(daemon: &Daemon, name: &str) -> String {
    let mut look = Command::new("/bin/head");
    look.uid(USER_A).gid(USER_A).current_dir("/");
    look.arg("-c1")
        .arg(format!("/proc/{}/{name}", daemon.pid()));
    parts(&look.output().unwrap()).2
}

#[test]
fn daemon_is_not_dumpable_by_its_own_user() {
    const DENIED: &str = "Permission denied";
    if !is_root() {
        return;
    }
    let sandbox = sandbox(HOUR);
    let daemon = daemon_of_user_a(&sandbox, &[]);
    // At 0, where nothing is, an open memory can't be read either, but the error is another.
    for name in ["environ", "mem", "maps", "fd", "auxv"] {
        let stderr = look(&daemon, name);
        assert!(stderr.contains(DENIED), "{name}: {stderr}");
    }
    let open = daemon_of_user_a(&sandbox, &["--debuggable"]);
    for name in ["environ", "maps", "auxv"] {
        assert_eq!(look(&open, name), "", "{name} of an open one");
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

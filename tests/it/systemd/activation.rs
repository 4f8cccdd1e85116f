//! Sockets that systemd opens and passes to the daemon.

use std::fs;
use std::io::Read;
use std::net::TcpListener;
use std::os::fd::OwnedFd;
use std::os::unix::fs::chown;
use std::os::unix::net::{UnixDatagram, UnixListener, UnixStream};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};

use super::notified::Notified;
use crate::common::callers::{USER_A, is_root};
use crate::common::process::in_shell_after;
use crate::common::{
    Daemon, HOUR, chmod, config_text, folder, helper, parts, run_to_end, sandbox,
    sandbox_and_folder, token,
};

/// The daemon as systemd starts it: it inherits one or two sockets with these names.
pub(super) fn activated(folder: &Path, names: &str, sockets: Vec<OwnedFd>) -> Command {
    // A child inherits only its standard descriptors, from which the shell makes descriptor 3 and 4.
    let (count, redirect) = match sockets.len() {
        1 => (1, "3<&0"),
        _ => (2, "3<&0 4<&1"),
    };
    let listen =
        format!("export LISTEN_PID=$$ LISTEN_FDS={count} LISTEN_FDNAMES={names}; exec {redirect}");
    let mut command = in_shell_after(&listen, &Daemon::command(folder));
    let mut sockets = sockets.into_iter();
    command.stdin(sockets.next().unwrap());
    command.stdout(sockets.next().map_or_else(Stdio::null, Stdio::from));
    command
}

#[test]
fn inherited_socket_is_served_and_not_removed() {
    let (_sandbox, folder) = sandbox_and_folder(HOUR);
    let run = tempfile::tempdir().unwrap();
    let path = run.path().join("broker.sock");
    let listener = UnixListener::bind(&path).unwrap();
    // A caller from before the start waits for the daemon.
    let early = helper(&path, &["data"]).spawn().unwrap();
    let socket = OwnedFd::from(listener.try_clone().unwrap());
    let command = activated(folder.path(), "broker", vec![socket]);
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
        let sockets = paths
            .iter()
            .map(|path| UnixListener::bind(path).unwrap().into())
            .collect();
        // A caller from before the start waits for the daemon on each of them.
        let early = paths
            .each_ref()
            .map(|path| helper(path, &["data"]).spawn().unwrap());
        let command = activated(folder.path(), names, sockets);
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
    let unused = "the config has no [gateway]";
    let unknown = "set FileDescriptorName= to broker, gateway or gateway-tls";
    for (name, expected) in [
        ("gateway", unused),
        ("gateway-tls", unused),
        ("metrics", unknown),
    ] {
        let folder = folder(&config_text(&sandbox, "[\"data\"]"));
        let path = folder.path().join("activated.sock");
        let listener = UnixListener::bind(&path).unwrap();
        let mut early = UnixStream::connect(&path).unwrap();
        let port = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let names = format!("broker:{name}");
        let command = activated(folder.path(), &names, vec![listener.into(), port.into()]);
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
    let (_sandbox, folder) = sandbox_and_folder(HOUR);
    let listener = UnixListener::bind(folder.path().join("activated.sock")).unwrap();
    let command = activated(folder.path(), "tokens-x", vec![listener.into()]);
    let (code, stderr) = run_to_end(command);
    assert_eq!(code, Some(78), "{stderr}");
    assert!(
        stderr.contains("\"tokens-x\"") && stderr.contains("set FileDescriptorName=broker"),
        "{stderr}"
    );
}

#[test]
fn socket_of_a_unit_that_was_lost_before_the_start_is_reported() {
    let (_sandbox, folder) = sandbox_and_folder(HOUR);
    let run = tempfile::tempdir().unwrap();
    let path = run.path().join("broker.sock");
    let listener = UnixListener::bind(&path).unwrap();
    fs::remove_file(&path).unwrap();
    let command = activated(folder.path(), "broker", vec![listener.into()]);
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
        let sockets = paths
            .iter()
            .map(|path| UnixListener::bind(path).unwrap().into())
            .collect();
        let mut command = activated(folder.path(), "broker:broker", sockets);
        let notified = Notified::bind(folder.path(), &mut command);
        command.env(variable, "1");
        let mut daemon = Daemon::start_as(command, folder);
        fs::rename(&paths[1], run.path().join("aside")).unwrap();
        let line = daemon.wait_for_log("callers cannot connect");
        assert!(
            line.contains(expected) && line.contains("level=error"),
            "{line}"
        );
        assert!(line.contains(paths[1].to_str().unwrap()), "{line}");
        assert!(!line.contains(paths[0].to_str().unwrap()), "{line}");
        let status = notified.wait_for("callers cannot connect");
        assert!(status.contains(expected), "{status}");
        let output = helper(&paths[0], &["status"]).output().unwrap();
        let shown = String::from_utf8(output.stdout).unwrap();
        assert!(shown.contains(expected), "{shown}");
        fs::rename(run.path().join("aside"), &paths[1]).unwrap();
        daemon.wait_for_log("socket is back in place");
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
    let (_sandbox, folder) = sandbox_and_folder(HOUR);
    let path = folder.path().join("handed.sock");
    let listener = UnixListener::bind(&path).unwrap();
    // They belong to root, as systemd's directories do, and the daemon runs as another user.
    for name in ["config.toml", "acme.secret"] {
        chown(folder.path().join(name), Some(USER_A), None).unwrap();
    }
    chmod(folder.path(), 0o755);
    let mut command = activated(folder.path(), "broker", vec![listener.into()]);
    command.uid(USER_A);
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
    let (_sandbox, folder) = sandbox_and_folder(HOUR);
    let port = OwnedFd::from(TcpListener::bind(("127.0.0.1", 0)).unwrap());
    let datagrams = OwnedFd::from(UnixDatagram::unbound().unwrap());
    let (connected, _peer) = UnixStream::pair().unwrap();
    let fifo = OwnedFd::from(std::io::pipe().unwrap().0);
    for other in [port, datagrams, OwnedFd::from(connected), fifo] {
        let command = activated(folder.path(), "broker", vec![other]);
        let (code, stderr) = run_to_end(command);
        assert_eq!(code, Some(78), "{stderr}");
        assert!(stderr.contains("ListenStream= with a path"), "{stderr}");
    }
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
    // Each is in the backlog by now or soon: the daemon is started until all have an answer.
    let outputs = callers.into_iter().map(|mut caller| {
        while caller.try_wait().unwrap().is_none() {
            let socket = OwnedFd::from(listener.try_clone().unwrap());
            let command = activated(folder.path(), "broker", vec![socket]);
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

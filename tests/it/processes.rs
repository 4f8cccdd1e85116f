//! The processes that the daemon starts, and orphans that it reaps as PID 1 of a container.

use std::fs::{self, File};
use std::net::TcpListener;
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use crate::common::namespaces::{self, Container};
use crate::common::process::{make_fifo, send_signal};
use crate::common::wait::until;
use crate::common::{CLIENT_ID, Daemon, HOUR, config_text, folder, sandbox, token};
use rustix::fs::OFlags;
use tempfile::TempDir;

/// The config of a client whose secret is the output of that script.
fn with_script(config: &str, script: &str) -> String {
    let command = format!("client_secret_command = [\"sh\", \"-c\", \"{script}\"]");
    config.replace("client_secret_file = \"acme.secret\"", &command)
}

/// Returns the state letters and parents of all processes (proc(5)), by process id.
fn processes() -> Vec<(u32, char, u32)> {
    let entries = fs::read_dir("/proc").unwrap().flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    let process = |pid: u32| {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        let mut fields = stat.rsplit_once(')')?.1.split_whitespace();
        let state = fields.next()?.chars().next()?;
        Some((pid, state, fields.next()?.parse().ok()?))
    };
    pids.filter_map(process).collect()
}

fn children(parent: u32) -> Vec<(u32, char)> {
    let all = processes().into_iter();
    let own = all.filter(|(_, _, of)| *of == parent);
    own.map(|(pid, state, _)| (pid, state)).collect()
}

/// Returns the process id, on the host, of the PID 1 that `unshare` has started.
fn first_of(unshare: u32) -> u32 {
    until(|| children(unshare).first().map(|(pid, _)| *pid).ok_or("none"))
}

/// Waits for the end of a process, which may not have been reaped.
fn wait_until_ended(pid: u32) {
    until(|| {
        let all = processes();
        match all.into_iter().find(|(other, ..)| *other == pid) {
            Some((_, state, _)) if state != 'Z' => Err(state),
            Some(_) | None => Ok(()),
        }
    });
}

#[test]
fn daemon_as_pid_1_reaps_orphans_and_keeps_the_status_of_its_commands() {
    if !namespaces::can_create_containers() {
        return;
    }
    let sandbox = sandbox(HOUR);
    let folder = folder("");
    let fifo = folder.path().join("fifo");
    make_fifo(&fifo);
    // One orphan ends before the command, and one long after it.
    let script = format!(
        "(true &) ; (cat {} >/dev/null 2>&1 &) ; cat {}",
        fifo.display(),
        folder.path().join("acme.secret").display()
    );
    let config = with_script(&config_text(&sandbox, "[\"data\"]"), &script);
    fs::write(folder.path().join("config.toml"), config).unwrap();
    let mut command = Container::Pid.command(0, &Daemon::command(folder.path()));
    command.stdout(Stdio::null());
    let daemon = Daemon::start_as(command, folder);
    let first = first_of(daemon.pid());
    token(&daemon.ask(&["data"]));
    let waiting = || {
        children(first)
            .iter()
            .filter(|child| child.1 != 'Z')
            .count()
    };
    until(|| match waiting() {
        10.. => Ok(()),
        few => {
            // A reload while the command runs starts it once more.
            send_signal(first, "-HUP");
            Err(few)
        }
    });
    until(|| match children(first) {
        all if all.iter().all(|child| child.1 != 'Z') => Ok(()),
        all => Err(all),
    });
    let flags = i32::try_from(OFlags::NONBLOCK.bits()).unwrap();
    until(|| match children(first) {
        left if left.is_empty() => Ok(()),
        left => {
            // Those that read the FIFO end now; without a reader this fails.
            let _ = File::options().write(true).custom_flags(flags).open(&fifo);
            Err(left)
        }
    });
    token(&daemon.ask(&["data"]));
    send_signal(first, "-TERM");
    let (code, log) = daemon.wait_with_log();
    assert_eq!(code, Some(0), "{log}");
    assert!(!log.contains("client could not be loaded"), "{log}");
}

/// A command of `domo-tokend` with the client's secret as its input, in a PID namespace.
fn as_pid_1(arguments: &[&str], secret: &Path) -> Child {
    let mut inner = Command::new(env!("CARGO_BIN_EXE_domo-tokend"));
    inner.args(arguments);
    let mut command = Container::Pid.command(0, &inner);
    command.stdin(File::open(secret).unwrap());
    command.stdout(Stdio::null()).stderr(Stdio::null());
    command.spawn().unwrap()
}

/// An endpoint that accepts connections and never answers, and a config that names it.
fn silent() -> (TcpListener, String, TempDir) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/oauth/token", listener.local_addr().unwrap());
    let folder = folder(&format!(
        "[clients.acme]\nclient_id = \"{CLIENT_ID}\"\nclient_secret_file = \"acme.secret\"\n\
         tokens = [\"data\"]\ntoken_url = \"{url}\"\nallow_http_loopback = true\n"
    ));
    (listener, url, folder)
}

#[test]
fn check_and_init_as_pid_1_end_by_a_signal_while_they_wait_for_domo() {
    if !namespaces::can_create_containers() {
        return;
    }
    let (listener, url, folder) = silent();
    let config = folder.path().join("config.toml");
    let new = folder.path().join("new.toml");
    let check = ["check", "--online", "--config", config.to_str().unwrap()];
    let init = [
        "init",
        "--client-id",
        CLIENT_ID,
        "--token-url",
        &url,
        "--config",
        new.to_str().unwrap(),
    ];
    for arguments in [&check[..], &init] {
        for (signal, code) in [("-TERM", 143), ("-INT", 130)] {
            let mut unshare = as_pid_1(arguments, &folder.path().join("acme.secret"));
            let held = listener.accept().unwrap();
            send_signal(first_of(unshare.id()), signal);
            let status = unshare.wait().unwrap();
            assert_eq!(status.code(), Some(code), "{arguments:?} {signal}");
            drop(held);
        }
    }
    assert!(!new.exists());
}

/// A script that writes its process id to a file, and hangs with a child.
fn hanging(folder: &TempDir) -> String {
    let pids = folder.path().join("pids");
    format!("sleep 600 & echo $$ $! > {}; wait", pids.display())
}

/// Returns the process ids that the script has written.
fn hanging_pids(folder: &Path) -> Vec<u32> {
    until(|| {
        let text = fs::read_to_string(folder.join("pids")).unwrap_or_default();
        let pids: Vec<u32> = text.split_whitespace().flat_map(str::parse).collect();
        if pids.len() == 2 { Ok(pids) } else { Err(text) }
    })
}

#[test]
fn stopping_daemon_kills_secret_commands_with_their_children() {
    let sandbox = sandbox(HOUR);
    let folder = folder("");
    let config = with_script(&config_text(&sandbox, "[\"data\"]"), &hanging(&folder));
    fs::write(folder.path().join("config.toml"), config).unwrap();
    let daemon = Daemon::start_in(folder);
    let pids = hanging_pids(daemon.folder());
    let (code, log) = daemon.stop();
    assert_eq!(code, Some(0), "{log}");
    pids.into_iter().for_each(wait_until_ended);
}

#[test]
fn check_ended_by_a_signal_kills_secret_commands_with_their_children() {
    let sandbox = sandbox(HOUR);
    for signal in ["-INT", "-TERM", "-HUP", "-QUIT"] {
        let folder = folder("");
        let config = with_script(&config_text(&sandbox, "[\"data\"]"), &hanging(&folder));
        let path = folder.path().join("config.toml");
        fs::write(&path, config).unwrap();
        let mut check = Command::new(env!("CARGO_BIN_EXE_domo-tokend"));
        check.arg("check").arg("--config").arg(&path);
        check.stdin(Stdio::null());
        let mut check = check.spawn().unwrap();
        let pids = hanging_pids(folder.path());
        send_signal(check.id(), signal);
        let status = check.wait().unwrap();
        assert!(status.signal().is_some(), "{signal}: {status}");
        pids.into_iter().for_each(wait_until_ended);
    }
}

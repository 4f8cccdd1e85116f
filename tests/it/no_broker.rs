//! Callers that reach no broker: the message names a command that helps on their host.

use std::fs::{self};
use std::io::Write;
use std::os::unix::fs::chown;
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::process::{Command, Output};
use std::thread;

use crate::common::callers::{USER_A, is_root};
use crate::common::namespaces::can_create_containers;
use crate::common::process::wrapped;
use crate::common::{Daemon, HOUR, chmod, helper, parts, sandbox_and_folder, token};
use domo_token_protocol::greeting::{self, HELLO};
use domo_token_protocol::messages::VERSION;
use tempfile::TempDir;

const HOST: &str = "/run/domo-token/broker.sock";

const OWN: &str = "/run/user/4242/domo-token/broker.sock";

/// Makes a host with a user `etl`, no broker, and nothing else in `/run` and `/etc`; `$0` is the test's folder.
const NEW_HOST: &str = "mount -t tmpfs -o mode=755 none /run && mount -t tmpfs -o mode=755 none /etc && \
    printf 'root:x:0:0::/:/bin/sh\\netl:x:4242:4242::/home/none:/bin/sh\\n' > /etc/passwd && \
    touch /etc/debian_version && ";

/// Runs the helper as that user on a new host after a script.
fn ask_on(
    folder: &Path,
    prepare: &str,
    user: u32,
    arguments: &[&str],
    env: &[(&str, &str)],
) -> Output {
    let mut ask = Command::new(env!("CARGO_BIN_EXE_domo-token"));
    ask.args(arguments).envs(env.iter().copied());
    let id = user.to_string();
    let as_user = ["setpriv", "--reuid", &id, "--regid", &id, "--clear-groups"];
    let ask = wrapped(&as_user, &ask);
    let script = format!("{NEW_HOST} {prepare} exec \"$@\"");
    let folder = folder.to_str().unwrap();
    let words = ["unshare", "-m", "sh", "-c", &script, folder];
    wrapped(&words, &ask).output().unwrap()
}

/// Asserts the exit code and the end of the only line.
#[track_caller]
fn assert_ends(output: &Output, code: i32, end: &str) -> String {
    let (found, stdout, stderr) = parts(output);
    assert_eq!((found, stdout.as_str()), (Some(code), ""), "{stderr}");
    assert_eq!(stderr.lines().count(), 1, "{stderr}");
    assert!(stderr.trim_end().ends_with(end), "{end:?} in {stderr}");
    stderr
}

/// A folder that every user can enter.
fn open_folder() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    chmod(folder.path(), 0o755);
    folder
}

#[test]
fn socket_as_a_url_names_its_path_to_helper_and_daemon() {
    let (_sandbox, folder) = sandbox_and_folder(HOUR);
    let path = folder.path().join("broker.sock");
    let url = format!("unix://{}", path.display());
    let command = Daemon::command_at(folder.path(), Path::new(&url));
    let daemon = Daemon::start_as(command, folder);
    token(&daemon.ask(&["data"]));
    let short = format!("unix:{}", path.display());
    for url in [&url, &short] {
        token(&helper(Path::new(url), &["data"]).output().unwrap());
        let none = Path::new("/none.sock");
        token(&helper(none, &["--socket", url, "data"]).output().unwrap());
    }
}

#[test]
fn invalid_socket_value_exits_2_in_the_helper_and_78_in_the_daemon() {
    for (value, end) in [
        (
            "~/x.sock",
            "the tilde is not expanded; write /home/etl/x.sock",
        ),
        ("unix://run/x.sock", "write unix:///run/x.sock"),
        (
            "http://localhost:1/",
            "write a path such as /run/domo-token/broker.sock",
        ),
        (
            "tcp:localhost:1",
            "write a path such as /run/domo-token/broker.sock",
        ),
    ] {
        let home = ("HOME", "/home/etl");
        for verb in [
            &["data"][..],
            &["status"],
            &["watch", "data"],
            &["--wait", "data"],
        ] {
            let mut ask = helper(Path::new(value), verb);
            let error = assert_ends(&ask.envs([home]).output().unwrap(), 2, end);
            assert!(error.contains("$DOMO_TOKEN_SOCKET is \""), "{error}");
        }
        let mut ask = helper(Path::new("/none.sock"), &["--socket", value, "data"]);
        let error = assert_ends(&ask.envs([home]).output().unwrap(), 2, end);
        assert!(error.contains("\" for --socket: "), "{error}");

        let (_sandbox, folder) = sandbox_and_folder(HOUR);
        let serve = |arguments: &[&str], variable: &str| {
            let mut daemon = Command::new(env!("CARGO_BIN_EXE_domo-tokend"));
            daemon
                .env_clear()
                .envs([home, ("DOMO_TOKEN_SOCKET", variable)]);
            let config = folder.path().join("config.toml");
            daemon.arg("--config").arg(config).args(arguments);
            parts(&daemon.output().unwrap())
        };
        for (code, _, stderr) in [serve(&["--socket", value], ""), serve(&[], value)] {
            assert_eq!(code, Some(78), "{stderr}");
            assert!(stderr.contains(end), "{stderr}");
        }
    }
}

#[test]
fn error_for_a_named_path_names_its_origin_and_how_to_start_a_broker() {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("x.sock");
    let shown = socket.to_str().unwrap();
    let start = format!("start one there with: domo-tokend --socket {shown} &");
    let error = assert_ends(&helper(&socket, &["data"]).output().unwrap(), 69, &start);
    let named = format!("$DOMO_TOKEN_SOCKET is {shown}: no broker listens there; ");
    assert!(error.contains(&named), "{error}");
    let flag = helper(Path::new(""), &["--socket", shown, "data"]).output();
    let error = assert_ends(&flag.unwrap(), 69, &start);
    assert!(
        error.contains(&format!(": no broker listens on {shown}; ")),
        "{error}"
    );
    let directory = helper(folder.path(), &["data"]).output().unwrap();
    let inside = folder.path().join("broker.sock");
    let end = format!(
        "it is a directory; use the socket in it with --socket, or: export DOMO_TOKEN_SOCKET={}",
        inside.display()
    );
    assert_ends(&directory, 69, &end);
}

#[test]
fn socket_directory_without_write_access_exits_69() {
    if !can_create_containers() {
        return;
    }
    let folder = open_folder();
    let path = folder.path().to_str().unwrap();
    let ask = ["--socket", path, "data"];
    let output = ask_on(folder.path(), "", USER_A, &ask, &[]);
    let end = format!("it is a directory; use the socket in it with: --socket {path}/broker.sock");
    assert_ends(&output, 69, &end);
}

#[test]
fn error_names_init_on_a_host_without_setup_and_start_on_one_with_setup() {
    if !can_create_containers() {
        return;
    }
    let folder = open_folder();
    let systemd = "mkdir -p /run/systemd/system /etc/systemd/system && \
                   touch /etc/systemd/system/domo-tokend.service && ";
    let ask = |prepare: &str, user| ask_on(folder.path(), prepare, user, &["data"], &[]);
    let error = assert_ends(
        &ask(systemd, USER_A),
        69,
        "or the host's with: sudo domo-tokend init",
    );
    assert!(error.contains(&format!("{OWN} or {HOST}")), "{error}");
    assert!(!error.contains("systemctl"), "{error}");
    assert_ends(
        &ask(systemd, 0),
        69,
        "; it is not set up yet; run: domo-tokend init",
    );

    let config =
        format!("{systemd} mkdir /etc/domo-token && touch /etc/domo-token/config.toml && ");
    let start = "start it with: sudo systemctl start domo-tokend";
    assert_ends(&ask(&config, USER_A), 69, start);
    assert_ends(
        &ask(&config, 0),
        69,
        "start it with: systemctl start domo-tokend",
    );
    let named = [("DOMO_TOKEN_SOCKET", HOST)];
    let named = ask_on(folder.path(), &config, USER_A, &["data"], &named);
    assert_ends(&named, 69, start);
}

#[test]
fn error_for_the_own_broker_names_its_unit_or_lingering() {
    if !can_create_containers() {
        return;
    }
    let folder = open_folder();
    let config = folder.path().join("domo-token/config.toml");
    fs::create_dir_all(config.parent().unwrap()).unwrap();
    fs::write(&config, "").unwrap();
    let home = ("XDG_CONFIG_HOME", folder.path().to_str().unwrap());
    let session = ("XDG_RUNTIME_DIR", "/run/user/4242");
    let ask = |prepare: &str, env: &[(&str, &str)]| {
        ask_on(folder.path(), prepare, USER_A, &["data"], env)
    };
    let systemd = "mkdir -p /run/systemd/system && ";
    let error = assert_ends(
        &ask(systemd, &[home]),
        69,
        "sudo loginctl enable-linger etl",
    );
    for part in [
        format!("no broker listens on {OWN}"),
        format!("because {} exists", config.display()),
        "/run/user/4242 exists only while you are logged in".to_owned(),
        format!("--socket {HOST}"),
    ] {
        assert!(error.contains(&part), "{part} in {error}");
    }
    let manager = format!(
        "{systemd} mkdir -p /run/user/4242/systemd/private /etc/systemd/user && \
         chown 4242 /run/user/4242 && \
         touch /etc/systemd/user/domo-tokend.socket && "
    );
    let start = "systemctl --user start domo-tokend.socket";
    let in_session = ask(&manager, &[home, session]);
    assert_ends(&in_session, 69, &format!("start your own with: {start}"));
    let in_cron = format!("start your own with: XDG_RUNTIME_DIR=/run/user/4242 {start}");
    assert_ends(&ask(&manager, &[home]), 69, &in_cron);
    let no_unit = "mkdir -p /run/user/4242 && chown 4242 /run/user/4242 && ";
    assert_ends(
        &ask(no_unit, &[home, session]),
        69,
        "start your own with: domo-tokend &",
    );
}

/// A listener like systemd's, which sends these bytes on each connection and nothing more.
fn listen(path: &Path, answer: &'static [u8]) {
    let listener = UnixListener::bind(path).unwrap();
    chmod(path, 0o666);
    thread::spawn(move || {
        let mut open = Vec::new();
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            stream.write_all(answer).unwrap();
            open.push(stream);
        }
    });
}

#[test]
fn time_out_without_a_greeting_names_systemctl_status() {
    if !can_create_containers() {
        return;
    }
    let folder = open_folder();
    let mount = "mkdir /run/domo-token && mount --bind \"$0\" /run/domo-token && ";
    let ask = || {
        let words = ["--timeout", "1", "data"];
        ask_on(folder.path(), mount, USER_A, &words, &[])
    };
    let socket = folder.path().join("broker.sock");
    listen(&socket, b"");
    let error = assert_ends(&ask(), 75, "run: systemctl status domo-tokend");
    assert!(
        error.contains("the broker did not answer in time: "),
        "{error}"
    );
    let elsewhere = helper(&socket, &["--timeout", "1", "data"])
        .output()
        .unwrap();
    let end = format!("nothing was received from {}", socket.display());
    assert_ends(&elsewhere, 75, &end);

    fs::remove_file(&socket).unwrap();
    let hello: &'static [u8; HELLO] = Box::leak(Box::new(greeting::hello(VERSION)));
    listen(&socket, hello);
    assert_ends(&ask(), 75, "the broker did not answer in time");
}

#[test]
fn time_out_of_the_own_broker_names_systemctl_user_status() {
    if !can_create_containers() {
        return;
    }
    let folder = open_folder();
    listen(&folder.path().join("broker.sock"), b"");
    let prepare = "mkdir -p /run/user/4242/systemd/private /run/user/4242/domo-token && \
                   mount --bind \"$0\" /run/user/4242/domo-token && ";
    let session = [("XDG_RUNTIME_DIR", "/run/user/4242")];
    let words = ["--timeout", "1", "data"];
    let output = ask_on(folder.path(), prepare, USER_A, &words, &session);
    assert_ends(&output, 75, "run: systemctl --user status domo-tokend");
}

#[test]
fn server_of_another_protocol_exits_70_and_advises_to_check_it() {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("broker.sock");
    listen(&socket, b"HTTP/1.1 400 Bad Request\r\n\r\n");
    let output = helper(&socket, &["data"]).output().unwrap();
    assert_ends(&output, 70, "; check which program serves the socket");
}

#[test]
fn app_errors_name_no_flags_of_the_helper() {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("broker.sock");
    let connect = || {
        domo_token_client::Broker::connect_to(&socket).map(|broker| {
            let broker = broker.with_timeout(std::time::Duration::from_millis(50));
            broker.token("data").unwrap_err().to_string()
        })
    };
    let missing = connect().unwrap_err().to_string();
    let shown = socket.display();
    assert_eq!(
        missing,
        format!("no broker listens on {shown}; start a broker there")
    );
    listen(&socket, b"");
    let late = format!("the broker did not answer in time: nothing was received from {shown}");
    assert_eq!(connect().unwrap(), late);
}

#[test]
fn closed_socket_names_the_command_that_joins_its_group() {
    if !is_root() || !can_create_containers() {
        return;
    }
    let folder = open_folder();
    let socket = folder.path().join("broker.sock");
    listen(&socket, b"");
    chown(&socket, None, Some(993)).unwrap();
    chmod(&socket, 0o660);
    let ask = |members: &str| {
        let prepare = format!(
            "mkdir /run/domo-token && mount --bind \"$0\" /run/domo-token && \
             printf 'domo-token-users:x:993:{members}\\n' > /etc/group && "
        );
        ask_on(folder.path(), &prepare, USER_A, &["data"], &[])
    };
    let join = "join it, and log in again: sudo adduser etl domo-token-users";
    let error = assert_ends(&ask("ann"), 77, join);
    assert!(
        error.contains("the members of group domo-token-users (993)"),
        "{error}"
    );
    assert_ends(
        &ask("ann,etl"),
        77,
        "log in again, or run: newgrp domo-token-users",
    );
}

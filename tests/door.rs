//! Who may have which token: callers of other users, groups and units, and what a hostile one gets.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "in a test, what fails says so"
)]
#![allow(clippy::print_stdout, reason = "what is skipped says so")]

mod common;

use std::fs;
use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::Duration;

use common::{Daemon, PATIENCE, config_text, folder, parts, sandbox, token};
use domo_sandbox::Sandbox;
use domo_token_client::Error;
use domo_token_client::frame::{self, HELLO};
use domo_token_client::wire::{Asked, Request, TokenRequest, VERSION};

const HOUR: Duration = Duration::from_secs(3599);

/// Users and a group that every Debian has; nobody runs anything as them here.
const DAEMON: u32 = 1;
const GAMES_GROUP: u32 = 60;
const STRANGER: u32 = 4242;

/// Only root can run callers as other users.
fn is_root() -> bool {
    let root = rustix::process::geteuid().is_root();
    if !root {
        println!("skipped: only root can be several users");
    }
    root
}

/// A daemon whose socket all can reach, with these lines added to the config of its client.
fn open_daemon(sandbox: &Sandbox, tokens: &str, broker: &str, lines: &str) -> Daemon {
    let config = format!(
        "[broker]\nsocket_mode = \"0666\"\n{broker}\n{}{lines}\n",
        config_text(sandbox, tokens)
    );
    let folder = folder(&config);
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
    Daemon::start_in(folder)
}

fn ask_as(daemon: &Daemon, uid: u32, gid: u32, arguments: &[&str]) -> Output {
    let mut command = daemon.helper(arguments);
    command.uid(uid).gid(gid).current_dir("/").output().unwrap()
}

#[test]
fn each_user_gets_exactly_its_due() {
    if !is_root() {
        return;
    }
    let sandbox = sandbox(HOUR);
    let rules = "[clients.acme.access]\n\
                 data = { users = [\"daemon\"], groups = [\"games\"] }\n\
                 \"user, data\" = { groups = [60] }\n";
    let tokens = "[\"data\", \"data user\", \"audit\"]";
    let mut daemon = open_daemon(&sandbox, tokens, "", rules);
    let code = |uid, gid, scope: &str| ask_as(&daemon, uid, gid, &[scope]).status.code();
    assert_eq!(code(DAEMON, DAEMON, "data"), Some(0), "by name");
    assert_eq!(code(STRANGER, GAMES_GROUP, "data"), Some(0), "by group");
    assert_eq!(code(STRANGER, GAMES_GROUP, "data user"), Some(0));
    assert_eq!(code(DAEMON, DAEMON, "data user"), Some(77));
    assert_eq!(code(STRANGER, STRANGER, "data"), Some(77));
    assert_eq!(code(0, 0, "data"), Some(77), "root too");
    assert_eq!(code(0, 0, "nosuch"), Some(78), "root sees what there is");
    assert_eq!(
        code(65534, GAMES_GROUP, "data"),
        Some(77),
        "the overflow uid is anyone"
    );

    // Listed or not, and whatever the client: the same words but for what was asked.
    let words = |arguments: &[&str]| {
        let (code, stdout, stderr) = parts(&ask_as(&daemon, STRANGER, STRANGER, arguments));
        assert_eq!((code, stdout.as_str()), (Some(77), ""), "{stderr}");
        let pid = stderr
            .split("pid ")
            .nth(1)
            .unwrap()
            .split(' ')
            .next()
            .unwrap()
            .to_owned();
        stderr.replace(&pid, "PID")
    };
    let known = words(&["data"]);
    assert_eq!(known, words(&["nosuch"]).replace("nosuch", "data"));
    assert_eq!(
        known,
        words(&["-c", "nobody", "data"]).replace("nobody", "acme")
    );
    assert!(known.contains("uid 4242"), "{known}");

    let status = |uid, gid| parts(&ask_as(&daemon, uid, gid, &["status", "--json"])).1;
    assert!(status(0, 0).contains("audit") && status(0, 0).contains("data user"));
    assert!(
        !status(DAEMON, DAEMON).contains("data user") && status(DAEMON, DAEMON).contains("data")
    );
    assert!(!status(STRANGER, STRANGER).contains("acme"));
    let (_, why, _) = parts(&ask_as(&daemon, DAEMON, DAEMON, &["--explain", "data"]));
    assert!(
        why.contains("uid 1 (daemon)") && why.contains("user daemon"),
        "{why}"
    );
    let line = daemon.wait_for_log("refused: ");
    assert!(line.contains("may not have client"), "{line}");
}

#[test]
fn an_error_of_the_config_is_shown_to_who_may_see_all() {
    if !is_root() {
        return;
    }
    let sandbox = sandbox(HOUR);
    let rules = "[clients.acme.access]\ndata = { users = [1] }\n";
    let mut daemon = open_daemon(&sandbox, "[\"data\"]", "", rules);
    daemon.write("config.toml", "[clients.acme");
    daemon.wait_for_log("the last good one stays");
    let status = |user| parts(&ask_as(&daemon, user, user, &["status", "--json"])).1;
    assert!(status(0).contains("config.toml:1:"));
    let told = status(STRANGER);
    assert!(
        told.contains("the config file is wrong") && !told.contains("config.toml:1:"),
        "{told}"
    );
}

#[test]
fn a_group_opens_the_socket_and_nobody_else_finds_the_way_in() {
    if !is_root() {
        return;
    }
    let sandbox = sandbox(HOUR);
    let config = format!(
        "[broker]\nsocket_mode = \"0660\"\nsocket_group = \"games\"\n{}",
        config_text(&sandbox, "[\"data\"]")
    );
    let folder = folder(&config);
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let daemon = Daemon::start_in(folder);
    token(&ask_as(&daemon, STRANGER, GAMES_GROUP, &["data"]));
    let (code, stdout, stderr) = parts(&ask_as(&daemon, STRANGER, STRANGER, &["data"]));
    assert_eq!((code, stdout.as_str()), (Some(77), ""), "{stderr}");
    assert!(stderr.contains("60"), "names the group to join: {stderr}");
}

/// A cgroup of systemd's hierarchy, as if of a unit of that name; `None` where none can be made.
struct Unit(PathBuf);

impl Unit {
    fn new(name: &str) -> Option<Self> {
        let hierarchies = [
            "/sys/fs/cgroup/systemd",
            "/sys/fs/cgroup/unified",
            "/sys/fs/cgroup",
        ];
        let mut found = hierarchies.map(Path::new).into_iter();
        let root = found.find(|path| path.join("cgroup.procs").exists());
        let unit = root.map(|root| Self(root.join(name)));
        let made = unit.filter(|unit| fs::create_dir(&unit.0).is_ok());
        if made.is_none() {
            println!("skipped: no cgroup can be made here");
        }
        made
    }

    /// A command that runs that program in it.
    fn command(&self, program: &str, arguments: &[&str]) -> Command {
        let mut command = Command::new("sh");
        let join = "echo $$ > \"$0\"/cgroup.procs && exec \"$@\"";
        command.arg("-c").arg(join).arg(&self.0).arg(program);
        command.args(arguments);
        command
    }
}

impl Drop for Unit {
    fn drop(&mut self) {
        let _still_in_use = fs::remove_dir(&self.0);
    }
}

#[test]
fn a_unit_rule_wants_the_unit_and_the_very_process_that_connected() {
    let name = format!("domo-test-{}.service", std::process::id());
    let sandbox = sandbox(HOUR);
    let rules = format!("[clients.acme.access]\ndata = {{ units = [\"{name}\"] }}\n");
    let daemon = open_daemon(&sandbox, "[\"data\"]", "", &rules);
    let (code, stdout, stderr) = parts(&daemon.ask(&["data"]));
    assert_eq!((code, stdout.as_str()), (Some(77), ""), "{stderr}");
    let Some(unit) = Unit::new(&name) else {
        return;
    };
    let socket = daemon.socket();
    let socket = socket.to_str().unwrap();
    let helper = env!("CARGO_BIN_EXE_domo-token");
    token(
        &unit
            .command(helper, &["--socket", socket, "data"])
            .output()
            .unwrap(),
    );
    let explained = unit.command(helper, &["--socket", socket, "--explain", "data"]);
    let (_, why, _) = parts(&{ explained }.output().unwrap());
    assert!(why.contains(&format!("unit {name}")), "{why}");

    // The connection outlives the process that made it, in the hands of its child.
    let script = format!(
        "import os,socket,sys\n\
         s=socket.socket(socket.AF_UNIX); s.connect({socket:?})\n\
         first=os.getpid()\n\
         if os.fork():\n\
         \tos._exit(0)\n\
         while os.getppid()==first: pass\n\
         s.send(bytes({:?})); s.settimeout(20); d=s.recv(65536)\n\
         print('REFUSED' if b'may not have' in d else 'GRANTED',flush=True)\n",
        token_request()
    );
    let output = unit.command("python3", &["-c", &script]).output().unwrap();
    let (_, stdout, stderr) = parts(&output);
    assert_eq!(stdout.trim(), "REFUSED", "{stderr}");
}

/// A hello and the request for the token of the set `data`.
fn token_request() -> Vec<u8> {
    let request = Request::Token(TokenRequest {
        asked: Asked {
            client: None,
            scope: "data".to_owned(),
        },
        min_ttl_ms: None,
        time_left_ms: 5_000,
        renew: None,
    });
    let mut bytes = frame::hello(VERSION).to_vec();
    bytes.extend_from_slice(&frame::encode(&request).unwrap());
    bytes
}

#[test]
fn names_that_are_not_known_grant_nobody_and_are_an_error_in_check() {
    let sandbox = sandbox(HOUR);
    let rules =
        "[clients.acme.access]\ndata = { users = [\"nosuchuser\"], groups = [\"nosuchgroup\"] }\n";
    let config = config_text(&sandbox, "[\"data\"]") + rules;
    let daemon = Daemon::start(&config);
    for name in ["nosuchuser", "nosuchgroup"] {
        assert!(daemon.log.contains(name), "{}", daemon.log);
    }
    assert_eq!(daemon.ask(&["data"]).status.code(), Some(77));
    let mut check = Command::new(env!("CARGO_BIN_EXE_domo-tokend"));
    check.env_clear().arg("check").arg("--config");
    let output = check
        .arg(daemon.folder().join("config.toml"))
        .output()
        .unwrap();
    let (code, _, stderr) = parts(&output);
    assert_eq!(code, Some(78), "{stderr}");
    assert!(
        stderr.contains("nosuchuser") && stderr.contains("nosuchgroup"),
        "{stderr}"
    );
}

#[test]
fn rules_are_taken_up_and_a_watcher_that_loses_its_right_is_told() {
    let sandbox = sandbox(Duration::from_secs(4));
    let config = config_text(&sandbox, "[\"data\"]");
    let us = rustix::process::geteuid().as_raw();
    let mut daemon = Daemon::start(&config);
    let broker = daemon.broker();
    let mut watch = broker.watch("data").unwrap();
    watch.next().unwrap().unwrap();
    let rules = |uid: u32| format!("{config}[clients.acme.access]\ndata = {{ users = [{uid}] }}\n");
    daemon.write("config.toml", &rules(us));
    daemon.wait_for_log("config loaded");
    assert!(daemon.broker().token("data").is_ok());
    watch.next().unwrap().unwrap();
    daemon.write("config.toml", &rules(us + 1));
    daemon.wait_for_log("config loaded");
    let refused = daemon.broker().token("data").unwrap_err();
    assert!(matches!(refused, Error::NotPermitted { .. }), "{refused}");
    let last = loop {
        // Tokens that came before the rule may not have been read yet.
        if let Err(error) = watch.next().unwrap() {
            break error;
        }
    };
    assert!(matches!(last, Error::NotPermitted { .. }), "{last}");
    assert!(watch.next().is_none());
}

/// A hello and half a request.
fn half_a_request() -> Vec<u8> {
    let asked = Asked {
        client: None,
        scope: "data".to_owned(),
    };
    let mut bytes = frame::hello(VERSION).to_vec();
    bytes.extend_from_slice(&frame::encode(&Request::Watch(asked)).unwrap());
    bytes.truncate(HELLO + 5);
    bytes
}

#[test]
fn a_broker_of_a_strangers_is_not_asked() {
    if !is_root() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o1777)).unwrap();
    let socket = folder.path().join("broker.sock");
    let script = format!(
        "import socket,sys\n\
         s=socket.socket(socket.AF_UNIX); s.bind({socket:?}); s.listen()\n\
         import os; os.chmod({socket:?},0o777); print('ready',flush=True)\n\
         c,_=s.accept(); print(len(c.recv(4096)),flush=True)\n"
    );
    let mut fake = Command::new("python3");
    fake.uid(STRANGER)
        .gid(STRANGER)
        .current_dir("/")
        .args(["-c", &script]);
    let mut fake = fake.stdout(std::process::Stdio::piped()).spawn().unwrap();
    let mut said = [0; 6];
    let mut stdout = fake.stdout.take().unwrap();
    stdout.read_exact(&mut said).unwrap();
    let (code, printed, stderr) = parts(&common::helper(&socket, &["data"]).output().unwrap());
    assert_eq!((code, printed.as_str()), (Some(77), ""), "{stderr}");
    assert!(stderr.contains("user 4242"), "{stderr}");
    let mut heard = String::new();
    stdout.read_to_string(&mut heard).unwrap();
    assert_eq!(heard.trim(), "0", "nothing was asked");
    fake.wait().unwrap();
}

#[test]
fn a_users_connections_are_bounded_and_another_users_are_not_touched() {
    if !is_root() {
        return;
    }
    let sandbox = sandbox(HOUR);
    let limits = "[limits]\nconnections = 50\nconnections_per_user = 20\n";
    let daemon = open_daemon(&sandbox, "[\"data\"]", limits, "");
    let script = format!(
        "import socket,sys\n\
         held=[]\n\
         for n in range(40):\n\
         \ts=socket.socket(socket.AF_UNIX); s.connect({:?}); s.send(bytes({:?})); held.append(s)\n\
         busy=0\n\
         for s in held[20:]:\n\
         \ts.settimeout(20); busy+=b'as many as one may' in s.recv(4096)\n\
         print(busy,flush=True); sys.stdin.read()\n",
        daemon.socket(),
        half_a_request()
    );
    let mut hostile = Command::new("python3");
    hostile
        .uid(STRANGER)
        .gid(STRANGER)
        .current_dir("/")
        .args(["-c", &script]);
    hostile
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped());
    let mut hostile = hostile.spawn().unwrap();
    let mut busy = [0; 3];
    hostile
        .stdout
        .as_mut()
        .unwrap()
        .read_exact(&mut busy)
        .unwrap();
    assert_eq!(&busy, b"20\n");
    token(&ask_as(&daemon, DAEMON, DAEMON, &["data"]));
    let refused = ask_as(&daemon, STRANGER, STRANGER, &["--timeout", "1", "data"]);
    let (code, stdout, stderr) = parts(&refused);
    assert_eq!((code, stdout.as_str()), (Some(75), ""), "{stderr}");
    assert!(stderr.contains("as many as one may"), "{stderr}");
    drop(hostile.stdin.take());
    hostile.wait().unwrap();
    token(&ask_as(&daemon, STRANGER, STRANGER, &["data"]));
}

#[test]
fn few_descriptors_lower_the_limits_and_renewal_goes_on() {
    let sandbox = sandbox(Duration::from_secs(4));
    let folder = folder(&config_text(&sandbox, "[\"data\"]"));
    let plain = Daemon::command(folder.path());
    let mut command = Command::new("sh");
    command
        .env_clear()
        .arg("-c")
        .arg("ulimit -n 64; exec \"$0\" \"$@\"");
    command.arg(plain.get_program()).args(plain.get_args());
    let daemon = Daemon::start_as(command, folder);
    let held: Vec<UnixStream> = (0..100)
        .filter_map(|_| {
            let mut stream = UnixStream::connect(daemon.socket()).ok()?;
            // Whoever is sent away is closed at once.
            let _closed = stream.write_all(&half_a_request());
            Some(stream)
        })
        .collect();
    let seen = sandbox.wait_for_requests(4, PATIENCE).unwrap();
    assert!(
        seen.iter()
            .all(|request| request.status == Some(200) || request.status.is_none())
    );
    drop(held);
    token(&daemon.ask(&["data"]));
}

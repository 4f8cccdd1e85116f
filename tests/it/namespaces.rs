//! Callers in PID and user namespaces, as in containers, and servers that impersonate the broker.

use std::fs::{self};
use std::io::Read;
use std::os::unix::fs::chown;
use std::path::{Path, PathBuf};
use std::process::{ChildStdout, Command, Output, Stdio};

use crate::common::callers::{USER_A, USER_B, daemon_as, is_root, open_folder, python_as};
use crate::common::namespaces::{
    Container, can_create_containers, can_shift_clocks, with_boot_clock, with_host_socket_in,
};
use crate::common::process::{KillOnDrop, first_line, wrapped};
use crate::common::{Daemon, HOUR, chmod, helper, parts, sandbox, sandbox_and_daemon, token};
use domo_sandbox::Sandbox;
use domo_token_client::Broker;
use domo_token_client::clock::boot_now;
use tempfile::TempDir;

/// The uids of brokers and callers.
const USERS: [u32; 2] = [0, USER_B];

/// A daemon of that user, whose socket every user can reach.
fn daemon_of(uid: u32, sandbox: &Sandbox) -> Daemon {
    daemon_as(uid, open_folder(sandbox, "[\"data\"]", "", ""))
}

/// Runs the check with all combinations of containers, brokers and callers.
fn each(check: impl Fn(Container, u32, &Daemon, &str)) {
    if !can_create_containers() {
        return;
    }
    let sandbox = sandbox(HOUR);
    for server in USERS {
        let daemon = daemon_of(server, &sandbox);
        for container in Container::ALL {
            for caller in [0, USER_A] {
                let name = format!("broker of user {server}, caller {caller} in {container:?}");
                check(container, caller, &daemon, &name);
            }
        }
    }
}

fn run(container: Container, uid: u32, command: &Command) -> Output {
    container.command(uid, command).output().unwrap()
}

#[test]
fn helper_in_a_container_is_served() {
    each(|container, caller, daemon, name| {
        let ask = |arguments: &[&str]| run(container, caller, &daemon.helper(arguments));
        let here = token(&daemon.ask(&["data"]));
        assert_eq!(token(&ask(&["data"])), here, "get: {name}");
        let env = ["exec", "data", "--", "printenv", "DOMO_ACCESS_TOKEN"];
        assert_eq!(token(&ask(&env)), here, "exec: {name}");
        let status = ask(&["status", "--quiet"]);
        assert_eq!(status.status.code(), Some(0), "status: {name}");
        let (code, explanation, _) = parts(&ask(&["--explain", "data"]));
        assert_eq!(code, Some(0), "explain: {name}");
        assert!(
            explanation.contains(&format!("uid {caller},")),
            "{name}: {explanation}"
        );
        // All other processes there end with the shell, which is the first one.
        let script = "{ \"$@\" & } | { read -r line; echo \"$line\"; }";
        let watch = wrapped(
            &["sh", "-c", script, "sh"],
            &daemon.helper(&["watch", "data"]),
        );
        let output = run(container, caller, &watch);
        let line: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!(line["access_token"], here, "watch: {name}");
        assert_eq!(line["broker"], daemon.socket().to_str().unwrap());
    });
}

/// Boot clocks a year ahead of the daemon's, and half as old.
fn shifted_clocks() -> [i64; 2] {
    let uptime = boot_now().as_millis() / 1000;
    [365 * 86_400, -i64::try_from(uptime / 2).unwrap()]
}

fn seconds(value: &serde_json::Value) -> i64 {
    value.as_i64().unwrap()
}

#[test]
fn helper_with_another_boot_clock_prints_the_right_times() {
    const LATE: i64 = 120;
    if !can_shift_clocks() {
        return;
    }
    let (_sandbox, daemon) = sandbox_and_daemon(HOUR);
    let json = |output: &Output| -> serde_json::Value {
        serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{output:?}"))
    };
    let get = ["--format", "json", "data"];
    let here = json(&daemon.ask(&get));
    for ahead in shifted_clocks() {
        let command = |arguments: &[&str]| with_boot_clock(ahead, &daemon.helper(arguments));
        let ask = |arguments: &[&str]| command(arguments).output().unwrap();
        let there = json(&ask(&get));
        assert_eq!(there["access_token"], here["access_token"]);
        let is_close = |one: &serde_json::Value, other: &serde_json::Value| {
            (seconds(one) - seconds(other)).abs() <= 1
        };
        assert!(
            is_close(&there["expires_at"], &here["expires_at"]),
            "{there}, {here}"
        );
        let left = seconds(&there["expires_in"]);
        let most = seconds(&here["expires_in"]);
        assert!((most - LATE..=most).contains(&left), "{there}, {here}");

        let (status, shifted) = (daemon.status(), json(&ask(&["status", "--json"])));
        let times = ["started_at", "config_loaded_at"];
        let pairs = times.map(|name| (&status["broker"][name], &shifted["broker"][name]));
        let times = ["expires_at", "obtained_at", "next_attempt_at"];
        let of_set = times.map(|name| (&status["tokens"][0][name], &shifted["tokens"][0][name]));
        for (one, other) in pairs.into_iter().chain(of_set) {
            assert!(is_close(one, other), "{status}, {shifted}");
        }
        assert_eq!(ask(&["status", "--quiet"]).status.code(), Some(0));

        let mut watch = command(&["watch", "data"]);
        let mut watch = watch.stdout(Stdio::piped()).spawn().unwrap();
        let line = first_line(watch.stdout.take().unwrap());
        watch.kill().unwrap();
        watch.wait().unwrap();
        let watched: serde_json::Value = serde_json::from_str(&line).unwrap();
        assert_eq!(watched["access_token"], here["access_token"]);
        assert!(
            is_close(&watched["expires_at"], &here["expires_at"]),
            "{line}"
        );
    }
}

/// The variable that names the socket for the app below.
const SOCKET: &str = "SOCKET_OF_THE_APP";

#[test]
#[ignore = "the app of the next one, which starts it in containers"]
fn the_app() {
    let broker = Broker::connect_to(std::env::var_os(SOCKET).unwrap()).unwrap();
    let token = broker.token("data").unwrap();
    let watched = broker.watch("data").unwrap().next().unwrap().unwrap();
    assert_eq!(token.generation(), watched.generation());
    assert_eq!(broker.status().unwrap().scopes.len(), 1);
    assert_eq!(broker.explain("data").unwrap().denied, None);
}

#[test]
fn app_in_a_container_is_served() {
    let folder = tempfile::tempdir().unwrap();
    chmod(folder.path(), 0o755);
    // Where other users can run it.
    let program = folder.path().join("app");
    fs::copy(std::env::current_exe().unwrap(), &program).unwrap();
    chmod(&program, 0o755);
    each(|container, caller, daemon, name| {
        let mut app = Command::new(&program);
        app.args(["namespaces::the_app", "--exact", "--ignored", "--nocapture"]);
        app.env(SOCKET, daemon.socket());
        let output = run(container, caller, &app);
        let (stdout, stderr) = (&output.stdout, &output.stderr);
        let printed = [stdout.as_slice(), stderr].concat();
        let printed = String::from_utf8_lossy(&printed);
        assert!(output.status.success(), "{name}: {printed}");
        assert!(printed.contains("1 passed"), "{name}: {printed}");
    });
}

/// A server other than the broker.
struct Impostor {
    folder: TempDir,
    server: KillOnDrop,
    stdout: ChildStdout,
}

impl Impostor {
    /// Listens as user `uid` in a folder with that owner and mode.
    fn listen(uid: u32, owner: u32, mode: u32) -> Self {
        let folder = tempfile::tempdir().unwrap();
        chmod(folder.path(), 0o1777);
        let socket = folder.path().join("broker.sock");
        let script = format!(
            "import os,socket\n\
             path=\"{}\"\n\
             s=socket.socket(socket.AF_UNIX); s.bind(path); os.chmod(path,0o777); s.listen()\n\
             print('ready',flush=True)\n\
             while True:\n\
             \tc,_=s.accept()\n\
             \tif c.recv(4096): print('asked',flush=True)\n\
             \tc.close()\n",
            socket.display()
        );
        let mut server = python_as(uid, &script);
        let mut server = KillOnDrop(server.stdout(Stdio::piped()).spawn().unwrap());
        let mut stdout = server.stdout.take().unwrap();
        stdout.read_exact(&mut [0; 6]).unwrap();
        chown(folder.path(), Some(owner), Some(owner)).unwrap();
        chmod(folder.path(), mode);
        Self {
            folder,
            server,
            stdout,
        }
    }

    fn socket(&self) -> PathBuf {
        self.folder.path().join("broker.sock")
    }

    /// Stops it. Returns whether it received a request.
    fn received_a_request(self) -> bool {
        let Self {
            server, mut stdout, ..
        } = self;
        drop(server);
        let mut lines = String::new();
        stdout.read_to_string(&mut lines).unwrap();
        !lines.is_empty()
    }
}

#[track_caller]
fn assert_untrusted(output: &Output, name: &str) {
    let (code, stdout, stderr) = parts(output);
    assert_eq!((code, stdout.as_str()), (Some(77), ""), "{name}: {stderr}");
    assert!(stderr.lines().count() == 1, "{stderr}");
}

#[test]
fn impostor_in_a_directory_of_others_is_untrusted_in_a_container() {
    if !can_create_containers() {
        return;
    }
    let owner_and_mode = [(0, 0o1777), (0, 0o1775), (USER_B, 0o1777), (0, 0o777)];
    for (owner, mode) in owner_and_mode {
        let impostor = Impostor::listen(4299, owner, mode);
        for container in Container::ALL {
            for caller in [0, USER_A] {
                let ask = helper(&impostor.socket(), &["data"]);
                let name = format!("{caller} in {container:?}, {mode:o} of user {owner}");
                assert_untrusted(&run(container, caller, &ask), &name);
            }
        }
        assert!(!impostor.received_a_request());
    }
}

#[test]
fn symlink_to_an_impostor_is_untrusted_in_a_container() {
    if !can_create_containers() {
        return;
    }
    let impostor = Impostor::listen(4299, 0, 0o1777);
    let folder = tempfile::tempdir().unwrap();
    chmod(folder.path(), 0o755);
    let link = folder.path().join("broker.sock");
    std::os::unix::fs::symlink(impostor.socket(), &link).unwrap();
    for container in Container::ALL {
        let ask = helper(&link, &["data"]);
        assert_untrusted(&run(container, USER_A, &ask), &format!("{container:?}"));
    }
    assert!(!impostor.received_a_request());
}

/// Runs the helper with the default paths, where `folder` is the host's `/run/domo-token`.
fn by_default_paths(container: Container, uid: u32, folder: &Path) -> Output {
    let mut ask = Command::new(env!("CARGO_BIN_EXE_domo-token"));
    ask.arg("data");
    let ask = container.command(uid, &ask);
    with_host_socket_in(folder, &ask).output().unwrap()
}

#[test]
fn default_path_is_used_in_a_container_unless_others_can_write_there() {
    if !can_create_containers() {
        return;
    }
    let sandbox = sandbox(HOUR);
    let daemon = daemon_of(0, &sandbox);
    for container in Container::ALL {
        for caller in [0, USER_A] {
            let output = by_default_paths(container, caller, daemon.folder());
            assert_eq!(output.status.code(), Some(0), "{container:?} {output:?}");
        }
    }
    for (owner, mode) in [(0, 0o1777), (0, 0o1775)] {
        let impostor = Impostor::listen(4299, owner, mode);
        for container in Container::ALL {
            let output = by_default_paths(container, USER_A, impostor.folder.path());
            assert_untrusted(&output, &format!("{container:?} {mode:o}"));
        }
        assert!(!impostor.received_a_request());
    }
}

#[test]
fn writable_directory_above_a_default_path_is_untrusted_in_a_user_namespace() {
    if !can_create_containers() {
        return;
    }
    // The impostor owns the directory, which looks like root's in a user namespace.
    let impostor = Impostor::listen(4299, 4299, 0o755);
    let mut ask = Command::new(env!("CARGO_BIN_EXE_domo-token"));
    ask.arg("data");
    let ask = Container::PidAndUser.command(USER_A, &ask);
    let ask = wrapped(&["sh", "-c", "chmod 1777 /run && exec \"$@\"", "sh"], &ask);
    let output = with_host_socket_in(impostor.folder.path(), &ask).output();
    assert_untrusted(&output.unwrap(), "a sticky /run");
    assert!(!impostor.received_a_request());
}

#[test]
fn process_with_an_unmapped_uid_trusts_no_other_unmapped_user() {
    if !is_root() || !can_create_containers() {
        return;
    }
    // A user that is not mapped into the namespace has the overflow uid, and so has an impostor.
    let impostor = Impostor::listen(4299, 0, 0o1777);
    let ask = helper(&impostor.socket(), &["data"]);
    let unmapped = [
        "setpriv",
        "--reuid",
        "4242",
        "--clear-groups",
        "unshare",
        "--user",
    ];
    assert_untrusted(&wrapped(&unmapped, &ask).output().unwrap(), "unmapped");
    assert!(!impostor.received_a_request());
    let sandbox = sandbox(HOUR);
    for server in USERS {
        let daemon = daemon_of(server, &sandbox);
        let ask = wrapped(&unmapped, &daemon.helper(&["data"])).output();
        token(&ask.unwrap());
    }
}

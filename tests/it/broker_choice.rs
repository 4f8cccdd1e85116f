//! Which broker a user gets: its own or the host's.

use std::fs;
use std::io::{BufRead, BufReader, Lines, Write};
use std::os::unix::fs::chown;
use std::path::{Path, PathBuf};
use std::process::{ChildStdout, Command, Output, Stdio};
use std::time::Duration;

use crate::common::callers::{USER_A, give_to, open_folder};
use crate::common::namespaces::{can_create_containers, with_host_socket_in};
use crate::common::process::{KillOnDrop, wrapped};
use crate::common::{Daemon, HOUR, chmod, failure, parts, sandbox};
use domo_sandbox::Sandbox;
use domo_token_client::Broker;
use serde_json::Value;
use tempfile::TempDir;

const HOST: &str = "/run/domo-token/broker.sock";

/// A host with its broker, and a user with a home and a runtime directory. The user's own broker listens there or
/// not.
struct Host {
    daemon: Daemon,
    user: TempDir,
}

impl Host {
    /// Returns `None` where namespaces cannot be created.
    fn new(sandbox: &Sandbox) -> Option<Self> {
        if !can_create_containers() {
            return None;
        }
        let daemon = Daemon::start_in(open_folder(sandbox, "[\"data\"]", "", ""));
        let user = tempfile::tempdir().unwrap();
        let host = Self { daemon, user };
        for name in ["", "run", "run/domo-token", "home", "home/domo-token"] {
            let path = host.at(name);
            fs::create_dir_all(&path).unwrap();
            chown(&path, Some(USER_A), Some(USER_A)).unwrap();
            chmod(&path, 0o755);
        }
        Some(host)
    }

    fn at(&self, name: &str) -> PathBuf {
        self.user.path().join(name)
    }

    fn own_socket(&self) -> PathBuf {
        self.at("run/domo-token/broker.sock")
    }

    fn config(&self) -> PathBuf {
        self.at("home/domo-token/config.toml")
    }

    fn make_config(&self) {
        fs::write(self.config(), "").unwrap();
    }

    /// Starts the user's own broker. It reads another file, so that the test decides whether the user has a config.
    fn own_broker(&self, sandbox: &Sandbox) -> Daemon {
        let folder = open_folder(sandbox, "[\"data\"]", "", "");
        give_to(USER_A, folder.path());
        let mut command = Daemon::command_at(folder.path(), &self.own_socket());
        command.args(["--log", "trace"]);
        let command = wrapped(&AS_USER_A, &command);
        Daemon::start_as(command, folder)
    }

    /// A command of a user of this host.
    fn command(&self, user: &[&str], inner: &Command) -> Command {
        let mut inner = wrapped(user, inner);
        inner.env("XDG_RUNTIME_DIR", self.at("run"));
        inner.env("XDG_CONFIG_HOME", self.at("home"));
        with_host_socket_in(self.daemon.folder(), &inner)
    }

    fn helper(&self, user: &[&str], arguments: &[&str]) -> Output {
        let mut helper = Command::new(env!("CARGO_BIN_EXE_domo-token"));
        helper.args(arguments);
        self.command(user, &helper).output().unwrap()
    }

    fn ask(&self, arguments: &[&str]) -> Output {
        self.helper(&AS_USER_A, arguments)
    }

    /// Returns the broker of a token from its JSON.
    #[track_caller]
    fn broker(&self) -> String {
        broker_of(&self.ask(&["--format", "json", "data"]))
    }
}

const AS_USER_A: [&str; 6] = [
    "setpriv",
    "--reuid",
    "4242",
    "--regid",
    "4242",
    "--clear-groups",
];

#[track_caller]
fn broker_of(output: &Output) -> String {
    let (code, stdout, stderr) = parts(output);
    assert_eq!(code, Some(0), "{stderr}");
    let json: Value = serde_json::from_str(&stdout).unwrap();
    json["broker"].as_str().unwrap().to_owned()
}

#[test]
fn user_with_a_config_never_uses_the_hosts_broker() {
    let sandbox = sandbox(HOUR);
    let Some(host) = Host::new(&sandbox) else {
        return;
    };
    assert_eq!(host.broker(), HOST, "without a config");
    host.make_config();
    let stderr = failure(&host.ask(&["data"]), 69);
    let named = [
        host.own_socket().display().to_string(),
        format!("{} exists", host.config().display()),
        format!("--socket {HOST}"),
    ];
    for named in named {
        assert!(stderr.contains(&named), "{named:?} in {stderr}");
    }
    for verb in [&["status"][..], &["watch", "data"], &["--explain", "data"]] {
        assert_eq!(host.ask(verb).status.code(), Some(69), "{verb:?}");
    }
    let exec = ["exec", "data", "--", "true"];
    assert_eq!(host.ask(&exec).status.code(), Some(69));
    let named = ["--socket", HOST, "--format", "json", "data"];
    assert_eq!(broker_of(&host.ask(&named)), HOST);

    let own = host.own_broker(&sandbox);
    assert_eq!(host.broker(), host.own_socket().to_str().unwrap());
    drop(own);
    let (code, _, stderr) = parts(&host.ask(&["data"]));
    assert_eq!(code, Some(69), "killed: {stderr}");
    assert!(!stderr.contains(&format!("or {HOST}")), "{stderr}");
}

#[test]
fn root_and_users_with_an_unreadable_config_directory_use_the_hosts_broker() {
    let sandbox = sandbox(HOUR);
    let Some(host) = Host::new(&sandbox) else {
        return;
    };
    host.make_config();
    let json = ["--format", "json", "data"];
    assert_eq!(broker_of(&host.helper(&["env"], &json)), HOST, "root");
    let closed = host.config();
    let closed = closed.parent().unwrap();
    chown(closed, Some(0), Some(0)).unwrap();
    chmod(closed, 0o700);
    assert_eq!(host.broker(), HOST, "EACCES");
}

#[test]
fn root_of_a_user_namespace_with_a_config_never_uses_the_hosts_broker() {
    let sandbox = sandbox(HOUR);
    let Some(host) = Host::new(&sandbox) else {
        return;
    };
    let root = [&AS_USER_A[..], &["unshare", "--user", "--map-root-user"]].concat();
    let json = ["--format", "json", "data"];
    assert_eq!(broker_of(&host.helper(&root, &json)), HOST, "no config");
    host.make_config();
    let (code, _, stderr) = parts(&host.helper(&root, &json));
    assert_eq!(code, Some(69), "{stderr}");
    assert!(stderr.contains("exists"), "{stderr}");
}

#[test]
fn user_without_a_config_uses_the_own_broker_while_its_socket_exists() {
    let sandbox = sandbox(HOUR);
    let Some(host) = Host::new(&sandbox) else {
        return;
    };
    let own = host.own_broker(&sandbox);
    let path = host.own_socket();
    assert_eq!(host.broker(), path.to_str().unwrap());
    drop(own);
    let (code, _, stderr) = parts(&host.ask(&["data"]));
    assert_eq!(code, Some(69), "a socket that nobody serves: {stderr}");
    assert!(stderr.contains(path.to_str().unwrap()), "{stderr}");
    assert!(!stderr.contains(&host_named()), "not tried: {stderr}");
    fs::remove_file(&path).unwrap();
    assert_eq!(host.broker(), HOST);
    let missing = with_nothing_in_run(&host).output().unwrap();
    let (code, _, stderr) = parts(&missing);
    assert_eq!(code, Some(69), "{stderr}");
    let both = format!("{} or {HOST}", path.display());
    assert!(stderr.contains(&both), "{stderr}");
}

/// The host's path where it is not the end of another path.
fn host_named() -> String {
    format!(" {HOST}")
}

fn with_nothing_in_run(host: &Host) -> Command {
    let mut helper = Command::new(env!("CARGO_BIN_EXE_domo-token"));
    helper.arg("data");
    let mut helper = wrapped(&AS_USER_A, &helper);
    helper.env("XDG_RUNTIME_DIR", host.at("run"));
    with_host_socket_in(&host.at("home"), &helper)
}

#[test]
fn status_explain_watch_and_exec_name_the_broker_that_answered() {
    let sandbox = sandbox(HOUR);
    let Some(host) = Host::new(&sandbox) else {
        return;
    };
    let text = |arguments: &[&str]| {
        let (code, stdout, stderr) = parts(&host.ask(arguments));
        assert_eq!(code, Some(0), "{stderr}");
        stdout
    };
    // From here on there is a token, and status exits with 0.
    assert_eq!(host.broker(), HOST);
    let shown = text(&["status"]);
    assert!(shown.contains(&format!("\nsocket: {HOST}\n")), "{shown}");
    let json: Value = serde_json::from_str(&text(&["status", "--json"])).unwrap();
    assert_eq!(json["broker"]["socket"], HOST);
    let explanation = text(&["--explain", "data"]);
    assert!(
        explanation.starts_with(&format!("broker: {HOST}\n")),
        "{explanation}"
    );
    let exec = ["exec", "--fd", "3", "--format", "json", "data", "--"];
    let exec = [&exec[..], &["cat", "/dev/fd/3"]].concat();
    let json: Value = serde_json::from_str(&text(&exec)).unwrap();
    assert_eq!(json["broker"], HOST);
}

#[test]
#[ignore = "the app of the next one, which starts it on a host"]
fn the_app() {
    let mut orders = std::io::stdin().lock().lines();
    let broker = Broker::connect()
        .unwrap()
        .with_timeout(Duration::from_secs(1));
    loop {
        match broker.request("data").renew().send() {
            Ok(token) => println!("broker: {}", token.broker().display()),
            Err(error) => println!("error: {error}"),
        }
        if orders.next().unwrap().unwrap() == "end" {
            return;
        }
    }
}

struct App {
    child: KillOnDrop,
    stdout: Lines<BufReader<ChildStdout>>,
}

impl App {
    fn start(host: &Host, program: &Path) -> Self {
        let mut app = Command::new(program);
        app.args([
            "broker_choice::the_app",
            "--exact",
            "--ignored",
            "--nocapture",
        ]);
        let mut app = host.command(&AS_USER_A, &app);
        app.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = KillOnDrop(app.spawn().unwrap());
        let stdout = BufReader::new(child.stdout.take().unwrap()).lines();
        Self { child, stdout }
    }

    /// Returns the output of the last request.
    fn result_of_last_request(&mut self) -> String {
        let mut lines = self.stdout.by_ref().map_while(Result::ok);
        let line = lines.find(|line| line.contains("broker: ") || line.contains("error: "));
        line.unwrap()
    }

    /// Has the app send another request.
    fn send_request(&mut self) -> String {
        self.child.stdin.as_mut().unwrap().write_all(b"\n").unwrap();
        self.result_of_last_request()
    }
}

#[test]
fn app_follows_the_same_rule_when_it_reconnects() {
    let sandbox = sandbox(HOUR);
    let Some(host) = Host::new(&sandbox) else {
        return;
    };
    let program = host.at("app");
    fs::copy(std::env::current_exe().unwrap(), &program).unwrap();
    chmod(&program, 0o755);
    let own = host.own_broker(&sandbox);
    let mut app = App::start(&host, &program);
    let from = |path: &str| format!("broker: {path}");
    let own_path = host.own_socket();
    let own_path = own_path.to_str().unwrap();
    assert!(app.result_of_last_request().ends_with(&from(own_path)));
    drop(own);
    fs::remove_file(own_path).unwrap();
    assert!(app.send_request().ends_with(&from(HOST)), "no own config");

    let own = host.own_broker(&sandbox);
    let mut app = App::start(&host, &program);
    assert!(app.result_of_last_request().ends_with(&from(own_path)));
    host.make_config();
    drop(own);
    fs::remove_file(own_path).unwrap();
    let error = app.send_request();
    assert!(error.contains("error: no broker listens on"), "{error}");
    assert!(error.contains(own_path), "{error}");
    assert!(!error.contains(&host_named()), "{error}");
    assert!(error.contains(host.config().to_str().unwrap()), "{error}");
    assert!(!error.contains("--socket"), "that is the helper's: {error}");
}

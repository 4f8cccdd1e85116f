//! The start: errors are reported with the right exit code before any request to Domo.

mod socket_path;

use std::fs::{self, File};
use std::os::unix::fs::PermissionsExt;
use std::process::{Child, Command};

use crate::common;
use crate::common::process::wrapped;
use crate::common::wait::until;
use crate::common::{
    CANARY_SECRET, Daemon, HOUR, config_text, folder, run_to_end, sandbox, sandbox_and_daemon,
    sandbox_and_folder, secrecy, token,
};

#[test]
fn second_daemon_exits_75_and_does_not_disturb_the_first() {
    let (sandbox, daemon) = sandbox_and_daemon(HOUR);
    let given = token(&daemon.ask(&["data"]));
    let (code, stderr) = run_to_end(Daemon::command(daemon.folder()));
    assert_eq!(code, Some(75), "{stderr}");
    assert!(stderr.contains("another domo-tokend"), "{stderr}");
    assert_eq!(token(&daemon.ask(&["data"])), given);
    assert_eq!(
        sandbox.requests().len(),
        1,
        "the lock is taken before Domo is asked"
    );
}

#[test]
fn several_daemons_started_at_once_leave_one_serving_and_the_others_exit_75() {
    let (sandbox, folder) = sandbox_and_folder(HOUR);
    let before = secrecy::names(folder.path());
    let log = folder.path().join("log");
    let start = |_| {
        let log = File::options().create(true).append(true).open(&log);
        let mut command = Daemon::command(folder.path());
        command.stderr(log.unwrap()).spawn().unwrap()
    };
    let mut daemons: Vec<Child> = (0..8).map(start).collect();
    let mut codes = Vec::new();
    until(|| {
        daemons.retain_mut(|daemon| match daemon.try_wait().unwrap() {
            Some(status) => {
                codes.push(status.code());
                false
            }
            None => true,
        });
        if codes.len() < 7 {
            Err(codes.clone())
        } else {
            Ok(())
        }
    });
    assert!(codes.iter().all(|code| *code == Some(75)), "{codes:?}");
    let socket = folder.path().join("broker.sock");
    let output = common::helper(&socket, &["--wait", "data"]).output();
    token(&output.unwrap());
    for daemon in &mut daemons {
        daemon.kill().unwrap();
        daemon.wait().unwrap();
    }
    secrecy::assert_none_in_files(folder.path(), &before);
    assert_eq!(sandbox.requests().len(), 1);
}

#[test]
fn killed_daemon_does_not_prevent_the_next_start() {
    let (sandbox, mut daemon) = sandbox_and_daemon(HOUR);
    sandbox.wait_for_requests(1, common::PATIENCE).unwrap();
    daemon.signal("-KILL");
    daemon.wait();
    assert!(daemon.socket().exists());
    daemon.start_again();
    token(&daemon.ask(&["data"]));
}

#[test]
fn secret_sources_all_work() {
    let sandbox = sandbox(HOUR);
    let file = config_text(&sandbox, "[\"data\"]");
    let with = |line: &str| file.replace("client_secret_file = \"acme.secret\"", line);

    let inline = folder(&with(&format!("client_secret = \"{CANARY_SECRET}\"")));
    let closed = fs::Permissions::from_mode(0o600);
    fs::set_permissions(inline.path().join("config.toml"), closed).unwrap();
    let variable = folder(&with("client_secret_env = \"ACME\""));
    let systemd = folder(&with("client_secret_credential = \"acme.secret\""));
    let printed = folder(&with("client_secret_command = [\"cat\", \"acme.secret\"]"));
    let id = format!("client_id = \"{}\"", common::CLIENT_ID);
    let pydomo = folder(&with("client_file = \"domo.ini\"").replace(&id, ""));
    let ini = format!(
        "[client_auth]\nclient = {}\nsecret = {CANARY_SECRET}\n",
        common::CLIENT_ID
    );
    fs::write(pydomo.path().join("domo.ini"), ini).unwrap();
    let closed = fs::Permissions::from_mode(0o600);
    fs::set_permissions(pydomo.path().join("domo.ini"), closed).unwrap();
    let folders = [inline, variable, systemd, printed, pydomo];
    let mut commands = folders
        .each_ref()
        .map(|folder| Daemon::command(folder.path()));
    commands[3]
        .env("PATH", "/usr/bin:/bin")
        .current_dir(&folders[3]);
    commands[1].env("ACME", CANARY_SECRET);
    commands[2].env("CREDENTIALS_DIRECTORY", folders[2].path());
    for (number, (command, folder)) in commands.into_iter().zip(folders).enumerate() {
        let daemon = Daemon::start_as(command, folder);
        token(&daemon.ask(&["data"]));
        let seen = sandbox.requests();
        assert_eq!(seen.len(), number + 1);
        assert_eq!(seen[number].client_id.as_deref(), Some(common::CLIENT_ID));
    }
}

#[test]
fn commands_work_where_sigchld_was_ignored_at_the_start() {
    let sandbox = sandbox(HOUR);
    let line = "client_secret_command = [\"/bin/cat\", \"acme.secret\"]";
    let text = config_text(&sandbox, "[\"data\"]");
    let folder = folder(&text.replace("client_secret_file = \"acme.secret\"", line));
    let ignoring = ["env", "--ignore-signal=CHLD"];
    let mut check = wrapped(&ignoring, &Daemon::command(folder.path()));
    check.arg("check").current_dir(&folder);
    let (code, _, stderr) = common::parts(&check.output().unwrap());
    assert_eq!(code, Some(0), "{stderr}");
    let mut command = wrapped(&ignoring, &Daemon::command(folder.path()));
    command.current_dir(&folder);
    let daemon = Daemon::start_as(command, folder);
    token(&daemon.ask(&["data"]));
}

#[test]
fn failing_command_is_named_with_its_status_and_without_its_output() {
    let sandbox = sandbox(HOUR);
    let text = config_text(&sandbox, "[\"data\"]");
    let with = |argv: &str| {
        let line = format!("client_secret_command = {argv}");
        text.replace("client_secret_file = \"acme.secret\"", &line)
    };
    for (argv, cause) in [
        (
            "[\"/nowhere/pass\"]",
            "create it, or change the path in the config",
        ),
        (
            "[\"/bin/sh\", \"-c\", \"echo c4nary; echo c4nary-locked >&2; exit 3\"]",
            "exit status: 3; to see its message, run it by hand with its arguments: /bin/sh",
        ),
        (
            "[\"/bin/true\"]",
            "exit status: 0, it printed nothing; to see its message, run it by hand: /bin/true",
        ),
        ("[\"/bin/cat\", \"/dev/zero\"]", "more than 4096 bytes"),
    ] {
        let folder = folder(&with(argv));
        let command = Daemon::command_of_config(folder.path());
        let mut daemon = Daemon::start_as(command, folder);
        let line = daemon.wait_for_log("client could not be loaded");
        assert!(line.contains(cause), "{cause} in {line}");
        let (code, log) = daemon.stop();
        assert_eq!(code, Some(0), "{log}");
        assert!(!log.contains("c4nary"), "{log}");
    }
}

#[test]
fn standard_error_of_a_failed_command_is_logged_at_debug_alone() {
    let sandbox = sandbox(HOUR);
    let line = "client_secret_command = [\"/bin/sh\", \"-c\", \"echo store locked >&2; exit 3\"]";
    let text = config_text(&sandbox, "[\"data\"]");
    let text = text.replace("client_secret_file = \"acme.secret\"", line);
    for (level, is_logged) in [("debug", true), ("info", false)] {
        let folder = folder(&text);
        let mut command = Daemon::command_of_config(folder.path());
        command.args(["--log", level]);
        let mut daemon = Daemon::start_as(command, folder);
        daemon.wait_for_log("client could not be loaded");
        let (_, log) = daemon.stop();
        assert_eq!(log.contains("store locked"), is_logged, "{level}: {log}");
    }
}

#[test]
fn command_environment_lacks_secrets_and_systemds_variables() {
    let sandbox = sandbox(HOUR);
    let text = config_text(&sandbox, "[\"data\"]");
    let folder = folder("");
    let place = folder.path().display();
    let script = format!(
        "(env; grep SigBlk /proc/self/status) > {place}/new; \
         mv {place}/new {place}/environment; cat {place}/acme.secret"
    );
    let acme = text.replace(
        "client_secret_file = \"acme.secret\"",
        &format!("client_secret_command = [\"/bin/sh\", \"-c\", \"{script}\"]"),
    );
    let other = common::client_text("other", &sandbox, "[\"data\"]");
    let other = other.replace(
        "client_secret_file = \"acme.secret\"",
        "client_secret_env = \"OTHER\"",
    );
    let both = format!("{acme}{other}");
    fs::write(folder.path().join("config.toml"), both).unwrap();
    let mut command = Daemon::command(folder.path());
    let withheld = [
        ("OTHER", CANARY_SECRET),
        ("DOMO_CLIENT_SECRET", CANARY_SECRET),
        ("DOMO_PROXY", CANARY_SECRET),
        ("DOMO_PROXY_AUTH_FILE", CANARY_SECRET),
        ("NOTIFY_SOCKET", "/nowhere"),
        ("CREDENTIALS_DIRECTORY", "/nowhere"),
        ("LISTEN_PID", "1"),
        ("LISTEN_FDS", "1"),
        ("WATCHDOG_USEC", "120000000"),
    ];
    let kept = [
        ("PATH", "/usr/bin:/bin"),
        ("HOME", "/home/etl"),
        ("GNUPGHOME", "/home/etl/.gnupg"),
    ];
    command.envs(withheld).envs(kept);
    let daemon = Daemon::start_as(command, folder);
    token(&daemon.ask(&["--client", "acme", "data"]));
    let environment = daemon.folder().join("environment");
    let seen = fs::read_to_string(&environment).unwrap();
    fs::remove_file(&environment).unwrap();
    // The variable is still withheld after the client that uses it was removed.
    daemon.write("config.toml", &acme);
    let later = until(|| fs::read_to_string(&environment));
    for (name, _) in withheld {
        let start = format!("{name}=");
        for seen in [&seen, &later] {
            assert!(!seen.lines().any(|line| line.starts_with(&start)), "{seen}");
        }
    }
    // The daemon blocks SIGTTOU.
    assert!(seen.contains("SigBlk:\t0000000000000000\n"), "{seen}");
    for (name, value) in kept {
        assert!(
            seen.lines().any(|line| line == format!("{name}={value}")),
            "{seen}"
        );
    }
}

#[test]
fn environment_alone_configures_the_daemon() {
    let sandbox = sandbox(HOUR);
    let folder = tempfile::tempdir().unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_domo-tokend"));
    command
        .env_clear()
        .env("HOME", folder.path())
        .args(["--log", "trace", "--socket"])
        .arg(folder.path().join("broker.sock"))
        .stdout(common::daemon::stdout_file(folder.path()));
    command
        .env("DOMO_CLIENT_ID", common::CLIENT_ID)
        .env("DOMO_CLIENT_SECRET", CANARY_SECRET);
    command
        .env("DOMO_TOKEN_URL", sandbox.token_url())
        .env("DOMO_SCOPE", "data;data user");
    let daemon = Daemon::start_as(command, folder);
    sandbox.wait_for_requests(2, common::PATIENCE).unwrap();
    token(&daemon.ask(&["user", "data"]));
}

#[test]
fn missing_config_exits_78_with_how_to_create_one() {
    let folder = tempfile::tempdir().unwrap();
    let (code, stderr) = run_to_end(Daemon::command(folder.path()));
    assert_eq!(code, Some(78), "{stderr}");
    let missing = format!("config {}/", folder.path().display());
    assert!(stderr.contains(&missing), "{stderr}");
    assert!(
        stderr.contains("or create it: domo-tokend init --config"),
        "{stderr}"
    );
}

#[test]
fn invalid_config_error_names_the_position_and_no_value() {
    let sandbox = sandbox(HOUR);
    let good = config_text(&sandbox, "[\"data\"]");
    for (bad, named) in [
        (
            good.replace("client_id", "client_idd"),
            "did you mean \"client_id\"",
        ),
        (good.replace("\"acme.secret\"", "7"), ":3:"),
        (good.replace("[\"data\"]", "[]"), "tokens"),
        (good.replace("http://", "http://c4nary:pw@"), "token_url"),
        (
            good.replace("allow_http_loopback = true", ""),
            "allow_http_loopback",
        ),
        (
            good.clone() + "client_secret = \"c4nary\"\n",
            "more than one source",
        ),
        ("clients = \"c4nary".to_owned(), ":1:"),
        (String::new(), "clients"),
    ] {
        let folder = folder(&bad);
        let (code, stderr) = run_to_end(Daemon::command(folder.path()));
        assert_eq!(code, Some(78), "{stderr}");
        assert!(stderr.contains(named), "{named} in {stderr}");
        assert!(stderr.contains("config.toml"), "{stderr}");
        assert!(!stderr.contains("c4nary"), "{stderr}");
    }
}

//! `domo-tokend init` and `domo-tokend check` for a new user.

use std::fs;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use crate::common;
use crate::common::service::{SERVICE, with_service_user};
use crate::common::{
    CANARY_SECRET, CLIENT_ID, Daemon, HOUR, chmod, config_text, failure, folder, parts, sandbox,
    token,
};
use domo_sandbox::{Fault, Sandbox};

fn init(home: &Path, sandbox: &Sandbox, arguments: &[&str], input: &str) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_domo-tokend"));
    let mut child = command
        .env_clear()
        .arg("init")
        .arg("--config")
        .arg(home.join("config.toml"))
        .args(["--token-url", &sandbox.token_url()])
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // Some input is rejected before it is read.
    let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
    child.wait_with_output().unwrap()
}

fn check(folder: &Path, arguments: &[&str]) -> (Option<i32>, String, String) {
    common::check(&folder.join("config.toml"), arguments)
}

#[test]
fn init_writes_a_working_config_and_prints_the_next_steps() {
    let sandbox = sandbox(HOUR);
    let folder = tempfile::tempdir().unwrap();
    let home = folder.path().join("new");
    let input = format!("{CLIENT_ID}\n{CANARY_SECRET}\n");
    let sets = [
        "--name",
        "acme",
        "--tokens",
        "data",
        "--tokens",
        "user data",
    ];
    let (code, stdout, stderr) = parts(&init(&home, &sandbox, &sets, &input));
    assert_eq!(code, Some(0), "{stderr}");
    assert!(
        stdout.contains("Domo issued a token for \"data user\""),
        "{stdout}"
    );
    assert!(stdout.contains("domo-tokend --config"), "{stdout}");
    assert!(stdout.contains("domo-token data"), "{stdout}");
    assert!(!(stdout + &stderr).contains("c4nary"));
    let mode = |name: &str| {
        let stat = fs::metadata(home.join(name)).unwrap();
        stat.permissions().mode() & 0o7777
    };
    assert_eq!(
        (mode("config.toml"), mode("acme.secret"), mode("")),
        (0o600, 0o600, 0o700)
    );
    let (code, stdout, stderr) = check(&home, &["--online"]);
    assert_eq!(code, Some(0), "{stderr}");
    assert!(
        stdout.contains("scope set \"data user\": token obtained, valid for 3599 s"),
        "{stdout}"
    );
    let command = Daemon::command_at(&home, &folder.path().join("broker.sock"));
    token(&Daemon::start_as(command, folder).ask(&["data"]));
}

#[test]
fn init_never_overwrites_and_writes_nothing_that_does_not_work() {
    let sandbox = sandbox(HOUR);
    let folder = tempfile::tempdir().unwrap();
    let home = folder.path();
    let nothing = || fs::read_dir(home).unwrap().count() == 0;
    let good = format!("{CLIENT_ID}\n{CANARY_SECRET}\n");
    let wrong = format!("{CLIENT_ID}\nc4nary-wrong\n");
    for (input, arguments, code, words) in [
        (&wrong, &[][..], 78, "Bad client credentials"),
        (&"\n\n".to_owned(), &[], 78, "client id"),
        (&format!("{CLIENT_ID}\n"), &[], 78, "client secret"),
        (&good, &["--tokens", ""], 78, "--tokens"),
        (&good, &["--name", "a b"], 78, "--name"),
        (&good, &["--tokens", "nosuch"], 78, "nosuch"),
    ] {
        let (found, stdout, stderr) = parts(&init(home, &sandbox, arguments, input));
        assert_eq!((found, stdout.as_str()), (Some(code), ""), "{stderr}");
        assert!(
            stderr.contains(words) && !stderr.contains("c4nary"),
            "{stderr}"
        );
        assert!(nothing(), "{words}");
    }
    sandbox.always(Fault::status(503));
    let (code, _, stderr) = parts(&init(home, &sandbox, &[], &good));
    assert_eq!(code, Some(75), "{stderr}");
    assert!(stderr.contains("--offline") && nothing(), "{stderr}");
    let requests = sandbox.requests().len();
    let (code, _, stderr) = parts(&init(home, &sandbox, &["--offline"], &good));
    assert_eq!(code, Some(0), "{stderr}");
    assert_eq!(sandbox.requests().len(), requests);
    let before = fs::read_to_string(home.join("config.toml")).unwrap();
    let stderr = failure(&init(home, &sandbox, &["--offline"], &good), 78);
    assert!(stderr.contains("already exists"), "{stderr}");
    assert_eq!(
        fs::read_to_string(home.join("config.toml")).unwrap(),
        before
    );
}

#[test]
fn check_validates_to_the_requested_depth_and_reports_all_errors() {
    let sandbox = sandbox(HOUR);
    let beta = common::client_text("beta", &sandbox, "[\"data\", \"user\"]");
    let config = config_text(&sandbox, "[\"data\"]") + &beta.replace("acme.secret", "beta.secret");
    let folder = folder(&config.replace("\"acme.secret\"", "\"none.secret\""));
    let secret = folder.path().join("beta.secret");
    fs::write(&secret, CANARY_SECRET).unwrap();
    chmod(&secret, 0o644);

    assert_eq!(check(folder.path(), &["--syntax"]).0, Some(0));
    let (code, _, stderr) = check(folder.path(), &[]);
    assert_eq!(code, Some(78), "{stderr}");
    assert!(
        stderr.contains("none.secret") && stderr.contains("chmod 600"),
        "{stderr}"
    );
    let verdict = stderr.lines().last().unwrap();
    assert_eq!(verdict, "domo-tokend: 2 errors, 1 warning", "{stderr}");

    fs::write(folder.path().join("config.toml"), &config).unwrap();
    chmod(&secret, 0o600);
    assert_eq!(check(folder.path(), &[]).0, Some(0));
    assert_eq!(sandbox.requests().len(), 0);
    sandbox.script([Fault::default(), Fault::status(503), Fault::status(401)]);
    let (code, stdout, stderr) = check(folder.path(), &["--online"]);
    assert_eq!(code, Some(78), "{stderr}");
    assert!(
        stdout.contains("client \"acme\", scope set \"data\": token obtained"),
        "{stdout}"
    );
    assert!(stderr.contains("503") && stderr.contains("401"), "{stderr}");
    assert_eq!(sandbox.requests().len(), 3, "each once");
    sandbox.always(Fault::status(503));
    assert_eq!(check(folder.path(), &["--online"]).0, Some(75));
}

#[test]
fn systemd_credential_is_not_checked_outside_its_unit() {
    let sandbox = sandbox(HOUR);
    let config = config_text(&sandbox, "[\"data\"]");
    let line = "client_secret_credential = \"acme\"";
    let folder = folder(&config.replace("client_secret_file = \"acme.secret\"", line));
    let (code, stdout, stderr) = check(folder.path(), &["--online"]);
    assert_eq!(code, Some(0), "{stderr}");
    assert!(stdout.contains("client \"acme\": not checked"), "{stdout}");
    assert_eq!(sandbox.requests().len(), 0);
}

#[test]
fn config_path_with_a_literal_tilde_exits_78_with_the_cause() {
    let folder = tempfile::tempdir().unwrap();
    let fault = "; the tilde is not expanded; write the full path\n";
    let init = ["init", "--offline", "--client-id", "an-id"];
    for (verb, fault) in [(&["check"][..], fault), (&[], fault), (&init, &fault[2..])] {
        for by_flag in [true, false] {
            let mut command = Command::new(env!("CARGO_BIN_EXE_domo-tokend"));
            command.env_clear().args(verb).current_dir(folder.path());
            command.stdin(Stdio::null());
            if by_flag {
                command.arg("--config=~/x/config.toml");
            } else {
                command.env("DOMO_TOKEN_CONFIG", "~/x/config.toml");
            }
            let (code, stdout, stderr) = parts(&command.output().unwrap());
            assert_eq!((code, stdout.trim()), (Some(78), ""), "{stderr}");
            assert!(stderr.contains("config ~/x/config.toml: "), "{stderr}");
            assert!(stderr.contains(fault), "{verb:?}: {stderr}");
        }
    }
    assert!(!folder.path().join("~").exists());
}

#[test]
fn conflicting_or_unknown_options_exit_2() {
    let folder = tempfile::tempdir().unwrap();
    for arguments in [
        &["--online", "--syntax"][..],
        &["--schema", "--online"],
        &["--what"],
    ] {
        let (code, stdout, stderr) = check(folder.path(), arguments);
        assert_eq!((code, stdout.as_str()), (Some(2), ""), "{stderr}");
    }
}

#[test]
fn daemon_exits_2_and_suggests_the_intended_command() {
    for (word, tip) in [
        ("run", "runs in the foreground: domo-tokend\n"),
        ("start", "systemctl start domo-tokend\n"),
        ("stop", "systemctl stop domo-tokend\n"),
        ("reload", "systemctl reload domo-tokend\n"),
        ("status", "domo-token status\n"),
        ("version", "domo-tokend --version\n"),
        ("completions", "domo-token completions SHELL\n"),
        ("watch", "domo-token watch SCOPE...\n"),
        ("token", "domo-token SCOPE...\n"),
        ("chekc", "'check'\n"),
        ("frobnicate", "domo-token --help\n"),
    ] {
        let mut command = Command::new(env!("CARGO_BIN_EXE_domo-tokend"));
        let stderr = failure(&command.arg(word).output().unwrap(), 2);
        assert_eq!(stderr.matches("tip: ").count(), 1, "{stderr}");
        assert!(stderr.contains(tip), "{word}: {stderr}");
    }
}

#[test]
fn check_as_root_checks_as_the_services_user() {
    let program = env!("CARGO_BIN_EXE_domo-tokend");
    let folder = tempfile::tempdir().unwrap();
    let config = "mkdir /etc/domo-token; printf '[clients.acme]\\nclient_id=\"id\"\\nclient_secret_file=\"s\"\\ntokens=[\"data\"]\\n' \
                  > /etc/domo-token/config.toml; printf secret > /etc/domo-token/s; ";
    let closed = format!("{config} chmod 600 /etc/domo-token/s; {program} check");
    let Some(output) = with_service_user(folder.path(), &closed) else {
        return;
    };
    let (code, _, stderr) = parts(&output);
    assert_eq!(
        code,
        Some(78),
        "root can read it, the service can't: {stderr}"
    );
    let command =
        "run as root: chown root:domo-token /etc/domo-token/s && chmod 640 /etc/domo-token/s\n";
    assert!(stderr.contains("Permission denied"), "{stderr}");
    assert!(stderr.contains(command), "{stderr}");
    let run = "chown root:domo-token /etc/domo-token/s && chmod 640 /etc/domo-token/s";
    let fixed = format!("{config} {run}; {program} check");
    let (code, _, stderr) = parts(&with_service_user(folder.path(), &fixed).unwrap());
    assert_eq!(code, Some(0), "{stderr}");
    let given = format!(
        "{config} chmod 600 /etc/domo-token/s; chown {SERVICE} /etc/domo-token/s; {program} check"
    );
    let (code, stdout, stderr) = parts(&with_service_user(folder.path(), &given).unwrap());
    assert_eq!(code, Some(0), "{stderr}");
    assert!(stdout.contains("client \"acme\""), "{stdout}");
}

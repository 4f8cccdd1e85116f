//! `domo-tokend init` at a terminal, and for the service.

#![expect(clippy::unwrap_used, reason = "in a test, what fails says so")]

mod common;

use std::fs;
use std::process::Command;

use common::namespaces::can_be_made;
use common::service::{SERVICE, with_service_user};
use common::{CANARY_SECRET, CLIENT_ID, HOUR, parts, sandbox};
use serde_json::Value;

/// Runs a command at a terminal of its own, answers each of its questions, and tells what stood on
/// the screen, how it ended, and whether the terminal still shows what is typed.
const TERMINAL: &str = r#"
import json, os, pty, select, signal, sys, termios
answers = json.loads(sys.argv[1])
pid, terminal = pty.fork()
if pid == 0:
    # The tests may run as a background job, which has them ignored.
    for number in (signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGTERM):
        signal.signal(number, signal.SIG_DFL)
    os.execv(sys.argv[2], sys.argv[2:])
screen, answered = b"", 0
def shows():
    return bool(termios.tcgetattr(terminal)[3] & termios.ECHO)
hidden = []
while True:
    try:
        read = os.read(terminal, 4096)
    except OSError:
        break
    if not read:
        break
    screen += read
    while answered < len(answers) and screen.count(b": ") > answered:
        hidden.append(not shows())
        os.write(terminal, answers[answered].encode())
        answered += 1
status = os.waitpid(pid, 0)[1]
print(json.dumps({"screen": screen.decode(), "status": status, "hidden": hidden, "shows": shows()}))
"#;

fn at_a_terminal(answers: &[&str], arguments: &[&str]) -> Value {
    at_a_terminal_by(&[], answers, arguments)
}

/// The same by a program that runs the command.
fn at_a_terminal_by(prefix: &[&str], answers: &[&str], arguments: &[&str]) -> Value {
    let mut command = Command::new("python3");
    command.args(["-c", TERMINAL, &serde_json::to_string(answers).unwrap()]);
    command
        .args(prefix)
        .arg(env!("CARGO_BIN_EXE_domo-tokend"))
        .args(arguments);
    let (_, stdout, stderr) = parts(&command.output().unwrap());
    assert!(stdout.starts_with('{'), "{stdout}{stderr}");
    serde_json::from_str(&stdout).unwrap()
}

#[test]
fn at_a_terminal_the_secret_is_not_shown_and_the_id_is() {
    let sandbox = sandbox(HOUR);
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("config.toml");
    let config = config.to_str().unwrap();
    let answers = [format!("{CLIENT_ID}\n"), format!("{CANARY_SECRET}\n")];
    let answers: Vec<&str> = answers.iter().map(String::as_str).collect();
    let arguments = [
        "init",
        "--config",
        config,
        "--token-url",
        &sandbox.token_url(),
    ];
    let seen = at_a_terminal(&answers, &arguments);
    let screen = seen["screen"].as_str().unwrap();
    assert_eq!(seen["status"], 0, "{screen}");
    assert_eq!(seen["hidden"], serde_json::json!([false, true]), "{screen}");
    assert_eq!(seen["shows"], true);
    assert!(
        screen.contains(CLIENT_ID) && !screen.contains("c4nary"),
        "{screen}"
    );
    assert!(
        screen.contains("Domo gave a token for \"data\""),
        "{screen}"
    );
    let secret = fs::read_to_string(folder.path().join("domo.secret")).unwrap();
    assert_eq!(secret, format!("{CANARY_SECRET}\n"));
}

#[test]
fn interrupted_at_the_secret_it_leaves_the_terminal_as_it_was_and_writes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("config.toml");
    let arguments = [
        "init",
        "--config",
        config.to_str().unwrap(),
        "--client-id",
        CLIENT_ID,
    ];
    let seen = at_a_terminal(&["c4nary\u{3}"], &arguments);
    assert_eq!(seen["hidden"], serde_json::json!([true]), "{seen}");
    assert_eq!(seen["status"], 2, "ended by SIGINT: {seen}");
    assert_eq!(seen["shows"], true, "{seen}");
    assert!(
        !seen["screen"].as_str().unwrap().contains("c4nary"),
        "{seen}"
    );
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
}

#[test]
fn first_process_interrupted_at_the_secret_exits_130_and_restores_the_terminal() {
    if !can_be_made() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("config.toml");
    let answers = ["an-id\n", "\u{3}"];
    let arguments = ["init", "--config", config.to_str().unwrap(), "--offline"];
    let unshare = ["/usr/bin/unshare", "--pid", "--fork", "--mount-proc"];
    let seen = at_a_terminal_by(&unshare, &answers, &arguments);
    assert_eq!(seen["shows"], true);
    assert_eq!(seen["status"], 130 << 8, "{seen}");
    assert!(!config.exists());
}

#[test]
fn a_line_that_is_too_long_is_refused_and_not_cut() {
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("config.toml");
    fs::write(folder.path().join("line"), "s".repeat(5000)).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_domo-tokend"));
    command
        .args(["init", "--offline", "--client-id", CLIENT_ID, "--config"])
        .arg(&config);
    command.stdin(fs::File::open(folder.path().join("line")).unwrap());
    let (code, _, stderr) = parts(&command.output().unwrap());
    assert_eq!(code, Some(78), "{stderr}");
    assert!(
        stderr.contains("more than 4096 bytes") && !config.exists(),
        "{stderr}"
    );
}

#[test]
fn what_root_sets_up_the_service_can_read_and_nobody_else_the_secret() {
    let folder = tempfile::tempdir().unwrap();
    let program = env!("CARGO_BIN_EXE_domo-tokend");
    let script = format!(
        "mount -t tmpfs none /run && mkdir -p /run/systemd/system && \
         umask 077 && echo secret | {program} init --offline --client-id id --name acme && \
         stat -c '%a %u:%g %n' /etc/domo-token /etc/domo-token/* && {program} check"
    );
    let Some(output) = with_service_user(folder.path(), &script) else {
        return;
    };
    let (code, stdout, stderr) = parts(&output);
    assert_eq!(code, Some(0), "{stdout}{stderr}");
    for line in [
        "755 0:0 /etc/domo-token\n",
        &format!("640 0:{SERVICE} /etc/domo-token/acme.secret\n"),
        "644 0:0 /etc/domo-token/config.toml\n",
        "  systemctl enable --now domo-tokend.socket domo-tokend\n",
        "checked as the service's user domo-token\n",
    ] {
        assert!(stdout.contains(line), "{line} in {stdout}");
    }
}

#[test]
fn a_check_as_root_counts_all_groups_of_the_services_user() {
    let folder = tempfile::tempdir().unwrap();
    let program = env!("CARGO_BIN_EXE_domo-tokend");
    // The program lies where nobody but root can run it.
    let script = format!(
        "mkdir /etc/domo-token && cp {program} \"$1/daemon\" && chmod 700 \"$1\" && cd /etc/domo-token && \
         printf '[broker]\\nsocket_group=\"none\"\\n[clients.acme]\\nclient_id=\"id\"\\nclient_secret_file=\"s\"\\ntokens=[\"data\"]\\n' \
         > config.toml && printf secret > s && chgrp 4244 s && chmod 640 s; \"$1/daemon\" check"
    );
    let Some(output) = with_service_user(folder.path(), &script) else {
        return;
    };
    let (code, stdout, stderr) = parts(&output);
    assert!(
        stdout.contains("client \"acme\" (id): ok"),
        "{stdout}{stderr}"
    );
    assert_eq!(code, Some(78), "{stderr}");
    assert!(
        stderr.contains("socket_group") && stderr.ends_with(" 1 error\n"),
        "{stderr}"
    );
}

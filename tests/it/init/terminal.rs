//! `domo-tokend init` at a terminal.

use std::fs::{self};

use std::path::Path;
use std::process::Command;

use super::{assert_secret_written, config_in};
use crate::common::namespaces::can_create_containers;

use crate::common::{CANARY_SECRET, CLIENT_ID, HOUR, parts, sandbox};

use serde_json::Value;

/// Runs a command at a terminal and types the answers to its prompts. Prints what was on the screen, the exit
/// status, and whether the terminal echoes its input.
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

/// Like `at_a_terminal`, with a command line that runs the program.
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
fn terminal_echoes_the_id_but_not_the_secret() {
    let sandbox = sandbox(HOUR);
    let folder = tempfile::tempdir().unwrap();
    let config = config_in(&folder);
    let answers = [format!("{CLIENT_ID}\n"), format!("{CANARY_SECRET}\n")];
    let answers: Vec<&str> = answers.iter().map(String::as_str).collect();
    let arguments = [
        "init",
        "--config",
        &config,
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
        screen.contains("Domo issued a token for \"data\""),
        "{screen}"
    );
    assert_secret_written(&folder);
}

#[test]
fn interrupt_at_the_secret_prompt_restores_the_terminal_and_writes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let config = config_in(&folder);
    let arguments = ["init", "--config", &config, "--client-id", CLIENT_ID];
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
    if !can_create_containers() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let config = config_in(&folder);
    let answers = ["an-id\n", "\u{3}"];
    let arguments = ["init", "--config", &config, "--offline"];
    let unshare = ["/usr/bin/unshare", "--pid", "--fork", "--mount-proc"];
    let seen = at_a_terminal_by(&unshare, &answers, &arguments);
    assert_eq!(seen["shows"], true);
    assert_eq!(seen["status"], 130 << 8, "{seen}");
    assert!(!Path::new(&config).exists());
}

#[test]
fn likely_mistake_in_the_secret_is_named_and_prompted_again_at_a_terminal() {
    let sandbox = sandbox(HOUR);
    let folder = tempfile::tempdir().unwrap();
    let config = config_in(&folder);
    let answers = [
        format!("\u{feff} {CLIENT_ID} \n"),
        format!("\"{CANARY_SECRET}\"\n"),
        format!("\u{1b}[200~{CANARY_SECRET}\u{1b}[201~\n"),
    ];
    let answers: Vec<&str> = answers.iter().map(String::as_str).collect();
    let url = sandbox.token_url();
    let arguments = ["init", "--config", &config, "--token-url", &url];
    let seen = at_a_terminal(&answers, &arguments);
    let screen = seen["screen"].as_str().unwrap();
    assert_eq!(seen["status"], 0, "{screen}");
    assert!(
        screen.contains("is enclosed in quotes; enter it again"),
        "{screen}"
    );
    assert!(
        screen.contains("account, audit, buzz, dashboard"),
        "{screen}"
    );
    assert!(!screen.contains("c4nary"), "{screen}");
    assert_secret_written(&folder);
    assert_eq!(sandbox.requests().len(), 1);
}

#[test]
fn lines_pasted_together_are_discarded_before_the_secret_prompt() {
    let folder = tempfile::tempdir().unwrap();
    let config = config_in(&folder);
    let answers = ["an-id\nshown-secret\n", &format!("{CANARY_SECRET}\n")];
    let arguments = ["init", "--offline", "--config", &config];
    let seen = at_a_terminal(&answers, &arguments);
    let screen = seen["screen"].as_str().unwrap();
    assert_eq!(seen["status"], 0, "{screen}");
    assert!(screen.contains("was visible and is discarded"), "{screen}");
    assert_secret_written(&folder);
}

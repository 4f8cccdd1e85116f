//! `domo-tokend init` at a terminal, and for the service.

use std::fs::{self, Permissions};
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::thread;

use crate::common;
use crate::common::namespaces::can_be_made;
use crate::common::service::{SERVICE, with_service_user};
use crate::common::{CANARY_SECRET, CLIENT_ID, HOUR, PATIENCE, parts, pauses, sandbox};
use domo_sandbox::{Fault, Sandbox};
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
fn terminal_echoes_the_id_but_not_the_secret() {
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
fn interrupt_at_the_secret_prompt_restores_the_terminal_and_writes_nothing() {
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

/// Runs `init` with that input, and these variables.
fn init_with(input: &str, variables: &[(&str, &str)], arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_domo-tokend"));
    command.env_clear().envs(variables.iter().copied());
    command.arg("init").args(arguments).stdin(Stdio::piped());
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    // Some is rejected before anything is read.
    let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
    child.wait_with_output().unwrap()
}

#[test]
fn likely_mistake_in_the_secret_is_named_and_prompted_again_at_a_terminal() {
    let sandbox = sandbox(HOUR);
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("config.toml");
    let config = config.to_str().unwrap();
    let answers = [
        format!("\u{feff} {CLIENT_ID} \n"),
        format!("\"{CANARY_SECRET}\"\n"),
        format!("\u{1b}[200~{CANARY_SECRET}\u{1b}[201~\n"),
    ];
    let answers: Vec<&str> = answers.iter().map(String::as_str).collect();
    let url = sandbox.token_url();
    let arguments = ["init", "--config", config, "--token-url", &url];
    let seen = at_a_terminal(&answers, &arguments);
    let screen = seen["screen"].as_str().unwrap();
    assert_eq!(seen["status"], 0, "{screen}");
    assert!(
        screen.contains("stands in quotes; enter it again"),
        "{screen}"
    );
    assert!(
        screen.contains("account, audit, buzz, dashboard"),
        "{screen}"
    );
    assert!(!screen.contains("c4nary"), "{screen}");
    let secret = fs::read_to_string(folder.path().join("domo.secret")).unwrap();
    assert_eq!(secret, format!("{CANARY_SECRET}\n"));
    assert_eq!(sandbox.requests().len(), 1);
}

#[test]
fn likely_mistake_in_piped_input_is_an_error_without_request_or_file() {
    let sandbox = sandbox(HOUR);
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("config.toml");
    let (config, url) = (config.to_str().unwrap(), sandbox.token_url());
    let arguments = ["--config", config, "--token-url", &url];
    for (secret, slip) in [
        (
            format!("{CANARY_SECRET} "),
            "the client secret ends with a blank",
        ),
        (
            format!("DOMO_CLIENT_SECRET={CANARY_SECRET}"),
            "begins with DOMO_CLIENT_SECRET=",
        ),
        (String::new(), "the client secret is empty"),
    ] {
        let input = format!("{CLIENT_ID}\n{secret}\n");
        let (code, stdout, stderr) = parts(&init_with(&input, &[], &arguments));
        assert_eq!((code, stdout.as_str()), (Some(78), ""), "{stderr}");
        assert!(stderr.contains(slip), "{stderr}");
    }
    assert_eq!(sandbox.requests().len(), 0);
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
    let input = format!("\u{feff}{CLIENT_ID}\r\n{CANARY_SECRET}\r\n");
    let (code, _, stderr) = parts(&init_with(&input, &[], &arguments));
    assert_eq!(code, Some(0), "{stderr}");
}

#[test]
fn scope_that_domo_does_not_grant_is_not_blamed_on_the_credentials() {
    let sandbox = sandbox(HOUR);
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("config.toml");
    let (config, url) = (config.to_str().unwrap(), sandbox.token_url());
    let arguments = [
        "--config",
        config,
        "--token-url",
        &url,
        "--tokens",
        "data workflow",
    ];
    let input = format!("{CLIENT_ID}\n{CANARY_SECRET}\n");
    let (code, _, stderr) = parts(&init_with(&input, &[], &arguments));
    assert_eq!(code, Some(78), "{stderr}");
    let message = "the credentials work; Domo does not grant this client the scope \"workflow\" \
                   (scope set \"data workflow\")";
    assert!(stderr.contains(message), "{stderr}");
    assert!(stderr.ends_with("with --tokens\n"), "{stderr}");
    assert_eq!(sandbox.requests().len(), 3);
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
    // A token with fewer scopes than requested means the same.
    sandbox.script([Fault::scope("data"), Fault::default(), Fault::default()]);
    let (_, _, stderr) = parts(&init_with(&input, &[], &arguments));
    assert!(stderr.contains(message), "{stderr}");
}

#[test]
fn first_rejection_of_new_credentials_is_confirmed_after_5_s() {
    let sandbox = sandbox(HOUR);
    sandbox.script([Fault::status(401)]);
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("config.toml");
    let (config, url) = (config.to_str().unwrap(), sandbox.token_url());
    let input = format!("{CLIENT_ID}\n{CANARY_SECRET}\n");
    let arguments = ["--config", config, "--token-url", &url];
    let (code, _, stderr) = parts(&init_with(&input, &[], &arguments));
    assert_eq!(code, Some(0), "{stderr}");
    assert!(stderr.contains("trying once more in 5 s"), "{stderr}");
    let pauses = pauses(&sandbox.requests());
    assert_eq!(pauses.len(), 1);
    assert!((5..7).contains(&pauses[0].as_secs()), "{pauses:?}");
}

/// A proxy on the way to https servers, which passes on the head of each CONNECT.
fn proxy(answer: &'static str) -> (String, Receiver<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let (sender, heads) = channel();
    thread::spawn(move || {
        for client in listener.incoming() {
            let mut client = client.unwrap();
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                let mut byte = [0];
                client.read_exact(&mut byte).unwrap();
                head.extend(byte);
            }
            let head = String::from_utf8(head).unwrap();
            let target = head.split(' ').nth(1).unwrap().to_owned();
            sender.send(head).unwrap();
            client.write_all(answer.as_bytes()).unwrap();
            if answer.contains(" 200 ") {
                let mut server = TcpStream::connect(target).unwrap();
                let (mut from, mut to) = (server.try_clone().unwrap(), client.try_clone().unwrap());
                thread::spawn(move || std::io::copy(&mut from, &mut to));
                let _ = std::io::copy(&mut client, &mut server);
            }
        }
    });
    (url, heads)
}

#[test]
fn proxy_its_login_and_a_ca_are_used_for_the_trial_and_written() {
    let builder = Sandbox::builder().client(CLIENT_ID, CANARY_SECRET, &["data"]);
    let sandbox = builder.https(true).start().unwrap();
    let (proxy, heads) = proxy("HTTP/1.1 200 OK\r\n\r\n");
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    fs::write(path("ca.pem"), sandbox.ca_pem().unwrap()).unwrap();
    fs::write(path("login"), "ann:c4nary\n").unwrap();
    fs::set_permissions(path("login"), Permissions::from_mode(0o600)).unwrap();
    let input = format!("{CLIENT_ID}\n{CANARY_SECRET}\n");
    let (config, url) = (path("new/config.toml"), sandbox.token_url());
    let mut arguments = vec!["--config", &config, "--token-url", &url];
    // Without them there is no way, and a variable is no option.
    let variables = [("HTTPS_PROXY", proxy.as_str())];
    let (code, _, stderr) = parts(&init_with(&input, &variables, &arguments));
    assert_eq!(code, Some(75), "{stderr}");
    assert!(stderr.contains("by --ca-file FILE"), "{stderr}");
    let (ca, login) = (path("ca.pem"), path("login"));
    arguments.extend(["--proxy", &proxy, "--proxy-auth-file", &login]);
    arguments.extend(["--ca-file", &ca]);
    let (code, stdout, stderr) = parts(&init_with(&input, &[], &arguments));
    assert_eq!(code, Some(0), "{stderr}");
    assert!(stdout.contains("Domo gave a token"), "{stdout}");
    let head = heads.recv_timeout(PATIENCE).unwrap().to_lowercase();
    assert!(
        head.contains("proxy-authorization: basic yw5uomm0bmfyeq=="),
        "{head}"
    );
    let text = fs::read_to_string(&config).unwrap();
    for line in [
        format!("proxy = \"{proxy}\"\n"),
        format!("proxy_auth_file = \"{login}\"\n"),
        format!("ca_file = \"{ca}\"\n"),
    ] {
        assert!(text.contains(&line), "{text}");
    }
    let (code, stdout, stderr) = common::check(Path::new(&config), &["--online"]);
    assert_eq!(code, Some(0), "{stdout}{stderr}");
}

#[test]
fn variable_of_a_proxy_is_named_if_domo_cannot_be_reached() {
    let closed = TcpListener::bind("127.0.0.1:0").unwrap().local_addr();
    let url = format!("https://{}/oauth/token", closed.unwrap());
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("config.toml");
    let arguments = ["--config", config.to_str().unwrap(), "--token-url", &url];
    let input = format!("{CLIENT_ID}\n{CANARY_SECRET}\n");
    let variables = [("HTTPS_PROXY", "http://proxy.example:3128")];
    let (code, _, stderr) = parts(&init_with(&input, &variables, &arguments));
    assert_eq!(code, Some(75), "{stderr}");
    assert!(
        stderr.contains("the variable HTTPS_PROXY is not used"),
        "{stderr}"
    );
    assert!(
        stderr.ends_with("add --proxy http://proxy.example:3128\n"),
        "{stderr}"
    );
    let (_, _, stderr) = parts(&init_with(&input, &[], &arguments));
    assert!(stderr.ends_with("add --offline\n"), "{stderr}");
    assert!(!config.exists());
}

#[test]
fn unusable_file_is_an_error_before_the_id_is_read_and_no_login_is_shown() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    fs::write(path("login"), "ann:c4nary\n").unwrap();
    fs::set_permissions(path("login"), Permissions::from_mode(0o644)).unwrap();
    let config = path("new/config.toml");
    let proxy = ["--proxy", "http://127.0.0.1:9"];
    for (option, file, message) in [
        ("--proxy-auth-file", path("login"), "chmod"),
        ("--ca-file", path("none.pem"), "none.pem: No such file"),
        (
            "--proxy-auth-file",
            "ann:c4nary".to_owned(),
            "there is no such file",
        ),
        (
            "--proxy-auth-file",
            "CORP/ann:c4nary".to_owned(),
            "there is no such file",
        ),
    ] {
        let arguments = ["--config", &config, option, &file];
        let arguments = [&arguments[..], &proxy].concat();
        let (code, stdout, stderr) = parts(&init_with("", &[], &arguments));
        assert_eq!((code, stdout.as_str()), (Some(78), ""), "{stderr}");
        assert!(stderr.contains(message), "{stderr}");
        assert!(!stderr.contains("c4nary"), "{stderr}");
        let names_key = ["_file", "allow_", "config"]
            .iter()
            .any(|key| stderr.contains(key));
        assert!(!names_key, "{stderr}");
        assert!(!Path::new(&config).exists());
    }
}

#[test]
fn input_that_is_empty_or_not_utf8_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("config.toml");
    let config = config.to_str().unwrap();
    let with_id = ["--offline", "--config", config, "--client-id", "id"];
    let utf16 = "a\0n\0-\0i\0d\0\n\0";
    for (input, arguments, message) in [
        (
            "",
            &with_id[..3],
            "standard input ended before the client id",
        ),
        (
            "",
            &with_id,
            "standard input ended before the client secret",
        ),
        (
            "an-id\n",
            &with_id[..3],
            "standard input ended before the client secret",
        ),
        (
            utf16,
            &with_id[..3],
            "standard input is not UTF-8 (it seems to be UTF-16)",
        ),
    ] {
        let (code, _, stderr) = parts(&init_with(input, &[], arguments));
        assert_eq!(code, Some(78), "{stderr}");
        assert!(stderr.contains(message), "{stderr}");
        assert!(stderr.contains("nothing was written"), "{stderr}");
    }
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
}

#[test]
fn existing_secret_or_config_is_an_error_with_the_option_for_another_path() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    fs::write(path("acme.secret"), "c4nary").unwrap();
    let config = path("config.toml");
    let arguments = ["--offline", "--name", "acme", "--config", &config];
    let message = || parts(&init_with("id\nsecret\n", &[], &arguments)).2;
    assert!(message().ends_with("with --name\n"), "{}", message());
    fs::write(&config, "").unwrap();
    assert!(message().ends_with("with --config\n"), "{}", message());
    for (config, problem) in [
        ("~/c.toml", "tilde"),
        ("\u{1b}[31m.toml", "control character"),
    ] {
        let arguments = ["--offline", "--config", config];
        let (code, _, stderr) = parts(&init_with("id\nsecret\n", &[], &arguments));
        assert_eq!(code, Some(78), "{stderr}");
        assert!(
            stderr.contains(problem) && !stderr.contains('\u{1b}'),
            "{stderr}"
        );
    }
}

#[test]
fn lines_pasted_together_are_discarded_before_the_secret_prompt() {
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("config.toml");
    let config = config.to_str().unwrap();
    let answers = ["an-id\nshown-secret\n", &format!("{CANARY_SECRET}\n")];
    let arguments = ["init", "--offline", "--config", config];
    let seen = at_a_terminal(&answers, &arguments);
    let screen = seen["screen"].as_str().unwrap();
    assert_eq!(seen["status"], 0, "{screen}");
    assert!(screen.contains("was shown and is discarded"), "{screen}");
    let secret = fs::read_to_string(folder.path().join("domo.secret")).unwrap();
    assert_eq!(secret, format!("{CANARY_SECRET}\n"));
}

#[test]
fn option_for_a_secret_or_a_scope_is_an_error_with_a_fitting_hint() {
    for (option, tip) in [
        ("--client-secret", "the secret is never an argument"),
        ("--client-secret-file", "the secret is never an argument"),
        ("--scope", "domo-tokend init --tokens SCOPES"),
    ] {
        let (code, _, stderr) = parts(&init_with("", &[], &[option, "c4nary"]));
        assert_eq!(code, Some(2), "{stderr}");
        assert!(stderr.contains(tip), "{stderr}");
        let is_harmful = ["c4nary", "--client-id", "--socket"]
            .iter()
            .any(|word| stderr.contains(word));
        assert!(!is_harmful, "{stderr}");
    }
}

#[test]
fn file_that_the_unit_hides_is_a_warning_also_if_the_service_cannot_read_it() {
    let folder = tempfile::tempdir().unwrap();
    let program = env!("CARGO_BIN_EXE_domo-tokend");
    let script = format!(
        "cp {program} /etc/daemon && mount -t tmpfs none /tmp && cd /tmp && \
         cp /etc/ssl/certs/ca-certificates.crt ca.pem && chmod 600 ca.pem && \
         echo secret | /etc/daemon init --offline --client-id id --ca-file ca.pem"
    );
    let Some(output) = with_service_user(folder.path(), &script) else {
        return;
    };
    let (code, stdout, stderr) = parts(&output);
    assert_eq!(code, Some(0), "{stdout}{stderr}");
    let warning = "/tmp/ca.pem: the unit hides /tmp (PrivateTmp=yes); move it to /etc/domo-token\n";
    assert!(stderr.contains(warning), "{stderr}");
}

#[test]
fn file_that_the_service_cannot_read_is_a_warning_with_the_advice_of_check() {
    let folder = tempfile::tempdir().unwrap();
    let program = env!("CARGO_BIN_EXE_domo-tokend");
    let script = format!(
        "mkdir -m 755 /etc/here && cp {program} /etc/here/daemon && cd /etc/here && \
         cp /etc/ssl/certs/ca-certificates.crt ca.pem && chmod 600 ca.pem && umask 077 && \
         echo secret | ./daemon init --offline --client-id id --ca-file ca.pem"
    );
    let Some(output) = with_service_user(folder.path(), &script) else {
        return;
    };
    let (code, stdout, stderr) = parts(&output);
    assert_eq!(code, Some(0), "{stdout}{stderr}");
    assert!(
        stdout.contains("wrote /etc/domo-token/config.toml"),
        "{stdout}"
    );
    let warning = "warning: the service cannot use this config yet: client \"domo\": ca_file \
                   /etc/here/ca.pem: ";
    assert!(stderr.contains(warning), "{stderr}");
    assert!(stderr.contains("chmod"), "{stderr}");
}

#[test]
fn line_that_is_too_long_is_an_error_and_not_truncated() {
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
fn init_as_root_writes_files_for_the_service_and_a_private_secret() {
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
fn check_as_root_considers_all_groups_of_the_services_user() {
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

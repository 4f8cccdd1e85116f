//! `domo-tokend check`: what it prints, where, and in which order.

use std::fs::{self};
use std::io::{Read, Write};
use std::net::TcpListener;
use std::path::Path;
use std::process::Command;
use std::sync::mpsc::channel;
use std::thread;

use crate::common::service::with_service_user;
use crate::common::{
    HOUR, check, chmod, client_text, config_text, folder, parts, sandbox, sandbox_and_folder,
};
use domo_sandbox::{Fault, Sandbox};

/// A config with the clients `acme`, which is the default, and `beta`.
fn two_clients(sandbox: &Sandbox) -> String {
    let default = "[broker]\ndefault_client = \"acme\"\n";
    let beta = client_text("beta", sandbox, "[\"user\"]");
    format!("{default}{}{beta}", config_text(sandbox, "[\"data\"]"))
}

/// Returns the lines of both streams in order, without the program's name.
fn on_one_terminal(config: &Path, arguments: &[&str]) -> Vec<String> {
    let (mut terminal, writer) = std::io::pipe().unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_domo-tokend"));
    command.env_clear().arg("check").args(arguments);
    command.arg("--config").arg(config);
    command.stdout(writer.try_clone().unwrap()).stderr(writer);
    let mut child = command.spawn().unwrap();
    // The command holds the writing ends.
    drop(command);
    let mut text = String::new();
    terminal.read_to_string(&mut text).unwrap();
    child.wait().unwrap();
    let lines = text.lines();
    lines
        .map(|line| line.replacen("domo-tokend: ", "", 1))
        .collect()
}

#[test]
fn check_prints_what_is_ok_first_then_warnings_then_errors_then_the_verdict() {
    let sandbox = sandbox(HOUR);
    let config = two_clients(&sandbox).replacen("acme.secret", "none.secret", 1);
    let config = config.replace("default_client = \"acme\"", "");
    let folder = folder(&config);
    let lines = on_one_terminal(&folder.path().join("config.toml"), &[]);
    let starts = [
        "config ",
        "client \"beta\" (",
        "warning: broker",
        "client \"acme\": ",
        "1 error, 1 warning",
    ];
    assert_eq!(lines.len(), starts.len(), "{lines:#?}");
    for (line, start) in lines.iter().zip(starts) {
        assert!(line.starts_with(start), "{lines:#?}");
    }
}

#[test]
fn check_of_a_valid_config_prints_only_ok_lines() {
    let sandbox = sandbox(HOUR);
    let folder = folder(&two_clients(&sandbox));
    let config = folder.path().join("config.toml");
    for arguments in [&[][..], &["--online"]] {
        let (code, stdout, stderr) = check(&config, arguments);
        assert_eq!((code, stderr.as_str()), (Some(0), ""));
        assert!(stdout.contains("config.toml: ok\n"), "{stdout}");
        for client in ["acme", "beta"] {
            let line = format!("client \"{client}\" (441e307a…): ok\n");
            assert!(stdout.contains(&line), "{stdout}");
        }
    }
}

#[test]
fn check_prints_nothing_on_standard_output_if_the_config_cannot_be_read() {
    let sandbox = sandbox(HOUR);
    let good = config_text(&sandbox, "[\"data\"]");
    for (text, what) in [
        (good.replace("tokens", "tokns"), "tokns"),
        ("[".to_owned(), "config.toml:1"),
        (String::new(), "no client"),
    ] {
        let folder = folder(&text);
        for arguments in [&[][..], &["--syntax"], &["--online"]] {
            let (code, stdout, stderr) = check(&folder.path().join("config.toml"), arguments);
            assert_eq!((code, stdout.as_str()), (Some(78), ""), "{stderr}");
            assert!(stderr.contains(what), "{stderr}");
            assert!(stderr.ends_with("\ndomo-tokend: 1 error\n"), "{stderr}");
        }
    }
    let (code, stdout, stderr) = check(Path::new("/none/con fig.toml"), &[]);
    assert_eq!((code, stdout.as_str()), (Some(78), ""), "{stderr}");
    let command = "or create it: domo-tokend init --config '/none/con fig.toml'\n";
    assert!(stderr.contains(command), "{stderr}");
}

#[test]
fn client_that_domo_rejects_is_not_ok_in_check_online() {
    let sandbox = sandbox(HOUR);
    let folder = folder(&two_clients(&sandbox));
    let config = folder.path().join("config.toml");
    for (status, code) in [(401, 78), (503, 75)] {
        sandbox.script([Fault::default(), Fault::status(status)]);
        let (found, stdout, stderr) = check(&config, &["--online"]);
        assert_eq!(found, Some(code), "{stderr}");
        assert!(
            stdout.contains("client \"acme\" (441e307a…): ok\n"),
            "{stdout}"
        );
        assert!(
            stdout.contains("client \"beta\" (441e307a…): files ok\n"),
            "{stdout}"
        );
        assert!(
            stderr.contains("client \"beta\", scope set \"user\": "),
            "{stderr}"
        );
        assert!(stderr.ends_with("\ndomo-tokend: 1 error\n"), "{stderr}");
    }
}

#[test]
fn config_with_an_unknown_user_name_is_not_ok() {
    let sandbox = sandbox(HOUR);
    let access = "[clients.acme.access]\ndata = { users = [\"no-such-user\"] }\n";
    let folder = folder(&(config_text(&sandbox, "[\"data\"]") + access));
    let (code, stdout, stderr) = check(&folder.path().join("config.toml"), &[]);
    assert_eq!(code, Some(78), "{stderr}");
    assert!(!stdout.contains("config.toml: ok"), "{stdout}");
}

/// Runs a shell script in which `$check` is `domo-tokend check`, and `/etc/domo-token/config.toml` has these lines
/// for its client. Returns `None` where this is impossible.
fn check_on_host(
    before: &str,
    lines: &[&str],
    check: &str,
) -> Option<(Option<i32>, String, String)> {
    let folder = tempfile::tempdir().unwrap();
    let program = env!("CARGO_BIN_EXE_domo-tokend");
    let lines = ["[clients.acme]", "tokens = [\"data\"]"]
        .iter()
        .chain(lines)
        .map(|line| format!("echo '{line}' >> /etc/domo-token/config.toml; "));
    let lines: String = lines.collect();
    let script = format!(
        "cp {program} /etc/domo-tokend; mkdir /etc/domo-token; cd /etc/domo-token; \
         mount -t tmpfs -o mode=755 none /home; export INVOCATION_ID=1; {before} {lines} \
         check='/etc/domo-tokend check'; {check}"
    );
    with_service_user(folder.path(), &script).map(|output| parts(&output))
}

const ID: &str = "client_id = \"id\"";

#[test]
fn check_as_root_warns_of_each_path_that_the_unit_hides() {
    let before = "mkdir -m 755 /home/ann; printf x > /home/ann/s; chmod 644 /home/ann/s; \
                  ln -s /home/ann/s /etc/domo-token/link; printf x > /etc/domo-token/s; \
                  chmod 640 /etc/domo-token/s; chgrp domo-token /etc/domo-token/s; \
                  printf 'id' > /home/ann/id;";
    let secret = "client_secret_file = \"/etc/domo-token/s\"";
    let world = "allow_world_readable_secret = true";
    let link = "client_secret_file = \"link\"";
    let dots = "client_secret_file = \"../../home/ann/s\"";
    let or = "the unit hides /home (ProtectHome=yes); move it to /etc/domo-token, or use client_secret_credential\n";
    let only = "/home/ann/id: the unit hides /home (ProtectHome=yes); move it to /etc/domo-token\n";
    for (lines, warning) in [
        (&[ID, link, world][..], or),
        (&[ID, dots, world], or),
        (&["client_id_file = \"/home/ann/id\"", secret], only),
    ] {
        let Some((code, stdout, stderr)) = check_on_host(before, lines, "$check") else {
            return;
        };
        assert_eq!(code, Some(0), "{stderr}");
        assert!(stdout.contains("config.toml: ok"), "{stdout}");
        assert!(stderr.contains(warning), "{stderr}");
        assert!(stderr.contains("domo-tokend: warning: "), "{stderr}");
        assert!(stderr.ends_with("domo-tokend: 1 warning\n"), "{stderr}");
    }
    let command = "client_secret_command = [\"/bin/sh\", \"/home/ann/get\"]";
    let before = "mkdir -m 755 /home/ann; echo 'echo x' > /home/ann/get;";
    let (code, _, stderr) = check_on_host(before, &[ID, command], "$check").unwrap();
    assert_eq!(code, Some(0), "{stderr}");
    let warning =
        "/home/ann/get: the unit hides /home (ProtectHome=yes); move it to /etc/domo-token\n";
    assert!(stderr.contains(warning), "{stderr}");
    let before = "printf x > s; chmod 640 s; chgrp domo-token s;";
    let relative = "$check --config config.toml";
    for check in ["$check", relative] {
        let (_, stdout, stderr) = check_on_host(before, &[ID, secret], check).unwrap();
        assert_eq!(stderr, "");
        assert!(
            stdout.contains("as the service's user domo-token"),
            "{stdout}"
        );
    }
}

#[test]
fn file_hidden_by_the_unit_is_reported_as_hidden() {
    for path in ["/home/none", "/root/none", "/tmp/none"] {
        let secret = format!("client_secret_file = \"{path}\"");
        let Some((code, _, stderr)) = check_on_host("", &[ID, &secret], "$check") else {
            return;
        };
        assert_eq!(code, Some(78), "{stderr}");
        let directory = path.strip_suffix("/none").unwrap();
        let error = format!("; the unit hides {directory} (");
        assert!(stderr.contains(&error), "{stderr}");
        assert!(!stderr.contains("put it there"), "{stderr}");
    }
}

#[test]
fn check_of_the_hosts_config_by_another_user_suggests_sudo() {
    let lines = [ID, "client_secret_file = \"s\""];
    let before = "printf x > s; chmod 640 s; chgrp domo-token s;";
    let as_ann = "setpriv --reuid 1234 --regid 1234 --clear-groups";
    for (before, check, command) in [
        (
            before.to_owned(),
            format!("{as_ann} $check"),
            "sudo domo-tokend check\n",
        ),
        (
            format!("{before} umask 077;"),
            format!("{as_ann} $check --config config.toml"),
            "run with sudo: sudo domo-tokend check --config /etc/domo-token/config.toml\n",
        ),
        (
            "printf x > s; chmod 600 s; chown domo-token s;".to_owned(),
            format!("{as_ann} $check"),
            "run with sudo: sudo domo-tokend check\n",
        ),
    ] {
        let Some((code, _, stderr)) = check_on_host(&before, &lines, &check) else {
            return;
        };
        assert_eq!(code, Some(78), "{stderr}");
        assert!(stderr.contains(command), "{stderr}");
        assert!(!stderr.contains("chown"), "{stderr}");
    }
}

#[test]
fn paths_in_the_commands_of_messages_are_quoted_for_a_shell() {
    let lines = [ID, "client_secret_file = \"my secret\""];
    let quoted = "'/etc/domo-token/my secret'";
    let before = "printf x > 'my secret'; chmod 600 'my secret';";
    let Some((_, _, stderr)) = check_on_host(before, &lines, "$check") else {
        return;
    };
    let command = format!("chown root:domo-token {quoted} && chmod 640 {quoted}\n");
    assert!(stderr.contains(&command), "{stderr}");
    let before = "printf x > 'my secret'; chmod 644 'my secret';";
    let (_, _, stderr) = check_on_host(before, &lines, "$check").unwrap();
    assert!(stderr.contains(&command), "{stderr}");
}

#[test]
fn path_of_the_config_is_printed_without_control_characters() {
    let (_sandbox, folder) = sandbox_and_folder(HOUR);
    let path = folder.path().join("a\u{1b}[31m.toml");
    let (code, stdout, stderr) = check(&path, &["--syntax"]);
    assert_eq!((code, &*stdout), (Some(78), ""));
    assert!(!stderr.contains('\u{1b}'), "{stderr:?}");
    assert!(stderr.contains("a\u{fffd}[31m.toml"), "{stderr}");
    fs::copy(folder.path().join("config.toml"), &path).unwrap();
    let (code, stdout, _) = check(&path, &["--syntax"]);
    assert_eq!(code, Some(0));
    assert!(stdout.contains("a\u{fffd}[31m.toml: ok"), "{stdout:?}");
}

#[test]
fn check_judges_the_path_of_the_socket_as_the_daemon_does() {
    let sandbox = sandbox(HOUR);
    let text = config_text(&sandbox, "[\"data\"]");
    let folder = folder(&text);
    let config = folder.path().join("config.toml");
    let directory = folder.path().display().to_string();
    let file = config.display().to_string();
    let inside = format!(
        "is a directory and not a socket; use a path in it, such as {directory}/broker.sock\n"
    );
    for (path, problem) in [
        ("~/x", "the tilde is not expanded"),
        ("http://x", "does not start with"),
        (&directory, &inside),
        (&file, "not a socket; move it away"),
    ] {
        for by_flag in [true, false] {
            let run = |verb: &[&str]| {
                let mut command = Command::new(env!("CARGO_BIN_EXE_domo-tokend"));
                command.env_clear().args(verb).arg("--config").arg(&config);
                if by_flag {
                    command.args(["--socket", path]);
                } else {
                    command.env("DOMO_TOKEN_SOCKET", path);
                }
                parts(&command.output().unwrap())
            };
            for verb in [&["check"][..], &[]] {
                let (code, _, stderr) = run(verb);
                assert_eq!(code, Some(78), "{path} {verb:?}: {stderr}");
                assert!(stderr.contains(problem), "{path} {verb:?}: {stderr}");
            }
            let (code, _, stderr) = run(&["check", "--syntax"]);
            assert_eq!(code, Some(0), "{stderr}");
        }
    }
    let broker = format!("[broker]\nsocket = \"{directory}\"\n{text}");
    fs::write(&config, broker).unwrap();
    let (code, _, stderr) = check(&config, &[]);
    assert_eq!(code, Some(78), "{stderr}");
    assert!(stderr.contains(&inside), "{stderr}");
    let lock = format!("{directory}.lock");
    assert!(!Path::new(&lock).exists());
}

#[test]
fn config_file_given_without_its_option_is_a_usage_error_that_names_it() {
    for arguments in [
        &["check", "/etc/x.toml"][..],
        &["check", "x.toml"],
        &["init", "a/b"],
        &["a/b"],
    ] {
        let mut command = Command::new(env!("CARGO_BIN_EXE_domo-tokend"));
        let (code, _, stderr) = parts(&command.args(arguments).output().unwrap());
        assert_eq!(code, Some(2), "{stderr}");
        let file = arguments.last().unwrap();
        assert!(
            stderr.contains(&format!("value: --config {file}\n")),
            "{stderr}"
        );
    }
}

#[test]
fn check_fails_when_a_secret_is_used_as_a_credential_name() {
    let sandbox = sandbox(HOUR);
    let secret = "Zq9xKc4naryW7Zq9xKc4naryW7deadbeefcafe0123456789abcdef4242";
    let text = config_text(&sandbox, "[\"data\"]");
    for (name, code) in [(secret, 78), ("domo", 0)] {
        let line = format!("client_secret_credential = \"{name}\"");
        let folder = folder(&text.replace("client_secret_file = \"acme.secret\"", &line));
        let (found, stdout, stderr) = check(&folder.path().join("config.toml"), &[]);
        assert_eq!(found, Some(code), "{stderr}");
        assert_eq!(stderr.contains("is this the secret itself?"), code == 78);
        assert_eq!(stdout.contains("not checked"), code == 0, "{stdout}");
        assert!(!(stdout + &stderr).contains("deadbeef"));
    }
}

#[test]
fn secret_source_without_a_secret_is_reported_with_what_to_do() {
    let sandbox = sandbox(HOUR);
    let text = config_text(&sandbox, "[\"data\"]");
    for (line, advice) in [
        (
            "client_secret_file = \".\"",
            "not a regular file; use a file in it\n",
        ),
        (
            "client_secret_env = \"ACME\"",
            "or set it in a file of EnvironmentFile= in the unit\n",
        ),
    ] {
        let folder = folder(&text.replace("client_secret_file = \"acme.secret\"", line));
        let (code, _, stderr) = check(&folder.path().join("config.toml"), &[]);
        assert_eq!(code, Some(78), "{stderr}");
        assert!(stderr.contains(advice), "{stderr}");
    }
}

#[test]
fn wrong_login_of_two_files_is_sent_to_the_proxy_once() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let proxy = listener.local_addr().unwrap();
    let (sender, attempts) = channel();
    thread::spawn(move || {
        for client in listener.incoming() {
            let mut client = client.unwrap();
            let _ = client.read(&mut [0; 4096]);
            let answer =
                "HTTP/1.1 407 No\r\nProxy-Authenticate: Basic\r\nContent-Length: 0\r\n\r\n";
            let _ = client.write_all(answer.as_bytes());
            sender.send(()).unwrap();
        }
    });
    let client = |name: &str| {
        format!(
            "[clients.{name}]\nclient_id = \"{name}\"\nclient_secret_file = \"acme.secret\"\n\
             tokens = [\"data\"]\nproxy = \"http://{proxy}\"\nproxy_auth_file = \"{name}.login\"\n"
        )
    };
    let clients = ["acme", "beta"];
    let folder = folder(&clients.map(client).concat());
    for name in clients {
        let login = folder.path().join(format!("{name}.login"));
        fs::write(&login, "ann:c4nary\n").unwrap();
        chmod(&login, 0o600);
    }
    let config = folder.path().join("config.toml");
    let (code, _, stderr) = check(&config, &["--online"]);
    assert_eq!(code, Some(78), "{stderr}");
    assert!(
        stderr.contains("not requested, because an earlier request failed"),
        "{stderr}"
    );
    assert_eq!(attempts.try_iter().count(), 1, "{stderr}");
}

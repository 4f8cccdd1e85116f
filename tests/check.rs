//! `domo-tokend check`: what it prints where, and in which order.

#![expect(clippy::unwrap_used, reason = "in a test, what fails says so")]

mod common;

use std::io::Read;
use std::path::Path;
use std::process::Command;

use common::{HOUR, check, client_text, config_text, folder, sandbox};
use domo_sandbox::{Fault, Sandbox};

/// A config of the clients `acme` and `beta`, of which `acme` is the default.
fn two_clients(sandbox: &Sandbox) -> String {
    let default = "[broker]\ndefault_client = \"acme\"\n";
    let beta = client_text("beta", sandbox, "[\"user\"]");
    format!("{default}{}{beta}", config_text(sandbox, "[\"data\"]"))
}

/// The lines of both streams as one terminal shows them, without the program's name.
fn on_one_terminal(config: &Path, arguments: &[&str]) -> Vec<String> {
    let (mut terminal, writer) = std::io::pipe().unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_domo-tokend"));
    command.env_clear().arg("check").args(arguments);
    command.arg("--config").arg(config);
    command.stdout(writer.try_clone().unwrap()).stderr(writer);
    let mut child = command.spawn().unwrap();
    // The writing ends that the command holds.
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
fn check_of_what_is_right_prints_ok_lines_alone() {
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
    let (code, stdout, stderr) = check(Path::new("/none/config.toml"), &[]);
    assert_eq!((code, stdout.as_str()), (Some(78), ""), "{stderr}");
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
fn config_with_a_name_that_is_nobody_is_not_ok() {
    let sandbox = sandbox(HOUR);
    let access = "[clients.acme.access]\ndata = { users = [\"no-such-user\"] }\n";
    let folder = folder(&(config_text(&sandbox, "[\"data\"]") + access));
    let (code, stdout, stderr) = check(&folder.path().join("config.toml"), &[]);
    assert_eq!(code, Some(78), "{stderr}");
    assert!(!stdout.contains("config.toml: ok"), "{stdout}");
}

//! `[fleet]` in the config: what `check` reports about it, and how the daemon loads it.

use std::fs;
use std::path::Path;
use std::process::Command;

use crate::common::{
    CANARY_SECRET, CLIENT_ID, Daemon, HOUR, check, chmod, client_text, config_text, folder, parts,
    sandbox, token,
};
use domo_sandbox::Sandbox;
use tempfile::TempDir;

/// A server on a port that nothing listens on.
const FLEET: &str = "[fleet]\nurl = \"redis://127.0.0.1:1\"\npassword_file = \"redis.password\"\n";

fn secret_file(folder: &Path, name: &str, content: &str) {
    fs::write(folder.join(name), content).unwrap();
    chmod(folder.join(name), 0o600);
}

/// A folder with a config with that fleet, and the files for it. The client's secret is short.
fn folder_with(fleet: &str, sandbox: &Sandbox) -> TempDir {
    let folder = folder(&format!("{fleet}{}", config_text(sandbox, "[\"data\"]")));
    secret_file(folder.path(), "redis.password", "c4nary-password\n");
    secret_file(folder.path(), "fleet.key", &"c4nary-k".repeat(4));
    folder
}

#[test]
fn check_of_a_valid_fleet_prints_it_although_its_server_is_out_of_reach() {
    let sandbox = sandbox(HOUR);
    let fleet = format!("{FLEET}key_file = \"fleet.key\"\nusername = \"domo-token\"\n");
    let folder = folder_with(&fleet, &sandbox);
    let config = folder.path().join("config.toml");
    let (code, stdout, stderr) = check(&config, &[]);
    assert_eq!((code, &*stderr), (Some(0), ""), "{stdout}");
    let expected = "fleet (127.0.0.1:1, no TLS, login \"domo-token\", key file): ok\n";
    assert!(stdout.ends_with(expected), "{stdout}");
    let (code, stdout, stderr) = check(&config, &["--syntax"]);
    assert_eq!((code, &*stderr), (Some(0), ""), "{stdout}");
    secret_file(folder.path(), "redis.password", "c4nary-password \n");
    let (code, _, stderr) = check(&config, &[]);
    assert_eq!(code, Some(0), "{stderr}");
    assert!(
        stderr.contains("fleet: password ends with a space"),
        "{stderr}"
    );
}

#[test]
fn check_exits_78_if_a_file_of_the_fleet_cannot_be_used() {
    let sandbox = sandbox(HOUR);
    let fleet = format!("{FLEET}key_file = \"fleet.key\"\n");
    let folder = folder_with(&fleet, &sandbox);
    let config = folder.path().join("config.toml");
    let key = folder.path().join("fleet.key");
    let password = folder.path().join("redis.password");
    let error = |message: &str| {
        let (code, stdout, stderr) = check(&config, &[]);
        assert_eq!(code, Some(78), "{stderr}");
        assert!(stderr.starts_with("domo-tokend: fleet "), "{stderr}");
        assert!(stderr.contains(message), "{stderr}");
        assert!(
            stdout.contains("client \"acme\" (441e307a…): ok\n"),
            "{stdout}"
        );
        assert!(!stderr.contains("c4nary"), "{stderr}");
    };
    fs::write(&key, "c4nary\n").unwrap();
    error("must have at least 32 bytes");
    fs::write(&key, "c4nary-k".repeat(4)).unwrap();
    chmod(&password, 0o644);
    error("mode 0644 lets others read it");
    fs::remove_file(&password).unwrap();
    error("redis.password: No such file or directory");
}

#[test]
fn failed_password_command_is_temporary_in_check() {
    let sandbox = sandbox(HOUR);
    let fleet = "[fleet]\nurl = \"redis://127.0.0.1\"\npassword_command = [\"/bin/false\"]\n";
    let folder = folder_with(fleet, &sandbox);
    let (code, _, stderr) = check(&folder.path().join("config.toml"), &[]);
    assert_eq!(code, Some(75), "{stderr}");
    let message = "domo-tokend: fleet password from the command /bin/false: exit status: 1";
    assert!(stderr.contains(message), "{stderr}");
}

#[test]
fn check_names_each_client_whose_secret_is_short_and_that_shares() {
    let sandbox = sandbox(HOUR);
    let excluded = client_text("beta", &sandbox, "[\"user\"]") + "fleet = false\n";
    let default = "[broker]\ndefault_client = \"acme\"\n";
    let folder = folder_with(&format!("{default}{FLEET}{excluded}"), &sandbox);
    let config = folder.path().join("config.toml");
    let (code, stdout, stderr) = check(&config, &[]);
    assert_eq!(code, Some(78), "{stderr}");
    let message = "client \"acme\": its tokens are not shared: the store's operator could guess a \
                   client secret of fewer than 32 characters";
    assert!(stderr.contains(message), "{stderr}");
    assert!(!stderr.contains("beta"), "{stderr}");
    assert!(
        stdout.contains("client \"acme\" (441e307a…): ok\n"),
        "{stdout}"
    );
    assert_eq!(stderr.lines().count(), 2, "{stderr}");
}

#[test]
fn variables_alone_configure_a_fleet_that_check_validates() {
    let sandbox = sandbox(HOUR);
    let folder = folder_with("", &sandbox);
    let run = |password: &str| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_domo-tokend"));
        command.env_clear().arg("check").envs([
            ("DOMO_CLIENT_ID", CLIENT_ID),
            ("DOMO_CLIENT_SECRET", &CANARY_SECRET.repeat(2)),
            ("DOMO_TOKEN_URL", sandbox.token_url().as_str()),
            ("DOMO_FLEET_URL", "rediss://127.0.0.1/3"),
            ("HOME", folder.path().to_str().unwrap()),
            ("XDG_RUNTIME_DIR", folder.path().to_str().unwrap()),
        ]);
        let password = folder.path().join(password);
        parts(
            &command
                .env("DOMO_FLEET_PASSWORD_FILE", password)
                .output()
                .unwrap(),
        )
    };
    let (code, stdout, stderr) = run("redis.password");
    assert_eq!(code, Some(0), "{stderr}");
    assert!(
        stdout.contains("fleet (127.0.0.1:6379, TLS, password, no key file): ok"),
        "{stdout}"
    );
    let (code, _, stderr) = run("missing");
    assert_eq!(code, Some(78), "{stderr}");
    assert!(
        stderr.starts_with("domo-tokend: fleet password "),
        "{stderr}"
    );
}

#[test]
fn daemon_runs_without_a_fleet_whose_file_is_missing_until_it_is_there() {
    let sandbox = sandbox(HOUR);
    let fleet = format!("{FLEET}key_file = \"fleet.key\"\n");
    let folder = folder_with(&fleet, &sandbox);
    let key = folder.path().join("fleet.key");
    let content = fs::read_to_string(&key).unwrap();
    fs::remove_file(&key).unwrap();
    let mut daemon = Daemon::start_in(folder);
    let message = "fleet could not be loaded; tokens are not shared";
    assert!(daemon.log.contains(message), "{}", daemon.log);
    let cached = token(&daemon.ask(&["data"]));
    let status = daemon.status();
    let error = status["broker"]["config_error"].as_str().unwrap();
    assert!(
        error.starts_with("fleet could not be loaded: fleet key_file "),
        "{error}"
    );
    let shown = &status["broker"]["fleet"];
    assert_eq!(shown["up"], false, "{shown}");
    assert!(shown["last_error"].is_null(), "{shown}");
    secret_file(daemon.folder(), "fleet.key", &content);
    daemon.wait_for_log("fleet loaded");
    daemon.wait_for_log("config loaded");
    assert!(daemon.status()["broker"]["config_error"].is_null());
    assert_eq!(token(&daemon.ask(&["data"])), cached);
    // A fleet whose file is gone does not stay in use.
    fs::remove_file(&key).unwrap();
    daemon.wait_for_log(message);
    assert_eq!(sandbox.requests().len(), 1);
}

#[test]
fn daemon_reports_a_client_that_cannot_share_its_tokens_until_there_is_a_key_file() {
    let sandbox = sandbox(HOUR);
    let mut daemon = Daemon::start_in(folder_with(FLEET, &sandbox));
    let message = "its tokens are not shared: the store's operator could guess";
    assert!(daemon.log.contains(message), "{}", daemon.log);
    let status = daemon.status();
    let error = status["broker"]["config_error"].as_str().unwrap();
    assert!(
        error.starts_with("client \"acme\": its tokens are not shared"),
        "{error}"
    );
    let shown = &status["broker"]["fleet"];
    assert!(shown["last_error"].is_null(), "{shown}");
    token(&daemon.ask(&["data"]));
    let fleet = format!("{FLEET}key_file = \"fleet.key\"\n");
    daemon.write(
        "config.toml",
        &format!("{fleet}{}", config_text(&sandbox, "[\"data\"]")),
    );
    assert!(daemon.reload().contains("config loaded"));
    assert!(daemon.status()["broker"]["config_error"].is_null());
    assert_eq!(sandbox.requests().len(), 1);
}

#[test]
fn password_command_of_a_fleet_runs_without_delaying_the_start() {
    let sandbox = sandbox(HOUR);
    let fleet = "[fleet]\nurl = \"redis://127.0.0.1:1\"\nkey_file = \"fleet.key\"\n\
                 password_command = [\"/bin/sh\", \"-c\", \"read line < gate; echo $line\"]\n";
    let folder = folder_with(fleet, &sandbox);
    let gate = folder.path().join("gate");
    let made = Command::new("mkfifo").arg(&gate).status().unwrap();
    assert!(made.success());
    let mut command = Daemon::command(folder.path());
    command.current_dir(folder.path());
    let mut daemon = Daemon::start_as(command, folder);
    token(&daemon.ask(&["data"]));
    assert!(!daemon.log.contains("fleet loaded"), "{}", daemon.log);
    fs::write(&gate, "c4nary-password\n").unwrap();
    daemon.wait_for_log("fleet loaded");
    fs::remove_file(&gate).unwrap();
    secret_file(daemon.folder(), "gate", "c4nary-password\n");
    daemon.reload();
    assert!(daemon.status()["broker"]["config_error"].is_null());
}

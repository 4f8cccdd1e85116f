//! `check` with a fleet, and configs that turn it off.

use std::path::{Path, PathBuf};
use std::process::Command;

use super::hosts::{
    Fleet, SECRET, client, domo, engine, host_folder, keys, section, shared_token, token_of,
    write_private,
};
use crate::common::{CANARY_SECRET, CLIENT_ID, Daemon, HOUR, check};

fn config(folder: &Path) -> PathBuf {
    folder.join("config.toml")
}

#[test]
fn check_online_reports_the_engine_and_its_clock() {
    let Some(fleet) = Fleet::start(HOUR) else {
        return;
    };
    let folder = host_folder(&fleet.config());
    for arguments in [&[][..], &["--online"]] {
        let (code, stdout, stderr) = check(&config(folder.path()), arguments);
        assert_eq!((code, stderr.as_str()), (Some(0), ""));
        assert!(stdout.contains("fleet"), "{stdout}");
    }
    let (_, stdout, _) = check(&config(folder.path()), &["--online"]);
    assert!(stdout.contains("clock"), "{stdout}");
    assert!(fleet.keys("").is_empty(), "its probe is deleted");
}

#[test]
fn unreachable_engine_is_an_error_of_check_online_alone() {
    let Some(mut fleet) = Fleet::start(HOUR) else {
        return;
    };
    let folder = host_folder(&fleet.config());
    fleet.engine.kill();
    let (code, _, stderr) = check(&config(folder.path()), &[]);
    assert_eq!((code, stderr.as_str()), (Some(0), ""));
    let (code, _, stderr) = check(&config(folder.path()), &["--online"]);
    assert_eq!(code, Some(75), "{stderr}");
    assert!(
        stderr.contains(&fleet.engine.port().to_string()),
        "{stderr}"
    );
}

#[test]
fn missing_permission_is_found_by_check_online() {
    let Some(engine) = engine("") else {
        return;
    };
    let sandbox = domo(HOUR);
    let folder = host_folder(&(client(&sandbox) + &section(&engine.url(), "")));
    for missing in ["get", "set", "time", "pexpire", "del"] {
        let all = ["get", "set", "time", "pexpire", "del"];
        let rules = all
            .iter()
            .filter(|rule| **rule != missing)
            .map(|rule| format!("+{rule}"));
        let rules: Vec<String> = rules.collect();
        let mut command = vec![
            "ACL",
            "SETUSER",
            "default",
            "resetkeys",
            "~domo-token:*",
            "-@all",
            "+acl",
        ];
        command.extend(rules.iter().map(String::as_str));
        assert_eq!(engine.cli(&command), "OK");
        let (code, _, stderr) = check(&config(folder.path()), &["--online"]);
        assert_eq!(code, Some(75), "{missing}: {stderr}");
        assert!(
            stderr.to_lowercase().contains(missing),
            "{missing}: {stderr}"
        );
    }
}

#[test]
fn wrong_password_is_found_by_check_online_and_printed_nowhere() {
    let Some(engine) = engine("requirepass right") else {
        return;
    };
    let sandbox = domo(HOUR);
    let lines = "password_file = \"redis.password\"";
    let folder = host_folder(&(client(&sandbox) + &section(&engine.url(), lines)));
    write_private(&folder, "redis.password", "c4nary-wrong\n");
    let (code, stdout, stderr) = check(&config(folder.path()), &["--online"]);
    assert_eq!(code, Some(75), "{stderr}");
    assert!(
        !stdout.contains("c4nary") && !stderr.contains("c4nary"),
        "{stderr}"
    );
    write_private(&folder, "redis.password", "right\n");
    let (code, _, stderr) = check(&config(folder.path()), &["--online"]);
    assert_eq!(code, Some(0), "{stderr}");
}

/// Configs that turn the fleet off: it could be attacked offline, or a file is missing.
#[test]
fn short_secret_or_key_turns_the_fleet_off_with_78_and_the_daemon_runs() {
    let Some(engine) = engine("") else {
        return;
    };
    let cases = [
        ("", CANARY_SECRET, None),
        ("key_file = \"fleet.key\"", SECRET, Some("too short")),
        ("key_file = \"none.key\"", SECRET, None),
        ("password_file = \"none.password\"", SECRET, None),
    ];
    for (lines, secret, key) in cases {
        let sandbox = domo(HOUR);
        sandbox.add_client(CLIENT_ID, secret, &["data"]);
        let folder = host_folder(&(client(&sandbox) + &section(&engine.url(), lines)));
        write_private(&folder, "acme.secret", secret);
        if let Some(key) = key {
            write_private(&folder, "fleet.key", key);
        }
        let (code, _, stderr) = check(&config(folder.path()), &[]);
        assert_eq!(code, Some(78), "{lines}: {stderr}");
        let host = Daemon::start_in(folder);
        token_of(&host);
        assert!(keys(&engine, "").is_empty(), "{lines}");
        assert!(host.log.contains("fleet"), "{lines}: {}", host.log);
        let broker = host.status()["broker"].clone();
        assert!(broker["config_error"].is_string(), "{lines}: {broker}");
        let error = &broker["fleet"]["last_error"];
        assert!(error.is_null(), "{lines}: {broker}");
    }
}

#[test]
fn short_secret_with_a_key_file_shares() {
    let Some(engine) = engine("") else {
        return;
    };
    let sandbox = domo(HOUR);
    sandbox.add_client(CLIENT_ID, CANARY_SECRET, &["data"]);
    let start = || {
        let config = client(&sandbox) + &section(&engine.url(), "key_file = \"fleet.key\"");
        let folder = host_folder(&config);
        write_private(&folder, "acme.secret", CANARY_SECRET);
        write_private(&folder, "fleet.key", "0123456789abcdef0123456789abcdef");
        Daemon::start_in(folder)
    };
    let hosts = [start(), start()];
    shared_token(&hosts);
    assert_eq!(sandbox.requests().len(), 1);
}

#[test]
fn environment_alone_configures_a_fleet() {
    let Some(fleet) = Fleet::start(HOUR) else {
        return;
    };
    let token = fleet.publish_token();
    let folder = host_folder("");
    let socket = folder.path().join("broker.sock");
    let secret = folder.path().join("acme.secret");
    let mut command = Command::new(env!("CARGO_BIN_EXE_domo-tokend"));
    command.env_clear().arg("--socket").arg(socket);
    for (name, value) in [
        ("DOMO_CLIENT_ID", CLIENT_ID),
        ("DOMO_CLIENT_SECRET_FILE", secret.to_str().unwrap()),
        ("DOMO_TOKEN_URL", &fleet.sandbox.token_url()),
        ("DOMO_FLEET_URL", &fleet.engine.url()),
    ] {
        command.env(name, value);
    }
    let host = Daemon::start_as(command, folder);
    assert_eq!(token_of(&host), token);
    assert_eq!(fleet.requests(), 1);
}

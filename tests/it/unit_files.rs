//! The files in `systemd/`: units without warnings by systemd, and a valid example config.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

use crate::common::print_skip;

const UNITS: [&str; 3] = [
    "domo-tokend.service",
    "domo-tokend.socket",
    "domo-tokend-retry-delay.service",
];

/// The ports of the gateway. A user's own broker has no such units, and binds them by its config.
const GATEWAY_UNITS: [&str; 2] = [
    "domo-tokend-gateway.socket",
    "domo-tokend-gateway-tls.socket",
];

fn systemd(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("systemd")
        .join(name)
}

/// The units in that folder of `systemd/`, with the daemon of this build.
fn units(folder: &str) -> TempDir {
    let copy = tempfile::tempdir().unwrap();
    for name in UNITS {
        let text = fs::read_to_string(systemd(folder).join(name)).unwrap();
        let text = text.replace("/usr/bin/domo-tokend", env!("CARGO_BIN_EXE_domo-tokend"));
        fs::write(copy.path().join(name), text).unwrap();
    }
    copy
}

/// Returns what `systemd-analyze` reports about the units, if it is installed.
fn analyze(folder: &Path, arguments: &[&str], names: &[&str]) -> Option<(Option<i32>, String)> {
    let mut command = Command::new("systemd-analyze");
    command.args(arguments).env("LC_ALL", "C");
    // The user manager requires it.
    command.env("XDG_RUNTIME_DIR", folder);
    let output = command.args(names.iter().map(|name| folder.join(name)));
    let Ok(output) = output.output() else {
        print_skip("no systemd-analyze here");
        return None;
    };
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let printed = text(&output.stdout) + &text(&output.stderr);
    Some((output.status.code(), printed))
}

/// Returns the lines about these units, without those about the host's units.
fn messages_about_our_units(output: &str) -> Vec<&str> {
    output
        .lines()
        .filter(|line| line.contains("domo-token"))
        .collect()
}

const SYSTEM: [&str; 2] = ["verify", "--man=no"];
const USER: [&str; 3] = ["--user", "verify", "--man=no"];

#[test]
fn system_and_user_units_pass_systemd_analyze_verify() {
    for (folder, arguments) in [("", &SYSTEM[..]), ("user", &USER[..])] {
        let copy = units(folder);
        let Some((code, output)) = analyze(copy.path(), arguments, &UNITS) else {
            return;
        };
        assert!(
            code == Some(0) && messages_about_our_units(&output).is_empty(),
            "{output}"
        );
    }
}

#[test]
fn ports_of_the_gateway_pass_systemd_analyze_verify() {
    let copy = units("");
    for name in GATEWAY_UNITS {
        fs::copy(systemd(name), copy.path().join(name)).unwrap();
    }
    let names = [UNITS.as_slice(), &GATEWAY_UNITS].concat();
    let Some((code, output)) = analyze(copy.path(), &SYSTEM, &names) else {
        return;
    };
    assert!(
        code == Some(0) && messages_about_our_units(&output).is_empty(),
        "{output}"
    );
}

#[test]
fn ports_of_the_gateway_have_the_names_and_the_addresses_of_the_docs() {
    let guide = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/gateway.md");
    let guide = fs::read_to_string(guide).unwrap();
    let settings = [("gateway", "listen"), ("gateway-tls", "tls_listen")];
    for (unit, (name, key)) in GATEWAY_UNITS.into_iter().zip(settings) {
        let text = fs::read_to_string(systemd(unit)).unwrap();
        let value = |key: &str| text.lines().find_map(|line| line.strip_prefix(key));
        assert_eq!(value("FileDescriptorName="), Some(name));
        assert_eq!(value("Service="), Some(UNITS[0]));
        let address = value("ListenStream=").unwrap();
        assert!(guide.contains(&format!("{key} = \"{address}\"")), "{key}");
    }
}

#[test]
fn unknown_key_in_a_unit_is_reported_by_systemd_analyze() {
    for (folder, arguments) in [("", &SYSTEM[..]), ("user", &USER[..])] {
        let copy = units(folder);
        for name in UNITS {
            let path = copy.path().join(name);
            let text = fs::read_to_string(&path).unwrap();
            fs::write(path, text.replace("[Unit]\n", "[Unit]\nNoSuchKey=yes\n")).unwrap();
        }
        let Some((_, output)) = analyze(copy.path(), arguments, &UNITS) else {
            return;
        };
        assert_eq!(
            messages_about_our_units(&output).len(),
            UNITS.len(),
            "{output}"
        );
    }
}

#[test]
fn service_has_a_low_exposure_score() {
    let copy = units("");
    let arguments = ["security", "--offline=yes", "--threshold=15"];
    let Some((code, output)) = analyze(copy.path(), &arguments, &UNITS[..1]) else {
        return;
    };
    let overall = output
        .lines()
        .find(|line| line.contains("Overall exposure"));
    assert!(code == Some(0) && overall.is_some(), "{output}");
}

#[test]
fn service_hides_neither_users_nor_processes_of_callers() {
    let service = fs::read_to_string(systemd(UNITS[0])).unwrap();
    let set = |key: &str| service.lines().any(|line| line.starts_with(key));
    assert!(!set("PrivateUsers="), "every caller would be nobody");
    for key in ["ProtectProc=", "ProcSubset="] {
        assert!(!set(key), "{key} would hide the callers' cgroups");
    }
}

#[test]
fn restart_settings_are_the_same_in_system_and_user_units() {
    const SETTINGS: [&str; 10] = [
        "StartLimitIntervalSec=",
        "Restart=",
        "RestartSec=",
        "RestartForceExitStatus=",
        "OnFailure=",
        "Environment=DELAY_S=",
        "TimeoutStartSec=",
        "TriggerLimitIntervalSec=",
        "TriggerLimitBurst=",
        "RemoveOnStop=",
    ];
    let settings = |folder: &str, name: &str| -> Vec<String> {
        let text = fs::read_to_string(systemd(folder).join(name)).unwrap();
        let is_setting = |line: &&str| SETTINGS.iter().any(|key| line.starts_with(key));
        text.lines().filter(is_setting).map(str::to_owned).collect()
    };
    for name in UNITS {
        let hosts = settings("", name);
        assert!(!hosts.is_empty(), "{name}");
        assert_eq!(hosts, settings("user", name));
    }
}

#[test]
fn units_use_users_and_groups_of_the_package() {
    let made = fs::read_to_string(systemd("domo-token.sysusers")).unwrap();
    let is_made = |kind: &str, name: &str| {
        made.lines()
            .any(|line| line.starts_with(&format!("{kind} {name} ")))
    };
    let service = fs::read_to_string(systemd(UNITS[0])).unwrap();
    let socket = fs::read_to_string(systemd(UNITS[1])).unwrap();
    let value = |text: &str, key: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(key));
        line.unwrap().to_owned()
    };
    assert!(is_made("u", &value(&service, "User=")));
    assert_eq!(value(&service, "User="), value(&service, "Group="));
    let callers = value(&socket, "SocketGroup=");
    assert!(is_made("g", &callers));
    assert_ne!(callers, value(&service, "Group="));
}

/// Returns the errors of `domo-tokend check --syntax` for a config.
fn syntax_error(config: &str) -> Option<String> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("config.toml");
    fs::write(&path, config).unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_domo-tokend"))
        .args(["check", "--syntax", "--config"])
        .arg(path)
        .env_clear()
        .output()
        .unwrap();
    let words = String::from_utf8_lossy(&output.stderr).into_owned();
    (!output.status.success()).then_some(words)
}

#[test]
fn example_config_is_valid_with_and_without_its_commented_lines() {
    let example = fs::read_to_string(systemd("config.toml")).unwrap();
    assert_eq!(syntax_error(&example), None);
    // "#key" is a commented-out key, "# word" a comment; only one source of a secret can be set.
    let all: String = example
        .lines()
        .filter(|line| !line.starts_with("client_secret_file"))
        .map(|line| {
            line.strip_prefix('#')
                .filter(|key| !key.starts_with(' '))
                .unwrap_or(line)
        })
        .flat_map(|line| [line, "\n"])
        .collect();
    assert_eq!(syntax_error(&all), None, "{all}");
    assert_ne!(all, example);
    assert!(syntax_error(&all.replace("groups", "grops")).is_some());
}

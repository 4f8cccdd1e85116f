//! `[gateway]` in the config: what `check` reports about it and its files.

use std::fs;
use std::path::Path;

use crate::common::{Daemon, HOUR, check, chmod, config_text, folder, sandbox};
use domo_sandbox::Sandbox;
use domo_token::credentials::SecretHash;
use rcgen::{CertificateParams, KeyPair};
use tempfile::TempDir;

const RULE: &str = "{ methods = [\"*\"], path = \"/v1/datasets/**\", scopes = \"data\" }";

/// A file of the gateway, what is wrong with its content and its mode, and the message. Without a content it is missing.
const UNUSABLE: &[(&str, Option<&str>, u32, &str)] = &[
    (
        "etl.hash",
        None,
        0,
        "application \"etl\": secret_hash_file ",
    ),
    (
        "etl.hash",
        Some("c4nary"),
        0o600,
        "line 1 is not a SHA-256 hash",
    ),
    (
        "etl.hash",
        Some(""),
        0o666,
        "mode 0666 lets others write it",
    ),
    (
        "gateway.key",
        None,
        0,
        "create it: domo-tokend app add NAME",
    ),
    (
        "gateway.key",
        Some("c4nary"),
        0o600,
        "must have 32 random bytes",
    ),
    (
        "gateway.key",
        Some("c4nary"),
        0o644,
        "mode 0644 lets others read it; run: chmod",
    ),
    (
        "tls.pem",
        Some("c4nary"),
        0o600,
        "gateway: cannot use tls_cert_file",
    ),
    (
        "tls.key",
        Some("c4nary"),
        0o600,
        "gateway: cannot use tls_key_file",
    ),
    ("tls.key", None, 0, "gateway tls_key_file "),
];

fn write(folder: &Path, name: &str, content: impl AsRef<[u8]>) {
    fs::write(folder.join(name), content).unwrap();
    chmod(folder.join(name), 0o600);
}

/// Returns a folder with a config with an application `etl` that has these rules, and the files for it.
fn folder_with(lines: &str, rules: &str) -> (Sandbox, TempDir) {
    let sandbox = sandbox(HOUR);
    let config = config_text(&sandbox, "[\"data\", \"user\"]");
    let folder = folder(&format!(
        "{config}[gateway]\nlisten = \"127.0.0.1:8640\"\n{lines}[gateway.apps.etl]\nclient = \"acme\"\n\
         allow = [{rules}]\n"
    ));
    write(folder.path(), "gateway.key", [7; 32]);
    let hash = SecretHash::of(b"secret").to_string();
    write(folder.path(), "etl.hash", hash);
    (sandbox, folder)
}

#[test]
fn check_of_a_valid_gateway_prints_it_and_its_applications() {
    let (_sandbox, folder) = folder_with("", RULE);
    let config = folder.path().join("config.toml");
    for arguments in [&[][..], &["--online"]] {
        let (code, stdout, stderr) = check(&config, arguments);
        assert_eq!((code, &*stderr), (Some(0), ""), "{stdout}");
        let expected = "gateway (127.0.0.1:8640): ok\n\
                        application \"etl\" (client \"acme\"): ok, 1 secret\n";
        assert!(stdout.ends_with(expected), "{stdout}");
        if arguments.is_empty() {
            assert_eq!(stdout.lines().count(), 4, "{stdout}");
        }
    }
}

#[test]
fn check_exits_78_if_a_file_of_the_gateway_cannot_be_used() {
    let tls = "tls_listen = \"127.0.0.1:8641\"\ntls_cert_file = \"tls.pem\"\ntls_key_file = \"tls.key\"\n";
    let (_sandbox, folder) = folder_with(tls, RULE);
    let config = folder.path().join("config.toml");
    let key = KeyPair::generate().unwrap();
    let params = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
    write(
        folder.path(),
        "tls.pem",
        params.self_signed(&key).unwrap().pem(),
    );
    write(folder.path(), "tls.key", key.serialize_pem());
    let (code, stdout, stderr) = check(&config, &[]);
    assert_eq!((code, &*stderr), (Some(0), ""), "{stdout}");
    let line = "gateway (127.0.0.1:8640, 127.0.0.1:8641 with TLS): ok\n";
    assert!(stdout.contains(line), "{stdout}");
    for (name, content, mode, message) in UNUSABLE.iter().copied() {
        let path = folder.path().join(name);
        let good = fs::read(&path).unwrap();
        fs::remove_file(&path).unwrap();
        if let Some(content) = content {
            fs::write(&path, content).unwrap();
            chmod(&path, mode);
        }
        let (code, stdout, stderr) = check(&config, &[]);
        assert_eq!(code, Some(78), "{name}: {stdout}{stderr}");
        assert!(stderr.contains(message), "{name}: {stderr}");
        assert!(stderr.ends_with("\ndomo-tokend: 1 error\n"), "{stderr}");
        assert!(!stderr.contains("c4nary"), "{stderr}");
        assert!(stdout.contains("config.toml: ok\n"), "{stdout}");
        let (code, ..) = check(&config, &["--syntax"]);
        assert_eq!(code, Some(0));
        write(folder.path(), name, good);
    }
}

#[test]
fn check_warns_about_a_rule_that_an_earlier_one_covers() {
    let later = "{ methods = [\"GET\"], path = \"/v1/datasets/*/data\", scopes = \"user\" }";
    let other = "{ methods = [\"GET\"], path = \"/v1/users\", scopes = \"user\" }";
    let (_sandbox, folder) = folder_with("", &[other, RULE, later].join(", "));
    for arguments in [&[][..], &["--syntax"]] {
        let (code, _, stderr) = check(&folder.path().join("config.toml"), arguments);
        assert_eq!(
            (code, &*stderr),
            (
                Some(0),
                "domo-tokend: warning: application \"etl\": allow[2] (GET /v1/datasets/*/data) can never match, \
                 because allow[1] covers it; remove it, or move it up\ndomo-tokend: 1 warning\n"
            )
        );
    }
    let (_sandbox, folder) = folder_with("", &[later, RULE, other].join(", "));
    let (code, _, stderr) = check(&folder.path().join("config.toml"), &[]);
    assert_eq!((code, &*stderr), (Some(0), ""));
}

#[test]
fn gateway_without_an_application_is_a_warning_and_needs_no_key() {
    let sandbox = sandbox(HOUR);
    let config = config_text(&sandbox, "[\"data\"]");
    let folder = folder(&format!("{config}[gateway]\nlisten = \"127.0.0.1:8640\"\n"));
    let (code, stdout, stderr) = check(&folder.path().join("config.toml"), &[]);
    assert_eq!(code, Some(0), "{stderr}");
    assert!(
        stdout.ends_with("gateway (127.0.0.1:8640): ok\n"),
        "{stdout}"
    );
    let warning = "domo-tokend: warning: gateway.apps: no application, so every request is denied; add one: \
                   domo-tokend app add NAME\ndomo-tokend: 1 warning\n";
    assert_eq!(stderr, warning);
}

#[test]
fn changed_listener_is_logged_until_a_restart_and_a_wrong_rule_rejects_the_config() {
    let sandbox = sandbox(HOUR);
    let client = config_text(&sandbox, "[\"data\"]");
    let gateway = |listen: &str| format!("{client}[gateway]\nlisten = \"{listen}\"\n");
    let mut daemon = Daemon::start(&gateway("127.0.0.1:0"));
    daemon.write("config.toml", &gateway("127.0.0.2:0"));
    daemon.wait_for_log("gateway.listen changed; restart the daemon to apply it");
    daemon.wait_for_log("config loaded");
    let app = "[gateway.apps.etl]\nclient = \"acme\"\nallow = [{}]\n";
    daemon.write("config.toml", &(gateway("127.0.0.1:0") + app));
    let line = daemon.wait_for_log("config rejected, keeping the previous one");
    assert!(
        line.contains("gateway.apps.etl.allow[0].methods: missing"),
        "{line}"
    );
    let rules = app.replace("{}", RULE);
    daemon.write("config.toml", &(gateway("127.0.0.1:0") + &rules));
    daemon.wait_for_log("config loaded");
}

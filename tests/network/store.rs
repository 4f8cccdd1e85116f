//! The system's trust store as `update-ca-certificates` changes it.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use domo_sandbox::Sandbox;

use super::common::wait::until;
use super::common::{CANARY_SECRET, CLIENT_ID, Daemon, check, parts, token};
use super::namespace::folder;
use super::programs::{are_installed, installed};
use crate::common::folder_for;

const LOCAL: &str = "/usr/local/share/ca-certificates";

/// Mounts copies over the directories that `update-ca-certificates` reads and writes, so that the machine's store
/// stays unchanged.
const COPY: &str = r#"
set -e
for directory in /etc/ssl /usr/local/share/ca-certificates; do
    mkdir -p "$1/copy$directory" "$directory"
    cp -a "$directory/." "$1/copy$directory"
    mount --bind "$1/copy$directory" "$directory"
done
"#;

fn update() {
    let mut command = Command::new(installed("update-ca-certificates").unwrap());
    let hooks = folder().join("hooks");
    fs::create_dir_all(&hooks).unwrap();
    // Hooks belong to other programs and write to their own stores.
    let output = command.arg("--hooksdir").arg(hooks).output().unwrap();
    assert!(output.status.success(), "{output:?}");
}

#[test]
#[ignore = "network_cases_pass_in_their_own_namespaces runs it"]
fn added_ca_is_trusted_and_removed_one_distrusted_at_the_next_attempt() {
    if !are_installed(&["update-ca-certificates", "openssl"]) {
        return;
    }
    let copied = Command::new("sh")
        .args(["-c", COPY, "sh"])
        .arg(folder())
        .status();
    assert!(copied.unwrap().success());
    let builder = Sandbox::builder().client(CLIENT_ID, CANARY_SECRET, &["data"]);
    let sandbox = builder
        .lifetime(Duration::from_secs(4))
        .https(true)
        .start()
        .unwrap();
    sandbox.stop_listening().unwrap();
    // After a refused connection the next attempt follows within seconds; after a TLS failure it would be a minute.
    let config = folder_for(&sandbox.token_url(), None);
    let path = config.path().join("config.toml");
    let mut daemon = Daemon::start_in(config);
    daemon.wait_for_log("cause=connect");
    let ca = Path::new(LOCAL).join("domo-token-test.crt");
    fs::write(&ca, sandbox.ca_pem().unwrap()).unwrap();
    update();
    sandbox.listen_again().unwrap();
    token(&daemon.ask(&["--wait", "--timeout", "20s", "data"]));
    let (code, _, stderr) = check(&path, &["--online"]);
    assert_eq!(code, Some(0), "{stderr}");

    fs::remove_file(&ca).unwrap();
    update();
    let before = sandbox.requests().len();
    daemon.wait_for_log("cause=tls");
    // A request that was in flight while the store changed may have succeeded.
    let after = sandbox.requests().len();
    assert!(after <= before + 1, "{before} requests, then {after}");
    let connections = sandbox.connections();
    let (code, _, stderr) = check(&path, &["--online"]);
    assert_eq!(code, Some(75), "{stderr}");
    assert_eq!(sandbox.requests().len(), after, "the secret was sent");
    assert!(sandbox.connections() > connections);
    // Earlier tokens stay valid until they expire.
    until(|| match parts(&daemon.ask(&["--timeout", "1s", "data"])) {
        (Some(75), _, stderr) if stderr.contains("cannot verify") => Ok(()),
        other => Err(other),
    });
    assert_eq!(sandbox.requests().len(), after, "the secret was sent");
}

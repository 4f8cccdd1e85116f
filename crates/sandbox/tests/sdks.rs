//! Real SDKs against the sandbox: pydomo and domo-sdk, which `.ci/sdks` installs below target/tools/.

#![cfg(test)]

mod common;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use domo_sandbox::{Builder, Sandbox};

const SCRIPTS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/sdk");

fn tools() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/tools")
}

fn builder() -> Builder {
    Sandbox::builder().client("id", "secret", &["data", "user", "dashboard"])
}

/// Runs a script until it ends, with the host, and the client's id and secret.
fn run(mut command: Command, script: &str, host: &str) -> String {
    command.arg(format!("{SCRIPTS}/{script}"));
    let output = command.args([host, "id", "secret"]).output().unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{script}: {stderr}");
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn pydomo_works() {
    let python = tools().join("pydomo/bin/python");
    if !python.exists() {
        common::print_skip("pydomo is not installed; run: .ci/sdks");
        return;
    }
    let sandbox = builder().start().unwrap();
    let url = sandbox.url("");
    let output = run(Command::new(python), "pydomo_calls.py", common::host(&url));
    for part in [
        "datasets",
        "streams",
        "utilities",
        "users_and_groups",
        "pages",
        "scopes",
    ] {
        assert!(output.contains(&format!("{part}: ok\n")), "{output}");
    }
    let denied = sandbox.resource_calls().into_iter();
    let denied = denied
        .filter(|call| call.status == 403)
        .map(|call| call.path);
    assert_eq!(denied.collect::<Vec<_>>(), ["/v1/datasets", "/v1/pages"]);
}

#[test]
fn domo_sdk_works() {
    let modules = tools().join("domo-sdk/node_modules");
    if !modules.join("domo-sdk").exists() {
        common::print_skip("domo-sdk is not installed; run: .ci/sdks");
        return;
    }
    let sandbox = builder().https(true).start().unwrap();
    let ca_file = Path::new(env!("CARGO_TARGET_TMPDIR")).join("domo-sdk-ca.pem");
    fs::write(&ca_file, sandbox.ca_pem().unwrap()).unwrap();
    let mut node = Command::new("node");
    node.env("NODE_PATH", modules)
        .env("NODE_EXTRA_CA_CERTS", ca_file);
    let url = sandbox.url("");
    let output = run(node, "domo_sdk_calls.js", common::host(&url));
    for part in ["datasets", "streams", "usersAndGroups", "scopes"] {
        assert!(output.contains(&format!("{part}: ok\n")), "{output}");
    }
    assert!(sandbox.resource_calls().iter().all(|call| call.token_known));
}

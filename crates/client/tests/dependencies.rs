//! The dependencies of this crate stay few.

use std::collections::BTreeSet;
use std::process::Command;

/// The maximum number of third-party crates in the tree, including build-time ones.
const MOST: usize = 23;

#[test]
fn dependencies_include_no_runtime_no_http_and_no_tls() {
    let output = Command::new(env!("CARGO"))
        .args([
            "tree",
            "--package",
            "domo-token-client",
            "--edges",
            "normal",
        ])
        .args([
            "--prefix",
            "none",
            "--format",
            "{p}",
            "--locked",
            "--offline",
        ])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let crates: BTreeSet<&str> = text
        .lines()
        .filter_map(|line| line.split(' ').next())
        .filter(|name| !name.starts_with("domo-token"))
        .collect();
    assert!(
        crates.contains("bincode"),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    for unwanted in [
        "tokio",
        "hyper",
        "reqwest",
        "http",
        "rustls",
        "ring",
        "openssl",
        "native-tls",
    ] {
        assert!(!crates.contains(unwanted), "{unwanted} in {crates:?}");
    }
    assert!(crates.len() <= MOST, "{} crates: {crates:?}", crates.len());
}

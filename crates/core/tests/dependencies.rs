//! The core's dependencies show that it is pure: no runtime, no I/O, no clock.

use std::collections::BTreeSet;
use std::process::Command;

/// Crates that perform I/O, read a clock or run tasks.
const IMPURE: [&str; 12] = [
    "domo-token-client",
    "fs-err",
    "http",
    "hyper",
    "interprocess",
    "mio",
    "nix",
    "reqwest",
    "rustix",
    "rustls",
    "socket2",
    "tokio",
];

#[test]
fn core_depends_on_no_runtime_no_io_and_no_clock() {
    let mut command = Command::new(env!("CARGO"));
    command.args("tree --package domo-token-core --edges normal --prefix none".split(' '));
    command.args(["--format", "{p}", "--locked", "--offline"]);
    let output = command.current_dir(env!("CARGO_MANIFEST_DIR")).output();
    let output = output.unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    let text = String::from_utf8(output.stdout).unwrap();
    let names = text.lines().filter_map(|line| line.split(' ').next());
    let crates: BTreeSet<&str> = names.collect();
    assert!(crates.contains("domo-token-protocol"), "{errors}");
    let found: Vec<&str> = IMPURE
        .into_iter()
        .filter(|name| crates.contains(name))
        .collect();
    assert!(found.is_empty(), "{found:?}");
}

//! The tests of the Python package that need no library, by the system's interpreter.

use std::path::Path;
use std::process::{Command, Stdio};

use crate::common::print_skip;

const NEEDED_VERSION: &str = "import sys; sys.exit(sys.version_info < (3, 9))";

/// Returns whether there is an interpreter that the package supports; prints if there is none.
fn has_python() -> bool {
    let found = Command::new("python3")
        .args(["-c", NEEDED_VERSION])
        .stdin(Stdio::null())
        .status();
    let found = found.is_ok_and(|status| status.success());
    if !found {
        print_skip("there is no python3 of version 3.9 or later");
    }
    found
}

/// Runs these test modules.
fn assert_passes(modules: &[&str]) {
    if !has_python() {
        return;
    }
    let package = Path::new(env!("CARGO_MANIFEST_DIR")).join("python");
    let programs = Path::new(env!("CARGO_BIN_EXE_domo-tokend"))
        .parent()
        .unwrap();
    let output = Command::new("python3")
        // Without this, Python would write its cache into the source tree.
        .arg("-B")
        .args(["-W", "error", "-m", "unittest"])
        .args(modules)
        .current_dir(package.join("tests"))
        .env("PYTHONPATH", package.join("src"))
        .env("DOMO_TOKEN_BIN_DIR", programs)
        .env_remove("DOMO_TOKEN_SOCKET")
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let shown = [output.stdout, output.stderr].concat();
    let shown = String::from_utf8_lossy(&shown);
    assert!(output.status.success(), "{modules:?}: {shown}");
    assert!(!shown.contains("Ran 0 tests"), "{modules:?}: {shown}");
    for skipped in shown
        .lines()
        .filter_map(|line| line.strip_prefix("SKIPPED "))
    {
        print_skip(skipped);
    }
}

/// Returns whether the sandbox's program was built, which `cargo test --test it` does not do; prints if it was not.
fn has_sandbox() -> bool {
    let daemon = Path::new(env!("CARGO_BIN_EXE_domo-tokend"));
    let found = daemon.with_file_name("domo-sandbox").exists();
    if !found {
        print_skip("domo-sandbox is not built; run: cargo build --workspace --bins");
    }
    found
}

#[test]
fn package_finds_the_socket_and_checks_its_server_as_the_crate_does() {
    assert_passes(&["test_find_socket", "test_trust"]);
}

#[test]
fn package_parses_responses_and_shows_no_token() {
    assert_passes(&["test_http", "test_secrecy", "test_testing"]);
}

#[test]
fn package_requests_tokens_as_the_crate_does() {
    assert_passes(&["test_broker", "test_asyncio", "test_clock"]);
}

#[test]
fn module_has_the_exit_codes_of_the_helper() {
    assert_passes(&["test_main"]);
}

#[test]
fn package_gets_tokens_of_the_daemon() {
    if has_sandbox() {
        assert_passes(&["test_real_broker", "test_real_libraries"]);
    }
}

#[test]
fn python_apps_have_no_failed_call_during_restarts_and_a_revocation() {
    if has_sandbox() {
        assert_passes(&["test_restarts"]);
    }
}

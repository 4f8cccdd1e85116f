//! The tests of the Node package, with Node alone. `js/check` also checks its types and the packed package.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::common::print_skip;

/// The oldest Node whose test runner has what the tests use. The package supports all of Node 18.
const OLDEST: (u32, u32) = (18, 13);

/// Waits for real time, and is therefore run apart from the others.
const LONG_RUN: &str = "long-run.test.mjs";

fn package() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("js")
}

/// Returns whether Node can run the tests; otherwise prints that they are skipped.
fn is_node_installed() -> bool {
    let mut command = Command::new("node");
    let output = command.arg("--version").stdin(Stdio::null()).output();
    let shown = output.map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned());
    let shown = shown.unwrap_or_else(|error| error.to_string());
    let mut parts = shown.trim_start_matches('v').split('.');
    let mut part = || parts.next().and_then(|part| part.parse().ok());
    let is_enough = part().zip(part()).is_some_and(|found| found >= OLDEST);
    if !is_enough {
        let (major, minor) = OLDEST;
        print_skip(format_args!(
            "the tests need node {major}.{minor} or newer, and there is: {shown}"
        ));
    }
    is_enough
}

/// Runs these files of tests.
fn assert_tests_pass(files: &[PathBuf]) {
    assert!(!files.is_empty());
    let programs = Path::new(env!("CARGO_BIN_EXE_domo-tokend"));
    let output = Command::new("node")
        .arg("--test")
        .args(files)
        .current_dir(package())
        .env("DOMO_TOKEN_BIN_DIR", programs.parent().unwrap())
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let shown = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{shown}");
    // Tests of the real programs are skipped where `domo-sandbox` is not built.
    for line in shown.lines().filter(|line| line.contains("# SKIP")) {
        print_skip(format_args!("{line}"));
    }
}

#[test]
fn node_package_passes_its_tests() {
    if !is_node_installed() {
        return;
    }
    let files = fs::read_dir(package().join("test")).unwrap();
    let mut files: Vec<PathBuf> = files.map(|entry| entry.unwrap().path()).collect();
    files.retain(|file| {
        let name = file.file_name().unwrap().to_str().unwrap();
        name.ends_with(".test.mjs") && name != LONG_RUN
    });
    assert_tests_pass(&files);
}

#[test]
fn node_app_has_no_failed_call_during_two_restarts_and_a_revocation() {
    if is_node_installed() {
        assert_tests_pass(&[package().join("test").join(LONG_RUN)]);
    }
}

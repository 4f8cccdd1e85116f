//! Each rule of the config has a file that breaks it, whose first line is the message expected.

#![expect(clippy::unwrap_used, reason = "in a test, what fails says so")]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::common::{check, parts};
use serde_json::Value;

fn fixtures() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/config/bad");
    let entries = fs::read_dir(folder).unwrap();
    entries.map(|entry| entry.unwrap().path()).collect()
}

#[test]
fn each_broken_rule_is_78_in_one_line_with_its_place_and_no_value() {
    let fixtures = fixtures();
    assert!(fixtures.len() >= 90, "{}", fixtures.len());
    let mut messages = BTreeSet::new();
    for path in fixtures {
        let text = fs::read_to_string(&path).unwrap();
        let expected = text
            .lines()
            .next()
            .unwrap()
            .strip_prefix("# expect: ")
            .unwrap();
        let (code, stdout, stderr) = check(&path, &[]);
        assert_eq!((code, stdout.as_str()), (Some(78), ""), "{stderr}");
        let message = stderr.strip_suffix("domo-tokend: 1 error\n").unwrap();
        let shown = message.strip_prefix("domo-tokend: config ").unwrap();
        let shown = shown.strip_prefix(path.to_str().unwrap()).unwrap();
        assert_eq!(shown[1..].trim(), expected, "{}", path.display());
        assert_eq!(message.lines().count(), 1, "{stderr}");
        assert!(!stderr.contains("c4nary"), "{stderr}");
        assert!(!message.trim_end().contains(char::is_control), "{stderr:?}");
        messages.insert(expected.to_owned());
    }
    assert!(messages.len() >= 60, "{} different ones", messages.len());
}

#[test]
fn the_schema_that_editors_use_is_the_one_printed_and_knows_every_key() {
    let printed = Command::new(env!("CARGO_BIN_EXE_domo-tokend"))
        .args(["check", "--schema"])
        .output()
        .unwrap();
    let (code, printed, stderr) = parts(&printed);
    assert_eq!(code, Some(0), "{stderr}");
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/config.schema.json");
    let kept = fs::read_to_string(file).unwrap();
    assert_eq!(
        kept, printed,
        "domo-tokend check --schema > docs/config.schema.json"
    );
    let schema: Value = serde_json::from_str(&printed).unwrap();
    let client = &schema["$defs"]["Client"]["properties"];
    let listed = fs::read_to_string(
        Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/config/bad/unknown-key-unlike-any.toml"),
    );
    let listed = listed.unwrap();
    let (_, keys) = listed
        .lines()
        .next()
        .unwrap()
        .split_once("there is ")
        .unwrap();
    for key in keys.split(", ") {
        assert!(client[key]["description"].is_string(), "{key}");
    }
}

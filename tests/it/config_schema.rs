//! Each rule of the config has a file that breaks it. Its first line is the expected message.

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
fn broken_rule_exits_78_with_one_line_that_has_its_place_and_no_value() {
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
        let shown = shown[1..].trim();
        // A list of keys, which the next test compares with the schema.
        match expected.strip_suffix('…') {
            Some(start) => assert!(shown.starts_with(start), "{}: {shown}", path.display()),
            None => assert_eq!(shown, expected, "{}", path.display()),
        }
        assert_eq!(message.lines().count(), 1, "{stderr}");
        assert!(!stderr.contains("c4nary"), "{stderr}");
        assert!(!message.trim_end().contains(char::is_control), "{stderr:?}");
        messages.insert(expected.to_owned());
    }
    assert!(messages.len() >= 60, "{} different ones", messages.len());
}

#[test]
fn printed_schema_describes_each_key() {
    let printed = Command::new(env!("CARGO_BIN_EXE_domo-tokend"))
        .args(["check", "--schema"])
        .output()
        .unwrap();
    let (code, printed, stderr) = parts(&printed);
    assert_eq!(code, Some(0), "{stderr}");
    let schema: Value = serde_json::from_str(&printed).unwrap();
    let client = schema["$defs"]["Client"]["properties"].as_object().unwrap();
    let fixture =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/config/bad/unknown-key-unlike-any.toml");
    let (_, _, message) = check(&fixture, &[]);
    let (_, listed) = message
        .lines()
        .next()
        .unwrap()
        .split_once("valid keys: ")
        .unwrap();
    let listed: BTreeSet<&str> = listed.split(", ").collect();
    let known: BTreeSet<&str> = client.keys().map(String::as_str).collect();
    assert_eq!(listed, known);
    for (key, shape) in client {
        assert!(shape["description"].is_string(), "{key}");
    }
}

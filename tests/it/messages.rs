//! Every message that the programs show to a user is in `tests/messages.txt`, where its wording is reviewed.
//! After a change of a message, `UPDATE_MESSAGES=1 cargo test --test it messages::` updates the file.

mod diff;
pub(crate) mod sources;

use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};

use sources::{Messages, messages_of};

const UPDATE: &str = "UPDATE_MESSAGES=1 cargo test --test it messages::";

const HEADER: &str = "\
All messages of the programs, by source file: log lines (LEVEL message field=), errors, help and prompts.
A message with line breaks, or with blanks at its start or end, is in quotes. This file is generated:
UPDATE_MESSAGES=1 cargo test --test it messages::
";

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Returns the folders that contain the sources of the programs, the libraries and the quickstart.
fn source_folders() -> Vec<PathBuf> {
    let crates = fs::read_dir(root().join("crates")).unwrap();
    let mut folders = vec![root().join("src"), root().join("examples")];
    folders.extend(crates.map(|entry| entry.unwrap().path().join("src")));
    folders
}

fn rust_files(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            rust_files(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

/// Returns what `tests/messages.txt` must contain.
fn golden() -> String {
    let mut files = Vec::new();
    for folder in source_folders() {
        rust_files(&folder, &mut files);
    }
    files.sort();
    let mut sections = Vec::new();
    let mut test_modules = Vec::new();
    for file in files {
        let Messages {
            messages,
            test_modules: of_file,
        } = messages_of(&file);
        test_modules.extend(of_file);
        sections.push((file, messages));
    }
    let is_test = |file: &Path| {
        let mut modules = test_modules.iter();
        modules.any(|module| file.with_extension("").starts_with(module))
    };
    let mut text = HEADER.to_owned();
    for (file, messages) in sections {
        if messages.is_empty() || is_test(&file) {
            continue;
        }
        let name = file.strip_prefix(root()).unwrap().display();
        writeln!(text, "\n== {name}").unwrap();
        for message in messages {
            writeln!(text, "{message}").unwrap();
        }
    }
    text
}

#[test]
fn golden_file_has_each_message_of_the_sources() {
    let path = root().join("tests/messages.txt");
    let golden = golden();
    if std::env::var_os("UPDATE_MESSAGES").is_some() {
        fs::write(&path, golden).unwrap();
        return;
    }
    let there = fs::read_to_string(&path).unwrap_or_default();
    assert!(
        there == golden,
        "messages changed (- in tests/messages.txt, + in the sources):\n{}\
         If that is intended: {UPDATE}",
        diff::lines(&there, &golden)
    );
}

//! Documents, help, messages and comments are in plain technical English: without the words of a closed list,
//! and documents without sentences over 40 words.

#![allow(
    clippy::wildcard_enum_match_arm,
    reason = "Markdown has more elements than the check needs"
)]

mod comments;
mod markdown;
mod passage;
mod rules;

use std::collections::BTreeSet;
use std::fmt::Write;
use std::fs;
use std::path::Path;
use std::process::Command;

use clap::CommandFactory;

use crate::messages::sources::messages_of;
use passage::Passage;
use rules::Found;

/// Legitimate uses: the file, the phrase as the check prints it, and why.
const ALLOWED: [(&str, &str, &str); 0] = [];

/// What is not prose of this project.
const SKIPPED: [&str; 6] = [
    "target/",
    "js/node_modules/",
    "fuzz/target/",
    "fuzz/corpus/",
    "tests/config/",
    "tests/wire/",
];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// A text: what it is named in failures, and its passages.
struct Text {
    name: String,
    passages: Vec<Passage>,
    /// Whether the length of its sentences is limited.
    limited: bool,
}

/// Adds the files below a folder, by their paths from the root.
fn files(folder: &Path, found: &mut Vec<String>) {
    for entry in fs::read_dir(folder).unwrap() {
        let entry = entry.unwrap();
        let path = entry.path();
        let name = path
            .strip_prefix(root())
            .unwrap()
            .to_str()
            .unwrap()
            .to_owned();
        let is_known = [".ci", ".github"].contains(&name.as_str());
        let is_hidden = entry.file_name().as_encoded_bytes().starts_with(b".") && !is_known;
        if is_hidden && path.is_dir()
            || SKIPPED
                .iter()
                .any(|skipped| format!("{name}/").starts_with(skipped))
        {
            continue;
        }
        if entry.file_type().unwrap().is_dir() {
            files(&path, found);
        } else {
            found.push(name);
        }
    }
}

/// Returns the text of a file that has prose.
fn text_of_file(name: String) -> Option<Text> {
    let (folder, file) = name.rsplit_once('/').unwrap_or(("", &name));
    let extension = Path::new(file)
        .extension()
        .and_then(|extension| extension.to_str());
    let is_script = [".ci", "packaging", "tests/acceptance", "systemd"]
        .iter()
        .any(|scripts| folder == *scripts || folder.starts_with(&format!("{scripts}/")))
        || matches!(folder, "js" | "python") && file.starts_with("check");
    let has_hashes = matches!(extension, Some("py" | "sh" | "toml" | "yaml" | "yml"))
        || matches!(file, "justfile" | "Dockerfile")
        || is_script;
    let read = || fs::read_to_string(root().join(&name)).unwrap();
    let passages = match extension {
        // C and JavaScript have the same comments as Rust.
        Some("c" | "h" | "rs" | "js" | "cjs" | "mjs" | "ts" | "cts" | "mts") => {
            comments::of_rust(&read())
        }
        Some("md") => markdown::passages(&read()),
        Some("txt") if name == "tests/messages.txt" => messages(&read()),
        Some("json") if file == "openapi.json" => code(&read()),
        _ if has_hashes => {
            let text = read();
            let mut passages = comments::of_hashes(&text);
            passages.extend(code(&text));
            passages
        }
        _ => return None,
    };
    let limited = extension == Some("md") && name != "CHANGELOG.md";
    Some(Text {
        name,
        passages,
        limited,
    })
}

/// Returns each line that is not a comment: what scripts print, and texts in TOML and YAML.
fn code(text: &str) -> Vec<Passage> {
    let lines = text.lines().zip(1..);
    let lines = lines.filter(|(text, _)| !text.trim_start().starts_with('#'));
    lines.map(passage).collect()
}

fn passage((text, line): (&str, usize)) -> Passage {
    let mut passage = Passage::default();
    passage.push_line(text, line);
    passage
}

/// Returns each line of the golden file of messages as a passage.
fn messages(text: &str) -> Vec<Passage> {
    let lines = text.lines().zip(1..);
    let lines = lines.filter(|(text, _)| !text.starts_with("== "));
    lines.map(passage).collect()
}

/// Returns the paragraphs of a help text, and each line that begins with an option or an exit code.
fn blocks(text: &str) -> Vec<Passage> {
    let mut passages = vec![Passage::default()];
    for (text, line) in text.lines().zip(1..) {
        let start = text.trim_start();
        if start.is_empty() || start.starts_with(|c: char| c == '-' || c.is_ascii_digit()) {
            passages.push(Passage::default());
        }
        if let Some(passage) = passages.last_mut() {
            passage.push_line(text, line);
        }
    }
    passages
}

/// Returns the texts of the man pages that are written in the sources of their generator.
fn man_pages() -> Vec<Text> {
    let mut names = vec!["tests/it/man.rs".to_owned()];
    files(&root().join("tests/it/man"), &mut names);
    let text = |name: String| {
        let path = root().join(&name);
        let source = fs::read_to_string(&path).unwrap();
        let passages = messages_of(&path).messages.into_iter().map(|text| {
            let line = source.lines().position(|line| line.contains(&text));
            let mut passage = Passage::default();
            passage.push_line(&text, line.map_or(1, |at| at + 1));
            passage
        });
        Text {
            passages: passages.collect(),
            name,
            limited: false,
        }
    };
    names.into_iter().map(text).collect()
}

/// Returns the help of all programs and commands.
fn help() -> Vec<Text> {
    let programs = [
        (
            "domo-tokend",
            env!("CARGO_BIN_EXE_domo-tokend"),
            &["", "check", "init"][..],
        ),
        (
            "domo-token",
            env!("CARGO_BIN_EXE_domo-token"),
            &["", "get", "exec", "watch", "status", "completions", "help"],
        ),
    ];
    let mut texts = Vec::new();
    for (program, path, commands) in programs {
        for command in commands {
            let mut words: Vec<_> = command.split_whitespace().collect();
            words.push("--help");
            let output = Command::new(path).args(&words).output().unwrap();
            assert!(output.status.success(), "{program} {words:?}");
            texts.push(Text {
                name: format!("help/{program} {}", words.join(" ")),
                passages: blocks(&String::from_utf8(output.stdout).unwrap()),
                limited: false,
            });
        }
    }
    let mut sandbox = domo_sandbox::program::Flags::command();
    sandbox.build();
    let commands: Vec<clap::Command> = sandbox.get_subcommands().cloned().collect();
    for mut command in [sandbox].into_iter().chain(commands) {
        let name = command.get_bin_name().unwrap_or("domo-sandbox").to_owned();
        texts.push(Text {
            name: format!("help/{name} --help"),
            passages: blocks(&command.render_long_help().to_string()),
            limited: false,
        });
    }
    texts
}

/// Returns what a text contains that must not be written, one failure a line. Adds the legitimate uses that it has to
/// `allowed`.
fn failures(text: &Text, allowed: &mut BTreeSet<usize>) -> String {
    let name = &text.name;
    let mut failures = String::new();
    for passage in &text.passages {
        for Found {
            line,
            phrase,
            instead,
            sentence,
        } in rules::phrases(passage)
        {
            let is_it =
                |(file, legitimate, _): &(&str, &str, &str)| file == name && *legitimate == phrase;
            if let Some(at) = ALLOWED.iter().position(is_it) {
                allowed.insert(at);
                continue;
            }
            writeln!(
                failures,
                "{name}:{line}: \"{phrase}\", write: {instead}\n    {sentence}"
            )
            .unwrap();
        }
        for (line, words, sentence) in rules::long_sentences(passage) {
            if text.limited {
                let most = rules::MAX_WORDS;
                writeln!(
                    failures,
                    "{name}:{line}: {words} words, write: sentences of at most {most}\n    {sentence}"
                )
                .unwrap();
            }
        }
    }
    failures
}

#[test]
fn texts_are_plain_english() {
    let mut names = Vec::new();
    files(root(), &mut names);
    names.sort();
    let mut texts: Vec<_> = names.into_iter().filter_map(text_of_file).collect();
    texts.extend(man_pages());
    texts.extend(help());
    let mut allowed = BTreeSet::new();
    let all: String = texts
        .iter()
        .map(|text| failures(text, &mut allowed))
        .collect();
    let count = all.lines().count() / 2;
    assert!(
        all.is_empty(),
        "{count} times:\n{all}A legitimate use belongs into ALLOWED, with its reason."
    );
    assert_eq!(allowed.len(), ALLOWED.len(), "ALLOWED has what no text has");
}

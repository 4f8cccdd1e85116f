//! The man pages under `docs/man/` are generated from the help and the other documents, and so are the tables of
//! options in `docs/cli.md`. After a change of these, `UPDATE_MAN=1 cargo test --test it man::` updates them.

#![allow(
    clippy::wildcard_enum_match_arm,
    reason = "Markdown has more elements than the man pages use"
)]

mod cli_page;
mod daemon;
mod document;
mod helper;
mod page;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use clap::CommandFactory;
use domo_token::flags::Flags;

use crate::docs_reference::{clap_commands, clap_options};

fn pages() -> [(&'static str, String); 4] {
    [
        ("domo-token.1", helper::page()),
        ("domo-tokend.8", daemon::page()),
        (
            "domo-token-config.5",
            document::page(
                "domo-token-config",
                5,
                "the configuration file of domo-tokend",
                "docs/config.md",
            ),
        ),
        (
            "domo-token-protocol.7",
            document::page(
                "domo-token-protocol",
                7,
                "the protocol between callers and domo-tokend",
                "docs/protocol.md",
            ),
        ),
    ]
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/man")
}

#[test]
fn pages_match_those_generated_from_help_and_documents() {
    for (name, page) in pages() {
        let path = folder().join(name);
        if std::env::var_os("UPDATE_MAN").is_some() {
            fs::write(&path, page).unwrap();
            continue;
        }
        let there = fs::read_to_string(&path).unwrap_or_default();
        assert!(
            there == page,
            "{name} is out of date: UPDATE_MAN=1 cargo test --test it man"
        );
    }
}

#[test]
fn cli_page_has_the_generated_tables_of_options() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/cli.md");
    let there = fs::read_to_string(&path).unwrap();
    let page = cli_page::page(&there);
    if std::env::var_os("UPDATE_MAN").is_some() {
        fs::write(&path, page).unwrap();
        return;
    }
    assert!(
        there == page,
        "docs/cli.md is out of date: UPDATE_MAN=1 cargo test --test it man"
    );
}

#[test]
fn pages_contain_each_option_and_exit_code() {
    let page = helper::page();
    for option in domo_token_cli::options::OPTIONS {
        let name = option.long.replace('-', "\\-");
        assert!(page.contains(&format!("\\-\\-{name}")), "{name}");
    }
    for code in [0, 2, 69, 70, 74, 75, 76, 77, 78, 126, 127] {
        assert!(page.contains(&format!("\\fB{code}\\fR")), "{code}");
    }
    let page = daemon::page();
    let mut command = Flags::command();
    command.build();
    let mut options = clap_options(&command, true);
    for (_, verb) in clap_commands(&command) {
        options.extend(clap_options(verb, false));
    }
    for name in options {
        let name = name.replace('-', "\\-");
        assert!(page.contains(&format!("\\-\\-{name}")), "{name}");
    }
}

/// Returns the output of a checker of man pages; `None`, with a notice, where it is not installed.
fn checker_messages(checker: &str, arguments: &[&str]) -> Option<String> {
    let folder = tempfile::tempdir().unwrap();
    let pages = pages().map(|(name, page)| {
        fs::write(folder.path().join(name), page).unwrap();
        name
    });
    let mut command = Command::new(checker);
    command.current_dir(&folder).args(arguments).args(pages);
    let Ok(output) = command.output() else {
        println!("no {checker} here: the man pages were not checked by it");
        return None;
    };
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    Some(text(&output.stdout) + &text(&output.stderr))
}

#[test]
fn pages_pass_the_checkers() {
    for (checker, arguments) in [
        ("mandoc", &["-T", "lint", "-W", "warning"][..]),
        ("groff", &["-k", "-z", "-ww", "-t", "-man", "-Tutf8"]),
    ] {
        let messages = checker_messages(checker, arguments);
        assert_eq!(messages.unwrap_or_default(), "", "{checker}");
    }
}

//! The man pages under `docs/man/` say what help and the other documents say. After a change of
//! these, `UPDATE_MAN=1 cargo test --test it man` writes them again.

#![allow(
    clippy::wildcard_enum_match_arm,
    reason = "Markdown has more elements than the man pages use"
)]

mod document;
mod page;
mod program;

use std::fs;
use std::path::{Path, PathBuf};
use std::process;

use clap::{Arg, Command, CommandFactory};
use domo_token::flags::Flags;

fn helper() -> String {
    program::page(domo_token_cli::definition(), 1, &ENVIRONMENT)
}

const ENVIRONMENT: [(&str, &str); 4] = [
    (
        "DOMO_TOKEN_SOCKET",
        "The broker's socket. Without it and without `--socket` it is the user's own, \
         `$XDG_RUNTIME_DIR/domo-token/broker.sock` (or that under `/run/user/UID`), if there is \
         one, else the host's, `/run/domo-token/broker.sock`. If it doesn't answer, the other is \
         not used: it may hold different credentials.",
    ),
    (
        "DOMO_TOKEN_CLIENT",
        "The API client, where no `--client` names one.",
    ),
    ("NO_COLOR", "If it isn't empty, tables have no colours."),
    (
        "TERM",
        "If it is dumb or absent, tables have no colours and are not shown in place.",
    ),
];

fn pages() -> [(&'static str, String); 4] {
    [
        ("domo-token.1", helper()),
        ("domo-tokend.8", program::page(Flags::command(), 8, &[])),
        (
            "domo-token-config.5",
            document::page(
                "domo-token-config",
                5,
                "what domo-tokend is told in its config file",
                "docs/config.md",
            ),
        ),
        (
            "domo-token-protocol.7",
            document::page(
                "domo-token-protocol",
                7,
                "what callers and domo-tokend say to each other",
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
fn pages_contain_each_option_and_exit_code() {
    let page = helper();
    let definition = domo_token_cli::definition();
    let options = definition
        .get_subcommands()
        .flat_map(Command::get_arguments);
    for name in options.filter_map(Arg::get_long) {
        let name = name.replace('-', "\\-");
        assert!(page.contains(&format!("\\-\\-{name}")), "{name}");
    }
    for code in [0, 2, 69, 70, 74, 75, 76, 77, 78, 126, 127] {
        assert!(page.contains(&format!("\\fB{code}\\fR")), "{code}");
    }
    let page = program::page(Flags::command(), 8, &[]);
    for name in ["config", "log\\-format", "online", "client\\-id", "offline"] {
        assert!(page.contains(&format!("\\-\\-{name}")), "{name}");
    }
}

/// What a checker of man pages says of all; `None`, and says so, where there is none.
fn checker_messages(checker: &str, arguments: &[&str]) -> Option<String> {
    let folder = tempfile::tempdir().unwrap();
    let pages = pages().map(|(name, page)| {
        fs::write(folder.path().join(name), page).unwrap();
        name
    });
    let mut command = process::Command::new(checker);
    command.current_dir(&folder).args(arguments).args(pages);
    let Ok(output) = command.output() else {
        println!("no {checker} here: it was not asked about the man pages");
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

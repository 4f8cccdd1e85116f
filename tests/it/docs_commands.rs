//! Commands in documents: their options exist.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use clap::CommandFactory;
use domo_token::flags::Flags;
use domo_token_cli::options::OPTIONS;

use crate::docs_reference::{clap_commands, clap_options};

/// Returns the long options of the commands in a line that run a program of the project.
fn options_in_commands(line: &str) -> Vec<(&'static str, String)> {
    let is_word = |c: char| c.is_ascii_lowercase() || c == '-';
    let mut found = Vec::new();
    for program in ["domo-token", "domo-tokend", "domo-sandbox"] {
        // The directory of the socket is no program.
        let line = line.replace("/run/domo-token ", "");
        let call = format!("{program} ");
        for call in line.split(&call).skip(1) {
            let end = call.find(['|', ';', '`', ')', '#', '&', '>']);
            let arguments = call[..end.unwrap_or(call.len())].split_whitespace();
            // What follows is another command.
            let own = arguments.take_while(|word| *word != "--");
            found.extend(own.filter_map(|word| {
                let name = word.strip_prefix("--")?;
                let end = name.find(|c| !is_word(c)).unwrap_or(name.len());
                Some((program, name[..end].to_owned()))
            }));
        }
    }
    found
}

#[test]
fn commands_in_documents_have_options_that_exist() {
    let mut daemon = Flags::command();
    daemon.build();
    let mut of_daemon = clap_options(&daemon, true);
    for (_, command) in clap_commands(&daemon) {
        of_daemon.extend(clap_options(command, false));
    }
    let sandbox = domo_sandbox::program::Flags::command();
    let mut of_sandbox = clap_options(&sandbox, false);
    for command in sandbox.get_subcommands() {
        of_sandbox.extend(clap_options(command, false));
    }
    let of_helper: BTreeSet<String> = OPTIONS.iter().map(|o| o.long.to_owned()).collect();
    let (mut missing, mut count) = (Vec::new(), 0);
    for name in crate::docs::all_pages() {
        if name == "CHANGELOG.md" {
            continue;
        }
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(&name);
        for line in fs::read_to_string(path).unwrap().lines() {
            for (program, option) in options_in_commands(line) {
                let known = match program {
                    "domo-token" => &of_helper,
                    "domo-tokend" => &of_daemon,
                    _ => &of_sandbox,
                };
                count += 1;
                if !known.contains(&option) && !["help", "version"].contains(&&*option) {
                    missing.push(format!("{name}: {program} --{option}"));
                }
            }
        }
    }
    assert!(missing.is_empty(), "{missing:#?}");
    assert!(count > 30, "{count}");
}

#[test]
fn options_are_found_in_the_commands_of_a_line() {
    let line = "run `domo-token get --wait data | curl --get`, or: x domo-tokend --config=f check; domo-token exec --env A -- ls --all";
    let found = options_in_commands(line);
    let expected = [
        ("domo-token", "wait"),
        ("domo-token", "env"),
        ("domo-tokend", "config"),
    ];
    assert_eq!(
        found,
        expected.map(|(program, option)| (program, option.to_owned()))
    );
}

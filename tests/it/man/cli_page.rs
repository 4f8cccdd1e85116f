//! The tables of options in `docs/cli.md`, from the helper's table of options and the flags of the daemon and the
//! sandbox. Each is between `<!-- options of NAME -->` and `<!-- end of options -->`.

use std::collections::BTreeMap;
use std::fmt::Write;

use clap::{Arg, ArgAction, Command, CommandFactory};
use domo_token::flags::Flags;
use domo_token_cli::options::{OPTIONS, OptionUsage, TOKENS, Value};
use domo_token_cli::usage::VERBS;

use crate::docs_reference::clap_commands;

const END: &str = "<!-- end of options -->\n";

/// Returns the page with its tables as they must be.
///
/// # Panics
///
/// If a table has no place in the page, two, or one without an end.
pub(crate) fn page(text: &str) -> String {
    let mut page = text.to_owned();
    for (name, table) in tables() {
        let start = format!("<!-- options of {name} -->\n");
        assert_eq!(
            page.matches(&start).count(),
            1,
            "docs/cli.md must have one place for {start}"
        );
        let from = page.find(&start).unwrap() + start.len();
        let length = page[from..].find(END);
        let to = from + length.unwrap_or_else(|| panic!("no end of {start}"));
        page.replace_range(from..to, &format!("\n{table}\n"));
    }
    page
}

/// Returns each table by its name.
fn tables() -> BTreeMap<String, String> {
    let mut rows: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let mut add = |name: &str, row| rows.entry(name.to_owned()).or_default().push(row);
    for option in OPTIONS {
        if option.is_global() {
            add("every command", helper_row(option, &everywhere(option)));
        } else if option.verbs == TOKENS {
            add(
                "get, exec and watch",
                helper_row(option, &everywhere(option)),
            );
        } else {
            for verb in VERBS
                .iter()
                .filter(|verb| option.verbs.contains(&verb.verb))
            {
                let name = format!("domo-token {}", verb.name);
                add(
                    &name,
                    helper_row(option, &sentence(option.about(verb.verb))),
                );
            }
        }
    }
    for mut command in [Flags::command(), domo_sandbox::program::Flags::command()] {
        command.build();
        let name = command.get_name().to_owned();
        for option in command.get_arguments() {
            add(&name, clap_row(option));
        }
        let verbs = clap_commands(&command).into_iter();
        for (words, verb) in verbs.filter(|(_, verb)| !verb.is_hide_set()) {
            for option in own_options(verb) {
                add(&format!("{name} {words}"), clap_row(option));
            }
        }
    }
    let table = |rows: Vec<String>| format!("| option | effect |\n|---|---|\n{}", rows.concat());
    rows.into_iter()
        .map(|(name, rows)| (name, table(rows)))
        .collect()
}

/// Returns the options that only this command of a program has.
fn own_options(verb: &Command) -> impl Iterator<Item = &Arg> {
    verb.get_arguments().filter(|option| {
        let is_of_all = matches!(option.get_action(), ArgAction::Help | ArgAction::Version);
        !option.is_global_set() && !is_of_all && !option.is_positional()
    })
}

/// Returns the help texts of an option for all of its commands.
fn everywhere(option: &OptionUsage) -> String {
    let mut text = sentence(option.about);
    for (verb, note) in option.notes {
        // The help of `get` is that of the program.
        if !option.is_global() {
            write!(text, " For `{}`: {}", verb.usage().name, sentence(note)).unwrap();
        }
    }
    text
}

fn helper_row(option: &OptionUsage, about: &str) -> String {
    let value = match option.value {
        Value::Nothing => String::new(),
        Value::Maybe(what) => format!("[={what}]"),
        Value::Text(what) | Value::File(what) | Value::OneOf(what, _) => format!(" {what}"),
    };
    row(option.short, option.long, &value, about)
}

fn clap_row(option: &Arg) -> String {
    let takes_value = option.get_action().takes_values();
    let names = option.get_value_names().unwrap_or_default();
    let value = names.first().filter(|_| takes_value);
    let value = value.map_or(String::new(), |name| format!(" {name}"));
    let mut about = match option.get_action() {
        ArgAction::Help => "Print help".to_owned(),
        ArgAction::Version => "Print the version".to_owned(),
        _ => option.get_help().unwrap().to_string(),
    };
    let usual = option.get_default_values().iter();
    let usual: Vec<_> = usual.map(|value| value.to_string_lossy()).collect();
    let possible: Vec<_> = option
        .get_possible_values()
        .iter()
        .map(|value| value.get_name().to_owned())
        .collect();
    if takes_value && !possible.is_empty() {
        write!(about, ": {}", possible.join(" or ")).unwrap();
    }
    if takes_value && !usual.is_empty() {
        write!(about, " [default: {}]", usual.join(" ")).unwrap();
    }
    let long = option.get_long().unwrap();
    row(option.get_short(), long, &value, &sentence(&about))
}

fn row(short: Option<char>, long: &str, value: &str, about: &str) -> String {
    let short = short.map_or(String::new(), |short| format!("`-{short}`, "));
    let about = about
        .replace('|', "\\|")
        .replace("see FILES", "see [Files and paths](#files-and-paths)")
        .replace("see FORMATS", "see [Output formats](#output-formats)")
        .replace(
            "see `domo-token --help`",
            "see [Output formats](#output-formats)",
        );
    format!("| {short}`--{long}{value}` | {} |\n", with_code(&about))
}

/// Returns a help text as a sentence; a default in brackets follows it.
fn sentence(about: &str) -> String {
    let about = about.trim_end_matches('.');
    match about.find(" [") {
        Some(at) => format!("{}.{}", &about[..at], &about[at..]),
        None => format!("{about}."),
    }
}

/// Marks options and variables as code; mdBook would make dashes of two hyphens.
fn with_code(text: &str) -> String {
    let words = text.split(' ').map(|word| {
        let start = word.trim_start_matches('[');
        let end = start.trim_end_matches(['.', ',', ':', ';', ']']);
        if !end.starts_with("--") && !end.starts_with('$') {
            return word.to_owned();
        }
        let before = &word[..word.len() - start.len()];
        format!("{before}`{end}`{}", &start[end.len()..])
    });
    words.collect::<Vec<_>>().join(" ")
}

//! What shells need to complete a command line, made from its definition. `clap_complete` offers neither
//! scopes nor, in PowerShell, values, and completes no command of `exec`.

mod bash;
mod fish;
mod powershell;
mod zsh;

use clap::{Arg, Command, CommandFactory, ValueHint};

use crate::command_line::{CommandLine, SCOPES, Shell, VERBS};

/// The script for a shell, to be read at its start.
pub(crate) fn of(shell: Shell) -> String {
    let mut definition = CommandLine::command();
    // Adds --help and --version.
    definition.build();
    match shell {
        Shell::Bash => bash::script(&definition),
        Shell::Zsh => zsh::script(&definition),
        Shell::Fish => fish::script(&definition),
        Shell::Powershell => powershell::script(&definition),
    }
}

/// The verbs, in the order of [`VERBS`].
fn verbs(definition: &Command) -> impl Iterator<Item = &Command> {
    VERBS
        .iter()
        .filter_map(|verb| definition.find_subcommand(verb))
}

fn options(verb: &Command) -> impl Iterator<Item = &Arg> {
    let options = verb.get_arguments();
    options.filter(|option| !option.is_positional())
}

/// An option's spellings.
fn spellings(option: &Arg) -> Vec<String> {
    let short = option.get_short().map(|short| format!("-{short}"));
    let long = option.get_long().map(|long| format!("--{long}"));
    short.into_iter().chain(long).collect()
}

/// Whether an option's value is the next word.
fn takes_a_word(option: &Arg) -> bool {
    option.get_action().takes_values() && !option.is_require_equals_set()
}

/// The options of all verbs whose value is the next word.
fn taking_a_word(definition: &Command) -> Vec<&Arg> {
    let mut all: Vec<&Arg> = verbs(definition)
        .flat_map(options)
        .filter(|o| takes_a_word(o))
        .collect();
    all.sort_by_key(|option| option.get_id().as_str());
    all.dedup_by_key(|option| option.get_id().as_str());
    all
}

/// The spellings of several options, separated by `separator`.
fn all_spellings<'a>(options: impl IntoIterator<Item = &'a Arg>, separator: &str) -> String {
    let all: Vec<String> = options.into_iter().flat_map(spellings).collect();
    all.join(separator)
}

/// The values that an option or a word can have, if they are known.
fn offered(arg: &Arg) -> Vec<String> {
    let values = arg.get_possible_values();
    values
        .iter()
        .map(|value| value.get_name().to_owned())
        .collect()
}

fn is_file(option: &Arg) -> bool {
    option.get_value_hint() == ValueHint::FilePath
}

/// The words that may follow a verb.
fn words(verb: &Command) -> Vec<String> {
    let named = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
    match verb.get_positionals().next() {
        Some(word) if word.get_id() == "scopes" => named(SCOPES),
        Some(word) if word.get_id() == "shell" => offered(word),
        Some(_) | None if verb.get_name() == "help" => named(&VERBS),
        Some(_) | None => Vec::new(),
    }
}

/// The words that may come first.
fn first_words() -> String {
    [&VERBS[..], SCOPES].concat().join(" ")
}

/// What an option does, without what can't be shown in a menu.
fn brief(option: &Arg) -> String {
    let about = option
        .get_help()
        .map(ToString::to_string)
        .unwrap_or_default();
    let ends = [" [", ": ", "; "]
        .iter()
        .filter_map(|part| about.find(part));
    let end = ends.min().unwrap_or(about.len());
    about.get(..end).unwrap_or(&about).to_owned()
}

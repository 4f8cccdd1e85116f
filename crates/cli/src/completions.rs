//! Scripts that complete command lines of `domo-token`, generated from the table of options.

mod bash;
mod fish;
mod powershell;
mod zsh;

use domo_token_protocol::scope::DOMO_SCOPE_NAMES;

use crate::args::Shell;
use crate::options::{self, OptionUsage, SHELLS, Value, Verb};
use crate::usage::VERBS;

/// Returns the script for a shell.
pub(crate) fn of(shell: Shell) -> String {
    match shell {
        Shell::Bash => bash::script(),
        Shell::Zsh => zsh::script(),
        Shell::Fish => fish::script(),
        Shell::Pwsh => powershell::script(),
    }
}

/// Returns an option's names.
fn spellings(option: &OptionUsage) -> Vec<String> {
    let short = option.short.map(|short| format!("-{short}"));
    short.into_iter().chain([option.name()]).collect()
}

/// Returns all options whose value is the next word.
fn taking_a_word() -> impl Iterator<Item = &'static OptionUsage> {
    let takes = |value| match value {
        Value::Text(_) | Value::File(_) | Value::OneOf(..) => true,
        Value::Nothing | Value::Maybe(_) => false,
    };
    options::OPTIONS
        .iter()
        .filter(move |option| takes(option.value))
}

/// Returns the names of several options, separated by `separator`.
fn all_spellings<'a>(options: impl Iterator<Item = &'a OptionUsage>, separator: &str) -> String {
    let all: Vec<String> = options.flat_map(spellings).collect();
    all.join(separator)
}

fn verb_names() -> Vec<&'static str> {
    VERBS.iter().map(|verb| verb.name).collect()
}

/// Returns the words that may follow a command.
fn words(verb: Verb) -> Vec<&'static str> {
    match verb {
        Verb::Get | Verb::Exec | Verb::Watch | Verb::Status => DOMO_SCOPE_NAMES.to_vec(),
        Verb::Completions => SHELLS.to_vec(),
        Verb::Help => verb_names(),
        Verb::Version => Vec::new(),
    }
}

/// Returns the first part of an option's help text, short enough for a menu.
fn brief(option: &OptionUsage, verb: Verb) -> &'static str {
    let about = option.about(verb);
    let end = [" [", ": ", "; ", ". "]
        .iter()
        .filter_map(|separator| about.find(separator))
        .min();
    about.get(..end.unwrap_or(about.len())).unwrap_or(about)
}

//! Completes command lines. The script of a shell calls `domo-token __complete WORD...`, whose last word is
//! not yet finished, and shows what that prints: a candidate and what it does a line, or what else to
//! complete. `clap_complete` offers neither scopes nor, in PowerShell, values, and completes no command of
//! `exec`.

use std::ffi::OsString;

use clap::{Arg, Command, CommandFactory, ValueHint};

use crate::command_line::{CommandLine, SCOPES, Shell, VERBS};

/// The argument for which candidates are printed.
pub(crate) const COMPLETE: &str = "__complete";

/// Instead of candidates: a file.
const FILES: &str = ":files\n";

/// Returns the script for a shell, to be read at its start.
pub(crate) fn script(shell: Shell) -> &'static str {
    match shell {
        Shell::Bash => include_str!("completions/domo-token.bash"),
        Shell::Zsh => include_str!("completions/domo-token.zsh"),
        Shell::Fish => include_str!("completions/domo-token.fish"),
        Shell::Powershell => include_str!("completions/domo-token.ps1"),
    }
}

/// Returns what the last word can become.
pub(crate) fn candidates(words: &[OsString]) -> String {
    let mut definition = CommandLine::command();
    // Adds --help and --version.
    definition.build();
    let words = joined(words);
    let Some((last, before)) = words.split_last() else {
        return String::new();
    };
    // PowerShell passes it behind a plus, because it drops empty arguments.
    let last = last.strip_prefix('+').unwrap_or(last);
    let mut verb = None;
    let mut option = None;
    for (at, word) in before.iter().enumerate() {
        if option.take().is_some() {
            continue;
        }
        if word == "--" {
            if verb == Some("exec") {
                return format!(":command {}\n", at + 1);
            }
        } else if word.starts_with('-') {
            option = option_of(&definition, word).filter(|option| !option.is_require_equals_set());
        } else {
            let named = VERBS.into_iter().find(|verb| verb == word);
            verb = verb.or(named).or(Some("get"));
        }
    }
    if let Some(option) = option {
        return values(option, "", last);
    }
    if let Some((name, value)) = last.split_once('=') {
        let option = option_of(&definition, name);
        return option.map_or(String::new(), |option| {
            values(option, &format!("{name}="), value)
        });
    }
    let command = verb.and_then(|verb| definition.find_subcommand(verb));
    let words = match verb {
        None => [&VERBS[..], SCOPES].concat(),
        Some("help") => VERBS.to_vec(),
        Some("completions") => vec!["bash", "zsh", "fish", "powershell"],
        Some("version") => Vec::new(),
        Some(_) => SCOPES.to_vec(),
    };
    let words = words
        .into_iter()
        .map(|word| (word.to_owned(), String::new()));
    let dashes =
        (verb == Some("exec")).then(|| ("--".to_owned(), "the command follows".to_owned()));
    let options = command.unwrap_or(&definition).get_arguments();
    let options = options.flat_map(|option| spellings(option).map(|name| (name, brief(option))));
    if last.starts_with('-') {
        lines(options.chain(dashes), last)
    } else {
        lines(words.chain(dashes), last)
    }
}

/// Returns the words; bash separates an option and its value, as in `--format = curl`.
fn joined(words: &[OsString]) -> Vec<String> {
    let mut joined: Vec<String> = Vec::new();
    let mut is_value = false;
    for word in words {
        let word = word.to_string_lossy();
        match joined.last_mut() {
            Some(option) if option.starts_with("--") && (word == "=" || is_value) => {
                option.push_str(&word);
            }
            Some(_) | None => joined.push(word.to_string()),
        }
        is_value = word == "=";
    }
    joined
}

fn spellings(option: &Arg) -> impl Iterator<Item = String> {
    let short = option.get_short().map(|short| format!("-{short}"));
    let long = option.get_long().map(|long| format!("--{long}"));
    short.into_iter().chain(long)
}

/// Returns the option of that name which has a value.
fn option_of<'a>(definition: &'a Command, name: &str) -> Option<&'a Arg> {
    let mut options = definition
        .get_subcommands()
        .flat_map(Command::get_arguments);
    options.find(|option| {
        option.get_action().takes_values() && spellings(option).any(|spelling| spelling == name)
    })
}

/// Returns the values of an option that begin so, each after `prefix`.
fn values(option: &Arg, prefix: &str, start: &str) -> String {
    if option.get_value_hint() == ValueHint::FilePath {
        return FILES.to_owned();
    }
    let values = option.get_possible_values().into_iter().map(|value| {
        let about = value.get_help().map(ToString::to_string);
        (
            format!("{prefix}{}", value.get_name()),
            about.unwrap_or_default(),
        )
    });
    lines(values, &format!("{prefix}{start}"))
}

fn lines(candidates: impl Iterator<Item = (String, String)>, start: &str) -> String {
    let candidates = candidates.filter(|(value, _)| value.starts_with(start));
    candidates.fold(String::new(), |text, (value, about)| {
        text + &value + "\t" + &about + "\n"
    })
}

/// Returns what an option does, without what can't be shown in a menu.
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

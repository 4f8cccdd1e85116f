//! Parses the arguments into a [`Command`].

mod missing_exec;
mod suggestions;
mod option_values;
mod commands;

use std::ffi::OsString;

use domo_token_protocol::scope::DOMO_SCOPE_NAMES;
use lexopt::{Arg, Parser};

use crate::options::{self, Key, OptionUsage, Value, Verb};
use crate::usage;

pub(crate) use commands::{
    Color, Command, Destination, Exec, Format, Get, Shell, Status, VARIABLE, Watch,
};
pub(crate) use missing_exec::ExecInstead;

pub(crate) use suggestions::nearest_verb;

/// The arguments, sorted into verb, words and options.
struct CommandLine {
    verb: Option<Verb>,
    words: Vec<String>,
    options: Vec<(Key, Option<OsString>)>,
    /// The number of words before each option.
    words_before: Vec<usize>,
    /// The command after `--`.
    command: Vec<OsString>,
    /// `$DOMO_TOKEN_CLIENT`
    client: Option<OsString>,
}

/// Parses the arguments.
///
/// # Errors
///
/// A message of one line.
pub(crate) fn parse(
    arguments: impl IntoIterator<Item = OsString>,
    client: Option<OsString>,
) -> Result<Command, String> {
    let mut arguments: Vec<OsString> = arguments.into_iter().collect();
    // No word after "--" is an option.
    let end = arguments.iter().position(|argument| argument == "--");
    let rest = end.map(|end| arguments.split_off(end).split_off(1));
    let mut parser = Parser::from_args(arguments);
    let mut line = CommandLine {
        verb: None,
        words: Vec::new(),
        options: Vec::new(),
        words_before: Vec::new(),
        command: Vec::new(),
        client,
    };
    while let Some(argument) = parser.next().map_err(|error| error.to_string())? {
        match argument {
            Arg::Value(word) => line.word(word, || rest_of(&mut parser))?,
            Arg::Short(letter) => {
                let known = options::OPTIONS.iter().find(|o| o.short == Some(letter));
                line.option(known, &format!("-{letter}"), &mut parser)?;
            }
            Arg::Long(name) => {
                let known = options::OPTIONS.iter().find(|o| o.long == name);
                let name = format!("--{name}");
                line.option(known, &name, &mut parser)?;
            }
        }
    }
    line.after_dashes(rest.unwrap_or_default())?;
    line.into_command()
}

impl CommandLine {
    /// Adds a word; `rest` returns the words after it.
    fn word(&mut self, word: OsString, rest: impl FnOnce() -> Vec<OsString>) -> Result<(), String> {
        let word = word.into_string().map_err(|word| {
            format!(
                "invalid scope {:?}: scopes are printable ASCII",
                word.display()
            )
        })?;
        if self.verb.is_none() && self.words.is_empty() {
            if let Some(verb) = usage::VERBS.iter().find(|verb| verb.name == word) {
                self.verb = Some(verb.verb);
                return Ok(());
            }
            if let Some(error) = suggestions::of_word(&word, rest) {
                return Err(error);
            }
        }
        self.words.push(word);
        Ok(())
    }

    /// Adds the words after `--`: as a command where one is possible, else as if there were no `--`.
    fn after_dashes(&mut self, rest: Vec<OsString>) -> Result<(), String> {
        if self.takes_command() {
            self.command = rest;
            return Ok(());
        }
        let mut rest = rest.into_iter();
        while let Some(word) = rest.next() {
            if word == "--" && self.takes_command() {
                self.command = rest.collect();
                return Ok(());
            }
            self.word(word, || rest.as_slice().to_vec())?;
        }
        Ok(())
    }

    /// Returns whether a command may follow `--`: that of exec, or one that is reported as meant for exec.
    fn takes_command(&self) -> bool {
        match self.verb {
            Some(Verb::Exec) => true,
            None | Some(Verb::Get | Verb::Watch | Verb::Status) => !self.words.is_empty(),
            Some(Verb::Completions | Verb::Help | Verb::Version) => false,
        }
    }

    fn option(
        &mut self,
        known: Option<&'static OptionUsage>,
        name: &str,
        parser: &mut Parser,
    ) -> Result<(), String> {
        let Some(option) = known else {
            return Err(self.unknown(name));
        };
        let value = match option.value {
            // After a letter come other letters, as in -no header.
            Value::Nothing if name.starts_with("--") && parser.optional_value().is_some() => {
                return Err(format!("{name} takes no value"));
            }
            Value::Nothing => None,
            Value::Maybe(_) => parser.optional_value(),
            Value::Text(what) | Value::File(what) | Value::OneOf(what, _) => {
                let value = parser.value().ok().filter(|value| !value.is_empty());
                let value = value
                    .ok_or_else(|| format!("missing value for {name}; usage: {name} {what}"))?;
                Some(value)
            }
        };
        self.options.push((option.key, value));
        self.words_before.push(self.words.len());
        Ok(())
    }

    fn unknown(&self, name: &str) -> String {
        if self.verb == Some(Verb::Exec) {
            if let Some(line) = self.exec_with_dashes(Some(name)) {
                return format!("unknown option {name}; did you mean: {line}");
            }
            return format!(
                "unknown option {name}; put the command and its options after \"--\": {EXEC_USAGE}"
            );
        }
        let word = name.trim_start_matches('-');
        if word.starts_with("scope") || DOMO_SCOPE_NAMES.contains(&word) {
            return format!("unknown option {name}; a scope is a plain word: domo-token data");
        }
        if word == "output" {
            return format!("unknown option {name}; did you mean: --format");
        }
        let near = options::OPTIONS.iter().map(OptionUsage::name);
        let near = near.min_by_key(|known| strsim::osa_distance(known, name));
        let exec = self.exec_with_dashes(Some(name));
        // A program's option may resemble one of ours.
        let max_distance = if exec.is_some() { 1 } else { 2 };
        let near = near
            .filter(|known| word.len() > 1 && strsim::osa_distance(known, name) <= max_distance);
        match (near, exec) {
            (Some(known), _) => format!("unknown option {name}; did you mean: {known}"),
            (None, Some(line)) => format!("unknown option {name}; did you mean: {line}"),
            (None, None) => {
                format!("unknown option {name}; for all options, run: domo-token --help")
            }
        }
    }
}

/// Returns the following words that are not options.
fn rest_of(parser: &mut Parser) -> Vec<OsString> {
    let is_word = |word: &OsString| !word.as_encoded_bytes().starts_with(b"-");
    let rest = parser.raw_args();
    rest.map(|rest| rest.filter(is_word).collect())
        .unwrap_or_default()
}

const EXEC_USAGE: &str = "domo-token exec data -- COMMAND";

#[cfg(test)]
mod tests;

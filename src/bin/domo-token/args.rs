//! Arguments → what is to be done.

mod values;
mod verbs;

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use domo_token_client::wire::Renew;
use lexopt::{Arg, Parser};

use crate::options::{self, Key, OptionUsage, Value, Verb};
use crate::usage;

/// What is to be done.
#[derive(Debug, PartialEq)]
pub(crate) enum Command {
    Get(Get),
    Explain {
        get: Get,
        json: bool,
    },
    Exec(Exec),
    Watch(Watch),
    Status(Status),
    /// The socket.
    Metrics(Option<PathBuf>),
    Completions(Shell),
    Help(Verb),
    Version,
}

/// `domo-token get`, and what other verbs have of it.
#[derive(Debug, PartialEq)]
pub(crate) struct Get {
    pub(crate) socket: Option<PathBuf>,
    pub(crate) client: Option<String>,
    pub(crate) min_ttl: Option<Duration>,
    pub(crate) timeout: Duration,
    pub(crate) wait: bool,
    pub(crate) format: Format,
    /// Whether a newline follows the token.
    pub(crate) newline: bool,
    pub(crate) renew: Option<Renew>,
    /// All words together: one scope set.
    pub(crate) scopes: String,
}

/// `domo-token exec`
#[derive(Debug, PartialEq)]
pub(crate) struct Exec {
    pub(crate) get: Get,
    pub(crate) place: Place,
    /// The program and its arguments; never empty.
    pub(crate) command: Vec<OsString>,
}

/// Where a command finds its token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    Env(String),
    Descriptor(i32),
}

/// `domo-token watch`
#[derive(Debug, PartialEq)]
pub(crate) struct Watch {
    pub(crate) get: Get,
    /// The file to keep the token in; else each goes to standard output.
    pub(crate) to: Option<PathBuf>,
    pub(crate) mode: u32,
}

/// `domo-token status`
#[derive(Debug, PartialEq)]
pub(crate) struct Status {
    pub(crate) socket: Option<PathBuf>,
    pub(crate) quiet: bool,
    pub(crate) json: bool,
    pub(crate) watch: bool,
    pub(crate) color: Color,
    /// Each word a scope set; none: all.
    pub(crate) scopes: Vec<String>,
}

/// The form in which a token is printed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Format {
    #[default]
    Token,
    Header,
    Curl,
    Json,
    Env,
    Export,
    PowerShell,
    Fish,
}

/// When the table has colours.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Color {
    /// On a terminal that can show them, unless `$NO_COLOR` is set.
    #[default]
    Auto,
    Always,
    Never,
}

/// Whose completions are printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Shell {
    Bash,
    Zsh,
    Fish,
    Pwsh,
}

/// Words that are never scopes where a verb could stand, with what to say of them.
const RESERVED: [(&str, &str); 6] = [
    (
        "doctor",
        "not in this version yet; see domo-token status, and domo-tokend check",
    ),
    ("check", "that is the daemon's: domo-tokend check"),
    ("init", "that is the daemon's: domo-tokend init"),
    ("renew", "use: domo-token get --renew SCOPE..."),
    (
        "login",
        "there is nothing to log in to; the daemon holds the credentials",
    ),
    (
        "logout",
        "there is nothing to log out of; the daemon holds the credentials",
    ),
];

/// What stands on the command line.
#[derive(Default)]
struct Given {
    verb: Option<Verb>,
    words: Vec<String>,
    options: Vec<(Key, Option<OsString>)>,
    /// What stands after `--`, where that is a command.
    command: Option<Vec<OsString>>,
    /// `$DOMO_TOKEN_CLIENT`
    client: Option<OsString>,
}

/// Reads the arguments.
///
/// # Errors
///
/// In words, for one line.
pub(crate) fn parse(
    arguments: impl IntoIterator<Item = OsString>,
    client: Option<OsString>,
) -> Result<Command, String> {
    let mut arguments: Vec<OsString> = arguments.into_iter().collect();
    // What follows "--" is nobody's option.
    let end = arguments.iter().position(|argument| argument == "--");
    let rest = end.map(|end| arguments.split_off(end).split_off(1));
    let mut parser = Parser::from_args(arguments);
    let mut given = Given {
        client,
        ..Given::default()
    };
    while let Some(argument) = parser.next().map_err(|error| error.to_string())? {
        match argument {
            Arg::Value(word) => given.word(word)?,
            Arg::Short(letter) => {
                let known = options::OPTIONS.iter().find(|o| o.short == Some(letter));
                given.option(known, &format!("-{letter}"), &mut parser)?;
            }
            Arg::Long(name) => {
                let known = options::OPTIONS.iter().find(|o| o.long == name);
                let name = format!("--{name}");
                given.option(known, &name, &mut parser)?;
            }
        }
    }
    if given.verb == Some(Verb::Exec) {
        given.command = rest;
    } else {
        for word in rest.into_iter().flatten() {
            given.word(word)?;
        }
    }
    given.into_command()
}

impl Given {
    fn word(&mut self, word: OsString) -> Result<(), String> {
        let word = word
            .into_string()
            .map_err(|word| format!("{:?}: a scope has only printable ASCII", word.display()))?;
        let first = self.verb.is_none() && self.words.is_empty();
        let verb = usage::VERBS.iter().find(|verb| first && verb.name == word);
        if let Some(verb) = verb {
            self.verb = Some(verb.verb);
            return Ok(());
        }
        if let Some((verb, why)) = RESERVED.iter().find(|(verb, _)| first && *verb == word) {
            return Err(format!("{verb}: {why}"));
        }
        self.words.push(word);
        Ok(())
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
            Value::Nothing if parser.optional_value().is_some() => {
                return Err(format!("{name} takes no value"));
            }
            Value::Nothing => None,
            Value::Maybe(_) => parser.optional_value(),
            Value::Text(what) | Value::File(what) | Value::OneOf(what, _) => {
                let value = parser.value().ok().filter(|value| !value.is_empty());
                let value = value.ok_or_else(|| format!("{name} needs a value: {name} {what}"))?;
                Some(value)
            }
        };
        self.options.push((option.key, value));
        Ok(())
    }

    fn unknown(&self, name: &str) -> String {
        if self.verb == Some(Verb::Exec) {
            return format!(
                "unknown option {name}; the command of exec and its options stand after \"--\", {EXEC_USAGE}"
            );
        }
        let word = name.trim_start_matches('-');
        if word.starts_with("scope") || options::SCOPES.contains(&word) {
            return format!(
                "unknown option {name}; a scope is a plain word, as in: domo-token data"
            );
        }
        if word == "output" {
            return format!("unknown option {name}; did you mean --format (-o)?");
        }
        let near = options::OPTIONS.iter().map(OptionUsage::name);
        let near = near.min_by_key(|known| strsim::osa_distance(known, name));
        match near.filter(|known| word.len() > 1 && strsim::osa_distance(known, name) <= 2) {
            Some(known) => format!("unknown option {name}; did you mean {known}?"),
            None => format!("unknown option {name}; see domo-token --help"),
        }
    }
}

const EXEC_USAGE: &str = "as in: domo-token exec data -- COMMAND";

/// The verb that the first of these scopes may be a slip of.
pub(crate) fn nearest_verb(scopes: &str) -> Option<&'static str> {
    let word = scopes.split([' ', ',']).next()?;
    let slips = if word.len() > 4 { 2 } else { 1 };
    let near = usage::VERBS.iter().map(|verb| verb.name);
    let near = near.min_by_key(|verb| strsim::osa_distance(verb, word))?;
    (strsim::osa_distance(near, word) <= slips).then_some(near)
}

#[cfg(test)]
mod tests;

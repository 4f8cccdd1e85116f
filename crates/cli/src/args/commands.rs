//! The commands with their options, and how each is made from the command line.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use domo_token_client::DEFAULT_TIMEOUT;
use domo_token_protocol::messages::Renew;

use super::option_values::{
    color, descriptor, format, limit, mode, renew, shell, socket, span, text, variable,
};
use super::suggestions;
use super::{CommandLine, EXEC_USAGE, ExecInstead};
use crate::options::{self, Key, Verb};
use crate::usage::VERBS;

/// The default variable for the token of a command.
pub(crate) const VARIABLE: &str = "DOMO_ACCESS_TOKEN";

/// The default mode of a token file.
const FILE_MODE: u32 = 0o600;

/// A parsed command line.
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

/// `domo-token get`, and the options that other commands share with it.
#[derive(Debug, PartialEq)]
pub(crate) struct Get {
    pub(crate) socket: Option<PathBuf>,
    pub(crate) client: Option<String>,
    /// Whether `$DOMO_TOKEN_CLIENT` names the client.
    pub(crate) is_client_variable: bool,
    pub(crate) min_ttl: Option<Duration>,
    pub(crate) timeout: Duration,
    pub(crate) wait: bool,
    pub(crate) format: Format,
    /// Whether a newline follows the token.
    pub(crate) newline: bool,
    pub(crate) renew: Option<Renew>,
    /// All words together: one scope set.
    pub(crate) scopes: String,
    /// The command line that may have been meant instead.
    pub(crate) exec_instead: Option<ExecInstead>,
}

/// `domo-token exec`
#[derive(Debug, PartialEq)]
pub(crate) struct Exec {
    pub(crate) get: Get,
    pub(crate) destination: Destination,
    /// The program and its arguments; never empty.
    pub(crate) command: Vec<OsString>,
}

/// The place where a command receives its token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Destination {
    Env(String),
    Descriptor(i32),
}

/// `domo-token watch`
#[derive(Debug, PartialEq)]
pub(crate) struct Watch {
    pub(crate) get: Get,
    /// The file to keep the token in; `None` for standard output.
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
    /// The scope sets, one per word; all if there is none.
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

/// The shell whose completions are printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Shell {
    Bash,
    Zsh,
    Fish,
    Pwsh,
}

impl CommandLine {
    pub(super) fn into_command(self) -> Result<Command, String> {
        let verb = self.verb.unwrap_or(Verb::Get);
        if self.has(Key::Help) {
            return Ok(Command::Help(verb));
        }
        if self.has(Key::Version) {
            return Ok(Command::Version);
        }
        if verb != Verb::Exec && !self.command.is_empty() {
            let line = suggestions::exec_line(&self.options, &self.words, &self.command);
            return Err(format!(
                "{} does not run commands; did you mean: {line}",
                verb.usage().name
            ));
        }
        if let Some(error) = self.missing_exec() {
            return Err(error);
        }
        self.check_options(verb)?;
        let color = self.value(Key::Color).map(|when| color(when));
        let color = color.transpose()?.unwrap_or_default();
        match verb {
            Verb::Get => self.into_get(),
            Verb::Exec => self.into_exec(),
            Verb::Watch => self.into_watch(),
            Verb::Status => self.into_status(color),
            Verb::Completions => self.into_completions(),
            Verb::Help => self.into_help(),
            Verb::Version => self.at_most(0).map(|()| Command::Version),
        }
    }

    fn has(&self, key: Key) -> bool {
        self.options.iter().any(|(given, _)| *given == key)
    }

    /// Returns the value of an option; the last one if it is repeated.
    fn value(&self, key: Key) -> Option<&OsString> {
        let mut given = self.options.iter().rev();
        let found = given.find(|(given, _)| *given == key);
        found.and_then(|(_, value)| value.as_ref())
    }

    /// Returns the path of `--socket`.
    fn socket(&self) -> Result<Option<PathBuf>, String> {
        self.value(Key::Socket)
            .map(|value| socket(value))
            .transpose()
    }

    fn check_options(&self, verb: Verb) -> Result<(), String> {
        let given = self.options.iter();
        let given = given.filter_map(|(key, _)| options::option(*key));
        let mut wrong = given.filter(|option| !option.verbs.contains(&verb));
        let Some(option) = wrong.next() else {
            return Ok(());
        };
        let name = option.name();
        let takes_it = |other: &&&crate::usage::VerbUsage| option.verbs.contains(&other.verb);
        let others: Vec<&str> = VERBS.iter().filter(takes_it).map(|v| v.name).collect();
        let hint = if option.key == Key::Json && options::TOKENS.contains(&verb) {
            "did you mean: --format json".to_owned()
        } else {
            format!("it is an option of {}", others.join(", "))
        };
        Err(format!(
            "{name} is not valid with {}; {hint}",
            verb.usage().name
        ))
    }

    /// Returns an error if there are more words than `count`.
    fn at_most(&self, count: usize) -> Result<(), String> {
        match self.words.get(count) {
            None => Ok(()),
            Some(word) => {
                let verb = self.verb.unwrap_or(Verb::Get).usage();
                let usage = verb.usage.join(" ");
                Err(format!(
                    "unexpected argument \"{word}\"; usage: domo-token {usage}"
                ))
            }
        }
    }

    fn into_help(self) -> Result<Command, String> {
        self.at_most(1)?;
        let Some(topic) = self.words.first() else {
            return Ok(Command::Help(Verb::Get));
        };
        let verb = VERBS.iter().find(|verb| verb.name == topic);
        let names: Vec<&str> = VERBS.iter().map(|verb| verb.name).collect();
        let wrong = || {
            format!(
                "no help for \"{topic}\": unknown command; use one of {}",
                names.join(", ")
            )
        };
        verb.map(|verb| Command::Help(verb.verb)).ok_or_else(wrong)
    }

    fn into_completions(self) -> Result<Command, String> {
        self.at_most(1)?;
        let Some(name) = self.words.first() else {
            let usage = Verb::Completions.usage().usage.join(" ");
            return Err(format!("missing shell; usage: domo-token {usage}"));
        };
        shell(name.as_ref()).map(Command::Completions)
    }

    fn into_status(self, color: Color) -> Result<Command, String> {
        let alone = |option: Key, others: &[Key]| {
            self.has(option) && others.iter().any(|other| self.has(*other))
        };
        if alone(Key::Metrics, &[Key::Quiet, Key::Json, Key::Watch])
            || (self.has(Key::Metrics) && !self.words.is_empty())
        {
            let message =
                "--metrics prints all metrics; omit the scopes and -q, --json and --watch";
            return Err(message.to_owned());
        }
        if alone(Key::Quiet, &[Key::Json, Key::Watch]) {
            return Err("-q prints nothing; omit --json and --watch".to_owned());
        }
        let socket = self.socket()?;
        if self.has(Key::Metrics) {
            return Ok(Command::Metrics(socket));
        }
        Ok(Command::Status(Status {
            socket,
            quiet: self.has(Key::Quiet),
            json: self.has(Key::Json),
            watch: self.has(Key::Watch),
            color,
            scopes: self.words,
        }))
    }

    fn into_get(self) -> Result<Command, String> {
        if !self.has(Key::Explain) {
            if self.has(Key::Json) {
                let message = "--json requires --explain; for a token as JSON, use: --format json";
                return Err(message.to_owned());
            }
            return self.get(Format::Token).map(Command::Get);
        }
        let needless = [Key::Format, Key::NoNewline, Key::MinTtl, Key::Renew];
        if needless.into_iter().any(|key| self.has(key)) {
            let message =
                "--explain requests no token; omit --format, --no-newline, --min-ttl and --renew";
            return Err(message.to_owned());
        }
        let json = self.has(Key::Json);
        let get = self.get(Format::Token)?;
        Ok(Command::Explain { get, json })
    }

    fn into_exec(mut self) -> Result<Command, String> {
        if cfg!(windows) && self.has(Key::Fd) {
            let message = "--fd is not available on Windows; use --env";
            return Err(message.to_owned());
        }
        let destination = match (self.value(Key::Env), self.value(Key::Fd)) {
            (Some(_), Some(_)) => {
                return Err("--env and --fd cannot be combined; use one of them".to_owned());
            }
            (Some(name), None) => variable(name)?,
            (None, Some(number)) => descriptor(number)?,
            (None, None) => Destination::Env(VARIABLE.to_owned()),
        };
        let form = [Key::Format, Key::NoNewline];
        if let Some(key) = form.into_iter().find(|key| self.has(*key))
            && matches!(destination, Destination::Env(_))
        {
            let name = options::name(key);
            return Err(format!(
                "{name} requires --fd: a variable holds the token alone"
            ));
        }
        let command = std::mem::take(&mut self.command);
        if command.is_empty() {
            return Err(match self.exec_with_dashes(None) {
                Some(line) => format!("missing \"--\" before the command; did you mean: {line}"),
                None => format!("missing command; put it after \"--\": {EXEC_USAGE}"),
            });
        }
        Ok(Command::Exec(Exec {
            get: self.get(Format::Token)?,
            destination,
            command,
        }))
    }

    fn into_watch(self) -> Result<Command, String> {
        let to = self.value(Key::To).map(PathBuf::from);
        if to.as_ref().is_some_and(|path| path.as_os_str() == "-") {
            return Err(
                "invalid value \"-\" for --to: not a file; to print the token, omit --to"
                    .to_owned(),
            );
        }
        if to.is_none() && self.has(Key::Mode) {
            return Err("--mode requires --to: it is the mode of that file".to_owned());
        }
        if to.is_none() && self.has(Key::NoNewline) {
            let message = "--no-newline requires --to: on standard output each token is a line";
            return Err(message.to_owned());
        }
        if cfg!(windows) && self.has(Key::Mode) {
            return Err("--mode is not available on Windows; a file inherits the access list of its directory".to_owned());
        }
        let mode = self.value(Key::Mode).map_or(Ok(FILE_MODE), |m| mode(m))?;
        // On standard output, each line has to identify its token.
        let format = if to.is_some() {
            Format::Token
        } else {
            Format::Json
        };
        Ok(Command::Watch(Watch {
            get: self.get(format)?,
            to,
            mode,
        }))
    }

    /// Returns the options of `get`; `default` is the format if none is given.
    fn get(self, default: Format) -> Result<Get, String> {
        if self.words.is_empty() {
            let usage = match self.verb {
                Some(Verb::Exec) => EXEC_USAGE,
                Some(Verb::Watch) => "domo-token watch data",
                Some(_) | None => "domo-token data",
            };
            return Err(format!("missing scope; name at least one: {usage}"));
        }
        let is_number = |word: &String| word.bytes().all(|byte| byte.is_ascii_digit());
        if let Some(number) = self.words.first().filter(|word| is_number(word))
            && self.has(Key::Renew)
        {
            return Err(format!(
                "missing \"=\" before the generation; use: --renew={number}"
            ));
        }
        let client = match (self.value(Key::Client), &self.client) {
            (Some(name), _) => Some(text(name, "--client")?),
            (None, Some(name)) if !name.is_empty() => Some(text(name, "$DOMO_TOKEN_CLIENT")?),
            (None, _) => None,
        };
        let min_ttl = self.value(Key::MinTtl).map(|v| span(v, "--min-ttl"));
        let timeout = self.value(Key::Timeout).map(|v| limit(v, "--timeout"));
        let renew = self.has(Key::Renew).then(|| renew(self.value(Key::Renew)));
        Ok(Get {
            socket: self.socket()?,
            is_client_variable: client.is_some() && !self.has(Key::Client),
            client,
            min_ttl: min_ttl.transpose()?,
            timeout: timeout.transpose()?.unwrap_or(DEFAULT_TIMEOUT),
            wait: self.has(Key::Wait),
            format: self.value(Key::Format).map_or(Ok(default), |f| format(f))?,
            newline: !self.has(Key::NoNewline),
            renew: renew.transpose()?,
            scopes: self.words.join(" "),
            exec_instead: self.exec_instead(),
        })
    }
}

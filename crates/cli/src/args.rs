//! Parses the arguments into a [`Command`].

mod exec_line;
mod suggestions;

use std::error::Error;
use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{Args, CommandFactory};
use domo_token_protocol::messages::Renew;
use domo_token_stdout::help_columns;

use crate::command_line::{
    CommandLine, Common, CompletionsArgs, ExecArgs, Format, GetArgs, Shell, StatusArgs, TokenArgs,
    VERBS, WatchArgs,
};

pub(crate) use exec_line::ExecInstead;
pub(crate) use suggestions::nearest_verb;

/// The default variable for the token of a command.
pub(crate) const VARIABLE: &str = "DOMO_ACCESS_TOKEN";

/// The default mode of a token file.
const FILE_MODE: u32 = 0o600;

const EXEC_USAGE: &str = "as in: domo-token exec data -- COMMAND";

/// What the program runs.
#[derive(Debug, PartialEq)]
pub(crate) enum Command {
    Get(Get),
    Explain {
        get: Get,
        json: bool,
    },
    Exec(Exec),
    Watch(Watch),
    Status(StatusArgs),
    /// The socket.
    Metrics(Option<PathBuf>),
    Completions(Shell),
    /// The text of `--help` or `--version`.
    Print(String),
}

/// `domo-token get`, and the options that other verbs share with it.
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

/// Where a command finds its token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Destination {
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

/// What ends the program before a command runs.
enum Stop {
    /// The text of `--help` or `--version`.
    Print(String),
    /// A message of one line.
    Usage(String),
}

impl<M: Into<String>> From<M> for Stop {
    fn from(message: M) -> Self {
        Self::Usage(message.into())
    }
}

/// Parses the arguments; `client` is `$DOMO_TOKEN_CLIENT`.
///
/// # Errors
///
/// The message, of one line.
pub(crate) fn parse(
    arguments: impl IntoIterator<Item = OsString>,
    client: Option<OsString>,
) -> Result<Command, String> {
    let mut arguments = arguments.into_iter().collect();
    let verb = take_verb(&mut arguments)?;
    let line = Line {
        verb,
        arguments,
        client,
    };
    match line.into_command() {
        Ok(command) => Ok(command),
        Err(Stop::Print(text)) => Ok(Command::Print(text)),
        Err(Stop::Usage(message)) => Err(message),
    }
}

/// Removes the verb, which options may precede, and dashes that only end the options before a word.
fn take_verb(arguments: &mut Vec<OsString>) -> Result<Option<&'static str>, String> {
    let Some(at) = first_word(arguments) else {
        return Ok(None);
    };
    let word = arguments
        .get(at)
        .and_then(|word| word.to_str())
        .unwrap_or_default();
    let verb = VERBS.into_iter().find(|verb| *verb == word);
    let rest = arguments.get(at + 1..).unwrap_or_default();
    if verb.is_none()
        && let Some(message) = suggestions::of_word(word, rest)
    {
        return Err(message);
    }
    if verb.is_some() {
        arguments.remove(at);
    }
    remove_dashes_before(arguments, at);
    if !matches!(verb, None | Some("exec"))
        && let Some(at) = first_word(arguments)
    {
        remove_dashes_before(arguments, at);
    }
    Ok(verb)
}

fn remove_dashes_before(arguments: &mut Vec<OsString>, at: usize) {
    if let Some(before) = at.checked_sub(1)
        && arguments.get(before).is_some_and(|before| before == "--")
    {
        arguments.remove(before);
    }
}

/// Returns the index of the first argument that is neither an option nor its value; none where it
/// makes no difference.
fn first_word(arguments: &[OsString]) -> Option<usize> {
    let is_option = |word: &OsString| word.as_encoded_bytes().starts_with(b"-");
    if !is_option(arguments.first()?) {
        return Some(0);
    }
    // To know which options have a value takes longer than all else.
    let may_be_verb = |word: &OsString| {
        let word = word.to_str().unwrap_or_default();
        word == "--" || VERBS.contains(&word) || suggestions::of_word(word, &[]).is_some()
    };
    if !arguments.iter().any(may_be_verb) {
        return None;
    }
    let definition = CommandLine::command();
    let mut at = 0;
    loop {
        let argument = arguments.get(at)?;
        if argument == "--" {
            return (!is_option(arguments.get(at + 1)?)).then_some(at + 1);
        }
        if !is_option(argument) {
            return Some(at);
        }
        let option = argument.to_str().unwrap_or_default();
        at += 1 + usize::from(takes_next(&definition, option));
    }
}

/// Whether the value of an option, of whichever verb, is the next argument.
fn takes_next(definition: &clap::Command, option: &str) -> bool {
    let verbs = definition.get_subcommands();
    let options = verbs.flat_map(clap::Command::get_arguments);
    let mut options = options
        .filter(|option| option.get_action().takes_values() && !option.is_require_equals_set());
    if let Some(long) = option.strip_prefix("--") {
        return options.any(|option| option.get_long() == Some(long));
    }
    // Flags may precede it, as in -no; the value may follow it, as in -ofish.
    let valued: Vec<char> = options.filter_map(clap::Arg::get_short).collect();
    let at = option.find(|letter| valued.contains(&letter));
    at.is_some_and(|at| at + 1 == option.len())
}

/// The arguments without the verb.
struct Line {
    verb: Option<&'static str>,
    arguments: Vec<OsString>,
    /// `$DOMO_TOKEN_CLIENT`
    client: Option<OsString>,
}

impl Line {
    fn into_command(self) -> Result<Command, Stop> {
        match self.verb {
            None | Some("get") => self.into_get(),
            Some("exec") => self.into_exec(),
            Some("watch") => self.into_watch(),
            Some("status") => self.into_status(),
            Some("completions") => {
                let (args, _) = self.parse::<CompletionsArgs>()?;
                let shell = args
                    .shell
                    .ok_or("name a shell: domo-token completions bash|zsh|fish|powershell")?;
                Ok(Command::Completions(shell))
            }
            Some("version") => {
                self.parse::<Common>()?;
                Err(version())
            }
            Some(_) => Err(self.help()),
        }
    }

    /// Parses by the definition of one verb: building those of all takes a tenth of the program's time.
    fn parse<A: Args>(&self) -> Result<(A, Option<ExecInstead>), Stop> {
        let mut definition = definition::<A>();
        let matches = definition.try_get_matches_from_mut(&self.arguments);
        let mut matches = matches.map_err(|error| self.stop::<A>(&error))?;
        let exec_instead = exec_line::check(self.verb, &matches)?;
        let args = A::from_arg_matches_mut(&mut matches);
        Ok((args.map_err(|error| one_line(&error))?, exec_instead))
    }

    fn stop<A: Args>(&self, error: &clap::Error) -> Stop {
        let kind = error.kind();
        if kind == ErrorKind::DisplayHelp {
            return self.help();
        }
        if kind == ErrorKind::DisplayVersion {
            return version();
        }
        let Some(ContextValue::String(syntax)) = error.get(ContextKind::InvalidArg) else {
            return one_line(error).into();
        };
        let mut parts = syntax.split([' ', '=', '[', ']']);
        let name = parts.find(|part| !part.is_empty()).unwrap_or_default();
        if kind == ErrorKind::TooManyValues {
            // The value may be a secret, as in the options of a command without exec.
            return format!("{name} takes no value").into();
        }
        if let Some(ContextValue::String(value)) = error.get(ContextKind::InvalidValue) {
            return of_value(error, syntax, name, value).into();
        }
        if kind != ErrorKind::UnknownArgument {
            return one_line(error).into();
        }
        let definition = definition::<A>().ignore_errors(true);
        let matches = definition.try_get_matches_from(&self.arguments).ok();
        suggestions::of_unknown(syntax, self.verb, matches.as_ref()).into()
    }

    /// Returns what `help`, `--help` and `-h` print.
    fn help(&self) -> Stop {
        let mut definition = CommandLine::command().term_width(help_columns());
        definition.build();
        let is_word = |word: &&str| !word.starts_with('-');
        let mut arguments = self
            .arguments
            .iter()
            .filter_map(|argument| argument.to_str());
        let is_short = self.verb != Some("help") && arguments.clone().all(|word| word != "--help");
        let topic = match self.verb {
            Some("help") => arguments.find(is_word),
            verb => verb,
        };
        let command = match topic {
            None => Some(&mut definition),
            Some(name) => definition.find_subcommand_mut(name),
        };
        let help = match command {
            Some(command) if is_short => command.render_help(),
            Some(command) => command.render_long_help(),
            None => {
                let topic = topic.unwrap_or_default();
                return format!("no help on \"{topic}\", but on {}", VERBS.join(", ")).into();
            }
        };
        Stop::Print(help.to_string())
    }

    fn into_status(self) -> Result<Command, Stop> {
        let (mut args, _) = self.parse::<StatusArgs>()?;
        if args.metrics {
            return Ok(Command::Metrics(args.common.socket));
        }
        args.scopes = words(args.scopes, std::mem::take(&mut args.command))?;
        Ok(Command::Status(args))
    }

    fn into_get(self) -> Result<Command, Stop> {
        let (args, exec_instead) = self.parse::<GetArgs>()?;
        let GetArgs {
            token,
            renew,
            explain,
            json,
        } = args;
        if json && !explain {
            return Err("--json goes with --explain; for a token as JSON use --format json".into());
        }
        let get = self.get(token, renew, Format::Token, exec_instead)?;
        if explain {
            return Ok(Command::Explain { get, json });
        }
        Ok(Command::Get(get))
    }

    fn into_exec(self) -> Result<Command, Stop> {
        let (args, _) = self.parse::<ExecArgs>()?;
        if cfg!(windows) && args.fd.is_some() {
            return Err("--fd: Windows has no descriptors to hand on; use --env NAME".into());
        }
        let has_form = args.token.format.is_some() || args.token.no_newline;
        if args.fd.is_none() && has_form {
            return Err(
                "a variable holds the bare token: --format and --no-newline go with --fd".into(),
            );
        }
        let destination = match args.fd {
            Some(number) => Destination::Descriptor(number),
            None => Destination::Env(args.env.unwrap_or_else(|| VARIABLE.to_owned())),
        };
        let mut token = args.token;
        let command = std::mem::take(&mut token.command);
        let get = self.get(token, args.renew, Format::Token, None)?;
        if command.is_empty() {
            return Err(format!("name a command after \"--\", {EXEC_USAGE}").into());
        }
        Ok(Command::Exec(Exec {
            get,
            destination,
            command,
        }))
    }

    fn into_watch(self) -> Result<Command, Stop> {
        let (args, _) = self.parse::<WatchArgs>()?;
        if args.to.as_ref().is_some_and(|path| path.as_os_str() == "-") {
            return Err("--to takes a file; without it standard output is used".into());
        }
        if args.to.is_none() && args.mode.is_some() {
            return Err("--mode is that of the file: it goes with --to".into());
        }
        if args.to.is_none() && args.token.no_newline {
            return Err(
                "each token on standard output is a line: --no-newline goes with --to".into(),
            );
        }
        if cfg!(windows) && args.mode.is_some() {
            return Err("--mode: files have no mode on Windows".into());
        }
        // Lines are told apart by what stands in them.
        let format = if args.to.is_some() {
            Format::Token
        } else {
            Format::Json
        };
        Ok(Command::Watch(Watch {
            get: self.get(args.token, None, format, None)?,
            to: args.to,
            mode: args.mode.unwrap_or(FILE_MODE),
        }))
    }

    /// Returns the options of `get`; `default` is the format if none is given.
    fn get(
        &self,
        args: TokenArgs,
        renew: Option<Renew>,
        default: Format,
        exec_instead: Option<ExecInstead>,
    ) -> Result<Get, String> {
        let scopes = words(args.scopes, args.command)?;
        let Some(first) = scopes.first() else {
            let usage = match self.verb {
                Some("exec") => EXEC_USAGE,
                Some("watch") => "as in: domo-token watch data",
                Some(_) | None => "as in: domo-token data",
            };
            return Err(format!("name at least one scope, {usage}"));
        };
        if renew.is_some() && first.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(format!(
                "a generation follows an equals sign: --renew={first}"
            ));
        }
        let variable = self
            .client
            .as_ref()
            .filter(|name| !name.is_empty() && args.client.is_none());
        let variable = variable.map(|name| {
            let text = name.to_str().map(str::to_owned);
            text.ok_or_else(|| format!("$DOMO_TOKEN_CLIENT {:?}: not UTF-8", name.display()))
        });
        let variable = variable.transpose()?;
        Ok(Get {
            socket: args.common.socket,
            is_client_variable: variable.is_some(),
            client: args.client.or(variable),
            min_ttl: args.min_ttl,
            timeout: args.timeout,
            wait: args.wait,
            format: args.format.unwrap_or(default),
            newline: !args.no_newline,
            renew,
            scopes: scopes.join(" "),
            exec_instead,
        })
    }
}

fn definition<A: Args>() -> clap::Command {
    let command = clap::Command::new("domo-token").version("");
    A::augment_args(command.no_binary_name(true).args_override_self(true))
}

/// Returns the message for a value that an option cannot have.
fn of_value(error: &clap::Error, syntax: &str, name: &str, value: &str) -> String {
    if value.is_empty() {
        return format!("{name} needs a value: {syntax}");
    }
    if let Some(ContextValue::Strings(values)) = error.get(ContextKind::ValidValue) {
        let values = values.join(", ");
        return format!("{name} \"{value}\": choose one of {values}");
    }
    match error.source() {
        Some(reason) => format!("{name} \"{value}\": {reason}"),
        None => one_line(error),
    }
}

/// Returns the words of a verb that runs no command, where those after `--` are words as well.
fn words(mut words: Vec<String>, after_dashes: Vec<OsString>) -> Result<Vec<String>, String> {
    for word in after_dashes {
        let word = word.into_string();
        words.push(word.map_err(|word| format!("{:?}: not UTF-8", word.display()))?);
    }
    Ok(words)
}

fn version() -> Stop {
    Stop::Print(concat!("domo-token ", env!("CARGO_PKG_VERSION"), "\n").to_owned())
}

/// Returns the first paragraph of an error, which usage and advice follow.
fn one_line(error: &clap::Error) -> String {
    let text = error.to_string();
    let paragraph = text.split("\n\n").next().unwrap_or_default();
    let lines: Vec<&str> = paragraph.lines().map(str::trim).collect();
    lines.join(" ").replacen("error: ", "", 1)
}

#[cfg(test)]
mod tests;

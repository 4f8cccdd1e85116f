//! Arguments → what is to be done.

mod verbs;

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use domo_token_client::duration;
use domo_token_client::wire::{MAX_TIME_LEFT_MS, Renew};
use lexopt::{Arg, Parser, ValueExt};

use verbs::Seen;

/// What is to be done.
#[derive(Debug, PartialEq)]
pub(crate) enum Command {
    Get(Get),
    Explain(Get),
    Status(Status),
    Exec(Exec),
    Watch(Watch),
    Completions(Shell),
    Help(Topic),
    Version,
}

/// What help is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Topic {
    All,
    Status,
    Exec,
    Watch,
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

/// Whose completions are printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Shell {
    Bash,
    Zsh,
    Fish,
    Pwsh,
}

const SHELLS: [(&str, Shell); 4] = [
    ("bash", Shell::Bash),
    ("zsh", Shell::Zsh),
    ("fish", Shell::Fish),
    ("powershell", Shell::Pwsh),
];

/// The variable that a command finds its token in when nothing is said.
const VARIABLE: &str = "DOMO_ACCESS_TOKEN";

/// The mode of a file that holds a token when nothing is said.
const FILE_MODE: u32 = 0o600;

/// `domo-token get`
#[derive(Debug, PartialEq)]
pub(crate) struct Get {
    pub(crate) socket: Option<PathBuf>,
    pub(crate) client: Option<String>,
    pub(crate) min_ttl: Option<Duration>,
    pub(crate) timeout: Duration,
    pub(crate) wait: bool,
    pub(crate) format: Format,
    pub(crate) renew: Option<Renew>,
    /// All words together: one scope set.
    pub(crate) scopes: String,
}

/// `domo-token status`
#[derive(Debug, PartialEq)]
pub(crate) struct Status {
    pub(crate) socket: Option<PathBuf>,
    pub(crate) quiet: bool,
    pub(crate) json: bool,
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
}

const FORMATS: [(&str, Format); 5] = [
    ("token", Format::Token),
    ("header", Format::Header),
    ("curl", Format::Curl),
    ("json", Format::Json),
    ("env", Format::Env),
];

/// Words that are never scopes, with what to say of those that do nothing here.
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

/// The verbs, for whoever mistypes one.
const VERBS: [&str; 7] = [
    "get",
    "status",
    "watch",
    "exec",
    "completions",
    "help",
    "version",
];

/// How long a call takes at most when nothing is said.
const TIMEOUT: Duration = Duration::from_secs(10);

/// Reads the arguments.
///
/// # Errors
///
/// In words, for one line.
pub(crate) fn parse(
    arguments: impl IntoIterator<Item = OsString>,
    client: Option<String>,
) -> Result<Command, String> {
    let mut arguments: Vec<OsString> = arguments.into_iter().collect();
    // What follows "--" is nobody's option.
    let end = arguments.iter().position(|argument| argument == "--");
    let rest = end.map(|end| arguments.split_off(end).split_off(1));
    let mut parser = Parser::from_args(arguments);
    let mut seen = Seen::default();
    while let Some(argument) = parser.next().map_err(|error| error.to_string())? {
        match argument {
            Arg::Short('h') | Arg::Long("help") => seen.switches.push("--help"),
            Arg::Short('V') | Arg::Long("version") => return Ok(Command::Version),
            Arg::Value(word) => seen.word(word)?,
            Arg::Short(_) | Arg::Long(_) => {
                option(&argument_name(&argument), &mut parser, &mut seen)?;
            }
        }
    }
    if seen.verb.as_deref() == Some("exec") {
        seen.command = rest.unwrap_or_default();
    } else {
        rest.into_iter()
            .flatten()
            .try_for_each(|word| seen.word(word))?;
    }
    seen.into_command(client)
}

fn argument_name(argument: &Arg<'_>) -> String {
    match argument {
        Arg::Short(letter) => format!("-{letter}"),
        Arg::Long(name) => format!("--{name}"),
        Arg::Value(_) => String::new(),
    }
}

fn option(name: &str, parser: &mut Parser, seen: &mut Seen) -> Result<(), String> {
    let get_only = [
        "-c",
        "--client",
        "--min-ttl",
        "--timeout",
        "--wait",
        "--format",
        "--renew",
        "--explain",
    ];
    if get_only.contains(&name) {
        seen.get_options.push(name.to_owned());
    }
    match name {
        "--socket" => seen.socket = Some(value(parser, name)?.into()),
        "-c" | "--client" => seen.client = Some(text(parser, name)?),
        "--min-ttl" => seen.min_ttl = Some(span(parser, name)?),
        "--timeout" => seen.timeout = Some(limit(span(parser, name)?, name)?),
        "--wait" => seen.switches.push("--wait"),
        "--explain" => seen.switches.push("--explain"),
        "--format" => {
            seen.format = format(&text(parser, name)?)?;
            seen.has_format = true;
        }
        "--renew" => seen.renew = Some(renew(parser.optional_value())?),
        "--env" | "--fd" | "--to" | "--mode" => {
            seen.get_options.push(name.to_owned());
            seen.placed.push((name.to_owned(), value(parser, name)?));
        }
        "-q" | "--quiet" => seen.switches.push("-q"),
        "--json" => seen.switches.push("--json"),
        _ => return Err(format!("unknown option {name}; see domo-token --help")),
    }
    Ok(())
}

fn value(parser: &mut Parser, name: &str) -> Result<OsString, String> {
    parser.value().map_err(|_| format!("{name} needs a value"))
}

fn text(parser: &mut Parser, name: &str) -> Result<String, String> {
    let value = value(parser, name)?;
    value
        .string()
        .map_err(|_| format!("{name} needs a value in UTF-8"))
}

fn span(parser: &mut Parser, name: &str) -> Result<Duration, String> {
    let text = text(parser, name)?;
    let wrong = || format!("{name} {text:?}: a duration is 90s, 5m, 1h, or plain seconds");
    duration::parse(&text).ok_or_else(wrong)
}

fn limit(span: Duration, name: &str) -> Result<Duration, String> {
    let most = Duration::from_millis(MAX_TIME_LEFT_MS);
    if span > most {
        return Err(format!("{name}: at most {} s", most.as_secs()));
    }
    Ok(span)
}

fn format(text: &str) -> Result<Format, String> {
    let found = FORMATS.iter().find(|(name, _)| *name == text);
    let names: Vec<&str> = FORMATS.iter().map(|(name, _)| *name).collect();
    let wrong = || format!("--format {text:?}: one of {}", names.join(", "));
    found.map(|(_, format)| *format).ok_or_else(wrong)
}

fn renew(generation: Option<OsString>) -> Result<Renew, String> {
    let Some(generation) = generation else {
        return Ok(Renew::Current);
    };
    let number = generation.to_str().and_then(|text| text.parse().ok());
    let wrong = || "--renew=GENERATION takes the number that --format json shows".to_owned();
    number.map(Renew::Rejected).ok_or_else(wrong)
}

/// A word that may be a mistyped verb.
pub(crate) fn nearest_verb(word: &str) -> Option<&'static str> {
    let near = |verb: &&&str| strsim::levenshtein(verb, word) <= 2;
    VERBS
        .iter()
        .filter(near)
        .min_by_key(|verb| strsim::levenshtein(verb, word))
        .copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(words: &str) -> Result<Command, String> {
        parse(words.split_whitespace().map(OsString::from), None)
    }

    fn get(words: &str) -> Get {
        match read(words) {
            Ok(Command::Get(get)) => get,
            other => panic!("{words}: {other:?}"),
        }
    }

    #[test]
    fn the_verb_may_be_left_out_and_options_stand_anywhere() {
        assert_eq!(get("data"), get("get data"));
        assert_eq!(get("--format curl data"), get("get data --format=curl"));
        assert_eq!(get("data user").scopes, "data user");
        assert_eq!(get("-c acme data").client.as_deref(), Some("acme"));
        assert_eq!(
            get("--min-ttl 5m data").min_ttl,
            Some(Duration::from_secs(300))
        );
        assert_eq!(get("--renew data").renew, Some(Renew::Current));
        assert_eq!(get("--renew=7 data").renew, Some(Renew::Rejected(7)));
        assert_eq!(get("data status").scopes, "data status");
    }

    #[test]
    fn the_environments_client_counts_when_none_is_named() {
        let parsed = parse(["data".into()], Some("acme".to_owned()));
        assert!(matches!(parsed, Ok(Command::Get(get)) if get.client.as_deref() == Some("acme")));
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (words, named) in [
            ("", "scope"),
            ("get", "scope"),
            ("--frmat curl data", "--frmat"),
            ("--format yaml data", "token, header, curl, json, env"),
            ("--min-ttl soon data", "90s"),
            ("--timeout 11m data", "600 s"),
            ("--timeout", "needs a value"),
            ("--renew=x data", "--renew"),
            ("exec data", "--"),
            ("exec -- env", "scope"),
            ("exec --fd 1 data -- env", "from 3"),
            ("exec --env 1X data -- env", "variable"),
            ("exec --env A --fd 3 data -- env", "one of"),
            ("exec --format header data -- env", "--fd"),
            ("exec --to f data -- env", "--to"),
            ("watch --mode 0600 data", "--to"),
            ("watch --to f --mode 0777 data", "0666"),
            ("watch --fd 3 data", "--fd"),
            ("watch --wait data", "--wait"),
            ("data --to f", "--to"),
            ("completions", "bash"),
            ("check", "daemon"),
            ("login", "credentials"),
            ("--json data", "--format json"),
            ("status --format json", "--format"),
            ("--wait=yes data", "--wait"),
        ] {
            let error = read(words).expect_err(words);
            assert!(error.contains(named), "{words}: {error}");
            assert_eq!(error.lines().count(), 1);
        }
    }

    #[test]
    fn status_and_help_are_read() {
        let status = read("status -q data --json").unwrap();
        assert!(matches!(
            status,
            Command::Status(Status {
                quiet: true,
                json: true,
                ..
            })
        ));
        assert_eq!(read("--help"), Ok(Command::Help(Topic::All)));
        assert_eq!(read("status --help"), Ok(Command::Help(Topic::Status)));
        assert_eq!(read("help"), Ok(Command::Help(Topic::All)));
        assert_eq!(read("--version"), Ok(Command::Version));
    }

    #[test]
    fn exec_and_watch_say_where_a_token_goes() {
        let Ok(Command::Exec(exec)) = read("exec --fd 3 --format header data -- curl -fsS --x")
        else {
            panic!("no exec");
        };
        assert_eq!(
            (exec.place, exec.get.format),
            (Place::Descriptor(3), Format::Header)
        );
        assert_eq!(exec.command, ["curl", "-fsS", "--x"]);
        let Ok(Command::Exec(exec)) = read("-c acme exec data user -- env") else {
            panic!("no exec");
        };
        assert_eq!(exec.place, Place::Env("DOMO_ACCESS_TOKEN".to_owned()));
        assert_eq!(
            (exec.get.scopes.as_str(), exec.get.client.as_deref()),
            ("data user", Some("acme"))
        );
        let Ok(Command::Watch(watch)) = read("watch --to f data") else {
            panic!("no watch");
        };
        assert_eq!((watch.mode, watch.get.format), (0o600, Format::Token));
        assert!(
            matches!(read("watch data"), Ok(Command::Watch(watch)) if watch.get.format == Format::Json)
        );
        assert_eq!(
            read("completions fish"),
            Ok(Command::Completions(Shell::Fish))
        );
        assert_eq!(read("exec --help"), Ok(Command::Help(Topic::Exec)));
        assert_eq!(get("-- data").scopes, "data");
    }

    #[test]
    fn what_is_nearly_a_verb_is_known() {
        assert_eq!(nearest_verb("statsu"), Some("status"));
        assert_eq!(nearest_verb("wach"), Some("watch"));
        assert_eq!(nearest_verb("dashboard"), None);
        assert_eq!(nearest_verb("workflow"), None);
    }
}

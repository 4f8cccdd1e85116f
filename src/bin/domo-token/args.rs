//! Arguments → what is to be done.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use domo_token_client::duration;
use domo_token_client::wire::{MAX_TIME_LEFT_MS, Renew};
use lexopt::{Arg, Parser, ValueExt};

/// What is to be done.
#[derive(Debug, PartialEq)]
pub(crate) enum Command {
    Get(Get),
    Explain(Get),
    Status(Status),
    Help(Topic),
    Version,
}

/// What help is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Topic {
    All,
    Status,
}

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
const RESERVED: [(&str, &str); 10] = [
    ("watch", "not in this version yet"),
    ("exec", "not in this version yet"),
    ("completions", "not in this version yet"),
    ("doctor", "not in this version yet"),
    ("check", "that is the daemon's, and not in this version yet"),
    ("init", "that is the daemon's, and not in this version yet"),
    ("renew", "use: domo-token get --renew SCOPE..."),
    (
        "login",
        "there is nothing to log in to; the daemon holds the credentials",
    ),
    (
        "logout",
        "there is nothing to log out of; the daemon holds the credentials",
    ),
    ("version", ""),
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
    let arguments: Vec<OsString> = arguments.into_iter().collect();
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
        "--format" => seen.format = format(&text(parser, name)?)?,
        "--renew" => seen.renew = Some(renew(parser.optional_value())?),
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

/// What was given so far.
#[derive(Default)]
struct Seen {
    verb: Option<String>,
    words: Vec<String>,
    /// Options without a value.
    switches: Vec<&'static str>,
    socket: Option<PathBuf>,
    client: Option<String>,
    min_ttl: Option<Duration>,
    timeout: Option<Duration>,
    format: Format,
    renew: Option<Renew>,
    /// Options that mean something to `get` alone.
    get_options: Vec<String>,
}

impl Seen {
    fn has(&self, switch: &str) -> bool {
        self.switches.contains(&switch)
    }

    fn word(&mut self, word: OsString) -> Result<(), String> {
        let word = word.string().map_err(|_| "a scope is UTF-8".to_owned())?;
        let first = self.verb.is_none() && self.words.is_empty();
        if first && ["get", "status", "help"].contains(&word.as_str()) {
            self.verb = Some(word);
            return Ok(());
        }
        if first && word == "version" {
            self.verb = Some(word);
            return Ok(());
        }
        if let Some((verb, why)) = RESERVED.iter().find(|(verb, _)| first && *verb == word) {
            return Err(format!("{verb}: {why}"));
        }
        self.words.push(word);
        Ok(())
    }

    fn into_command(self, client: Option<String>) -> Result<Command, String> {
        match self.verb.as_deref() {
            Some("version") => Ok(Command::Version),
            Some("help") if self.words.first().is_some_and(|word| word == "status") => {
                Ok(Command::Help(Topic::Status))
            }
            Some("help") => Ok(Command::Help(Topic::All)),
            Some("status") if self.has("--help") => Ok(Command::Help(Topic::Status)),
            Some(_) | None if self.has("--help") => Ok(Command::Help(Topic::All)),
            Some("status") => self.into_status(),
            Some(_) | None => self.into_get(client),
        }
    }

    fn into_status(self) -> Result<Command, String> {
        if let Some(option) = self.get_options.first() {
            return Err(format!(
                "status takes no {option}; see domo-token status --help"
            ));
        }
        Ok(Command::Status(Status {
            quiet: self.has("-q"),
            json: self.has("--json"),
            socket: self.socket,
            scopes: self.words,
        }))
    }

    fn into_get(self, client: Option<String>) -> Result<Command, String> {
        if self.has("-q") || self.has("--json") {
            let (option, hint) = if self.has("--json") {
                ("--json", "--format json")
            } else {
                ("-q", "2>/dev/null")
            };
            return Err(format!("get takes no {option}; did you mean {hint}?"));
        }
        if self.words.is_empty() {
            return Err("name at least one scope, as in: domo-token data".to_owned());
        }
        let explain = self.has("--explain");
        let get = Get {
            wait: self.has("--wait"),
            socket: self.socket,
            client: self.client.or(client),
            min_ttl: self.min_ttl,
            timeout: self.timeout.unwrap_or(TIMEOUT),
            format: self.format,
            renew: self.renew,
            scopes: self.words.join(" "),
        };
        Ok(if explain {
            Command::Explain(get)
        } else {
            Command::Get(get)
        })
    }
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
            ("watch data", "not in this version"),
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
    fn what_is_nearly_a_verb_is_known() {
        assert_eq!(nearest_verb("statsu"), Some("status"));
        assert_eq!(nearest_verb("wach"), Some("watch"));
        assert_eq!(nearest_verb("dashboard"), None);
        assert_eq!(nearest_verb("workflow"), None);
    }
}

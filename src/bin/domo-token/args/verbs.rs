//! What was given → the command that it makes, verb by verb.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use domo_token_client::wire::Renew;
use lexopt::ValueExt;

use super::{
    Command, Exec, FILE_MODE, Format, Get, Place, RESERVED, SHELLS, Status, TIMEOUT, Topic,
    VARIABLE, VERBS, Watch,
};

fn topic(verb: Option<&String>) -> Topic {
    match verb.map(String::as_str) {
        Some("status") => Topic::Status,
        Some("exec") => Topic::Exec,
        Some("watch") => Topic::Watch,
        Some(_) | None => Topic::All,
    }
}

/// What was given so far.
#[derive(Default)]
pub(super) struct Seen {
    pub(super) verb: Option<String>,
    pub(super) words: Vec<String>,
    /// Options without a value.
    pub(super) switches: Vec<&'static str>,
    pub(super) socket: Option<PathBuf>,
    pub(super) client: Option<String>,
    pub(super) min_ttl: Option<Duration>,
    pub(super) timeout: Option<Duration>,
    pub(super) format: Format,
    pub(super) renew: Option<Renew>,
    /// Options that mean nothing to `status`.
    pub(super) get_options: Vec<String>,
    /// Options that say where a token goes, with their values.
    pub(super) placed: Vec<(String, OsString)>,
    pub(super) has_format: bool,
    /// What `exec` runs.
    pub(super) command: Vec<OsString>,
}

impl Seen {
    fn has(&self, switch: &str) -> bool {
        self.switches.contains(&switch)
    }

    pub(super) fn word(&mut self, word: OsString) -> Result<(), String> {
        let word = word.string().map_err(|_| "a scope is UTF-8".to_owned())?;
        let first = self.verb.is_none() && self.words.is_empty();
        if first && VERBS.contains(&word.as_str()) {
            self.verb = Some(word);
            return Ok(());
        }
        if let Some((verb, why)) = RESERVED.iter().find(|(verb, _)| first && *verb == word) {
            return Err(format!("{verb}: {why}"));
        }
        self.words.push(word);
        Ok(())
    }

    pub(super) fn into_command(self, client: Option<String>) -> Result<Command, String> {
        match self.verb.as_deref() {
            Some("version") => Ok(Command::Version),
            Some("help") => Ok(Command::Help(topic(self.words.first()))),
            Some(_) | None if self.has("--help") => Ok(Command::Help(topic(self.verb.as_ref()))),
            Some("status") => self.into_status(),
            Some("completions") => self.into_completions(),
            Some("exec") => self.into_exec(client),
            Some("watch") => self.into_watch(client),
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

    fn into_completions(self) -> Result<Command, String> {
        let wanted = self.words.first().map(String::as_str).unwrap_or_default();
        let found = SHELLS.iter().find(|(name, _)| *name == wanted);
        let names: Vec<&str> = SHELLS.iter().map(|(name, _)| *name).collect();
        let wrong = || format!("completions of {wanted:?}: one of {}", names.join(", "));
        found
            .map(|(_, shell)| Command::Completions(*shell))
            .ok_or_else(wrong)
    }

    /// The value of the last of these options, which must be the only ones of their kind.
    fn take(&mut self, verb: &str, allowed: &[&str]) -> Result<Option<(String, OsString)>, String> {
        if let Some((name, _)) = self
            .placed
            .iter()
            .find(|(name, _)| !allowed.contains(&name.as_str()))
        {
            return Err(format!("{verb} takes no {name}; see domo-token --help"));
        }
        Ok(self.placed.pop())
    }

    fn into_exec(mut self, client: Option<String>) -> Result<Command, String> {
        let usage = "as in: domo-token exec data -- COMMAND";
        if self.has("--explain") {
            return Err("exec takes no --explain; see domo-token exec --help".to_owned());
        }
        if self.placed.len() > 1 {
            return Err("exec takes one of --env and --fd".to_owned());
        }
        let place = match self.take("exec", &["--env", "--fd"])? {
            Some((name, value)) if name == "--fd" => descriptor(&value)?,
            Some((_, value)) => variable(&value)?,
            None => Place::Env(VARIABLE.to_owned()),
        };
        if self.has_format && matches!(place, Place::Env(_)) {
            return Err("a variable holds the bare token: --format goes with --fd".to_owned());
        }
        if self.command.is_empty() {
            return Err(format!("name a command after \"--\", {usage}"));
        }
        let command = std::mem::take(&mut self.command);
        Ok(Command::Exec(Exec {
            get: self.get(client)?,
            place,
            command,
        }))
    }

    fn into_watch(mut self, client: Option<String>) -> Result<Command, String> {
        let mut watch = (None, None);
        let given = std::mem::take(&mut self.placed);
        for (name, value) in given {
            match name.as_str() {
                "--to" => watch.0 = Some(PathBuf::from(value)),
                "--mode" => watch.1 = Some(mode(&value)?),
                _ => {
                    return Err(format!(
                        "watch takes no {name}; see domo-token watch --help"
                    ));
                }
            }
        }
        let for_get = ["--explain", "--wait"]
            .into_iter()
            .find(|switch| self.has(switch));
        let for_get = for_get.or(self.renew.map(|_| "--renew"));
        let for_get = for_get.or(self.timeout.map(|_| "--timeout"));
        let for_get = for_get.or(self.min_ttl.map(|_| "--min-ttl"));
        if let Some(option) = for_get {
            return Err(format!(
                "watch takes no {option}; see domo-token watch --help"
            ));
        }
        if watch.0.is_none() && watch.1.is_some() {
            return Err("--mode goes with --to".to_owned());
        }
        // Lines are told apart by what stands in them.
        if !self.has_format && watch.0.is_none() {
            self.format = Format::Json;
        }
        Ok(Command::Watch(Watch {
            get: self.get(client)?,
            to: watch.0,
            mode: watch.1.unwrap_or(FILE_MODE),
        }))
    }

    fn into_get(mut self, client: Option<String>) -> Result<Command, String> {
        self.take("get", &[])?;
        let explain = self.has("--explain");
        let get = self.get(client)?;
        Ok(if explain {
            Command::Explain(get)
        } else {
            Command::Get(get)
        })
    }

    /// What is asked for.
    fn get(self, client: Option<String>) -> Result<Get, String> {
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
        Ok(Get {
            wait: self.has("--wait"),
            socket: self.socket,
            client: self.client.or(client),
            min_ttl: self.min_ttl,
            timeout: self.timeout.unwrap_or(TIMEOUT),
            format: self.format,
            renew: self.renew,
            scopes: self.words.join(" "),
        })
    }
}

fn variable(text: &OsString) -> Result<Place, String> {
    let name = text.to_str().filter(|name| is_variable(name));
    let wrong = || "--env takes the name of a variable, like DOMO_ACCESS_TOKEN".to_owned();
    name.map(|name| Place::Env(name.to_owned()))
        .ok_or_else(wrong)
}

fn is_variable(name: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || c == '_';
    !name.is_empty() && name.chars().all(plain) && !name.starts_with(|c: char| c.is_ascii_digit())
}

/// Standard output and error are the command's own.
fn descriptor(text: &OsString) -> Result<Place, String> {
    let number = text.to_str().and_then(|text| text.parse().ok());
    let usable = number.filter(|number| *number == 0 || (3..1024).contains(number));
    let wrong = || "--fd takes a descriptor: 0, or from 3 to 1023".to_owned();
    usable.map(Place::Descriptor).ok_or_else(wrong)
}

/// A mode that the owner can read and write, and nobody can run.
fn mode(text: &OsString) -> Result<u32, String> {
    let parsed = text
        .to_str()
        .and_then(|text| u32::from_str_radix(text, 8).ok());
    let usable = parsed.filter(|mode| mode & !0o666 == 0 && mode & 0o600 == 0o600);
    usable.ok_or_else(|| "--mode takes an octal mode from 0600 to 0666".to_owned())
}

//! Suggests the command that may have been meant where a word or a `--` is not valid.

use std::ffi::{OsStr, OsString};
use std::path::PathBuf;

use domo_token_protocol::scope::DOMO_SCOPE_NAMES;

use crate::options::{self, Key, Value, Verb};
use crate::shell_quote;
use crate::usage::VERBS;

/// What to run instead.
enum Hint {
    Text(&'static str),
    /// A text, then the scopes that were named, then another text.
    Scopes(&'static str, &'static str),
    /// A text, then the command of systemd that does this to the daemon: the program and its arguments.
    Systemd(&'static str, &'static str, &'static str),
}

const STATUS: &str = "for the state of each scope set, run: domo-token status";
const CONFIG: &str = "clients and scope sets are defined in the daemon's config; to validate it, run: domo-tokend check";
const START: Hint = if cfg!(windows) {
    Hint::Text("to run the daemon: domo-tokend")
} else {
    Hint::Systemd("to start the daemon, run", "systemctl", "start")
};

/// Words that are not read as scopes in the place of a command. Domo's scopes (see [`DOMO_SCOPE_NAMES`]) are none of
/// them; `get` takes them all.
const RESERVED: &[(&[&str], Hint)] = &[
    (
        &["doctor"],
        Hint::Text(
            "it is not available in this version; run: domo-token status, or: domo-tokend check",
        ),
    ),
    (
        &["check"],
        Hint::Text("it is a command of the daemon; run: domo-tokend check"),
    ),
    (
        &["init"],
        Hint::Text("it is a command of the daemon; run: domo-tokend init"),
    ),
    (
        &["login", "auth"],
        Hint::Text(
            "there is no login, because the daemon holds the credentials; to set them, run: domo-tokend init",
        ),
    ),
    (
        &["logout"],
        Hint::Text("there is no login, because the daemon holds the credentials"),
    ),
    (
        &["renew", "refresh", "revoke", "rotate"],
        Hint::Scopes("to renew a token, run: domo-token get --renew", ""),
    ),
    (
        &["token", "print", "fetch", "request"],
        Hint::Scopes("to print a token, run: domo-token", ""),
    ),
    (
        &["run"],
        Hint::Scopes("did you mean: domo-token exec", " -- COMMAND..."),
    ),
    (
        &["explain", "whoami"],
        Hint::Scopes("did you mean: domo-token --explain", ""),
    ),
    (
        &[
            "list", "ls", "tokens", "show", "info", "state", "ping", "health", "clients", "scopes",
        ],
        Hint::Text(STATUS),
    ),
    (
        &["metrics"],
        Hint::Text("did you mean: domo-token status --metrics"),
    ),
    (
        &[
            "config", "add", "remove", "delete", "set", "unset", "update", "edit", "validate",
            "client", "secret",
        ],
        Hint::Text(CONFIG),
    ),
    (&["start", "daemon", "serve", "service"], START),
    (
        &["stop"],
        Hint::Systemd("to stop the daemon, run", "systemctl", "stop"),
    ),
    (
        &["restart"],
        Hint::Systemd("to restart the daemon, run", "systemctl", "restart"),
    ),
    (
        &["reload"],
        Hint::Systemd(
            "the daemon reloads a changed config automatically; to reload it now, run",
            "systemctl",
            "reload",
        ),
    ),
    (
        &["log", "logs"],
        Hint::Systemd("for the daemon's log, run", "journalctl", "-u"),
    ),
];

/// Returns the error for a first word that is neither a command nor a scope. `rest` returns the words
/// after it.
pub(super) fn of_word(word: &str, rest: impl FnOnce() -> Vec<OsString>) -> Option<String> {
    if DOMO_SCOPE_NAMES.contains(&word) {
        return None;
    }
    let known = RESERVED.iter().find(|(words, _)| words.contains(&word));
    if let Some((_, hint)) = known {
        let hint = match hint {
            Hint::Text(text) => (*text).to_owned(),
            Hint::Scopes(start, end) => format!("{start} {}{end}", scopes_of(&rest())),
            Hint::Systemd(aim, program, arguments) => {
                let program = Manager::of_broker().runs(program);
                format!("{aim}: {program} {arguments} domo-tokend")
            }
        };
        return Some(format!("unknown command \"{word}\"; {hint}"));
    }
    let verb = VERBS.iter().map(|verb| verb.name);
    let same = verb
        .into_iter()
        .find(|verb| verb.eq_ignore_ascii_case(word));
    if let Some(verb) = same {
        return Some(format!(
            "unknown command \"{word}\"; did you mean: domo-token {verb}"
        ));
    }
    let near = nearest(word, 1).filter(|verb| verb.get(..1) == word.get(..1))?;
    Some(format!(
        "unknown command \"{word}\"; did you mean: domo-token {near}"
    ))
}

/// The instance of systemd that runs the broker of a user.
#[derive(Clone, Copy)]
enum Manager {
    /// The system's, for root.
    Root,
    /// The system's, for another user.
    System,
    /// The user's own.
    User,
}

impl Manager {
    /// Returns the instance that runs the caller's broker: a user other than root that has a config uses
    /// its own broker.
    fn of_broker() -> Self {
        let absolute = |name: &str| {
            let path = std::env::var_os(name).map(PathBuf::from);
            path.filter(|path| path.is_absolute())
        };
        let home = || absolute("HOME").map(|home| home.join(".config"));
        let config = absolute("XDG_CONFIG_HOME").or_else(home);
        let has_config =
            config.is_some_and(|config| config.join("domo-token/config.toml").exists());
        match (is_root(), has_config) {
            (true, _) => Self::Root,
            (false, true) => Self::User,
            (false, false) => Self::System,
        }
    }

    /// Returns the command line of one of systemd's programs, up to its arguments.
    fn runs(self, program: &str) -> String {
        match self {
            Self::Root => program.to_owned(),
            Self::System => format!("sudo {program}"),
            Self::User => format!("{program} --user"),
        }
    }
}

#[cfg(unix)]
fn is_root() -> bool {
    rustix::process::getuid().is_root()
}

/// Returns true: Windows has no sudo.
#[cfg(windows)]
fn is_root() -> bool {
    true
}

/// Returns the scopes among these words. Others may be a command with a secret, which no message repeats.
fn scopes_of(words: &[OsString]) -> String {
    let words = words.iter().filter_map(|word| word.to_str());
    let words = words.flat_map(|word| word.split([' ', ',']));
    let scopes: Vec<&str> = words
        .filter(|word| DOMO_SCOPE_NAMES.contains(word))
        .collect();
    if scopes.is_empty() {
        "SCOPE...".to_owned()
    } else {
        scopes.join(" ")
    }
}

/// Returns the command of which the first of these scopes may be a misspelling.
pub(crate) fn nearest_verb(scopes: &str) -> Option<&'static str> {
    let word = scopes.split([' ', ',']).next()?;
    nearest(word, if word.len() > 4 { 2 } else { 1 })
}

/// Returns the command within that edit distance of a word, unless the word is one of Domo's scopes.
fn nearest(word: &str, max_distance: usize) -> Option<&'static str> {
    let near = VERBS.iter().map(|verb| verb.name);
    let near = near.min_by_key(|verb| strsim::osa_distance(verb, word))?;
    let is_near =
        strsim::osa_distance(near, word) <= max_distance && !DOMO_SCOPE_NAMES.contains(&word);
    is_near.then_some(near)
}

/// Returns the command line that runs a command with a token for these scopes. Of the command it shows
/// only the first word, because the others may contain a secret.
pub(super) fn exec_line(
    given: &[(Key, Option<OsString>)],
    scopes: &[String],
    command: &[OsString],
) -> String {
    let mut line = "domo-token exec".to_owned();
    for (key, value) in given {
        let known = options::option(*key).filter(|option| option.verbs.contains(&Verb::Exec));
        // Formats require --fd.
        let known = known.filter(|_| !matches!(key, Key::Format | Key::NoNewline));
        let Some(option) = known else { continue };
        line.push(' ');
        line.push_str(&option.name());
        if let Some(value) = value {
            let is_maybe = matches!(option.value, Value::Maybe(_));
            line.push(if is_maybe { '=' } else { ' ' });
            line.push_str(&quoted(value));
        }
    }
    for scope in scopes {
        line.push(' ');
        line.push_str(&quoted(scope.as_ref()));
    }
    line.push_str(" --");
    match command.first() {
        // A variable's value may be a secret as well.
        Some(program) if program.as_encoded_bytes().contains(&b'=') => line.push_str(" COMMAND..."),
        Some(program) => {
            line.push(' ');
            line.push_str(&quoted(program));
            if command.len() > 1 {
                line.push_str(" …");
            }
        }
        None => {}
    }
    line
}

/// Quotes a word for a shell; of a long word only the beginning.
fn quoted(word: &OsStr) -> String {
    const SHOWN: usize = 60;
    let text = word.to_string_lossy();
    let start: String = text.chars().take(SHOWN).collect();
    let more = if start.len() < text.len() { "…" } else { "" };
    shell_quote::quoted(&start) + more
}

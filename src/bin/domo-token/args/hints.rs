//! Which command was meant, where a word or a `--` stands that none of the commands takes.

use std::ffi::{OsStr, OsString};

use crate::options::{self, Key, SCOPES, Value, Verb};
use crate::usage::VERBS;

/// How a hint for a word goes on.
enum Hint {
    /// As it is.
    Text(&'static str),
    /// With the scopes that were named, and then with this.
    Scopes(&'static str, &'static str),
}

const STATUS: &str = "for the state of each scope set: domo-token status";
const CONFIG: &str =
    "clients and scope sets are set in the daemon's config; to validate it: domo-tokend check";
const START: &str = if cfg!(windows) {
    "to run the daemon: domo-tokend"
} else {
    "to start the daemon: systemctl start domo-tokend"
};

/// Words that are no scopes in the place of a command. Domo's scopes (see [`SCOPES`]) are none of
/// them; `get` takes them all.
const RESERVED: &[(&[&str], Hint)] = &[
    (
        &["doctor"],
        Hint::Text("not in this version yet; see domo-token status, and domo-tokend check"),
    ),
    (
        &["check"],
        Hint::Text("it is a command of the daemon: domo-tokend check"),
    ),
    (
        &["init"],
        Hint::Text("it is a command of the daemon: domo-tokend init"),
    ),
    (
        &["login", "auth"],
        Hint::Text(
            "there is no login, the daemon holds the credentials; to set them: domo-tokend init",
        ),
    ),
    (
        &["logout"],
        Hint::Text("there is no login, the daemon holds the credentials"),
    ),
    (
        &["renew", "refresh", "revoke", "rotate"],
        Hint::Scopes("to replace a token: domo-token get --renew", ""),
    ),
    (
        &["token", "print", "fetch", "request"],
        Hint::Scopes("to print a token: domo-token", ""),
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
    (&["start", "daemon", "serve", "service"], Hint::Text(START)),
    (
        &["stop"],
        Hint::Text("to stop the daemon: systemctl stop domo-tokend"),
    ),
    (
        &["restart"],
        Hint::Text("to restart the daemon: systemctl restart domo-tokend"),
    ),
    (
        &["reload"],
        Hint::Text(
            "the daemon reloads a changed config by itself; to request it: systemctl reload domo-tokend",
        ),
    ),
    (
        &["log", "logs"],
        Hint::Text("for the daemon's log: journalctl -u domo-tokend"),
    ),
];

/// What to write instead of a first word that is no command and no scope. `rest` follows it.
pub(super) fn of_word(word: &str, rest: impl FnOnce() -> Vec<OsString>) -> Option<String> {
    if SCOPES.contains(&word) {
        return None;
    }
    let known = RESERVED.iter().find(|(words, _)| words.contains(&word));
    if let Some((_, hint)) = known {
        let hint = match hint {
            Hint::Text(text) => (*text).to_owned(),
            Hint::Scopes(start, end) => format!("{start} {}{end}", scopes_of(&rest())),
        };
        return Some(format!("no command \"{word}\"; {hint}"));
    }
    let verb = VERBS.iter().map(|verb| verb.name);
    let same = verb
        .into_iter()
        .find(|verb| verb.eq_ignore_ascii_case(word));
    if let Some(verb) = same {
        return Some(format!(
            "no command \"{word}\"; did you mean: domo-token {verb}"
        ));
    }
    let slip = nearest(word, 1).filter(|verb| verb.get(..1) == word.get(..1))?;
    Some(format!(
        "no command \"{word}\"; did you mean: domo-token {slip}"
    ))
}

/// The scopes among these words. Others may be a command with a secret, which no message repeats.
fn scopes_of(words: &[OsString]) -> String {
    let words = words.iter().filter_map(|word| word.to_str());
    let words = words.flat_map(|word| word.split([' ', ',']));
    let scopes: Vec<&str> = words.filter(|word| SCOPES.contains(word)).collect();
    if scopes.is_empty() {
        "SCOPE...".to_owned()
    } else {
        scopes.join(" ")
    }
}

/// The verb that the first of these scopes may be a slip of.
pub(crate) fn nearest_verb(scopes: &str) -> Option<&'static str> {
    let word = scopes.split([' ', ',']).next()?;
    nearest(word, if word.len() > 4 { 2 } else { 1 })
}

/// The verb that a word becomes by so many slips, if it is none of Domo's scopes.
fn nearest(word: &str, slips: usize) -> Option<&'static str> {
    let near = VERBS.iter().map(|verb| verb.name);
    let near = near.min_by_key(|verb| strsim::osa_distance(verb, word))?;
    let is_near = strsim::osa_distance(near, word) <= slips && !SCOPES.contains(&word);
    is_near.then_some(near)
}

/// The command line that runs a command with a token of these scopes: its first word alone, as the
/// others may hold a secret.
pub(super) fn exec_line(
    given: &[(Key, Option<OsString>)],
    scopes: &[String],
    command: &[OsString],
) -> String {
    let mut line = "domo-token exec".to_owned();
    for (key, value) in given {
        let known = options::option(*key).filter(|option| option.verbs.contains(&Verb::Exec));
        // A form is that of --fd, which is not there.
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

/// A word as a shell takes it; of a long one the start.
fn quoted(word: &OsStr) -> String {
    const SHOWN: usize = 60;
    let text = word.to_string_lossy();
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "_-./:,=@%+~".contains(c);
    let cut: String = text.chars().take(SHOWN).collect();
    let more = if cut.len() < text.len() { "…" } else { "" };
    if !text.is_empty() && text.chars().all(is_plain) {
        format!("{cut}{more}")
    } else {
        format!("'{}{more}'", cut.replace('\'', r"'\''"))
    }
}

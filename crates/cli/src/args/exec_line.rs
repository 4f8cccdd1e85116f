//! The `exec` command line that was meant where a command follows the scopes.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::path::Path;

use clap::parser::ValueSource;
use clap::{ArgMatches, Args};

use crate::command_line::{ExecArgs, SCOPES};
use crate::shell_quote;

/// A command line that may have been meant instead of a token for all words.
#[derive(Debug, PartialEq)]
pub(crate) struct ExecInstead {
    line: String,
    /// The first word that is no scope of Domo's.
    program: String,
    /// Whether one of the words is hardly a scope.
    is_likely: bool,
}

impl ExecInstead {
    /// The advice if the words are likely a command. Looks for the program in `$PATH`.
    pub(crate) fn advice(&self) -> Option<String> {
        let is_command = self.is_likely || is_program(&self.program);
        is_command.then(|| format!("; or did you mean: {}", self.line))
    }
}

/// Returns the error for a command without the `exec` or the `--` that it needs: without a verb, an
/// argument that holds `/` or `=` is not sent to the broker as a scope. Where it may be meant, returns
/// it for the case that the broker has no such scope set.
pub(super) fn check(
    verb: Option<&str>,
    matches: &ArgMatches,
) -> Result<Option<ExecInstead>, String> {
    let words = words(matches);
    let command: Vec<&OsStr> = values::<OsString>(matches, "command")
        .map(|word| &**word)
        .collect();
    if verb != Some("exec") && !words.is_empty() && !command.is_empty() {
        let line = line(matches, usize::MAX, &words, &command);
        let verb = verb.unwrap_or("get");
        return Err(format!("{verb} runs no command; did you mean: {line}"));
    }
    let Some((first, line)) = with_dashes(verb, matches, None) else {
        return Ok(None);
    };
    let after = words.get(first..).unwrap_or_default();
    if verb == Some("exec") {
        let message = format!("no \"--\" before the command; did you mean: {line}");
        return if command.is_empty() {
            Err(message)
        } else {
            Ok(None)
        };
    }
    if after.iter().any(|word| word.contains(['/', '='])) {
        return Err(format!(
            "get runs no command (if all these words are scopes, put get before them); did you \
             mean: {line}"
        ));
    }
    Ok(after.first().map(|program| ExecInstead {
        line,
        program: (*program).to_owned(),
        is_likely: after.iter().any(|word| is_implausible(word)),
    }))
}

/// Where exec or no verb is given, returns the index of the first word that is no scope of Domo's, after
/// one scope of any name, and the line with `--` before it; `next` follows the words.
pub(super) fn with_dashes(
    verb: Option<&str>,
    matches: &ArgMatches,
    next: Option<&str>,
) -> Option<(usize, String)> {
    if !matches!(verb, None | Some("exec")) {
        return None;
    }
    let words = words(matches);
    let is_scope = |word: &&str| word.split([',', ' ']).all(|part| SCOPES.contains(&part));
    let first = words.iter().skip(1).position(|word| !is_scope(word))? + 1;
    let (scopes, command) = words.split_at_checked(first)?;
    let command: Vec<&OsStr> = command
        .iter()
        .copied()
        .chain(next)
        .map(OsStr::new)
        .collect();
    // Options behind the program are its own.
    let end = matches.indices_of("scopes")?.nth(first)?;
    Some((first, line(matches, end, scopes, &command)))
}

/// Returns the line that runs a command with a token of these scopes, with the options before `end` that
/// exec has. It contains the command's first word alone, because the others may hold a secret.
fn line(matches: &ArgMatches, end: usize, scopes: &[&str], command: &[&OsStr]) -> String {
    let exec = ExecArgs::augment_args(clap::Command::new("exec"));
    let given = |id: &str| matches.value_source(id) == Some(ValueSource::CommandLine);
    // A form is that of --fd, which is not there.
    let options = exec.get_arguments().filter(|option| {
        let id = option.get_id().as_str();
        let is_known = matches.ids().any(|known| known == id);
        is_known && given(id) && !option.is_positional() && !["format", "no_newline"].contains(&id)
    });
    let mut options: Vec<(usize, String)> = options
        .filter_map(|option| {
            let id = option.get_id().as_str();
            let mut text = format!(" --{}", option.get_long()?);
            let value = option
                .get_action()
                .takes_values()
                .then(|| matches.get_raw(id)?.next_back());
            if let Some(value) = value.flatten() {
                text.push(if option.is_require_equals_set() {
                    '='
                } else {
                    ' '
                });
                text.push_str(&quoted(value));
            }
            Some((matches.index_of(id).unwrap_or_default(), text))
        })
        .collect();
    options.sort();
    let mut line = "domo-token exec".to_owned();
    let (before, behind) = options.split_at(options.partition_point(|(at, _)| *at < end));
    line.extend(before.iter().map(|(_, text)| text.as_str()));
    for scope in scopes {
        line.push(' ');
        line.push_str(&quoted(scope.as_ref()));
    }
    line.push_str(" --");
    match command {
        // A variable's value may be a secret as well.
        [program, ..] if program.as_encoded_bytes().contains(&b'=') => line.push_str(" COMMAND..."),
        [program, rest @ ..] => {
            line.push(' ');
            line.push_str(&quoted(program));
            if !(rest.is_empty() && behind.is_empty()) {
                line.push_str(" …");
            }
        }
        [] => {}
    }
    line
}

fn words(matches: &ArgMatches) -> Vec<&str> {
    values::<String>(matches, "scopes")
        .map(String::as_str)
        .collect()
}

/// Returns the values of an argument that not each verb has.
fn values<'a, T: Clone + Send + Sync + 'static>(
    matches: &'a ArgMatches,
    id: &str,
) -> impl Iterator<Item = &'a T> {
    matches
        .try_get_many(id)
        .ok()
        .flatten()
        .into_iter()
        .flatten()
}

/// Returns a word as a shell takes it; of a long one the start.
fn quoted(word: &OsStr) -> String {
    const SHOWN: usize = 60;
    let text = word.to_string_lossy();
    let start: String = text.chars().take(SHOWN).collect();
    let more = if start.len() < text.len() { "…" } else { "" };
    shell_quote::quoted(&start) + more
}

/// Whether a word looks like a file or a number rather than a scope.
fn is_implausible(word: &str) -> bool {
    let is_number = !word.is_empty() && word.bytes().all(|byte| byte.is_ascii_digit());
    is_number || word.contains(['.', ':'])
}

/// Whether `$PATH` has a program of this name.
fn is_program(name: &str) -> bool {
    let file = format!("{name}{}", std::env::consts::EXE_SUFFIX);
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut directories = std::env::split_paths(&path).filter(|path| path.is_absolute());
    directories.any(|directory| is_executable(&directory.join(&file)))
}

#[cfg(unix)]
fn is_executable(path: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt;
    fs::metadata(path).is_ok_and(|file| file.is_file() && file.permissions().mode() & 0o111 != 0)
}

#[cfg(windows)]
fn is_executable(path: &Path) -> bool {
    fs::metadata(path).is_ok_and(|file| file.is_file())
}

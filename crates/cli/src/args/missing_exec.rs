//! Detects a command after the scopes where `exec` is missing.

use std::ffi::OsString;
use std::fs;
use std::path::Path;

use domo_token_protocol::scope::DOMO_SCOPE_NAMES;

use super::{CommandLine, suggestions};
use crate::options::Verb;

/// An `exec` command line that may have been meant instead of a token for all words.
#[derive(Debug, PartialEq)]
pub(crate) struct ExecInstead {
    line: String,
    /// The first word that is not one of Domo's scopes.
    program: String,
    /// Whether one of the words is unlikely to be a scope.
    is_likely: bool,
}

impl ExecInstead {
    /// Returns the advice if the words are probably a command. Looks for the program in `$PATH`.
    pub(crate) fn advice(&self) -> Option<String> {
        let is_command = self.is_likely || is_program(&self.program);
        is_command.then(|| format!("; or did you mean: {}", self.line))
    }
}

impl CommandLine {
    /// Returns the error for a command after the scopes where no verb is given: an argument that contains
    /// `/` or `=` is not sent to the broker as a scope.
    pub(super) fn missing_exec(&self) -> Option<String> {
        if self.verb.is_some() {
            return None;
        }
        let command = self.words.get(self.first_of_command()?..)?;
        let is_argument = |word: &String| word.contains(['/', '=']);
        let line = self.exec_with_dashes(None)?;
        command.iter().any(is_argument).then(|| {
            format!(
                "unexpected command after the scopes (if every word is a scope, put get before the \
                 first one); did you mean: {line}"
            )
        })
    }

    /// Returns the command line that may have been meant where no verb is given, for the case that the
    /// broker has no such scope set.
    pub(super) fn exec_instead(&self) -> Option<ExecInstead> {
        if self.verb.is_some() {
            return None;
        }
        let command = self.words.get(self.first_of_command()?..)?;
        Some(ExecInstead {
            line: self.exec_with_dashes(None)?,
            program: command.first()?.clone(),
            is_likely: command.iter().any(|word| is_implausible(word)),
        })
    }

    /// Returns the command line of an exec without `--`, with `--` before the first word that is not one
    /// of Domo's scopes; `next` follows the words.
    pub(super) fn exec_with_dashes(&self, next: Option<&str>) -> Option<String> {
        let first = self.first_of_command()?;
        let (scopes, command) = self.words.split_at_checked(first)?;
        let command = command.iter().map(String::as_str).chain(next);
        let mut command: Vec<OsString> = command.map(OsString::from).collect();
        // Options after the program are its own.
        let mut options = Vec::new();
        for (option, words_before) in self.options.iter().zip(&self.words_before) {
            if *words_before > first {
                command.push(OsString::new());
            } else {
                options.push(option.clone());
            }
        }
        Some(suggestions::exec_line(&options, scopes, &command))
    }

    /// Returns the index of the first word that is not one of Domo's scopes, after one scope of any name,
    /// where exec or no verb is given.
    fn first_of_command(&self) -> Option<usize> {
        if !matches!(self.verb, None | Some(Verb::Exec)) {
            return None;
        }
        let is_scope = |word: &String| {
            word.split([',', ' '])
                .all(|part| DOMO_SCOPE_NAMES.contains(&part))
        };
        let first = self.words.iter().skip(1).position(|word| !is_scope(word))?;
        Some(first + 1)
    }
}

/// Returns whether a word looks like a file or a number rather than a scope.
fn is_implausible(word: &str) -> bool {
    let is_number = !word.is_empty() && word.bytes().all(|byte| byte.is_ascii_digit());
    is_number || word.contains(['.', ':'])
}

/// Returns whether `$PATH` has a program of this name.
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

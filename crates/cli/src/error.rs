//! What goes wrong, for the person who reads it and the script that can't.

use std::panic::PanicHookInfo;
use std::process::ExitCode;

use domo_token_client::Error;

use crate::advice::advice;
use crate::{args, messages};

// Exit codes of sysexits.
pub(crate) const USAGE: u8 = 2;
pub(crate) const UNAVAILABLE: u8 = 69;
pub(crate) const SOFTWARE: u8 = 70;
pub(crate) const IO_ERROR: u8 = 74;
pub(crate) const TEMPORARY: u8 = 75;
pub(crate) const PROTOCOL: u8 = 76;
pub(crate) const NO_PERMISSION: u8 = 77;
pub(crate) const CONFIG: u8 = 78;

/// An exit code and one line.
#[derive(Debug)]
pub(crate) struct CliError {
    pub(crate) code: u8,
    words: String,
}

impl CliError {
    pub(crate) fn new(code: u8, words: impl Into<String>) -> Self {
        let words = words.into();
        Self { code, words }
    }

    /// What an answer about these scopes means.
    pub(crate) fn of(error: &Error, scopes: &str) -> Self {
        let code = match error {
            Error::NotRunning { .. } | Error::Io { .. } => UNAVAILABLE,
            Error::NotPermitted { .. } | Error::Untrusted { .. } => NO_PERMISSION,
            Error::Unknown { .. }
            | Error::MinTtlTooLong { .. }
            | Error::Denied { .. }
            | Error::Gone { .. } => CONFIG,
            Error::TryLater { .. } => TEMPORARY,
            Error::Protocol { .. } => PROTOCOL,
            Error::InvalidScope(_) | Error::InvalidSocket { .. } => USAGE,
            Error::Broken { .. } | _ => SOFTWARE,
        };
        let mut words = error.facts().to_string();
        if matches!(error, Error::Io { .. }) {
            words = format!("no broker can be reached at {words}");
        }
        if let Some(verb) = args::nearest_verb(scopes) {
            words = format!("{words}; or did you mean the command \"{verb}\"?");
        }
        // The command to type comes last.
        if let Some(advice) = advice(error) {
            words = format!("{words}; {advice}");
        }
        Self { code, words }
    }

    /// The same, with a fact in front.
    pub(crate) fn with_prefix(self, fact: &str) -> Self {
        let words = format!("{fact}{}", self.words);
        Self { words, ..self }
    }

    /// The same, with advice behind it.
    pub(crate) fn with_suffix(self, advice: &str) -> Self {
        let words = format!("{}{advice}", self.words);
        Self { words, ..self }
    }

    /// Says it on standard error, in one line whatever it is made of.
    pub(crate) fn tell(&self) -> ExitCode {
        say(&self.words);
        ExitCode::from(self.code)
    }
}

/// Ends the process: neither several lines nor a core file, which might hold a token.
pub(crate) fn end_on(bug: &PanicHookInfo) {
    let place = bug
        .location()
        .map_or(String::new(), |at| format!(" at {at}"));
    say(&format!("this is a bug{place}; please report it"));
    messages::finish_and_exit(SOFTWARE);
}

/// One line on standard error.
pub(crate) fn say(words: &str) {
    let plain = |c: char| if c.is_control() { ' ' } else { c };
    let line: String = words.chars().map(plain).collect();
    messages::push(format!("domo-token: {line}\n"));
}

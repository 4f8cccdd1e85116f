//! [`CliError`]: an exit code and a message of one line.

use std::panic::PanicHookInfo;
use std::process::ExitCode;

use domo_token_client::{Error, ErrorDetails, ErrorKind};

use crate::connect_advice::advice;
use crate::exit_code::{self, SOFTWARE};
use crate::{args, stderr};

/// An exit code and a message of one line.
#[derive(Debug)]
pub(crate) struct CliError {
    pub(crate) code: u8,
    message: String,
}

impl CliError {
    pub(crate) fn new(code: u8, message: impl Into<String>) -> Self {
        let message = message.into();
        Self { code, message }
    }

    /// Returns the error for a failed request for these scopes.
    pub(crate) fn of(error: &Error, scopes: &str) -> Self {
        let code = exit_code::of_kind(error.kind());
        let mut message = error.facts().to_string();
        if matches!(error.details(), ErrorDetails::Unusable(_)) {
            message = format!("cannot connect to the broker at {message}");
        }
        if let Some(verb) = args::nearest_verb(scopes) {
            message = format!("{message}; or did you mean the command {verb}?");
        }
        if error.kind() == ErrorKind::Protocol {
            message.push_str("; check which program serves the socket");
        }
        // The command to type comes last.
        if let Some(advice) = advice(error) {
            message = format!("{message}; {advice}");
        }
        Self { code, message }
    }

    /// Returns the error with a fact before the message.
    pub(crate) fn with_prefix(self, fact: &str) -> Self {
        let message = format!("{fact}{}", self.message);
        Self { message, ..self }
    }

    /// Returns the error with advice after the message.
    pub(crate) fn with_suffix(self, advice: &str) -> Self {
        let message = format!("{}{advice}", self.message);
        Self { message, ..self }
    }

    /// Writes it to standard error and returns the exit code.
    pub(crate) fn report(&self) -> ExitCode {
        stderr::report(&self.message);
        ExitCode::from(self.code)
    }
}

/// Ends the process after a panic, with one line and without a core file, which might contain a token.
pub(crate) fn exit_on_panic(bug: &PanicHookInfo) {
    let place = bug
        .location()
        .map_or(String::new(), |at| format!(" at {at}"));
    stderr::report(&format!("internal error{place}; please report this bug"));
    stderr::finish_and_exit(SOFTWARE);
}

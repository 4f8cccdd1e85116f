//! Becomes another command, which finds the token in a variable or behind a descriptor.

#[cfg(unix)]
mod unix;
#[cfg(windows)]
mod windows;

use std::io;
use std::process::Command;

use domo_token_client::Token;

use crate::args::{Destination, Exec};
use crate::error::CliError;
use crate::output;

#[cfg(unix)]
use unix as platform;
#[cfg(windows)]
use windows as platform;

/// A command that is there and can't be run as was said, as shells have it.
const CANNOT_RUN: u8 = 126;

/// The variable that holds the token unless another one is named.
const VARIABLE: &str = "DOMO_ACCESS_TOKEN";

/// No such command.
const NOT_FOUND: u8 = 127;

/// Returns only if the command can't be run.
pub(crate) fn run(wanted: &Exec, token: &Token) -> CliError {
    let Some((program, arguments)) = wanted.command.split_first() else {
        return CliError::new(NOT_FOUND, "no command");
    };
    let mut command = Command::new(program);
    command.args(arguments);
    // Before one of them gets the token.
    #[cfg(unix)]
    domo_token_stdout::close_on_exec_what_was_closed();
    // Held until the command has taken our place.
    let mut descriptor = None;
    match &wanted.place {
        Destination::Env(name) => {
            command.env(name, token.secret());
        }
        Destination::Descriptor(number) => {
            // One that was inherited may be another token.
            command.env_remove(VARIABLE);
            let text = output::token(token, &wanted.get);
            match platform::provide(text.as_bytes(), *number) {
                Ok(provided) => descriptor = Some(provided),
                Err(error) => {
                    return CliError::new(CANNOT_RUN, format!("descriptor {number}: {error}"));
                }
            }
        }
    }
    let error = platform::give_way(&mut command);
    drop(descriptor);
    let program = program.display();
    if error.kind() == io::ErrorKind::NotFound {
        let hint = platform::INSTALLED;
        return CliError::new(NOT_FOUND, format!("{program}: no such command; {hint}"));
    }
    CliError::new(CANNOT_RUN, format!("{program} can't be run: {error}"))
}

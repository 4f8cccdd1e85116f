//! `exec`: replaces this process by a command that gets the token in a variable or at a descriptor.

#[cfg(unix)]
mod unix;
#[cfg(windows)]
mod windows;

use std::io;
use std::process::Command;

use domo_token_client::Token;

use crate::args::{Destination, Exec, VARIABLE};
use crate::error::CliError;
use crate::output;

#[cfg(unix)]
use unix as platform;
#[cfg(windows)]
use windows as platform;

/// The exit code of shells for a command that exists and cannot be run.
const CANNOT_RUN: u8 = 126;

/// The exit code of shells for a command that does not exist.
const NOT_FOUND: u8 = 127;

/// Returns only if the command can't be run.
pub(crate) fn run(args: &Exec, token: &Token) -> CliError {
    let Some((program, arguments)) = args.command.split_first() else {
        return CliError::new(NOT_FOUND, "missing command");
    };
    let mut command = Command::new(program);
    command.args(arguments);
    // Before one of these descriptors gets the token.
    #[cfg(unix)]
    domo_token_stdout::close_on_exec_what_was_closed();
    // Open until the command has replaced this process.
    let mut descriptor = None;
    match &args.destination {
        Destination::Env(name) => {
            command.env(name, token.secret());
        }
        Destination::Descriptor(number) => {
            // An inherited variable may hold another token.
            command.env_remove(VARIABLE);
            let text = output::token(token, &args.get);
            match platform::provide_descriptor(text.as_bytes(), *number) {
                Ok(provided) => descriptor = Some(provided),
                Err(error) => {
                    let message = format!("cannot pass the token on descriptor {number}: {error}");
                    return CliError::new(CANNOT_RUN, message);
                }
            }
        }
    }
    let error = platform::replace_process(&mut command);
    drop(descriptor);
    let program = program.display();
    if error.kind() == io::ErrorKind::NotFound {
        let hint = platform::NOT_FOUND_HINT;
        return CliError::new(
            NOT_FOUND,
            format!("cannot run {program}: not found; {hint}"),
        );
    }
    CliError::new(CANNOT_RUN, format!("cannot run {program}: {error}"))
}

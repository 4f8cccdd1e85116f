//! Runs another command, which finds the token in a variable, and ends as it does. Windows can't
//! put one program in another's place, and has no descriptors to hand on.

use std::io;
use std::process::{Command, exit};

use domo_token_client::Token;

use crate::args::{Exec, Place};
use crate::problem::{Problem, SOFTWARE, USAGE};

/// A command that is there and can't be run, as shells have it.
const CANNOT_RUN: u8 = 126;

/// No such command.
const NOT_FOUND: u8 = 127;

/// Says what can't be had here, before anybody is asked.
pub(crate) fn check(wanted: &Exec) -> Result<(), Problem> {
    match wanted.place {
        Place::Env(_) => Ok(()),
        Place::Descriptor(_) => {
            let words = "--fd: there are no descriptors to hand on under Windows; use --env";
            Err(Problem::new(USAGE, words))
        }
    }
}

/// Returns only if the command can't be run.
pub(crate) fn run(wanted: &Exec, token: &Token) -> Problem {
    let Some((program, arguments)) = wanted.command.split_first() else {
        return Problem::new(NOT_FOUND, "no command");
    };
    let mut command = Command::new(program);
    command.args(arguments);
    if let Place::Env(name) = &wanted.place {
        command.env(name, token.secret());
    }
    let error = match command.status() {
        Ok(status) => exit(status.code().unwrap_or_else(|| SOFTWARE.into())),
        Err(error) => error,
    };
    let program = program.display();
    if error.kind() == io::ErrorKind::NotFound {
        let hint = "is it installed, and in %PATH%?";
        return Problem::new(NOT_FOUND, format!("{program}: no such command; {hint}"));
    }
    Problem::new(CANNOT_RUN, format!("{program} can't be run: {error}"))
}

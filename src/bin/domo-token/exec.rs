//! Becomes another command, which finds the token in a variable or behind a descriptor.

use std::io::{self, Seek, Write};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::process::Command;

use domo_token_client::Token;
use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, memfd_create};
use rustix::io::{FdFlags, fcntl_dupfd_cloexec, fcntl_setfd};

use crate::args::{Exec, Place};
use crate::print;
use crate::problem::{IO_ERROR, Problem};

/// A command that is there and can't be run, as shells have it.
const CANNOT_RUN: u8 = 126;

/// No such command.
const NOT_FOUND: u8 = 127;

/// Returns only if the command can't be run.
pub(crate) fn run(wanted: &Exec, token: &Token) -> Problem {
    let Some((program, arguments)) = wanted.command.split_first() else {
        return Problem::new(NOT_FOUND, "no command");
    };
    let mut command = Command::new(program);
    command.args(arguments);
    // Held until the command has taken our place.
    let mut descriptor: Option<OwnedFd> = None;
    match &wanted.place {
        Place::Env(name) => {
            command.env(name, token.secret());
        }
        Place::Descriptor(number) => {
            let text = print::token(token, wanted.get.format);
            match provide(text.as_bytes(), *number) {
                Ok(held) => descriptor = held,
                Err(error) => {
                    return Problem::new(IO_ERROR, format!("descriptor {number}: {error}"));
                }
            }
        }
    }
    let error = command.exec();
    drop(descriptor);
    let program = program.display();
    if error.kind() == io::ErrorKind::NotFound {
        let hint = "is it installed, in $PATH, and its interpreter too?";
        return Problem::new(NOT_FOUND, format!("{program}: no such command; {hint}"));
    }
    Problem::new(CANNOT_RUN, format!("{program} can't be run: {error}"))
}

/// Puts `text` behind the descriptor of that number, in memory that nobody can change.
fn provide(text: &[u8], number: i32) -> io::Result<Option<OwnedFd>> {
    let memory = memfd_create(
        c"domo-token",
        MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING,
    )?;
    let mut file = std::fs::File::from(memory);
    file.write_all(text)?;
    file.rewind()?;
    fcntl_add_seals(
        &file,
        SealFlags::SEAL | SealFlags::SHRINK | SealFlags::GROW | SealFlags::WRITE,
    )?;
    if number == 0 {
        rustix::stdio::dup2_stdin(&file)?;
        return Ok(None);
    }
    let memory = OwnedFd::from(file);
    let placed = if memory.as_raw_fd() == number {
        memory
    } else {
        fcntl_dupfd_cloexec(memory.as_fd(), number)?
    };
    if placed.as_raw_fd() != number {
        return Err(io::Error::other("it is open already; choose another"));
    }
    fcntl_setfd(&placed, FdFlags::empty())?;
    Ok(Some(placed))
}

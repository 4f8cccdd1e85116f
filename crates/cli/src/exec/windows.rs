//! As a child: Windows can't put one program in another's place, and has no descriptors to hand on.

use std::io;
use std::os::windows::io::OwnedHandle;
use std::process::{Command, exit};

use crate::exit_code::SOFTWARE;

/// What to check if there is no such command.
pub(super) const NOT_FOUND_HINT: &str = "is it installed, and in %PATH%?";

/// Ends as the command does; returns only if it can't be run.
pub(super) fn replace_process(command: &mut Command) -> io::Error {
    match command.status() {
        Ok(status) => exit(status.code().unwrap_or_else(|| SOFTWARE.into())),
        Err(error) => error,
    }
}

/// Arguments that ask for it are refused.
pub(super) fn provide_descriptor(_: &[u8], _: i32) -> io::Result<OwnedHandle> {
    Err(io::ErrorKind::Unsupported.into())
}

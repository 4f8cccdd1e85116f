//! Runs the command as a child process: Windows cannot replace a process, nor inherit a descriptor by its number.

use std::io;
use std::os::windows::io::OwnedHandle;
use std::process::{Command, exit};

use crate::exit_code::SOFTWARE;

/// The advice if the command does not exist.
pub(super) const NOT_FOUND_HINT: &str = "check that it is installed and in %PATH%";

/// Runs the command and exits with its exit code. Returns only if it cannot be run.
pub(super) fn replace_process(command: &mut Command) -> io::Error {
    match command.status() {
        Ok(status) => exit(status.code().unwrap_or_else(|| SOFTWARE.into())),
        Err(error) => error,
    }
}

/// Returns an error; the arguments that request it have been rejected.
pub(super) fn provide_descriptor(_: &[u8], _: i32) -> io::Result<OwnedHandle> {
    Err(io::ErrorKind::Unsupported.into())
}

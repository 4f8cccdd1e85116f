//! Replaces the process (`execve`) and places the token's descriptor.

use std::io::{self, Seek, Write};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::process::Command;

use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, memfd_create};
use rustix::io::{FdFlags, fcntl_dupfd_cloexec, fcntl_setfd};

/// The advice if the command does not exist.
pub(super) const NOT_FOUND_HINT: &str =
    "check that it and its interpreter are installed and in $PATH";

/// Replaces this process by the command. Returns only if that fails.
pub(super) fn replace_process(command: &mut Command) -> io::Error {
    command.exec()
}

/// Opens a descriptor of that number on a sealed memfd with `text`.
pub(super) fn provide_descriptor(text: &[u8], number: i32) -> io::Result<Option<OwnedFd>> {
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
        return Err(io::Error::other("it is already open; use another number"));
    }
    fcntl_setfd(&placed, FdFlags::empty())?;
    Ok(Some(placed))
}

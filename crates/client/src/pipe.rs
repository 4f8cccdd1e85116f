//! Named pipes on Windows: what the broker and its clients share.

use std::path::Path;

/// The prefix of the names of this machine's pipes.
const PIPES: &str = r"\\.\pipe\";

/// The broker's default pipe.
pub const DEFAULT: &str = r"\\.\pipe\domo-token";

/// The error for a path that is not the name of a pipe.
pub const NOT_A_PIPE: &str = r"not the name of a named pipe; use one such as \\.\pipe\domo-token";

/// The access rights of clients: all of `FILE_GENERIC_READ` and `FILE_GENERIC_WRITE` but making another
/// instance of the pipe, with which they could serve in the broker's name.
pub const CLIENT_ACCESS: u32 = 0x0012_019B;

/// `SECURITY_IDENTIFICATION`: the server can identify the client, but not impersonate it.
pub const IDENTIFICATION: u32 = 0x0001_0000;

/// `ERROR_PIPE_BUSY`: the pipe exists, and all its instances are in use.
pub const BUSY: i32 = 231;

/// Returns whether a path names a pipe of this machine.
#[must_use]
pub fn is_pipe_name(path: &Path) -> bool {
    let text = path.as_os_str().as_encoded_bytes();
    let prefix = text.get(..PIPES.len()).unwrap_or_default();
    text.len() > PIPES.len() && prefix.eq_ignore_ascii_case(PIPES.as_bytes())
}

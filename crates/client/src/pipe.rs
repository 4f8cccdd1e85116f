//! Named pipes, as a broker and its callers both know them, on Windows.

use std::path::Path;

/// What a pipe of this machine is named by.
const PIPES: &str = r"\\.\pipe\";

/// Where a broker is when nobody names a place.
pub const USUAL: &str = r"\\.\pipe\domo-token";

/// What is said of a path that names none.
pub const WANTED: &str = r"on Windows a broker listens on a named pipe, like \\.\pipe\domo-token";

/// What callers may do: all of `FILE_GENERIC_READ` and `FILE_GENERIC_WRITE` but making another
/// instance of the pipe, with which they could serve in the broker's name.
pub const CALL: u32 = 0x0012_019B;

/// `SECURITY_IDENTIFICATION`: whoever serves may learn who we are, and not act as us.
pub const IDENTIFICATION: u32 = 0x0001_0000;

/// `ERROR_PIPE_BUSY`: the pipe is there, and all its instances are taken for the moment.
pub const BUSY: i32 = 231;

/// Whether a path names a pipe of this machine.
#[must_use]
pub fn is_one(path: &Path) -> bool {
    let text = path.as_os_str().as_encoded_bytes();
    let prefix = text.get(..PIPES.len()).unwrap_or_default();
    text.len() > PIPES.len() && prefix.eq_ignore_ascii_case(PIPES.as_bytes())
}

//! Reads lines from a terminal, or what a script sends.

use std::io::{self, BufRead, IsTerminal, Read, Write};

use zeroize::Zeroizing;

use super::InitError;

#[cfg(unix)]
use crate::platform::signals::terminal::HiddenInput;

/// The longest line that is taken, in bytes.
const MAX_LINE: u64 = 4096;

/// How often a terminal prompts for the same value.
const ATTEMPTS: usize = 3;

/// Returns whether there is a terminal to prompt on.
pub(super) fn is_terminal() -> bool {
    io::stdin().is_terminal()
}

/// Prints a line for somebody at the terminal.
pub(super) fn show(line: &str) {
    if is_terminal() {
        // With standard error closed the questions are not seen either.
        let _ = writeln!(io::stderr(), "{line}");
    }
}

/// Reads lines by `read` until `usable` finds `what` in one; without a terminal one line is all.
pub(super) fn until_usable<T>(
    what: &'static str,
    read: impl Fn() -> Result<Option<Zeroizing<String>>, InitError>,
    usable: impl Fn(&str) -> Result<T, String>,
) -> Result<T, InitError> {
    let attempts = if is_terminal() { ATTEMPTS } else { 1 };
    for left in (0..attempts).rev() {
        let line = read()?.ok_or(InitError::Ended(what))?;
        match usable(&line) {
            Ok(found) => return Ok(found),
            Err(mistake) if left == 0 => return Err(InitError::Entered { what, mistake }),
            Err(mistake) => show(&format!("the {what} {mistake}; enter it again")),
        }
    }
    Err(InitError::Entered {
        what,
        mistake: "is empty".to_owned(),
    })
}

/// Prompts for a line without showing what is typed.
pub(super) fn hidden(question: &str) -> Result<Option<Zeroizing<String>>, InitError> {
    if has_more() {
        // As it was shown, it is discarded with the next change of the terminal.
        show("the input after the client id was visible and is discarded; enter only the secret");
    }
    let quiet = HiddenInput::begin();
    let read = line(question);
    if quiet.is_some() {
        // The line break that was typed wasn't shown either.
        let _ = writeln!(io::stderr());
    }
    drop(quiet);
    read
}

/// Returns whether more was typed or pasted at the terminal than was read.
#[cfg(unix)]
fn has_more() -> bool {
    is_terminal() && rustix::io::ioctl_fionread(io::stdin()).is_ok_and(|bytes| bytes > 0)
}

#[cfg(windows)]
fn has_more() -> bool {
    false
}

pub(super) fn line(question: &str) -> Result<Option<Zeroizing<String>>, InitError> {
    let stdin = io::stdin();
    if stdin.is_terminal() {
        write!(io::stderr(), "{question}")?;
    }
    // Reserved whole, so that no copy is left behind by its growing.
    let capacity = usize::try_from(MAX_LINE).unwrap_or_default();
    let mut line = Zeroizing::new(Vec::with_capacity(capacity));
    stdin.lock().take(MAX_LINE).read_until(b'\n', &mut line)?;
    if line.len() >= capacity && !line.ends_with(b"\n") {
        let error = io::Error::other(format!("a line exceeds {MAX_LINE} bytes"));
        return Err(error.into());
    }
    let text = text(&line).map_err(InitError::NotUtf8)?;
    Ok((!line.is_empty()).then(|| Zeroizing::new(text.to_owned())))
}

/// Returns the text of a line, or the encoding that it seems to have instead.
fn text(line: &[u8]) -> Result<&str, &'static str> {
    // The marks of UTF-16; its text of ASCII is valid UTF-8 with zeros in it.
    if line.starts_with(b"\xff\xfe") || line.starts_with(b"\xfe\xff") || line.contains(&0) {
        return Err("it seems to be UTF-16");
    }
    std::str::from_utf8(line).map_err(|_| "it contains invalid bytes")
}

/// Until this is dropped the console shows nothing of what is typed.
#[cfg(windows)]
struct HiddenInput(winsafe::co::CONSOLE);

#[cfg(windows)]
impl HiddenInput {
    fn begin() -> Option<Self> {
        let before = console()?.GetConsoleMode().ok()?;
        let quiet = before & !winsafe::co::CONSOLE::ENABLE_ECHO_INPUT;
        console()?.SetConsoleMode(quiet).ok()?;
        Some(Self(before))
    }
}

#[cfg(windows)]
impl Drop for HiddenInput {
    fn drop(&mut self) {
        // Only the console itself shows it.
        let _ = console().map(|console| console.SetConsoleMode(self.0));
    }
}

/// Returns standard input, which stays open.
#[cfg(windows)]
fn console() -> Option<winsafe::HSTD> {
    let mut opened = winsafe::HSTD::GetStdHandle(winsafe::co::STD_HANDLE::INPUT).ok()?;
    Some(opened.leak())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn line_in_another_encoding_is_named() {
        let utf16: Vec<u8> = "id\n".encode_utf16().flat_map(u16::to_le_bytes).collect();
        let with_mark = [b"\xff\xfe", utf16.as_slice()].concat();
        for line in [utf16.as_slice(), &with_mark, b"\xfe\xff\0i"] {
            assert_eq!(text(line), Err("it seems to be UTF-16"));
        }
        assert_eq!(text(b"caf\xe9\n"), Err("it contains invalid bytes"));
        assert_eq!(text("caf\u{e9}\n".as_bytes()), Ok("caf\u{e9}\n"));
    }
}

//! Asks a person, or reads what a script sends.

use std::io::{self, BufRead, IsTerminal, Read, Write};

use zeroize::Zeroizing;

use super::InitError;

#[cfg(unix)]
use crate::signals::terminal::HiddenInput as Quiet;

/// The longest line that is taken, in bytes.
const MAX_LINE: u64 = 4096;

/// How often a terminal is asked for the same.
const ATTEMPTS: usize = 3;

/// Whether somebody sees what is asked.
pub(super) fn is_terminal() -> bool {
    io::stdin().is_terminal()
}

/// Prints a line for somebody at the terminal.
pub(super) fn tell(line: &str) {
    if is_terminal() {
        // With standard error closed the questions are not seen either.
        let _ = writeln!(io::stderr(), "{line}");
    }
}

/// Reads lines by `read` until `usable` finds `what` in one; without a terminal one line is all.
pub(super) fn until_usable<T>(
    what: &'static str,
    read: impl Fn() -> io::Result<Zeroizing<String>>,
    usable: impl Fn(&str) -> Result<T, String>,
) -> Result<T, InitError> {
    let attempts = if is_terminal() { ATTEMPTS } else { 1 };
    for left in (0..attempts).rev() {
        let line = read().map_err(InitError::Read)?;
        match usable(&line) {
            Ok(found) => return Ok(found),
            Err(slip) if left == 0 => return Err(InitError::Entered { what, slip }),
            Err(slip) => tell(&format!("the {what} {slip}; enter it again")),
        }
    }
    Err(InitError::Entered {
        what,
        slip: "is empty".to_owned(),
    })
}

/// Asks for a line; without a terminal, reads the next one of standard input.
pub(super) fn line(question: &str) -> io::Result<Zeroizing<String>> {
    read_line(question)
}

/// The same, with nothing typed shown.
pub(super) fn hidden(question: &str) -> io::Result<Zeroizing<String>> {
    let quiet = Quiet::begin();
    let read = read_line(question);
    if quiet.is_some() {
        // The line break that was typed wasn't shown either.
        let _shown = writeln!(io::stderr());
    }
    drop(quiet);
    read
}

fn read_line(question: &str) -> io::Result<Zeroizing<String>> {
    let stdin = io::stdin();
    if stdin.is_terminal() {
        write!(io::stderr(), "{question}")?;
    }
    // Reserved whole, so that no copy is left behind by its growing.
    let capacity = usize::try_from(MAX_LINE).unwrap_or_default();
    let mut line = Zeroizing::new(String::with_capacity(capacity));
    stdin.lock().take(MAX_LINE).read_line(&mut line)?;
    if line.len() >= capacity && !line.ends_with('\n') {
        return Err(io::Error::other(format!(
            "a line of more than {MAX_LINE} bytes"
        )));
    }
    Ok(line)
}

/// While this lives the console shows nothing of what is typed.
#[cfg(windows)]
struct Quiet(winsafe::co::CONSOLE);

#[cfg(windows)]
impl Quiet {
    fn begin() -> Option<Self> {
        let before = console()?.GetConsoleMode().ok()?;
        let quiet = before & !winsafe::co::CONSOLE::ENABLE_ECHO_INPUT;
        console()?.SetConsoleMode(quiet).ok()?;
        Some(Self(before))
    }
}

#[cfg(windows)]
impl Drop for Quiet {
    fn drop(&mut self) {
        // There is no other way to tell than the console itself.
        let _restored = console().map(|console| console.SetConsoleMode(self.0));
    }
}

/// Standard input, which stays open.
#[cfg(windows)]
fn console() -> Option<winsafe::HSTD> {
    let mut opened = winsafe::HSTD::GetStdHandle(winsafe::co::STD_HANDLE::INPUT).ok()?;
    Some(opened.leak())
}

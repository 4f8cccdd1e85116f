//! Asks a person, or reads what a script sends.

use std::io::{self, BufRead, IsTerminal, Read, Write};

use secrecy::SecretString;
use zeroize::Zeroizing;

/// The longest line that is taken, in bytes.
const MAX_LINE: u64 = 4096;

/// Asks for a line; without a terminal, takes the next one of standard input.
pub(super) fn line(question: &str) -> io::Result<String> {
    let read = read_line(question)?;
    Ok(read.trim().to_owned())
}

/// The same, with nothing typed shown.
pub(super) fn hidden(question: &str) -> io::Result<SecretString> {
    let quiet = Quiet::begin();
    let read = read_line(question);
    if quiet.is_some() {
        // The line break that was typed wasn't shown either.
        let _shown = writeln!(io::stderr());
    }
    drop(quiet);
    Ok(read?.trim_end_matches(['\r', '\n']).into())
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

/// While this lives the terminal shows nothing of what is typed.
#[cfg(unix)]
struct Quiet(rustix::termios::Termios);

#[cfg(unix)]
impl Quiet {
    fn begin() -> Option<Self> {
        use rustix::termios::{LocalModes, OptionalActions, tcgetattr, tcsetattr};
        let before = tcgetattr(io::stdin()).ok()?;
        let mut quiet = before.clone();
        quiet.local_modes.remove(LocalModes::ECHO);
        restore_on_signals(before.clone()).ok()?;
        tcsetattr(io::stdin(), OptionalActions::Flush, &quiet).ok()?;
        Some(Self(before))
    }
}

/// A signal that ends the process must not leave a terminal that shows nothing.
#[cfg(unix)]
fn restore_on_signals(before: rustix::termios::Termios) -> io::Result<()> {
    use rustix::termios::{OptionalActions, tcsetattr};
    use signal_hook::consts::{SIGHUP, SIGINT, SIGQUIT, SIGTERM};
    let mut signals = signal_hook::iterator::Signals::new([SIGHUP, SIGINT, SIGQUIT, SIGTERM])?;
    std::thread::Builder::new().spawn(move || {
        if let Some(signal) = signals.forever().next() {
            // The end comes in any case.
            let _restored = tcsetattr(io::stdin(), OptionalActions::Flush, &before);
            end_by(signal);
        }
    })?;
    Ok(())
}

/// Ends the process by the signal. The first process of a PID namespace, as in a container, can't end
/// like that: it exits with the code that shells have for it.
#[cfg(unix)]
fn end_by(signal: i32) -> ! {
    if std::process::id() != 1 {
        let _ = signal_hook::low_level::emulate_default_handler(signal);
    }
    std::process::exit(128 + signal)
}

#[cfg(unix)]
impl Drop for Quiet {
    fn drop(&mut self) {
        use rustix::termios::{OptionalActions, tcsetattr};
        // There is no other way to tell than the terminal itself.
        let _restored = tcsetattr(io::stdin(), OptionalActions::Flush, &self.0);
    }
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

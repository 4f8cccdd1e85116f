//! Writes to standard output and reports every error. The standard library hides two: it opens
//! `/dev/null` in place of a descriptor that is closed at the start, and counts what is written to a
//! descriptor that is only open for reading as written.

use std::ffi::OsStr;
use std::io;

use terminal_size::{Width, terminal_size};

/// Writes all of it, in one system call where the system takes it whole.
///
/// # Errors
///
/// The system's, and one if standard output was closed when the process started.
pub fn write(text: &[u8]) -> io::Result<()> {
    platform::write(text)
}

/// The columns for help: `$COLUMNS`, else those of the terminal, at most 100; 80 if neither is known.
#[must_use]
pub fn help_columns() -> usize {
    let terminal = || terminal_size().map(|(Width(columns), _)| columns.into());
    columns(std::env::var_os("COLUMNS").as_deref(), terminal)
}

fn columns(variable: Option<&OsStr>, terminal: impl FnOnce() -> Option<usize>) -> usize {
    // What is narrower leaves no room beside the names of options.
    const LEAST: usize = 40;
    const MOST: usize = 100;
    const USUAL: usize = 80;
    let number = variable.and_then(|text| text.to_str()?.parse().ok());
    let known = number.filter(|columns| *columns > 0).or_else(terminal);
    let known = known.filter(|columns| *columns > 0);
    known.unwrap_or(USUAL).clamp(LEAST, MOST)
}

#[cfg(unix)]
mod platform {
    use std::io;
    use std::sync::atomic::{AtomicBool, Ordering};

    use rustix::io::{Errno, fcntl_getfd, retry_on_intr, write as write_some};
    use rustix::stdio::stdout;

    /// Whether standard output was closed when the process started.
    static WAS_CLOSED: AtomicBool = AtomicBool::new(false);

    // Runs before the standard library's start, which opens /dev/null in place of a closed descriptor: a
    // /dev/null from the parent looks the same.
    ctor::declarative::ctor! {
        #[ctor(unsafe)]
        fn note_whether_closed() {
            let closed = fcntl_getfd(stdout()) == Err(Errno::BADF);
            WAS_CLOSED.store(closed, Ordering::Relaxed);
        }
    }

    pub(super) fn write(mut text: &[u8]) -> io::Result<()> {
        if WAS_CLOSED.load(Ordering::Relaxed) {
            return Err(io::Error::other("it is closed"));
        }
        while !text.is_empty() {
            let written = retry_on_intr(|| write_some(stdout(), text))?;
            if written == 0 {
                return Err(io::ErrorKind::WriteZero.into());
            }
            text = text.get(written..).unwrap_or_default();
        }
        Ok(())
    }
}

#[cfg(windows)]
mod platform {
    use std::io::{self, Write};

    pub(super) fn write(text: &[u8]) -> io::Result<()> {
        let mut out = io::stdout().lock();
        out.write_all(text).and_then(|()| out.flush())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn help_has_the_columns_of_the_variable_or_the_terminal_within_bounds() {
        let of = |variable: &str, terminal| columns(Some(variable.as_ref()), || terminal);
        assert_eq!(of("90", Some(70)), 90);
        for none in ["", "0", "-5", "wide"] {
            assert_eq!(of(none, Some(70)), 70, "{none}");
            assert_eq!(of(none, None), 80, "{none}");
        }
        assert_eq!(columns(None, || Some(0)), 80);
        assert_eq!(columns(None, || Some(300)), 100);
        assert_eq!(of("7", None), 40);
    }
}

//! Writes to standard output and returns every error. The standard library hides two: it opens `/dev/null` for a
//! descriptor that is closed at the start, and it ignores a descriptor that is only open for reading. Before the
//! program is replaced, the descriptors that were closed can be closed again.

use std::ffi::OsStr;
use std::io;

use terminal_size::{Width, terminal_size};

/// Writes the whole text, if possible in one system call.
///
/// # Errors
///
/// The system's error, or an error if standard output was closed when the process started.
pub fn write(text: &[u8]) -> io::Result<()> {
    platform::write(text)
}

/// Makes `execve` close the standard descriptors that were closed when the process started.
#[cfg(unix)]
pub fn close_on_exec_what_was_closed() {
    platform::close_on_exec_what_was_closed();
}

/// Returns the width of help in columns: `$COLUMNS`, else the terminal's width, else 80; at least 40, at most 100.
#[must_use]
pub fn help_columns() -> usize {
    let terminal = || terminal_size().map(|(Width(columns), _)| columns.into());
    columns(std::env::var_os("COLUMNS").as_deref(), terminal)
}

fn columns(variable: Option<&OsStr>, terminal: impl FnOnce() -> Option<usize>) -> usize {
    // With fewer columns, the texts beside the options would have no room.
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

    use rustix::io::{
        Errno, FdFlags, fcntl_getfd, fcntl_setfd, retry_on_intr, write as write_some,
    };
    use rustix::stdio::{stderr, stdin, stdout};

    /// Which of the standard descriptors were closed when the process started.
    static WAS_CLOSED: [AtomicBool; 3] = [const { AtomicBool::new(false) }; 3];

    // Runs before the standard library opens /dev/null for a closed descriptor, which could not be distinguished
    // from a /dev/null of the parent.
    ctor::declarative::ctor! {
        #[ctor(unsafe)]
        fn record_closed_descriptors() {
            for (descriptor, was_closed) in [stdin(), stdout(), stderr()].iter().zip(&WAS_CLOSED) {
                let closed = fcntl_getfd(descriptor) == Err(Errno::BADF);
                was_closed.store(closed, Ordering::Relaxed);
            }
        }
    }

    pub(super) fn close_on_exec_what_was_closed() {
        for (descriptor, was_closed) in [stdin(), stdout(), stderr()].iter().zip(&WAS_CLOSED) {
            if was_closed.load(Ordering::Relaxed) {
                // Fails only for a descriptor that is still closed.
                let _ = fcntl_setfd(descriptor, FdFlags::CLOEXEC);
            }
        }
    }

    pub(super) fn write(mut text: &[u8]) -> io::Result<()> {
        let [_, stdout_was_closed, _] = &WAS_CLOSED;
        if stdout_was_closed.load(Ordering::Relaxed) {
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
    fn help_width_is_that_of_the_variable_or_the_terminal_within_bounds() {
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

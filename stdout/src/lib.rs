//! Writes to standard output and reports every error. The standard library hides two: it opens
//! `/dev/null` in place of a descriptor that is closed at the start, and counts what is written to a
//! descriptor that is only open for reading as written.

use std::io;

/// Writes all of it, in one system call where the system takes it whole.
///
/// # Errors
///
/// The system's, and one if standard output was closed when the process started.
pub fn write(text: &[u8]) -> io::Result<()> {
    platform::write(text)
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

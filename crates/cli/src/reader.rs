//! The reader of standard output: `watch` and `status --watch` end with it, as `tail -f` does.

use std::io::ErrorKind;

use crate::error::{CliError, IO_ERROR};
use crate::messages::finish_and_exit;

/// Ends the process as soon as the pipe, socket or terminal that is standard output has no reader any
/// more. A file, a terminal that is open, and `/dev/null` never report that.
#[cfg(unix)]
pub(crate) fn end_with_it() {
    use rustix::event::{PollFd, PollFlags, poll};
    use rustix::io::Errno;
    let wait = || {
        let stdout = std::io::stdout();
        // POLLERR and POLLHUP are reported in any case. Nothing else wakes the thread.
        let mut polled = [PollFd::new(&stdout, PollFlags::empty())];
        while poll(&mut polled, None) == Err(Errno::INTR) {}
        let closed = PollFlags::ERR | PollFlags::HUP;
        if polled.iter().any(|fd| fd.revents().intersects(closed)) {
            finish_and_exit(IO_ERROR);
        }
    };
    // Without the thread the next write finds out.
    let _ = std::thread::Builder::new().spawn(wait);
}

/// On Windows the next write finds out.
#[cfg(windows)]
pub(crate) fn end_with_it() {}

/// Prints for a reader whose end is no error to report.
pub(crate) fn print(text: &[u8]) -> Result<(), CliError> {
    let written = domo_token_stdout::write(text);
    if matches!(&written, Err(error) if error.kind() == ErrorKind::BrokenPipe) {
        finish_and_exit(IO_ERROR);
    }
    written.map_err(|error| crate::cannot_print(&error))
}

//! Standard output. `watch` and `status --watch` exit when its reader closes it, as `tail -f` does.

use std::io::{self, ErrorKind};

use crate::error::CliError;
use crate::exit_code::IO_ERROR;
use crate::stderr::finish_and_exit;

/// Ends the process when the pipe, socket or terminal that is standard output loses its reader. A file,
/// an open terminal and `/dev/null` never report that.
#[cfg(unix)]
pub(crate) fn exit_when_closed() {
    use rustix::event::{PollFd, PollFlags, poll};
    use rustix::io::Errno;
    let wait = || {
        let stdout = io::stdout();
        // POLLERR and POLLHUP are reported in any case. Nothing else wakes the thread.
        let mut polled = [PollFd::new(&stdout, PollFlags::empty())];
        while poll(&mut polled, None) == Err(Errno::INTR) {}
        let closed = PollFlags::ERR | PollFlags::HUP;
        if polled.iter().any(|fd| fd.revents().intersects(closed)) {
            finish_and_exit(IO_ERROR);
        }
    };
    // Without the thread, the next write fails.
    let _ = std::thread::Builder::new().spawn(wait);
}

/// Does nothing: on Windows the next write fails.
#[cfg(windows)]
pub(crate) fn exit_when_closed() {}

/// Prints a text, in one write if the system accepts all of it.
pub(crate) fn print(text: &[u8]) -> Result<u8, CliError> {
    let written = domo_token_stdout::write(text);
    written.map(|()| 0).map_err(|error| cannot_print(&error))
}

fn cannot_print(error: &io::Error) -> CliError {
    CliError::new(
        IO_ERROR,
        format!("cannot write to standard output: {error}"),
    )
}

/// Prints a text. Exits without a message if the reader has closed standard output.
pub(crate) fn print_or_exit(text: &[u8]) -> Result<(), CliError> {
    let written = domo_token_stdout::write(text);
    if matches!(&written, Err(error) if error.kind() == ErrorKind::BrokenPipe) {
        finish_and_exit(IO_ERROR);
    }
    written.map_err(|error| cannot_print(&error))
}

//! The limit on open descriptors.

use std::fs::File;
use std::io;

use rustix::io::Errno;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Raises the soft limit to the hard one, and returns it.
#[must_use]
pub fn raise() -> usize {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: limit.maximum,
        maximum: limit.maximum,
    };
    let current = match setrlimit(Resource::Nofile, raised) {
        Ok(()) => limit.maximum,
        Err(_) => limit.current,
    };
    current.map_or(usize::MAX, |current| {
        usize::try_from(current).unwrap_or(usize::MAX)
    })
}

/// What to do when [`is_exhausted`].
pub const RAISE_LIMIT: &str = "; raise the limit on open files (LimitNOFILE= or ulimit -n)";

/// Returns whether the error is that the limit on open descriptors, of the process or the system, is reached.
#[must_use]
pub fn is_exhausted(error: &io::Error) -> bool {
    let errno = Errno::from_io_error(error);
    matches!(errno, Some(Errno::MFILE | Errno::NFILE))
}

/// Checks that so many descriptors can be opened.
///
/// # Errors
///
/// What the system returns.
pub fn probe(count: usize) -> io::Result<()> {
    let open = |_| File::open("/dev/null");
    let opened: io::Result<Vec<File>> = (0..count).map(open).collect();
    opened.map(drop)
}

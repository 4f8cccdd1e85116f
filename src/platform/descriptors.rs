//! The limit on open descriptors.

use std::fs::File;
use std::io;

use rustix::io::Errno;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Raises the soft limit to the hard one, and says how many descriptors there may be then.
#[must_use]
pub fn raise() -> usize {
    let limit = getrlimit(Resource::Nofile);
    let wanted = Rlimit {
        current: limit.maximum,
        maximum: limit.maximum,
    };
    let current = match setrlimit(Resource::Nofile, wanted) {
        Ok(()) => limit.maximum,
        Err(_) => limit.current,
    };
    current.map_or(usize::MAX, |current| {
        usize::try_from(current).unwrap_or(usize::MAX)
    })
}

/// What to do when [`is_exhausted`].
pub const RAISE_LIMIT: &str = "; raise the limit on open files (LimitNOFILE= or ulimit -n)";

/// Whether the error is that there is no room for another descriptor, in the process or the system.
#[must_use]
pub fn is_exhausted(error: &io::Error) -> bool {
    let errno = Errno::from_io_error(error);
    matches!(errno, Some(Errno::MFILE | Errno::NFILE))
}

/// Opens that many descriptors, and closes them.
///
/// # Errors
///
/// What the system says.
pub fn probe(count: usize) -> io::Result<()> {
    let open = |_| File::open("/dev/null");
    let opened: io::Result<Vec<File>> = (0..count).map(open).collect();
    opened.map(drop)
}

//! What keeps the secrets of this process from other processes of its user, and from core files.

use rustix::io;
use rustix::process::{DumpableBehavior, Resource, Rlimit, set_dumpable_behavior, setrlimit};

/// No debugger may look inside, `/proc/PID/mem` and its like are root's, no core is written, and no
/// program run from here gains privileges.
///
/// # Errors
///
/// If the system refuses any of it.
pub fn close() -> io::Result<()> {
    set_dumpable_behavior(DumpableBehavior::NotDumpable)?;
    let none = Rlimit {
        current: Some(0),
        maximum: Some(0),
    };
    setrlimit(Resource::Core, none)?;
    rustix::thread::set_no_new_privs(true)
}

//! Keeps the secrets of this process from other processes of its user, and from core dumps.

use rustix::io;
use rustix::process::{DumpableBehavior, Resource, Rlimit, set_dumpable_behavior, setrlimit};

/// Disables ptrace and core dumps, makes `/proc/PID/mem` and similar files root's, and prevents child
/// processes from gaining privileges.
///
/// # Errors
///
/// What the system returns if it denies any of it.
pub fn apply() -> io::Result<()> {
    set_dumpable_behavior(DumpableBehavior::NotDumpable)?;
    let none = Rlimit {
        current: Some(0),
        maximum: Some(0),
    };
    setrlimit(Resource::Core, none)?;
    rustix::thread::set_no_new_privs(true)
}

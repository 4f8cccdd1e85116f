//! Does nothing on Windows, which has no switch that keeps other processes out of the memory.
//!
//! Other users can't open the process anyway. Processes of its user, and administrators, can read its
//! memory, and Windows may write a crash report of it.

use std::io;

/// # Errors
///
/// None.
pub fn apply() -> io::Result<()> {
    Ok(())
}

//! What keeps the secrets of this process from others: on Windows nothing that the daemon could do
//! by itself.
//!
//! Other users can't open the process anyway. Whoever runs as its user, and the administrators,
//! can read its memory, and Windows may write a crash report of it.

use std::io;

/// Does nothing: Windows has no switch for it.
///
/// # Errors
///
/// None.
pub fn apply() -> io::Result<()> {
    Ok(())
}

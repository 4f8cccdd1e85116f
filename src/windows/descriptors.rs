//! The limit on open handles: Windows has none that a daemon could meet.

/// How many there may be.
#[must_use]
pub fn raise() -> usize {
    usize::MAX
}

/// What to do when [`is_exhausted`].
pub const RAISE_LIMIT: &str = "";

/// Never.
#[must_use]
pub fn is_exhausted(_: &std::io::Error) -> bool {
    false
}

/// There is room.
///
/// # Errors
///
/// None.
pub fn probe(_: usize) -> std::io::Result<()> {
    Ok(())
}

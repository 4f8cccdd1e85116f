//! The limit on open handles: Windows has none that a daemon could reach.

/// Returns how many handles the process may have open: any number.
#[must_use]
pub fn raise() -> usize {
    usize::MAX
}

/// What to do when [`is_exhausted`].
pub const RAISE_LIMIT: &str = "";

/// Returns false: there is no limit to exhaust.
#[must_use]
pub fn is_exhausted(_: &std::io::Error) -> bool {
    false
}

/// Succeeds: there is no limit to reach.
///
/// # Errors
///
/// None.
pub fn probe(_: usize) -> std::io::Result<()> {
    Ok(())
}

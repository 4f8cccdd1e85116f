//! The limit on open handles: Windows has none that a daemon could meet.

/// How many there may be.
#[must_use]
pub fn raise() -> usize {
    usize::MAX
}

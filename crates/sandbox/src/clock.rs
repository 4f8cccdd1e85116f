//! The only file that reads a clock.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Returns the time of a monotonic clock.
#[expect(
    clippy::disallowed_methods,
    reason = "this is the file that reads clocks"
)]
pub(crate) fn now() -> Instant {
    Instant::now()
}

/// Returns the time since 1970, for a token's `exp`.
#[expect(
    clippy::disallowed_methods,
    reason = "this is the file that reads clocks"
)]
pub(crate) fn epoch() -> Duration {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default()
}

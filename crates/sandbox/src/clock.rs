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

/// Returns the time of day in UTC, as in Domo's responses: `2016-06-21T17:20:36Z`.
pub(crate) fn timestamp() -> String {
    let now = time::OffsetDateTime::UNIX_EPOCH + epoch();
    let (date, time) = (now.date(), now.time());
    format!(
        "{:04}-{:02}-{:02}T{:02}:{:02}:{:02}Z",
        date.year(),
        u8::from(date.month()),
        date.day(),
        time.hour(),
        time.minute(),
        time.second(),
    )
}

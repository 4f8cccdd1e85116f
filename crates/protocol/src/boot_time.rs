//! A moment on the boot clock: the time since the machine started, suspend included.

use std::fmt;
use std::ops::{Add, Sub};
use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};

/// A moment on the boot clock, in whole milliseconds.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub struct BootTime(u64);

impl BootTime {
    /// Returns the moment `millis` milliseconds after boot.
    #[must_use]
    pub const fn from_millis(millis: u64) -> Self {
        Self(millis)
    }

    /// Returns the milliseconds since boot.
    #[must_use]
    pub const fn as_millis(self) -> u64 {
        self.0
    }

    /// Returns the time since `earlier`; zero if that is later.
    #[must_use]
    pub const fn saturating_since(self, earlier: Self) -> Duration {
        Duration::from_millis(self.0.saturating_sub(earlier.0))
    }

    /// Returns the same moment on the wall clock, by the current time of both clocks. Only for display: if the wall
    /// clock jumps between two calls, so does the result.
    #[must_use]
    pub fn to_wall(self, now: Self, wall_now: SystemTime) -> SystemTime {
        let later = wall_now.checked_add(self.saturating_since(now));
        let wall = later.unwrap_or(wall_now);
        wall.checked_sub(now.saturating_since(self)).unwrap_or(wall)
    }
}

impl Add<Duration> for BootTime {
    type Output = Self;

    /// Drops fractions of milliseconds. A sum past the clock's end is its end.
    fn add(self, span: Duration) -> Self {
        let millis = u64::try_from(span.as_millis()).unwrap_or(u64::MAX);
        Self(self.0.saturating_add(millis))
    }
}

impl Sub<Duration> for BootTime {
    type Output = Self;

    /// Drops fractions of milliseconds. A moment before the clock's start is its start.
    fn sub(self, span: Duration) -> Self {
        let millis = u64::try_from(span.as_millis()).unwrap_or(u64::MAX);
        Self(self.0.saturating_sub(millis))
    }
}

impl fmt::Display for BootTime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "boot+{}.{:03}s", self.0 / 1000, self.0 % 1000)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn boot_time_converts_to_wall_time_before_and_after_now() {
        let wall = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000);
        let now = BootTime::from_millis(50_000);
        let shown = |millis| {
            let at = BootTime::from_millis(millis).to_wall(now, wall);
            at.duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs()
        };
        assert_eq!(shown(60_000), 1_000_010);
        assert_eq!(shown(40_000), 999_990);
    }

    #[test]
    fn wall_clock_jump_changes_only_what_is_shown() {
        let day = Duration::from_secs(86_400);
        let wall = SystemTime::UNIX_EPOCH + day * 100;
        let (now, expires) = (BootTime::from_millis(50_000), BootTime::from_millis(60_000));
        let left = Duration::from_secs(10);
        for wall in [wall, wall + day, wall - day, SystemTime::UNIX_EPOCH] {
            assert_eq!(expires.to_wall(now, wall), wall + left);
            assert_eq!(expires.saturating_since(now), left);
        }
        let past = BootTime::from_millis(40_000);
        let shown = past.to_wall(now, SystemTime::UNIX_EPOCH);
        assert!(shown < SystemTime::UNIX_EPOCH, "before 1970, and no panic");
    }

    #[test]
    fn sums_saturate_at_the_range_of_the_clock() {
        let end = BootTime::from_millis(u64::MAX);
        assert_eq!(end + Duration::from_secs(1), end);
        assert_eq!(BootTime::default().saturating_since(end), Duration::ZERO);
    }
}

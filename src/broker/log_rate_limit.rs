//! The limit on log lines about denied callers: a hostile caller must not fill the log.

use std::cmp::Ordering;
use std::time::Duration;

use crate::platform::clock::BootTime;

/// The most lines in each [`PERIOD`].
const MAX_LINES: u32 = 60;
const PERIOD: Duration = Duration::from_secs(60);

/// The lines of the current period.
#[derive(Debug, Default)]
pub(super) struct LogRateLimit {
    since: BootTime,
    used: u32,
}

impl LogRateLimit {
    /// Counts a line. Returns how it compares with the last one that is logged in its period.
    pub(super) fn count(&mut self, now: BootTime) -> Ordering {
        if now.saturating_since(self.since) >= PERIOD {
            *self = Self {
                since: now,
                used: 0,
            };
        }
        self.used = self.used.saturating_add(1);
        self.used.cmp(&MAX_LINES)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sixty_refusals_a_minute_are_logged_and_the_last_one_notes_the_limit() {
        let mut limit = LogRateLimit::default();
        for minute in 1..3 {
            let now = BootTime::from_millis(minute * 60_000);
            let lines: Vec<Ordering> = (0..62).map(|_| limit.count(now)).collect();
            assert!(lines[..59].iter().all(|line| line.is_lt()));
            assert_eq!(
                lines[59..],
                [Ordering::Equal, Ordering::Greater, Ordering::Greater]
            );
            let soon = now + Duration::from_millis(59_999);
            assert!(limit.count(soon).is_gt(), "the minute isn't over");
        }
    }
}

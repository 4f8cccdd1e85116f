//! After a failure of the store it is not used for a while, so that an engine that hangs costs a second now and then,
//! not one at each fetch.

use std::time::Duration;

use domo_token_protocol::BootTime;

/// How long the store is not used after its first failure.
pub(super) const FIRST: Duration = Duration::from_secs(10);

/// Maximum of that time, which doubles with each further failure.
pub(super) const LONGEST: Duration = Duration::from_secs(60);

/// Whether the store may be used.
#[derive(Clone, Copy, Debug, Default)]
pub struct Breaker {
    failures: u32,
    open_until: Option<BootTime>,
}

impl Breaker {
    /// Returns whether the store is not used at `now`.
    #[must_use]
    pub fn is_open(&self, now: BootTime) -> bool {
        self.open_until.is_some_and(|until| now < until)
    }

    /// Records a failure. Others that end while the breaker is open began before it and do not count.
    pub fn failed(&mut self, now: BootTime) {
        if self.is_open(now) {
            return;
        }
        let doubled = FIRST.saturating_mul(2_u32.saturating_pow(self.failures));
        self.failures = self.failures.saturating_add(1);
        self.open_until = Some(now + doubled.min(LONGEST));
    }

    /// Records that an operation succeeded.
    pub fn succeeded(&mut self) {
        *self = Self::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn breaker_opens_for_ten_seconds_and_doubles_to_a_minute_until_a_success() {
        let mut breaker = Breaker::default();
        let mut now = BootTime::from_millis(1_000);
        assert!(!breaker.is_open(now));
        for seconds in [10, 20, 40, 60, 60] {
            breaker.failed(now);
            let end = now + Duration::from_secs(seconds);
            assert!(breaker.is_open(end - Duration::from_millis(1)), "{seconds}");
            assert!(!breaker.is_open(end), "{seconds}");
            // It began before the breaker opened.
            breaker.failed(end - Duration::from_secs(1));
            assert!(!breaker.is_open(end), "{seconds}");
            now = end;
        }
        breaker.succeeded();
        breaker.failed(now);
        assert!(!breaker.is_open(now + FIRST));
    }
}

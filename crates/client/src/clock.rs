//! The boot clock: time since the machine started, suspend included.
//!
//! A token also expires while a laptop sleeps, and the wall clock may be set back, so expiry is measured
//! on this clock. All processes of a host read the same one, so an expiry that the broker sends stays
//! correct for as long as the answer is kept.

use std::time::{Duration, SystemTime};

pub use domo_token_protocol::BootTime;

/// Reads the boot clock.
#[must_use]
#[cfg(unix)]
pub fn boot_now() -> BootTime {
    let read = rustix::time::clock_gettime(BOOT_CLOCK);
    let whole = u64::try_from(read.tv_sec).unwrap_or(0).saturating_mul(1000);
    let part = u64::try_from(read.tv_nsec).unwrap_or(0) / 1_000_000;
    BootTime::from_millis(whole.saturating_add(part))
}

/// Reads the boot clock, which runs on in suspend and goes in steps of 10 to 16 ms (`GetTickCount64`).
#[must_use]
#[cfg(windows)]
pub fn boot_now() -> BootTime {
    BootTime::from_millis(winsafe::GetTickCount64())
}

#[cfg(any(target_os = "linux", target_os = "android"))]
const BOOT_CLOCK: rustix::time::ClockId = rustix::time::ClockId::Boottime;

/// On macOS and the BSDs the monotonic clock runs on in suspend.
#[cfg(all(unix, not(any(target_os = "linux", target_os = "android"))))]
const BOOT_CLOCK: rustix::time::ClockId = rustix::time::ClockId::Monotonic;

/// Reads the wall clock: for times that people read, never for decisions.
#[must_use]
#[expect(
    clippy::disallowed_methods,
    reason = "this is the file that reads clocks"
)]
pub fn wall_now() -> SystemTime {
    SystemTime::now()
}

/// Returns the time from the start of 1970 to `at`; zero if it was before.
#[must_use]
pub fn since_1970(at: SystemTime) -> Duration {
    at.duration_since(SystemTime::UNIX_EPOCH)
        .unwrap_or_default()
}

/// The longest time until a connection is accepted that is not taken for another clock. A watch may wait for its
/// greeting for hours, which must not make a clock that is minutes ahead count as ours.
const MAX_ACCEPT_DELAY: Duration = Duration::from_secs(10);

/// The boot clock of a broker as seen from here: another one than ours in another time namespace, or
/// behind a socket that is forwarded from another machine.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct BrokerClock {
    /// One of both is zero.
    ahead: Duration,
    behind: Duration,
}

impl BrokerClock {
    /// Returns the clock that read `theirs` as a connection was accepted. Ours read `ours` before it was
    /// opened, so that tokens expire rather too early here than too late, and `received` when `theirs` came.
    ///
    /// What it read in between, up to [`MAX_ACCEPT_DELAY`], is ours: a daemon that was stopped or busy accepts late.
    pub(crate) fn new(theirs: BootTime, ours: BootTime, received: BootTime) -> Self {
        let latest = received.min(ours + MAX_ACCEPT_DELAY);
        if (ours..=latest).contains(&theirs) {
            return Self::default();
        }
        let ahead = theirs.saturating_since(ours);
        let behind = ours.saturating_since(theirs);
        Self { ahead, behind }
    }

    /// Returns its current time.
    pub(crate) fn now(self) -> BootTime {
        boot_now() + self.ahead - self.behind
    }

    /// Returns a moment of it on our clock; one before our clock's start is its start.
    pub(crate) fn to_ours(self, at: BootTime) -> BootTime {
        at + self.behind - self.ahead
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_of_a_clock_that_is_ahead_or_behind_are_translated() {
        let at = BootTime::from_millis;
        let day = Duration::from_secs(86_400);
        let ours = at(10_000_000);
        for theirs in [ours + day, ours - Duration::from_secs(9_000)] {
            let clock = BrokerClock::new(theirs, ours, ours);
            let expires = theirs + Duration::from_secs(60);
            assert_eq!(clock.to_ours(expires), ours + Duration::from_secs(60));
            let now = clock.now();
            let since = boot_now().saturating_since(clock.to_ours(now));
            assert!(since < Duration::from_secs(60), "{since:?}");
        }
        let ahead = BrokerClock::new(ours + day, ours, ours);
        assert_eq!(ahead.to_ours(at(5)), at(0), "before our clock began");
    }

    #[test]
    fn late_acceptance_is_not_taken_for_another_clock() {
        let ours = BootTime::from_millis(10_000);
        let expires = BootTime::from_millis(70_000);
        let received = ours + Duration::from_secs(3);
        for late in [0, 1, 3_000] {
            let theirs = ours + Duration::from_millis(late);
            let clock = BrokerClock::new(theirs, ours, received);
            assert_eq!(clock.to_ours(expires), expires);
        }
        // What ours had not read yet, or long after that, is another clock: the token expires rather too early.
        let hour_later = ours + Duration::from_secs(3600);
        let too_late = ours + MAX_ACCEPT_DELAY + Duration::from_millis(1);
        for (theirs, received) in [
            (received + Duration::from_millis(1), received),
            (too_late, hour_later),
        ] {
            let clock = BrokerClock::new(theirs, ours, received);
            assert!(clock.to_ours(expires) < expires);
        }
    }

    #[test]
    fn boot_clock_never_goes_back() {
        let first = boot_now();
        assert!(boot_now() >= first);
        assert!(first > BootTime::default());
    }
}

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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn boot_clock_never_goes_back() {
        let first = boot_now();
        assert!(boot_now() >= first);
        assert!(first > BootTime::default());
    }
}

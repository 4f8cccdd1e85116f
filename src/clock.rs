//! The clock that the broker runs on; nothing else here reads one.

pub use domo_token_client::clock::{BootTime, boot_now, wall_now};

use std::future::Future;
use std::time::Duration;

/// The longest sleep before the time is looked at again. tokio's timers stand still while a
/// machine is suspended, so a renewal can be late by this much after it wakes.
const LONGEST_SLEEP: Duration = Duration::from_secs(30);

/// Tells the time and waits for it.
pub trait Clock: Clone + Send + Sync + 'static {
    /// The time since boot, suspend included.
    fn now(&self) -> BootTime;

    /// Returns once `due` has passed.
    fn sleep_until(&self, due: BootTime) -> impl Future<Output = ()> + Send;
}

/// The machine's own clock.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> BootTime {
        boot_now()
    }

    async fn sleep_until(&self, due: BootTime) {
        loop {
            let left = due.saturating_since(boot_now());
            if left.is_zero() {
                return;
            }
            tokio::time::sleep(left.min(LONGEST_SLEEP)).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_moment_that_has_passed_is_not_waited_for() {
        SystemClock.sleep_until(BootTime::default()).await;
    }

    #[tokio::test]
    async fn sleeping_ends_no_earlier_than_asked() {
        let due = boot_now() + Duration::from_millis(20);
        SystemClock.sleep_until(due).await;
        assert!(boot_now() >= due);
    }
}

//! The clock that the broker runs on; nothing else reads a clock.

#[cfg(target_os = "linux")]
mod timer;

pub use domo_token_client::clock::{BootTime, boot_now, since_1970, wall_now};

use std::future::Future;
use std::time::Duration;

use tokio::time::Instant;

/// The longest sleep before the time is read again where there are only tokio's timers: they stop while a
/// machine is suspended, so a renewal can be late by this much after it resumes.
const MAX_SLEEP: Duration = Duration::from_secs(30);

/// Reads the time and sleeps.
pub trait Clock: Clone + Send + Sync + 'static {
    /// Returns the time since boot, including suspend.
    fn now(&self) -> BootTime;

    /// Returns the wall clock's time since 1970, to compare it with the clocks of other hosts.
    fn wall(&self) -> Duration {
        since_1970(wall_now())
    }

    /// Returns once `due` has passed.
    fn sleep_until(&self, due: BootTime) -> impl Future<Output = ()> + Send;
}

/// The machine's boot clock. Clones share a kernel timer; if two sleep at the same time, the second creates
/// its own.
#[derive(Clone, Debug, Default)]
pub struct SystemClock {
    #[cfg(target_os = "linux")]
    timer: timer::Timer,
}

impl SystemClock {
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }
}

impl Clock for SystemClock {
    fn now(&self) -> BootTime {
        boot_now()
    }

    async fn sleep_until(&self, due: BootTime) {
        #[cfg(target_os = "linux")]
        self.timer.sleep_until(due).await;
        sleep_in_parts(due, boot_now, tokio::time::sleep).await;
    }
}

/// Returns the time of tokio's timers, from which their deadlines are computed. It stops during suspend, and
/// while a test has paused it.
#[must_use]
#[expect(clippy::disallowed_methods, reason = "this is where it is read")]
pub fn timer_now() -> Instant {
    Instant::now()
}

/// Sleeps in parts, and reads the time again after each.
async fn sleep_in_parts<Sleep: Future<Output = ()>>(
    due: BootTime,
    now: impl Fn() -> BootTime,
    sleep: impl Fn(Duration) -> Sleep,
) {
    loop {
        let left = due.saturating_since(now());
        if left.is_zero() {
            return;
        }
        sleep(left.min(MAX_SLEEP)).await;
    }
}

#[cfg(test)]
mod tests {
    use std::cell::{Cell, RefCell};
    use std::future::ready;

    use super::*;

    #[tokio::test]
    async fn sleep_until_a_past_time_returns_immediately() {
        SystemClock::new().sleep_until(BootTime::default()).await;
    }

    #[tokio::test]
    async fn sequential_and_concurrent_sleeps_end_no_earlier_than_due() {
        let clock = SystemClock::new();
        for _ in 0..2 {
            let due = boot_now() + Duration::from_millis(20);
            let (first, second) = (clock.sleep_until(due), clock.sleep_until(due));
            tokio::join!(first, second);
            assert!(boot_now() >= due);
        }
    }

    #[tokio::test]
    async fn sleep_in_parts_notices_the_end_of_suspend_within_half_a_minute() {
        let due = BootTime::default() + Duration::from_secs(2 * 3600);
        let time = Cell::new(BootTime::default());
        let slept = RefCell::new(Vec::new());
        let sleep = |span| {
            slept.borrow_mut().push(span);
            // In the third of them the machine is suspended for three hours.
            let suspended = Duration::from_secs(if slept.borrow().len() == 3 {
                3 * 3600
            } else {
                0
            });
            time.set(time.get() + span + suspended);
            ready(())
        };
        sleep_in_parts(due, || time.get(), sleep).await;
        assert_eq!(slept.into_inner(), [MAX_SLEEP; 3]);
    }

    #[tokio::test]
    async fn last_part_of_a_sleep_is_as_long_as_the_rest() {
        let due = BootTime::default() + Duration::from_secs(70);
        let time = Cell::new(BootTime::default());
        let sleep = |span| {
            time.set(time.get() + span);
            ready(())
        };
        sleep_in_parts(due, || time.get(), sleep).await;
        assert_eq!(time.get(), due);
    }

    #[tokio::test]
    async fn cancelled_sleep_releases_the_timer() {
        let clock = SystemClock::new();
        let far = boot_now() + Duration::from_secs(3600);
        tokio::select! {
            () = clock.sleep_until(far) => panic!("an hour is not over"),
            () = ready(()) => {}
        }
        let due = boot_now() + Duration::from_millis(20);
        clock.sleep_until(due).await;
        assert!(boot_now() >= due);
    }
}

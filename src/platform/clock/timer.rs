//! A kernel timer on the boot clock: if it expires during suspend, it fires as soon as the machine resumes.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create,
    timerfd_settime,
};
use tokio::io::unix::AsyncFd;

use super::BootTime;

/// A timer that clones share; one of them sleeps on it at a time.
#[derive(Clone, Debug, Default)]
pub(super) struct Timer(Arc<Mutex<Option<AsyncFd<OwnedFd>>>>);

impl Timer {
    /// Returns once `due` has passed, or earlier if no timer can be created: the caller reads the time
    /// again.
    pub(super) async fn sleep_until(&self, due: BootTime) {
        let Ok(borrowed) = self.take() else {
            return;
        };
        if let Some(descriptor) = &borrowed.descriptor
            && set(descriptor.get_ref(), due).is_ok()
        {
            // The sleep ends when the timer fires, and when it fails.
            let _ = wait_until_fired(descriptor).await;
        }
    }

    fn take(&self) -> io::Result<Borrowed<'_>> {
        let kept = self.0.lock().unwrap_or_else(PoisonError::into_inner).take();
        let descriptor = match kept {
            Some(descriptor) => descriptor,
            None => create()?,
        };
        Ok(Borrowed {
            timer: self,
            descriptor: Some(descriptor),
        })
    }
}

/// Returns the descriptor to the timer, also when the sleep is cancelled.
struct Borrowed<'a> {
    timer: &'a Timer,
    descriptor: Option<AsyncFd<OwnedFd>>,
}

impl Drop for Borrowed<'_> {
    fn drop(&mut self) {
        let mut kept = self.timer.0.lock().unwrap_or_else(PoisonError::into_inner);
        *kept = self.descriptor.take();
    }
}

/// Waits until a read succeeds: readiness alone can be left over from a sleep that was cancelled.
async fn wait_until_fired(descriptor: &AsyncFd<OwnedFd>) -> io::Result<()> {
    loop {
        let mut ready = descriptor.readable().await?;
        let read = |timer: &AsyncFd<OwnedFd>| Ok(rustix::io::read(timer.get_ref(), &mut [0; 8])?);
        if let Ok(read) = ready.try_io(read) {
            return read.map(drop);
        }
    }
}

#[expect(
    deprecated,
    reason = "its successor asks for unsafe code; an OwnedFd that nobody else holds is all it needs"
)]
fn create() -> io::Result<AsyncFd<OwnedFd>> {
    let flags = TimerfdFlags::CLOEXEC | TimerfdFlags::NONBLOCK;
    let timer = timerfd_create(TimerfdClockId::Boottime, flags)?;
    AsyncFd::new(timer)
}

/// Sets the timer, which also clears an earlier expiry that was not read.
fn set(descriptor: &OwnedFd, due: BootTime) -> io::Result<()> {
    // A time of zero would disarm it.
    let due = due.saturating_since(BootTime::default());
    let due = due.max(Duration::from_millis(1));
    let at = Itimerspec {
        it_interval: Timespec::default(),
        it_value: Timespec {
            tv_sec: i64::try_from(due.as_secs()).unwrap_or(i64::MAX),
            tv_nsec: due.subsec_nanos().into(),
        },
    };
    timerfd_settime(descriptor, TimerfdTimerFlags::ABSTIME, &at)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsRawFd;

    use super::*;
    use crate::platform::clock::boot_now;

    #[tokio::test]
    async fn timer_uses_the_boot_clock() {
        let timer = create().unwrap();
        let info = format!("/proc/self/fdinfo/{}", timer.get_ref().as_raw_fd());
        let info = std::fs::read_to_string(info).unwrap();
        assert!(info.contains("clockid: 7"), "CLOCK_BOOTTIME: {info}");
    }

    #[tokio::test]
    async fn cancelled_sleep_does_not_end_the_next_one() {
        let timer = Timer::default();
        let soon = boot_now() + Duration::from_millis(5);
        let held = timer.take().unwrap();
        let descriptor = held.descriptor.as_ref().unwrap();
        set(descriptor.get_ref(), soon).unwrap();
        let _ready = descriptor.readable().await.unwrap();
        drop(held);
        let later = boot_now() + Duration::from_millis(50);
        timer.sleep_until(later).await;
        assert!(boot_now() >= later);
    }

    #[tokio::test]
    async fn sleep_until_the_maximum_time_does_not_fail() {
        let timer = Timer::default();
        let end = BootTime::from_millis(u64::MAX);
        tokio::select! {
            biased;
            () = timer.sleep_until(end) => panic!("it is not over"),
            () = tokio::task::yield_now() => {}
        }
    }
}

//! A clock that stands still until the simulation moves it.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use domo_token::platform::clock::{BootTime, Clock};
use tokio::sync::watch;

/// The wall clock at boot, in milliseconds since 1970.
pub(crate) const BOOT_MS: u64 = 1_700_000_000_000;

/// The simulated boot clock, and one host's wall clock. Clones are the same clocks.
#[derive(Clone, Debug)]
pub(crate) struct SimClock {
    time: Arc<watch::Sender<BootTime>>,
    sleepers: Arc<Mutex<Sleepers>>,
    wall_ahead_ms: Arc<AtomicI64>,
}

#[derive(Debug, Default)]
struct Sleepers {
    last: u64,
    due: BTreeMap<u64, BootTime>,
}

impl SimClock {
    pub(crate) fn new(start: BootTime) -> Self {
        Self {
            time: Arc::new(watch::Sender::new(start)),
            sleepers: Arc::default(),
            wall_ahead_ms: Arc::default(),
        }
    }

    /// Returns the clock of another host: the same boot clock, and a wall clock of its own.
    pub(crate) fn of_host(&self) -> Self {
        Self {
            wall_ahead_ms: Arc::default(),
            ..self.clone()
        }
    }

    /// Puts the wall clock forward or back to that far ahead of the true time.
    pub(crate) fn set_wall_ahead(&self, ms: i64) {
        self.wall_ahead_ms.store(ms, Ordering::Relaxed);
    }

    /// Sets the clock and wakes the sleepers that are due.
    pub(crate) fn set(&self, now: BootTime) {
        self.time.send_replace(now);
    }

    /// Returns when the first sleeper is due.
    pub(crate) fn first_due(&self) -> Option<BootTime> {
        self.sleepers().due.values().min().copied()
    }

    /// Returns the number of sleeps begun, which shows whether a task has run since.
    pub(crate) fn sleeps(&self) -> u64 {
        self.sleepers().last
    }

    fn sleepers(&self) -> MutexGuard<'_, Sleepers> {
        self.sleepers.lock().unwrap()
    }
}

impl Clock for SimClock {
    fn now(&self) -> BootTime {
        *self.time.borrow()
    }

    fn wall(&self) -> Duration {
        let true_ms = BOOT_MS + self.now().as_millis();
        let ahead = self.wall_ahead_ms.load(Ordering::Relaxed);
        Duration::from_millis(true_ms.saturating_add_signed(ahead))
    }

    async fn sleep_until(&self, due: BootTime) {
        let _asleep = Asleep::new(self, due);
        let mut time = self.time.subscribe();
        let _ = time.wait_for(|now| *now >= due).await;
    }
}

struct Asleep<'a> {
    clock: &'a SimClock,
    id: u64,
}

impl<'a> Asleep<'a> {
    fn new(clock: &'a SimClock, due: BootTime) -> Self {
        let mut sleepers = clock.sleepers();
        sleepers.last += 1;
        let id = sleepers.last;
        sleepers.due.insert(id, due);
        drop(sleepers);
        Self { clock, id }
    }
}

impl Drop for Asleep<'_> {
    fn drop(&mut self) {
        self.clock.sleepers().due.remove(&self.id);
    }
}

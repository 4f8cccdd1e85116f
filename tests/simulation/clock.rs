//! A clock that stands still until the simulation moves it.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};

use domo_token::platform::clock::{BootTime, Clock};
use tokio::sync::watch;

/// The simulated boot clock. Clones are the same clock.
#[derive(Clone, Debug)]
pub(crate) struct SimClock {
    time: Arc<watch::Sender<BootTime>>,
    sleepers: Arc<Mutex<Sleepers>>,
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
        }
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

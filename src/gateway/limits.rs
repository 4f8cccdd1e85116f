//! Limits on connections. A connection without credentials, which any local process can open, has one of few places,
//! and loses it to a newer one; with credentials it has a place among the others.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::task::AbortHandle;
use tokio::time::{Instant, timeout_at};

use crate::platform::clock::timer_now;

/// The most connections.
const MAX_CONNECTIONS: usize = 256;

/// Of these, the places of connections without credentials.
const MAX_UNKNOWN: usize = 32;

/// The most connections of one application.
pub(super) const MAX_PER_APP: usize = 64;

/// How long a connection without credentials keeps its place in any case: otherwise many connections at the same time
/// would close each other before their first requests are read.
const MIN_TIME: Duration = Duration::from_millis(100);

/// The places of all connections.
#[derive(Debug, Default)]
pub(super) struct Places {
    table: Mutex<Table>,
    /// Notified when a connection without credentials leaves its place.
    left: Notify,
}

#[derive(Debug, Default)]
struct Table {
    known: usize,
    /// Since when they are there, the oldest first.
    unknown: VecDeque<(Arc<Task>, Instant)>,
}

/// The task that serves a connection, once it was started.
type Task = OnceLock<AbortHandle>;

/// The place of a connection, until it is dropped.
#[derive(Debug)]
pub(super) struct Place {
    places: Arc<Places>,
    /// `None` once its credentials are known.
    task: Option<Arc<Task>>,
}

impl Places {
    /// Returns a place, and what is to be set to the task that serves its connection. If all places of connections
    /// without credentials are taken, the oldest of these is closed, as soon as it had its time.
    pub(super) async fn enter(self: &Arc<Self>) -> (Place, Arc<Task>) {
        loop {
            let left = self.left.notified();
            match self.try_enter(timer_now()) {
                Ok(entered) => return entered,
                // What has happened is seen by the next attempt.
                Err(due) => timeout_at(due, left).await.ok(),
            };
        }
    }

    /// Returns a place, or when the oldest connection may be closed for one.
    fn try_enter(self: &Arc<Self>, now: Instant) -> Result<(Place, Arc<Task>), Instant> {
        let mut table = self.table();
        if table.unknown.len() >= MAX_UNKNOWN
            && let Some((oldest, since)) = table.unknown.front()
        {
            let due = *since + MIN_TIME;
            if due > now {
                return Err(due);
            }
            if let Some(oldest) = oldest.get() {
                oldest.abort();
            }
            table.unknown.pop_front();
        }
        let task = Arc::new(Task::new());
        table.unknown.push_back((Arc::clone(&task), now));
        let place = Place {
            places: Arc::clone(self),
            task: Some(Arc::clone(&task)),
        };
        Ok((place, task))
    }

    /// Removes a connection from those without credentials.
    fn leave(&self, table: &mut Table, task: &Arc<Task>) {
        table.unknown.retain(|(other, _)| !Arc::ptr_eq(other, task));
        self.left.notify_one();
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Place {
    /// Moves to the places of connections with credentials. Returns whether there is one.
    pub(super) fn authenticate(&mut self) -> bool {
        let Some(task) = &self.task else {
            return true;
        };
        let mut table = self.places.table();
        if table.known >= MAX_CONNECTIONS - MAX_UNKNOWN {
            return false;
        }
        table.known += 1;
        self.places.leave(&mut table, task);
        drop(table);
        self.task = None;
        true
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut table = self.places.table();
        match &self.task {
            Some(task) => self.places.leave(&mut table, task),
            None => table.known -= 1,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::pending;

    use super::*;

    #[tokio::test]
    async fn oldest_connection_without_credentials_is_closed_after_its_time() {
        let places = Arc::new(Places::default());
        let start = timer_now();
        let mut open = Vec::new();
        for _ in 0..=MAX_UNKNOWN {
            let (place, task) = places.try_enter(start).unwrap();
            let served = tokio::spawn(pending::<()>());
            task.set(served.abort_handle()).unwrap();
            open.push((place, served));
            if open.len() == 1 {
                assert!(open[0].0.authenticate());
            }
        }
        let due = start + MIN_TIME;
        let early = places.try_enter(due - Duration::from_millis(1));
        assert_eq!(early.unwrap_err(), due);
        let _late = places.try_enter(due).unwrap();
        let (_, second) = &mut open[1];
        assert!(second.await.unwrap_err().is_cancelled());
        assert!(!open[0].1.is_finished() && !open[2].1.is_finished());
    }

    #[tokio::test]
    async fn connection_enters_when_another_one_leaves() {
        let places = Arc::new(Places::default());
        // Without the notification they would have to wait for this.
        let later = timer_now() + Duration::from_secs(3600);
        let enter = || places.try_enter(later).unwrap().0;
        let mut open: Vec<Place> = (0..MAX_UNKNOWN).map(|_| enter()).collect();
        let (entered, _) = tokio::join!(places.enter(), async { open[7].authenticate() });
        let (again, ()) = tokio::join!(places.enter(), async { drop(open.pop()) });
        assert_eq!(places.table().unknown.len(), MAX_UNKNOWN);
        drop((entered, again));
    }

    #[tokio::test]
    async fn places_are_limited_and_returned() {
        let places = Arc::new(Places::default());
        let known = MAX_CONNECTIONS - MAX_UNKNOWN;
        let mut open: Vec<Place> = Vec::new();
        for _ in 0..known {
            let mut place = places.enter().await.0;
            assert!(place.authenticate() && place.authenticate());
            open.push(place);
        }
        let mut late = places.enter().await.0;
        assert!(!late.authenticate());
        open.pop();
        assert!(late.authenticate());
        drop((open, late));
        let table = places.table();
        assert_eq!((table.known, table.unknown.len()), (0, 0));
    }
}

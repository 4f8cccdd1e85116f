//! Limits on connections. A connection without credentials, which any local process can open, has one of few places,
//! and loses it to a newer one; with credentials it has a place among the others.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use tokio::task::AbortHandle;
use tokio::time::Instant;

/// The most connections.
const MAX_CONNECTIONS: usize = 256;

/// Of the connections, the places of connections without credentials.
const MAX_UNKNOWN: usize = 32;

/// The most connections of one application.
pub(super) const MAX_PER_APP: usize = 64;

/// How long a connection without credentials has its place at least. Meanwhile others wait to be accepted: of many
/// connections that an application opens together, each has the time for its first request.
const MIN_STAY: Duration = Duration::from_millis(50);

/// The places of all connections.
#[derive(Debug, Default)]
pub(super) struct Places(Mutex<Table>);

#[derive(Debug, Default)]
struct Table {
    known: usize,
    /// The oldest first, with the time since when it is there.
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

/// Returns how many of the daemon's descriptors the connections leave to its other parts. Each connection can have one to
/// a server. If there are few descriptors, half of them are left.
#[must_use]
pub fn descriptors_left(descriptors: usize) -> usize {
    descriptors - (2 * MAX_CONNECTIONS).min(descriptors / 2)
}

impl Places {
    /// Returns a place, and what is to be set to the task that serves its connection. If all places of connections
    /// without credentials are taken, the oldest of these is closed.
    pub(super) fn enter(self: &Arc<Self>, now: Instant) -> (Place, Arc<Task>) {
        let task = Arc::new(Task::new());
        let mut table = self.table();
        if table.unknown.len() >= MAX_UNKNOWN
            && let Some((oldest, _)) = table.unknown.pop_front()
            && let Some(oldest) = oldest.get()
        {
            oldest.abort();
        }
        table.unknown.push_back((Arc::clone(&task), now));
        let place = Place {
            places: Arc::clone(self),
            task: Some(Arc::clone(&task)),
        };
        (place, task)
    }

    /// Returns until when a new connection must not take the place of the oldest one; `None` if there is a place.
    pub(super) fn full_until(&self) -> Option<Instant> {
        let table = self.table();
        let (_, since) = table.unknown.front()?;
        (table.unknown.len() >= MAX_UNKNOWN).then_some(*since + MIN_STAY)
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
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
        table.unknown.retain(|(other, _)| !Arc::ptr_eq(other, task));
        drop(table);
        self.task = None;
        true
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut table = self.places.table();
        match &self.task {
            Some(task) => table.unknown.retain(|(other, _)| !Arc::ptr_eq(other, task)),
            None => table.known -= 1,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::pending;

    use super::*;
    use crate::platform::clock::timer_now;

    #[test]
    fn descriptors_are_left_for_other_parts() {
        assert_eq!(descriptors_left(16384), 16384 - 512);
        assert_eq!(descriptors_left(1024), 512);
        assert_eq!(descriptors_left(60), 30);
        assert_eq!(descriptors_left(usize::MAX), usize::MAX - 512);
    }

    #[test]
    fn new_connection_waits_while_all_places_were_taken_just_now() {
        let places = Arc::new(Places::default());
        let start = timer_now();
        let mut open: Vec<Place> = Vec::new();
        for number in 0..MAX_UNKNOWN {
            assert_eq!(places.full_until(), None, "{number}");
            open.push(places.enter(start).0);
        }
        assert_eq!(places.full_until(), Some(start + MIN_STAY));
        assert!(open[0].authenticate());
        assert_eq!(places.full_until(), None);
    }

    #[tokio::test]
    async fn oldest_connection_without_credentials_is_closed() {
        let places = Arc::new(Places::default());
        let mut open = Vec::new();
        for _ in 0..=MAX_UNKNOWN + 1 {
            let (place, task) = places.enter(timer_now());
            let served = tokio::spawn(pending::<()>());
            task.set(served.abort_handle()).unwrap();
            open.push((place, served));
            if open.len() == 1 {
                assert!(open[0].0.authenticate());
            }
        }
        let (_, second) = &mut open[1];
        assert!(second.await.unwrap_err().is_cancelled());
        assert!(!open[0].1.is_finished() && !open[2].1.is_finished());
    }

    #[test]
    fn places_are_limited_and_returned() {
        let places = Arc::new(Places::default());
        let known = MAX_CONNECTIONS - MAX_UNKNOWN;
        let mut open: Vec<Place> = Vec::new();
        for _ in 0..known {
            let mut place = places.enter(timer_now()).0;
            assert!(place.authenticate() && place.authenticate());
            open.push(place);
        }
        let mut late = places.enter(timer_now()).0;
        assert!(!late.authenticate());
        open.pop();
        assert!(late.authenticate());
        drop((open, late));
        let table = places.table();
        assert_eq!((table.known, table.unknown.len()), (0, 0));
    }
}

//! Looks up host names: each lookup on a thread, one for all requests that wait for the same name.

use std::collections::HashMap;
use std::io;
use std::net::{SocketAddr, ToSocketAddrs};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{Semaphore, watch};
use tokio::time::Instant;

use crate::platform::clock::timer_now;
use crate::platform::threads;

/// The most concurrent lookups. One that hangs keeps its thread for longer than its request waits.
pub(super) const MAX_LOOKUPS: usize = 32;

/// The most concurrent lookups of one name. The second one is started only while half of all lookups are free, so that
/// names whose lookups hang leave room for others.
const MAX_PER_NAME: usize = 2;

/// A lookup that has taken this long may hang for ever: the next request starts another one.
pub(super) const SLOW: Duration = Duration::from_secs(20);

/// The addresses of a name, with port 0. The error is shared because [`io::Error`] cannot be cloned.
type Found = Result<Vec<SocketAddr>, Arc<io::Error>>;

/// The system's lookup, which blocks.
type System = dyn Fn(&str) -> io::Result<Vec<SocketAddr>> + Send + Sync;

pub(super) struct Resolver {
    system: Arc<System>,
    room: Arc<Semaphore>,
    names: Arc<Mutex<HashMap<String, Name>>>,
}

/// The lookups of one name that have not ended.
#[derive(Default)]
struct Name {
    running: usize,
    /// The newest, unless it has ended.
    newest: Option<Newest>,
}

struct Newest {
    started: Instant,
    found: watch::Receiver<Option<Found>>,
}

impl Default for Resolver {
    fn default() -> Self {
        Self::new(system_lookup)
    }
}

impl Resolver {
    pub(super) fn new(
        system: impl Fn(&str) -> io::Result<Vec<SocketAddr>> + Send + Sync + 'static,
    ) -> Self {
        Self {
            system: Arc::new(system),
            room: Arc::new(Semaphore::new(MAX_LOOKUPS)),
            names: Arc::default(),
        }
    }

    /// Returns the addresses of `name`, with port 0. A lookup continues when its request is cancelled, and serves
    /// the next one.
    pub(super) async fn addresses(&self, name: &str) -> Result<Vec<SocketAddr>, Arc<io::Error>> {
        let mut lookup = self.join_or_start(name);
        let found = lookup.wait_for(Option::is_some).await;
        let found = found.map_or(None, |found| found.clone());
        found.unwrap_or_else(|| Err(Arc::new(io::Error::other("the lookup was abandoned"))))
    }

    /// Returns what to do about a lookup that times out.
    pub(super) fn late_hint(&self) -> String {
        let hint = "check the nameservers of this machine";
        if self.room.available_permits() > 0 {
            return hint.to_owned();
        }
        format!("{MAX_LOOKUPS} lookups are still without a response; {hint}")
    }

    fn join_or_start(&self, name: &str) -> watch::Receiver<Option<Found>> {
        let now = timer_now();
        let mut names = lock(&self.names);
        let entry = names.entry(name.to_owned()).or_default();
        if let Some(newest) = &entry.newest {
            let is_slow = now.saturating_duration_since(newest.started) >= SLOW;
            let has_room = self.room.available_permits() > MAX_LOOKUPS / 2;
            if !is_slow || !has_room || entry.running >= MAX_PER_NAME {
                return newest.found.clone();
            }
        }
        let (sender, found) = watch::channel(None);
        entry.running += 1;
        entry.newest = Some(Newest {
            started: now,
            found: found.clone(),
        });
        tokio::spawn(self.look_up(name.to_owned(), sender));
        found
    }

    /// Runs a lookup. Removes it before its result is sent, so that no request joins one that has ended.
    fn look_up(
        &self,
        name: String,
        result: watch::Sender<Option<Found>>,
    ) -> impl Future<Output = ()> + use<> {
        let (system, room) = (Arc::clone(&self.system), Arc::clone(&self.room));
        let names = Arc::clone(&self.names);
        async move {
            let looked_up = name.clone();
            // Never closed.
            let permit = room.acquire_owned().await;
            let found = threads::run(move || {
                let found = system(&looked_up);
                drop(permit);
                found
            });
            let found = found.await.and_then(|found| found).map_err(Arc::new);
            let mut running = lock(&names);
            if let Some(entry) = running.get_mut(&name) {
                entry.running -= 1;
                let own = result.subscribe();
                entry
                    .newest
                    .take_if(|newest| newest.found.same_channel(&own));
                if entry.running == 0 {
                    running.remove(&name);
                }
            }
            drop(running);
            let _ = result.send(Some(found));
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn system_lookup(name: &str) -> io::Result<Vec<SocketAddr>> {
    Ok((name, 0).to_socket_addrs()?.collect())
}

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, Ipv4Addr};
    use std::sync::mpsc;

    use super::*;

    const ADDRESS: [SocketAddr; 1] = [SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0)];

    /// Returns a resolver, what ends its lookups of names that hang, and what receives the names looked up.
    fn controlled_resolver() -> (Resolver, mpsc::Sender<()>, mpsc::Receiver<String>) {
        let (go, may_go) = mpsc::channel();
        let (begun, begins) = mpsc::channel();
        let (may_go, begun) = (Mutex::new(may_go), Mutex::new(begun));
        let resolver = Resolver::new(move |name| {
            lock(&begun)
                .send(name.to_owned())
                .map_err(io::Error::other)?;
            if name.starts_with("hangs") {
                lock(&may_go).recv().map_err(io::Error::other)?;
            }
            Ok(ADDRESS.to_vec())
        });
        (resolver, go, begins)
    }

    /// Polls a lookup once.
    async fn begin(resolver: &Resolver, name: &str) {
        let lookup = resolver.addresses(name);
        let waited = tokio::time::timeout(Duration::ZERO, lookup).await;
        assert!(waited.is_err(), "{name} has ended");
    }

    #[tokio::test]
    async fn requests_for_one_name_share_one_lookup_that_outlives_them() {
        let (resolver, go, begins) = controlled_resolver();
        for _ in 0..64 {
            begin(&resolver, "hangs.example").await;
        }
        go.send(()).unwrap();
        let found = resolver.addresses("hangs.example").await.unwrap();
        assert_eq!(found, ADDRESS);
        assert_eq!(begins.try_iter().count(), 1);
        assert!(lock(&resolver.names).is_empty());
        // Nothing is remembered.
        go.send(()).unwrap();
        resolver.addresses("hangs.example").await.unwrap();
        assert_eq!(begins.try_iter().count(), 1);
    }

    #[tokio::test]
    async fn hanging_lookups_leave_room_for_other_names() {
        let (resolver, _go, _begins) = controlled_resolver();
        for number in 0..MAX_LOOKUPS / MAX_PER_NAME {
            for _ in 0..MAX_LOOKUPS {
                begin(&resolver, &format!("hangs{number}.example")).await;
            }
        }
        assert_eq!(resolver.addresses("other.example").await.unwrap(), ADDRESS);
    }

    #[tokio::test]
    async fn hanging_names_get_a_second_lookup_only_while_half_of_the_threads_are_free() {
        let (resolver, _go, begins) = controlled_resolver();
        let names = MAX_LOOKUPS / 2 - 4;
        for expected in [names, 4, 0] {
            for number in 0..names {
                begin(&resolver, &format!("hangs{number}.example")).await;
            }
            assert_eq!(begins.iter().take(expected).count(), expected);
            for name in lock(&resolver.names).values_mut() {
                name.newest.as_mut().unwrap().started -= SLOW;
            }
        }
        assert_eq!(resolver.room.available_permits(), MAX_LOOKUPS / 2);
        assert!(resolver.late_hint().starts_with("check the nameservers"));
        for number in 0..MAX_LOOKUPS / 2 {
            begin(&resolver, &format!("hangs-too{number}.example")).await;
        }
        assert!(
            resolver
                .late_hint()
                .starts_with("32 lookups are still without")
        );
    }

    #[tokio::test]
    async fn slow_lookup_gets_a_second_attempt_and_no_third() {
        let (resolver, go, begins) = controlled_resolver();
        begin(&resolver, "hangs.example").await;
        let slow = |resolver: &Resolver| {
            let mut names = lock(&resolver.names);
            let name = names.get_mut("hangs.example").unwrap();
            name.newest.as_mut().unwrap().started -= SLOW;
            name.running
        };
        assert_eq!(slow(&resolver), 1);
        begin(&resolver, "hangs.example").await;
        assert_eq!(slow(&resolver), 2);
        begin(&resolver, "hangs.example").await;
        assert_eq!(slow(&resolver), 2);
        go.send(()).unwrap();
        go.send(()).unwrap();
        resolver.addresses("hangs.example").await.unwrap();
        assert_eq!(begins.iter().take(2).count(), 2);
    }

    #[tokio::test]
    async fn error_of_a_lookup_is_that_of_the_system() {
        let resolver = Resolver::new(|_| Err(io::Error::other("no such name")));
        let error = resolver.addresses("a.example").await.unwrap_err();
        assert_eq!(error.to_string(), "no such name");
    }
}

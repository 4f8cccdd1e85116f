//! Looks up names and groups of callers in the user database, and caches them: one lookup serves all connections of a
//! user.

mod lookups;

use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;
use tokio::time::timeout;
use tracing::warn;

use super::WarnLimit;
use crate::platform::clock::boot_now;
use crate::platform::threads;
use crate::platform::users;
use domo_token_core::access_policy::Identity;

pub(super) use lookups::Found;
use lookups::{Answer, Ended, Key, Lookups};

type Lookup = dyn Fn(u32, Option<u32>) -> io::Result<Identity> + Send + Sync;

/// The names and groups of callers.
pub(super) struct Identities {
    lookup: Arc<Lookup>,
    lookups: Mutex<Lookups>,
    warn_limit: Mutex<WarnLimit>,
}

/// A caller that waits for a lookup.
struct Waiting<'a> {
    identities: &'a Identities,
    key: Key,
    answer: Option<watch::Receiver<Ended>>,
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.answer = None;
        self.identities.lookups().cancel(self.key);
    }
}

impl Identities {
    pub(super) fn new() -> Arc<Self> {
        Self::of(users::identity)
    }

    fn of(
        lookup: impl Fn(u32, Option<u32>) -> io::Result<Identity> + Send + Sync + 'static,
    ) -> Arc<Self> {
        Arc::new(Self {
            lookup: Arc::new(lookup),
            lookups: Mutex::default(),
            warn_limit: Mutex::default(),
        })
    }

    /// Returns the cached name and groups of a user whose process has the group `gid`.
    pub(super) fn known(&self, uid: u32, gid: Option<u32>) -> Option<Found> {
        self.lookups().known((uid, gid), boot_now())
    }

    /// Returns the same, after a lookup if necessary. While the user database fails or takes too long, the last known
    /// groups are valid for an hour; a user without them is identified by its numbers alone.
    pub(super) async fn get(self: &Arc<Self>, uid: u32, gid: Option<u32>) -> Found {
        let (key, now) = ((uid, gid), boot_now());
        let answer = self.lookups().request(key, now);
        let (answer, until) = match answer {
            Answer::Now(found) => return found,
            Answer::Wait(answer, until) => (answer, until),
        };
        let mut waiting = Waiting {
            identities: self,
            key,
            answer: Some(answer),
        };
        self.start_lookups();
        let ended = match &mut waiting.answer {
            Some(answer) => {
                let ended = answer.wait_for(Option::is_some);
                let ended = timeout(until.saturating_since(now), ended).await;
                ended.ok().and_then(|ended| ended.ok()?.clone())
            }
            None => None,
        };
        match ended {
            Some(Some(identity)) => Found {
                identity,
                is_complete: true,
            },
            Some(None) => self.lookups().without_answer(key, boot_now()),
            None => {
                self.lookups().failed(key, boot_now());
                self.warn(uid, "the lookup timed out");
                self.lookups().without_answer(key, boot_now())
            }
        }
    }

    /// Starts the lookups for which there is room. A lookup continues when its caller disconnects, so that
    /// reconnecting causes no other one.
    fn start_lookups(self: &Arc<Self>) {
        loop {
            let Some(key) = self.lookups().start() else {
                return;
            };
            let identities = Arc::clone(self);
            tokio::spawn(async move {
                let lookup = Arc::clone(&identities.lookup);
                let found = threads::run(move || lookup(key.0, key.1)).await;
                let found = found.and_then(|found| found);
                if let Err(error) = &found {
                    identities.warn(key.0, error);
                }
                identities.lookups().ended(key, found.ok(), boot_now());
                identities.start_lookups();
            });
        }
    }

    fn warn(&self, uid: u32, error: impl std::fmt::Display) {
        let limit = self.warn_limit.lock();
        let mut limit = limit.unwrap_or_else(PoisonError::into_inner);
        if limit.is_due(boot_now()) {
            warn!(
                uid,
                "user database lookup failed; using the last known groups for up to an hour: {error}"
            );
        }
    }

    fn lookups(&self) -> MutexGuard<'_, Lookups> {
        self.lookups.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::sync::mpsc;

    use super::*;

    fn named(name: &str) -> Identity {
        Identity {
            user: Some(name.to_owned()),
            groups: Vec::new(),
        }
    }

    #[tokio::test]
    async fn thousand_connections_of_a_user_cause_one_lookup_and_delay_no_other_user() {
        let (open, gate) = mpsc::channel::<()>();
        let gate = Mutex::new(gate);
        let requested = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&requested);
        let identities = Identities::of(move |uid, _| {
            count.fetch_add(1, Ordering::Relaxed);
            if uid == 1 {
                let _ = gate.lock().unwrap().recv();
            }
            Ok(named(&uid.to_string()))
        });
        let slow: Vec<_> = (0..1000)
            .map(|_| {
                let identities = Arc::clone(&identities);
                tokio::spawn(async move { identities.get(1, None).await })
            })
            .collect();
        // Half of them disconnect.
        tokio::task::yield_now().await;
        for left in slow.iter().take(500) {
            left.abort();
        }
        assert_eq!(*identities.get(2, None).await.identity, named("2"));
        open.send(()).unwrap();
        for waiting in slow.into_iter().skip(500) {
            assert_eq!(*waiting.await.unwrap().identity, named("1"));
        }
        assert_eq!(requested.load(Ordering::Relaxed), 2);
    }

    #[tokio::test]
    async fn lookup_of_a_caller_that_disconnects_before_its_start_never_starts() {
        let (open, gate) = mpsc::channel::<()>();
        let gate = Mutex::new(gate);
        let requested = Arc::new(Mutex::new(Vec::new()));
        let seen = Arc::clone(&requested);
        let identities = Identities::of(move |uid, _| {
            seen.lock().unwrap().push(uid);
            let _ = gate.lock().unwrap().recv();
            Ok(named(&uid.to_string()))
        });
        let request = |uid: u32| {
            let identities = Arc::clone(&identities);
            tokio::spawn(async move { identities.get(uid, None).await })
        };
        let first: Vec<_> = (0..6).map(request).collect();
        let leaving: Vec<_> = (100..150).map(request).collect();
        let last = request(200);
        tokio::task::yield_now().await;
        for leaving in leaving {
            leaving.abort();
            leaving.await.unwrap_err();
        }
        drop(open);
        for first in first {
            first.await.unwrap();
        }
        assert_eq!(*last.await.unwrap().identity, named("200"));
        let mut requested = requested.lock().unwrap().clone();
        requested.sort_unstable();
        assert_eq!(requested, [0, 1, 2, 3, 4, 5, 200]);
    }

    #[tokio::test]
    async fn hanging_lookup_delays_a_caller_once_and_is_not_repeated() {
        let (held, gate) = mpsc::channel::<()>();
        let gate = Mutex::new(gate);
        let requested = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&requested);
        let identities = Identities::of(move |_, _| {
            count.fetch_add(1, Ordering::Relaxed);
            let _ = gate.lock().unwrap().recv();
            Ok(named("ann"))
        });
        for _ in 0..3 {
            let found = identities.get(1, Some(7)).await;
            assert!(!found.is_complete);
            assert_eq!(found.identity.groups, [(7, None)]);
        }
        assert_eq!(requested.load(Ordering::Relaxed), 1);
        drop(held);
    }
}

//! Who callers are by name and group: the user database is asked once for each user while the
//! answer is fresh, however many of its connections ask.

use std::collections::HashMap;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{Semaphore, watch};
use tokio::task::spawn_blocking;

use crate::clock::{BootTime, boot_now};
use crate::users::{self, Identity};

/// How long an answer counts: a user that has left a group has lost its rights by then, on open
/// connections too.
const FRESH: Duration = Duration::from_secs(10);

/// Lookups at once. A directory on the network may take its time, and the threads that wait for it
/// are those that look host names up, too.
const AT_ONCE: usize = 8;

type Lookup = dyn Fn(u32, Option<u32>) -> io::Result<Identity> + Send + Sync;

/// A user, and the group of its process.
type Key = (u32, Option<u32>);

/// What is known of callers.
pub(super) struct Identities {
    lookup: Arc<Lookup>,
    room: Arc<Semaphore>,
    known: Mutex<HashMap<Key, Known>>,
}

struct Known {
    since: BootTime,
    /// `None` until the answer is there.
    identity: watch::Receiver<Option<Arc<Identity>>>,
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
            room: Arc::new(Semaphore::new(AT_ONCE)),
            known: Mutex::default(),
        })
    }

    /// Name and groups of a user whose process has the group `gid`. A database that can't be asked
    /// leaves what was known before.
    pub(super) async fn get(&self, uid: u32, gid: Option<u32>) -> Arc<Identity> {
        let mut answer = self.ask((uid, gid), boot_now());
        let found = answer.wait_for(Option::is_some).await;
        // A lookup that panicked knows nobody.
        found
            .ok()
            .and_then(|found| found.clone())
            .unwrap_or_default()
    }

    fn ask(&self, key: Key, now: BootTime) -> watch::Receiver<Option<Arc<Identity>>> {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let is_fresh = |known: &Known| now.saturating_since(known.since) < FRESH;
        let before = match known.get(&key) {
            Some(found) if is_fresh(found) => return found.identity.clone(),
            Some(stale) => stale.identity.borrow().clone(),
            None => None,
        };
        known.retain(|_, known| is_fresh(known));
        let identity = self.look_up(key, before);
        let answer = identity.clone();
        known.insert(
            key,
            Known {
                since: now,
                identity,
            },
        );
        answer
    }

    /// Goes on when whoever asked has left, so that leaving and coming again asks nothing twice.
    fn look_up(
        &self,
        (uid, gid): Key,
        before: Option<Arc<Identity>>,
    ) -> watch::Receiver<Option<Arc<Identity>>> {
        let (answer, identity) = watch::channel(None);
        let (lookup, room) = (Arc::clone(&self.lookup), Arc::clone(&self.room));
        tokio::spawn(async move {
            let Ok(_room) = room.acquire().await else {
                return;
            };
            let Ok(found) = spawn_blocking(move || lookup(uid, gid)).await else {
                return;
            };
            let found = found.map_or_else(|_| before.unwrap_or_default(), Arc::new);
            answer.send_replace(Some(found));
        });
        identity
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
    async fn a_users_thousand_connections_ask_once_and_hold_no_other_user_up() {
        let (open, gate) = mpsc::channel::<()>();
        let gate = Mutex::new(gate);
        let asked = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&asked);
        let identities = Identities::of(move |uid, _| {
            count.fetch_add(1, Ordering::Relaxed);
            if uid == 1 {
                let _opened = gate.lock().unwrap().recv();
            }
            Ok(named(&uid.to_string()))
        });
        let slow: Vec<_> = (0..1000)
            .map(|_| {
                let identities = Arc::clone(&identities);
                tokio::spawn(async move { identities.get(1, None).await })
            })
            .collect();
        // Half of them leave and come again.
        tokio::task::yield_now().await;
        for left in slow.iter().take(500) {
            left.abort();
        }
        assert_eq!(*identities.get(2, None).await, named("2"));
        open.send(()).unwrap();
        for waiting in slow.into_iter().skip(500) {
            assert_eq!(*waiting.await.unwrap(), named("1"));
        }
        assert_eq!(asked.load(Ordering::Relaxed), 2);
    }

    #[tokio::test]
    async fn an_answer_is_asked_for_again_when_it_is_old_and_kept_if_there_is_none() {
        let fails = Arc::new(Mutex::new(false));
        let broken = Arc::clone(&fails);
        let identities = Identities::of(move |_, _| {
            if *broken.lock().unwrap() {
                return Err(io::Error::other("no answer"));
            }
            Ok(named("ann"))
        });
        let start = boot_now();
        let at = async |seconds| {
            let mut answer = identities.ask((1, None), start + Duration::from_secs(seconds));
            let found = answer.wait_for(Option::is_some).await.unwrap();
            Identity::clone(found.as_ref().unwrap())
        };
        assert_eq!(at(0).await, named("ann"));
        *fails.lock().unwrap() = true;
        assert_eq!(at(9).await, named("ann"));
        assert_eq!(at(11).await, named("ann"), "the database can't be asked");
        let other = identities.get(2, None).await;
        assert_eq!(*other, Identity::default(), "nothing was known of it");
    }
}

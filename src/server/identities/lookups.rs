//! Which lookups run, which wait, and the cached results. Lookups of known users have priority, those of others
//! are bounded, and one that no caller waits for any more never starts.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

use crate::platform::clock::BootTime;
use domo_token_core::access_policy::Identity;

/// How long a result is valid: after that a user that was removed from a group has lost its rights, on open connections
/// too. After a failure the next lookup starts this much later.
pub(super) const MAX_AGE: Duration = Duration::from_secs(10);

/// How long the last known groups of a user are valid while the user database does not answer.
pub(super) const MAX_FALLBACK_AGE: Duration = Duration::from_secs(3600);

/// How long a caller waits for a lookup.
pub(super) const TIMEOUT: Duration = Duration::from_secs(1);

/// The pause after a failed lookup of an unknown user.
const RETRY_INTERVAL: Duration = Duration::from_secs(1);

/// The most concurrent lookups, each on a thread: a directory on the network may be slow.
pub(super) const MAX_RUNNING: usize = 8;

/// Of these, the lookups of unknown users: two threads are always left for known ones.
pub(super) const MAX_RUNNING_UNKNOWN: usize = 6;

/// The most unknown users that wait for a lookup to start.
pub(super) const MAX_WAITING_UNKNOWN: usize = 64;

/// The most cached users.
pub(super) const MAX_KNOWN: usize = 4096;

/// Of these, the entries of one user, whose processes may have many groups.
pub(super) const MAX_KNOWN_PER_USER: usize = 16;

/// A user and the group of its process.
pub(super) type Key = (u32, Option<u32>);

/// The name and groups of a caller.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::server) struct Found {
    pub(in crate::server) identity: Arc<Identity>,
    /// False if the user database did not answer: groups may be missing.
    pub(in crate::server) is_complete: bool,
}

impl Found {
    /// Returns the identity of a user without an id.
    pub(in crate::server) fn nothing() -> Self {
        Self {
            identity: Arc::default(),
            is_complete: true,
        }
    }
}

/// The result of a lookup once it has ended; `None` in it if it failed.
pub(super) type Ended = Option<Option<Arc<Identity>>>;

pub(super) enum Answer {
    Now(Found),
    /// The caller waits, at most until that time.
    Wait(watch::Receiver<Ended>, BootTime),
}

#[derive(Debug, Default)]
pub(super) struct Lookups {
    known: BTreeMap<Key, Known>,
    /// The entries of [`Self::known`] in the order of their eviction: users that the database lacks, then the oldest.
    order: BTreeSet<(bool, BootTime, Key)>,
    pending: HashMap<Key, Pending>,
    waiting_known: VecDeque<Key>,
    waiting_unknown: VecDeque<Key>,
    running: usize,
    running_unknown: usize,
}

#[derive(Debug)]
struct Known {
    identity: Option<Arc<Identity>>,
    /// When the database last answered; if it never did, when it failed.
    answered: BootTime,
    /// No lookup is started before.
    next_lookup: BootTime,
}

#[derive(Debug)]
struct Pending {
    is_known: bool,
    since: BootTime,
    is_running: bool,
    ended: watch::Sender<Ended>,
}

impl Lookups {
    /// Returns what is cached and still valid.
    pub(super) fn known(&self, key: Key, now: BootTime) -> Option<Found> {
        let known = self.known.get(&key)?;
        (now < known.next_lookup).then(|| self.without_answer(key, now))
    }

    /// Returns what is valid while the database does not answer.
    pub(super) fn without_answer(&self, key: Key, now: BootTime) -> Found {
        match self.last_known(key, now) {
            Some(identity) => Found {
                identity,
                is_complete: true,
            },
            None => Found {
                identity: Arc::new(own_group(key)),
                is_complete: false,
            },
        }
    }

    fn last_known(&self, key: Key, now: BootTime) -> Option<Arc<Identity>> {
        let known = self.known.get(&key)?;
        let counts = now.saturating_since(known.answered) < MAX_FALLBACK_AGE;
        known.identity.clone().filter(|_| counts)
    }

    /// Returns the identity, or requests a lookup. A caller that gets [`Answer::Wait`] drops it and then calls
    /// [`Self::cancel`].
    pub(super) fn request(&mut self, key: Key, now: BootTime) -> Answer {
        if let Some(found) = self.known(key, now) {
            return Answer::Now(found);
        }
        if let Some(pending) = self.pending.get_mut(&key) {
            let until = pending.since + TIMEOUT;
            if until <= now {
                return Answer::Now(self.without_answer(key, now));
            }
            return Answer::Wait(pending.ended.subscribe(), until);
        }
        let is_known = self
            .last_known(key, now)
            .is_some_and(|known| is_named(&known));
        let queue = if is_known {
            &mut self.waiting_known
        } else {
            &mut self.waiting_unknown
        };
        if !is_known && queue.len() >= MAX_WAITING_UNKNOWN {
            return Answer::Now(self.without_answer(key, now));
        }
        queue.push_back(key);
        let (ended, answer) = watch::channel(None);
        let pending = Pending {
            is_known,
            since: now,
            is_running: false,
            ended,
        };
        self.pending.insert(key, pending);
        Answer::Wait(answer, now + TIMEOUT)
    }

    /// Ends the wait of a caller. A lookup that has not started is dropped with its last caller.
    pub(super) fn cancel(&mut self, key: Key) {
        let is_abandoned = |pending: &&Pending| !pending.is_running && pending.ended.is_closed();
        let Some(pending) = self.pending.get(&key).filter(is_abandoned) else {
            return;
        };
        let queue = if pending.is_known {
            &mut self.waiting_known
        } else {
            &mut self.waiting_unknown
        };
        queue.retain(|waiting| *waiting != key);
        self.pending.remove(&key);
    }

    /// Returns the next lookup to start, if there is room for one.
    pub(super) fn start(&mut self) -> Option<Key> {
        if self.running >= MAX_RUNNING {
            return None;
        }
        let key = match self.waiting_known.pop_front() {
            Some(known) => known,
            None if self.running_unknown < MAX_RUNNING_UNKNOWN => {
                self.waiting_unknown.pop_front()?
            }
            None => return None,
        };
        let pending = self.pending.get_mut(&key)?;
        pending.is_running = true;
        self.running += 1;
        self.running_unknown += usize::from(!pending.is_known);
        Some(key)
    }

    /// Records that a lookup has ended, with `None` if it failed.
    pub(super) fn ended(&mut self, key: Key, found: Option<Identity>, now: BootTime) {
        let found = found.map(Arc::new);
        if let Some(pending) = self.pending.remove(&key) {
            self.running -= 1;
            self.running_unknown -= usize::from(!pending.is_known);
            pending.ended.send_replace(Some(found.clone()));
        }
        match found {
            Some(identity) => self.insert(key, Some(identity), now, now + MAX_AGE),
            None => self.failed(key, now),
        }
    }

    /// Records that a lookup failed or takes too long: what was cached stays valid for now.
    pub(super) fn failed(&mut self, key: Key, now: BootTime) {
        let counts = self.last_known(key, now).is_some();
        match self.known.get_mut(&key) {
            Some(known) if counts => known.next_lookup = now + MAX_AGE,
            Some(_) | None => self.insert(key, None, now, now + RETRY_INTERVAL),
        }
    }

    fn insert(
        &mut self,
        key: Key,
        identity: Option<Arc<Identity>>,
        answered: BootTime,
        next_lookup: BootTime,
    ) {
        self.remove(key);
        let known = Known {
            identity,
            answered,
            next_lookup,
        };
        self.order.insert(known.rank(key));
        self.known.insert(key, known);
        let of_user = self.known.range((key.0, None)..=(key.0, Some(u32::MAX)));
        if of_user.clone().count() > MAX_KNOWN_PER_USER
            && let Some((_, _, oldest)) = of_user.map(|(key, known)| known.rank(*key)).min()
        {
            self.remove(oldest);
        }
        if self.known.len() > MAX_KNOWN
            && let Some((_, _, oldest)) = self.order.first()
        {
            self.remove(*oldest);
        }
    }

    fn remove(&mut self, key: Key) {
        if let Some(known) = self.known.remove(&key) {
            self.order.remove(&known.rank(key));
        }
    }
}

impl Known {
    fn rank(&self, key: Key) -> (bool, BootTime, Key) {
        let named = self.identity.as_deref().is_some_and(is_named);
        (named, self.answered, key)
    }
}

/// Returns whether the database has the user. Any user may have processes of users that it lacks, by subordinate ids.
fn is_named(identity: &Identity) -> bool {
    identity.user.is_some()
}

/// Returns the identity by the kernel alone.
fn own_group((_, gid): Key) -> Identity {
    Identity {
        user: None,
        groups: gid.map(|gid| (gid, None)).into_iter().collect(),
    }
}

#[cfg(test)]
mod tests;

//! Which lookups run, which wait, and what is known. Lookups of users that are known already go first,
//! those of others are bounded, and one that nobody waits for any more never starts.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

use crate::platform::clock::BootTime;
use domo_token_core::access_policy::Identity;

/// How long an answer counts: a user that has left a group has lost its rights by then, on open
/// connections too. After a failure the next lookup starts this much later.
pub(super) const FRESH: Duration = Duration::from_secs(10);

/// How long the last known groups of a user count while the user database doesn't answer.
pub(super) const FALLBACK: Duration = Duration::from_secs(3600);

/// How long a caller waits for a lookup.
pub(super) const PATIENCE: Duration = Duration::from_secs(1);

/// When a lookup of a user that isn't known is tried again after it has failed.
const RETRY: Duration = Duration::from_secs(1);

/// Lookups at once, each on a thread: a directory on the network may take its time.
pub(super) const AT_ONCE: usize = 8;

/// Of these, the lookups of users that aren't known: two threads are always left for the others.
pub(super) const AT_ONCE_UNKNOWN: usize = 6;

/// Users that aren't known and wait for a lookup to start.
pub(super) const WAITING_UNKNOWN: usize = 64;

/// Users whose groups are kept.
pub(super) const MAX_KNOWN: usize = 4096;

/// Of these, entries of one user, which may call with many groups.
pub(super) const MAX_KNOWN_PER_USER: usize = 16;

/// A user, and the group of its process.
pub(super) type Key = (u32, Option<u32>);

/// What is known of a caller.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::server) struct Found {
    pub(in crate::server) identity: Arc<Identity>,
    /// False if the user database has not answered: groups may be missing.
    pub(in crate::server) is_complete: bool,
}

impl Found {
    /// Returns what is known of a user without an id.
    pub(in crate::server) fn nothing() -> Self {
        Self {
            identity: Arc::default(),
            is_complete: true,
        }
    }
}

/// What a lookup resulted in, once it has: nothing if it failed.
pub(super) type Ended = Option<Option<Arc<Identity>>>;

pub(super) enum Answer {
    Now(Found),
    /// Until that moment at most.
    Wait(watch::Receiver<Ended>, BootTime),
}

#[derive(Debug, Default)]
pub(super) struct Lookups {
    known: BTreeMap<Key, Known>,
    /// Those of [`Self::known`], the first to be dropped first: users that the database lacks, then
    /// those it was asked for longest ago.
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
    /// When the database last answered; if it never has, when it failed.
    answered: BootTime,
    /// Until when it is not asked again.
    rests_until: BootTime,
}

#[derive(Debug)]
struct Pending {
    is_known: bool,
    since: BootTime,
    is_running: bool,
    ended: watch::Sender<Ended>,
}

impl Lookups {
    /// What is known, if that counts now.
    pub(super) fn known(&self, key: Key, now: BootTime) -> Option<Found> {
        let known = self.known.get(&key)?;
        (now < known.rests_until).then(|| self.without_answer(key, now))
    }

    /// What counts as long as the database does not answer.
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
        let counts = now.saturating_since(known.answered) < FALLBACK;
        known.identity.clone().filter(|_| counts)
    }

    /// A caller asks. One that gets [`Answer::Wait`] drops it and then calls [`Self::left`].
    pub(super) fn ask(&mut self, key: Key, now: BootTime) -> Answer {
        if let Some(found) = self.known(key, now) {
            return Answer::Now(found);
        }
        if let Some(pending) = self.pending.get_mut(&key) {
            let until = pending.since + PATIENCE;
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
        if !is_known && queue.len() >= WAITING_UNKNOWN {
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
        Answer::Wait(answer, now + PATIENCE)
    }

    /// A caller waits no longer. A lookup that has not started is dropped with its last caller.
    pub(super) fn left(&mut self, key: Key) {
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

    /// The next lookup to be started, if there is room for one.
    pub(super) fn start(&mut self) -> Option<Key> {
        if self.running >= AT_ONCE {
            return None;
        }
        let key = match self.waiting_known.pop_front() {
            Some(known) => known,
            None if self.running_unknown < AT_ONCE_UNKNOWN => self.waiting_unknown.pop_front()?,
            None => return None,
        };
        let pending = self.pending.get_mut(&key)?;
        pending.is_running = true;
        self.running += 1;
        self.running_unknown += usize::from(!pending.is_known);
        Some(key)
    }

    /// A lookup that was started has ended, without an answer if the database can't be asked.
    pub(super) fn ended(&mut self, key: Key, found: Option<Identity>, now: BootTime) {
        let found = found.map(Arc::new);
        if let Some(pending) = self.pending.remove(&key) {
            self.running -= 1;
            self.running_unknown -= usize::from(!pending.is_known);
            pending.ended.send_replace(Some(found.clone()));
        }
        match found {
            Some(identity) => self.keep(key, Some(identity), now, now + FRESH),
            None => self.failed(key, now),
        }
    }

    /// A lookup has failed or takes too long: what was known is enough for now.
    pub(super) fn failed(&mut self, key: Key, now: BootTime) {
        let counts = self.last_known(key, now).is_some();
        match self.known.get_mut(&key) {
            Some(known) if counts => known.rests_until = now + FRESH,
            Some(_) | None => self.keep(key, None, now, now + RETRY),
        }
    }

    fn keep(
        &mut self,
        key: Key,
        identity: Option<Arc<Identity>>,
        answered: BootTime,
        rests_until: BootTime,
    ) {
        self.forget(key);
        let known = Known {
            identity,
            answered,
            rests_until,
        };
        self.order.insert(known.rank(key));
        self.known.insert(key, known);
        let of_user = self.known.range((key.0, None)..=(key.0, Some(u32::MAX)));
        if of_user.clone().count() > MAX_KNOWN_PER_USER
            && let Some((_, _, oldest)) = of_user.map(|(key, known)| known.rank(*key)).min()
        {
            self.forget(oldest);
        }
        if self.known.len() > MAX_KNOWN
            && let Some((_, _, oldest)) = self.order.first()
        {
            self.forget(*oldest);
        }
    }

    fn forget(&mut self, key: Key) {
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

/// Whether the database has the user; anyone may call as one that it lacks, of subordinate ids.
fn is_named(identity: &Identity) -> bool {
    identity.user.is_some()
}

/// What the kernel says without the database.
fn own_group((_, gid): Key) -> Identity {
    Identity {
        user: None,
        groups: gid.map(|gid| (gid, None)).into_iter().collect(),
    }
}

#[cfg(test)]
mod tests;

//! Shares a fixed number of slots between users. When all are taken, the user that holds the most loses the
//! slot whose holder has sent nothing for longest.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// A user; `None` is the overflow uid, which stands for every user of another user namespace.
pub(super) type Uid = Option<u32>;

/// The slots and their holders.
#[derive(Debug)]
pub(super) struct SlotTable<T> {
    slots: usize,
    /// Of these, the slots that only privileged users may take.
    reserved: usize,
    taken: usize,
    taken_by_unprivileged: usize,
    users: HashMap<Uid, User<T>>,
    ranking: BTreeSet<Rank>,
}

#[derive(Debug)]
struct User<T> {
    is_privileged: bool,
    /// By [`Slot::ranked`].
    held: BTreeMap<u64, Arc<Slot<T>>>,
}

/// A user's position in the ranking: by its number of slots, then by how long its most silent one has sent
/// nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Rank {
    held: usize,
    longest_silent: Reverse<u64>,
    uid: Uid,
    is_privileged: bool,
}

/// One taken slot.
#[derive(Debug)]
pub(super) struct Slot<T> {
    uid: Uid,
    /// When its holder last sent anything, as a position in the order of all sends.
    last_sent: AtomicU64,
    /// The value of `last_sent` by which it is ranked: never newer, and updated when the slot is considered, so
    /// that a send takes no lock.
    ranked: AtomicU64,
    is_replaced: AtomicBool,
    pub(super) holder: T,
}

/// The result of an attempt to take a slot.
#[derive(Debug)]
pub(super) enum Outcome<T> {
    Free(Arc<Slot<T>>),
    /// The holder of the old one has lost its slot and must be ended.
    Replaced {
        new: Arc<Slot<T>>,
        old: Arc<Slot<T>>,
    },
    /// All slots are taken, and no user holds more than this one.
    Full,
}

impl<T> SlotTable<T> {
    pub(super) fn new(slots: usize, reserved: usize) -> Self {
        Self {
            slots,
            reserved,
            taken: 0,
            taken_by_unprivileged: 0,
            users: HashMap::new(),
            ranking: BTreeSet::new(),
        }
    }

    /// Returns how many slots a user holds.
    pub(super) fn held_by(&self, uid: Uid) -> usize {
        self.users.get(&uid).map_or(0, |user| user.held.len())
    }

    /// Returns the users by their number of slots, the largest first.
    pub(super) fn largest(&self) -> impl Iterator<Item = (Uid, usize)> {
        let ranks = self.ranking.iter().rev();
        ranks.map(|rank| (rank.uid, rank.held))
    }

    /// Takes a slot for a user; `now` is the position of this event in the order of all sends, and
    /// no other event has the same.
    pub(super) fn take(
        &mut self,
        uid: Uid,
        is_privileged: bool,
        now: u64,
        holder: T,
    ) -> Outcome<T> {
        let shared = self.slots.saturating_sub(self.reserved);
        let is_shared_full = !is_privileged && self.taken_by_unprivileged >= shared;
        let mut old = None;
        if is_shared_full || self.taken >= self.slots {
            // An unprivileged user cannot take a reserved slot.
            let largest = self.up_to_date_largest(is_shared_full);
            let Some(largest) = largest.filter(|largest| self.held_by(uid) < largest.held) else {
                return Outcome::Full;
            };
            old = self.remove(largest.uid, largest.longest_silent.0);
        }
        let new = Arc::new(Slot {
            uid,
            last_sent: AtomicU64::new(now),
            ranked: AtomicU64::new(now),
            is_replaced: AtomicBool::new(false),
            holder,
        });
        self.insert(is_privileged, &new);
        match old {
            None => Outcome::Free(new),
            Some(old) => {
                old.is_replaced.store(true, Ordering::Relaxed);
                Outcome::Replaced { new, old }
            }
        }
    }

    /// Releases a slot, unless it was replaced.
    pub(super) fn release(&mut self, slot: &Slot<T>) {
        if !slot.is_replaced() {
            self.remove(slot.uid, slot.ranked.load(Ordering::Relaxed));
        }
    }

    /// Returns the user that holds the most, ranked by the actual last send of its most silent slot.
    fn up_to_date_largest(&mut self, only_unprivileged: bool) -> Option<Rank> {
        loop {
            let mut ranks = self.ranking.iter().rev();
            // No more than two users are privileged.
            let rank = *ranks.find(|rank| !(only_unprivileged && rank.is_privileged))?;
            let user = self.users.get(&rank.uid)?;
            let (_, slot) = user.held.first_key_value()?;
            let last_sent = slot.last_sent.load(Ordering::Relaxed);
            if last_sent == rank.longest_silent.0 {
                return Some(rank);
            }
            let slot = self.remove(rank.uid, rank.longest_silent.0)?;
            slot.ranked.store(last_sent, Ordering::Relaxed);
            self.insert(rank.is_privileged, &slot);
        }
    }

    fn insert(&mut self, is_privileged: bool, slot: &Arc<Slot<T>>) {
        let user = self.users.entry(slot.uid).or_insert_with(|| User {
            is_privileged,
            held: BTreeMap::new(),
        });
        if let Some(rank) = user.rank(slot.uid) {
            self.ranking.remove(&rank);
        }
        let ranked = slot.ranked.load(Ordering::Relaxed);
        user.held.insert(ranked, Arc::clone(slot));
        self.ranking.extend(user.rank(slot.uid));
        self.taken += 1;
        self.taken_by_unprivileged += usize::from(!is_privileged);
    }

    fn remove(&mut self, uid: Uid, ranked: u64) -> Option<Arc<Slot<T>>> {
        let user = self.users.get_mut(&uid)?;
        let rank = user.rank(uid);
        let slot = user.held.remove(&ranked)?;
        if let Some(rank) = rank {
            self.ranking.remove(&rank);
        }
        self.taken -= 1;
        self.taken_by_unprivileged -= usize::from(!user.is_privileged);
        match user.rank(uid) {
            Some(rank) => {
                self.ranking.insert(rank);
            }
            None => {
                self.users.remove(&uid);
            }
        }
        Some(slot)
    }
}

impl<T> User<T> {
    fn rank(&self, uid: Uid) -> Option<Rank> {
        let (ranked, _) = self.held.first_key_value()?;
        Some(Rank {
            held: self.held.len(),
            longest_silent: Reverse(*ranked),
            uid,
            is_privileged: self.is_privileged,
        })
    }
}

impl<T> Slot<T> {
    /// Records that its holder has sent bytes; `now` is as in [`SlotTable::take`].
    pub(super) fn sent(&self, now: u64) {
        self.last_sent.store(now, Ordering::Relaxed);
    }

    /// Returns whether it was given to another holder.
    pub(super) fn is_replaced(&self) -> bool {
        self.is_replaced.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests;

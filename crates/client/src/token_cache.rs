//! The tokens a process holds, found without a lock, an allocation or a system call.

use std::iter::successors;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use once_cell::race::OnceBox;

use crate::clock::boot_now;
use crate::token::{CacheSlot, Set, Token};

/// The most spellings of scope sets that tokens are held by. More are asked for each time.
pub(crate) const MOST: usize = 256;

/// Entries whose texts have these lengths in common are on one shelf.
const SHELVES: usize = 16;

/// Held tokens by the very texts they were asked for by, so that a lookup parses nothing.
///
/// Entries are only ever added, each in one atomic step: a child that is forked in the middle of
/// it finds a whole list and no lock.
pub(crate) struct TokenCache {
    shelves: [OnceBox<Entry>; SHELVES],
    count: AtomicUsize,
}

struct Entry {
    client: Option<Arc<str>>,
    spelling: Box<str>,
    /// The spellings of one set share it.
    place: Arc<CacheSlot>,
    next: OnceBox<Entry>,
}

impl Entry {
    fn is(&self, client: Option<&str>, spelling: &str) -> bool {
        let ours = self.client.as_deref();
        // Mostly the very same text, which is quicker seen than compared.
        let same_client = ours.map(str::as_ptr) == client.map(str::as_ptr) || ours == client;
        *self.spelling == *spelling && same_client
    }
}

impl TokenCache {
    pub(crate) fn new() -> Self {
        Self {
            shelves: std::array::from_fn(|_| OnceBox::new()),
            count: AtomicUsize::new(0),
        }
    }

    /// The token held for this client by this text, dead or alive.
    pub(crate) fn find(&self, client: Option<&str>, spelling: &str) -> Option<Token> {
        self.place(client, spelling).map(|place| place.token())
    }

    /// The token held for this set, dead or alive.
    pub(crate) fn of(&self, set: &Set) -> Option<Token> {
        self.find(set.client.as_deref(), set.scope.as_str())
    }

    /// Holds a token in place of the one before it. Dead ones of all sets leave.
    pub(crate) fn hold(&self, token: &Token) {
        let now = boot_now();
        for entry in self.entries() {
            entry.place.clear(|token| !token.is_valid(now));
        }
        let set = token.set();
        let place = || Arc::new(CacheSlot::empty(set.clone()));
        if let Some(place) = self.add(set, set.scope.as_str(), &place) {
            place.put(token, now);
        }
    }

    /// Lets the token held for this set be found by this text too.
    pub(crate) fn alias(&self, set: &Set, spelling: &str) {
        if let Some(place) = self.place(set.client.as_deref(), set.scope.as_str()) {
            self.add(set, spelling, &|| Arc::clone(place));
        }
    }

    /// Holds the token of that generation no longer, by whichever client name it was asked for.
    pub(crate) fn evict(&self, set: &Set, generation: u64) {
        for entry in self.entries() {
            entry
                .place
                .clear(|token| token.set().scope == set.scope && token.generation() == generation);
        }
    }

    fn place(&self, client: Option<&str>, spelling: &str) -> Option<&Arc<CacheSlot>> {
        let mut next = self.shelf(client, spelling)?;
        while let Some(entry) = next.get() {
            if entry.is(client, spelling) {
                return Some(&entry.place);
            }
            next = &entry.next;
        }
        None
    }

    /// The place found by that client and text, made if there is room for it.
    fn add(
        &self,
        set: &Set,
        spelling: &str,
        place: &dyn Fn() -> Arc<CacheSlot>,
    ) -> Option<&CacheSlot> {
        let client = set.client.as_deref();
        let mut next = self.shelf(client, spelling)?;
        loop {
            while let Some(entry) = next.get() {
                if entry.is(client, spelling) {
                    return Some(&entry.place);
                }
                next = &entry.next;
            }
            let room = self.count.fetch_add(1, Ordering::Relaxed) < MOST;
            let entry = || Entry {
                client: set.client.clone(),
                spelling: spelling.into(),
                place: place(),
                next: OnceBox::new(),
            };
            // Where another thread was quicker, its entry is looked at next.
            if !room || next.set(Box::new(entry())).is_err() {
                self.count.fetch_sub(1, Ordering::Relaxed);
            }
            if !room {
                return None;
            }
        }
    }

    fn shelf(&self, client: Option<&str>, spelling: &str) -> Option<&OnceBox<Entry>> {
        let lengths = spelling.len() + client.map_or(0, str::len);
        self.shelves.get(lengths % SHELVES)
    }

    fn entries(&self) -> impl Iterator<Item = &Entry> {
        let shelves = self.shelves.iter();
        shelves.flat_map(|shelf| successors(shelf.get(), |entry| entry.next.get()))
    }
}

//! The tokens a process holds, found without a lock, an allocation or a system call.

use std::sync::Arc;

use arc_swap::ArcSwap;

use crate::clock::boot_now;
use crate::token::{Set, Token};

/// The most spellings of scope sets that tokens are held by. More are asked for each time.
pub(crate) const MOST: usize = 256;

/// Held tokens by the very texts they were asked for by, so that a lookup parses nothing. Written
/// as a whole and rarely: when a token comes, and when a new spelling is used.
pub(crate) struct Held(ArcSwap<Vec<Entry>>);

#[derive(Clone)]
struct Entry {
    spelling: Arc<str>,
    token: Token,
}

impl Entry {
    fn key(&self) -> (Option<&str>, &str) {
        (self.token.set().client.as_deref(), &self.spelling)
    }
}

impl Held {
    pub(crate) fn new() -> Self {
        Self(ArcSwap::default())
    }

    /// The token held for this client by this text, if it is good enough.
    pub(crate) fn find(
        &self,
        client: Option<&str>,
        spelling: &str,
        good: impl FnOnce(&Token) -> bool,
    ) -> Option<Token> {
        let entries = self.0.load();
        let at = place(&entries, (client, spelling)).ok()?;
        let token = &entries.get(at)?.token;
        good(token).then(|| token.clone())
    }

    /// The token held for this set, good or not.
    pub(crate) fn of(&self, set: &Set) -> Option<Token> {
        self.find(set.client.as_deref(), set.scope.as_str(), |_| true)
    }

    /// Holds a token in place of the one before it, to be found by every spelling of its set used
    /// so far. Dead ones leave.
    pub(crate) fn hold(&self, token: &Token) {
        let now = boot_now();
        self.0.rcu(|old| {
            let living = old.iter().filter(|entry| entry.token.lives(now));
            let mut entries: Vec<Entry> = living.cloned().collect();
            for entry in &mut entries {
                if entry.token.set() == token.set() {
                    entry.token = token.clone();
                }
            }
            add(&mut entries, token, token.set().scope.as_str());
            entries
        });
    }

    /// Lets the token held for this set be found by this text too.
    pub(crate) fn spell(&self, set: &Set, spelling: &str) {
        let client = set.client.as_deref();
        if self.find(client, spelling, |_| true).is_some() {
            return;
        }
        self.0.rcu(|old| {
            let mut entries = Vec::clone(old);
            let held = entries.iter().find(|entry| entry.token.set() == set);
            if let Some(token) = held.map(|entry| entry.token.clone()) {
                add(&mut entries, &token, spelling);
            }
            entries
        });
    }

    /// Holds the token of that generation no longer, by whichever client name it was asked for.
    pub(crate) fn drop_refused(&self, set: &Set, generation: u64) {
        let refused = |entry: &Entry| {
            entry.token.set().scope == set.scope && entry.token.generation() == generation
        };
        if self.0.load().iter().any(refused) {
            self.0.rcu(|old| {
                let kept = old.iter().filter(|entry| !refused(entry));
                kept.cloned().collect::<Vec<Entry>>()
            });
        }
    }
}

fn add(entries: &mut Vec<Entry>, token: &Token, spelling: &str) {
    let key = (token.set().client.as_deref(), spelling);
    if let (Err(at), true) = (place(entries, key), entries.len() < MOST) {
        let spelling = Arc::from(spelling);
        let token = token.clone();
        entries.insert(at, Entry { spelling, token });
    }
}

/// Where the entry of that key is, or else belongs.
fn place(entries: &[Entry], key: (Option<&str>, &str)) -> Result<usize, usize> {
    entries.binary_search_by(|entry| entry.key().cmp(&key))
}

//! The tokens in memory. A lookup takes no lock and makes no system call.

use std::collections::HashMap;
use std::sync::Arc;

use arc_swap::ArcSwap;

use crate::clock::{BootTime, boot_now};
use crate::token::{Token, TokenKey};

/// The most entries of a cache, one for each spelling of a scope set. Further ones are not cached.
pub(crate) const MAX_ENTRIES: usize = 256;

/// Tokens by the text that their scopes were requested with, so that a lookup parses nothing.
///
/// Changes replace the whole map in one atomic step: a child that is forked during one finds a whole
/// map and no lock.
pub(crate) struct TokenCache(ArcSwap<Entries>);

/// The tokens of all API clients by the spelling of their scope set. A set is cached under its
/// canonical spelling, and under the other spellings that it was requested with.
#[derive(Clone, Default)]
struct Entries(HashMap<Arc<str>, Vec<Token>>);

impl TokenCache {
    pub(crate) fn new() -> Self {
        Self(ArcSwap::default())
    }

    /// Returns the token cached for this client by this spelling. It may have expired.
    pub(crate) fn find(&self, client: Option<&str>, spelling: &str) -> Option<Token> {
        self.0.load().find(client, spelling).cloned()
    }

    /// Returns the token cached for this key. It may have expired.
    pub(crate) fn get(&self, key: &TokenKey) -> Option<Token> {
        self.find(key.client.as_deref(), key.scope.as_str())
    }

    /// Caches a token under each spelling of its set. Drops the expired tokens of all sets.
    pub(crate) fn insert(&self, token: &Token) {
        let now = boot_now();
        self.update(|entries| {
            entries.replace(token, now);
            entries.retain(|token| token.is_valid(now));
            if token.is_valid(now) {
                entries.add(token.key().scope.as_str(), token);
            }
        });
    }

    /// Lets the token cached for this key be found by this spelling too.
    pub(crate) fn alias(&self, key: &TokenKey, spelling: &str) {
        let client = key.client.as_deref();
        if self.find(client, spelling).is_some() {
            return;
        }
        self.update(|entries| {
            if let Some(token) = entries.find(client, key.scope.as_str()).cloned() {
                entries.add(spelling, &token);
            }
        });
    }

    /// Drops the token of that generation, by whichever client name it was requested.
    pub(crate) fn evict(&self, key: &TokenKey, generation: u64) {
        let unwanted =
            |token: &Token| token.key().scope == key.scope && token.generation() == generation;
        if self.0.load().tokens().any(unwanted) {
            self.update(|entries| entries.retain(|token| !unwanted(token)));
        }
    }

    /// Applies a change to a copy of the map, again if another thread replaced the map meanwhile.
    fn update(&self, change: impl Fn(&mut Entries)) {
        self.0.rcu(|entries| {
            let mut changed = Entries::clone(entries);
            change(&mut changed);
            changed
        });
    }
}

impl Entries {
    fn tokens(&self) -> impl Iterator<Item = &Token> {
        self.0.values().flatten()
    }

    fn find(&self, client: Option<&str>, spelling: &str) -> Option<&Token> {
        let mut tokens = self.0.get(spelling)?.iter();
        tokens.find(|token| token.key().client.as_deref() == client)
    }

    /// Puts the token in place of the previous one of its set, unless that one is newer and fresh:
    /// responses can overtake each other.
    fn replace(&mut self, token: &Token, now: BootTime) {
        for cached in self.0.values_mut().flatten() {
            let is_newer = cached.generation() != token.generation()
                && cached.is_fresh(now)
                && cached.expires() > token.expires();
            if cached.key() == token.key() && !is_newer {
                *cached = token.clone();
            }
        }
    }

    /// Adds an entry if there is none yet for this spelling and client, and room for one.
    fn add(&mut self, spelling: &str, token: &Token) {
        let client = token.key().client.as_deref();
        if self.find(client, spelling).is_none() && self.tokens().count() < MAX_ENTRIES {
            let of_spelling = self.0.entry(spelling.into()).or_default();
            of_spelling.push(token.clone());
        }
    }

    fn retain(&mut self, is_wanted: impl Fn(&Token) -> bool) {
        self.0.retain(|_, tokens| {
            tokens.retain(&is_wanted);
            !tokens.is_empty()
        });
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::thread;
    use std::time::Duration;

    use super::*;
    use domo_token_protocol::messages::{TokenAnswer, TokenText};
    use domo_token_protocol::scope::ScopeSet;

    const HOUR: Duration = Duration::from_secs(3599);

    fn token(scope: &str, generation: u64, left: Duration) -> Token {
        let key = TokenKey {
            client: None,
            scope: ScopeSet::parse(scope).unwrap(),
        };
        let answer = TokenAnswer {
            access_token: TokenText::new("c4nary".to_owned()),
            client: "acme".to_owned(),
            scope: key.scope.as_str().to_owned(),
            generation,
            lifetime_ms: 3_599_000,
            expires: boot_now() + left,
        };
        Token::new(answer, &key, None, &Path::new("/run/broker.sock").into()).unwrap()
    }

    fn generation(cache: &TokenCache, spelling: &str) -> Option<u64> {
        cache.find(None, spelling).map(|token| token.generation())
    }

    #[test]
    fn insert_replaces_the_token_under_each_spelling() {
        let cache = TokenCache::new();
        let first = token("data user", 1, HOUR / 2);
        cache.insert(&first);
        cache.alias(first.key(), "user,data");
        cache.insert(&token("data user", 2, HOUR));
        for spelling in ["data user", "user,data"] {
            assert_eq!(generation(&cache, spelling), Some(2));
        }
        cache.insert(&first);
        assert_eq!(generation(&cache, "user,data"), Some(2), "it is newer");
        cache.evict(first.key(), 2);
        assert_eq!(generation(&cache, "data user"), None);
        assert_eq!(generation(&cache, "user,data"), None);
    }

    #[test]
    fn insert_by_many_threads_loses_no_token() {
        let cache = TokenCache::new();
        thread::scope(|scope| {
            for first in 0..8 {
                let numbers = (first..MAX_ENTRIES).step_by(8);
                let insert = |number| cache.insert(&token(&format!("scope{number}"), 1, HOUR));
                scope.spawn(move || numbers.for_each(insert));
            }
        });
        for number in 0..MAX_ENTRIES {
            assert_eq!(generation(&cache, &format!("scope{number}")), Some(1));
        }
        cache.insert(&token("one-too-many", 1, HOUR));
        assert_eq!(generation(&cache, "one-too-many"), None);
    }

    #[test]
    fn evicted_tokens_leave_room_in_a_full_cache() {
        let cache = TokenCache::new();
        for number in 0..MAX_ENTRIES {
            cache.insert(&token(&format!("scope{number}"), 1, HOUR));
        }
        cache.evict(token("scope0", 1, HOUR).key(), 1);
        cache.insert(&token("data", 1, HOUR));
        assert_eq!(generation(&cache, "data"), Some(1));
    }
}

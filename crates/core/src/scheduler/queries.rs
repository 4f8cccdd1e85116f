//! Queries: scope sets by client and scopes, their status, tokens and errors.

use std::ops::Bound;

use domo_token_protocol::BootTime;
use domo_token_protocol::messages::{Refusal, ScopeStatus};
use domo_token_protocol::scope::ScopeSet;

use super::{Scheduler, SetId};
use crate::fetch::Occasion;
use crate::fetch_result::TokenOrigin;
use crate::schedule::{Reply, TokenSnapshot};

/// Why a scope set was not found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NotFound {
    /// No client of that name.
    Client,
    /// The client has no such scope set; it has these.
    Scope(Vec<ScopeSet>),
}

impl Scheduler {
    /// Returns the scope set of a client with these scopes.
    ///
    /// # Errors
    ///
    /// [`NotFound`] if there is none.
    pub fn find(&self, client: &str, scope: &ScopeSet) -> Result<SetId, NotFound> {
        let client = self.names.get(client).and_then(|id| self.clients.get(id));
        let client = client.ok_or(NotFound::Client)?;
        let known = || NotFound::Scope(client.sets.keys().cloned().collect());
        client.sets.get(scope).copied().ok_or_else(known)
    }

    /// Returns the client's scope set with exactly this text, without parsing it.
    #[must_use]
    pub fn find_by_text(&self, client: &str, text: &str) -> Option<(SetId, &ScopeSet)> {
        let client = self.names.get(client).and_then(|id| self.clients.get(id))?;
        let (scope, set) = client.sets.get_key_value(text)?;
        Some((*set, scope))
    }

    /// Returns whether the scope set exists.
    #[must_use]
    pub fn contains(&self, set: SetId) -> bool {
        self.sets.contains_key(&set)
    }

    /// Returns the clients' names, sorted.
    pub fn client_names(&self) -> impl Iterator<Item = &str> {
        self.names.keys().map(String::as_str)
    }

    /// Returns the client's name and the scopes of a scope set.
    #[must_use]
    pub fn name_of(&self, set: SetId) -> Option<(&str, &ScopeSet)> {
        let found = self.sets.get(&set)?;
        let client = self.clients.get(&found.client)?;
        Some((client.name.as_str(), found.schedule.scope()))
    }

    /// Returns all scope sets, by client and scopes.
    pub fn sets(&self) -> impl Iterator<Item = (SetId, &str, &ScopeSet)> {
        let clients = self.names.values().filter_map(|id| self.clients.get(id));
        clients.flat_map(|client| {
            let sets = client.sets.iter();
            sets.map(|(scope, set)| (*set, client.name.as_str(), scope))
        })
    }

    /// Returns the status of one scope set.
    #[must_use]
    pub fn status_of(&self, set: SetId, now: BootTime) -> Option<ScopeStatus> {
        let set = self.sets.get(&set)?;
        let client = self.clients.get(&set.client)?;
        Some(set.schedule.status(&client.shown_id, now))
    }

    /// Returns the status of all scope sets, by client and scopes.
    pub fn status(&self, now: BootTime) -> impl Iterator<Item = ScopeStatus> {
        self.status_after(None, now).map(|(_, status)| status)
    }

    /// Returns the scopes and the status of all scope sets after this one.
    pub fn status_after<'a>(
        &'a self,
        after: Option<&'a (String, ScopeSet)>,
        now: BootTime,
    ) -> impl Iterator<Item = (&'a ScopeSet, ScopeStatus)> + 'a {
        let from = after.map_or(Bound::Unbounded, |(client, _)| {
            Bound::Included(client.as_str())
        });
        let clients = self.names.range::<str, _>((from, Bound::Unbounded));
        let clients = clients.filter_map(|(_, id)| self.clients.get(id));
        clients.flat_map(move |client| {
            let from = match after {
                Some((name, scope)) if *name == client.name => Bound::Excluded(scope),
                Some(_) | None => Bound::Unbounded,
            };
            let sets = client.sets.range::<ScopeSet, _>((from, Bound::Unbounded));
            let sets = sets.filter_map(|(scope, set)| Some((scope, self.sets.get(set)?)));
            sets.map(move |(scope, set)| (scope, set.schedule.status(&client.shown_id, now)))
        })
    }

    /// Returns each valid token, with client and scopes.
    pub fn snapshots(
        &self,
        now: BootTime,
    ) -> impl Iterator<Item = (&str, &ScopeSet, TokenSnapshot)> {
        self.sets.values().filter_map(move |set| {
            let client = self.clients.get(&set.client)?;
            let snapshot = set.schedule.snapshot(now)?;
            Some((client.name.as_str(), set.schedule.scope(), snapshot))
        })
    }

    /// Returns what watchers of the scope set are sent: see [`crate::schedule::Schedule::watcher_reply`].
    #[must_use]
    pub fn watcher_reply(&self, set: SetId, now: BootTime) -> Option<Reply> {
        self.sets.get(&set)?.schedule.watcher_reply(now)
    }

    /// Returns what the scope set's fetch under way is for.
    #[must_use]
    pub fn occasion(&self, set: SetId, now: BootTime) -> Option<Occasion> {
        self.sets.get(&set)?.schedule.occasion(now)
    }

    /// Returns which host obtained the valid token: see [`crate::schedule::Schedule::token_origin`].
    #[must_use]
    pub fn token_origin(&self, set: SetId, now: BootTime) -> Option<TokenOrigin> {
        self.sets.get(&set)?.schedule.token_origin(now)
    }

    /// Returns the message of a scope set's last failed attempt.
    #[must_use]
    pub fn failure_message(&self, set: SetId) -> Option<&str> {
        self.sets.get(&set)?.schedule.failure_message()
    }

    /// Returns why a scope set has no newer token: see [`crate::schedule::Schedule::error_message`].
    #[must_use]
    pub fn error_message(&self, set: SetId) -> Option<&str> {
        self.sets.get(&set)?.schedule.error_message()
    }

    /// Returns when the scope set's next attempt is due, if that is known.
    #[must_use]
    pub fn next_attempt(&self, set: SetId, now: BootTime) -> Option<BootTime> {
        self.sets.get(&set)?.schedule.shown_next_attempt(now)
    }

    /// Returns the name of the scope set's client if the client could not be loaded.
    #[must_use]
    pub fn failed_client_of(&self, set: SetId) -> Option<&str> {
        let found = self.sets.get(&set)?;
        let client = self.clients.get(&found.client)?;
        let failed = found.schedule.is_load_failed();
        failed.then_some(client.name.as_str())
    }

    /// Returns the refusal of the scope set's callers if its client could not be loaded and there is no valid token.
    #[must_use]
    pub fn load_refusal(&self, set: SetId, now: BootTime) -> Option<Refusal> {
        let schedule = &self.sets.get(&set)?.schedule;
        let refusal = schedule.load_refusal(now);
        refusal.filter(|_| schedule.token(now).is_none())
    }
}

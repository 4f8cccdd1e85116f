//! The state of scope sets, by client and scopes.

use std::ops::Bound;

use domo_token_protocol::messages::ScopeStatus;
use domo_token_protocol::scope::ScopeSet;

use super::{Scheduler, SetId};
use crate::schedule::TokenSnapshot;
use domo_token_protocol::BootTime;

impl Scheduler {
    /// The state of one set.
    #[must_use]
    pub fn status_of(&self, set: SetId, now: BootTime) -> Option<ScopeStatus> {
        let set = self.sets.get(&set)?;
        let client = self.clients.get(&set.client)?;
        Some(set.schedule.status(&client.shown_id, now))
    }

    /// Each living token, by client and scopes.
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

    /// The state of all sets, by client and scopes.
    pub fn status(&self, now: BootTime) -> impl Iterator<Item = ScopeStatus> {
        self.status_after(None, now).map(|(_, status)| status)
    }

    /// The same with the scopes, from the first one after that client's set.
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
}

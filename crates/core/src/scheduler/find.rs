//! Scope sets by client and scopes.

use domo_token_protocol::scope::ScopeSet;

use super::{Scheduler, SetId};

/// Why a scope set isn't there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unknown {
    /// No client of that name.
    Client,
    /// The client has no such set; it has these.
    Scope(Vec<ScopeSet>),
}

impl Scheduler {
    /// The scope set of that client and those scopes.
    ///
    /// # Errors
    ///
    /// [`Unknown`] if there is none, with what there is.
    pub fn find(&self, client: &str, scope: &ScopeSet) -> Result<SetId, Unknown> {
        let client = self.names.get(client).and_then(|id| self.clients.get(id));
        let client = client.ok_or(Unknown::Client)?;
        let known = || Unknown::Scope(client.sets.keys().cloned().collect());
        client.sets.get(scope).copied().ok_or_else(known)
    }

    /// The client's scope set of just that text, which spares reading it.
    #[must_use]
    pub fn find_text(&self, client: &str, text: &str) -> Option<(SetId, &ScopeSet)> {
        let client = self.names.get(client).and_then(|id| self.clients.get(id))?;
        let (scope, set) = client.sets.get_key_value(text)?;
        Some((*set, scope))
    }

    /// The clients' names, in order.
    pub fn client_names(&self) -> impl Iterator<Item = &str> {
        self.names.keys().map(String::as_str)
    }

    /// The client and the scopes of a set.
    #[must_use]
    pub fn name_of(&self, set: SetId) -> Option<(&str, &ScopeSet)> {
        let found = self.sets.get(&set)?;
        let client = self.clients.get(&found.client)?;
        Some((client.name.as_str(), found.schedule.scope()))
    }

    /// All sets, with client and scopes.
    pub fn sets(&self) -> impl Iterator<Item = (SetId, &str, &ScopeSet)> {
        let clients = self.names.values().filter_map(|id| self.clients.get(id));
        clients.flat_map(|client| {
            let sets = client.sets.iter();
            sets.map(|(scope, set)| (*set, client.name.as_str(), scope))
        })
    }
}

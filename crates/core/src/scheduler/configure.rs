//! Applies a config: adds and removes clients and scope sets, and keeps what is unchanged.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use domo_token_protocol::messages::RefusalKind;
use domo_token_protocol::scope::ScopeSet;

use super::{Client, ClientId, Command, ProxyLoginId, Scheduler, Set, SetId};
use crate::schedule::{ChangeLimit, Loading, Schedule, TokenSnapshot};
use domo_token_protocol::BootTime;

/// The message of refusals while the broker stops.
pub const STOPPING: &str = "the broker is stopping";

/// The message of refusals for a removed scope set.
pub const REMOVED: &str = "the scope set was removed from the broker's config";

/// One API client of the config.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientSpec {
    /// The name in the config.
    pub name: String,
    /// The part of the client id that status may show.
    pub shown_id: String,
    /// The scope sets to keep a token for.
    pub scopes: BTreeSet<ScopeSet>,
    /// Whether its credentials or its endpoint have changed.
    pub renewed: bool,
    /// The proxy login of its requests; `None` without a proxy.
    pub proxy_login: Option<ProxyLoginId>,
    /// Why it has no credentials to request tokens with; `None` if it has.
    pub loading: Option<Loading>,
    /// Whether its tokens are shared with other hosts.
    pub shares: bool,
}

/// How a removed client is recognized if it returns to the config: by its name, or under another name by the shown part
/// of its id.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum KnownBy {
    Name(String),
    ShownId(String),
}

/// What a new config changed, as names of clients.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ConfigDiff {
    /// New clients.
    pub added: Vec<String>,
    /// Removed clients.
    pub removed: Vec<String>,
    /// Clients with new credentials or a new endpoint.
    pub renewed: Vec<String>,
    /// Clients whose scope sets changed.
    pub scopes: Vec<String>,
}

impl Scheduler {
    /// Sets the tokens of an earlier process, by client and scopes, with which the scope sets of the next
    /// [`Self::configure`] begin.
    pub fn restore(&mut self, snapshot: BTreeMap<(String, ScopeSet), TokenSnapshot>) {
        self.snapshot = snapshot;
    }

    /// Keeps tokens for exactly these clients and scope sets. What is unchanged keeps its tokens and timers.
    pub fn configure(&mut self, specs: Vec<ClientSpec>, now: BootTime) -> ConfigDiff {
        let mut changes = ConfigDiff::default();
        self.is_configuring = true;
        self.require_login_checks();
        self.removed_sets.retain(|_, (_, until)| now < *until);
        let removed: Vec<String> = self
            .client_names()
            .filter(|name| !specs.iter().any(|spec| spec.name == *name))
            .map(str::to_owned)
            .collect();
        for name in removed {
            self.remove_client(&name, now);
            changes.removed.push(name);
        }
        for spec in specs {
            self.apply(spec, &mut changes, now);
        }
        self.snapshot.clear();
        self.remove_unused_logins();
        self.is_configuring = false;
        self.admit_all(now);
        changes
    }

    fn apply(&mut self, spec: ClientSpec, changes: &mut ConfigDiff, now: BootTime) {
        let name = spec.name.clone();
        let Some(id) = self.names.get(&name).copied() else {
            self.add_client(spec, now);
            changes.added.push(name);
            return;
        };
        self.set_shares(id, spec.shares);
        if self.change_scopes(id, spec.scopes, now) {
            changes.scopes.push(name.clone());
        }
        let Some(client) = self.clients.get_mut(&id) else {
            return;
        };
        let before = std::mem::replace(&mut client.loading, spec.loading);
        let login = spec.proxy_login;
        if before != spec.loading {
            client.shown_id = spec.shown_id;
            self.set_loading(id, spec.loading, now);
            self.change_login(id, login, now);
        } else if spec.renewed || client.proxy_login != login {
            self.new_credentials(id, spec.shown_id, login, now);
            changes.renewed.push(name);
        }
    }

    fn set_shares(&mut self, id: ClientId, shares: bool) {
        let Some(client) = self.clients.get_mut(&id) else {
            return;
        };
        client.shares = shares;
        for set in client.sets.values() {
            if let Some(found) = self.sets.get_mut(set) {
                found.schedule.set_shares(shares);
            }
        }
    }

    /// Has fetches of a client that wait for a token of another host start again, because its tokens are shared in another
    /// way, or no longer.
    pub fn restart_waits(&mut self, client: &str, now: BootTime) {
        let id = self.names.get(client);
        let Some(client) = id.and_then(|id| self.clients.get(id)) else {
            return;
        };
        let sets: Vec<SetId> = client.sets.values().copied().collect();
        for set in sets {
            if let Some(found) = self.sets.get_mut(&set) {
                found.schedule.restart_wait();
            }
            self.update(set, now);
        }
        self.admit_all(now);
    }

    /// Shuffles the due requests of a client that was added or loaded if its tokens are shared: otherwise hosts that
    /// start together would all wait for the same few scope sets first.
    fn shuffle_queue(&mut self, id: ClientId) {
        if let Some(client) = self.clients.get_mut(&id).filter(|client| client.shares) {
            self.rng.shuffle(client.queue.make_contiguous());
        }
    }

    fn set_loading(&mut self, id: ClientId, loading: Option<Loading>, now: BootTime) {
        let Some(client) = self.clients.get(&id) else {
            return;
        };
        let name = client.name.clone();
        for (scope, set) in client.sets.clone() {
            // The client's id may be known only now.
            let left = self.recently_removed(id, &scope);
            if let Some(found) = self.sets.get_mut(&set) {
                if let Some(changes) = left {
                    found.schedule.restore_change_limit(changes, now);
                }
                // Before a request is due, because a stored token needs none.
                if let Some(snapshot) = self.snapshot.remove(&(name.clone(), scope)) {
                    found.schedule.resume(snapshot, now);
                }
                found.schedule.set_loading(loading, now);
            }
            self.update(set, now);
        }
        self.shuffle_queue(id);
    }

    /// Retries what is rejected or waits to retry, within the change limit.
    pub fn retry(&mut self, now: BootTime) {
        for client in self.clients.values_mut() {
            client.probe = None;
        }
        self.retry_logins(now);
        for set in self.all_sets() {
            if let Some(found) = self.sets.get_mut(&set) {
                found.schedule.reload(now);
            }
            self.update(set, now);
        }
        self.admit_all(now);
    }

    /// Starts due requests of all clients, because removed ones may have ended theirs.
    fn admit_all(&mut self, now: BootTime) {
        let clients: Vec<ClientId> = self.clients.keys().copied().collect();
        for client in clients {
            self.admit(client, now);
        }
    }

    /// Refuses all waiting callers, because the broker stops.
    pub fn stop(&mut self, now: BootTime) {
        for set in self.all_sets() {
            if let Some(found) = self.sets.get_mut(&set) {
                found.schedule.shutdown(RefusalKind::Busy, STOPPING);
            }
            self.collect_commands(set, now);
        }
    }

    fn all_sets(&self) -> Vec<SetId> {
        self.sets.keys().copied().collect()
    }

    pub(super) fn add_client(&mut self, spec: ClientSpec, now: BootTime) {
        self.last_client += 1;
        let id = ClientId(self.last_client);
        self.names.insert(spec.name.clone(), id);
        let client = Client {
            name: spec.name,
            shown_id: spec.shown_id,
            loading: spec.loading,
            shares: spec.shares,
            sets: BTreeMap::new(),
            queue: VecDeque::new(),
            in_ready_queue: false,
            proxy_login: spec.proxy_login,
            is_rejected: false,
            probe: None,
            credential_check: None,
            outage_reported: None,
        };
        self.clients.insert(id, client);
        self.add_login(spec.proxy_login);
        for scope in spec.scopes {
            self.add_set(id, scope, now);
        }
        self.shuffle_queue(id);
    }

    fn remove_client(&mut self, name: &str, now: BootTime) {
        let Some(id) = self.names.remove(name) else {
            return;
        };
        let sets = self.clients.get(&id).map(|client| client.sets.clone());
        for set in sets.into_iter().flat_map(BTreeMap::into_values) {
            self.remove_set(set, now);
        }
        self.clients.remove(&id);
    }

    fn add_set(&mut self, id: ClientId, scope: ScopeSet, now: BootTime) {
        let left = self.recently_removed(id, &scope);
        let Some(client) = self.clients.get_mut(&id) else {
            return;
        };
        self.last_set += 1;
        let set = SetId(self.last_set);
        client.sets.insert(scope.clone(), set);
        let name = (client.name.clone(), scope.clone());
        let mut schedule = Schedule::new(set, client.name.clone(), scope);
        if let Some(snapshot) = self.snapshot.remove(&name) {
            schedule.resume(snapshot, now);
        }
        if let Some(changes) = left {
            schedule.restore_change_limit(changes, now);
        }
        schedule.set_loading(client.loading, now);
        schedule.set_shares(client.shares);
        if client.is_rejected {
            schedule.mark_client_rejected();
        }
        let added = Set {
            client: id,
            schedule,
            due: None,
            queued: false,
        };
        self.sets.insert(set, added);
        self.apply_login_state(id, set, now);
        self.update(set, now);
    }

    /// Returns the change limit of a scope set that was removed a short time ago, of this client by its name or id.
    fn recently_removed(&self, id: ClientId, scope: &ScopeSet) -> Option<ChangeLimit> {
        let known_by = self.clients.get(&id).into_iter().flat_map(Client::known_by);
        let left =
            known_by.filter_map(|known_by| self.removed_sets.get(&(known_by, scope.clone())));
        left.map(|(changes, _)| *changes).max()
    }

    /// Removes a scope set: its callers are refused, and its token is wiped.
    fn remove_set(&mut self, set: SetId, now: BootTime) {
        let Some(found) = self.sets.get_mut(&set) else {
            return;
        };
        found.schedule.shutdown(RefusalKind::Gone, REMOVED);
        self.collect_commands(set, now);
        let Some(found) = self.sets.remove(&set) else {
            return;
        };
        if let Some(due) = found.due {
            self.timers.remove(&(due, set));
        }
        self.end_credential_check(found.client, set, now);
        if let Some(client) = self.clients.get_mut(&found.client) {
            let scope = found.schedule.scope();
            client.sets.remove(scope);
            let until = now + ChangeLimit::SPAN;
            let left = (found.schedule.change_limit(), until);
            for known_by in client.known_by() {
                let before = self
                    .removed_sets
                    .entry((known_by, scope.clone()))
                    .or_insert(left);
                *before = left.max(*before);
            }
        }
        self.commands.push_back(Command::Remove(set));
    }

    /// Adds and removes scope sets; returns whether there were any to add or remove.
    fn change_scopes(&mut self, id: ClientId, scopes: BTreeSet<ScopeSet>, now: BootTime) -> bool {
        let Some(client) = self.clients.get(&id) else {
            return false;
        };
        let known = client.sets.clone();
        let mut changed = false;
        for (scope, set) in &known {
            if !scopes.contains(scope) {
                self.remove_set(*set, now);
                changed = true;
            }
        }
        for scope in scopes {
            if !known.contains_key(&scope) {
                self.add_set(id, scope, now);
                changed = true;
            }
        }
        changed
    }

    /// Applies new credentials or a new proxy login of a client.
    fn new_credentials(
        &mut self,
        id: ClientId,
        shown_id: String,
        login: Option<ProxyLoginId>,
        now: BootTime,
    ) {
        let Some(client) = self.clients.get_mut(&id) else {
            return;
        };
        client.shown_id = shown_id;
        client.is_rejected = false;
        let was_rejected =
            client.probe.take().is_some() || client.credential_check.take().is_some();
        let sets: Vec<SetId> = client.sets.values().copied().collect();
        for set in &sets {
            if let Some(found) = self.sets.get_mut(set) {
                found.schedule.new_credentials(now);
                found.schedule.await_credential_check(false);
            }
            // The request in flight is aborted before the next one is chosen.
            self.collect_commands(*set, now);
        }
        self.change_login(id, login, now);
        if was_rejected {
            self.start_credential_check(id);
        }
        for set in sets {
            self.update(set, now);
        }
    }
}

impl Client {
    fn known_by(&self) -> impl Iterator<Item = KnownBy> + use<> {
        let shown_id = Some(self.shown_id.clone()).filter(|shown_id| !shown_id.is_empty());
        let name = KnownBy::Name(self.name.clone());
        [Some(name), shown_id.map(KnownBy::ShownId)]
            .into_iter()
            .flatten()
    }
}

//! Logins at proxies, each shared by all clients that use it: whether it works, and who may try it.
//!
//! A directory behind a proxy locks an account after a few wrong passwords. So a login that has not yet opened
//! a tunnel is tried by one request at a time, and one that was rejected by one request in
//! [`DENIED_RETRY`], whatever number of clients and scope sets wait for it.

use std::collections::VecDeque;

use super::{ClientId, Roster, SetId};
use crate::clock::BootTime;
use crate::schedule::{ChangeLimit, DENIED_RETRY};
use crate::source::LoginResult;

/// Identifies a proxy together with the login that is sent to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ProxyLoginId(u64);

impl ProxyLoginId {
    /// Two are the same login if their numbers are.
    #[must_use]
    pub const fn new(number: u64) -> Self {
        Self(number)
    }
}

/// What is known of a login.
#[derive(Debug, Default)]
pub(super) struct Login {
    /// Whether it has opened a tunnel, and was not rejected since.
    works: bool,
    /// The scope set whose request tries it.
    tried_by: Option<SetId>,
    /// When it may be tried, if not now.
    not_before: Option<BootTime>,
    /// What the proxy answered when it rejected the login last.
    rejection: Option<String>,
    /// How often config changes and reloads have had it rejected again.
    changes: ChangeLimit,
    /// Whether they are why it is tried next.
    is_changed: bool,
    /// Clients that wait until it may be used.
    waiting: VecDeque<ClientId>,
    /// When it was last reported that callers fail because the proxy rejects it.
    outage_reported: Option<BootTime>,
}

impl Login {
    /// Whether a request may start.
    fn is_open(&self) -> bool {
        self.works || (self.tried_by.is_none() && self.not_before.is_none())
    }
}

impl Roster {
    fn login_of(&mut self, client: ClientId) -> Option<&mut Login> {
        let login = self.clients.get(&client)?.proxy_login?;
        self.logins.get_mut(&login)
    }

    /// Whether a request of the client may start; if not, the client waits for its login.
    pub(super) fn passes_login(&mut self, client: ClientId) -> bool {
        let Some(login) = self.login_of(client) else {
            return true;
        };
        let is_open = login.is_open();
        if !is_open {
            login.waiting.push_back(client);
        }
        is_open
    }

    /// A request of the set is being sent through its client's proxy.
    pub(super) fn use_login(&mut self, set: SetId) {
        let Some(found) = self.sets.get_mut(&set) else {
            return;
        };
        let client = self.clients.get(&found.client);
        found.sent_login = client.and_then(|client| client.proxy_login);
        let login = found.sent_login.and_then(|id| self.logins.get_mut(&id));
        if let Some(login) = login.filter(|login| !login.works) {
            login.tried_by = Some(set);
        }
    }

    /// The set's request has ended, whatever its result. Returns the login that it was sent with, and
    /// whether that was its trial.
    pub(super) fn release_login(&mut self, set: SetId) -> Option<(ProxyLoginId, bool)> {
        let id = self.sets.get_mut(&set)?.sent_login.take()?;
        let login = self.logins.get_mut(&id)?;
        let was_trial = login.tried_by.take_if(|by| *by == set).is_some();
        if was_trial {
            self.line_up_waiting(id);
        }
        Some((id, was_trial))
    }

    /// A request was aborted. If it tried a rejected or changed login, the proxy may have rejected that once
    /// more.
    pub(super) fn abort_trial(&mut self, (id, was_trial): (ProxyLoginId, bool), now: BootTime) {
        let login = self.logins.get_mut(&id).filter(|_| was_trial);
        let Some(login) = login.filter(|login| login.is_changed || login.rejection.is_some())
        else {
            return;
        };
        login.is_changed = true;
        login.changes.take(now);
        let until = Some(login.changes.next()).filter(|until| *until > now);
        self.set_not_before(id, until);
    }

    /// Applies what a request has shown about the login that it was sent with.
    pub(super) fn apply_login_result(
        &mut self,
        (id, was_trial): (ProxyLoginId, bool),
        set: SetId,
        result: LoginResult,
        now: BootTime,
    ) {
        let Some(login) = self.logins.get(&id) else {
            return;
        };
        match result {
            // An answer to a request from before the rejection does not end it.
            LoginResult::Works if was_trial => self.accept_login(id, now),
            // One more of those that were under way when the first one was rejected.
            LoginResult::Rejected if !login.works && !was_trial => {}
            LoginResult::Rejected => self.reject_login(id, set, now),
            LoginResult::Works | LoginResult::Unknown => {}
        }
    }

    fn accept_login(&mut self, id: ProxyLoginId, now: BootTime) {
        let Some(login) = self.logins.get_mut(&id) else {
            return;
        };
        login.works = true;
        login.is_changed = false;
        login.rejection = None;
        self.set_not_before(id, None);
        self.line_up_waiting(id);
        self.lift_login_blocks(id, now);
    }

    fn lift_login_blocks(&mut self, id: ProxyLoginId, now: BootTime) {
        for set in self.sets_of_login(id) {
            if let Some(found) = self.sets.get_mut(&set) {
                found.schedule.accept_login(now);
            }
            self.touch(set, now);
        }
    }

    fn reject_login(&mut self, id: ProxyLoginId, rejected: SetId, now: BootTime) {
        let words = self.failure_of(rejected).unwrap_or("rejected").to_owned();
        if let Some(login) = self.logins.get_mut(&id) {
            login.works = false;
            login.rejection = Some(words);
            if std::mem::take(&mut login.is_changed) {
                login.changes.take(now);
            }
        }
        self.set_not_before(id, Some(now + DENIED_RETRY));
        for set in self.sets_of_login(id) {
            self.block_by_login(set, id, now);
        }
    }

    /// Has the set's callers refused if the login is rejected.
    fn block_by_login(&mut self, set: SetId, id: ProxyLoginId, now: BootTime) {
        let login = self.logins.get(&id);
        let rejection = login.and_then(|login| login.rejection.as_deref().zip(login.not_before));
        if let (Some((words, until)), Some(found)) = (rejection, self.sets.get_mut(&set)) {
            found.schedule.reject_login(words, until, now);
            self.touch(set, now);
        }
    }

    /// A set of the client is new.
    pub(super) fn join_login(&mut self, client: ClientId, set: SetId, now: BootTime) {
        let client = self.clients.get(&client);
        if let Some(id) = client.and_then(|client| client.proxy_login) {
            self.block_by_login(set, id, now);
        }
    }

    /// The client uses that login now; its requests under way have been aborted.
    pub(super) fn change_login(
        &mut self,
        client: ClientId,
        new: Option<ProxyLoginId>,
        now: BootTime,
    ) {
        let Some(found) = self.clients.get_mut(&client) else {
            return;
        };
        let old = std::mem::replace(&mut found.proxy_login, new);
        if old == new {
            return;
        }
        let sets: Vec<SetId> = found.sets.values().copied().collect();
        let old = old.and_then(|id| self.logins.get_mut(&id));
        let changes = old
            .as_ref()
            .map_or(ChangeLimit::default(), |old| old.changes);
        if let Some(old) = old
            && old.waiting.contains(&client)
        {
            old.waiting.retain(|waiting| *waiting != client);
            self.line.push_back(client);
        }
        for set in sets {
            if let Some(found) = self.sets.get_mut(&set) {
                found.schedule.accept_login(now);
            }
        }
        if let Some(id) = new {
            let login = self.logins.entry(id).or_default();
            login.changes = login.changes.max(changes);
            self.reopen_login(id, now);
        }
    }

    /// The login of a client that is new.
    pub(super) fn add_login(&mut self, id: Option<ProxyLoginId>) {
        if let Some(id) = id {
            self.logins.entry(id).or_default();
        }
    }

    /// A reload: rejected logins are tried immediately, as often as new ones would be.
    pub(super) fn retry_logins(&mut self, now: BootTime) {
        let ids: Vec<ProxyLoginId> = self.logins.keys().copied().collect();
        for id in ids {
            if self
                .logins
                .get(&id)
                .is_some_and(|login| login.rejection.is_some())
            {
                self.reopen_login(id, now);
            }
        }
    }

    /// Has a login that does not work tried as soon as the limit of changes allows.
    fn reopen_login(&mut self, id: ProxyLoginId, now: BootTime) {
        let Some(login) = self.logins.get_mut(&id).filter(|login| !login.works) else {
            return;
        };
        login.is_changed = true;
        let allowed = login.changes.next();
        if allowed <= now {
            self.set_not_before(id, None);
            self.line_up_waiting(id);
            self.lift_login_blocks(id, now);
            return;
        }
        let until = login.not_before.map_or(allowed, |until| until.min(allowed));
        self.set_not_before(id, Some(until));
        for set in self.sets_of_login(id) {
            self.block_by_login(set, id, now);
        }
    }

    /// Applies what `now` has made due: logins that may be tried again.
    pub(super) fn handle_login_timeouts(&mut self, now: BootTime) {
        let mut is_any = false;
        while let Some((_, id)) = self.login_timers.first().filter(|(due, _)| *due <= now) {
            let id = *id;
            self.set_not_before(id, None);
            self.line_up_waiting(id);
            is_any = true;
        }
        if is_any {
            self.forget_unused_logins();
            self.start_next(now);
        }
    }

    fn set_not_before(&mut self, id: ProxyLoginId, at: Option<BootTime>) {
        let Some(login) = self.logins.get_mut(&id) else {
            return;
        };
        if let Some(old) = std::mem::replace(&mut login.not_before, at) {
            self.login_timers.remove(&(old, id));
        }
        if let Some(new) = at {
            self.login_timers.insert((new, id));
        }
    }

    /// Those that waited for the login take their turn; who finds it closed again waits on, in the same
    /// order.
    fn line_up_waiting(&mut self, id: ProxyLoginId) {
        if let Some(login) = self.logins.get_mut(&id) {
            self.line.append(&mut login.waiting);
        }
    }

    fn sets_of_login(&self, id: ProxyLoginId) -> Vec<SetId> {
        let clients = self.clients.values();
        let clients = clients.filter(|client| client.proxy_login == Some(id));
        clients
            .flat_map(|client| client.sets.values().copied())
            .collect()
    }

    /// Forgets logins that no client uses, unless they were rejected within the last minutes: a client that
    /// comes back must not have them tried again.
    pub(super) fn forget_unused_logins(&mut self) {
        let clients = self.clients.values();
        let used: std::collections::BTreeSet<ProxyLoginId> =
            clients.filter_map(|client| client.proxy_login).collect();
        let is_kept = |id: &ProxyLoginId, login: &mut Login| {
            used.contains(id) || (!login.works && login.not_before.is_some())
        };
        self.logins.retain(is_kept);
    }

    /// Returns true the first time at this moment that callers are reported to fail because of the login of
    /// that client.
    pub(super) fn is_first_login_report(&mut self, client: ClientId, now: BootTime) -> bool {
        let login = self.login_of(client);
        login.is_none_or(|login| login.outage_reported.replace(now) != Some(now))
    }

    /// All scope sets that are rejected with this one: those of its client, or of all clients that use its
    /// login if that is rejected.
    pub(super) fn rejected_with(&self, set: SetId) -> Vec<SetId> {
        let found = self.sets.get(&set);
        let Some(client) = found.and_then(|found| self.clients.get(&found.client)) else {
            return Vec::new();
        };
        match client.proxy_login {
            Some(id)
                if self
                    .logins
                    .get(&id)
                    .is_some_and(|login| login.rejection.is_some()) =>
            {
                self.sets_of_login(id)
            }
            Some(_) | None => client.sets.values().copied().collect(),
        }
    }
}

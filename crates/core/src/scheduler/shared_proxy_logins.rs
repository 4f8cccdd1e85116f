//! Logins at proxies (407), each shared by all clients that use it: whether it works, and which request tries it.
//!
//! A directory behind a proxy locks an account after a few wrong passwords. So a login that has not opened a
//! tunnel in the last [`LOGIN_WORKS`] is tried by one request at a time, and one that was rejected by one
//! request in [`DENIED_RETRY`], independent of how many clients and scope sets wait for it.

use std::collections::{BTreeSet, VecDeque};
use std::time::Duration;

use domo_token_protocol::BootTime;

use super::{ClientId, Scheduler, SetId};
use crate::schedule::{ChangeLimit, DENIED_RETRY, FetchId};

/// How long a login counts as working after the proxy opened a tunnel: long enough for requests that start together.
/// After it, one request finds out whether the password has changed.
pub const LOGIN_WORKS: Duration = Duration::from_secs(60);

/// Identifies a proxy together with the login that is sent to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ProxyLoginId {
    number: u64,
    /// Whether a login is sent: only then can an account be locked.
    has_login: bool,
}

impl ProxyLoginId {
    /// Returns the id of a login; equal numbers are the same login.
    #[must_use]
    pub const fn new(number: u64) -> Self {
        Self {
            number,
            has_login: true,
        }
    }

    /// Returns the id of a proxy to which no login is sent.
    #[must_use]
    pub const fn without_login(number: u64) -> Self {
        Self {
            number,
            has_login: false,
        }
    }
}

/// The state of a login.
#[derive(Debug)]
pub(super) struct Login {
    /// Whether an account can be locked.
    pub(super) is_limited: bool,
    /// Until when it counts as working.
    pub(super) works_until: Option<BootTime>,
    /// The scope set whose request tries it.
    pub(super) checked_by: Option<SetId>,
    /// When it may be tried, if not now.
    pub(super) not_before: Option<BootTime>,
    /// The message of the last rejection.
    pub(super) rejection: Option<String>,
    /// Limits how often config changes and reloads may have it rejected again.
    pub(super) changes: ChangeLimit,
    /// Whether a change or a reload causes its next request.
    pub(super) is_changed: bool,
    /// Clients that wait until it may be used.
    pub(super) waiting: VecDeque<ClientId>,
    /// When it was last reported that callers fail because the proxy rejects it.
    pub(super) outage_reported: Option<BootTime>,
}

impl Login {
    pub(super) fn new(id: ProxyLoginId) -> Self {
        Self {
            is_limited: id.has_login,
            works_until: None,
            checked_by: None,
            not_before: None,
            rejection: None,
            changes: ChangeLimit::default(),
            is_changed: false,
            waiting: VecDeque::new(),
            outage_reported: None,
        }
    }

    /// Returns whether it may not be used because the proxy rejected it.
    pub(super) fn is_rejected(&self) -> bool {
        self.rejection.is_some() && self.not_before.is_some()
    }

    /// Returns whether the next request has to try it alone, while the others wait for its tunnel or its end.
    pub(super) fn needs_check(&self, now: BootTime) -> bool {
        self.is_limited && self.works_until.is_none_or(|until| until <= now)
    }

    /// Returns whether a request may start.
    pub(super) fn is_open(&self, now: BootTime) -> bool {
        let is_free = self.checked_by.is_none() || !self.needs_check(now);
        is_free && self.not_before.is_none()
    }
}

impl Scheduler {
    pub(super) fn login_of(&mut self, client: ClientId) -> Option<&mut Login> {
        let login = self.clients.get(&client)?.proxy_login?;
        self.logins.get_mut(&login)
    }

    /// Returns whether a request of the client may start; if not, adds the client to those that wait for its login.
    pub(super) fn is_login_ready(&mut self, client: ClientId, now: BootTime) -> bool {
        let is_open = self.is_login_open(client, now);
        if !is_open {
            if let Some(login) = self.login_of(client) {
                login.waiting.push_back(client);
            }
            self.await_login_check(client, true);
        }
        is_open
    }

    /// Sets whether the client's due requests wait for another one to try the login.
    fn await_login_check(&mut self, client: ClientId, waits: bool) {
        let queue = self.clients.get(&client).map(|client| &client.queue);
        for set in queue.into_iter().flatten() {
            if let Some(found) = self.sets.get_mut(set) {
                found.schedule.await_login_check(waits);
            }
        }
    }

    /// Returns whether the client's login allows a request.
    pub(super) fn is_login_open(&mut self, client: ClientId, now: BootTime) -> bool {
        self.login_of(client).is_none_or(|login| login.is_open(now))
    }

    /// Returns the proxy login that a request of the set is sent with now. If the login has to be tried, this
    /// request does that.
    pub(super) fn use_login(
        &mut self,
        client: ClientId,
        set: SetId,
        now: BootTime,
    ) -> Option<ProxyLoginId> {
        let id = self.clients.get(&client)?.proxy_login?;
        let login = self.logins.get_mut(&id);
        if let Some(login) = login.filter(|login| login.needs_check(now)) {
            login.checked_by = Some(set);
        }
        Some(id)
    }

    /// Ends the use of a login by the scope set's request, which has ended or has a tunnel. Returns the login and
    /// whether the request tried it.
    pub(super) fn release_login(
        &mut self,
        id: ProxyLoginId,
        set: SetId,
    ) -> Option<(ProxyLoginId, bool)> {
        let login = self.logins.get_mut(&id)?;
        let was_check = login.checked_by.take_if(|by| *by == set).is_some();
        if was_check {
            self.enqueue_waiting(id);
        }
        Some((id, was_check))
    }

    /// Counts an aborted request that tried a rejected or changed login: the proxy may have rejected it once more.
    pub(super) fn abort_login_check(
        &mut self,
        (id, was_check): (ProxyLoginId, bool),
        now: BootTime,
    ) {
        let login = self.logins.get_mut(&id).filter(|_| was_check);
        let Some(login) = login.filter(|login| login.is_changed || login.rejection.is_some())
        else {
            return;
        };
        login.is_changed = true;
        login.changes.take(now);
        let until = Some(login.changes.next()).filter(|until| *until > now);
        self.set_not_before(id, until);
    }

    /// Applies that the proxy has opened a tunnel for a request.
    pub(super) fn handle_tunnel(&mut self, set: SetId, fetch_id: FetchId, now: BootTime) {
        let request = self.in_flight.get_mut(&set);
        let request = request.filter(|request| request.fetch_id == fetch_id);
        // The rest of the request no longer concerns the login.
        let Some(id) = request.and_then(|request| request.login.take()) else {
            return;
        };
        if self.release_login(id, set).is_some() {
            self.accept_login(id, now);
            self.start_ready(now);
        }
    }

    /// Applies the end of a request for which the proxy opened no tunnel.
    pub(super) fn end_without_tunnel(
        &mut self,
        id: ProxyLoginId,
        set: SetId,
        is_rejected: bool,
        now: BootTime,
    ) {
        if is_rejected {
            self.reject_login(id, set, now);
            return;
        }
        let login = self.logins.get_mut(&id);
        let login = login.filter(|login| login.not_before.is_none());
        if login.is_some_and(|login| login.rejection.take().is_some()) {
            // There is another error now.
            self.lift_login_blocks(id, now);
        }
    }

    /// Applies that a login works.
    fn accept_login(&mut self, id: ProxyLoginId, now: BootTime) {
        let Some(login) = self.logins.get_mut(&id) else {
            return;
        };
        login.works_until = Some(now + LOGIN_WORKS);
        login.is_changed = false;
        login.outage_reported = None;
        if login.rejection.take().is_some() || login.not_before.is_some() {
            self.set_not_before(id, None);
            self.lift_login_blocks(id, now);
        }
        self.enqueue_waiting(id);
    }

    fn lift_login_blocks(&mut self, id: ProxyLoginId, now: BootTime) {
        for set in self.sets_of_login(id) {
            if let Some(found) = self.sets.get_mut(&set) {
                found.schedule.accept_login(now);
            }
            self.update(set, now);
        }
    }

    fn reject_login(&mut self, id: ProxyLoginId, rejected: SetId, now: BootTime) {
        let message = self
            .failure_message(rejected)
            .unwrap_or("rejected")
            .to_owned();
        if let Some(login) = self.logins.get_mut(&id) {
            login.works_until = None;
            login.checked_by = None;
            login.rejection = Some(message);
            if std::mem::take(&mut login.is_changed) {
                login.changes.take(now);
            }
        }
        self.set_not_before(id, Some(now + DENIED_RETRY));
        self.cancel_requests(id, now);
        for set in self.sets_of_login(id) {
            self.block_by_login(set, id, now);
        }
    }

    /// Aborts the requests with this login that have no tunnel yet, because the proxy would reject them, too.
    fn cancel_requests(&mut self, id: ProxyLoginId, now: BootTime) {
        let requests = self.in_flight.iter();
        let sent = requests.filter(|(_, request)| request.login == Some(id));
        let sent: Vec<SetId> = sent.map(|(set, _)| *set).collect();
        for set in &sent {
            if let Some(found) = self.sets.get_mut(set) {
                found.schedule.cancel_request();
            }
        }
        for set in sent {
            self.update(set, now);
        }
    }

    /// Blocks the scope set while its login is rejected, or delays it until the login may be tried.
    fn block_by_login(&mut self, set: SetId, id: ProxyLoginId, now: BootTime) {
        let login = self.logins.get(&id);
        let Some((login, until)) = login.and_then(|login| Some((login, login.not_before?))) else {
            return;
        };
        if let Some(found) = self.sets.get_mut(&set) {
            match &login.rejection {
                Some(message) => found.schedule.reject_login(message, until, now),
                None => found.schedule.delay_until(until, now),
            }
            self.update(set, now);
        }
    }

    /// Applies the login's state to a scope set that is new or whose client has a new login. If the login is rejected,
    /// that was reported already.
    pub(super) fn apply_login_state(&mut self, client: ClientId, set: SetId, now: BootTime) {
        let id = self.clients.get(&client);
        let Some(id) = id.and_then(|client| client.proxy_login) else {
            return;
        };
        let login = self.logins.get(&id);
        let is_reported =
            login.is_some_and(|login| login.is_rejected() && login.outage_reported.is_some());
        if let Some(found) = self.sets.get_mut(&set).filter(|_| is_reported) {
            found.schedule.mark_outage_reported(now);
        }
        self.block_by_login(set, id, now);
    }

    /// Sets the client's login, after its requests in flight were aborted.
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
            self.ready_queue.push_back(client);
        }
        for set in &sets {
            if let Some(found) = self.sets.get_mut(set) {
                found.schedule.accept_login(now);
            }
        }
        let Some(id) = new else {
            return;
        };
        let is_known = self.logins.contains_key(&id);
        let login = self.logins.entry(id).or_insert_with(|| Login::new(id));
        login.changes = login.changes.max(changes);
        if is_known {
            // One more client changes nothing about the login.
            for set in sets {
                self.apply_login_state(client, set, now);
            }
        } else {
            self.reopen_login(id, now);
        }
    }

    /// Adds the login of a new client.
    pub(super) fn add_login(&mut self, id: Option<ProxyLoginId>) {
        if let Some(id) = id {
            self.logins.entry(id).or_insert_with(|| Login::new(id));
        }
    }

    /// After a reload or a changed config: has logins that worked tried by one request before all use them again.
    pub(super) fn require_login_checks(&mut self) {
        for login in self.logins.values_mut() {
            login.works_until = None;
        }
    }

    /// Has rejected logins tried immediately after a reload, within the change limit.
    pub(super) fn retry_logins(&mut self, now: BootTime) {
        self.require_login_checks();
        let logins = self.logins.iter();
        let rejected = logins.filter(|(_, login)| login.rejection.is_some());
        let rejected: Vec<ProxyLoginId> = rejected.map(|(id, _)| *id).collect();
        for id in rejected {
            self.reopen_login(id, now);
        }
    }

    /// Has a login tried as soon as the change limit allows.
    fn reopen_login(&mut self, id: ProxyLoginId, now: BootTime) {
        let Some(login) = self.logins.get_mut(&id) else {
            return;
        };
        login.is_changed = true;
        let allowed = login.changes.next();
        if allowed <= now {
            self.set_not_before(id, None);
            self.enqueue_waiting(id);
            self.lift_login_blocks(id, now);
            return;
        }
        let until = login.not_before.map_or(allowed, |until| until.min(allowed));
        self.set_not_before(id, Some(until));
        for set in self.sets_of_login(id) {
            self.block_by_login(set, id, now);
        }
    }

    /// Lets logins be tried again whose wait is over at `now`.
    pub(super) fn handle_login_timeouts(&mut self, now: BootTime) {
        let mut is_any = false;
        while let Some((_, id)) = self.login_timers.first().filter(|(due, _)| *due <= now) {
            let id = *id;
            self.set_not_before(id, None);
            self.enqueue_waiting(id);
            is_any = true;
        }
        if is_any {
            self.remove_unused_logins();
            self.start_ready(now);
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

    /// Moves the clients that wait for the login to the ready queue. If the login is not open then, they wait again, in
    /// the same order.
    fn enqueue_waiting(&mut self, id: ProxyLoginId) {
        let login = self.logins.get_mut(&id);
        for client in login
            .map(|login| std::mem::take(&mut login.waiting))
            .into_iter()
            .flatten()
        {
            self.await_login_check(client, false);
            self.ready_queue.push_back(client);
        }
    }

    pub(super) fn sets_of_login(&self, id: ProxyLoginId) -> Vec<SetId> {
        let clients = self.clients.values();
        let clients = clients.filter(|client| client.proxy_login == Some(id));
        clients
            .flat_map(|client| client.sets.values().copied())
            .collect()
    }

    /// Removes logins that no client uses, except those that may not be tried yet: a client that returns must not have
    /// them tried early.
    pub(super) fn remove_unused_logins(&mut self) {
        let clients = self.clients.values();
        let used: BTreeSet<ProxyLoginId> =
            clients.filter_map(|client| client.proxy_login).collect();
        let is_kept =
            |id: &ProxyLoginId, login: &mut Login| used.contains(id) || login.not_before.is_some();
        self.logins.retain(is_kept);
    }
}

//! All schedules: which are due, which requests start now, and what one scope set's result means for the others.
//!
//! Random numbers come from a generator that the caller seeds; time and results are arguments, and [`Command`]s are
//! the effects to carry out.
//!
//! - `admission`: how many requests are in flight at once, and whose start next.
//! - `client_rejection`: a client that Domo rejects.
//! - `configure`: applies a config: what is new, what is gone, what stays.
//! - `shared_proxy_logins`: logins at proxies (407), shared by clients.
//! - `queries`: scope sets by name, their status, tokens and errors.
//! - `reporting`: one report for an outage of many scope sets.

mod admission;
mod client_rejection;
mod configure;
mod shared_proxy_logins;
mod queries;
mod reporting;

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use domo_token_protocol::BootTime;
use domo_token_protocol::messages::{Refusal, RefusalKind};
use domo_token_protocol::scope::ScopeSet;

use crate::fetch::{Fetch, Progress};
use crate::fetch_result::FetchError;
use crate::schedule::{
    self, Answer, FetchId, Loading, Outcome, Rejected, Schedule, TokenRequest, TokenSnapshot,
    WaiterId,
};

pub use crate::schedule::{Command, SetId};
pub use admission::{MAX_IN_FLIGHT, MAX_IN_FLIGHT_PER_CLIENT};
use configure::KnownBy;
pub use configure::{ClientSpec, ConfigDiff, REMOVED, STOPPING};
pub use queries::NotFound;
use shared_proxy_logins::Login;
pub use shared_proxy_logins::{LOGIN_WORKS, ProxyLoginId};

/// Generations start below this, so that they are exact in programs whose numbers are doubles: JavaScript, and jq
/// before 1.7.
const GENERATION_START: u64 = 1 << 52;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct ClientId(usize);

#[derive(Debug)]
struct Client {
    name: String,
    shown_id: String,
    loading: Option<Loading>,
    /// Whether its tokens are shared with other hosts.
    shares: bool,
    sets: BTreeMap<ScopeSet, SetId>,
    /// Scope sets whose request is due and not admitted yet.
    queue: VecDeque<SetId>,
    /// Whether it is in [`Scheduler::ready_queue`], or waits for its proxy login.
    in_ready_queue: bool,
    /// The proxy login of its requests.
    proxy_login: Option<ProxyLoginId>,
    /// Whether Domo has rejected it since its last success.
    is_rejected: bool,
    /// The one scope set that tries the client while Domo rejects it.
    probe: Option<SetId>,
    /// The one scope set that tries new credentials first, because the old ones were rejected.
    credential_check: Option<SetId>,
    /// When it was last reported that callers fail because Domo rejects the client.
    outage_reported: Option<BootTime>,
}

#[derive(Debug)]
struct Set {
    client: ClientId,
    schedule: Schedule,
    due: Option<BootTime>,
    queued: bool,
}

/// A fetch that was started and has not ended.
#[derive(Debug)]
struct InFlight {
    client: ClientId,
    fetch_id: FetchId,
    /// The proxy login that it was sent with, until its tunnel is open.
    login: Option<ProxyLoginId>,
}

/// All schedules of a broker.
#[derive(Debug)]
pub struct Scheduler {
    rng: fastrand::Rng,
    next_generation: u64,
    last_client: usize,
    last_set: usize,
    names: BTreeMap<String, ClientId>,
    clients: BTreeMap<ClientId, Client>,
    sets: BTreeMap<SetId, Set>,
    timers: BTreeSet<(BootTime, SetId)>,
    logins: BTreeMap<ProxyLoginId, Login>,
    /// When rejected logins may be tried again.
    login_timers: BTreeSet<(BootTime, ProxyLoginId)>,
    /// The fetches in flight, at most one for each scope set.
    in_flight: BTreeMap<SetId, InFlight>,
    /// Whether a config is being applied: no request starts before all clients are configured.
    is_configuring: bool,
    /// Clients with a due request, in the order of their admission.
    ready_queue: VecDeque<ClientId>,
    /// Tokens of an earlier process, until the first config is applied.
    snapshot: BTreeMap<(String, ScopeSet), TokenSnapshot>,
    /// The change limits of removed scope sets, and until when they apply if the scope set returns.
    removed_sets: BTreeMap<(KnownBy, ScopeSet), (schedule::ChangeLimit, BootTime)>,
    commands: VecDeque<Command>,
}

impl Scheduler {
    /// Returns an empty scheduler whose random numbers come from `seed`.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        let mut rng = fastrand::Rng::with_seed(seed);
        Self {
            next_generation: rng.u64(..GENERATION_START),
            rng,
            last_client: 0,
            last_set: 0,
            names: BTreeMap::new(),
            clients: BTreeMap::new(),
            sets: BTreeMap::new(),
            timers: BTreeSet::new(),
            logins: BTreeMap::new(),
            login_timers: BTreeSet::new(),
            in_flight: BTreeMap::new(),
            is_configuring: false,
            ready_queue: VecDeque::new(),
            snapshot: BTreeMap::new(),
            removed_sets: BTreeMap::new(),
            commands: VecDeque::new(),
        }
    }

    /// Requests a scope set's token: see [`Schedule::request`]. For one that does not exist, the refusal is that of a
    /// removed one.
    pub fn request(
        &mut self,
        set: SetId,
        waiter: WaiterId,
        request: &TokenRequest,
        now: BootTime,
    ) -> Answer {
        let Some(found) = self.sets.get_mut(&set) else {
            return Answer::Now(Err(Refusal::new(RefusalKind::Gone, REMOVED)));
        };
        let answer = found.schedule.request(waiter, request, now);
        let nothing_due = found.due.is_none_or(|due| now < due);
        // A served token changes nothing.
        if !(matches!(answer, Answer::Now(Ok(_))) && nothing_due && request.renew.is_none()) {
            self.update(set, now);
        }
        answer
    }

    /// Removes a caller that left before its answer.
    pub fn cancel(&mut self, set: SetId, waiter: WaiterId, now: BootTime) {
        if let Some(found) = self.sets.get_mut(&set) {
            found.schedule.cancel(waiter);
        }
        self.update(set, now);
    }

    /// Records that Domo rejected the scope set's token of this generation in use, as `caller` reports.
    pub fn record_rejection(&mut self, set: SetId, generation: u64, caller: String) {
        if let Some(found) = self.sets.get_mut(&set) {
            found.schedule.record_rejection(generation, caller);
        }
    }

    fn is_in_flight(&self, set: SetId, fetch_id: FetchId) -> bool {
        let request = self.in_flight.get(&set);
        request.is_some_and(|request| request.fetch_id == fetch_id)
    }

    /// Applies what a fetch reports before its end.
    pub fn handle_progress(
        &mut self,
        set: SetId,
        fetch_id: FetchId,
        progress: Progress,
        now: BootTime,
    ) {
        match progress {
            Progress::Requested => {
                if let Some(found) = self.sets.get_mut(&set) {
                    found.schedule.handle_requested(fetch_id, now);
                }
                self.set_timer(set);
            }
            Progress::TunnelOpened => self.handle_tunnel(set, fetch_id, now),
        }
    }

    /// Applies the end of a fetch.
    pub fn handle_fetched(
        &mut self,
        set: SetId,
        fetch_id: FetchId,
        fetch: impl Into<Fetch>,
        now: BootTime,
    ) {
        if !self.is_in_flight(set, fetch_id) {
            return;
        }
        let Some(found) = self.sets.get_mut(&set) else {
            return;
        };
        let client = found.client;
        let fetch = fetch.into();
        let is_login_rejected = matches!(
            fetch,
            Fetch::Failed {
                error: FetchError::ProxyLogin { .. },
                ..
            }
        );
        let outcome = found.schedule.handle_fetched(fetch_id, fetch, now);
        let login = self.end_request(set);
        // This attempt is reported before its consequences for other scope sets.
        self.collect_commands(set, now);
        if let Some((login, _)) = login {
            self.end_without_tunnel(login, set, is_login_rejected, now);
        }
        match outcome {
            Outcome::Denied {
                rejected: Rejected::ClientUnconfirmed,
                ..
            } => self.await_confirmation(client, set, now),
            Outcome::Denied {
                rejected: Rejected::Client,
                ..
            } => self.reject_client(client, set, now),
            _ if outcome.accepts_client() => self.accept_client(client, now),
            Outcome::Ignored
            | Outcome::Obtained { .. }
            | Outcome::RejectedByDomo
            | Outcome::Denied { .. }
            | Outcome::Failed { .. }
            | Outcome::Expired { .. } => self.update_blocks(client, set, now),
        }
        self.update(set, now);
        self.end_credential_check(client, set, now);
        self.admit(client, now);
    }

    /// Applies all timers that are due at `now`.
    pub fn handle_timeout(&mut self, now: BootTime) {
        self.handle_login_timeouts(now);
        while let Some((due, set)) = self.timers.first().copied() {
            if due > now {
                return;
            }
            self.timers.pop_first();
            if let Some(found) = self.sets.get_mut(&set) {
                found.due = None;
                found.schedule.handle_timeout(now);
            }
            self.update(set, now);
        }
    }

    /// Returns when [`Self::handle_timeout`] is due.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<BootTime> {
        let set = self.timers.first().map(|(due, _)| *due);
        let login = self.login_timers.first().map(|(due, _)| *due);
        set.into_iter().chain(login).min()
    }

    /// Returns whether there is a command, or a timer that is due before `armed`, the caller's timer.
    #[must_use]
    pub fn wants_attention(&self, armed: Option<BootTime>) -> bool {
        let earlier = |due| armed.is_none_or(|armed| due < armed);
        !self.commands.is_empty() || self.poll_timeout().is_some_and(earlier)
    }

    /// Returns the next effect to carry out.
    pub fn poll_command(&mut self) -> Option<Command> {
        self.commands.pop_front()
    }

    /// Collects the commands of a scope set that may have changed, queues its request, sets its timer.
    fn update(&mut self, set: SetId, now: BootTime) {
        let room_made = self.collect_commands(set, now);
        let Some(found) = self.sets.get_mut(&set) else {
            return;
        };
        let client = found.client;
        if room_made {
            self.update_blocks(client, set, now);
            self.end_credential_check(client, set, now);
        }
        let Some(found) = self.sets.get_mut(&set) else {
            return;
        };
        let queue = found.schedule.wants_fetch() && !found.queued;
        if queue {
            found.queued = true;
            let is_login_open = self.is_login_open(client, now);
            if let Some(found) = self.sets.get_mut(&set).filter(|_| !is_login_open) {
                found.schedule.await_login_check(true);
            }
            if let Some(client) = self.clients.get_mut(&client) {
                client.queue.push_back(set);
            }
        }
        if queue || room_made {
            self.admit(client, now);
        }
        self.set_timer(set);
    }

    /// Collects a scope set's commands; returns whether they abort a request.
    fn collect_commands(&mut self, set: SetId, now: BootTime) -> bool {
        let mut aborted = false;
        while let Some(found) = self.sets.get_mut(&set) {
            let client = found.client;
            let Some(mut command) = found.schedule.poll_command() else {
                break;
            };
            match &mut command {
                Command::Report(_, outcome) => self.limit_reports(client, outcome, now),
                Command::Abort(_) => aborted = true,
                Command::Fetch(..)
                | Command::Reply(..)
                | Command::NotifyWatchers(_)
                | Command::Remove(_) => {}
            }
            self.commands.push_back(command);
        }
        if aborted && let Some(login) = self.end_request(set) {
            self.abort_login_check(login, now);
        }
        aborted
    }

    fn set_timer(&mut self, set: SetId) {
        let Some(found) = self.sets.get_mut(&set) else {
            return;
        };
        let due = found.schedule.poll_timeout();
        if due == found.due {
            return;
        }
        if let Some(old) = found.due {
            self.timers.remove(&(old, set));
        }
        if let Some(new) = due {
            self.timers.insert((new, set));
        }
        found.due = due;
    }
}

#[cfg(test)]
mod tests;

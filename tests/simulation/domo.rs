//! The simulated Domo: when it responds, and the token source that the broker uses.

mod fleet;
mod state;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use domo_token::platform::clock::{BootTime, Clock};
use domo_token::source::TokenSource;
use domo_token_core::fetch::{Fetch, Occasion, Progress};
use domo_token_core::fetch_result::{FetchError, Fetched};
use domo_token_core::schedule::{
    CHANGE_INTERVAL, CHANGES_IN_A_ROW, REQUEST_GRACE, request_timeout,
};
use domo_token_protocol::scope::ScopeSet;
use tokio::sync::oneshot;

use crate::behaviour::{Answer, Behaviour};
use crate::clock::SimClock;
use crate::logins::Logins;
pub(crate) use state::{Changes, Key, State, StoredToken};
use state::{InFlight, denied};

/// The simulated Domo. Clones share its state.
#[derive(Clone)]
pub(crate) struct Domo {
    pub(crate) clock: SimClock,
    state: Arc<Mutex<State>>,
}

impl Domo {
    pub(crate) fn new(clock: SimClock, seed: u64, lifetime: Duration) -> Self {
        let state = State {
            rng: fastrand::Rng::with_seed(seed),
            behaviour: Behaviour::Good,
            lifetime,
            in_flight: BTreeMap::new(),
            last_request: 0,
            sets: BTreeMap::new(),
            changes: BTreeMap::new(),
            rejections: BTreeMap::new(),
            logins: Logins::default(),
            used: BTreeMap::new(),
            denials: BTreeMap::new(),
            removals: BTreeMap::new(),
            issued: 0,
            expiries: BTreeMap::new(),
            fetches: BTreeMap::new(),
            taken: 0,
            adopted: 0,
            requests: 0,
            history: Vec::new(),
            violation: None,
        };
        let state = Arc::new(Mutex::new(state));
        Self { clock, state }
    }

    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    pub(crate) fn record(&self, line: &str) {
        let now = self.clock.now();
        self.state().history.push(format!("{now}  {line}"));
    }

    /// Records a violation; only the first one counts, because others may follow from it.
    pub(crate) fn violated(&self, what: String) {
        self.record(&format!("VIOLATION: {what}"));
        self.state().violation.get_or_insert(what);
    }

    /// Returns the newest token of a scope set if it is valid.
    pub(crate) fn valid_token(&self, key: &Key) -> Option<StoredToken> {
        let now = self.clock.now();
        let held = self.state().sets.get(key)?.held.clone();
        held.filter(|held| held.expires > now)
    }

    /// After a reload of a host: lets the next request of each scope set, and with each login, start immediately.
    pub(crate) fn allow_next(&self, host: usize) {
        let now = self.clock.now();
        let mut state = self.state();
        let sets = state.sets.iter_mut();
        for (_, set) in sets.filter(|((client, _), _)| host_of(client) == host) {
            set.may_start_now = true;
        }
        // A rejection after that is a confirmed one.
        let rejections = state.rejections.iter_mut();
        for (_, rejection) in rejections.filter(|(client, _)| host_of(client) == host) {
            rejection.until = now;
            rejection.is_confirmed = true;
        }
        state.logins.allow_next(host);
    }

    /// Sets the proxy login of a client.
    pub(crate) fn use_login(&self, client: &str, login: Option<u64>) {
        self.state().used.insert(client.to_owned(), login);
    }

    /// After new credentials: removes what the old ones caused.
    pub(crate) fn change_credentials(&self, client: &str) {
        let mut state = self.state();
        let sets = state.sets.iter_mut();
        for (_, set) in sets.filter(|((name, _), _)| name == client) {
            set.failures = 0;
            set.lifetime = None;
        }
        state.rejections.remove(client);
        let changes = state.changes.iter_mut();
        for (_, changes) in changes.filter(|((name, _), _)| name == client) {
            changes.pending = changes.removed.is_none();
        }
    }

    /// Adds a scope set to the config, for the first time or again.
    pub(crate) fn add(&self, key: &Key) {
        let now = self.clock.now();
        let mut state = self.state();
        let changes = state.changes.entry(key.clone()).or_default();
        let removed = changes.removed.take();
        changes.pending = removed.is_some_and(|at| now < at + CHANGE_INTERVAL * CHANGES_IN_A_ROW);
    }

    /// Removes a scope set from the config.
    pub(crate) fn remove(&self, key: &Key) {
        let now = self.clock.now();
        let mut state = self.state();
        state.sets.remove(key);
        state.changes.entry(key.clone()).or_default().removed = Some(now);
        *state.removals.entry(key.clone()).or_default() += 1;
    }

    pub(crate) fn removals(&self, key: &Key) -> u32 {
        self.state().removals.get(key).copied().unwrap_or(0)
    }

    /// Returns the lifetime of the scope set's last token.
    pub(crate) fn lifetime(&self, key: &Key) -> Option<Duration> {
        self.state().sets.get(key)?.lifetime
    }

    /// Returns whether Domo rejects the scope set or its client, or did so at this time.
    pub(crate) fn rejects(&self, key: &Key) -> bool {
        let state = self.state();
        state.rejections.contains_key(&key.0)
            || state.logins.is_rejected(state.login_of(key))
            || state.sets.get(key).is_some_and(|set| set.denied)
            || state.denials.get(&key.0) == Some(&self.clock.now())
    }

    /// Returns whether the client's first rejection, and nothing else, is what callers wait for to be confirmed.
    pub(crate) fn awaits_confirmation(&self, key: &Key) -> bool {
        let state = self.state();
        let rejection = state.rejections.get(&key.0);
        rejection.is_some_and(|rejection| !rejection.is_confirmed)
            && !state.logins.is_rejected(state.login_of(key))
    }

    /// Returns when the next response is due.
    pub(crate) fn first_due(&self) -> Option<BootTime> {
        let state = self.state();
        let in_flight = state.in_flight.values().filter(|f| f.sender.is_some());
        let due = in_flight.flat_map(|request| {
            let answer = request.outcome.map(|(at, _)| at);
            let tunnel = request.tunnel.as_ref().map(|(at, _)| *at);
            answer.into_iter().chain(tunnel)
        });
        due.min()
    }

    /// Sends the responses that are due.
    pub(crate) fn answer_due(&self) {
        let now = self.clock.now();
        let mut state = self.state();
        state.open_tunnels(now);
        let due: Vec<u64> = state
            .in_flight
            .iter()
            .filter(|(_, request)| request.sender.is_some())
            .filter(|(_, request)| request.outcome.is_some_and(|(at, _)| at <= now))
            .map(|(id, _)| *id)
            .collect();
        for id in due {
            state.answer(id, now);
        }
    }

    fn start(&self, source: &SimSource, scope: &ScopeSet) -> RequestGuard {
        let now = self.clock.now();
        let SimSource { valid, login, .. } = *source;
        let key = (source.client.clone(), scope.clone());
        let (sender, answer) = oneshot::channel();
        let (opener, tunnel) = oneshot::channel();
        let mut state = self.state();
        let fetch = state.fetches[&key];
        let problem = state.check_start(&key, fetch.at, now);
        let id = state.last_request + 1;
        let problem = problem.or(state.logins.start(login, id, fetch.login_works, now));
        let is_wrong = state.logins.is_wrong(login);
        let State {
            rng,
            behaviour,
            lifetime,
            ..
        } = &mut *state;
        let outcome = behaviour.outcome(rng, *lifetime, valid);
        let outcome = outcome.map(|(delay, answer)| (delay, answer.through_proxy(is_wrong)));
        let is_opened = login.is_some() && !is_wrong && Answer::has_tunnel(outcome, rng);
        let opened_after = outcome.map_or(Duration::from_millis(10), |(delay, _)| delay / 2);
        state.last_request = id;
        state.requests += 1;
        let line = format!("{now}  request {id} for {} {}: {outcome:?}", key.0, key.1);
        state.history.push(line);
        let lifetime = state.sets.get(&key).and_then(|set| set.lifetime);
        let request = InFlight {
            key,
            login,
            fetch_started: fetch.at,
            started: now,
            late: now + request_timeout(lifetime) + REQUEST_GRACE,
            outcome: outcome.map(|(delay, answer)| (now + delay, answer)),
            tunnel: is_opened.then_some((now + opened_after, opener)),
            has_tunnel: false,
            sender: Some(sender),
        };
        state.in_flight.insert(id, request);
        drop(state);
        if let Some(problem) = problem {
            self.violated(problem);
        }
        RequestGuard {
            domo: self.clone(),
            id,
            tunnel: Some(tunnel),
            answer: Some(answer),
        }
    }
}

/// Returns the host whose name a client's has at its end.
fn host_of(client: &str) -> usize {
    let name = client.trim_start_matches(|c: char| !c.is_ascii_digit());
    name.parse().unwrap_or(0)
}

/// A request in flight, which is aborted when this is dropped.
struct RequestGuard {
    domo: Domo,
    id: u64,
    tunnel: Option<oneshot::Receiver<()>>,
    answer: Option<oneshot::Receiver<Result<Fetched, FetchError>>>,
}

impl Drop for RequestGuard {
    fn drop(&mut self) {
        let now = self.domo.clock.now();
        let mut state = self.domo.state();
        let Some(request) = state.in_flight.remove(&self.id) else {
            return;
        };
        if request.sender.is_some() {
            let problem = state.logins.aborted(request.login, self.id, now);
            state.violation = state.violation.take().or(problem);
            // One aborted earlier was of old credentials or of a removed scope set.
            if now >= request.late {
                state.backs_off(&request.key, Duration::ZERO, now);
            }
            let line = format!("{now}  request {} given up", self.id);
            state.history.push(line);
        }
        state.logins.ended(request.login, self.id);
    }
}

/// The token source of one client.
pub(crate) struct SimSource {
    pub(crate) domo: Domo,
    pub(crate) client: String,
    /// Whether Domo accepts its secret.
    pub(crate) valid: bool,
    /// Its proxy login.
    pub(crate) login: Option<u64>,
}

impl TokenSource for SimSource {
    async fn fetch(
        &self,
        occasion: &Occasion,
        on_progress: &(dyn Fn(Progress) + Send + Sync),
    ) -> Fetch {
        on_progress(Progress::Requested);
        let mut started = self.domo.start(self, &occasion.scope);
        if let Some(tunnel) = started.tunnel.take()
            && tunnel.await.is_ok()
        {
            on_progress(Progress::TunnelOpened);
        }
        let result = match started.answer.take() {
            Some(answer) => answer.await.unwrap_or_else(|_| Err(denied(true))),
            None => Err(denied(true)),
        };
        result.into()
    }
}

//! The simulated Domo: its responses, their times, and which requests it must never receive.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use domo_token::platform::clock::{BootTime, Clock};
use domo_token::source::TokenSource;
use domo_token_core::fetch_result::{FetchError, Fetched, LifetimeSource};
use domo_token_core::schedule::{
    BACKOFF_FIRST, BACKOFF_MAX, CHANGE_INTERVAL, CHANGES_IN_A_ROW, CONFIRM_AFTER, DENIED_RETRY,
    REQUEST_GRACE, RETRY_AFTER_MAX, floor, request_timeout,
};
use domo_token_core::scheduler::MAX_IN_FLIGHT_PER_CLIENT;
use domo_token_protocol::scope::ScopeSet;
use tokio::sync::oneshot;

use crate::behaviour::{Answer, Behaviour};
use crate::clock::SimClock;
use crate::logins::Logins;

/// A client's name and one of its scope sets.
pub(crate) type Key = (String, ScopeSet);

struct InFlight {
    key: Key,
    /// The proxy login that it was sent with.
    login: Option<u64>,
    started: BootTime,
    /// When the broker has aborted it.
    late: BootTime,
    outcome: Option<(BootTime, Answer)>,
    /// When the proxy opens its tunnel, unless it has already.
    tunnel: Option<(BootTime, oneshot::Sender<()>)>,
    has_tunnel: bool,
    sender: Option<oneshot::Sender<Result<Fetched, FetchError>>>,
}

/// The newest token that the broker obtained for a scope set.
#[derive(Clone, Debug)]
pub(crate) struct StoredToken {
    pub(crate) text: String,
    /// The text and the expiry of the one before.
    pub(crate) before: Option<(String, BootTime)>,
    /// When it was obtained.
    pub(crate) since: BootTime,
    pub(crate) lifetime: Duration,
    pub(crate) expires: BootTime,
}

/// The state of one scope set.
#[derive(Default)]
struct SetState {
    /// No request may start earlier, and why.
    not_before: Option<(BootTime, &'static str)>,
    /// Whether the next request may start immediately.
    may_start_now: bool,
    held: Option<StoredToken>,
    /// The lifetime of its last token.
    pub(crate) lifetime: Option<Duration>,
    /// Attempts that failed in a row.
    failures: u32,
    /// Whether the last of them was rejected.
    denied: bool,
}

/// The requests that new credentials caused for a scope set, over its removals.
#[derive(Default)]
pub(crate) struct Changes {
    /// Whether they cause the next request.
    pub(crate) pending: bool,
    /// When the requests that they caused started.
    pub(crate) starts: Vec<BootTime>,
    /// When the scope set was removed.
    removed: Option<BootTime>,
}

impl Changes {
    /// Checks that there were three in a row, then one per interval, counted from each request.
    pub(crate) fn check(&self) -> Option<String> {
        let last = *self.starts.last()?;
        for (number, first) in self.starts.iter().enumerate() {
            let count = self.starts.len() - number;
            let span = last.saturating_since(*first);
            let refilled = span.as_millis() / CHANGE_INTERVAL.as_millis();
            if count as u128 > u128::from(CHANGES_IN_A_ROW) + refilled {
                return Some(format!("{count} requests by new credentials in {span:?}"));
            }
        }
        None
    }
}

/// A rejection of a client.
#[derive(Clone, Copy)]
struct Rejection {
    /// When the last rejection that counts happened.
    since: BootTime,
    /// Until when none of its scope sets may start a request.
    until: BootTime,
    /// Whether a second request confirmed it.
    is_confirmed: bool,
}

/// Shared between the driver and all sources.
pub(crate) struct State {
    pub(crate) rng: fastrand::Rng,
    pub(crate) behaviour: Behaviour,
    pub(crate) lifetime: Duration,
    in_flight: BTreeMap<u64, InFlight>,
    last_request: u64,
    sets: BTreeMap<Key, SetState>,
    changes: BTreeMap<Key, Changes>,
    rejections: BTreeMap<String, Rejection>,
    pub(crate) logins: Logins,
    /// The login that each client uses.
    pub(crate) used: BTreeMap<String, Option<u64>>,
    /// When a client or one of its scope sets was rejected last.
    denials: BTreeMap<String, BootTime>,
    /// How often a scope set was removed from the config.
    pub(crate) removals: BTreeMap<Key, u32>,
    issued: u64,
    pub(crate) requests: u64,
    pub(crate) history: Vec<String>,
    pub(crate) violation: Option<String>,
}

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

    /// After a reload: lets the next request of each scope set, and with each login, start immediately.
    pub(crate) fn allow_next(&self) {
        let now = self.clock.now();
        let mut state = self.state();
        for set in state.sets.values_mut() {
            set.may_start_now = true;
        }
        // A rejection after that is a confirmed one.
        for rejection in state.rejections.values_mut() {
            rejection.until = now;
            rejection.is_confirmed = true;
        }
        state.logins.allow_next();
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
        let problem = state.check_start(&key, now);
        let id = state.last_request + 1;
        let problem = problem.or(state.logins.start(login, id, now));
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

impl State {
    /// Checks invariants (b) and (c): one request at a time, never too early.
    fn check_start(&mut self, key: &Key, now: BootTime) -> Option<String> {
        let same = |request: &&InFlight| request.key == *key;
        if self.in_flight.values().any(|request| same(&request)) {
            return Some(format!("two requests at once for {key:?}"));
        }
        let of_client = |request: &&InFlight| request.key.0 == key.0;
        if self.in_flight.values().filter(of_client).count() >= MAX_IN_FLIGHT_PER_CLIENT {
            return Some(format!("too many requests at once for client {}", key.0));
        }
        let changes = self.changes.entry(key.clone()).or_default();
        if std::mem::take(&mut changes.pending) {
            changes.starts.push(now);
            if let Some(problem) = changes.check() {
                return Some(format!("{key:?}: {problem}"));
            }
        }
        let set = self.sets.entry(key.clone()).or_default();
        if std::mem::take(&mut set.may_start_now) {
            set.not_before = None;
            return None;
        }
        if let Some((at, why)) = set.not_before
            && now < at
        {
            return Some(format!("a request for {key:?} before {at}: {why}"));
        }
        let rejection = self.rejections.get(&key.0);
        // A request that is due at the time of the rejection may start before it.
        let rejection =
            rejection.filter(|rejection| now < rejection.until && now > rejection.since);
        rejection.map(|rejection| {
            format!(
                "a request for {key:?} before {}: its client is rejected",
                rejection.until
            )
        })
    }

    /// Opens the tunnels that are due.
    fn open_tunnels(&mut self, now: BootTime) {
        let in_flight = self.in_flight.values_mut();
        for request in in_flight.filter(|request| request.sender.is_some()) {
            // The broker has aborted a request that is this late.
            let is_late = request.late <= now;
            if let Some((_, opener)) = request.tunnel.take_if(|(at, _)| *at <= now)
                && !is_late
                && opener.send(()).is_ok()
            {
                request.has_tunnel = true;
                self.logins.opened(request.login, now);
            }
        }
    }

    fn answer(&mut self, id: u64, now: BootTime) {
        let Some(request) = self.in_flight.get_mut(&id) else {
            return;
        };
        let (key, started, late) = (request.key.clone(), request.started, request.late);
        let (login, has_tunnel) = (request.login, request.has_tunnel);
        let Some((sender, (_, answer))) = request.sender.take().zip(request.outcome) else {
            return;
        };
        self.history.push(format!("{now}  answer {id}"));
        if late <= now {
            self.logins.ended(login, id);
            self.backs_off(&key, Duration::ZERO, now);
            let never = Duration::from_secs(3600);
            let _ = sender.send(Ok(fetched("c4nary-late", never, &key)));
            return;
        }
        if let Answer::LoginRejected = answer {
            let problem = self.logins.rejected(login, id, now);
            self.violation = self.violation.take().or(problem);
        } else if !has_tunnel {
            self.logins.failed_otherwise(login);
        }
        self.logins.ended(login, id);
        let result = match answer {
            Answer::Token(lifetime) => Ok(self.grant(&key, lifetime, started, now)),
            Answer::SameToken => Ok(self.reissue(&key, started, now)),
            Answer::Transient(cause, retry_after) => {
                let lasting = BACKOFF_MAX / 2 * u32::from(cause.is_lasting());
                let requested = retry_after.unwrap_or_default().min(RETRY_AFTER_MAX);
                self.backs_off(&key, lasting.max(requested), now);
                let message = format!("{cause}");
                Err(FetchError::Transient {
                    cause,
                    message,
                    retry_after,
                })
            }
            Answer::ClientRejected => {
                let until = self.rejected(&key.0, started, now);
                self.denied(&key, until, now);
                Err(denied(false))
            }
            Answer::ScopeRejected => {
                self.denied(&key, now + DENIED_RETRY, now);
                self.rejections.remove(&key.0);
                Err(denied(true))
            }
            Answer::LoginRejected => {
                self.denied(&key, now, now);
                Err(FetchError::ProxyLogin {
                    message: "the proxy answered 407".to_owned(),
                })
            }
        };
        let _ = sender.send(result);
    }

    /// Records a failure: the next attempt follows after half the doubled wait, or `least` if that is longer.
    fn backs_off(&mut self, key: &Key, least: Duration, now: BootTime) {
        let set = self.sets.entry(key.clone()).or_default();
        let doubled = BACKOFF_FIRST * 2_u32.pow(set.failures.min(10));
        let wait = (doubled.min(BACKOFF_MAX) / 2).max(least);
        set.failures += 1;
        set.denied = false;
        set.not_before = Some((now + wait, "back-off"));
    }

    /// Records a rejection of the client by the response to a request that started at `started`. Returns until when its
    /// scope set must wait.
    fn rejected(&mut self, client: &str, started: BootTime, now: BootTime) -> BootTime {
        let new = Rejection {
            since: now,
            until: now + CONFIRM_AFTER,
            is_confirmed: false,
        };
        let Some(rejection) = self.rejections.get_mut(client) else {
            self.rejections.insert(client.to_owned(), new);
            return new.until;
        };
        if !rejection.is_confirmed && started <= rejection.since {
            // It was in flight at the time of the first rejection.
            return rejection.until;
        }
        if !rejection.is_confirmed || rejection.until <= now {
            rejection.since = now;
            rejection.until = now + DENIED_RETRY;
            rejection.is_confirmed = true;
        }
        now + DENIED_RETRY
    }

    fn denied(&mut self, key: &Key, until: BootTime, now: BootTime) {
        self.denials.insert(key.0.clone(), now);
        let set = self.sets.entry(key.clone()).or_default();
        set.failures += 1;
        set.denied = true;
        set.not_before = Some((until, "rejected"));
    }

    fn login_of(&self, key: &Key) -> Option<u64> {
        self.used.get(&key.0).copied().flatten()
    }

    fn grant(
        &mut self,
        key: &Key,
        lifetime: Duration,
        started: BootTime,
        now: BootTime,
    ) -> Fetched {
        self.issued += 1;
        let text = format!("c4nary-{}", self.issued);
        self.take(key, &text, lifetime, started, now);
        fetched(&text, lifetime, key)
    }

    /// Returns the same text again with the same expiry, if the broker's token is valid; otherwise a new one.
    fn reissue(&mut self, key: &Key, started: BootTime, now: BootTime) -> Fetched {
        let held = self.sets.get(key).and_then(|set| set.held.clone());
        let Some(held) = held.filter(|held| held.expires > now) else {
            let lifetime = self.lifetime;
            return self.grant(key, lifetime, started, now);
        };
        let left = held.expires.saturating_since(started);
        let left = Duration::from_secs(left.as_secs().max(1));
        self.take(key, &held.text, left, started, now);
        let set = self.sets.entry(key.clone()).or_default();
        set.lifetime = Some(held.lifetime);
        if let Some(still) = &mut set.held {
            still.lifetime = held.lifetime;
        }
        fetched(&held.text, left, key)
    }

    fn take(
        &mut self,
        key: &Key,
        text: &str,
        lifetime: Duration,
        started: BootTime,
        now: BootTime,
    ) {
        let expires = started + lifetime;
        if expires <= now {
            self.backs_off(key, Duration::ZERO, now);
            return;
        }
        let set = self.sets.entry(key.clone()).or_default();
        set.failures = 0;
        set.denied = false;
        set.not_before = Some((started + floor(lifetime), "the floor"));
        set.lifetime = Some(lifetime);
        set.held = Some(StoredToken {
            text: text.to_owned(),
            before: set.held.take().map(|held| (held.text, held.expires)),
            since: now,
            lifetime,
            expires,
        });
        self.rejections.remove(&key.0);
    }
}

fn denied(scope_only: bool) -> FetchError {
    FetchError::Denied {
        scope_only,
        message: "Domo answered 401".to_owned(),
    }
}

fn fetched(text: &str, lifetime: Duration, key: &Key) -> Fetched {
    Fetched {
        text: text.into(),
        lifetime,
        expires: None,
        lifetime_source: LifetimeSource::Stated,
        granted: key.1.clone(),
    }
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
        scope: &ScopeSet,
        _: Duration,
        on_tunnel: &(dyn Fn() + Send + Sync),
    ) -> Result<Fetched, FetchError> {
        let mut started = self.domo.start(self, scope);
        if let Some(tunnel) = started.tunnel.take()
            && tunnel.await.is_ok()
        {
            on_tunnel();
        }
        match started.answer.take() {
            Some(answer) => answer.await.unwrap_or_else(|_| Err(denied(true))),
            None => Err(denied(true)),
        }
    }
}

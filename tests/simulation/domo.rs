//! The simulated Domo: what it answers, when, and what it must never be asked.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use domo_token::platform::clock::{BootTime, Clock};
use domo_token::source::TokenSource;
use domo_token_core::fetch::{FetchError, Fetched, LifetimeSource};
use domo_token_core::schedule::{
    BACKOFF_FIRST, BACKOFF_MAX, CHANGE_INTERVAL, CHANGES_IN_A_ROW, CONFIRM_AFTER, DENIED_RETRY,
    REQUEST_GRACE, RETRY_AFTER_MAX, floor, request_timeout,
};
use domo_token_core::scheduler::MAX_IN_FLIGHT_PER_CLIENT;
use domo_token_protocol::scope::ScopeSet;
use tokio::sync::oneshot;

use crate::clock::SimClock;
use crate::logins::Logins;
use crate::weather::{Answer, Weather};

/// A client's name and one of its scope sets.
pub(crate) type Key = (String, ScopeSet);

struct Flight {
    key: Key,
    /// The login at the proxy that it was sent with.
    login: Option<u64>,
    started: BootTime,
    /// From then on an answer comes too late.
    late: BootTime,
    fate: Option<(BootTime, Answer)>,
    /// When the proxy opens its tunnel, if it does and has not yet.
    tunnel: Option<(BootTime, oneshot::Sender<()>)>,
    /// Whether it has.
    has_tunnel: bool,
    sender: Option<oneshot::Sender<Result<Fetched, FetchError>>>,
}

/// The newest token that the broker has got for a set.
#[derive(Clone, Debug)]
pub(crate) struct StoredToken {
    pub(crate) text: String,
    /// The text of the one before, and when it ends.
    pub(crate) before: Option<(String, BootTime)>,
    /// When it came.
    pub(crate) since: BootTime,
    pub(crate) lifetime: Duration,
    pub(crate) expires: BootTime,
}

/// What is known of one scope set.
#[derive(Default)]
struct Set {
    /// No request may start earlier, and why.
    not_before: Option<(BootTime, &'static str)>,
    /// Something happened that lets the next request start at once.
    excused: bool,
    held: Option<StoredToken>,
    /// The lifetime of its last token.
    pub(crate) lifetime: Option<Duration>,
    /// Attempts that failed in a row.
    failures: u32,
    /// Whether the last of them was refused.
    denied: bool,
}

/// What new credentials have cost a scope set, over its removals.
#[derive(Default)]
pub(crate) struct Changes {
    /// Whether they cause its next request.
    pub(crate) pending: bool,
    /// When those that they caused began.
    pub(crate) starts: Vec<BootTime>,
    /// When the set left the config.
    removed: Option<BootTime>,
}

impl Changes {
    /// Three in a row, then one per interval: of the requests since each of them, no more.
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

/// A client that Domo refuses as a whole.
#[derive(Clone, Copy)]
struct Refused {
    /// When the last refusal came that counts.
    since: BootTime,
    /// Until when none of its sets may ask.
    until: BootTime,
    /// Whether a second request was refused, too.
    is_confirmed: bool,
}

/// Shared between the driver and all sources.
pub(crate) struct State {
    pub(crate) rng: fastrand::Rng,
    pub(crate) weather: Weather,
    pub(crate) lifetime: Duration,
    flights: BTreeMap<u64, Flight>,
    last_flight: u64,
    sets: BTreeMap<Key, Set>,
    changes: BTreeMap<Key, Changes>,
    refused: BTreeMap<String, Refused>,
    pub(crate) logins: Logins,
    /// The login that each client uses.
    pub(crate) used: BTreeMap<String, Option<u64>>,
    /// When a refusal came last, for a client or one of its sets.
    denials: BTreeMap<String, BootTime>,
    /// How often a set was taken out of the config.
    pub(crate) removals: BTreeMap<Key, u32>,
    issued: u64,
    pub(crate) requests: u64,
    pub(crate) history: Vec<String>,
    pub(crate) violation: Option<String>,
}

/// Domo. Clones are the same one.
#[derive(Clone)]
pub(crate) struct Domo {
    pub(crate) clock: SimClock,
    state: Arc<Mutex<State>>,
}

impl Domo {
    pub(crate) fn new(clock: SimClock, seed: u64, lifetime: Duration) -> Self {
        let state = State {
            rng: fastrand::Rng::with_seed(seed),
            weather: Weather::Good,
            lifetime,
            flights: BTreeMap::new(),
            last_flight: 0,
            sets: BTreeMap::new(),
            changes: BTreeMap::new(),
            refused: BTreeMap::new(),
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

    pub(crate) fn note(&self, line: &str) {
        let now = self.clock.now();
        self.state().history.push(format!("{now}  {line}"));
    }

    /// The first violation counts; what follows may only follow from it.
    pub(crate) fn violated(&self, what: String) {
        self.note(&format!("VIOLATION: {what}"));
        self.state().violation.get_or_insert(what);
    }

    /// The newest token of a set, if it lives.
    pub(crate) fn held(&self, key: &Key) -> Option<StoredToken> {
        let now = self.clock.now();
        let held = self.state().sets.get(key)?.held.clone();
        held.filter(|held| held.expires > now)
    }

    /// Lets the next request of each set, and with each login, start at once: a reload.
    pub(crate) fn excuse(&self) {
        let now = self.clock.now();
        let mut state = self.state();
        for set in state.sets.values_mut() {
            set.excused = true;
        }
        // What is refused then is refused again.
        for refused in state.refused.values_mut() {
            refused.until = now;
            refused.is_confirmed = true;
        }
        state.logins.excuse();
    }

    /// The client goes through a proxy with that login from now on.
    pub(crate) fn use_login(&self, client: &str, login: Option<u64>) {
        self.state().used.insert(client.to_owned(), login);
    }

    /// New credentials: what the old ones ran into is no longer counted.
    pub(crate) fn start_afresh(&self, client: &str) {
        let mut state = self.state();
        let sets = state.sets.iter_mut();
        for (_, set) in sets.filter(|((name, _), _)| name == client) {
            set.failures = 0;
            set.lifetime = None;
        }
        state.refused.remove(client);
        let changes = state.changes.iter_mut();
        for (_, changes) in changes.filter(|((name, _), _)| name == client) {
            changes.pending = changes.removed.is_none();
        }
    }

    /// The set is in the config, for the first time or again.
    pub(crate) fn add(&self, key: &Key) {
        let now = self.clock.now();
        let mut state = self.state();
        let changes = state.changes.entry(key.clone()).or_default();
        let removed = changes.removed.take();
        changes.pending = removed.is_some_and(|at| now < at + CHANGE_INTERVAL * CHANGES_IN_A_ROW);
    }

    /// The set leaves the config.
    pub(crate) fn forget(&self, key: &Key) {
        let now = self.clock.now();
        let mut state = self.state();
        state.sets.remove(key);
        state.changes.entry(key.clone()).or_default().removed = Some(now);
        *state.removals.entry(key.clone()).or_default() += 1;
    }

    pub(crate) fn removals(&self, key: &Key) -> u32 {
        self.state().removals.get(key).copied().unwrap_or(0)
    }

    /// The lifetime that the broker knows of.
    pub(crate) fn lifetime(&self, key: &Key) -> Option<Duration> {
        self.state().sets.get(key)?.lifetime
    }

    /// Whether Domo refuses the set, or its client, or did so just now.
    pub(crate) fn refuses(&self, key: &Key) -> bool {
        let state = self.state();
        state.refused.contains_key(&key.0)
            || state.logins.is_rejected(state.login_of(key))
            || state.sets.get(key).is_some_and(|set| set.denied)
            || state.denials.get(&key.0) == Some(&self.clock.now())
    }

    /// Whether the set's client was refused once, and nothing but that keeps its callers from waiting for the
    /// confirmation.
    pub(crate) fn awaits_confirmation(&self, key: &Key) -> bool {
        let state = self.state();
        let refused = state.refused.get(&key.0);
        refused.is_some_and(|refused| !refused.is_confirmed)
            && !state.logins.is_rejected(state.login_of(key))
    }

    /// When the next answer comes.
    pub(crate) fn first_due(&self) -> Option<BootTime> {
        let state = self.state();
        let flights = state.flights.values().filter(|f| f.sender.is_some());
        let due = flights.flat_map(|flight| {
            let answer = flight.fate.map(|(at, _)| at);
            let tunnel = flight.tunnel.as_ref().map(|(at, _)| *at);
            answer.into_iter().chain(tunnel)
        });
        due.min()
    }

    /// Sends the answers that are due.
    pub(crate) fn answer_due(&self) {
        let now = self.clock.now();
        let mut state = self.state();
        state.open_tunnels(now);
        let due: Vec<u64> = state
            .flights
            .iter()
            .filter(|(_, flight)| flight.sender.is_some())
            .filter(|(_, flight)| flight.fate.is_some_and(|(at, _)| at <= now))
            .map(|(id, _)| *id)
            .collect();
        for id in due {
            state.answer(id, now);
        }
    }

    fn start(&self, source: &SimSource, scope: &ScopeSet) -> Started {
        let now = self.clock.now();
        let SimSource { valid, login, .. } = *source;
        let key = (source.client.clone(), scope.clone());
        let (sender, answer) = oneshot::channel();
        let (opener, tunnel) = oneshot::channel();
        let mut state = self.state();
        let problem = state.check_start(&key, now);
        let id = state.last_flight + 1;
        let problem = problem.or(state.logins.start(login, id, now));
        let is_wrong = state.logins.is_wrong(login);
        let State {
            rng,
            weather,
            lifetime,
            ..
        } = &mut *state;
        let fate = weather.fate(rng, *lifetime, valid);
        let fate = fate.map(|(delay, answer)| (delay, answer.through_proxy(is_wrong)));
        let is_opened = login.is_some() && !is_wrong && Answer::has_tunnel(fate, rng);
        let opened_after = fate.map_or(Duration::from_millis(10), |(delay, _)| delay / 2);
        state.last_flight = id;
        state.requests += 1;
        let line = format!("{now}  request {id} for {} {}: {fate:?}", key.0, key.1);
        state.history.push(line);
        let lifetime = state.sets.get(&key).and_then(|set| set.lifetime);
        let flight = Flight {
            key,
            login,
            started: now,
            late: now + request_timeout(lifetime) + REQUEST_GRACE,
            fate: fate.map(|(delay, answer)| (now + delay, answer)),
            tunnel: is_opened.then_some((now + opened_after, opener)),
            has_tunnel: false,
            sender: Some(sender),
        };
        state.flights.insert(id, flight);
        drop(state);
        if let Some(problem) = problem {
            self.violated(problem);
        }
        Started {
            domo: self.clone(),
            id,
            tunnel: Some(tunnel),
            answer: Some(answer),
        }
    }
}

impl State {
    /// Invariants (b) and (c): one request at a time, never too soon.
    fn check_start(&mut self, key: &Key, now: BootTime) -> Option<String> {
        let same = |flight: &&Flight| flight.key == *key;
        if self.flights.values().any(|flight| same(&flight)) {
            return Some(format!("two requests at once for {key:?}"));
        }
        let of_client = |flight: &&Flight| flight.key.0 == key.0;
        if self.flights.values().filter(of_client).count() >= MAX_IN_FLIGHT_PER_CLIENT {
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
        if std::mem::take(&mut set.excused) {
            return None;
        }
        if let Some((at, why)) = set.not_before
            && now < at
        {
            return Some(format!("{key:?} asked before {at}: {why}"));
        }
        let refused = self.refused.get(&key.0);
        // What is due in the very moment of the refusal goes out first.
        let refused = refused.filter(|refused| now < refused.until && now > refused.since);
        refused.map(|refused| {
            format!(
                "{key:?} asked before {}: its client is refused",
                refused.until
            )
        })
    }

    /// Opens the tunnels that are due.
    fn open_tunnels(&mut self, now: BootTime) {
        let flights = self.flights.values_mut();
        for flight in flights.filter(|flight| flight.sender.is_some()) {
            // The broker has given it up when it is so late.
            let is_late = flight.late <= now;
            if let Some((_, opener)) = flight.tunnel.take_if(|(at, _)| *at <= now)
                && !is_late
                && opener.send(()).is_ok()
            {
                flight.has_tunnel = true;
                self.logins.opened(flight.login, now);
            }
        }
    }

    fn answer(&mut self, id: u64, now: BootTime) {
        let Some(flight) = self.flights.get_mut(&id) else {
            return;
        };
        let (key, started, late) = (flight.key.clone(), flight.started, flight.late);
        let (login, has_tunnel) = (flight.login, flight.has_tunnel);
        let Some((sender, (_, answer))) = flight.sender.take().zip(flight.fate) else {
            return;
        };
        self.history.push(format!("{now}  answer {id}"));
        if late <= now {
            self.logins.ended(login, id);
            self.backs_off(&key, Duration::ZERO, now);
            let never = Duration::from_secs(3600);
            let _dropped = sender.send(Ok(fetched("c4nary-late", never, &key)));
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
                let asked = retry_after.unwrap_or_default().min(RETRY_AFTER_MAX);
                self.backs_off(&key, lasting.max(asked), now);
                let words = format!("{cause}");
                Err(FetchError::Transient {
                    cause,
                    message: words,
                    retry_after,
                })
            }
            Answer::ClientRefused => {
                let until = self.refused(&key.0, started, now);
                self.denied(&key, until, now);
                Err(denied(false))
            }
            Answer::ScopeRefused => {
                self.denied(&key, now + DENIED_RETRY, now);
                self.refused.remove(&key.0);
                Err(denied(true))
            }
            Answer::LoginRejected => {
                self.denied(&key, now, now);
                Err(FetchError::ProxyLogin {
                    message: "the proxy answered 407".to_owned(),
                })
            }
        };
        let _aborted = sender.send(result);
    }

    /// The next attempt follows after half the doubled wait at least, or after `least`.
    fn backs_off(&mut self, key: &Key, least: Duration, now: BootTime) {
        let set = self.sets.entry(key.clone()).or_default();
        let doubled = BACKOFF_FIRST * 2_u32.pow(set.failures.min(10));
        let wait = (doubled.min(BACKOFF_MAX) / 2).max(least);
        set.failures += 1;
        set.denied = false;
        set.not_before = Some((now + wait, "back-off"));
    }

    /// Domo refuses the client with an answer to a request that was sent at `started`. Returns until when
    /// the set that sent it must wait.
    fn refused(&mut self, client: &str, started: BootTime, now: BootTime) -> BootTime {
        let new = Refused {
            since: now,
            until: now + CONFIRM_AFTER,
            is_confirmed: false,
        };
        let Some(refused) = self.refused.get_mut(client) else {
            self.refused.insert(client.to_owned(), new);
            return new.until;
        };
        if !refused.is_confirmed && started <= refused.since {
            // It was under way already when the first refusal came.
            return refused.until;
        }
        if !refused.is_confirmed || refused.until <= now {
            refused.since = now;
            refused.until = now + DENIED_RETRY;
            refused.is_confirmed = true;
        }
        now + DENIED_RETRY
    }

    fn denied(&mut self, key: &Key, until: BootTime, now: BootTime) {
        self.denials.insert(key.0.clone(), now);
        let set = self.sets.entry(key.clone()).or_default();
        set.failures += 1;
        set.denied = true;
        set.not_before = Some((until, "refused"));
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

    /// The text that the broker holds already, if it lives, with a life that ends as before.
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
        self.refused.remove(&key.0);
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

/// A request under way: given up if it is dropped.
struct Started {
    domo: Domo,
    id: u64,
    tunnel: Option<oneshot::Receiver<()>>,
    answer: Option<oneshot::Receiver<Result<Fetched, FetchError>>>,
}

impl Drop for Started {
    fn drop(&mut self) {
        let now = self.domo.clock.now();
        let mut state = self.domo.state();
        let Some(flight) = state.flights.remove(&self.id) else {
            return;
        };
        if flight.sender.is_some() {
            let problem = state.logins.given_up(flight.login, self.id, now);
            state.violation = state.violation.take().or(problem);
            // One given up earlier was of old credentials, or of a set that is gone.
            if now >= flight.late {
                state.backs_off(&flight.key, Duration::ZERO, now);
            }
            let line = format!("{now}  request {} given up", self.id);
            state.history.push(line);
        }
        state.logins.ended(flight.login, self.id);
    }
}

/// One client's way to Domo.
pub(crate) struct SimSource {
    pub(crate) domo: Domo,
    pub(crate) client: String,
    /// Whether Domo knows its secret.
    pub(crate) valid: bool,
    /// The login at the proxy that it goes through.
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

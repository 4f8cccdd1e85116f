//! What the simulated Domo remembers, and which requests it must never receive.

use std::collections::BTreeMap;
use std::time::Duration;

use domo_token::platform::clock::BootTime;
use domo_token_core::fetch_result::{FetchError, Fetched, LifetimeSource};
use domo_token_core::schedule::{
    BACKOFF_FIRST, BACKOFF_MAX, CHANGE_INTERVAL, CHANGES_IN_A_ROW, CONFIRM_AFTER, DENIED_RETRY,
    RETRY_AFTER_MAX, floor,
};
use domo_token_core::scheduler::MAX_IN_FLIGHT_PER_CLIENT;
use domo_token_protocol::scope::ScopeSet;
use tokio::sync::oneshot;

use super::fleet::FetchStart;
use crate::behaviour::{Answer, Behaviour};
use crate::logins::Logins;

/// A client's name and one of its scope sets.
pub(crate) type Key = (String, ScopeSet);

pub(super) struct InFlight {
    pub(super) key: Key,
    /// The proxy login that it was sent with.
    pub(super) login: Option<u64>,
    /// When its fetch started, which may have waited for another host.
    pub(super) fetch_started: BootTime,
    pub(super) started: BootTime,
    /// When the broker has aborted it.
    pub(super) late: BootTime,
    pub(super) outcome: Option<(BootTime, Answer)>,
    /// When the proxy opens its tunnel, unless it has already.
    pub(super) tunnel: Option<(BootTime, oneshot::Sender<()>)>,
    pub(super) has_tunnel: bool,
    pub(super) sender: Option<oneshot::Sender<Result<Fetched, FetchError>>>,
}

/// The newest token that the broker obtained for a scope set.
#[derive(Clone, Debug)]
pub(crate) struct StoredToken {
    pub(crate) text: String,
    /// The text and the expiry of the previous token.
    pub(crate) previous: Option<(String, BootTime)>,
    /// When it was obtained.
    pub(crate) since: BootTime,
    pub(crate) lifetime: Duration,
    pub(crate) expires: BootTime,
}

/// The state of one scope set.
#[derive(Default)]
pub(super) struct SetState {
    /// No request may start earlier, and why.
    pub(super) not_before: Option<(BootTime, &'static str)>,
    /// Whether the next request may start immediately.
    pub(super) may_start_now: bool,
    pub(super) held: Option<StoredToken>,
    /// The lifetime of its last token.
    pub(crate) lifetime: Option<Duration>,
    /// Attempts that failed in a row.
    pub(super) failures: u32,
    /// Whether the last of them was rejected.
    pub(super) denied: bool,
}

/// The requests that new credentials caused for a scope set, over its removals.
#[derive(Default)]
pub(crate) struct Changes {
    /// Whether they cause the next request.
    pub(crate) pending: bool,
    /// When the requests that they caused started.
    pub(crate) starts: Vec<BootTime>,
    /// When the scope set was removed.
    pub(super) removed: Option<BootTime>,
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
pub(super) struct Rejection {
    /// When the last rejection that counts happened.
    pub(super) since: BootTime,
    /// Until when none of its scope sets may start a request.
    pub(super) until: BootTime,
    /// Whether a second request confirmed it.
    pub(super) is_confirmed: bool,
}

/// Shared between the driver and all sources.
pub(crate) struct State {
    pub(crate) rng: fastrand::Rng,
    pub(crate) behaviour: Behaviour,
    pub(crate) lifetime: Duration,
    pub(super) in_flight: BTreeMap<u64, InFlight>,
    pub(super) last_request: u64,
    pub(super) sets: BTreeMap<Key, SetState>,
    pub(super) changes: BTreeMap<Key, Changes>,
    pub(super) rejections: BTreeMap<String, Rejection>,
    pub(crate) logins: Logins,
    /// The login that each client uses.
    pub(crate) used: BTreeMap<String, Option<u64>>,
    /// When a client or one of its scope sets was rejected last.
    pub(super) denials: BTreeMap<String, BootTime>,
    /// How often a scope set was removed from the config.
    pub(crate) removals: BTreeMap<Key, u32>,
    pub(super) issued: u64,
    /// The scope set and the expiry of each token.
    pub(super) expiries: BTreeMap<String, (ScopeSet, BootTime)>,
    /// The last fetch of each scope set.
    pub(super) fetches: BTreeMap<Key, FetchStart>,
    /// Tokens that hosts took from the store.
    pub(crate) taken: u64,
    /// Failures that hosts adopted.
    pub(crate) adopted: u64,
    pub(crate) requests: u64,
    pub(crate) history: Vec<String>,
    pub(crate) violation: Option<String>,
}

impl State {
    /// Checks invariants (b) and (c): one request at a time, never too early.
    pub(super) fn check_start(
        &mut self,
        key: &Key,
        fetch_started: BootTime,
        now: BootTime,
    ) -> Option<String> {
        let same = |request: &&InFlight| request.key == *key;
        if self.in_flight.values().any(|request| same(&request)) {
            return Some(format!("two requests at once for {key:?}"));
        }
        let of_client = |request: &&InFlight| request.key.0 == key.0;
        if self.in_flight.values().filter(of_client).count() >= MAX_IN_FLIGHT_PER_CLIENT {
            return Some(format!("too many requests at once for client {}", key.0));
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
            rejection.filter(|rejection| now < rejection.until && fetch_started > rejection.since);
        rejection.map(|rejection| {
            format!(
                "a request for {key:?} before {}: its client is rejected",
                rejection.until
            )
        })
    }

    /// Checks that changed credentials do not cause too many fetches.
    pub(super) fn check_change(&mut self, key: &Key, now: BootTime) -> Option<String> {
        let changes = self.changes.entry(key.clone()).or_default();
        if !std::mem::take(&mut changes.pending) {
            return None;
        }
        changes.starts.push(now);
        let problem = changes.check()?;
        Some(format!("{key:?}: {problem}"))
    }

    /// Opens the tunnels that are due.
    pub(super) fn open_tunnels(&mut self, now: BootTime) {
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

    pub(super) fn answer(&mut self, id: u64, now: BootTime) {
        let Some(request) = self.in_flight.get_mut(&id) else {
            return;
        };
        let (key, started, late) = (request.key.clone(), request.started, request.late);
        let fetch_started = request.fetch_started;
        let (login, has_tunnel) = (request.login, request.has_tunnel);
        let Some((sender, (_, answer))) = request.sender.take().zip(request.outcome) else {
            return;
        };
        self.history.push(format!("{now}  answer {id}"));
        if late <= now {
            self.logins.ended(login, id);
            self.backs_off(&key, Duration::ZERO, now);
            let never = Duration::from_secs(3600);
            let text = format!("c4nary-late-{id}");
            self.issue(&key, &text, started + never);
            let _ = sender.send(Ok(fetched(&text, never, &key)));
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
                let until = self.rejected(&key.0, fetch_started, now);
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
                    message: "the proxy returned 407".to_owned(),
                })
            }
        };
        let _ = sender.send(result);
    }

    /// Records a failure: the next attempt follows after half the doubled wait, or `least` if that is longer.
    pub(super) fn backs_off(&mut self, key: &Key, least: Duration, now: BootTime) {
        let set = self.sets.entry(key.clone()).or_default();
        let doubled = BACKOFF_FIRST * 2_u32.pow(set.failures.min(10));
        let wait = (doubled.min(BACKOFF_MAX) / 2).max(least);
        set.failures += 1;
        set.denied = false;
        set.not_before = Some((now + wait, "back-off"));
    }

    /// Records a rejection of the client by the response to a request whose fetch started at `started`. Returns until when its
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

    pub(super) fn login_of(&self, key: &Key) -> Option<u64> {
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

    fn issue(&mut self, key: &Key, text: &str, expires: BootTime) {
        let issued = self.expiries.entry(text.to_owned());
        let (_, until) = issued.or_insert((key.1.clone(), expires));
        *until = expires.max(*until);
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
        self.issue(key, text, expires);
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
            previous: set.held.take().map(|held| (held.text, held.expires)),
            since: now,
            lifetime,
            expires,
        });
        self.rejections.remove(&key.0);
    }
}

pub(super) fn denied(scope_only: bool) -> FetchError {
    FetchError::Denied {
        scope_only,
        in_domos_form: true,
        message: "Domo returned 401".to_owned(),
    }
}

fn fetched(text: &str, lifetime: Duration, key: &Key) -> Fetched {
    Fetched {
        text: text.into(),
        lifetime,
        expires: None,
        renew_at: None,
        origin: domo_token_core::fetch_result::TokenOrigin::Domo,
        lifetime_source: LifetimeSource::Stated,
        granted: key.1.clone(),
    }
}

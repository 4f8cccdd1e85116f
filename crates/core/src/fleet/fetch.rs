//! One fetch of a host that shares tokens: look for a token or a note, claim the lease, wait, request from Domo.
//!
//! No step is needed for correctness: a lost or doubled lease costs one request.

use std::time::Duration;

use domo_token_protocol::BootTime;
use domo_token_protocol::messages::TokenText;
use domo_token_protocol::scope::ScopeSet;
use secrecy::ExposeSecret;

use super::clocks::{self, StoreTime, expiry, on_both_clocks};
use super::memory::{SetMemory, last_request};
use super::notes::{NOTE_MAX, Report};
use super::timing::{self, LEASE, SHORTEST_POSTPONED, SUSPECT_LEASE, is_shared};
use super::{HostId, NoteRecord, NotedFailure, TokenRecord};
use crate::fetch::{AgreedRetry, Fetch, Occasion};
use crate::fetch_result::{FetchError, Fetched, LifetimeSource, TokenOrigin};
use crate::schedule::{DENIED_RETRY, min_left_to_serve, wait_after_failure};
use crate::token::Token;

/// How much later than the held token another one must expire to replace it: clocks are read to a second.
pub(super) const OUTLIVES_BY: Duration = Duration::from_secs(1);

/// What to do next.
#[derive(Debug)]
pub enum Step {
    /// Look at the store; continue with [`FleetFetch::looked`].
    Look,
    /// Claim the lease for that long; continue with [`FleetFetch::claimed`].
    Claim(Duration),
    /// Extend the lease, which this host holds since an earlier fetch; continue with [`FleetFetch::extended`].
    Extend,
    /// Wait until then; continue with [`FleetFetch::waited`].
    Wait(BootTime),
    /// The store cannot be used: wait until then, or until an earlier such time of the same outage, so that the waits of
    /// a host's scope sets do not add up; continue with [`FleetFetch::waited`].
    WaitAlone(BootTime),
    /// Request a token from Domo; continue with [`FleetFetch::responded`].
    Request {
        /// Whether to extend the lease meanwhile.
        is_extended: bool,
    },
    /// The fetch has ended.
    End(Box<End>),
}

/// The end of a fetch.
#[derive(Debug)]
pub struct End {
    /// What the schedule receives.
    pub fetch: Fetch,
    /// What is stored for the other hosts after that.
    pub publication: Option<Publication>,
    /// What the next fetch of the scope set begins with.
    pub memory: SetMemory,
    /// Whether it waited for the holders of leases until its patience ended, and no token was stored.
    pub has_waited_in_vain: bool,
}

/// What a host stores for the others.
#[derive(Debug)]
pub enum Publication {
    /// A token that it has obtained.
    Token(ObtainedToken),
    /// A failure.
    Note(Report),
}

/// A token that this host has obtained.
#[derive(Clone, Debug)]
pub struct ObtainedToken {
    text: TokenText,
    granted: ScopeSet,
    lifetime: Duration,
    expires: BootTime,
}

/// What the store holds for a scope set, opened.
#[derive(Debug)]
pub struct Looked {
    /// The store's time.
    pub time: StoreTime,
    /// The token, if one is stored and opens.
    pub token: Option<TokenRecord>,
    /// The note, if one is stored and opens.
    pub note: Option<NoteRecord>,
}

/// That the store could not be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StoreFailed;

/// One fetch of a host that shares tokens.
#[derive(Debug)]
pub struct FleetFetch {
    host: HostId,
    occasion: Occasion,
    memory: SetMemory,
    /// Until when it waits for the holders of leases.
    patient_until: BootTime,
    /// The count of the note that was stored when it looked.
    noted: u32,
    /// Whether a stored token was too short-lived by this host's clocks.
    is_beside_token: bool,
    has_waited: bool,
    has_waited_in_vain: bool,
    mode: Mode,
}

/// How the fetch gets its token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mode {
    /// Through the store.
    Looks,
    /// By a request under the lease.
    Leased,
    /// By a request without a lease.
    Alone,
}

impl FleetFetch {
    /// Starts a fetch. `may_look` is false while the store is not used after a failure.
    pub fn start(
        host: HostId,
        occasion: Occasion,
        memory: SetMemory,
        may_look: bool,
        now: BootTime,
        rng: &mut fastrand::Rng,
    ) -> (Self, Step) {
        let mut fetch = Self {
            host,
            occasion,
            memory,
            patient_until: now + timing::patience(rng),
            noted: 0,
            is_beside_token: false,
            has_waited: false,
            has_waited_in_vain: false,
            mode: Mode::Looks,
        };
        let step = if !fetch.lifetime().is_none_or(is_shared) {
            Step::Request { is_extended: false }
        } else if may_look {
            Step::Look
        } else {
            fetch.store_failed(now, rng)
        };
        (fetch, step)
    }

    /// Does not wait for the holder of a lease if no token is held, because another scope set of this host has just
    /// waited in vain: a store that keeps leases would delay one scope set after the other. Each scope set makes use of
    /// that once until it has a token.
    pub fn hurry(&mut self, now: BootTime) {
        if self.occasion.held.is_none() && !self.memory.has_waited_in_vain {
            self.patient_until = now;
        }
    }

    /// Continues after a look.
    pub fn looked(
        &mut self,
        looked: Result<Looked, StoreFailed>,
        now: BootTime,
        rng: &mut fastrand::Rng,
    ) -> Step {
        let Ok(looked) = looked else {
            return self.store_failed(now, rng);
        };
        if let Some(record) = &looked.token
            && let Some(fetched) = self.take(record, &looked.time, now, rng)
        {
            return self.end(Fetch::Obtained(fetched), None);
        }
        self.noted = 0;
        if let Some(note) = looked.note {
            self.noted = note.count;
            let until = note.binds(&looked.time, self.host);
            let is_new = note.until_engine_ms > self.memory.last_note_ms;
            if let Some(until) = until.filter(|_| is_new && !self.occasion.ignores_notes) {
                self.memory.last_note_ms = note.until_engine_ms;
                let agreed = AgreedRetry {
                    failures: note.count,
                    at: until + timing::after_note(rng),
                };
                let message = format!("another host's request failed: {}", note.message);
                let fetch = Fetch::Failed {
                    error: note.failure.error(message),
                    agreed: Some(agreed),
                };
                return self.end(fetch, None);
            }
        }
        Step::Claim(self.lease())
    }

    /// Continues after a claim of the lease, which was taken if `claimed` is true.
    pub fn claimed(
        &mut self,
        claimed: Result<bool, StoreFailed>,
        now: BootTime,
        rng: &mut fastrand::Rng,
    ) -> Step {
        match claimed {
            Err(StoreFailed) => return self.store_failed(now, rng),
            Ok(true) => return self.request(Mode::Leased),
            Ok(false) => {}
        }
        if self.memory.holds_lease(now) {
            return Step::Extend;
        }
        if let Some(at) = self.leaves_renewal_until(now, rng) {
            return self.end(Fetch::Postponed(at), None);
        }
        let waits_again = self.is_beside_token && self.memory.waited_beside_token;
        if now >= self.waits_until() || waits_again {
            if self.occasion.held.is_none() {
                self.has_waited_in_vain = self.has_waited;
                self.memory.has_waited_in_vain = true;
            }
            return self.request(Mode::Alone);
        }
        self.has_waited = true;
        Step::Wait(now + timing::look_again(self.memory.is_suspect, rng))
    }

    /// Continues after the own lease was extended.
    pub fn extended(
        &mut self,
        extended: Result<(), StoreFailed>,
        now: BootTime,
        rng: &mut fastrand::Rng,
    ) -> Step {
        match extended {
            Ok(()) => self.request(Mode::Leased),
            Err(StoreFailed) => self.store_failed(now, rng),
        }
    }

    /// Continues after a wait.
    pub fn waited(&mut self) -> Step {
        if self.mode == Mode::Alone {
            return self.request(Mode::Alone);
        }
        Step::Look
    }

    /// Continues after Domo's response to a request that was sent at `sent`.
    pub fn responded(
        &mut self,
        result: Result<Fetched, FetchError>,
        sent: BootTime,
        now: BootTime,
        rng: &mut fastrand::Rng,
    ) -> Step {
        if self.mode == Mode::Leased && !self.memory.is_suspect {
            self.memory.leased_until = Some(now + LEASE);
        }
        match result {
            Ok(fetched) => self.obtained(fetched, sent, rng),
            Err(error) => self.failed(error, now),
        }
    }

    fn obtained(&mut self, mut fetched: Fetched, sent: BootTime, rng: &mut fastrand::Rng) -> Step {
        let lifetime = fetched.lifetime;
        let expires = sent + lifetime;
        // The schedule counts from the start of the fetch, which may have waited since.
        fetched.expires = Some(expires);
        if self.mode == Mode::Leased {
            fetched.renew_at = Some(timing::renewal(lifetime, expires, expires, rng));
        }
        let publication = is_shared(lifetime).then(|| {
            Publication::Token(ObtainedToken {
                text: fetched.text.clone().into(),
                granted: fetched.granted.clone(),
                lifetime,
                expires,
            })
        });
        self.memory.hold(expires, expires, lifetime, rng);
        self.memory.waited_beside_token = self.has_waited && self.is_beside_token;
        self.end(Fetch::Obtained(fetched), publication)
    }

    fn failed(&mut self, error: FetchError, now: BootTime) -> Step {
        let failure = NotedFailure::of(&error, self.occasion.confirms_rejection);
        let is_shared = self.lifetime().is_none_or(is_shared);
        let Some(failure) = failure.filter(|_| is_shared) else {
            let fetch = Fetch::from(Err(error));
            return self.end(fetch, None);
        };
        let is_transient = matches!(failure, NotedFailure::Transient(_));
        self.memory.is_suspect = is_transient && !failure.is_domos_own();
        let noted = if self.mode == Mode::Leased {
            self.noted
        } else {
            0
        };
        let count = noted.max(self.occasion.failures).saturating_add(1);
        let (message, wait) = match &error {
            FetchError::Transient {
                cause,
                message,
                retry_after,
            } => {
                let draw = self.occasion.draw;
                let wait = wait_after_failure(count, *cause, *retry_after, draw);
                (message, wait)
            }
            FetchError::Denied { message, .. } | FetchError::ProxyLogin { message } => {
                (message, DENIED_RETRY)
            }
        };
        let until = now + wait.min(NOTE_MAX);
        let report = Report {
            failure,
            message: message.clone(),
            count,
            until,
            host: self.host,
        };
        let fetch = Fetch::Failed {
            error,
            agreed: Some(AgreedRetry {
                failures: count,
                at: until,
            }),
        };
        self.end(fetch, Some(Publication::Note(report)))
    }

    /// Returns the stored token if it is better than the held one.
    fn take(
        &mut self,
        record: &TokenRecord,
        time: &StoreTime,
        now: BootTime,
        rng: &mut fastrand::Rng,
    ) -> Option<Fetched> {
        let lifetime = Duration::from_millis(record.lifetime_ms);
        let granted = ScopeSet::parse(&record.granted).ok()?;
        if !is_shared(lifetime) {
            return None;
        }
        let Some(expiry) = expiry(record, time) else {
            self.is_beside_token = !clocks::left(record.expires_engine_ms, time.time_ms).is_zero();
            return None;
        };
        let required = self.occasion.min_left.max(min_left_to_serve(lifetime));
        if expiry.served_until.saturating_since(now) <= required {
            self.is_beside_token = true;
            return None;
        }
        if let Some(held) = &self.occasion.held {
            let outlives = expiry.served_until > held.validity().expires + OUTLIVES_BY;
            if !outlives || held.text().expose_secret() == record.text.expose() {
                return None;
            }
        }
        let renew_at = timing::renewal(lifetime, expiry.by_store, expiry.served_until, rng);
        self.memory
            .hold(expiry.served_until, expiry.by_store, lifetime, rng);
        self.memory.waited_beside_token = false;
        Some(Fetched {
            text: record.text.clone().into_secret(),
            lifetime,
            expires: Some(expiry.served_until),
            renew_at: Some(renew_at),
            origin: TokenOrigin::Fleet,
            lifetime_source: LifetimeSource::Stated,
            granted,
        })
    }

    /// Returns until when the renewal is left to the host that holds the lease, if it is.
    fn leaves_renewal_until(&mut self, now: BootTime, rng: &mut fastrand::Rng) -> Option<BootTime> {
        let lifetime = self.postponable()?;
        let come_back = now + timing::come_back(rng);
        let timeout = self.occasion.timeout;
        let held = self.memory.held(&self.occasion, rng)?;
        let last_moment = held.last_moment(lifetime, timeout);
        (now < last_moment).then(|| come_back.min(last_moment))
    }

    /// Without the store: a renewal is postponed once, a host without a token waits a moment, so that not all hosts
    /// send their requests at the same time.
    fn store_failed(&mut self, now: BootTime, rng: &mut fastrand::Rng) -> Step {
        self.mode = Mode::Alone;
        if self.occasion.held.is_none() {
            return Step::WaitAlone(now + timing::alone_within(rng));
        }
        let timeout = self.occasion.timeout;
        if let Some(lifetime) = self.postponable()
            && let Some(held) = self.memory.held(&self.occasion, rng)
        {
            let latest = held.last_postponement(lifetime, timeout);
            if now < latest && !std::mem::replace(&mut held.is_postponed, true) {
                let part = latest.saturating_since(now).mul_f64(rng.f64());
                return self.end(Fetch::Postponed(now + part), None);
            }
        }
        self.request(Mode::Alone)
    }

    /// Returns the lifetime of the held token if its renewal may be left to later.
    fn postponable(&self) -> Option<Duration> {
        let held = self.occasion.held.as_ref()?;
        let lifetime = held.validity().lifetime;
        let is_pressing = self.occasion.is_urgent || self.occasion.ignores_notes;
        (lifetime >= SHORTEST_POSTPONED && !is_pressing).then_some(lifetime)
    }

    /// Returns until when it waits for the holders of leases. The renewal of a short-lived token needs the time for two
    /// requests; that of another begins early enough for both.
    fn waits_until(&self) -> BootTime {
        let held = self.occasion.held.as_ref().map(Token::validity);
        let short = held.filter(|validity| validity.lifetime < SHORTEST_POSTPONED * 2);
        let latest = short.map(|validity| last_request(validity.expires, self.occasion.timeout));
        latest.map_or(self.patient_until, |latest| latest.min(self.patient_until))
    }

    fn lifetime(&self) -> Option<Duration> {
        let held = self.occasion.held.as_ref();
        let held = held.map(|held| held.validity().lifetime);
        held.or(self.memory.lifetime)
    }

    /// Returns how long it claims the lease for.
    fn lease(&self) -> Duration {
        if self.memory.is_suspect {
            SUSPECT_LEASE
        } else {
            LEASE
        }
    }

    fn request(&mut self, mode: Mode) -> Step {
        self.mode = mode;
        let is_extended = mode == Mode::Leased && !self.memory.is_suspect;
        Step::Request { is_extended }
    }

    fn end(&self, fetch: Fetch, publication: Option<Publication>) -> Step {
        Step::End(Box::new(End {
            fetch,
            publication,
            memory: self.memory,
            has_waited_in_vain: self.has_waited_in_vain,
        }))
    }
}

impl ObtainedToken {
    /// Returns the record to store, and for how long, given the one that is stored; `None` if that one outlives it.
    #[must_use]
    pub fn record(
        &self,
        stored: Option<&TokenRecord>,
        time: &StoreTime,
    ) -> Option<(TokenRecord, Duration)> {
        let (expires_engine_ms, expires_wall_ms) = on_both_clocks(self.expires, time);
        let outlives = |stored: &TokenRecord| {
            let left = clocks::left(stored.expires_engine_ms, time.time_ms);
            let lifetime = Duration::from_millis(stored.lifetime_ms);
            stored.expires_engine_ms > expires_engine_ms && clocks::is_possible(left, lifetime)
        };
        if stored.is_some_and(outlives) {
            return None;
        }
        let kept = clocks::left(expires_engine_ms, time.time_ms);
        let record = TokenRecord {
            text: self.text.clone(),
            granted: self.granted.as_str().to_owned(),
            lifetime_ms: clocks::millis(self.lifetime),
            expires_engine_ms,
            expires_wall_ms,
        };
        (!kept.is_zero()).then_some((record, kept))
    }
}

#[cfg(test)]
mod tests;

//! What hosts obtain through the store.

use domo_token::platform::clock::{BootTime, Clock};
use domo_token_core::fetch::AgreedRetry;
use domo_token_core::fetch_result::{FetchError, Fetched};
use domo_token_core::schedule::{FLEET_WAIT, REQUEST_GRACE, request_timeout};
use secrecy::ExposeSecret;

use super::state::Rejection;
use super::{Domo, Key, StoredToken};

/// The start of a fetch.
#[derive(Clone, Copy)]
pub(super) struct FetchStart {
    pub(super) at: BootTime,
    /// Whether the proxy login was known to work.
    pub(super) login_works: bool,
}

impl Domo {
    /// A fetch starts, which need not send a request.
    pub(crate) fn fetch_started(&self, key: &Key, login: Option<u64>) {
        let now = self.clock.now();
        let mut state = self.state();
        let login_works = state.logins.works(login, now);
        let start = FetchStart {
            at: now,
            login_works,
        };
        state.fetches.insert(key.clone(), start);
        let problem = state.check_change(key, now);
        drop(state);
        if let Some(problem) = problem {
            self.violated(problem);
        }
    }

    /// Returns whether the broker has aborted the fetch, which sent no request.
    fn is_aborted(&self, key: &Key, started: BootTime) -> bool {
        let limit = request_timeout(self.lifetime(key));
        self.clock.now() >= started + FLEET_WAIT + limit + REQUEST_GRACE
    }

    /// A host takes a token of another one.
    pub(crate) fn took(&self, key: &Key, fetched: &Fetched, started: BootTime) {
        let now = self.clock.now();
        let text = fetched.text.expose_secret();
        let expires = fetched.expires.unwrap();
        self.record(&format!("{key:?} takes a token until {expires}"));
        let problem = self.check_taken(key, fetched, now);
        if let Some(problem) = problem {
            self.violated(problem);
        }
        if self.is_aborted(key, started) {
            return;
        }
        let lifetime = fetched.lifetime;
        let mut state = self.state();
        state.taken += 1;
        let set = state.sets.entry(key.clone()).or_default();
        set.failures = 0;
        set.denied = false;
        // Only requests of this host count for its floor.
        set.not_before = set.not_before.take().filter(|(_, why)| *why == "the floor");
        set.lifetime = Some(lifetime);
        let previous = set.held.take().map(|held| (held.text, held.expires));
        set.held = Some(StoredToken {
            text: text.to_owned(),
            previous,
            since: now,
            lifetime,
            expires,
        });
        state.rejections.remove(&key.0);
    }

    fn check_taken(&self, key: &Key, fetched: &Fetched, now: BootTime) -> Option<String> {
        let expires = fetched.expires?;
        let text = fetched.text.expose_secret();
        let held = self.valid_token(key);
        let state = self.state();
        let Some((scope, until)) = state.expiries.get(text) else {
            return Some("a token that Domo did not issue".to_owned());
        };
        if *scope != key.1 || fetched.granted != key.1 {
            return Some(format!("a token of {scope} for {key:?}"));
        }
        if expires > *until {
            return Some(format!("a token is served until {expires}, not {until}"));
        }
        if expires <= now {
            return Some(format!("a token is taken after its expiry {expires}"));
        }
        let held = held.filter(|held| held.expires >= expires || held.text == text)?;
        Some(format!("a token replaces {held:?}, which outlives it"))
    }

    /// A host adopts the failure of another one.
    pub(crate) fn adopted(
        &self,
        key: &Key,
        error: &FetchError,
        agreed: AgreedRetry,
        started: BootTime,
    ) {
        self.record(&format!("{key:?} adopts {agreed:?}"));
        if self.is_aborted(key, started) {
            return;
        }
        let now = self.clock.now();
        let mut state = self.state();
        state.adopted += 1;
        let set = state.sets.entry(key.clone()).or_default();
        set.failures = agreed.failures;
        set.denied = matches!(error, FetchError::Denied { .. });
        let FetchError::Denied { scope_only, .. } = error else {
            return;
        };
        state.denials.insert(key.0.clone(), now);
        if *scope_only {
            state.rejections.remove(&key.0);
        } else {
            let rejection = state.rejections.entry(key.0.clone()).or_insert(Rejection {
                since: now,
                until: now,
                is_confirmed: true,
            });
            rejection.is_confirmed = true;
        }
    }
}

//! A fetch: what it is for, what it reports before its end, and when it is postponed. Where hosts share tokens, a fetch
//! need not send a request.

use std::time::Duration;

use domo_token_protocol::BootTime;

use super::timing::FLOOR_MIN;
use super::{Attempt, FLEET_WAIT, FetchId, REQUEST_GRACE, Schedule, State, request_timeout};
use crate::fetch::Occasion;
use crate::fetch_result::TokenOrigin;
use crate::token::Validity;

impl Schedule {
    /// Sets whether the client's tokens are shared with other hosts: then a fetch may wait for one of theirs.
    pub fn set_shares(&mut self, shares: bool) {
        self.max_wait = if shares { FLEET_WAIT } else { Duration::ZERO };
    }

    /// Returns which host obtained the valid token; `None` without one, or if an earlier process of the daemon did.
    #[must_use]
    pub fn token_origin(&self, now: BootTime) -> Option<TokenOrigin> {
        self.token(now).and(self.origin)
    }

    /// Returns what the fetch under way is for.
    #[must_use]
    pub fn occasion(&self, now: BootTime) -> Option<Occasion> {
        let State::Fetching { attempt, .. } = self.state else {
            return None;
        };
        Some(Occasion {
            scope: self.scope.clone(),
            held: self.token(now).cloned(),
            // While the client counts as rejected, its scope sets without a token wait for this fetch.
            is_urgent: self.needs_another_token(now) || self.is_client_rejected,
            min_left: self.least_left(),
            ignores_notes: attempt.is_caused_by_change,
            confirms_rejection: self.confirms_rejection(),
            failures: self.failures,
            draw: attempt.jitter.draw,
            timeout: request_timeout(self.lifetime),
        })
    }

    /// Counts the request that this fetch sends now, and gives it its time. Later reports of the same fetch change
    /// nothing.
    pub fn handle_requested(&mut self, fetch_id: FetchId, now: BootTime) {
        let Some(attempt) = self.attempt(fetch_id) else {
            return;
        };
        if attempt.requested.is_some() {
            return;
        }
        self.requests += 1;
        self.state = State::Fetching {
            attempt: Attempt {
                requested: Some(now),
                ..attempt
            },
            abort_at: now + request_timeout(self.lifetime) + REQUEST_GRACE,
        };
    }

    /// Ends the fetch under way if it has sent no request, so that the next one uses another store, or none.
    pub fn restart_wait(&mut self) {
        let State::Fetching { attempt, .. } = self.state else {
            return;
        };
        if attempt.requested.is_none() {
            self.cancel_request();
            self.change.causes_next_request |= attempt.is_caused_by_change;
        }
    }

    /// Returns the fetch under way if it is this one.
    pub(super) fn attempt(&self, fetch_id: FetchId) -> Option<Attempt> {
        match self.state {
            State::Fetching { attempt, .. } if fetch_id == self.fetch_id => Some(attempt),
            State::Idle
            | State::Fetching { .. }
            | State::Fresh { .. }
            | State::Waiting { .. }
            | State::Denied { .. } => None,
        }
    }

    /// Postpones the renewal of the valid token to `at`, at least a second ahead. Callers that need another token cause
    /// the next fetch as soon as the floor allows.
    pub(super) fn postpone(&mut self, at: BootTime, held: Validity, now: BootTime) {
        let renew_at = at.min(held.expires).max(now + FLOOR_MIN);
        self.state = State::Fresh { renew_at };
        self.decide_all(now);
        self.notify_watchers(now);
    }
}

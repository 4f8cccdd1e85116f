//! Transitions between a schedule's states.

use domo_token_protocol::BootTime;
use domo_token_protocol::messages::{Refusal, RefusalKind};

use super::timing::FLOOR_MIN;
use super::{
    Attempt, Command, DENIED_RETRY, FetchId, Jitter, OutageCause, Outcome, REQUEST_GRACE, Rejected,
    Schedule, State, floor, request_timeout, timing,
};
use crate::fetch::{AgreedRetry, Fetch};
use crate::fetch_result::{Cause, FetchError, Fetched, TokenOrigin};
use crate::token::{Token, Validity};

/// A failed attempt.
#[derive(Clone, Debug)]
pub(super) struct Failure {
    pub(super) message: String,
    pub(super) at: BootTime,
    pub(super) cause: OutageCause,
}

/// A token and its timer, kept over a restart of the daemon.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenSnapshot {
    /// The token.
    pub token: Token,
    /// When it is renewed; `None` if it was obtained with other credentials than the current ones, which are tried
    /// immediately.
    pub renew_at: Option<BootTime>,
}

impl Schedule {
    /// Starts the fetch that [`Self::wants_fetch`] shows as due.
    pub fn start(&mut self, jitter: Jitter, now: BootTime) -> FetchId {
        self.fetch_id.0 += 1;
        let is_caused_by_change = self.change.start(now);
        self.state = State::Fetching {
            attempt: Attempt {
                started: now,
                jitter,
                requested: None,
                is_caused_by_change,
            },
            abort_at: now + self.max_wait + request_timeout(self.lifetime) + REQUEST_GRACE,
        };
        self.fetch_id
    }

    /// Applies the end of a fetch.
    pub fn handle_fetched(
        &mut self,
        fetch_id: FetchId,
        fetch: impl Into<Fetch>,
        now: BootTime,
    ) -> Outcome {
        let Some(attempt) = self.attempt(fetch_id) else {
            return Outcome::Ignored;
        };
        let fetch = fetch.into();
        if let Fetch::Postponed(at) = fetch
            && let Some(held) = self.token(now).map(Token::validity)
        {
            self.postpone(at, held, now);
            return Outcome::Ignored;
        }
        let agreed = match fetch {
            Fetch::Failed { agreed, .. } => agreed,
            Fetch::Obtained(_) | Fetch::Postponed(_) => None,
        };
        let taken = fetch.into_result().and_then(|fetched| {
            let validity = self.accept_token(&fetched, attempt, now)?;
            Ok((fetched, validity))
        });
        let outcome = match taken {
            Ok((fetched, validity)) => self.succeeded(&fetched, validity, attempt, now),
            Err(error) => self.failed(error, agreed, attempt, now),
        };
        self.commands
            .push_back(Command::Report(self.id, outcome.clone()));
        // First, so that no waiting caller is refused for a rejection that is over.
        if outcome.accepts_client() {
            self.client_block = None;
            self.is_client_rejected = false;
        }
        self.decide_all(now);
        self.notify_watchers(now);
        outcome
    }

    /// Serves the fetched token from now on.
    fn accept_token(
        &mut self,
        fetched: &Fetched,
        attempt: Attempt,
        now: BootTime,
    ) -> Result<Validity, FetchError> {
        let held = self.token(now).filter(|token| token.is(&fetched.text));
        let new = fetched_validity(fetched, attempt.started, attempt.jitter.generation);
        if new.expires <= now || new.lifetime.is_zero() {
            let message = "the token had expired on arrival";
            return Err(FetchError::transient(Cause::Unusable, message));
        }
        let reissued = held.is_some();
        let validity = held.map_or(new, |token| Validity {
            expires: new.expires,
            ..token.validity()
        });
        let token = Token::new(&self.client, &fetched.granted, &fetched.text, validity)
            .map_err(|error| FetchError::transient(Cause::Unusable, error.to_string()))?;
        if !reissued {
            self.rejections.replaced_by(validity.generation);
            self.origin = Some(fetched.origin);
        }
        self.token = Some(token);
        self.reissued = reissued;
        Ok(validity)
    }

    fn succeeded(
        &mut self,
        fetched: &Fetched,
        validity: Validity,
        attempt: Attempt,
        now: BootTime,
    ) -> Outcome {
        let first = !std::mem::replace(&mut self.has_had_token, true);
        let started = attempt.requested.unwrap_or(attempt.started);
        let lifetime = validity.lifetime;
        let spacing = match fetched.origin {
            TokenOrigin::Domo => {
                self.last_request = Some(started);
                floor(lifetime)
            }
            TokenOrigin::Fleet => FLOOR_MIN,
        };
        let renew_at = match fetched.renew_at {
            _ if self.reissued => now + floor(lifetime).max(validity.left(now) / 2),
            Some(at) => at.min(validity.expires).max(started + spacing),
            None => {
                let left = validity.expires.saturating_since(started);
                started + timing::renew_after(lifetime, left, first, attempt.jitter.draw)
            }
        };
        self.failure = None;
        let failures = std::mem::take(&mut self.failures);
        self.lifetime = Some(validity.lifetime);
        self.last_success = Some(started);
        self.state = State::Fresh { renew_at };
        Outcome::Obtained {
            requested: attempt.requested.is_some(),
            origin: fetched.origin,
            validity,
            recovery: self
                .report
                .recover(failures, now)
                // An outage before the first token without a failed attempt was another scope set's failure.
                .filter(|_| !first || failures > 0),
            first,
            unexpected_lifetime: self
                .report
                .first_unexpected_lifetime(fetched.lifetime_source),
            short: self.report.is_first_short(validity.lifetime),
        }
    }

    /// Applies a failure. What the hosts of a fleet agree on replaces the count of failures and the time of the next
    /// attempt; that is at least a second ahead, as after any other result.
    pub(super) fn failed(
        &mut self,
        error: FetchError,
        agreed: Option<AgreedRetry>,
        attempt: Attempt,
        now: BootTime,
    ) -> Outcome {
        let impact = self.failure_impact(now);
        let own_count = self.failures.saturating_add(1);
        self.failures = agreed.map_or(own_count, |agreed| agreed.failures);
        let agreed_at = agreed.map(|agreed| agreed.at.max(now + FLOOR_MIN));
        let requested = attempt.requested.is_some();
        let (message, rejected) = match error {
            FetchError::Transient {
                cause,
                message,
                retry_after,
            } => {
                let repeated = self.report.mark_reported(cause.into(), &message);
                let draw = attempt.jitter.draw;
                let wait = timing::wait_after_failure(self.failures, cause, retry_after, draw);
                self.set_failure(message, OutageCause::Failed(cause), now);
                let retry_at = agreed_at.unwrap_or(now + wait);
                self.state = State::Waiting { retry_at };
                return Outcome::Failed {
                    requested,
                    cause,
                    repeated,
                    impact,
                };
            }
            FetchError::Denied {
                scope_only: true,
                message,
                ..
            } => {
                let retry_at = agreed_at.unwrap_or(now + DENIED_RETRY);
                self.state = State::Denied { retry_at };
                (message, Rejected::ScopeSet)
            }
            FetchError::Denied { message, .. } => {
                let rejected = self.client_rejected(&message, agreed_at, now);
                (message, rejected)
            }
            FetchError::ProxyLogin { message } => {
                self.login_rejected(&message, now);
                (message, Rejected::ProxyLogin)
            }
        };
        let repeated = self.report.mark_reported(rejected.into(), &message);
        self.set_failure(message, rejected.cause(), now);
        Outcome::Denied {
            requested,
            rejected,
            repeated,
            impact,
        }
    }

    fn set_failure(&mut self, message: String, cause: OutageCause, now: BootTime) {
        self.failure = Some(Failure {
            message,
            at: now,
            cause,
        });
    }

    /// Applies all timers that are due at `now`.
    pub fn handle_timeout(&mut self, now: BootTime) {
        let is_waiting = self.drop_expired(now) && self.is_waiting(now);
        self.change.delayed_until.take_if(|until| *until <= now);
        if self
            .client_block
            .take_if(|block| block.is_over(now))
            .is_some()
        {
            self.is_client_rejected = true;
            if let State::Fresh { .. } = self.state {
                self.state = State::Idle;
            }
        }
        match self.state {
            State::Fetching { attempt, abort_at } if abort_at <= now => {
                self.commands.push_back(Command::Abort(self.id));
                let message = "no response in time";
                let error = FetchError::transient(Cause::Timeout, message);
                let outcome = self.failed(error, None, attempt, now);
                self.commands.push_back(Command::Report(self.id, outcome));
                self.decide_all(now);
            }
            State::Fresh { renew_at: due }
            | State::Waiting { retry_at: due }
            | State::Denied { retry_at: due }
                if due <= now && self.client_block.is_none() =>
            {
                self.state = State::Idle;
            }
            State::Idle
            | State::Fetching { .. }
            | State::Fresh { .. }
            | State::Waiting { .. }
            | State::Denied { .. } => {}
        }
        self.report_outage(is_waiting, now);
        if self.waiters.iter().any(|waiter| waiter.deadline <= now) {
            self.refuse_timed_out(now);
        }
        self.notify_watchers(now);
    }

    /// Returns when [`Self::handle_timeout`] is due.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<BootTime> {
        let state = match self.state {
            State::Fetching { abort_at, .. } => Some(abort_at),
            State::Idle | State::Fresh { .. } | State::Waiting { .. } | State::Denied { .. } => {
                match &self.client_block {
                    Some(block) => block.until.filter(|_| block.is_probe),
                    None => self.next_attempt(),
                }
            }
        };
        let caller = self.waiters.iter().map(|waiter| waiter.deadline).min();
        // At its expiry the token is wiped, and watchers are notified.
        let expiry = self.token.as_ref().map(|token| token.validity().expires);
        [state, caller, expiry].into_iter().flatten().min()
    }

    /// Wipes the token if it has expired, and returns whether it has.
    pub(super) fn drop_expired(&mut self, now: BootTime) -> bool {
        let expired = self.token.take_if(|token| token.validity().expires <= now);
        let Some(token) = expired else {
            return false;
        };
        self.report.mark_expired(token.validity().expires);
        true
    }

    pub(super) fn abort(&mut self) {
        if let State::Fetching { .. } = self.state {
            self.commands.push_back(Command::Abort(self.id));
        }
    }

    /// Aborts the request in flight, without a result.
    pub fn cancel_request(&mut self) {
        self.abort();
        if let State::Fetching { .. } = self.state {
            self.state = State::Idle;
        }
    }

    /// Refuses all waiting callers and aborts the request in flight: the scope set was removed, or the broker stops.
    pub fn shutdown(&mut self, kind: RefusalKind, cause: &str) {
        self.cancel_request();
        for waiter in std::mem::take(&mut self.waiters) {
            let refusal = Refusal::new(kind, cause);
            self.commands
                .push_back(Command::Reply(waiter.id, Err(refusal)));
        }
    }

    /// Restores a token of an earlier process of the daemon.
    pub fn resume(&mut self, snapshot: TokenSnapshot, now: BootTime) {
        let validity = snapshot.token.validity();
        self.lifetime = Some(validity.lifetime);
        self.rejections.replaced_by(validity.generation);
        self.token = Some(snapshot.token);
        self.origin = None;
        if let Some(renew_at) = snapshot.renew_at {
            self.last_success = Some(validity.obtained);
            self.last_request = Some(validity.obtained);
            self.state = State::Fresh { renew_at };
        }
        self.decide_all(now);
        self.notify_watchers(now);
    }

    /// Returns what the next process of the daemon needs, if the token is valid.
    #[must_use]
    pub fn snapshot(&self, now: BootTime) -> Option<TokenSnapshot> {
        let token = self.token(now)?.clone();
        let due = match self.state {
            State::Fresh { renew_at } => renew_at,
            State::Idle | State::Fetching { .. } | State::Waiting { .. } | State::Denied { .. } => {
                now
            }
        };
        // Without a success, the token is of older credentials.
        let renew_at = self.last_success.map(|_| due);
        Some(TokenSnapshot { token, renew_at })
    }
}

/// Returns the validity of a token whose request began at `started`. A token that another host obtained may be older
/// than this host's boot; the clock cannot show that, so nothing but `expires` may be derived from it.
fn fetched_validity(fetched: &Fetched, started: BootTime, generation: u64) -> Validity {
    let lifetime = fetched.lifetime;
    let (obtained, expires) = match fetched.expires {
        Some(expires) => (expires - lifetime, expires),
        None => (started, started + lifetime),
    };
    Validity {
        generation,
        obtained,
        lifetime,
        expires,
    }
}

//! Transitions between a schedule's states.

use domo_token_protocol::BootTime;
use domo_token_protocol::messages::{Refusal, RefusalKind};

use super::{
    Command, DENIED_RETRY, FetchId, Jitter, OutageCause, Outcome, REQUEST_GRACE, Rejected,
    Schedule, State, floor, request_timeout, timing,
};
use crate::fetch_result::{Cause, FetchError, Fetched, LifetimeSource};
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
    /// Starts the request that [`Self::wants_fetch`] shows as due.
    pub fn start(&mut self, jitter: Jitter, now: BootTime) -> FetchId {
        self.fetch_id.0 += 1;
        self.requests += 1;
        self.change.start(now);
        self.state = State::Fetching {
            started: now,
            abort_at: now + request_timeout(self.lifetime) + REQUEST_GRACE,
            jitter,
        };
        self.fetch_id
    }

    /// Applies the result of a request.
    pub fn handle_fetched(
        &mut self,
        fetch_id: FetchId,
        result: Result<Fetched, FetchError>,
        now: BootTime,
    ) -> Outcome {
        let State::Fetching {
            started, jitter, ..
        } = self.state
        else {
            return Outcome::Ignored;
        };
        if fetch_id != self.fetch_id {
            return Outcome::Ignored;
        }
        let taken = result.and_then(|fetched| {
            let validity = self.accept_token(&fetched, started, jitter, now)?;
            Ok((validity, fetched.lifetime_source))
        });
        let outcome = match taken {
            Ok((validity, source)) => self.succeeded(validity, source, started, jitter, now),
            Err(error) => self.failed(error, jitter, now),
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
        started: BootTime,
        jitter: Jitter,
        now: BootTime,
    ) -> Result<Validity, FetchError> {
        let held = self.token(now).filter(|token| token.is(&fetched.text));
        let new = fetched_validity(fetched, started, jitter.generation);
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
        }
        self.token = Some(token);
        self.reissued = reissued;
        Ok(validity)
    }

    fn succeeded(
        &mut self,
        validity: Validity,
        source: LifetimeSource,
        started: BootTime,
        jitter: Jitter,
        now: BootTime,
    ) -> Outcome {
        let first = !std::mem::replace(&mut self.has_had_token, true);
        let renew_at = if self.reissued {
            now + floor(validity.lifetime).max(validity.left(now) / 2)
        } else {
            let left = validity.expires.saturating_since(started);
            started + timing::renew_after(validity.lifetime, left, first, jitter.draw)
        };
        self.failure = None;
        let failures = std::mem::take(&mut self.failures);
        self.lifetime = Some(validity.lifetime);
        self.last_success = Some(started);
        self.state = State::Fresh { renew_at };
        Outcome::Obtained {
            validity,
            recovery: self
                .report
                .recover(failures, now)
                // An outage before the first token without a failed attempt was another scope set's failure.
                .filter(|_| !first || failures > 0),
            first,
            unexpected_lifetime: self.report.first_unexpected_lifetime(source),
            short: self.report.is_first_short(validity.lifetime),
        }
    }

    pub(super) fn failed(&mut self, error: FetchError, jitter: Jitter, now: BootTime) -> Outcome {
        let impact = self.failure_impact(now);
        self.failures = self.failures.saturating_add(1);
        let (message, rejected) = match error {
            FetchError::Transient {
                cause,
                message,
                retry_after,
            } => {
                let repeated = self.report.mark_reported(cause.into(), &message);
                let wait =
                    timing::wait_after_failure(self.failures, cause, retry_after, jitter.draw);
                self.set_failure(message, OutageCause::Failed(cause), now);
                let retry_at = now + wait;
                self.state = State::Waiting { retry_at };
                return Outcome::Failed {
                    cause,
                    repeated,
                    impact,
                };
            }
            FetchError::Denied {
                scope_only: true,
                message,
            } => {
                let retry_at = now + DENIED_RETRY;
                self.state = State::Denied { retry_at };
                (message, Rejected::ScopeSet)
            }
            FetchError::Denied { message, .. } => {
                let rejected = self.client_rejected(&message, now);
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
            State::Fetching {
                abort_at, jitter, ..
            } if abort_at <= now => {
                self.commands.push_back(Command::Abort(self.id));
                let message = "no response in time";
                let error = FetchError::transient(Cause::Timeout, message);
                let outcome = self.failed(error, jitter, now);
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
        if let Some(renew_at) = snapshot.renew_at {
            self.last_success = Some(validity.obtained);
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

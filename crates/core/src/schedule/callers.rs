//! Callers and watchers: which are served, which wait, which are refused.

use std::time::Duration;

use domo_token_protocol::BootTime;
use domo_token_protocol::messages::{Refusal, RefusalKind, Renew};

use super::timing::MIN_LEFT_MAX;
use super::{Command, OutageCause, Outcome, Schedule, State, floor, min_left_to_serve};
use crate::token::Token;

/// Identifies one waiting caller.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WaiterId(pub u64);

/// A caller's request for a token.
#[derive(Clone, Copy, Debug)]
pub struct TokenRequest {
    /// How long the token must still be valid.
    pub min_ttl: Option<Duration>,
    /// When the caller must be answered.
    pub deadline: BootTime,
    /// Which token the caller does not accept.
    pub renew: Option<Renew>,
}

/// A token, or why there is none.
pub type Reply = Result<Token, Refusal>;

/// The answer to a request, or that it follows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// The reply.
    Now(Reply),
    /// The caller waits: a [`Command::Reply`] follows, at its deadline at the latest.
    Later,
}

/// What a token must fulfil to be served to a caller.
#[derive(Clone, Copy, Debug)]
struct Requirement {
    min_left: Duration,
    /// The generation that the caller does not accept.
    other_than: Option<u64>,
}

#[derive(Debug)]
pub(super) struct Waiter {
    pub(super) id: WaiterId,
    requirement: Requirement,
    pub(super) deadline: BootTime,
}

/// The message while the request is delayed although nothing has failed.
pub const CHANGED_TOO_OFTEN: &str =
    "the client's credentials changed too often; the next request is delayed";

/// The message while another scope set of the client tries new credentials first.
pub const AWAITS_CREDENTIAL_CHECK: &str =
    "the request waits until another scope set has tested the new credentials";

/// The message while a scope set of any client tries the proxy login first.
pub const AWAITS_LOGIN_CHECK: &str =
    "the request waits until another scope set has tested the proxy login";

/// The message while only the limit of concurrent requests delays the request.
pub const AWAITS_ADMISSION: &str =
    "the request waits until requests of other scope sets have ended";

/// The message while another host of the fleet is about to obtain the token.
const AWAITS_OTHER_HOST: &str = "another host of the fleet is requesting one";

enum Decision {
    Serve(Token),
    Join,
    Refuse(Refusal),
}

/// What a watcher was shown last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LastSeen {
    /// The token of this generation.
    Token(u64),
    /// There is no valid token.
    NoToken,
}

impl From<&Reply> for LastSeen {
    fn from(reply: &Reply) -> Self {
        match reply {
            Ok(token) => Self::Token(token.validity().generation),
            Err(_) => Self::NoToken,
        }
    }
}

/// Callers' reports that Domo rejected a token in use.
#[derive(Debug, Default)]
pub(super) struct Rejections {
    pub(super) count: u64,
    pub(super) last_by: Option<String>,
    /// The generation that is served now.
    current: Option<u64>,
    /// The newest generation that was rejected while it was the current one.
    refused: Option<u64>,
    /// How many tokens in a row were rejected.
    in_a_row: u32,
}

impl Schedule {
    /// Returns the caller's reply, or adds the caller to those that wait.
    pub fn request(&mut self, waiter: WaiterId, request: &TokenRequest, now: BootTime) -> Answer {
        self.handle_timeout(now);
        let requirement = self.requirement(request, now);
        match self.decide(requirement, request.deadline, now) {
            Decision::Serve(token) => Answer::Now(Ok(token)),
            Decision::Refuse(refusal) => Answer::Now(Err(refusal)),
            Decision::Join => {
                self.waiters.push(Waiter {
                    id: waiter,
                    requirement,
                    deadline: request.deadline,
                });
                Answer::Later
            }
        }
    }

    /// Removes a caller that left before its answer.
    pub fn cancel(&mut self, waiter: WaiterId) {
        self.waiters.retain(|waiting| waiting.id != waiter);
    }

    /// Refuses waiting callers whose deadline has passed.
    pub(super) fn refuse_timed_out(&mut self, now: BootTime) {
        let (kind, message) = match self.rejection_message() {
            Some(message) => (RefusalKind::Denied, message.to_owned()),
            None => (RefusalKind::Unavailable, self.timeout_message()),
        };
        let next = self.shown_next_attempt(now);
        let refusal = self.refusal(kind, &message, next);
        for waiter in self.waiters.extract_if(.., |waiter| waiter.deadline <= now) {
            let refusal = refusal.clone();
            self.commands
                .push_back(Command::Reply(waiter.id, Err(refusal)));
        }
    }

    /// Returns why a caller's deadline passed although nothing was rejected.
    fn timeout_message(&self) -> String {
        match (&self.failure, self.loading) {
            (Some(failure), _) => format!("no token in time; last attempt: {}", failure.message),
            (None, Some(_)) => {
                "no token in time; the client's secret is still being loaded".to_owned()
            }
            (None, None) if self.change.delayed_until.is_some() => CHANGED_TOO_OFTEN.to_owned(),
            (None, None) => {
                let why = match self.state {
                    State::Idle if self.change.awaits_credential_check => AWAITS_CREDENTIAL_CHECK,
                    State::Idle if self.change.awaits_login_check => AWAITS_LOGIN_CHECK,
                    State::Idle => AWAITS_ADMISSION,
                    State::Fetching { attempt, .. }
                        if !self.max_wait.is_zero() && attempt.requested.is_none() =>
                    {
                        AWAITS_OTHER_HOST
                    }
                    State::Fetching { .. }
                    | State::Fresh { .. }
                    | State::Waiting { .. }
                    | State::Denied { .. } => "Domo has not responded yet",
                };
                format!("no token in time; {why}")
            }
        }
    }

    /// Returns the message of the rejection whose end callers waited for, unless another failure followed it.
    fn rejection_message(&self) -> Option<&str> {
        let login = self
            .login_rejection
            .as_ref()
            .map(|block| block.message.as_str());
        let client = self
            .client_block
            .as_ref()
            .map(|block| block.message.as_str());
        let last = self.failure.as_ref();
        let last = last.filter(|failure| failure.cause.is_client_rejection());
        login
            .or(client)
            .or(last.map(|failure| failure.message.as_str()))
    }

    fn requirement(&self, request: &TokenRequest, now: BootTime) -> Requirement {
        let current = self.token(now).map(Token::validity);
        let other_than = match request.renew {
            Some(Renew::Rejected(generation)) => Some(generation),
            Some(Renew::Current) => current
                .filter(|validity| {
                    now.saturating_since(validity.obtained) > floor(validity.lifetime)
                })
                .map(|validity| validity.generation),
            None => None,
        };
        Requirement {
            min_left: request.min_ttl.unwrap_or_default(),
            other_than,
        }
    }

    fn decide(&mut self, requirement: Requirement, deadline: BootTime, now: BootTime) -> Decision {
        if let Some(token) = self
            .token(now)
            .filter(|token| satisfies(token, requirement, now))
        {
            return Decision::Serve(token.clone());
        }
        if let Some(refusal) = self
            .load_refusal(now)
            .or_else(|| self.min_ttl_error(requirement))
        {
            return Decision::Refuse(refusal);
        }
        if let Some(message) = self.standing_rejection(deadline, now) {
            let next = self.shown_next_attempt(now);
            return Decision::Refuse(self.refusal(RefusalKind::Denied, message, next));
        }
        if self.client_block.is_some() {
            return Decision::Join;
        }
        match self.state {
            State::Idle => match self.change.delayed_until {
                Some(until) if until >= deadline => Decision::Refuse(self.refusal(
                    RefusalKind::Unavailable,
                    CHANGED_TOO_OFTEN,
                    Some(until),
                )),
                Some(_) | None => Decision::Join,
            },
            State::Fetching { .. } => Decision::Join,
            State::Fresh { renew_at } => self.decide_early_renewal(renew_at, deadline, now),
            State::Waiting { retry_at } if retry_at < deadline => Decision::Join,
            State::Waiting { retry_at } => {
                let message = self.failure_message().unwrap_or("no token yet");
                Decision::Refuse(self.refusal(RefusalKind::Unavailable, message, Some(retry_at)))
            }
            State::Denied { retry_at } if self.is_confirmed_before(retry_at, deadline) => {
                Decision::Join
            }
            State::Denied { retry_at } => {
                let message = self.failure_message().unwrap_or("rejected by Domo");
                Decision::Refuse(self.refusal(RefusalKind::Denied, message, Some(retry_at)))
            }
        }
    }

    /// Returns the message of a rejection that lasts longer than a caller with this deadline can wait. While a request
    /// of this scope set is in flight, its result is awaited instead.
    fn standing_rejection(&self, deadline: BootTime, now: BootTime) -> Option<&str> {
        if let State::Fetching { .. } = self.state {
            return None;
        }
        if let Some(block) = self.login_block(now) {
            return Some(&block.message);
        }
        let block = self.client_block.as_ref();
        let block = block.filter(|block| !block.is_confirmed_before(deadline));
        block.map(|block| block.message.as_str())
    }

    /// Returns whether the scope set, after its first rejection, repeats its request before the deadline. That is so
    /// without a block if another scope set succeeded meanwhile, or if a reload is delayed by the change limit.
    fn is_confirmed_before(&self, retry_at: BootTime, deadline: BootTime) -> bool {
        let cause = self.failure.as_ref().map(|failure| failure.cause);
        cause == Some(OutageCause::ClientUnconfirmed) && retry_at < deadline
    }

    /// Decides for a caller that the valid token does not satisfy: it is renewed as soon as the floor allows.
    fn decide_early_renewal(
        &mut self,
        renew_at: BootTime,
        deadline: BootTime,
        now: BootTime,
    ) -> Decision {
        let unavailable = |schedule: &Self, message: &str, at| {
            Decision::Refuse(schedule.refusal(RefusalKind::Unavailable, message, Some(at)))
        };
        if self.reissued {
            if renew_at < deadline {
                return Decision::Join;
            }
            let message = if self.token(now).is_some() {
                "Domo returned the same token again; it issues a new one only closer to the expiry"
            } else {
                "Domo returned the same token again, and it has expired; a new one is requested soon"
            };
            return unavailable(self, message, renew_at);
        }
        let spacing = self.lifetime.map_or(Duration::ZERO, floor);
        let soonest = self.last_request.map_or(now, |at| at + spacing);
        if soonest.max(now) >= deadline {
            let message = match self.last_request {
                Some(renewed) if soonest > now => format!(
                    "the token was renewed {} s ago; the next renewal is possible in {} s",
                    now.saturating_since(renewed).as_secs(),
                    soonest.saturating_since(now).as_millis().div_ceil(1000)
                ),
                Some(_) | None => {
                    "the timeout leaves no time to request a new token; allow more time".to_owned()
                }
            };
            return unavailable(self, &message, soonest.max(now).min(renew_at));
        }
        self.state = if soonest <= now {
            State::Idle
        } else {
            State::Fresh {
                renew_at: renew_at.min(soonest),
            }
        };
        Decision::Join
    }

    /// Returns whether callers wait for another token than the valid one.
    pub(super) fn needs_another_token(&self, now: BootTime) -> bool {
        let token = self.token(now);
        let mut waiting = self.waiters.iter();
        waiting.any(|waiter| token.is_none_or(|token| !satisfies(token, waiter.requirement, now)))
    }

    /// Returns how long the next token must be valid to be served to all callers that wait.
    pub(super) fn least_left(&self) -> Duration {
        let required = self
            .waiters
            .iter()
            .map(|waiter| waiter.requirement.min_left);
        let to_serve = self.lifetime.map_or(MIN_LEFT_MAX, min_left_to_serve);
        required.max().unwrap_or_default().max(to_serve)
    }

    fn min_ttl_error(&self, requirement: Requirement) -> Option<Refusal> {
        let lifetime = self.lifetime?;
        let most = lifetime.saturating_sub(floor(lifetime));
        if requirement.min_left <= most {
            return None;
        }
        let message = format!(
            "min_ttl of {} s is too long: tokens of this scope set are valid for {} s; request at most {} s",
            requirement.min_left.as_secs(),
            lifetime.as_secs(),
            most.as_secs()
        );
        Some(self.refusal(RefusalKind::MinTtlTooLong, &message, None))
    }

    /// Decides again for all waiting callers.
    pub(super) fn decide_all(&mut self, now: BootTime) {
        for waiter in std::mem::take(&mut self.waiters) {
            let reply = match self.decide(waiter.requirement, waiter.deadline, now) {
                Decision::Serve(token) => Ok(token),
                Decision::Refuse(refusal) => Err(refusal),
                Decision::Join => {
                    self.waiters.push(waiter);
                    continue;
                }
            };
            self.commands.push_back(Command::Reply(waiter.id, reply));
        }
    }

    pub(super) fn refusal(
        &self,
        kind: RefusalKind,
        message: &str,
        next_attempt: Option<BootTime>,
    ) -> Refusal {
        Refusal {
            kind,
            cause: format!(
                "client \"{}\", scope set \"{}\": {message}",
                self.client, self.scope
            ),
            next_attempt,
        }
    }

    /// Records that Domo rejected the token of this generation in use, as `caller` reports.
    pub fn record_rejection(&mut self, generation: u64, caller: String) {
        if self.rejections.record(generation, caller) {
            self.commands
                .push_back(Command::Report(self.id, Outcome::RejectedByDomo));
        }
    }

    /// Returns what watchers are sent now: the token, or why there is none; `None` before the first result. It changes
    /// with each [`Command::NotifyWatchers`].
    #[must_use]
    pub fn watcher_reply(&self, now: BootTime) -> Option<Reply> {
        if let Some(token) = self.token(now) {
            return Some(Ok(token.clone()));
        }
        self.last_seen?;
        if let Some(refusal) = self.load_refusal(now) {
            return Some(Err(refusal));
        }
        let message = self.error_message();
        let message = message.unwrap_or("the token expired before it was renewed");
        let next = self.shown_next_attempt(now);
        Some(Err(self.refusal(RefusalKind::Unavailable, message, next)))
    }

    /// Notifies watchers if their reply has changed.
    pub(super) fn notify_watchers(&mut self, now: BootTime) {
        let is_rejected = self.client_block.is_some() || self.login_rejection.is_some();
        let failing = self.failure.is_some() || is_rejected || self.is_load_failed();
        let seen = match self.token(now) {
            Some(token) => Some(LastSeen::Token(token.validity().generation)),
            None => (self.last_seen.is_some() || failing).then_some(LastSeen::NoToken),
        };
        if seen != self.last_seen {
            self.last_seen = seen;
            self.commands.push_back(Command::NotifyWatchers(self.id));
        }
    }
}

fn satisfies(token: &Token, requirement: Requirement, now: BootTime) -> bool {
    let validity = token.validity();
    let least = requirement
        .min_left
        .max(min_left_to_serve(validity.lifetime));
    validity.left(now) >= least && requirement.other_than != Some(validity.generation)
}

impl Rejections {
    /// Records a rejection. Returns true once in a row of rejected tokens: when renewal has not helped.
    pub(super) fn record(&mut self, generation: u64, caller: String) -> bool {
        self.count += 1;
        self.last_by = Some(caller);
        if self.current != Some(generation) || self.refused == Some(generation) {
            return false;
        }
        self.refused = Some(generation);
        self.in_a_row += 1;
        self.in_a_row == 2
    }

    /// Records a new token. If the one before it was not rejected, the row ends.
    pub(super) fn replaced_by(&mut self, generation: u64) {
        if self.current != self.refused {
            self.in_a_row = 0;
        }
        self.current = Some(generation);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rejection_of_a_renewed_token_is_reported_once() {
        let mut rejections = Rejections::default();
        let mut noticed = Vec::new();
        for generation in [7, 8, 9] {
            rejections.replaced_by(generation);
            for _caller in 0..3 {
                noticed.push(rejections.record(generation, "uid 1".to_owned()));
            }
        }
        let expected = [
            [false, false, false],
            [true, false, false],
            [false, false, false],
        ];
        assert_eq!(noticed, expected.concat());
        assert_eq!(rejections.count, 9);
    }

    #[test]
    fn token_without_a_rejection_ends_the_series_and_a_late_rejection_starts_none() {
        let mut rejections = Rejections::default();
        rejections.replaced_by(1);
        assert!(!rejections.record(1, "uid 1".to_owned()));
        rejections.replaced_by(2);
        assert!(!rejections.record(1, "uid 2".to_owned()), "not the current");
        rejections.replaced_by(3);
        assert!(!rejections.record(3, "uid 1".to_owned()));
        assert_eq!(rejections.last_by.as_deref(), Some("uid 1"));
    }
}

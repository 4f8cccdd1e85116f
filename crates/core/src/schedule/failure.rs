//! A failed attempt: what it means, and when the next one follows.

use super::types::{Jitter, OutageCause, Outcome, Rejected};
use super::{CONFIRM_AFTER, DENIED_RETRY, Schedule, State, timing};
use crate::fetch::FetchError;
use domo_token_protocol::BootTime;

/// The last attempt, if it failed.
#[derive(Clone, Debug)]
pub(super) struct Failure {
    pub(super) words: String,
    pub(super) at: BootTime,
    pub(super) cause: OutageCause,
}

impl Schedule {
    pub(super) fn failed(&mut self, error: FetchError, jitter: Jitter, now: BootTime) -> Outcome {
        let effect = self.failure_effect(now);
        self.failures = self.failures.saturating_add(1);
        let (words, rejected) = match error {
            FetchError::Transient {
                cause,
                words,
                retry_after,
            } => {
                let again = self.report.mark(cause.into(), &words);
                let wait = timing::retry_after(self.failures, cause, retry_after, jitter.draw);
                self.set_failure(words, OutageCause::Failed(cause), now);
                let retry_at = now + wait;
                self.state = State::Waiting { retry_at };
                return Outcome::Failed {
                    cause,
                    again,
                    effect,
                };
            }
            FetchError::Denied {
                scope_only: true,
                words,
            } => {
                let retry_at = now + DENIED_RETRY;
                self.state = State::Denied { retry_at };
                (words, Rejected::ScopeSet)
            }
            FetchError::Denied { words, .. } => {
                let rejected = self.client_rejected(&words, now);
                (words, rejected)
            }
            FetchError::ProxyLogin { words } => {
                self.login_rejected(&words, now);
                (words, Rejected::ProxyLogin)
            }
        };
        let again = self.report.mark(rejected.into(), &words);
        self.set_failure(words, rejected.cause(), now);
        Outcome::Denied {
            rejected,
            again,
            effect,
        }
    }

    fn set_failure(&mut self, words: String, cause: OutageCause, now: BootTime) {
        self.failure = Some(Failure {
            words,
            at: now,
            cause,
        });
    }

    /// Domo rejected the client through this set. The first rejection since a success or since the
    /// credentials changed is confirmed by this set, unless another set is about to do that.
    fn client_rejected(&mut self, words: &str, now: BootTime) -> Rejected {
        let (retry_at, rejected) = match &self.blocked {
            Some(block) if block.is_unconfirmed => {
                (block.until.unwrap_or(now), Rejected::ClientUnconfirmed)
            }
            None if !self.is_client_rejected => (now + CONFIRM_AFTER, Rejected::ClientUnconfirmed),
            Some(_) | None => (now + DENIED_RETRY, Rejected::Client),
        };
        self.state = State::Denied { retry_at };
        if self.blocked.is_none() {
            self.probe_at(words, retry_at, rejected, now);
        }
        rejected
    }

    /// The proxy rejected the login that the request was sent with: the next request is wanted as soon as
    /// the login may be tried again.
    fn login_rejected(&mut self, words: &str, now: BootTime) {
        self.state = State::Idle;
        if self.login_block(now).is_none() {
            self.set_login_block(words, now + DENIED_RETRY, now);
        }
    }
}

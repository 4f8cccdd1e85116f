//! The timers of one scope set.

use super::types::Command;
use super::{Schedule, State};
use crate::fetch::{Cause, FetchError};
use domo_token_protocol::BootTime;

impl Schedule {
    /// Applies what `now` has made due.
    pub fn handle_timeout(&mut self, now: BootTime) {
        let is_waiting = self.drop_expired(now) && self.is_waiting(now);
        self.change.held_until.take_if(|until| *until <= now);
        if self.blocked.take_if(|block| block.is_over(now)).is_some() {
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
                let words = "no answer in time";
                let error = FetchError::transient(Cause::Timeout, words);
                let outcome = self.failed(error, jitter, now);
                self.commands.push_back(Command::Report(self.id, outcome));
                self.judge_all(now);
            }
            State::Fresh { renew_at: due }
            | State::Waiting { retry_at: due }
            | State::Denied { retry_at: due }
                if due <= now && self.blocked.is_none() =>
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
            self.refuse_late(now);
        }
        self.announce(now);
    }

    /// When [`Self::handle_timeout`] is due.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<BootTime> {
        let state = match self.state {
            State::Fetching { abort_at, .. } => Some(abort_at),
            State::Idle | State::Fresh { .. } | State::Waiting { .. } | State::Denied { .. } => {
                match &self.blocked {
                    Some(block) => block.until.filter(|_| block.probes),
                    None => self.next_attempt(),
                }
            }
        };
        let caller = self.waiters.iter().map(|waiter| waiter.deadline).min();
        // Then it is wiped, and watchers hear.
        let death = self.token.as_ref().map(|token| token.life().expires);
        [state, caller, death].into_iter().flatten().min()
    }

    pub(super) fn next_attempt(&self) -> Option<BootTime> {
        match self.state {
            State::Fresh { renew_at: due }
            | State::Waiting { retry_at: due }
            | State::Denied { retry_at: due } => Some(due),
            State::Idle => self.change.held_until,
            State::Fetching { .. } => None,
        }
    }
}

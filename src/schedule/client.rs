//! What befalls the set's client: new credentials, a reload, a refusal through another set, its end.

use domo_token_client::wire::{Refusal, RefusalKind};

use super::types::Command;
use super::{ChangeLimit, Schedule, State};
use crate::clock::BootTime;

/// Another set's refusal that holds for the whole client.
#[derive(Clone, Debug)]
pub(super) struct Block {
    pub(super) words: String,
    /// When the client is tried again, as far as was known.
    pub(super) until: Option<BootTime>,
    /// Whether it is through this set.
    pub(super) probes: bool,
}

impl Block {
    /// Whether this set's turn has come to find out how the client stands.
    pub(super) fn is_over(&self, now: BootTime) -> bool {
        self.probes && self.until.is_none_or(|until| until <= now)
    }
}

impl Schedule {
    /// The client's credentials changed: whatever the old ones are still fetching no longer
    /// counts, and nothing they ran into holds the new ones up, but that they change too often.
    pub fn new_credentials(&mut self, now: BootTime) {
        self.abort();
        self.lifetime = None;
        self.last_success = None;
        self.reissued = false;
        self.failures = 0;
        self.failure = None;
        self.report.reset();
        self.blocked = None;
        self.state = State::Idle;
        self.limit_change(now);
        self.judge_all(now);
    }

    /// Has the next request count as caused by new credentials, and wait for its turn.
    fn limit_change(&mut self, now: BootTime) {
        self.change.is_untried = true;
        self.change.held_until = Some(self.change.limit.next()).filter(|until| *until > now);
    }

    /// Whether the new credentials wait for another set of the client to try them first.
    pub fn await_trial(&mut self, waits: bool) {
        self.change.awaits_trial = waits;
    }

    /// The set is back in the config after a short absence, which costs a request like new
    /// credentials do, and is limited with them.
    pub(crate) fn returned(&mut self, changes: ChangeLimit, now: BootTime) {
        self.change.limit = changes;
        self.limit_change(now);
    }

    /// How often it may be caused a request.
    pub(crate) fn changes(&self) -> ChangeLimit {
        self.change.limit
    }

    /// What is rejected or waits to retry is tried immediately, as often as new credentials would
    /// be; a valid token's timer stays.
    pub fn reload(&mut self, now: BootTime) {
        self.report.compare_message();
        let was_blocked = self.blocked.take().is_some();
        match self.state {
            State::Waiting { retry_at } | State::Denied { retry_at }
                if self.change.limit.next() < retry_at =>
            {
                self.state = State::Idle;
                self.limit_change(now);
            }
            State::Idle if was_blocked => self.limit_change(now),
            State::Idle
            | State::Fetching { .. }
            | State::Fresh { .. }
            | State::Waiting { .. }
            | State::Denied { .. } => {}
        }
    }

    /// Domo refused the client as a whole, in these words. It is tried again at `until`: by this
    /// set if it `probes`, else nothing more is asked for it until [`Self::unblock`].
    pub fn block(&mut self, words: &str, until: Option<BootTime>, probes: bool, now: BootTime) {
        self.blocked = Some(Block {
            words: words.to_owned(),
            until,
            probes,
        });
        self.report.mark_denied(words);
        self.report_outage(false, now);
        self.judge_all(now);
        self.announce(now);
    }

    /// Whether this set may find out at `at` how its client stands: it isn't asking now, and nothing
    /// that it ran into by itself keeps it until later.
    #[must_use]
    pub fn may_probe(&self, at: BootTime) -> bool {
        match self.state {
            State::Idle => self.change.held_until.is_none_or(|until| until <= at),
            State::Fetching { .. } => false,
            State::Fresh { renew_at } => !self.reissued || renew_at <= at,
            State::Waiting { retry_at } | State::Denied { retry_at } => retry_at <= at,
        }
    }

    /// The client's credentials work again.
    pub fn unblock(&mut self) {
        self.blocked = None;
    }

    /// Refuses all who wait with `kind`, and gives up a request under way: the set was removed, or
    /// the broker stops.
    pub fn close(&mut self, kind: RefusalKind, cause: &str) {
        self.abort();
        if let State::Fetching { .. } = self.state {
            self.state = State::Idle;
        }
        for waiter in std::mem::take(&mut self.waiters) {
            let refusal = Refusal::new(kind, cause);
            self.commands
                .push_back(Command::Reply(waiter.id, Err(refusal)));
        }
    }

    fn abort(&mut self) {
        if let State::Fetching { .. } = self.state {
            self.commands.push_back(Command::Abort(self.round));
        }
    }
}

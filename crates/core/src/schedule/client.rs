//! What befalls the set's client: new credentials, a reload, a refusal through another set, its end.

use domo_token_protocol::messages::{Refusal, RefusalKind};

use super::types::{Command, Rejected};
use super::{ChangeLimit, Schedule, State};
use domo_token_protocol::BootTime;

/// Another set's refusal that holds for the whole client.
#[derive(Clone, Debug)]
pub(super) struct ClientBlock {
    pub(super) words: String,
    /// When that was learnt.
    pub(super) at: BootTime,
    /// When the client is tried again, as far as was known.
    pub(super) until: Option<BootTime>,
    /// Whether it is through this set.
    pub(super) probes: bool,
    /// Whether that request confirms the first rejection: callers that can wait for it do.
    pub(super) is_unconfirmed: bool,
}

impl ClientBlock {
    /// Returns what the client's callers are refused for.
    pub(super) fn rejected(&self) -> Rejected {
        if self.is_unconfirmed {
            Rejected::ClientUnconfirmed
        } else {
            Rejected::Client
        }
    }

    /// Whether a caller with this deadline waits for the confirmation: one that is under way, or due in time.
    pub(super) fn is_confirmed_before(&self, deadline: BootTime) -> bool {
        self.is_unconfirmed && self.until.is_none_or(|until| until < deadline)
    }

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
        self.is_client_rejected = false;
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
        // A reload makes no rejection the first one again.
        self.is_client_rejected |= was_blocked;
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
        self.block_by(words, until, probes, false, now);
    }

    /// Domo refused the client for the first time since a success; another set confirms that at
    /// `until`.
    pub fn await_confirmation(&mut self, words: &str, until: Option<BootTime>, now: BootTime) {
        self.block_by(words, until, false, true, now);
    }

    fn block_by(
        &mut self,
        words: &str,
        until: Option<BootTime>,
        probes: bool,
        is_unconfirmed: bool,
        now: BootTime,
    ) {
        let block = ClientBlock {
            words: words.to_owned(),
            at: now,
            until,
            probes,
            is_unconfirmed,
        };
        // It was for another scope set.
        self.report.mark(block.rejected().into(), words);
        self.blocked = Some(block);
        self.report_outage(false, now);
        self.judge_all(now);
        self.announce(now);
    }

    /// The set that tries the client for the others tries it again at `until`.
    pub fn move_block(&mut self, until: Option<BootTime>, now: BootTime) {
        if let Some(block) = &mut self.blocked {
            block.until = until;
            self.judge_all(now);
        }
    }

    /// The client is tried again through this set, unless the scheduler chooses another one.
    pub(super) fn probe_at(
        &mut self,
        words: &str,
        until: BootTime,
        rejected: Rejected,
        now: BootTime,
    ) {
        self.blocked = Some(ClientBlock {
            words: words.to_owned(),
            at: now,
            until: Some(until),
            probes: true,
            is_unconfirmed: rejected == Rejected::ClientUnconfirmed,
        });
    }

    /// Domo has rejected the client already: this set was added after that.
    pub fn expect_rejection(&mut self) {
        self.is_client_rejected = true;
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
    pub fn unblock(&mut self, now: BootTime) {
        self.blocked = None;
        self.is_client_rejected = false;
        self.handle_timeout(now);
        // One that still waits was rejected itself, and its callers get that message.
        if !matches!(self.state, State::Denied { .. }) {
            self.failure
                .take_if(|failure| failure.cause.is_client_rejection());
        }
        self.judge_all(now);
    }

    /// Refuses all who wait with `kind`, and gives up a request under way: the set was removed, or
    /// the broker stops.
    pub fn close(&mut self, kind: RefusalKind, cause: &str) {
        self.give_up();
        for waiter in std::mem::take(&mut self.waiters) {
            let refusal = Refusal::new(kind, cause);
            self.commands
                .push_back(Command::Reply(waiter.id, Err(refusal)));
        }
    }

    pub(super) fn abort(&mut self) {
        if let State::Fetching { .. } = self.state {
            self.commands.push_back(Command::Abort(self.id));
        }
    }
}

//! Domo rejects the client: the first rejection is confirmed, then one scope set tries the client again for all.

use domo_token_protocol::BootTime;

use super::{CONFIRM_AFTER, DENIED_RETRY, Rejected, Schedule, State};

/// Another set's refusal that holds for the whole client.
#[derive(Clone, Debug)]
pub(super) struct ClientBlock {
    pub(super) message: String,
    /// When that was learnt.
    pub(super) at: BootTime,
    /// When the client is tried again, as far as was known.
    pub(super) until: Option<BootTime>,
    /// Whether it is through this set.
    pub(super) is_probe: bool,
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
        self.is_probe && self.until.is_none_or(|until| until <= now)
    }
}

impl Schedule {
    /// Domo rejected the client through this set. The first rejection since a success or since the
    /// credentials changed is confirmed by this set, unless another set is about to do that.
    pub(super) fn client_rejected(&mut self, message: &str, now: BootTime) -> Rejected {
        let (retry_at, rejected) = match &self.client_block {
            Some(block) if block.is_unconfirmed => {
                (block.until.unwrap_or(now), Rejected::ClientUnconfirmed)
            }
            None if !self.is_client_rejected => (now + CONFIRM_AFTER, Rejected::ClientUnconfirmed),
            Some(_) | None => (now + DENIED_RETRY, Rejected::Client),
        };
        self.state = State::Denied { retry_at };
        if self.client_block.is_none() {
            self.block_as_probe(message, retry_at, rejected, now);
        }
        rejected
    }

    /// The client is tried again through this set, unless the scheduler chooses another one.
    pub(super) fn block_as_probe(
        &mut self,
        message: &str,
        until: BootTime,
        rejected: Rejected,
        now: BootTime,
    ) {
        self.client_block = Some(ClientBlock {
            message: message.to_owned(),
            at: now,
            until: Some(until),
            is_probe: true,
            is_unconfirmed: rejected == Rejected::ClientUnconfirmed,
        });
    }

    /// Domo refused the client as a whole, in these words. It is tried again at `until`: by this
    /// set if it `is_probe`, else nothing more is asked for it until [`Self::unblock`].
    pub fn block(&mut self, message: &str, until: Option<BootTime>, is_probe: bool, now: BootTime) {
        self.set_block(message, until, is_probe, false, now);
    }

    /// Domo refused the client for the first time since a success; another set confirms that at
    /// `until`.
    pub fn await_confirmation(&mut self, message: &str, until: Option<BootTime>, now: BootTime) {
        self.set_block(message, until, false, true, now);
    }

    fn set_block(
        &mut self,
        message: &str,
        until: Option<BootTime>,
        is_probe: bool,
        is_unconfirmed: bool,
        now: BootTime,
    ) {
        let block = ClientBlock {
            message: message.to_owned(),
            at: now,
            until,
            is_probe,
            is_unconfirmed,
        };
        // It was for another scope set.
        self.report.mark_reported(block.rejected().into(), message);
        self.client_block = Some(block);
        self.report_outage(false, now);
        self.decide_all(now);
        self.notify_watchers(now);
    }

    /// The set that tries the client for the others tries it again at `until`.
    pub fn update_block(&mut self, until: Option<BootTime>, now: BootTime) {
        if let Some(block) = &mut self.client_block {
            block.until = until;
            self.decide_all(now);
        }
    }

    /// Domo has rejected the client already: this set was added after that.
    pub fn mark_client_rejected(&mut self) {
        self.is_client_rejected = true;
    }

    /// Whether this set may find out at `at` how its client stands: it isn't asking now, and nothing
    /// that it ran into by itself keeps it until later.
    #[must_use]
    pub fn may_probe(&self, at: BootTime) -> bool {
        match self.state {
            State::Idle => self.change.delayed_until.is_none_or(|until| until <= at),
            State::Fetching { .. } => false,
            State::Fresh { renew_at } => !self.reissued || renew_at <= at,
            State::Waiting { retry_at } | State::Denied { retry_at } => retry_at <= at,
        }
    }

    /// The client's credentials work again.
    pub fn unblock(&mut self, now: BootTime) {
        self.client_block = None;
        self.is_client_rejected = false;
        self.handle_timeout(now);
        // One that still waits was rejected itself, and its callers get that message.
        if !matches!(self.state, State::Denied { .. }) {
            self.failure
                .take_if(|failure| failure.cause.is_client_rejection());
        }
        self.decide_all(now);
    }
}

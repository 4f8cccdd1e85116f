//! Domo rejects the client: the first rejection is confirmed, then one scope set tries the client again for all.

use domo_token_protocol::BootTime;

use super::{CONFIRM_AFTER, DENIED_RETRY, Rejected, Schedule, State, floor};

/// A rejection of the client, through this scope set or another one.
#[derive(Clone, Debug)]
pub(super) struct ClientBlock {
    pub(super) message: String,
    /// When the client was rejected.
    pub(super) at: BootTime,
    /// When the client is tried again, if that is known.
    pub(super) until: Option<BootTime>,
    /// Whether this scope set tries it.
    pub(super) is_probe: bool,
    /// Whether that request is to confirm the first rejection: callers whose deadline allows wait for it.
    pub(super) is_unconfirmed: bool,
}

impl ClientBlock {
    /// Returns whether the rejection is confirmed.
    pub(super) fn rejected(&self) -> Rejected {
        if self.is_unconfirmed {
            Rejected::ClientUnconfirmed
        } else {
            Rejected::Client
        }
    }

    /// Returns whether a caller with this deadline waits for the confirmation: it is in flight or due in time.
    pub(super) fn is_confirmed_before(&self, deadline: BootTime) -> bool {
        self.is_unconfirmed && self.until.is_none_or(|until| until < deadline)
    }

    /// Returns whether this scope set has to try the client now.
    pub(super) fn is_over(&self, now: BootTime) -> bool {
        self.is_probe && self.until.is_none_or(|until| until <= now)
    }
}

impl Schedule {
    /// Applies a rejection of the client by a request of this scope set. The first one since a success or since the
    /// credentials changed is confirmed by this scope set, unless another one is about to do that. One that the hosts
    /// of a fleet agree on is confirmed already; the next attempt is due at `agreed_at`.
    pub(super) fn client_rejected(
        &mut self,
        message: &str,
        agreed_at: Option<BootTime>,
        now: BootTime,
    ) -> Rejected {
        let (retry_at, rejected) = match (agreed_at, &self.client_block) {
            (Some(at), _) => (at, Rejected::Client),
            (None, Some(block)) if block.is_unconfirmed => {
                (block.until.unwrap_or(now), Rejected::ClientUnconfirmed)
            }
            (None, None) if !self.is_client_rejected => {
                (now + CONFIRM_AFTER, Rejected::ClientUnconfirmed)
            }
            (None, Some(_) | None) => (now + DENIED_RETRY, Rejected::Client),
        };
        self.state = State::Denied { retry_at };
        if self.client_block.is_none() {
            self.block_as_probe(message, retry_at, rejected, now);
        }
        rejected
    }

    /// Returns whether a rejection of the client by the fetch under way confirms an earlier one.
    pub(super) fn confirms_rejection(&self) -> bool {
        match &self.client_block {
            Some(block) => !block.is_unconfirmed,
            None => self.is_client_rejected,
        }
    }

    /// Blocks the client until this scope set tries it again, unless the scheduler chooses another one.
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

    /// Blocks the scope set because Domo rejected the client. The client is tried again at `until`: by this scope set
    /// if it `is_probe`; otherwise this one starts no request until [`Self::unblock`].
    pub fn block(&mut self, message: &str, until: Option<BootTime>, is_probe: bool, now: BootTime) {
        self.set_block(message, until, is_probe, false, now);
    }

    /// Blocks the scope set because Domo rejected the client for the first time since a success; another scope set
    /// confirms that at `until`.
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
        // The rejection was reported for another scope set.
        self.report.mark_reported(block.rejected().into(), message);
        self.client_block = Some(block);
        self.report_outage(false, now);
        self.decide_all(now);
        self.notify_watchers(now);
    }

    /// Sets when the scope set that tries the client does so next.
    pub fn update_block(&mut self, until: Option<BootTime>, now: BootTime) {
        if let Some(block) = &mut self.client_block {
            block.until = until;
            self.decide_all(now);
        }
    }

    /// Marks the client as rejected: this scope set was added after that, so its rejection confirms it.
    pub fn mark_client_rejected(&mut self) {
        self.is_client_rejected = true;
    }

    /// Returns whether this scope set may try its client at `at`: it has no request in flight, and no wait of its own
    /// lasts longer.
    #[must_use]
    pub fn may_probe(&self, at: BootTime) -> bool {
        match self.state {
            State::Idle => self.change.delayed_until.is_none_or(|until| until <= at),
            State::Fetching { .. } => false,
            // Hosts of a fleet can agree on an attempt before the floor of this scope set.
            State::Fresh { renew_at } => {
                let floor = self.lifetime.map(floor).unwrap_or_default();
                let is_past_floor = self.last_request.is_none_or(|last| last + floor <= at);
                renew_at <= at || is_past_floor && !self.reissued
            }
            State::Waiting { retry_at } | State::Denied { retry_at } => retry_at <= at,
        }
    }

    /// Ends the block: Domo accepts the client.
    pub fn unblock(&mut self, now: BootTime) {
        self.client_block = None;
        self.is_client_rejected = false;
        self.handle_timeout(now);
        // A scope set that still waits was rejected itself, and its callers get that message.
        if !matches!(self.state, State::Denied { .. }) {
            self.failure
                .take_if(|failure| failure.cause.is_client_rejection());
        }
        self.decide_all(now);
    }
}

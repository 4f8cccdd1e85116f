//! Whether the store can be used, over all fetches of the daemon.

use domo_token_core::fleet::Breaker;
use domo_token_protocol::BootTime;

use crate::source::fleet_monitor::FleetMonitor;
use crate::store::StoreError;

/// The kinds of operations.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Operation {
    Read,
    Write,
}

/// The breaker, and what closes it again. A store that is full or read-only answers each look, so after a failed write
/// only a write shows that it can be used, or a token that another host wrote since.
#[derive(Debug, Default)]
pub(super) struct Health {
    breaker: Breaker,
    failed_write: Option<BootTime>,
    /// From when on, in this outage, scope sets without a token request theirs.
    alone_from: Option<BootTime>,
}

impl Health {
    pub(super) fn is_usable(&self, now: BootTime) -> bool {
        !self.breaker.is_open(now)
    }

    /// Returns from when on scope sets without a token request theirs: `drawn`, unless it was drawn before in this outage.
    pub(super) fn alone_from(&mut self, drawn: BootTime) -> BootTime {
        *self.alone_from.get_or_insert(drawn)
    }

    pub(super) fn succeeded(
        &mut self,
        operation: Operation,
        monitor: &FleetMonitor,
        now: BootTime,
    ) {
        if operation == Operation::Read && self.failed_write.is_some() {
            return;
        }
        *self = Self::default();
        monitor.succeeded(now);
    }

    /// Records that a token was taken that another host obtained at `obtained`, and wrote after that.
    pub(super) fn took(&mut self, obtained: BootTime, monitor: &FleetMonitor, now: BootTime) {
        if self.failed_write.is_some_and(|failed| failed < obtained) {
            self.succeeded(Operation::Write, monitor, now);
        }
    }

    pub(super) fn failed(
        &mut self,
        operation: Operation,
        error: &StoreError,
        monitor: &FleetMonitor,
        now: BootTime,
    ) {
        if operation == Operation::Write {
            self.failed_write = Some(now);
        }
        self.breaker.failed(now);
        monitor.failed(error, now);
    }
}

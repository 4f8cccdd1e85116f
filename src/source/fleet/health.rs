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
/// only a write shows that it can be used.
#[derive(Debug, Default)]
pub(super) struct Health {
    breaker: Breaker,
    has_failed_write: bool,
}

impl Health {
    pub(super) fn is_usable(&self, now: BootTime) -> bool {
        !self.breaker.is_open(now)
    }

    pub(super) fn succeeded(
        &mut self,
        operation: Operation,
        monitor: &FleetMonitor,
        now: BootTime,
    ) {
        if operation == Operation::Read && self.has_failed_write {
            return;
        }
        *self = Self::default();
        monitor.succeeded(now);
    }

    pub(super) fn failed(
        &mut self,
        operation: Operation,
        error: &StoreError,
        monitor: &FleetMonitor,
        now: BootTime,
    ) {
        self.has_failed_write |= operation == Operation::Write;
        self.breaker.failed(now);
        monitor.failed(error, now);
    }
}

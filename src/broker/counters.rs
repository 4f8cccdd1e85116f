//! What has happened so far, counted for metrics.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use domo_token_protocol::messages::{Refusal, RefusalKind};

use domo_token_core::schedule::{Outcome, Reply};
use domo_token_core::scheduler::SetId;

/// Counts since the daemon started.
#[derive(Debug, Default)]
pub(super) struct Counters {
    pub(super) sets: HashMap<SetId, Counts>,
    /// Requests that came to no set, by what they came to.
    pub(super) strangers: BTreeMap<&'static str, u64>,
    /// How late the loop was at its last timer.
    pub(super) lag: Duration,
}

/// Those of one scope set.
#[derive(Clone, Debug, Default)]
pub(super) struct Counts {
    /// Tokens that came.
    pub(super) renewals: u64,
    /// Attempts that failed, by cause.
    pub(super) failures: BTreeMap<String, u64>,
    /// Requests that were given a token.
    pub(super) served: u64,
    /// Requests that were refused, by what they came to.
    pub(super) refused: BTreeMap<&'static str, u64>,
}

impl Counters {
    /// An attempt of the set came to that.
    pub(super) fn attempt(&mut self, set: SetId, outcome: &Outcome) {
        let cause = match outcome {
            Outcome::Obtained { .. } => {
                self.sets.entry(set).or_default().renewals += 1;
                return;
            }
            Outcome::Denied { .. } => "denied".to_owned(),
            Outcome::Failed { cause, .. } => cause.to_string(),
            Outcome::Ignored | Outcome::RejectedByDomo | Outcome::Expired { .. } => return,
        };
        let failures = &mut self.sets.entry(set).or_default().failures;
        *failures.entry(cause).or_default() += 1;
    }

    /// A request for the set was answered.
    pub(super) fn answer(&mut self, set: SetId, reply: &Reply) {
        let counts = self.sets.entry(set).or_default();
        match reply {
            Ok(_) => counts.served += 1,
            Err(refusal) => *counts.refused.entry(name(refusal.kind)).or_default() += 1,
        }
    }

    /// A request was refused before it came to a set, or the set went before its answer.
    pub(super) fn unmatched(&mut self, refusal: &Refusal) {
        *self.strangers.entry(name(refusal.kind)).or_default() += 1;
    }

    /// The set is gone.
    pub(super) fn forget(&mut self, set: SetId) {
        self.sets.remove(&set);
    }

    pub(super) fn of(&self, set: SetId) -> Counts {
        self.sets.get(&set).cloned().unwrap_or_default()
    }
}

/// The kind as a label.
pub(super) fn name(kind: RefusalKind) -> &'static str {
    match kind {
        RefusalKind::NotPermitted => "not_permitted",
        RefusalKind::UnknownClient => "unknown_client",
        RefusalKind::UnknownScope => "unknown_scope",
        RefusalKind::MinTtlTooLong => "min_ttl_too_long",
        RefusalKind::Denied => "denied",
        RefusalKind::Gone => "gone",
        RefusalKind::Unavailable => "unavailable",
        RefusalKind::Busy => "busy",
    }
}

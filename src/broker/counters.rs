//! Counters for metrics.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use domo_token_protocol::messages::Refusal;

use super::find_scope_set::Denial;
use domo_token_core::schedule::{Outcome, Reply};
use domo_token_core::scheduler::SetId;

/// Since the daemon started.
#[derive(Debug, Default)]
pub(super) struct Counters {
    pub(super) sets: HashMap<SetId, Counts>,
    /// Requests that were refused before they matched a scope set, by kind of refusal.
    pub(super) unmatched: BTreeMap<&'static str, u64>,
    /// How late the loop was at its last timer.
    pub(super) loop_lag: Duration,
}

/// The counts of one scope set.
#[derive(Clone, Debug, Default)]
pub(super) struct Counts {
    pub(super) renewals: u64,
    /// Failed attempts, by cause.
    pub(super) failures: BTreeMap<String, u64>,
    pub(super) served: u64,
    /// Refused requests, by kind of refusal.
    pub(super) refused: BTreeMap<&'static str, u64>,
}

impl Counters {
    /// Counts the result of an attempt.
    pub(super) fn count_attempt(&mut self, set: SetId, outcome: &Outcome) {
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

    /// Counts the answer to a request for the set.
    pub(super) fn count_answer(&mut self, set: SetId, reply: &Reply) {
        let counts = self.sets.entry(set).or_default();
        match reply {
            Ok(_) => counts.served += 1,
            Err(refusal) => *counts.refused.entry(refusal.kind.name()).or_default() += 1,
        }
    }

    /// Counts a request that was refused before it matched a set.
    pub(super) fn count_denial(&mut self, denial: &Denial) {
        self.count_unmatched(&denial.refusal);
    }

    /// Counts a refused request that matches no set, or none any more.
    pub(super) fn count_unmatched(&mut self, refusal: &Refusal) {
        *self.unmatched.entry(refusal.kind.name()).or_default() += 1;
    }

    pub(super) fn remove(&mut self, set: SetId) {
        self.sets.remove(&set);
    }

    pub(super) fn of(&self, set: SetId) -> Counts {
        self.sets.get(&set).cloned().unwrap_or_default()
    }
}

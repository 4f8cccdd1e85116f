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
    /// Counts the result of a request to Domo; one that another host sent is not counted.
    pub(super) fn count_attempt(&mut self, set: SetId, outcome: &Outcome) {
        let cause = match outcome {
            Outcome::Obtained {
                requested: true, ..
            } => {
                self.sets.entry(set).or_default().renewals += 1;
                return;
            }
            Outcome::Denied {
                requested: true, ..
            } => "denied".to_owned(),
            Outcome::Failed {
                requested: true,
                cause,
                ..
            } => cause.to_string(),
            Outcome::Obtained { .. }
            | Outcome::Denied { .. }
            | Outcome::Failed { .. }
            | Outcome::Ignored
            | Outcome::RejectedByDomo
            | Outcome::Expired { .. } => return,
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

#[cfg(test)]
mod tests {
    use super::*;
    use domo_token_core::fetch::{AgreedRetry, Fetch, Progress};
    use domo_token_core::fetch_result::{Cause, FetchError, Fetched, LifetimeSource, TokenOrigin};
    use domo_token_core::scheduler::{ClientSpec, Command, Scheduler};
    use domo_token_protocol::BootTime;
    use domo_token_protocol::scope::ScopeSet;

    fn taken() -> Fetch {
        Fetch::Obtained(Fetched {
            text: "c4nary-token".into(),
            lifetime: Duration::from_secs(3599),
            expires: None,
            renew_at: None,
            origin: TokenOrigin::Fleet,
            lifetime_source: LifetimeSource::Stated,
            granted: ScopeSet::parse("data").unwrap(),
        })
    }

    fn failed(error: FetchError, at: BootTime) -> Fetch {
        let agreed = Some(AgreedRetry { failures: 1, at });
        Fetch::Failed { error, agreed }
    }

    /// Returns the renewals and failures that are counted when each fetch of a scope set ends like that.
    fn count(requested: bool) -> (u64, BTreeMap<String, u64>) {
        let mut scheduler = Scheduler::new(1);
        let mut now = BootTime::from_millis(1_000_000);
        let spec = ClientSpec {
            name: "acme".to_owned(),
            shown_id: String::new(),
            scopes: [ScopeSet::parse("data").unwrap()].into(),
            renewed: false,
            proxy_login: None,
            loading: None,
            shares: true,
        };
        scheduler.configure(vec![spec], now);
        let mut counters = Counters::default();
        let denied = FetchError::Denied {
            scope_only: true,
            in_domos_form: true,
            message: "invalid_scope".to_owned(),
        };
        let at = now + Duration::from_secs(60);
        let mut ends = vec![
            taken(),
            failed(denied, at),
            failed(FetchError::transient(Cause::Server, "503"), at),
        ];
        let mut attempted = None;
        while let Some(command) = scheduler.poll_command() {
            match command {
                Command::Fetch(set, fetch_id) => {
                    let Some(end) = ends.pop() else {
                        break;
                    };
                    if requested {
                        scheduler.handle_progress(set, fetch_id, Progress::Requested, now);
                    }
                    scheduler.handle_fetched(set, fetch_id, end, now);
                    attempted = Some(set);
                }
                Command::Report(set, outcome) => {
                    counters.count_attempt(set, &outcome);
                    now = scheduler.poll_timeout().unwrap();
                    scheduler.handle_timeout(now);
                }
                Command::Abort(_)
                | Command::Reply(..)
                | Command::NotifyWatchers(_)
                | Command::Remove(_) => {}
            }
        }
        let counts = counters.of(attempted.unwrap());
        (counts.renewals, counts.failures)
    }

    #[test]
    fn attempt_counts_only_if_a_request_was_sent() {
        let failures = [("denied", 1), ("server", 1)];
        let failures = failures.map(|(cause, count)| (cause.to_owned(), count));
        assert_eq!(count(true), (1, failures.into()));
        assert_eq!(count(false), (0, BTreeMap::new()));
    }
}

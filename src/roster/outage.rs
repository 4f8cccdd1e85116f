//! Reports of outages: one for all scope sets of a rejected client that are without a token from the
//! same moment on.

use super::{ClientId, Roster, SetId};
use crate::clock::BootTime;
use crate::schedule::{Effect, OutageCause, Outcome};

impl Roster {
    /// Marks as reported what was reported for another scope set of the client at the same moment. A
    /// token that expires later is reported for itself.
    pub(super) fn limit_reports(&mut self, id: ClientId, outcome: &mut Outcome, now: BootTime) {
        let (effect, again) = match outcome {
            Outcome::Expired {
                cause: OutageCause::ClientDenied,
                effect,
            } => (effect, None),
            Outcome::Denied {
                scope_only: false,
                effect,
                again,
            } => (effect, Some(again)),
            Outcome::Ignored
            | Outcome::Obtained { .. }
            | Outcome::RefusedInUse
            | Outcome::Denied { .. }
            | Outcome::Failed { .. }
            | Outcome::Expired { .. } => return,
        };
        let Effect::NoToken { first, .. } = effect else {
            return;
        };
        let Some(client) = self.clients.get_mut(&id).filter(|_| *first) else {
            return;
        };
        if client.outage_reported.replace(now) == Some(now) {
            *first = false;
            if let Some(again) = again {
                *again = true;
            }
        }
    }

    /// What keeps a set's token away: the rejection of its client, or the last failed attempt.
    #[must_use]
    pub fn trouble_of(&self, set: SetId) -> Option<&str> {
        self.sets.get(&set)?.schedule.trouble()
    }

    /// When the set's next attempt is due, if that is known.
    #[must_use]
    pub fn next_attempt_of(&self, set: SetId, now: BootTime) -> Option<BootTime> {
        self.sets.get(&set)?.schedule.shown_attempt(now)
    }

    /// Returns how many scope sets of the set's client have no valid token, this one included.
    #[must_use]
    pub fn scope_sets_without_token(&self, set: SetId, now: BootTime) -> usize {
        let found = self.sets.get(&set);
        let client = found.and_then(|found| self.clients.get(&found.client));
        let sets = client.into_iter().flat_map(|client| client.sets.values());
        let schedules = sets.filter_map(|set| self.sets.get(set));
        schedules
            .filter(|found| found.schedule.token(now).is_none())
            .count()
    }
}

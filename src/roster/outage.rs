//! Reports of outages: one for all scope sets of a client that Domo rejects.

use super::{ClientId, Roster, SetId};
use crate::clock::BootTime;
use crate::schedule::{Effect, OutageCause, Outcome};

impl Roster {
    /// Marks as reported what was reported for another scope set of the client.
    pub(super) fn limit_reports(&mut self, id: ClientId, outcome: &mut Outcome) {
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
        if std::mem::replace(&mut client.outage_reported, true) {
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

    /// How many scope sets the set's client has.
    #[must_use]
    pub fn sets_beside(&self, set: SetId) -> usize {
        let found = self.sets.get(&set);
        let client = found.and_then(|found| self.clients.get(&found.client));
        client.map_or(0, |client| client.sets.len())
    }
}

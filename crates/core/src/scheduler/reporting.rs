//! Reports of outages: one for all scope sets of a rejected client, or of all clients with a rejected
//! proxy login, that are without a token from the same moment on.

use domo_token_protocol::BootTime;

use super::{ClientId, Login, Scheduler, SetId};
use crate::schedule::{CallerImpact, OutageCause, Outcome};

impl Scheduler {
    /// Marks an outage as reported that was reported for another scope set of the client at the same moment. The later
    /// expiry of another token is reported.
    pub(super) fn limit_reports(&mut self, id: ClientId, outcome: &mut Outcome, now: BootTime) {
        let (cause, impact, repeated) = match outcome {
            Outcome::Expired { cause, impact } => (*cause, impact, None),
            Outcome::Denied {
                rejected,
                impact,
                repeated,
                ..
            } => (rejected.cause(), impact, Some(repeated)),
            Outcome::Ignored
            | Outcome::Obtained { .. }
            | Outcome::RejectedByDomo
            | Outcome::Failed { .. } => return,
        };
        let CallerImpact::NoToken { first, .. } = impact else {
            return;
        };
        if !*first {
            return;
        }
        let is_first = match cause {
            OutageCause::ClientDenied | OutageCause::ClientUnconfirmed => {
                let client = self.clients.get_mut(&id);
                client.is_none_or(|client| client.outage_reported.replace(now) != Some(now))
            }
            OutageCause::ProxyLogin => self.is_first_login_report(id, now),
            OutageCause::Failed(_)
            | OutageCause::Denied
            | OutageCause::Queued
            | OutageCause::ChangeLimit
            | OutageCause::AwaitsCredentialCheck
            | OutageCause::AwaitsLoginCheck => return,
        };
        if !is_first {
            *first = false;
            if let Some(repeated) = repeated {
                *repeated = true;
            }
        }
    }

    /// Returns true the first time at this moment that callers are reported to fail because of the login of
    /// that client.
    pub(super) fn is_first_login_report(&mut self, client: ClientId, now: BootTime) -> bool {
        let login = self.login_of(client);
        login.is_none_or(|login| login.outage_reported.replace(now) != Some(now))
    }

    /// Returns how many of the scope sets that are rejected with this one have no valid token, this one
    /// included: those of its client, or of all clients that use a rejected proxy login.
    #[must_use]
    pub fn scope_sets_without_token(&self, set: SetId, now: BootTime) -> usize {
        let sets = self.rejected_with(set);
        let schedules = sets.iter().filter_map(|set| self.sets.get(set));
        schedules
            .filter(|found| found.schedule.token(now).is_none())
            .count()
    }

    /// Returns all scope sets that are rejected with this one: those of its client, or of all clients that use its
    /// login if that is rejected.
    pub(super) fn rejected_with(&self, set: SetId) -> Vec<SetId> {
        let found = self.sets.get(&set);
        let Some(client) = found.and_then(|found| self.clients.get(&found.client)) else {
            return Vec::new();
        };
        match client.proxy_login {
            Some(id) if self.logins.get(&id).is_some_and(Login::is_rejected) => {
                self.sets_of_login(id)
            }
            Some(_) | None => client.sets.values().copied().collect(),
        }
    }
}

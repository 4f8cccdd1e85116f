//! What the audit records of an answer: the client and the scope set as they were resolved when it
//! was decided.

use std::borrow::Cow;

use domo_token_protocol::messages::{Asked, Refusal};

use super::{Broker, State, counters, find};
use crate::audit::Audit;
use crate::platform::clock::Clock;
use domo_token_core::policy::Caller;
use domo_token_core::scheduler::SetId;
use domo_token_core::token::Token;

impl<C: Clock> Broker<C> {
    /// From now on each answer is recorded there.
    pub fn audit_to(&self, audit: Audit) {
        // There is one for the life of the daemon.
        let _first = self.0.audit.set(audit);
    }

    /// Records what a caller was answered, if there is an audit. What it asked for comes as it was
    /// resolved when that was decided: the config may have changed since.
    pub(super) fn record_audit(
        &self,
        caller: &Caller,
        resolved: &Asked,
        reply: Result<&Token, &Refusal>,
    ) {
        let Some(audit) = self.0.audit.get() else {
            return;
        };
        let client = resolved.client.as_deref().map(find::client_shown);
        let scope = find::scope_shown(resolved);
        let (outcome, generation) = match reply {
            Ok(token) => ("served", Some(token.life().generation)),
            Err(refusal) => (counters::name(refusal.kind), None),
        };
        audit.note(caller, client.as_deref(), &scope, outcome, generation);
    }

    /// What a caller asked for, as it was resolved, if there is an audit to record it.
    pub(super) fn resolved(
        &self,
        state: &State,
        asked: &Asked,
        admitted: &Result<SetId, Refusal>,
    ) -> Option<Asked> {
        self.0.audit.get()?;
        Some(match admitted {
            Ok(set) => state.names_of(*set)?,
            Err(_) => state.resolved(asked),
        })
    }
}

impl State {
    /// What a caller asks for, with the client that it means now.
    fn resolved(&self, asked: &Asked) -> Asked {
        Asked {
            client: self.client_meant(asked).map(Cow::into_owned),
            scope: asked.scope.clone(),
        }
    }

    /// The client and the scopes of a set, as a caller would ask for it.
    pub(super) fn names_of(&self, set: SetId) -> Option<Asked> {
        let (client, scope) = self.scheduler.name_of(set)?;
        Some(Asked {
            client: Some(client.to_owned()),
            scope: scope.as_str().to_owned(),
        })
    }
}

//! What the audit records of a decision.

use std::borrow::Cow;

use domo_token_protocol::messages::{Asked, Refusal};

use super::{Broker, State, counters, find_scope_set};
use crate::audit::Audit;
use crate::platform::clock::Clock;
use domo_token_core::access_policy::Caller;
use domo_token_core::scheduler::SetId;
use domo_token_core::token::Token;

impl<C: Clock> Broker<C> {
    /// Records each answer from now on.
    pub fn audit_to(&self, audit: Audit) {
        // There is one for the lifetime of the daemon.
        self.0.audit.set(audit).ok();
    }

    /// Records what a caller was answered, if there is an audit. `subject` is of the moment of the
    /// decision, because the config may have changed since.
    pub(super) fn record_audit(
        &self,
        caller: &Caller,
        subject: &Asked,
        reply: Result<&Token, &Refusal>,
    ) {
        let Some(audit) = self.0.audit.get() else {
            return;
        };
        let client = subject.client.as_deref().map(find_scope_set::client_shown);
        let scope = find_scope_set::scope_shown(subject);
        let (outcome, generation) = match reply {
            Ok(token) => ("served", Some(token.life().generation)),
            Err(refusal) => (counters::label(refusal.kind), None),
        };
        audit.record(caller, client.as_deref(), &scope, outcome, generation);
    }

    /// Returns the client and the scopes that were decided on, if there is an audit.
    pub(super) fn audit_subject(
        &self,
        state: &State,
        asked: &Asked,
        admitted: &Result<SetId, Refusal>,
    ) -> Option<Asked> {
        self.0.audit.get()?;
        Some(match admitted {
            Ok(set) => state.names_of(*set)?,
            Err(_) => Asked {
                client: state.client_meant(asked).map(Cow::into_owned),
                scope: asked.scope.clone(),
            },
        })
    }
}

impl State {
    /// Returns the client and the scopes of a set, as a request would name them.
    pub(super) fn names_of(&self, set: SetId) -> Option<Asked> {
        let (client, scope) = self.scheduler.name_of(set)?;
        Some(Asked {
            client: Some(client.to_owned()),
            scope: scope.as_str().to_owned(),
        })
    }
}

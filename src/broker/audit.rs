//! What the audit records of a decision.

use domo_token_protocol::messages::{Refusal, TokenSubject};

use super::find_scope_set::Denial;
use super::{Broker, State};
use crate::audit::{AppRequest, Audit};
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
        subject: Option<TokenSubject>,
        reply: Result<&Token, &Refusal>,
    ) {
        let (Some(audit), Some(TokenSubject { client, scope })) = (self.0.audit.get(), subject)
        else {
            return;
        };
        if caller.app.is_some() {
            // Its requests to Domo are recorded instead: it does not receive the token.
            return;
        }
        let (outcome, generation) = match reply {
            Ok(token) => ("served", Some(token.validity().generation)),
            Err(refusal) => (refusal.kind.name(), None),
        };
        audit.record(caller, client.as_deref(), &scope, outcome, generation);
    }

    /// Records a request of an application, if there is an audit.
    pub fn record_app_request(&self, request: &AppRequest<'_>) {
        if let Some(audit) = self.0.audit.get() {
            audit.record_app(request);
        }
    }

    /// Returns the client and the scopes that were decided on, if there is an audit.
    pub(super) fn audit_subject(
        &self,
        state: &State,
        admitted: &Result<SetId, Denial>,
    ) -> Option<TokenSubject> {
        self.0.audit.get()?;
        Some(match admitted {
            Ok(set) => {
                let (client, scope) = state.scheduler.name_of(*set)?;
                TokenSubject {
                    client: Some(client.to_owned()),
                    scope: scope.as_str().to_owned(),
                }
            }
            Err(denial) => denial.subject.clone(),
        })
    }
}

//! What callers see of clients that could not be loaded. The reason may show paths and what a
//! command did, so it is for root and the daemon's user alone.

use domo_token_client::wire::{Refusal, ScopeStatus};

use super::State;
use crate::policy::Caller;
use crate::roster::SetId;

/// The most clients that one line names.
const MAX_NAMED: usize = 3;

impl State {
    /// A refusal for a set, with the reason if its client could not be loaded and the caller may
    /// see it.
    pub(super) fn with_load_error(&self, set: SetId, caller: &Caller, refusal: Refusal) -> Refusal {
        let client = self.roster.failed_client_of(set);
        let error = client.and_then(|client| self.about.load_errors.get(client));
        match error.filter(|_| caller.privileged) {
            Some(error) => Refusal {
                cause: format!("{}: {error}", refusal.cause),
                ..refusal
            },
            None => refusal,
        }
    }

    /// The status of a set of a client of which what the config says could not be loaded.
    pub(super) fn show_load_error(&self, status: &mut ScopeStatus, caller: &Caller) {
        let Some(error) = self.about.load_errors.get(&status.client) else {
            return;
        };
        let (shown, what) = if self.about.origins.contains_key(&status.client) {
            let what =
                "the client could not be loaded again, and its previous credentials are used";
            (&mut status.credentials_error, what)
        } else {
            (&mut status.last_error, "the client could not be loaded")
        };
        *shown = Some(if caller.privileged {
            format!("{what}: {error}")
        } else {
            what.to_owned()
        });
    }

    /// All clients that could not be loaded, as far as the caller may see them, in one line.
    pub(super) fn load_errors_shown(&self, caller: &Caller) -> Option<String> {
        let shown = |(name, error): (&String, &String)| {
            if caller.privileged {
                format!("client \"{name}\" could not be loaded: {error}")
            } else {
                format!("client \"{name}\" could not be loaded")
            }
        };
        let errors = self.about.load_errors.iter();
        let errors = errors.filter(|(name, _)| self.may_see_client(name, caller));
        let mut lines: Vec<String> = errors.map(shown).collect();
        let more = lines.len().saturating_sub(MAX_NAMED);
        lines.truncate(MAX_NAMED);
        if more > 0 {
            lines.push(format!("and {more} more"));
        }
        (!lines.is_empty()).then(|| lines.join("; "))
    }
}

//! All living tokens, for the next process of the daemon.

use std::collections::BTreeMap;

use domo_token_client::scope::ScopeSet;
use serde::{Deserialize, Serialize};
use tokio::sync::watch as signal;
use tracing::info;

use super::Broker;
use crate::clock::Clock;
use crate::schedule::Kept;

/// Who asks where for a client's tokens.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Origin {
    /// The client id.
    pub client_id: String,
    /// The token endpoint.
    pub token_url: String,
}

/// A living token, and all that another process must know to go on with it.
#[derive(Debug)]
pub struct Held {
    /// The client's name.
    pub client: String,
    /// Who asked for it, and where.
    pub origin: Origin,
    /// The scope set.
    pub scope: ScopeSet,
    /// The token and its timer.
    pub kept: Kept,
}

impl<C: Clock> Broker<C> {
    /// Rung whenever there are other tokens than before.
    #[must_use]
    pub fn renewals(&self) -> signal::Receiver<()> {
        self.0.renewed.subscribe()
    }

    /// Rung whenever an attempt has ended, well or badly.
    #[must_use]
    pub fn attempts(&self) -> signal::Receiver<()> {
        self.0.attempted.subscribe()
    }

    /// All living tokens, unless they must not be kept.
    #[must_use]
    pub fn held(&self) -> Option<Vec<Held>> {
        let now = self.0.clock.now();
        let state = self.state();
        let held = state.roster.kept(now).filter_map(|(client, scope, kept)| {
            Some(Held {
                client: client.to_owned(),
                origin: state.about.origins.get(client)?.clone(),
                scope: scope.clone(),
                kept,
            })
        });
        state.about.keeps.then(|| held.collect())
    }

    /// Tokens of an earlier process, for the [`super::Engine`] that is made next.
    pub fn take_over(&self, kept: BTreeMap<(String, ScopeSet), Kept>) {
        if !kept.is_empty() {
            info!(
                count = kept.len(),
                "tokens of the last process are taken over"
            );
        }
        self.state().roster.take_over(kept);
    }
}

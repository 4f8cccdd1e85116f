//! The valid tokens for the next process of the daemon, and those of the previous one.

use std::collections::BTreeSet;

use domo_token_protocol::scope::ScopeSet;
use tokio::sync::watch as signal;
use tracing::info;

use super::{Broker, State};
use crate::platform::clock::Clock;
use crate::source::Origin;
use domo_token_core::schedule::TokenSnapshot;
use domo_token_core::scheduler::ClientSpec;

/// A valid token, with what another process needs to serve and renew it.
#[derive(Clone, Debug)]
pub struct StoredToken {
    pub client: String,
    pub origin: Origin,
    pub scope: ScopeSet,
    /// The token and its timer.
    pub snapshot: TokenSnapshot,
}

impl<C: Clock> Broker<C> {
    /// Returns a receiver that is notified whenever the tokens to be stored have changed.
    #[must_use]
    pub fn renewals(&self) -> signal::Receiver<()> {
        self.0.renewed.subscribe()
    }

    /// Returns a receiver that is notified whenever an attempt has succeeded or failed.
    #[must_use]
    pub fn attempts(&self) -> signal::Receiver<()> {
        self.0.attempted.subscribe()
    }

    /// Returns all valid tokens, including those of the previous process whose client is not loaded;
    /// `None` if the config forbids to store them.
    #[must_use]
    pub fn tokens_to_store(&self) -> Option<Vec<StoredToken>> {
        let now = self.0.clock.now();
        let mut state = self.state();
        state
            .stored
            .retain(|stored| now < stored.snapshot.token.validity().expires);
        let served = state
            .scheduler
            .snapshots(now)
            .filter_map(|(client, scope, snapshot)| {
                Some(StoredToken {
                    client: client.to_owned(),
                    origin: state.config.origins.get(client)?.clone(),
                    scope: scope.clone(),
                    snapshot,
                })
            });
        let all = served.chain(state.stored.iter().cloned());
        state.config.keep_over_restart.then(|| all.collect())
    }

    /// Sets the tokens of an earlier process, for the [`super::Engine`] that is created next. Each is served
    /// once its client is loaded, if it has the same token endpoint.
    pub fn set_stored(&self, stored: Vec<StoredToken>) {
        if !stored.is_empty() {
            let count = stored.len();
            info!(
                count,
                "restored tokens from systemd's file-descriptor store"
            );
        }
        self.state().stored = stored;
    }
}

impl State {
    /// Passes the stored tokens of the loaded clients to the scheduler, and drops those of clients
    /// that are not in the config. Under another client id a token is served until the first one of
    /// the new id.
    pub(super) fn restore(&mut self, specs: &[ClientSpec]) {
        let is_configured =
            |stored: &StoredToken| specs.iter().any(|client| client.name == stored.client);
        self.stored.retain(is_configured);
        let loaded = specs.iter().filter(|client| client.loading.is_none());
        let loaded: BTreeSet<&str> = loaded.map(|client| client.name.as_str()).collect();
        let origins = &self.config.origins;
        let is_loaded = |stored: &mut StoredToken| loaded.contains(stored.client.as_str());
        let restored = self.stored.extract_if(.., is_loaded);
        let snapshots = restored.filter_map(|stored| {
            let origin = origins.get(&stored.client)?;
            if origin.token_url != stored.origin.token_url {
                return None;
            }
            let same_id = origin.client_id == stored.origin.client_id;
            let renew_at = stored.snapshot.renew_at.filter(|_| same_id);
            let snapshot = TokenSnapshot {
                renew_at,
                ..stored.snapshot
            };
            Some(((stored.client, stored.scope), snapshot))
        });
        self.scheduler.restore(snapshots.collect());
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::time::Duration;

    use super::*;
    use crate::broker::BrokerConfig;
    use crate::platform::clock::{BootTime, SystemClock};
    use domo_token_core::schedule::Loading;
    use domo_token_core::token::{Token, Validity};

    fn origin() -> Origin {
        Origin {
            client_id: "id".to_owned(),
            token_url: "https://api.domo.com/oauth/token".to_owned(),
        }
    }

    fn stored() -> StoredToken {
        let now = SystemClock::new().now();
        let scope = ScopeSet::parse("data").unwrap();
        let validity = Validity {
            generation: 7,
            obtained: now,
            lifetime: Duration::from_secs(3599),
            expires: now + Duration::from_secs(3599),
        };
        let token = Token::new("acme", &scope, &"c4nary-token".into(), validity).unwrap();
        let renew_at = Some(now + Duration::from_secs(2700));
        StoredToken {
            client: "acme".to_owned(),
            origin: origin(),
            scope,
            snapshot: TokenSnapshot { token, renew_at },
        }
    }

    fn client(loading: Option<Loading>) -> ClientSpec {
        ClientSpec {
            name: "acme".to_owned(),
            shown_id: String::new(),
            scopes: BTreeSet::from([ScopeSet::parse("data").unwrap()]),
            renewed: true,
            proxy_login: None,
            loading,
            shares: false,
        }
    }

    /// Returns a broker with a stored token and the client `acme`, which, if it is loaded, requests its tokens from
    /// `origin`.
    fn broker(origin: Origin, loading: Option<Loading>) -> Broker<SystemClock> {
        let config = BrokerConfig {
            origins: BTreeMap::from([("acme".to_owned(), origin)]),
            keep_over_restart: true,
            ..BrokerConfig::default()
        };
        let broker = Broker::new(SystemClock::new(), 1, config);
        broker.set_stored(vec![stored()]);
        configure(&broker, &[client(loading)]);
        broker
    }

    fn configure(broker: &Broker<SystemClock>, clients: &[ClientSpec]) {
        let now = SystemClock::new().now();
        let mut state = broker.state();
        state.restore(clients);
        state.scheduler.configure(clients.to_vec(), now);
    }

    /// Returns the stored tokens that are served: the time of renewal of each.
    fn served(broker: &Broker<SystemClock>) -> Vec<Option<BootTime>> {
        let now = SystemClock::new().now();
        let state = broker.state();
        state
            .scheduler
            .snapshots(now)
            .map(|(_, _, snapshot)| snapshot.renew_at)
            .collect()
    }

    #[test]
    fn stored_token_is_served_for_another_client_id_but_not_for_another_endpoint() {
        let same = broker(origin(), None);
        assert!(matches!(served(&same)[..], [Some(_)]));
        let other_id = Origin {
            client_id: "new".to_owned(),
            ..origin()
        };
        assert_eq!(served(&broker(other_id, None)), [None]);
        let moved = Origin {
            token_url: "https://elsewhere.example/token".to_owned(),
            ..origin()
        };
        let moved = broker(moved, None);
        assert_eq!(served(&moved), []);
        assert_eq!(moved.tokens_to_store().unwrap().len(), 0);
    }

    #[test]
    fn stored_token_of_a_client_that_is_not_loaded_stays_stored_until_it_is() {
        for loading in [Loading::Pending, Loading::Failed { retry_at: None }] {
            let broker = broker(origin(), Some(loading));
            assert_eq!(served(&broker), []);
            assert_eq!(broker.tokens_to_store().unwrap().len(), 1);
            configure(&broker, &[client(None)]);
            assert!(matches!(served(&broker)[..], [Some(_)]));
            assert_eq!(broker.state().stored.len(), 0);
            assert_eq!(broker.tokens_to_store().unwrap().len(), 1);
        }
    }

    #[test]
    fn stored_token_of_a_client_that_is_removed_is_dropped() {
        let broker = broker(origin(), Some(Loading::Pending));
        configure(&broker, &[]);
        assert_eq!(broker.tokens_to_store().unwrap().len(), 0);
    }
}

//! Sources of tokens: the trait that the broker's engine uses, the sources that a config can choose, and the sealing of
//! tokens that hosts share.

pub mod domo;
pub(crate) mod key_derivation;
pub mod sealing;
pub mod fleet_monitor;
pub mod fleet;

use std::future::Future;
use std::sync::Arc;

use domo_token_core::fetch::{Fetch, Occasion, Progress};
use secrecy::SecretString;
use serde::{Deserialize, Serialize};

use crate::config::ClientConfig;
use crate::connect::{Connector, Shared};
use crate::credentials::{Credentials, ProxyLogin};
use crate::platform::clock::SystemClock;
use crate::store::redis::RedisStore;
use domo::{DomoSource, Registration};
use fleet::{Fleet, FleetSource};
use sealing::FleetKeys;

pub use domo::SourceError;

/// Requests tokens for one API client.
pub trait TokenSource: Send + Sync + 'static {
    /// Fetches one token, with at most one request to Domo, which has the time limit of `occasion`; never retries.
    /// Reports when the request is sent, and when a proxy has opened a tunnel for it.
    fn fetch(
        &self,
        occasion: &Occasion,
        on_progress: &(dyn Fn(Progress) + Send + Sync),
    ) -> impl Future<Output = Fetch> + Send;
}

/// The client id and token endpoint that a client's tokens were requested with.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Origin {
    pub client_id: String,
    pub token_url: String,
}

/// The source that the config chooses for a client.
pub enum Source {
    /// Domo's token endpoint.
    Domo(Arc<DomoSource>),
    /// The same, whose tokens hosts share.
    Fleet(FleetSource<Arc<DomoSource>, RedisStore, SystemClock>),
}

/// The fleet of the daemon.
pub type DaemonFleet = Fleet<RedisStore, SystemClock>;

impl Source {
    /// Returns `previous` if it has the same endpoint and credentials, else a new source. Sources with the same `shared`
    /// share name lookups and trust stores.
    ///
    /// # Errors
    ///
    /// [`SourceError`] if the endpoint's CA file can't be used.
    pub fn new(
        client: &ClientConfig,
        credentials: Credentials,
        proxy_login: Option<ProxyLogin>,
        previous: Option<&Arc<Self>>,
        shared: &Shared,
    ) -> Result<Arc<Self>, SourceError> {
        let registration = Registration::new(client.endpoint.clone(), credentials, proxy_login)?;
        if let Some(previous) = previous
            && *previous.registration() == registration
        {
            return Ok(Arc::clone(previous));
        }
        let source = DomoSource::new(registration, shared)?;
        Ok(Arc::new(Self::Domo(Arc::new(source))))
    }

    /// Returns a source of the same tokens, which `fleet` shares.
    #[must_use]
    pub fn shared(&self, fleet: &Arc<DaemonFleet>, keys: FleetKeys, client: &str) -> Self {
        let domo = Arc::clone(self.domo());
        Self::Fleet(FleetSource::new(domo, Arc::clone(fleet), keys, client))
    }

    #[must_use]
    pub fn origin(&self) -> Origin {
        let registration = self.registration();
        Origin {
            client_id: registration.client_id().to_owned(),
            token_url: registration.token_url().to_owned(),
        }
    }

    /// Returns how it connects to Domo.
    pub(crate) fn connector(&self) -> &Arc<Connector> {
        self.domo().connector()
    }

    /// Returns the secret, from which the keys that seal shared tokens are derived.
    pub(crate) fn client_secret(&self) -> &SecretString {
        self.registration().client_secret()
    }

    /// Returns what is unusual about its credentials, each with what to do.
    #[must_use]
    pub fn credential_warnings(&self) -> Vec<String> {
        self.registration().paste_mistakes()
    }

    fn registration(&self) -> &Registration {
        self.domo().registration()
    }

    fn domo(&self) -> &Arc<DomoSource> {
        match self {
            Self::Domo(source) => source,
            Self::Fleet(source) => source.source(),
        }
    }
}

impl TokenSource for Source {
    async fn fetch(
        &self,
        occasion: &Occasion,
        on_progress: &(dyn Fn(Progress) + Send + Sync),
    ) -> Fetch {
        match self {
            Self::Domo(source) => source.fetch(occasion, on_progress).await,
            // Boxed, so that clients without a fleet need no memory for it.
            Self::Fleet(source) => Box::pin(source.fetch(occasion, on_progress)).await,
        }
    }
}

impl TokenSource for Arc<DomoSource> {
    async fn fetch(
        &self,
        occasion: &Occasion,
        on_progress: &(dyn Fn(Progress) + Send + Sync),
    ) -> Fetch {
        let Occasion { scope, timeout, .. } = occasion;
        DomoSource::fetch(self, scope, *timeout, on_progress)
            .await
            .into()
    }
}

//! The token source of one host: Domo alone, or shared with other hosts through the store.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use domo_token::platform::clock::Clock;
use domo_token::source::TokenSource;
use domo_token::source::fleet::{Fleet, FleetSource};
use domo_token::source::sealing::FleetKeys;
use domo_token_core::fetch::{Fetch, Occasion, Progress};
use domo_token_core::fetch_result::TokenOrigin;

use crate::clock::SimClock;
use crate::domo::SimSource;
use crate::store::SimStore;

/// The source of one client of a host.
pub(crate) enum HostSource {
    Alone(SimSource),
    Shared(FleetSource<SimSource, SimStore, SimClock>),
}

impl HostSource {
    pub(crate) fn new(source: SimSource, fleet: Option<&Arc<Fleet<SimStore, SimClock>>>) -> Self {
        let Some(fleet) = fleet else {
            return Self::Alone(source);
        };
        // Hosts name the same client differently.
        let client_id = source.client.trim_end_matches(|c: char| c.is_ascii_digit());
        let secret = format!("c4nary-secret-of-64-characters-{}", source.valid);
        let keys = FleetKeys::new(&secret.into(), None, "https://domo/token", client_id);
        let client = source.client.clone();
        let keys = keys.unwrap();
        Self::Shared(FleetSource::new(source, Arc::clone(fleet), keys, &client))
    }

    /// Returns its source of tokens of Domo.
    pub(crate) fn domo(&self) -> &SimSource {
        match self {
            Self::Alone(source) => source,
            Self::Shared(fleet) => fleet.source(),
        }
    }
}

impl TokenSource for HostSource {
    async fn fetch(
        &self,
        occasion: &Occasion,
        on_progress: &(dyn Fn(Progress) + Send + Sync),
    ) -> Fetch {
        let source = self.domo();
        let domo = &source.domo;
        let key = (source.client.clone(), occasion.scope.clone());
        domo.fetch_started(&key, source.login);
        let fleet = match self {
            Self::Alone(source) => return source.fetch(occasion, on_progress).await,
            Self::Shared(fleet) => fleet,
        };
        let started = domo.clock.now();
        let is_requested = AtomicBool::new(false);
        let on_progress = |progress| {
            if progress == Progress::Requested {
                is_requested.store(true, Ordering::Relaxed);
            }
            on_progress(progress);
        };
        let fetch = fleet.fetch(occasion, &on_progress).await;
        match &fetch {
            Fetch::Obtained(fetched) if fetched.origin == TokenOrigin::Fleet => {
                domo.took(&key, fetched, started);
            }
            Fetch::Failed {
                error,
                agreed: Some(agreed),
            } if !is_requested.load(Ordering::Relaxed) => {
                domo.adopted(&key, error, *agreed, started);
            }
            Fetch::Obtained(_) | Fetch::Failed { .. } | Fetch::Postponed(_) => {}
        }
        fetch
    }
}

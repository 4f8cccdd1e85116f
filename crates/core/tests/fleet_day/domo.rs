//! The simulated Domo: its outages, and the tokens that it issued.

use std::time::Duration;

use domo_token_core::fetch_result::{Cause, FetchError, Fetched, LifetimeSource, TokenOrigin};
use domo_token_protocol::scope::ScopeSet;

use crate::LIFETIME;

/// How Domo fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// Status 503.
    Unavailable,
    /// No response.
    Hangs,
    /// The client is rejected.
    Rejects,
}

/// A time in which Domo fails.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Outage {
    from_ms: u64,
    to_ms: u64,
    fault: Fault,
}

impl Outage {
    /// Begins after that many seconds, and takes that many.
    pub(crate) fn new(from: u64, seconds: u64, fault: Fault) -> Self {
        Self {
            from_ms: from * 1_000,
            to_ms: (from + seconds) * 1_000,
            fault,
        }
    }
}

#[derive(Default)]
pub(crate) struct Domo {
    outages: Vec<Outage>,
    /// When each token expires, in milliseconds of virtual time. The text of a token is its position.
    issued: Vec<u64>,
    /// When each request was sent.
    pub(crate) requests: Vec<u64>,
}

impl Domo {
    pub(crate) fn new(outages: Vec<Outage>) -> Self {
        Self {
            outages,
            ..Self::default()
        }
    }

    /// Returns when a request that is sent now ends, and how.
    pub(crate) fn request(
        &mut self,
        now_ms: u64,
        timeout: Duration,
        rng: &mut fastrand::Rng,
    ) -> (u64, Result<Fetched, FetchError>) {
        self.requests.push(now_ms);
        let outage = self
            .outages
            .iter()
            .find(|outage| (outage.from_ms..outage.to_ms).contains(&now_ms));
        let transient = |cause| Err(FetchError::transient(cause, "it failed"));
        match outage.map(|outage| outage.fault) {
            None => {
                let text = format!("token-{}", self.issued.len());
                self.issued.push(now_ms + LIFETIME * 1_000);
                (now_ms + rng.u64(100..500), Ok(token(&text)))
            }
            Some(Fault::Unavailable) => (now_ms + 200, transient(Cause::Server)),
            Some(Fault::Hangs) => {
                let late = u64::try_from(timeout.as_millis()).unwrap();
                (now_ms + late, transient(Cause::Timeout))
            }
            Some(Fault::Rejects) => (now_ms + 200, Err(rejection())),
        }
    }

    /// Returns when the token with this text expires.
    pub(crate) fn expiry_of(&self, text: &str) -> u64 {
        let number: usize = text.strip_prefix("token-").unwrap().parse().unwrap();
        self.issued[number]
    }

    pub(crate) fn tokens(&self) -> usize {
        self.issued.len()
    }
}

fn token(text: &str) -> Fetched {
    Fetched {
        text: text.into(),
        lifetime: Duration::from_secs(LIFETIME),
        expires: None,
        renew_at: None,
        origin: TokenOrigin::Domo,
        lifetime_source: LifetimeSource::Stated,
        granted: ScopeSet::parse("data").unwrap(),
    }
}

fn rejection() -> FetchError {
    FetchError::Denied {
        scope_only: false,
        in_domos_form: true,
        message: "the client is unknown".to_owned(),
    }
}

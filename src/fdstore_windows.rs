//! Tokens over a restart of the service: on Windows there is nobody to hold them meanwhile.

use std::fs::File;

use tokio_util::sync::CancellationToken;

use crate::broker::{Broker, StoredToken};
use crate::platform::clock::{BootTime, Clock};

/// What an earlier process had handed over: nothing.
pub struct StoredTokens;

impl StoredTokens {
    /// Nobody hands anything back.
    #[must_use]
    pub fn read(_: Vec<File>) -> Self {
        Self
    }

    /// None.
    #[must_use]
    pub fn tokens(self, _: BootTime) -> Vec<StoredToken> {
        Vec::new()
    }
}

/// Hands nothing over.
#[expect(clippy::unused_async, reason = "the same face everywhere")]
pub async fn run<C: Clock>(_: Broker<C>, _: C, _: CancellationToken) {}

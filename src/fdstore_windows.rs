//! Tokens over a restart of the service: Windows has no file-descriptor store.

use std::fs::File;

use tokio_util::sync::CancellationToken;

use crate::broker::{Broker, StoredToken};
use crate::platform::clock::{BootTime, Clock};

/// The tokens that an earlier process had stored: none.
pub struct StoredTokens;

impl StoredTokens {
    #[must_use]
    pub fn read(_: Vec<File>) -> Self {
        Self
    }

    #[must_use]
    pub fn tokens(self, _: BootTime) -> Vec<StoredToken> {
        Vec::new()
    }
}

/// Stores nothing.
#[expect(clippy::unused_async, reason = "the same signature everywhere")]
pub async fn run<C: Clock>(_: Broker<C>, _: C, _: CancellationToken) {}

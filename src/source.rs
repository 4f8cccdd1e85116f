//! The border to the outside world: who gives tokens, and the few ways in which that fails.

pub mod domo;

use std::future::Future;
use std::time::Duration;

use domo_token_core::fetch::{FetchError, Fetched};
use domo_token_protocol::scope::ScopeSet;

/// Gives tokens for one API client.
pub trait TokenSource: Send + Sync + 'static {
    /// Requests one token, once, within `limit`; never retries by itself. Calls `on_tunnel` as soon as a
    /// proxy has opened a tunnel: its login works, whatever Domo answers.
    fn fetch(
        &self,
        scope: &ScopeSet,
        limit: Duration,
        on_tunnel: &(dyn Fn() + Send + Sync),
    ) -> impl Future<Output = Result<Fetched, FetchError>> + Send;
}

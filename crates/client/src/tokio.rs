//! The broker for async apps on tokio: the same methods as the blocking one, and the same tokens.
//!
//! [`Broker::token`] returns cached tokens without waiting. A request runs on a thread of the runtime's
//! blocking pool; all tasks that need a token of one scope set share it, and it goes on when a task is
//! dropped. Shutting the runtime down waits for it, at most until its deadline. The runtime needs its
//! time driver (`enable_time`, which `#[tokio::main]` turns on).
//!
//! ```
//! # #[cfg(unix)] {
//! # mod fake { include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fake/mod.rs")); }
//! # let fake = fake::Fake::granting();
//! # let path = fake.path();
//! use domo_token_client::tokio::Broker;
//!
//! # let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
//! # runtime.block_on(async {
//! let broker = Broker::connect_to(path).await?;
//! let token = broker.token("data").await?;
//! # assert_eq!(token.generation(), 7);
//! # Ok::<(), domo_token_client::Error>(())
//! # })?;
//! # }
//! # Ok::<(), domo_token_client::Error>(())
//! ```

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::task::spawn_blocking;

use crate::error::Error;
use crate::in_flight::{CallerRequest, Requirement, Role};
use crate::process::spawn;
use crate::token::Token;
use crate::watch::Stop;

/// A connection to the broker of this host, and the tokens that this process has cached. It can be made
/// from a [`crate::Broker`], whose tokens it then shares.
///
/// # Panics
///
/// The async functions panic outside of a tokio runtime.
#[derive(Clone, Debug)]
pub struct Broker(pub(crate) crate::Broker);

impl From<crate::Broker> for Broker {
    fn from(broker: crate::Broker) -> Self {
        Self(broker)
    }
}

impl Broker {
    /// Connects as [`crate::Broker::connect`] does.
    ///
    /// # Errors
    ///
    /// As there.
    pub async fn connect() -> Result<Self, Error> {
        blocking(crate::Broker::connect).await.map(Self)
    }

    /// Connects as [`crate::Broker::connect_to`] does.
    ///
    /// # Errors
    ///
    /// As there.
    pub async fn connect_to(path: impl Into<PathBuf>) -> Result<Self, Error> {
        let path = path.into();
        blocking(|| crate::Broker::connect_to(path)).await.map(Self)
    }

    /// Returns a broker that connects on its first call, as [`crate::Broker::lazy`].
    ///
    /// # Errors
    ///
    /// As there.
    pub fn lazy() -> Result<Self, Error> {
        crate::Broker::lazy().map(Self)
    }

    /// Returns a broker that connects to this socket on its first call, as [`crate::Broker::lazy_at`].
    #[must_use]
    pub fn lazy_at(path: impl Into<PathBuf>) -> Self {
        Self(crate::Broker::lazy_at(path))
    }

    /// Returns a clone that requests tokens of this API client, as [`crate::Broker::with_client`].
    #[must_use]
    pub fn with_client(&self, name: &str) -> Self {
        Self(self.0.with_client(name))
    }

    /// Returns a clone with this time limit for each call, as [`crate::Broker::with_timeout`].
    #[must_use]
    pub fn with_timeout(&self, timeout: Duration) -> Self {
        Self(self.0.with_timeout(timeout))
    }

    /// Returns a token for exactly these scopes, as [`crate::Broker::token`].
    ///
    /// # Errors
    ///
    /// As there.
    pub async fn token(&self, scopes: &str) -> Result<Token, Error> {
        self.request(scopes).send().await
    }

    /// Starts a token request with conditions.
    pub fn request<'a>(&'a self, scopes: &'a str) -> TokenRequest<'a> {
        TokenRequest(self.0.request(scopes))
    }

    /// Returns another token than this rejected one, as [`crate::Broker::renew`].
    ///
    /// # Errors
    ///
    /// As there.
    pub async fn renew(&self, rejected: &Token) -> Result<Token, Error> {
        let requirement = Requirement::other_than(rejected);
        obtain(&self.0, self.0.call(rejected.key().clone(), requirement)).await
    }

    /// Keeps a valid token cached, as [`crate::Broker::keep`].
    ///
    /// # Errors
    ///
    /// As there.
    pub fn keep(&self, scopes: &str) -> Result<(), Error> {
        self.0.keep(scopes)
    }

    /// Returns the current token for these scopes, then each new one. See [`Watch`].
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidScope`](crate::ErrorKind::InvalidScope), or [`ErrorKind::Io`](crate::ErrorKind::Io) if no thread can be started.
    pub fn watch(&self, scopes: &str) -> Result<Watch, Error> {
        let stop = Arc::new(Stop::new());
        let tokens = self.0.watch(scopes)?.until(Arc::clone(&stop));
        let (sender, receiver) = mpsc::channel(1);
        spawn(move || {
            for item in tokens {
                if sender.blocking_send(item).is_err() {
                    return;
                }
            }
        })?;
        Ok(Watch {
            tokens: receiver,
            stop,
        })
    }

    /// Returns the path of the broker's socket, as [`crate::Broker::socket`].
    #[must_use]
    pub fn socket(&self) -> PathBuf {
        self.0.socket()
    }
}

/// A token request with conditions, from [`Broker::request`].
#[derive(Clone, Debug)]
#[must_use]
pub struct TokenRequest<'a>(crate::TokenRequest<'a>);

impl TokenRequest<'_> {
    /// Sets the least time until expiry, as [`crate::TokenRequest::min_ttl`].
    pub fn min_ttl(self, least: Duration) -> Self {
        Self(self.0.min_ttl(least))
    }

    /// Requests another token than the current one, as [`crate::TokenRequest::renew`].
    pub fn renew(self) -> Self {
        Self(self.0.renew())
    }

    /// Requests another token than a rejected one, as [`crate::TokenRequest::rejected`].
    pub fn rejected(self, generation: u64) -> Self {
        Self(self.0.rejected(generation))
    }

    /// Sends the request.
    ///
    /// # Errors
    ///
    /// As [`crate::Broker::token`].
    pub async fn send(self) -> Result<Token, Error> {
        let request = self.0;
        if let Some(token) = request.broker.cached(request.scopes, &request.requirement) {
            return Ok(token);
        }
        let key = request.broker.key(request.scopes)?;
        let call = request.broker.call(key.clone(), request.requirement);
        let token = obtain(request.broker, call).await?;
        request.broker.shared().cache.alias(&key, request.scopes);
        Ok(token)
    }
}

/// Returns a token for a call whose requirement no cached one meets.
async fn obtain(broker: &crate::Broker, mut call: CallerRequest) -> Result<Token, Error> {
    let shared = broker.shared();
    let process = shared.process();
    loop {
        let request = match process.join_or_lead(&mut call, &shared.cache) {
            Role::Cached(token) => return Ok(token),
            Role::Follow(request) => request,
            Role::Lead(leader) => {
                let request = leader.request();
                let (process, cache) = (Arc::clone(&process), Arc::clone(&shared.cache));
                // It completes even if the task that awaits it is dropped.
                spawn_blocking(move || leader.run(|request| process.send(request), &cache));
                request
            }
        };
        request.wait_async(call.cancel_at()).await;
        if let Some(result) = request.resolve(&call, &shared.cache) {
            return result;
        }
    }
}

/// The tokens of one scope set, from [`Broker::watch`], in the order of [`crate::Watch`]. A thread
/// receives them; it ends when this is dropped.
pub struct Watch {
    tokens: mpsc::Receiver<Result<Token, Error>>,
    stop: Arc<Stop>,
}

impl Watch {
    /// Returns the next item; `None` after the last one, and in a forked child, which has no such thread.
    /// Dropping the future loses no item.
    pub async fn next(&mut self) -> Option<Result<Token, Error>> {
        if !self.stop.is_of_this_process() {
            return None;
        }
        self.tokens.recv().await
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.stop.stop();
    }
}

pub(crate) async fn blocking<T: Send + 'static>(
    job: impl FnOnce() -> Result<T, Error> + Send + 'static,
) -> Result<T, Error> {
    match spawn_blocking(job).await {
        Ok(result) => result,
        Err(ended) if ended.is_panic() => std::panic::resume_unwind(ended.into_panic()),
        Err(_) => Err(Error::later("the runtime is shutting down")),
    }
}

impl fmt::Debug for Watch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Watch").finish_non_exhaustive()
    }
}

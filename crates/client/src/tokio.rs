//! The broker for async apps on tokio: the same methods as the blocking one, and the same tokens.
//!
//! [`Broker::token`] returns cached tokens without waiting. A request uses no thread: a task of the runtime
//! sends it and waits for its answer. All tasks and threads that need a token of one scope set share it, and
//! it goes on when a task that awaits it is dropped.
//!
//! The runtime needs its I/O and time drivers (`enable_all`, which `#[tokio::main]` turns on). Shutting it down
//! cancels its requests. A caller on another runtime or thread then sends its own; it does so, too, if the
//! runtime does not run until the request's deadline, as one of a single thread that is blocked.
//!
//! ```
//! # #[cfg(unix)] {
//! # let fake = domo_token_client::testing::FakeBroker::start().unwrap();
//! # let path = fake.socket();
//! use domo_token_client::tokio::Broker;
//!
//! # let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
//! # runtime.block_on(async {
//! let broker = Broker::connect_to(path).await?;
//! let token = broker.token("data").await?;
//! # assert_eq!(token.broker(), path);
//! # Ok::<(), domo_token_client::Error>(())
//! # })?;
//! # }
//! # Ok::<(), domo_token_client::Error>(())
//! ```

use std::panic::resume_unwind;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinHandle;
use tokio::time::timeout;

use crate::broker::{DEFAULT_TIMEOUT, default_address};
use crate::clock::{BootTime, boot_now};
use crate::error::Error;
use crate::find_broker::Address;
use crate::in_flight::{CallerRequest, Requirement, Role};
use crate::process::Watching;
use crate::token::{Token, TokenKey};
use crate::transport::{ReadPart, Transport};
use domo_token_protocol::messages::Request;

mod transport;
mod watch;

pub use watch::Watch;

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
        Self::open(default_address()?).await
    }

    /// Connects as [`crate::Broker::connect_to`] does.
    ///
    /// # Errors
    ///
    /// As there.
    pub async fn connect_to(path: impl Into<PathBuf>) -> Result<Self, Error> {
        Self::open(Address::named(&path.into())).await
    }

    async fn open(address: Address) -> Result<Self, Error> {
        let transport = Transport::open_async(address, boot_now() + DEFAULT_TIMEOUT);
        Ok(Self(crate::Broker::new(transport.await?)))
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

    /// Keeps a valid token cached, as [`crate::Broker::keep`], by a task in place of the thread. The task ends with
    /// the last clone of this broker, or with its runtime.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidScope`](crate::ErrorKind::InvalidScope).
    ///
    /// # Panics
    ///
    /// Outside of a tokio runtime.
    pub fn keep(&self, scopes: &str) -> Result<(), Error> {
        let start = |key| {
            let mut watch = self.watch_key(key);
            let task = tokio::spawn(async move { while watch.next().await.is_some() {} });
            Ok(Watching::Task(task.abort_handle()))
        };
        self.0.shared().keep_with(self.0.key(scopes)?, start)
    }

    /// Returns the current token for these scopes, then each new one. See [`Watch`].
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidScope`](crate::ErrorKind::InvalidScope); the watch returns all other errors.
    pub fn watch(&self, scopes: &str) -> Result<Watch, Error> {
        Ok(self.watch_key(self.0.key(scopes)?))
    }

    fn watch_key(&self, key: TokenKey) -> Watch {
        let shared = self.0.shared();
        let transport = Arc::clone(&shared.process().transport);
        Watch::new(transport, shared.watch_state(key))
    }

    /// Returns the path of the broker's socket, as [`crate::Broker::socket`].
    #[must_use]
    pub fn socket(&self) -> PathBuf {
        self.0.socket()
    }

    pub(crate) async fn query<T: Default>(
        &self,
        request: &Request,
        read: &ReadPart<'_, T>,
    ) -> Result<T, Error> {
        let process = self.0.shared().process();
        let within = self.0.time_limits();
        let transport = &process.transport;
        transport
            .request_async(within, &|_| request.clone(), read)
            .await
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
            Role::Follow(request) => {
                request.wait_async(call.cancel_at()).await;
                request
            }
            Role::Lead(leader) => {
                let request = leader.request();
                let (process, cache) = (Arc::clone(&process), Arc::clone(&shared.cache));
                // It completes even if the task that awaits it is dropped.
                let leading = tokio::spawn(async move {
                    let result = process.send_async(&leader.request()).await;
                    leader.complete(result, &cache);
                });
                wait_for(leading, call.cancel_at()).await?;
                request
            }
        };
        if let Some(result) = request.resolve(&call, &shared.cache) {
            return result;
        }
    }
}

/// Waits until the task has ended, at most until `until`. Panics if it has panicked, as it does on a runtime
/// without drivers.
async fn wait_for(task: JoinHandle<()>, until: BootTime) -> Result<(), Error> {
    let left = until.saturating_since(boot_now());
    match timeout(left, task).await {
        Ok(Err(ended)) if ended.is_panic() => resume_unwind(ended.into_panic()),
        Ok(Err(_)) => Err(Error::later("the runtime is shutting down")),
        Ok(Ok(())) | Err(_) => Ok(()),
    }
}

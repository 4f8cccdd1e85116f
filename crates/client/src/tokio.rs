//! The broker for async apps on tokio: the names and shapes of the blocking one, and its tokens.
//!
//! [`Broker::token`] answers from memory as the blocking one does, and waits for nothing then. A
//! request is made on a thread of the runtime's blocking pool, one for each scope set however many
//! tasks want its answer, and goes on for the others when a task is dropped; a runtime that is shut
//! down waits for it, until its deadline at the latest. The runtime needs its time driver
//! (`enable_time`, which `#[tokio::main]` turns on).
//!
//! ```
//! # #[cfg(unix)] {
//! # mod fake { include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fake/mod.rs")); }
//! # let fake = fake::Fake::generous();
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

use crate::broker::Status;
use crate::error::Error;
use crate::in_flight::{Call, Requirement, Step};
use crate::process::spawn;
use crate::token::Token;
use crate::watch::Stop;
use domo_token_protocol::messages::Explanation;

/// The broker of this host, and the tokens that this process holds of it. As
/// [`crate::Broker`], which it can be made from, sharing its tokens.
///
/// # Panics
///
/// Its async functions panic outside of a tokio runtime.
#[derive(Clone, Debug)]
pub struct Broker(crate::Broker);

impl From<crate::Broker> for Broker {
    fn from(broker: crate::Broker) -> Self {
        Self(broker)
    }
}

impl Broker {
    /// As [`crate::Broker::connect`].
    ///
    /// # Errors
    ///
    /// As there.
    pub async fn connect() -> Result<Self, Error> {
        blocking(crate::Broker::connect).await.map(Self)
    }

    /// As [`crate::Broker::connect_to`].
    ///
    /// # Errors
    ///
    /// As there.
    pub async fn connect_to(path: impl Into<PathBuf>) -> Result<Self, Error> {
        let path = path.into();
        blocking(|| crate::Broker::connect_to(path)).await.map(Self)
    }

    /// The same broker, asked for tokens of the API client of that name in its config.
    #[must_use]
    pub fn client(&self, name: &str) -> Self {
        Self(self.0.client(name))
    }

    /// The same broker, with another limit on how long a call may take; at most ten minutes.
    #[must_use]
    pub fn timeout(&self, timeout: Duration) -> Self {
        Self(self.0.timeout(timeout))
    }

    /// As [`crate::Broker::token`].
    ///
    /// # Errors
    ///
    /// As there.
    pub async fn token(&self, scopes: &str) -> Result<Token, Error> {
        self.request(scopes).send().await
    }

    /// A token with conditions.
    pub fn request<'a>(&'a self, scopes: &'a str) -> Ask<'a> {
        Ask(self.0.request(scopes))
    }

    /// As [`crate::Broker::renew`].
    ///
    /// # Errors
    ///
    /// As there.
    pub async fn renew(&self, refused: &Token) -> Result<Token, Error> {
        let need = Requirement::other_than(refused);
        obtain(&self.0, self.0.call(refused.set().clone(), need)).await
    }

    /// As [`crate::Broker::keep`].
    ///
    /// # Errors
    ///
    /// As there.
    pub fn keep(&self, scopes: &str) -> Result<(), Error> {
        self.0.keep(scopes)
    }

    /// The current token for these scopes, and each new one as it comes. See [`Watch`].
    ///
    /// # Errors
    ///
    /// [`Error::InvalidScope`], or [`Error::TryLater`] if there is no thread to be had.
    pub fn watch(&self, scopes: &str) -> Result<Watch, Error> {
        let stop = Arc::new(Stop::new());
        let tokens = self.0.watch(scopes)?.until(Arc::clone(&stop));
        let (sender, news) = mpsc::channel(1);
        spawn(move || {
            for item in tokens {
                if sender.blocking_send(item).is_err() {
                    return;
                }
            }
        })?;
        Ok(Watch { news, stop })
    }

    /// As [`crate::Broker::status`].
    ///
    /// # Errors
    ///
    /// As there.
    pub async fn status(&self) -> Result<Status, Error> {
        let broker = self.0.clone();
        blocking(move || broker.status()).await
    }

    /// As [`crate::Broker::metrics`].
    ///
    /// # Errors
    ///
    /// As there.
    pub async fn metrics(&self) -> Result<String, Error> {
        let broker = self.0.clone();
        blocking(move || broker.metrics()).await
    }

    /// As [`crate::Broker::socket`].
    #[must_use]
    pub fn socket(&self) -> PathBuf {
        self.0.socket()
    }

    /// As [`crate::Broker::explain`].
    ///
    /// # Errors
    ///
    /// As there.
    pub async fn explain(&self, scopes: &str) -> Result<Explanation, Error> {
        let (broker, scopes) = (self.0.clone(), scopes.to_owned());
        blocking(move || broker.explain(&scopes)).await
    }
}

/// A token request with conditions, from [`Broker::request`].
#[derive(Clone, Debug)]
#[must_use]
pub struct Ask<'a>(crate::Ask<'a>);

impl Ask<'_> {
    /// As [`crate::Ask::min_ttl`].
    pub fn min_ttl(self, least: Duration) -> Self {
        Self(self.0.min_ttl(least))
    }

    /// As [`crate::Ask::renew`].
    pub fn renew(self) -> Self {
        Self(self.0.renew())
    }

    /// As [`crate::Ask::rejected`].
    pub fn rejected(self, generation: u64) -> Self {
        Self(self.0.rejected(generation))
    }

    /// Asks.
    ///
    /// # Errors
    ///
    /// As [`crate::Broker::token`].
    pub async fn send(self) -> Result<Token, Error> {
        let ask = self.0;
        if let Some(token) = ask.broker.held(ask.scopes, &ask.need) {
            return Ok(token);
        }
        let set = ask.broker.set(ask.scopes)?;
        let call = ask.broker.call(set.clone(), ask.need);
        let token = obtain(ask.broker, call).await?;
        ask.broker.shared().held.alias(&set, ask.scopes);
        Ok(token)
    }
}

/// A token for a call whose need no held one meets.
async fn obtain(broker: &crate::Broker, mut call: Call) -> Result<Token, Error> {
    let shared = broker.shared();
    let process = shared.process();
    loop {
        let flight = match process.join_or_lead(&mut call, &shared.held) {
            Step::Cached(token) => return Ok(token),
            Step::Join(flight) => flight,
            Step::Lead(pilot) => {
                let flight = pilot.flight();
                let (process, held) = (Arc::clone(&process), Arc::clone(&shared.held));
                // It lands by itself, whether we are still here or not.
                spawn_blocking(move || pilot.run(|flight| process.request(flight), &held));
                flight
            }
        };
        flight.landed(call.give_up()).await;
        if let Some(result) = flight.resolve(&call, &shared.held) {
            return result;
        }
    }
}

/// The tokens of one scope set, from [`Broker::watch`], as [`crate::Watch`] gives them. A thread
/// waits for them; it ends when this is dropped.
pub struct Watch {
    news: mpsc::Receiver<Result<Token, Error>>,
    stop: Arc<Stop>,
}

impl Watch {
    /// Waits for news; `None` after the last, and in a forked child, where the thread is not.
    /// Dropping the future loses nothing.
    pub async fn next(&mut self) -> Option<Result<Token, Error>> {
        if !self.stop.is_of_this_process() {
            return None;
        }
        self.news.recv().await
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.stop.stop();
    }
}

async fn blocking<T: Send + 'static>(
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

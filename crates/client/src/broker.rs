//! The blocking API: [`Broker`] and its requests.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use crate::clock::{BootTime, boot_now};
use crate::error::Error;
use crate::find_broker::Address;
use crate::in_flight::{CallerRequest, Requirement};
use crate::process::Shared;
use crate::retry::RetryPolicy;
use crate::token::{Token, TokenKey};
use crate::transport::{ReadPart, Transport};
use crate::watch::Watch;
use domo_token_protocol::messages::{MAX_TIME_LEFT_MS, Renew, Request};
use domo_token_protocol::scope::ScopeSet;

/// The time limit of a call, unless [`Broker::with_timeout`] sets another.
pub const DEFAULT_TIMEOUT: Duration = Duration::from_secs(10);

/// A connection to the broker of this host, and the tokens that this process has cached.
///
/// Keep one for the process. Clones share its connection and its tokens, and any number of threads
/// may use it. A call opens another connection if this one is in use, and reconnects until its deadline
/// if the connection was lost. A forked child can use its parent's broker; it makes its own connection.
#[derive(Clone)]
pub struct Broker {
    shared: Arc<Shared>,
    client: Option<Arc<str>>,
    timeout: Duration,
    retry: RetryPolicy,
}

impl Broker {
    /// Connects to the broker at `$DOMO_TOKEN_SOCKET` (a path, or `unix:///PATH`), else to the user's own,
    /// else to the host's.
    ///
    /// The user's own broker listens on `${XDG_RUNTIME_DIR:-/run/user/UID}/domo-token/broker.sock`, the
    /// host's on `/run/domo-token/broker.sock`. If the user, unless that is the host's root, has a config
    /// (`${XDG_CONFIG_HOME:-~/.config}/domo-token/config.toml`), the host's broker is never used: it
    /// may hold other credentials. Otherwise it is used while the user's own socket doesn't exist. This is
    /// decided at each connection: [`Token::broker`] is the broker that a token came from.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::NotRunning`](crate::ErrorKind::NotRunning), [`ErrorKind::NotPermitted`](crate::ErrorKind::NotPermitted), [`ErrorKind::Untrusted`](crate::ErrorKind::Untrusted), or [`ErrorKind::InvalidSocket`](crate::ErrorKind::InvalidSocket) if
    /// the variable is not the path of a socket.
    pub fn connect() -> Result<Self, Error> {
        Self::open(default_address()?, boot_now() + DEFAULT_TIMEOUT)
    }

    /// Connects to the broker at this socket, a plain path. Only `$DOMO_TOKEN_SOCKET` can hold a `unix:` URL.
    ///
    /// # Errors
    ///
    /// As [`Self::connect`].
    pub fn connect_to(path: impl Into<PathBuf>) -> Result<Self, Error> {
        Self::open(Address::named(&path.into()), boot_now() + DEFAULT_TIMEOUT)
    }

    /// Returns a broker that connects on its first call, by the rules of [`Self::connect`]. An app that uses it may start
    /// before the broker.
    ///
    /// While there is no broker, each call fails within a second with
    /// [`ErrorKind::NotRunning`](crate::ErrorKind::NotRunning), which is retryable, and the next call tries again.
    /// [`Self::watch`] and [`Self::keep`] try again by themselves.
    ///
    /// ```no_run
    /// use domo_token_client::Broker;
    ///
    /// let broker = Broker::lazy()?;
    /// match broker.token("data") {
    ///     Ok(token) => println!("{} s left", token.expires_in().as_secs()),
    ///     Err(error) if error.is_retryable() => println!("later: {error}"),
    ///     Err(error) => return Err(error),
    /// }
    /// # Ok::<(), domo_token_client::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// Only [`ErrorKind::InvalidSocket`](crate::ErrorKind::InvalidSocket), if `$DOMO_TOKEN_SOCKET` is not the path of a
    /// socket.
    pub fn lazy() -> Result<Self, Error> {
        Ok(Self::new(Transport::new(default_address()?)))
    }

    /// Returns a broker that connects to this socket, a plain path, on its first call. See [`Self::lazy`].
    ///
    /// ```
    /// # #[cfg(unix)] {
    /// # let fake = domo_token_client::testing::FakeBroker::start().unwrap();
    /// # fake.stop();
    /// # let path = fake.socket();
    /// use domo_token_client::{Broker, ErrorKind};
    ///
    /// let broker = Broker::lazy_at(path);
    /// let error = broker.token("data").unwrap_err();
    /// assert_eq!(error.kind(), ErrorKind::NotRunning);
    /// // … the broker starts …
    /// # fake.restart().unwrap();
    /// let token = broker.token("data")?;
    /// # let _ = token;
    /// # }
    /// # Ok::<(), domo_token_client::Error>(())
    /// ```
    #[must_use]
    pub fn lazy_at(path: impl Into<PathBuf>) -> Self {
        Self::new(Transport::new(Address::named(&path.into())))
    }

    /// Connects to the broker at this socket, or at the default one, for calls that all end by
    /// `deadline`. Calls do not wait for a broker that stops: the helper reports it immediately.
    #[doc(hidden)]
    pub fn connect_by(deadline: BootTime, path: Option<&Path>) -> Result<Self, Error> {
        let address = path.map_or_else(default_address, |path| Ok(Address::named(path)))?;
        let broker = Self::open(address, deadline)?;
        Ok(Self {
            timeout: deadline.saturating_since(boot_now()),
            retry: RetryPolicy::FIRST,
            ..broker
        })
    }

    fn open(address: Address, deadline: BootTime) -> Result<Self, Error> {
        Transport::open(address, deadline).map(Self::new)
    }

    pub(crate) fn new(transport: Transport) -> Self {
        Self {
            shared: Arc::new(Shared::new(transport)),
            client: None,
            timeout: DEFAULT_TIMEOUT,
            retry: RetryPolicy::RECONNECT,
        }
    }

    /// Returns a clone that requests tokens of this API client, a name in the broker's config.
    #[must_use]
    pub fn with_client(&self, name: &str) -> Self {
        Self {
            client: Some(name.into()),
            ..self.clone()
        }
    }

    /// Returns a clone whose calls take at most `timeout`; more than ten minutes are ten minutes.
    #[must_use]
    pub fn with_timeout(&self, timeout: Duration) -> Self {
        Self {
            timeout,
            ..self.clone()
        }
    }

    /// Returns a token for exactly these scopes, separated by spaces or commas.
    ///
    /// This is a lookup without a lock or a system call while the cached token is valid for more than a
    /// minute, or than a tenth of its lifetime if that is shorter. After that, all threads share one
    /// request for a fresher token. If the broker has none, the cached token is returned until it expires.
    ///
    /// ```
    /// # #[cfg(unix)] {
    /// # let fake = domo_token_client::testing::FakeBroker::start().unwrap();
    /// # let broker = fake.broker();
    /// let token = broker.token("data")?;
    /// assert!(!token.expires_in().is_zero());
    /// let header = token.authorization();
    /// assert!(header.as_str().starts_with("Bearer "));
    /// # }
    /// # Ok::<(), domo_token_client::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// Any [`Error`]. While the cached token is valid, only a decision of the broker, such as
    /// [`ErrorKind::NotPermitted`](crate::ErrorKind::NotPermitted), is returned in its place.
    pub fn token(&self, scopes: &str) -> Result<Token, Error> {
        match self.cached(scopes, &Requirement::ANY) {
            Some(token) => Ok(token),
            None => self.request(scopes).send(),
        }
    }

    /// Starts a token request with conditions; [`TokenRequest::send`] sends it.
    ///
    /// ```
    /// # #[cfg(unix)] {
    /// # let fake = domo_token_client::testing::FakeBroker::start().unwrap();
    /// # let broker = fake.broker();
    /// use std::time::Duration;
    ///
    /// let least = Duration::from_secs(600);
    /// let token = broker.request("data user").min_ttl(least).send()?;
    /// assert!(token.expires_in() >= least);
    /// # }
    /// # Ok::<(), domo_token_client::Error>(())
    /// ```
    pub fn request<'a>(&'a self, scopes: &'a str) -> TokenRequest<'a> {
        TokenRequest {
            broker: self,
            scopes,
            requirement: Requirement::ANY,
        }
    }

    /// Returns another token than this one, which Domo rejected, and drops this one from the cache. If a
    /// newer token is cached, no request is sent; if the broker has one, it sends none to Domo.
    ///
    /// ```
    /// # #[cfg(unix)] {
    /// # let fake = domo_token_client::testing::FakeBroker::start().unwrap();
    /// # let broker = fake.broker();
    /// let token = broker.token("data")?;
    /// // … Domo answers 401 …
    /// let other = broker.renew(&token)?;
    /// assert_ne!(other.generation(), token.generation());
    /// assert_eq!(broker.token("data")?.generation(), other.generation());
    /// # }
    /// # Ok::<(), domo_token_client::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// As [`Self::token`]; the rejected token is not returned again.
    pub fn renew(&self, rejected: &Token) -> Result<Token, Error> {
        let requirement = Requirement::other_than(rejected);
        self.shared
            .obtain(self.call(rejected.key().clone(), requirement))
    }

    /// Keeps a valid token for these scopes cached from now on: a thread receives each new one from the
    /// broker, so that [`Self::token`] needs no request. The thread ends with the last clone of this
    /// broker. A forked child has no such thread and must call this again.
    ///
    /// The thread ends early where a [`Watch`] ends, for example after [`ErrorKind::Gone`](crate::ErrorKind::Gone). Then
    /// [`Self::token`] sends requests again, and another call of this method starts a new thread.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidScope`](crate::ErrorKind::InvalidScope), or [`ErrorKind::Io`](crate::ErrorKind::Io) if no thread can be started.
    pub fn keep(&self, scopes: &str) -> Result<(), Error> {
        self.shared.keep(self.key(scopes)?)
    }

    /// Returns an iterator over the current token for these scopes and each new one. It has its own
    /// connection. See [`Watch`].
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidScope`](crate::ErrorKind::InvalidScope); the iterator returns all other errors.
    pub fn watch(&self, scopes: &str) -> Result<Watch, Error> {
        Ok(self.shared.watch(self.key(scopes)?))
    }

    /// Returns the path of the broker's socket: that of the last connection, or else the one that would be
    /// used now. [`Token::broker`] and [`crate::Status::socket`] are the paths of single responses.
    #[must_use]
    pub fn socket(&self) -> PathBuf {
        self.shared.process().transport.broker().to_path_buf()
    }

    pub(crate) fn query<T: Default>(
        &self,
        request: &Request,
        read: &ReadPart<T>,
    ) -> Result<T, Error> {
        let process = self.shared.process();
        let within = self.time_limits();
        process
            .transport
            .request(within, &|_| request.clone(), read)
    }

    /// Returns the deadline of a call that begins now, and how connecting is retried.
    pub(crate) fn time_limits(&self) -> (BootTime, RetryPolicy) {
        (self.deadline(), self.retry)
    }

    /// Returns the cached token, if it meets the requirement.
    pub(crate) fn cached(&self, scopes: &str, requirement: &Requirement) -> Option<Token> {
        // The clock first: the processor loads the map while it is read.
        let now = boot_now();
        let client = self.client.as_deref();
        let token = self.shared.cache.find(client, scopes)?;
        requirement.is_met_by_cached(&token, now).then_some(token)
    }

    pub(crate) fn call(&self, key: TokenKey, requirement: Requirement) -> CallerRequest {
        CallerRequest {
            key,
            requirement,
            deadline: self.deadline(),
            retry: self.retry,
            has_led: false,
        }
    }

    pub(crate) fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    pub(crate) fn key(&self, scopes: &str) -> Result<TokenKey, Error> {
        Ok(TokenKey {
            client: self.client.clone(),
            scope: ScopeSet::parse(scopes).map_err(Error::invalid_scope)?,
        })
    }

    fn deadline(&self) -> BootTime {
        boot_now() + self.timeout.min(Duration::from_millis(MAX_TIME_LEFT_MS))
    }
}

pub(crate) fn default_address() -> Result<Address, Error> {
    Address::find(&|name| std::env::var_os(name))
}

impl std::fmt::Debug for Broker {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Broker")
            .field("path", &self.shared.process().transport.broker())
            .field("client", &self.client)
            .finish_non_exhaustive()
    }
}

/// A token request with conditions, from [`Broker::request`].
#[derive(Clone, Debug)]
#[must_use]
pub struct TokenRequest<'a> {
    pub(crate) broker: &'a Broker,
    pub(crate) scopes: &'a str,
    pub(crate) requirement: Requirement,
}

impl TokenRequest<'_> {
    /// Sets the least time until the token expires. A cached token that is valid for that long is
    /// returned; if the broker has no such token, [`Self::send`] returns an error.
    pub fn min_ttl(mut self, least: Duration) -> Self {
        self.requirement.min_ttl = Some(least);
        self
    }

    /// Requests another token than the current one, unless that was fetched moments ago. The cache is not
    /// used.
    pub fn renew(mut self) -> Self {
        self.requirement.renew = Some(Renew::Current);
        self
    }

    /// Requests another token than the one of this generation, which Domo rejected. The cache is not used;
    /// [`Broker::renew`] uses it, if you have the [`Token`].
    pub fn rejected(mut self, generation: u64) -> Self {
        self.requirement.renew = Some(Renew::Rejected(generation));
        self
    }

    /// Sends the request, unless a cached token meets the conditions.
    ///
    /// # Errors
    ///
    /// As [`Broker::token`].
    pub fn send(self) -> Result<Token, Error> {
        if let Some(token) = self.broker.cached(self.scopes, &self.requirement) {
            return Ok(token);
        }
        let key = self.broker.key(self.scopes)?;
        let shared = self.broker.shared();
        let token = shared.obtain(self.broker.call(key.clone(), self.requirement))?;
        shared.cache.alias(&key, self.scopes);
        Ok(token)
    }
}

//! The broker, as an app sees it.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use crate::address::Address;
use crate::clock::{BootTime, boot_now};
use crate::error::Error;
use crate::in_flight::{Call, Requirement};
use crate::process::Shared;
use crate::token::{Set, Token};
use crate::transport::{Next, RetryPolicy, Take, Transport, unexpected};
use crate::watch::Watch;
use domo_token_protocol::messages::{
    BrokerStatus, Explanation, MAX_TIME_LEFT_MS, Renew, Request, Response, ScopeStatus,
};
use domo_token_protocol::scope::ScopeSet;

/// How long a call may take when nothing else is said.
pub const DEFAULT_TIMEOUT: Duration = Duration::from_secs(10);

/// The broker of this host, and the tokens that this process holds of it.
///
/// Keep one for the process. Clones share its connection and its tokens, and any number of threads
/// may use it. A call that finds the connection busy opens another; one that finds it lost makes
/// it again, until the call's deadline. A forked child may go on with its parent's: it makes a
/// connection of its own.
#[derive(Clone)]
pub struct Broker {
    shared: Arc<Shared>,
    client: Option<Arc<str>>,
    timeout: Duration,
    patience: RetryPolicy,
}

/// What the broker is doing, for [`Broker::status`].
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Status {
    /// The daemon.
    pub broker: BrokerStatus,
    /// Its scope sets.
    pub scopes: Vec<ScopeStatus>,
    /// The path of its socket.
    pub socket: PathBuf,
}

impl Broker {
    /// Connects to the broker at `$DOMO_TOKEN_SOCKET` (a path, or `unix:///PATH`), else to the user's own,
    /// else to the host's.
    ///
    /// The user's own broker listens on `${XDG_RUNTIME_DIR:-/run/user/UID}/domo-token/broker.sock`, the
    /// host's on `/run/domo-token/broker.sock`. If the user, unless that is the host's root, has a config
    /// (`${XDG_CONFIG_HOME:-~/.config}/domo-token/config.toml`), the host's broker is never asked: it
    /// may hold other credentials. Otherwise it is asked while the own socket doesn't exist. This is
    /// decided at each connection: [`Token::broker`] says which broker gave a token.
    ///
    /// # Errors
    ///
    /// [`Error::NotRunning`], [`Error::NotPermitted`], [`Error::Untrusted`], or [`Error::InvalidSocket`] if
    /// the variable holds no path of a socket.
    pub fn connect() -> Result<Self, Error> {
        Self::open(usual_place()?, boot_now() + DEFAULT_TIMEOUT)
    }

    /// Connects to the broker at that socket: a path, which is taken as it is. A `unix:` URL is accepted
    /// in `$DOMO_TOKEN_SOCKET` alone.
    ///
    /// # Errors
    ///
    /// As [`Self::connect`].
    pub fn connect_to(path: impl Into<PathBuf>) -> Result<Self, Error> {
        Self::open(Address::named(&path.into()), boot_now() + DEFAULT_TIMEOUT)
    }

    /// Connects to the broker at that socket, or at the usual place, for calls that all end by
    /// `deadline`. It isn't waited for when it goes away: for the helper, which says so at once.
    #[doc(hidden)]
    pub fn connect_by(deadline: BootTime, path: Option<&Path>) -> Result<Self, Error> {
        let address = path.map_or_else(usual_place, |path| Ok(Address::named(path)))?;
        let broker = Self::open(address, deadline)?;
        Ok(Self {
            timeout: deadline.saturating_since(boot_now()),
            patience: RetryPolicy::FIRST,
            ..broker
        })
    }

    fn open(address: Address, deadline: BootTime) -> Result<Self, Error> {
        let exchange = Transport::open(address, deadline)?;
        Ok(Self {
            shared: Arc::new(Shared::new(exchange)),
            client: None,
            timeout: DEFAULT_TIMEOUT,
            patience: RetryPolicy::RECONNECT,
        })
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

    /// A token for exactly these scopes, parted by spaces or commas.
    ///
    /// While the one in memory has more left than a minute, or than a tenth of its life if that is
    /// shorter, this is a lookup: no lock, no allocation, no system call. After that the broker is
    /// asked for a better one, by one request however many threads want it; if there is none, the
    /// one in memory is given for as long as it can be used.
    ///
    /// ```
    /// # #[cfg(unix)] {
    /// # mod fake { include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fake/mod.rs")); }
    /// # let fake = fake::Fake::answering(|_, request| fake::renewed(request));
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
    /// [`Error`] says what the caller can do. None takes the place of a token that lives, but for
    /// the broker's word that this process may not have it.
    pub fn token(&self, scopes: &str) -> Result<Token, Error> {
        match self.held(scopes, &Requirement::ANY) {
            Some(token) => Ok(token),
            None => self.request(scopes).send(),
        }
    }

    /// A token with conditions.
    ///
    /// ```
    /// # #[cfg(unix)] {
    /// # mod fake { include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fake/mod.rs")); }
    /// # let fake = fake::Fake::answering(|_, request| fake::renewed(request));
    /// # let broker = fake.broker();
    /// use std::time::Duration;
    ///
    /// let least = Duration::from_secs(600);
    /// let token = broker.request("data user").min_ttl(least).send()?;
    /// assert!(token.expires_in() >= least);
    /// # }
    /// # Ok::<(), domo_token_client::Error>(())
    /// ```
    pub fn request<'a>(&'a self, scopes: &'a str) -> Ask<'a> {
        Ask {
            broker: self,
            scopes,
            need: Requirement::ANY,
        }
    }

    /// Another token than this one, which Domo refused. It is held no longer. If it was replaced
    /// already, Domo isn't asked, and if the new one is in memory, nor is the broker.
    ///
    /// ```
    /// # #[cfg(unix)] {
    /// # mod fake { include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fake/mod.rs")); }
    /// # let fake = fake::Fake::answering(|_, request| fake::renewed(request));
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
    /// As [`Self::token`]; the refused token is not handed out again.
    pub fn renew(&self, refused: &Token) -> Result<Token, Error> {
        let need = Requirement::other_than(refused);
        self.shared.obtain(self.call(refused.set().clone(), need))
    }

    /// Keeps a living token for these scopes in memory from now on: a thread is told by the broker
    /// of each new one, so that [`Self::token`] has no need to ask. The thread ends with the last
    /// clone of this broker. It isn't there in a forked child, which has to ask anew to be kept.
    ///
    /// # Errors
    ///
    /// [`Error::InvalidScope`], or [`Error::TryLater`] if there is no thread to be had.
    pub fn keep(&self, scopes: &str) -> Result<(), Error> {
        self.shared.keep(self.set(scopes)?)
    }

    /// The current token for these scopes, and each new one as it comes, over a connection of its
    /// own. See [`Watch`].
    ///
    /// # Errors
    ///
    /// [`Error::InvalidScope`]; all else comes out of the iterator.
    pub fn watch(&self, scopes: &str) -> Result<Watch, Error> {
        Ok(self.shared.watch(self.set(scopes)?))
    }

    /// The state of the broker and of the scope sets that this process may see.
    ///
    /// # Errors
    ///
    /// As [`Self::token`].
    pub fn status(&self) -> Result<Status, Error> {
        let take = |status: &mut Option<Status>, response, socket: &Arc<Path>| {
            match (response, status) {
                (Response::Broker(broker), status @ None) => {
                    let (scopes, socket) = (Vec::new(), socket.to_path_buf());
                    *status = Some(Status {
                        broker,
                        scopes,
                        socket,
                    });
                }
                (Response::Scope(scope), Some(status)) => status.scopes.push(scope),
                (Response::End, Some(_)) => return Ok(Next::Done),
                (response, _) => return Err(unexpected(&response)),
            }
            Ok(Next::More)
        };
        let status = self.ask(&Request::Status, &take)?;
        status.ok_or_else(|| unexpected(&Response::End))
    }

    /// The broker's metrics, as Prometheus text.
    ///
    /// # Errors
    ///
    /// As [`Self::token`].
    pub fn metrics(&self) -> Result<String, Error> {
        let take = |text: &mut String, response, _: &Arc<Path>| {
            if let Response::Metrics(piece) = response {
                text.push_str(&piece);
                return Ok(Next::More);
            }
            if response == Response::End {
                return Ok(Next::Done);
            }
            Err(unexpected(&response))
        };
        self.ask(&Request::Metrics, &take)
    }

    /// What the broker decides for this very process about these scopes, and why.
    ///
    /// # Errors
    ///
    /// As [`Self::token`].
    pub fn explain(&self, scopes: &str) -> Result<Explanation, Error> {
        let set = self.set(scopes)?;
        let request = Request::Explain(set.asked());
        let take = |explanation: &mut Option<Explanation>, response, _: &Arc<Path>| {
            let Response::Explanation(given) = response else {
                return Err(unexpected(&response));
            };
            set.check_explanation(&given)?;
            *explanation = Some(given);
            Ok(Next::Done)
        };
        let explanation = self.ask(&request, &take)?;
        explanation.ok_or_else(|| unexpected(&Response::End))
    }

    /// The path of the broker's socket: of the broker that answered last, or else of the one that would
    /// be asked now. [`Token::broker`] and [`Status::socket`] say it of one answer.
    #[must_use]
    pub fn socket(&self) -> PathBuf {
        self.shared.process().exchange.broker().to_path_buf()
    }

    fn ask<T: Default>(&self, request: &Request, take: &Take<T>) -> Result<T, Error> {
        let within = (self.deadline(), self.patience);
        let process = self.shared.process();
        process.exchange.ask(within, &|_| request.clone(), take)
    }

    /// The token in memory, if it meets the need.
    pub(crate) fn held(&self, scopes: &str, need: &Requirement) -> Option<Token> {
        // The clock first: the processor looks the rest up while that is read.
        let now = boot_now();
        let client = self.client.as_deref();
        let token = self.shared.held.find(client, scopes)?;
        need.is_met_in_memory(&token, now).then_some(token)
    }

    pub(crate) fn call(&self, set: Set, need: Requirement) -> Call {
        Call {
            set,
            need,
            deadline: self.deadline(),
            patience: self.patience,
            asked_any: false,
        }
    }

    pub(crate) fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    pub(crate) fn set(&self, scopes: &str) -> Result<Set, Error> {
        Ok(Set {
            client: self.client.clone(),
            scope: ScopeSet::parse(scopes)?,
        })
    }

    fn deadline(&self) -> BootTime {
        boot_now() + self.timeout.min(Duration::from_millis(MAX_TIME_LEFT_MS))
    }
}

fn usual_place() -> Result<Address, Error> {
    Address::find(&|name| std::env::var_os(name))
}

impl std::fmt::Debug for Broker {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Broker")
            .field("path", &self.shared.process().exchange.broker())
            .field("client", &self.client)
            .finish_non_exhaustive()
    }
}

/// A token request with conditions, from [`Broker::request`].
#[derive(Clone, Debug)]
#[must_use]
pub struct Ask<'a> {
    pub(crate) broker: &'a Broker,
    pub(crate) scopes: &'a str,
    pub(crate) need: Requirement,
}

impl Ask<'_> {
    /// The life the token must have left, else it is an error. The one in memory is given if it
    /// has that.
    pub fn min_ttl(mut self, least: Duration) -> Self {
        self.need.min_ttl = Some(least);
        self
    }

    /// Another token than the current one, unless that is very young. The broker is asked.
    pub fn renew(mut self) -> Self {
        self.need.renew = Some(Renew::Current);
        self
    }

    /// Another token than the one of that generation, which Domo refused. The broker is asked;
    /// whoever has the token itself spares that with [`Broker::renew`].
    pub fn rejected(mut self, generation: u64) -> Self {
        self.need.renew = Some(Renew::Rejected(generation));
        self
    }

    /// Asks.
    ///
    /// # Errors
    ///
    /// As [`Broker::token`].
    pub fn send(self) -> Result<Token, Error> {
        if let Some(token) = self.broker.held(self.scopes, &self.need) {
            return Ok(token);
        }
        let set = self.broker.set(self.scopes)?;
        let shared = self.broker.shared();
        let token = shared.obtain(self.broker.call(set.clone(), self.need))?;
        shared.held.alias(&set, self.scopes);
        Ok(token)
    }
}

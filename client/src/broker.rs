//! The broker, as an app sees it.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use crate::address::Address;
use crate::clock::{BootTime, boot_now};
use crate::error::Error;
use crate::exchange::{Exchange, Next, unexpected};
use crate::scope::ScopeSet;
use crate::token::Token;
use crate::watch::Watch;
use crate::wire::{
    Asked, BrokerStatus, Explanation, MAX_TIME_LEFT_MS, Renew, Request, Response, ScopeStatus,
    TokenRequest,
};

/// How long a call may take when nothing else is said.
pub const DEFAULT_TIMEOUT: Duration = Duration::from_secs(10);

/// A connection to the broker of this host. Clones share it, and any number of threads may use it;
/// a call that finds it busy opens another.
#[derive(Clone)]
pub struct Broker {
    shared: Arc<Exchange>,
    client: Option<Arc<str>>,
    timeout: Duration,
}

/// What the broker is doing, for [`Broker::status`].
#[derive(Clone, Debug)]
pub struct Status {
    /// The daemon.
    pub broker: BrokerStatus,
    /// Its scope sets.
    pub scopes: Vec<ScopeStatus>,
}

impl Broker {
    /// Connects to the broker at the usual place: `$DOMO_TOKEN_SOCKET`, the user's own, the host's.
    ///
    /// # Errors
    ///
    /// [`Error::NotRunning`], [`Error::NotPermitted`] or [`Error::Untrusted`].
    pub fn connect() -> Result<Self, Error> {
        Self::open(Address::find(&|name| std::env::var_os(name)))
    }

    /// Connects to the broker at that socket.
    ///
    /// # Errors
    ///
    /// As [`Self::connect`].
    pub fn connect_to(path: impl Into<PathBuf>) -> Result<Self, Error> {
        Self::open(Address::named(path.into()))
    }

    fn open(address: Address) -> Result<Self, Error> {
        let shared = Exchange::open(address, boot_now() + DEFAULT_TIMEOUT)?;
        Ok(Self {
            shared: Arc::new(shared),
            client: None,
            timeout: DEFAULT_TIMEOUT,
        })
    }

    /// The same broker, asked for tokens of the API client of that name in its config.
    #[must_use]
    pub fn client(&self, name: &str) -> Self {
        Self {
            client: Some(name.into()),
            ..self.clone()
        }
    }

    /// The same broker, with another limit on how long a call may take; at most ten minutes.
    #[must_use]
    pub fn timeout(&self, timeout: Duration) -> Self {
        Self {
            timeout,
            ..self.clone()
        }
    }

    /// A token for exactly these scopes, parted by spaces or commas.
    ///
    /// # Errors
    ///
    /// [`Error`] says what the caller can do.
    pub fn token(&self, scopes: &str) -> Result<Token, Error> {
        self.request(scopes).send()
    }

    /// A token with conditions.
    pub fn request<'a>(&'a self, scopes: &'a str) -> Ask<'a> {
        Ask {
            broker: self,
            scopes,
            min_ttl: None,
            renew: None,
        }
    }

    /// Another token than this one, which Domo refused. If it was replaced already, Domo isn't asked.
    ///
    /// # Errors
    ///
    /// As [`Self::token`]; the refused token is not handed out again.
    pub fn renew(&self, refused: &Token) -> Result<Token, Error> {
        let renew = Some(Renew::Rejected(refused.generation()));
        let broker = self.client(refused.client());
        Ask {
            renew,
            ..broker.request(refused.asked())
        }
        .send()
    }

    /// The current token for these scopes, and each new one as it comes, over a connection of its
    /// own. See [`Watch`].
    ///
    /// # Errors
    ///
    /// [`Error::InvalidScope`]; all else comes out of the iterator.
    pub fn watch(&self, scopes: &str) -> Result<Watch, Error> {
        Ok(Watch::new(Arc::clone(&self.shared), self.asked(scopes)?))
    }

    /// The state of the broker and of the scope sets that this process may see.
    ///
    /// # Errors
    ///
    /// As [`Self::token`].
    pub fn status(&self) -> Result<Status, Error> {
        let mut broker = None;
        let mut scopes = Vec::new();
        let mut take = |response| {
            if let Response::Broker(status) = response {
                broker = Some(status);
            } else if let Response::Scope(status) = response {
                scopes.push(status);
            } else if response == Response::End {
                return Ok(Next::Done);
            } else {
                return Err(unexpected(&response));
            }
            Ok(Next::More)
        };
        self.shared
            .ask(self.deadline(), &|_| Request::Status, &mut take)?;
        let broker = broker.ok_or_else(|| Error::Broken {
            cause: "the broker's status has no beginning".to_owned(),
        })?;
        Ok(Status { broker, scopes })
    }

    /// What the broker decides for this very process about these scopes, and why.
    ///
    /// # Errors
    ///
    /// As [`Self::token`].
    pub fn explain(&self, scopes: &str) -> Result<Explanation, Error> {
        let asked = self.asked(scopes)?;
        let mut explanation = None;
        let request = |_| Request::Explain(asked.clone());
        let mut take = |response| {
            let Response::Explanation(given) = response else {
                return Err(unexpected(&response));
            };
            explanation = Some(given);
            Ok(Next::Done)
        };
        self.shared.ask(self.deadline(), &request, &mut take)?;
        explanation.ok_or_else(|| unexpected(&Response::End))
    }

    fn asked(&self, scopes: &str) -> Result<Asked, Error> {
        let scope = ScopeSet::parse(scopes)?;
        Ok(Asked {
            client: self.client.as_deref().map(str::to_owned),
            scope: scope.as_str().to_owned(),
        })
    }

    fn deadline(&self) -> BootTime {
        boot_now() + self.timeout.min(Duration::from_millis(MAX_TIME_LEFT_MS))
    }
}

impl std::fmt::Debug for Broker {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Broker")
            .field("path", &self.shared.path())
            .field("client", &self.client)
            .finish_non_exhaustive()
    }
}

/// A token request with conditions, from [`Broker::request`].
#[derive(Clone, Debug)]
#[must_use]
pub struct Ask<'a> {
    broker: &'a Broker,
    scopes: &'a str,
    min_ttl: Option<Duration>,
    renew: Option<Renew>,
}

impl Ask<'_> {
    /// The life the token must have left, else it is an error.
    pub fn min_ttl(mut self, least: Duration) -> Self {
        self.min_ttl = Some(least);
        self
    }

    /// Another token than the current one, unless that is very young.
    pub fn renew(mut self) -> Self {
        self.renew = Some(Renew::Current);
        self
    }

    /// Another token than the one of that generation, which Domo refused.
    pub fn rejected(mut self, generation: u64) -> Self {
        self.renew = Some(Renew::Rejected(generation));
        self
    }

    /// Asks.
    ///
    /// # Errors
    ///
    /// As [`Broker::token`].
    pub fn send(self) -> Result<Token, Error> {
        let asked = self.broker.asked(self.scopes)?;
        let millis = |span: Duration| u64::try_from(span.as_millis()).unwrap_or(u64::MAX);
        let request = |left| {
            Request::Token(TokenRequest {
                asked: asked.clone(),
                min_ttl_ms: self.min_ttl.map(millis),
                time_left_ms: millis(left),
                renew: self.renew,
            })
        };
        let mut token = None;
        let mut take = |response| {
            let Response::Token(answer) = response else {
                return Err(unexpected(&response));
            };
            token = Some(Token::new(answer, &asked.scope));
            Ok(Next::Done)
        };
        self.broker
            .shared
            .ask(self.broker.deadline(), &request, &mut take)?;
        token.ok_or_else(|| unexpected(&Response::End))
    }
}

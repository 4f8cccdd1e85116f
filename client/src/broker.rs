//! The broker, as an app sees it.

use std::hash::{BuildHasher, RandomState};
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::address::Address;
use crate::clock::{BootTime, boot_now};
use crate::connection::{Connection, Failure};
use crate::error::Error;
use crate::scope::ScopeSet;
use crate::token::Token;
use crate::wire::{
    Asked, BrokerStatus, Explanation, MAX_TIME_LEFT_MS, RefusalKind, Renew, Request, Response,
    ScopeStatus, TokenRequest,
};

/// How long a call may take when nothing else is said.
pub const DEFAULT_TIMEOUT: Duration = Duration::from_secs(10);

/// How long a socket that refuses is tried again: as long as a restart takes.
const RESTART: Duration = Duration::from_secs(1);

/// The broker answers at the deadline; this much later it is given up.
const GRACE: Duration = Duration::from_millis(200);

/// A connection to the broker of this host. Clones share it, and any number of threads may use it;
/// a call that finds it busy opens another.
#[derive(Clone)]
pub struct Broker {
    shared: Arc<Shared>,
    client: Option<Arc<str>>,
    timeout: Duration,
}

struct Shared {
    address: Address,
    /// The connection that no call is using.
    idle: Mutex<Option<Connection>>,
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
        let shared = Shared {
            address,
            idle: Mutex::new(None),
        };
        let connection = shared.connect(boot_now() + DEFAULT_TIMEOUT)?;
        shared.keep(connection);
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
            ..broker.request(refused.scope())
        }
        .send()
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
            .exchange(self.deadline(), &|_| Request::Status, &mut take)?;
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
        self.shared.exchange(self.deadline(), &request, &mut take)?;
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
            .field("path", &self.shared.address.path)
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
            token = Some(Token::from(answer));
            Ok(Next::Done)
        };
        self.broker
            .shared
            .exchange(self.broker.deadline(), &request, &mut take)?;
        token.ok_or_else(|| unexpected(&Response::End))
    }
}

/// Whether an answer goes on.
enum Next {
    More,
    Done,
}

impl Shared {
    /// Asks and takes the whole answer. A connection lost before its answer is made again, and a
    /// busy broker asked again, until the deadline.
    fn exchange(
        &self,
        deadline: BootTime,
        request: &dyn Fn(Duration) -> Request,
        take: &mut dyn FnMut(Response) -> Result<Next, Error>,
    ) -> Result<(), Error> {
        let mut busy: Option<Error> = None;
        let mut kept = self.idle().take();
        loop {
            let fresh = kept.is_none();
            let connection = kept.take().map_or_else(|| self.connect(deadline), Ok);
            // Whoever was told "busy" by a broker that has gone since has its answer.
            let mut connection = match (connection, busy.take()) {
                (Ok(connection), _) => connection,
                (Err(_), Some(told)) => return Err(told),
                (Err(error), None) => return Err(error),
            };
            let left = deadline.saturating_since(boot_now());
            match Self::once(&mut connection, &request(left), deadline + GRACE, take) {
                Ok(()) => {
                    self.keep(connection);
                    return Ok(());
                }
                Err(Ended::Refused { error, busy: false }) => {
                    self.keep(connection);
                    return Err(error);
                }
                Err(Ended::Refused { error, busy: true }) => busy = Some(error),
                Err(Ended::Lost) if !fresh => continue,
                Err(Ended::Lost) => {}
                Err(Ended::Final(error)) => return Err(error),
            }
            if boot_now() + pause() >= deadline {
                return Err(busy.unwrap_or_else(|| Error::TryLater {
                    cause: "the broker went away before its answer".to_owned(),
                    next_attempt: None,
                }));
            }
            rest(pause());
        }
    }

    fn once(
        connection: &mut Connection,
        request: &Request,
        give_up: BootTime,
        take: &mut dyn FnMut(Response) -> Result<Next, Error>,
    ) -> Result<(), Ended> {
        connection.send(request, give_up)?;
        loop {
            let response = connection.receive(give_up)?;
            if let Response::Refusal(refusal) = response {
                let busy = refusal.kind == RefusalKind::Busy;
                let error = Error::from(refusal);
                return Err(Ended::Refused { error, busy });
            }
            match take(response).map_err(Ended::Final)? {
                Next::More => {}
                Next::Done => return Ok(()),
            }
        }
    }

    /// A socket that refuses is tried again for as long as a restart takes.
    fn connect(&self, deadline: BootTime) -> Result<Connection, Error> {
        let restarted = deadline.min(boot_now() + RESTART);
        loop {
            let (error, until) = match Connection::open(&self.address, deadline) {
                Ok(connection) => {
                    self.address.check(connection.stream())?;
                    return Ok(connection);
                }
                Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
                    (error, restarted)
                }
                // Its backlog is full: it lives, and has much to do.
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => (error, deadline),
                Err(error) => return Err(self.address.error(error)),
            };
            if boot_now() + pause() >= until {
                if error.kind() == io::ErrorKind::ConnectionRefused {
                    return Err(self.address.error(error));
                }
                return Err(Error::TryLater {
                    cause: "the broker is too busy to take a connection".to_owned(),
                    next_attempt: None,
                });
            }
            rest(pause());
        }
    }

    fn keep(&self, connection: Connection) {
        *self.idle() = Some(connection);
    }

    fn idle(&self) -> MutexGuard<'_, Option<Connection>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How one attempt ended without an answer.
enum Ended {
    Lost,
    Refused { error: Error, busy: bool },
    Final(Error),
}

impl From<Failure> for Ended {
    fn from(failure: Failure) -> Self {
        let broken = |cause: String| Self::Final(Error::Broken { cause });
        match failure {
            Failure::Lost => Self::Lost,
            Failure::Late => Self::Final(Error::TryLater {
                cause: "the broker did not answer in time".to_owned(),
                next_attempt: None,
            }),
            Failure::Version(theirs) => Self::Final(Error::Protocol { theirs }),
            Failure::Malformed(error) => broken(error.to_string()),
            Failure::Io(error) => broken(format!("the connection failed: {error}")),
        }
    }
}

fn unexpected(response: &Response) -> Error {
    Error::Broken {
        cause: format!(
            "the broker answered \"{}\" to another question",
            response.name()
        ),
    }
}

/// Between 10 and 50 ms, so that those who wait for a restart don't all come at once.
fn pause() -> Duration {
    let chance = RandomState::new().hash_one(0_u8);
    Duration::from_millis(10 + chance % 40)
}

#[expect(clippy::disallowed_methods, reason = "a socket can't be waited for")]
fn rest(span: Duration) {
    std::thread::sleep(span);
}

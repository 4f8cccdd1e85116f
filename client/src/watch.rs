//! Each new token of a scope set, as it comes.

use std::sync::Arc;
use std::time::Duration;

use crate::clock::boot_now;
use crate::connection::{Connection, Failure};
use crate::error::Error;
use crate::exchange::{Exchange, pause, rest, unexpected};
use crate::token::Token;
use crate::wire::{Asked, RefusalKind, Request, Response};

/// How long connecting, and asking, may take each time.
const CONNECT: Duration = Duration::from_secs(10);

/// How long one read waits: it is only begun again after that.
const QUIET: Duration = Duration::from_secs(3600);

/// How long a broker that isn't there is left alone between two tries, at most.
const REST_MAX: Duration = Duration::from_secs(1);

/// The tokens of one scope set, from [`crate::Broker::watch`]: the current one, then each new one,
/// no token twice. `next` blocks until there is news.
///
/// An error says that there is no token for now: Domo gives none and the last one has died, or the
/// broker is gone. It comes once, and the iterator goes on: it connects again by itself, and the
/// next item is the next token. After an error that waiting can't mend, such as [`Error::Gone`],
/// the iterator ends.
pub struct Watch {
    exchange: Arc<Exchange>,
    asked: Asked,
    connection: Option<Connection>,
    /// The generation given out last.
    given: Option<u64>,
    /// Whether the caller knows that there is no broker.
    outage_told: bool,
    /// The rest before the next try to connect.
    rest: Duration,
    ended: bool,
}

/// How a wait for news ended.
enum News {
    Item(Box<Result<Token, Error>>),
    /// There is nothing to come any more but this.
    Last(Error),
    /// The broker is gone, or sends us away.
    Outage(Error),
    /// The connection ended: the broker may be restarting.
    Lost,
    Nothing,
}

impl Watch {
    pub(crate) fn new(exchange: Arc<Exchange>, asked: Asked) -> Self {
        Self {
            exchange,
            asked,
            connection: None,
            given: None,
            outage_told: false,
            rest: Duration::ZERO,
            ended: false,
        }
    }

    fn wait(&mut self) -> News {
        let Some(mut connection) = self.connection.take() else {
            return self.connect();
        };
        let response = match connection.receive(boot_now() + QUIET) {
            Err(Failure::Lost) => return News::Lost,
            Err(Failure::Late) => {
                self.connection = Some(connection);
                return News::Nothing;
            }
            Err(failure) => return News::Last(failure.into()),
            Ok(response) => response,
        };
        self.connection = Some(connection);
        self.rest = Duration::ZERO;
        self.outage_told = false;
        match response {
            Response::Token(answer) => {
                let token = Token::new(answer, &self.asked.scope);
                let old = self.given.replace(token.generation()) == Some(token.generation());
                // Whoever reads late finds tokens that have died meanwhile.
                if old || token.expires_in().is_zero() {
                    return News::Nothing;
                }
                News::Item(Box::new(Ok(token)))
            }
            Response::Refusal(refusal) => {
                let kind = refusal.kind;
                let error = Error::from(refusal);
                match kind {
                    RefusalKind::Unavailable => News::Item(Box::new(Err(error))),
                    RefusalKind::Busy => {
                        self.connection = None;
                        News::Outage(error)
                    }
                    RefusalKind::NotPermitted
                    | RefusalKind::UnknownClient
                    | RefusalKind::UnknownScope
                    | RefusalKind::MinTtlTooLong
                    | RefusalKind::Denied
                    | RefusalKind::Gone => News::Last(error),
                }
            }
            Response::Broker(_)
            | Response::Scope(_)
            | Response::Explanation(_)
            | Response::Metrics(_)
            | Response::End => News::Last(unexpected(&response)),
        }
    }

    fn connect(&mut self) -> News {
        rest(self.rest);
        self.rest = (self.rest * 2 + pause()).min(REST_MAX);
        let deadline = boot_now() + CONNECT;
        let mut connection = match self.exchange.connect(deadline) {
            Ok(connection) => connection,
            Err(error) if error.is_temporary() => return News::Outage(error),
            Err(error) => return News::Last(error),
        };
        match connection.send(&Request::Watch(self.asked.clone()), deadline) {
            Ok(()) => self.connection = Some(connection),
            Err(Failure::Lost | Failure::Late) => {}
            Err(failure) => return News::Last(failure.into()),
        }
        News::Nothing
    }
}

impl Iterator for Watch {
    type Item = Result<Token, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        while !self.ended {
            match self.wait() {
                News::Item(item) => return Some(*item),
                News::Last(error) => {
                    self.ended = true;
                    return Some(Err(error));
                }
                News::Outage(error) => {
                    if !std::mem::replace(&mut self.outage_told, true) {
                        return Some(Err(error));
                    }
                }
                News::Lost | News::Nothing => {}
            }
        }
        None
    }
}

impl std::fmt::Debug for Watch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Watch")
            .field("asked", &self.asked)
            .field("given", &self.given)
            .finish_non_exhaustive()
    }
}

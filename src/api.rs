//! The requests of callers and their answers, without bytes, sockets or limits.
//!
//! [`handle`] answers a [`Request`] of a [`Caller`]. Each protocol has an adapter in [`crate::server`] that makes
//! requests from what it reads and writes answers in its own form. A protocol version with other messages
//! converts them to these.

use std::iter;
use std::time::Duration;

use domo_token_core::access_policy::Caller;
use domo_token_core::token::Token;
use domo_token_protocol::messages::{Refusal, Response};
use domo_token_protocol::scope::ScopeSet;
use tokio::time::timeout;

use crate::broker::{Broker, StatusCursor};
use crate::platform::clock::Clock;

pub use crate::broker::Watch;
pub use domo_token_protocol::messages::Request;

/// The most of the metrics text that goes into one message, in bytes.
const MAX_METRICS_PIECE: usize = 32 * 1024;

/// What a request results in, unless it is refused.
pub enum Answer<'a, C> {
    /// The token requested.
    Token(Token),
    /// The current token of a scope set and each new one. Before each of them the caller's rights are
    /// confirmed ([`Watch::confirm`]). Boxed, because few answers are watches, and the size counts for all.
    Watch(Box<Watch<C>>),
    /// Any other answer.
    Messages(Messages<'a>),
}

/// The messages of an answer. Each is made when it is taken, so that the broker does not hold all of them
/// for a caller that reads slowly.
pub type Messages<'a> = Box<dyn Iterator<Item = Response> + Send + 'a>;

/// Answers a request, a token request at its deadline at the latest. Dropping the future cancels the
/// request.
///
/// # Errors
///
/// A [`Refusal`] with the reason.
pub async fn handle<'a, C: Clock>(
    broker: &'a Broker<C>,
    request: &Request,
    caller: &'a Caller,
) -> Result<Answer<'a, C>, Refusal> {
    let messages: Messages<'a> = match request {
        Request::Token(request) => return broker.token(request, caller).await.map(Answer::Token),
        Request::Watch(subject) => {
            return broker
                .watch(subject, caller)
                .map(Box::new)
                .map(Answer::Watch);
        }
        Request::Status => Box::new(status(broker, caller)),
        Request::Explain(subject) => {
            let explanation = broker.explain(subject, caller);
            Box::new(iter::once(Response::Explanation(explanation)))
        }
        Request::Metrics => Box::new(metrics(broker.metrics(caller))),
    };
    Ok(Answer::Messages(messages))
}

/// How long the broker's loop may take to answer to count as live.
const LOOP_TIMEOUT: Duration = Duration::from_secs(1);

/// Returns the text that answers whether the broker's loop runs.
///
/// # Errors
///
/// The text for a loop that does not answer.
pub async fn live<C: Clock>(broker: &Broker<C>) -> Result<&'static str, &'static str> {
    match timeout(LOOP_TIMEOUT, broker.ping()).await {
        Ok(()) => Ok("live\n"),
        Err(_) => Err("the event loop does not respond\n"),
    }
}

/// Returns the text that answers whether each scope set that the caller may see has a valid token.
///
/// # Errors
///
/// A line for each scope set without.
pub fn ready<C: Clock>(broker: &Broker<C>, caller: &Caller) -> Result<&'static str, String> {
    let without_token = broker.scope_sets_without_token(caller);
    if without_token.is_empty() {
        return Ok(READY);
    }
    let line = |(client, scope): &(String, String)| format!("no token: {client}/{scope}\n");
    Err(without_token.iter().map(line).collect())
}

/// Returns the text that answers whether one scope set has a valid token, or the text for one that has not; `None` if
/// the caller may see no such scope set.
#[must_use]
pub fn ready_set<C: Clock>(
    broker: &Broker<C>,
    client: &str,
    scope: &str,
    caller: &Caller,
) -> Option<Result<&'static str, &'static str>> {
    let scope = ScopeSet::parse(scope).ok()?;
    let has_token = broker.has_token(client, &scope, caller)?;
    Some(if has_token {
        Ok(READY)
    } else {
        Err("no token\n")
    })
}

const READY: &str = "ready\n";

/// The message where [`ready_set`] returns `None`.
pub const NO_SUCH_SCOPE_SET: &str = "no such client or scope set";

fn status<C: Clock>(broker: &Broker<C>, caller: &Caller) -> impl Iterator<Item = Response> {
    let mut next = Some(StatusCursor::default());
    let pages = iter::from_fn(move || {
        let (page, after) = broker.status(caller, &next.take()?);
        next = after;
        Some(page)
    });
    pages.flatten().chain([Response::End])
}

/// Cuts a metrics text between lines.
fn metrics(text: String) -> impl Iterator<Item = Response> {
    let mut sent = 0;
    let pieces = iter::from_fn(move || {
        let rest = text.get(sent..).filter(|rest| !rest.is_empty())?;
        let mut bytes = rest.as_bytes().iter().take(MAX_METRICS_PIECE);
        let end = bytes.rposition(|byte| *byte == b'\n');
        let end = end.map_or(rest.len(), |newline| newline + 1);
        sent += end;
        rest.get(..end).map(str::to_owned)
    });
    pieces.map(Response::Metrics).chain([Response::End])
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use domo_token_core::fetch::{Fetch, Occasion, Progress};
    use domo_token_core::scheduler::ClientSpec;
    use domo_token_protocol::messages::{RefusalKind, TokenRequest, TokenSubject};

    use super::*;
    use crate::broker::{BrokerConfig, Engine};
    use crate::platform::clock::SystemClock;
    use crate::source::TokenSource;

    struct Silent;

    impl TokenSource for Silent {
        async fn fetch(&self, _occasion: &Occasion, _: &(dyn Fn(Progress) + Send + Sync)) -> Fetch {
            std::future::pending().await
        }
    }

    fn scope(number: usize) -> ScopeSet {
        ScopeSet::parse(&format!("scope{number}")).unwrap()
    }

    /// Returns a broker whose only client has that many scope sets.
    fn broker(sets: usize) -> Broker<SystemClock> {
        let broker = Broker::new(SystemClock::new(), 0, BrokerConfig::default());
        let spec = ClientSpec {
            name: "acme".to_owned(),
            shown_id: String::new(),
            scopes: (0..sets).map(scope).collect(),
            renewed: true,
            proxy_login: None,
            loading: None,
            shares: false,
        };
        let (_engine, _handle) = Engine::new(&broker, vec![(spec, Some(Arc::new(Silent)))]);
        broker
    }

    fn subject(scope: &str) -> TokenSubject {
        TokenSubject {
            client: Some("acme".to_owned()),
            scope: scope.to_owned(),
        }
    }

    async fn messages(broker: &Broker<SystemClock>, request: Request) -> Vec<Response> {
        let caller = Caller::default();
        match handle(broker, &request, &caller).await {
            Ok(Answer::Messages(messages)) => messages.collect(),
            Ok(Answer::Token(_) | Answer::Watch(_)) | Err(_) => panic!("no messages"),
        }
    }

    fn scope_of(message: &Response) -> &str {
        let Response::Scope(set) = message else {
            panic!("not a scope set");
        };
        &set.scope
    }

    #[tokio::test]
    async fn status_has_the_daemon_once_and_each_scope_set_once() {
        for sets in [0, 1, 16, 17, 40] {
            let broker = broker(sets);
            let all = messages(&broker, Request::Status).await;
            assert!(matches!(all.first(), Some(Response::Broker(_))));
            assert_eq!(all.last(), Some(&Response::End));
            let mut scopes: Vec<&str> = all[1..=sets].iter().map(scope_of).collect();
            scopes.dedup();
            assert_eq!((scopes.len(), all.len()), (sets, sets + 2));
        }
    }

    #[tokio::test]
    async fn each_request_gets_an_answer_of_its_kind() {
        let (broker, caller) = (broker(1), Caller::default());
        let watch = Request::Watch(subject("scope0"));
        let answer = handle(&broker, &watch, &caller).await;
        assert!(matches!(answer, Ok(Answer::Watch(_))));
        let metrics = messages(&broker, Request::Metrics).await;
        assert!(
            matches!(&metrics[..], [Response::Metrics(text), Response::End] if text.ends_with("# EOF\n"))
        );
        let explanation = messages(&broker, Request::Explain(subject("scope0"))).await;
        assert!(
            matches!(&explanation[..], [Response::Explanation(explained)] if explained.refused.is_none())
        );
    }

    #[test]
    fn metrics_are_cut_between_lines_and_complete() {
        for count in [0, 1, 999, 10_000] {
            let text = "metric 1\n".repeat(count);
            let mut all = String::new();
            for message in metrics(text.clone()) {
                if let Response::Metrics(piece) = message {
                    assert!(piece.len() <= MAX_METRICS_PIECE && piece.ends_with('\n'));
                    all.push_str(&piece);
                } else {
                    assert_eq!(message, Response::End);
                }
            }
            assert_eq!(all, text);
        }
    }

    #[tokio::test]
    async fn token_and_watch_of_an_unknown_scope_set_are_refused() {
        let (broker, caller) = (broker(1), Caller::default());
        let token = Request::Token(TokenRequest {
            subject: subject("other"),
            min_ttl_ms: None,
            time_left_ms: 1000,
            renew: None,
        });
        for request in [token, Request::Watch(subject("other"))] {
            let refusal = handle(&broker, &request, &caller).await.err().unwrap();
            assert_eq!(refusal.kind, RefusalKind::UnknownScope);
        }
    }
}

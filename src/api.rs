//! What callers can ask for and what they receive, without bytes, sockets or limits.
//!
//! [`handle`] answers a [`Request`] of a [`Caller`]. Each protocol has an adapter in [`crate::server`] that makes
//! requests from what it reads and writes answers in its own form. A protocol version with other messages
//! converts them to these.

use domo_token_core::access_policy::Caller;
use domo_token_core::token::Token;
use domo_token_protocol::messages::{Explanation, Refusal};

use crate::broker::{Broker, StatusCursor};
use crate::platform::clock::Clock;

pub use crate::broker::{StatusPage, Watch};
pub use domo_token_protocol::messages::Request;

/// What a request results in, unless it is refused.
#[derive(Debug)]
pub enum Answer<'a, C> {
    /// The token requested.
    Token(Token),
    /// The current token of a scope set and each new one. Before each of them the caller's rights are
    /// confirmed ([`Watch::confirm`]).
    Watch(Watch<C>),
    /// The state of the daemon and of the scope sets that the caller may see.
    Status(StatusPages<'a, C>),
    /// What is decided for the caller, and by which rule.
    Explanation(Box<Explanation>),
    /// Metrics as Prometheus text.
    Metrics(String),
}

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
    match request {
        Request::Token(request) => broker.token(request, caller).await.map(Answer::Token),
        Request::Watch(asked) => broker.watch(asked, caller).map(Answer::Watch),
        Request::Status => Ok(Answer::Status(StatusPages {
            broker,
            caller,
            next: Some(StatusCursor::default()),
        })),
        Request::Explain(asked) => {
            let explanation = broker.explain(asked, caller);
            Ok(Answer::Explanation(Box::new(explanation)))
        }
        Request::Metrics => Ok(Answer::Metrics(broker.metrics(caller))),
    }
}

/// The pages of a status. Each is made when it is taken, so that the broker does not hold all of them
/// for a caller that reads slowly.
#[derive(Debug)]
pub struct StatusPages<'a, C> {
    broker: &'a Broker<C>,
    caller: &'a Caller,
    next: Option<StatusCursor>,
}

impl<C> StatusPages<'_, C> {
    /// Returns whether all pages have been taken.
    #[must_use]
    pub fn is_at_end(&self) -> bool {
        self.next.is_none()
    }
}

impl<C: Clock> Iterator for StatusPages<'_, C> {
    type Item = StatusPage;

    fn next(&mut self) -> Option<StatusPage> {
        let from = self.next.take()?;
        let (page, next) = self.broker.status(self.caller, &from);
        self.next = next;
        Some(page)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use domo_token_core::fetch_result::{FetchError, Fetched};
    use domo_token_core::scheduler::ClientSpec;
    use domo_token_protocol::messages::{Asked, RefusalKind, TokenRequest};
    use domo_token_protocol::scope::ScopeSet;

    use super::*;
    use crate::broker::{BrokerConfig, Engine};
    use crate::platform::clock::SystemClock;
    use crate::source::TokenSource;

    struct Silent;

    impl TokenSource for Silent {
        async fn fetch(
            &self,
            _scope: &ScopeSet,
            _: Duration,
            _: &(dyn Fn() + Send + Sync),
        ) -> Result<Fetched, FetchError> {
            std::future::pending().await
        }
    }

    fn scope(number: usize) -> ScopeSet {
        ScopeSet::parse(&format!("scope{number}")).unwrap()
    }

    /// A broker whose only client has that many scope sets.
    fn broker(sets: usize) -> Broker<SystemClock> {
        let broker = Broker::new(SystemClock::new(), 0, BrokerConfig::default());
        let spec = ClientSpec {
            name: "acme".to_owned(),
            shown_id: String::new(),
            scopes: (0..sets).map(scope).collect(),
            renewed: true,
            proxy_login: None,
            loading: None,
        };
        let (_engine, _handle) = Engine::new(&broker, vec![(spec, Some(Arc::new(Silent)))]);
        broker
    }

    fn asked(scope: &str) -> Asked {
        Asked {
            client: Some("acme".to_owned()),
            scope: scope.to_owned(),
        }
    }

    #[tokio::test]
    async fn status_has_the_daemon_once_and_each_scope_set_once() {
        let caller = Caller::default();
        for sets in [0, 1, 16, 17, 40] {
            let broker = broker(sets);
            let answer = handle(&broker, &Request::Status, &caller).await;
            let Ok(Answer::Status(mut pages)) = answer else {
                panic!("no status");
            };
            assert!(!pages.is_at_end());
            let all: Vec<StatusPage> = pages.by_ref().collect();
            assert!(pages.is_at_end());
            let daemons = all.iter().filter(|page| page.broker.is_some()).count();
            assert_eq!((daemons, all[0].broker.is_some()), (1, true));
            let mut scopes: Vec<&str> = all
                .iter()
                .flat_map(|page| page.scopes.iter().map(|set| set.scope.as_str()))
                .collect();
            scopes.dedup();
            assert_eq!(scopes.len(), sets);
        }
    }

    #[tokio::test]
    async fn each_request_gets_an_answer_of_its_kind() {
        let (broker, caller) = (broker(1), Caller::default());
        let watch = Request::Watch(asked("scope0"));
        let answer = handle(&broker, &watch, &caller).await;
        assert!(matches!(answer, Ok(Answer::Watch(_))));
        let answer = handle(&broker, &Request::Metrics, &caller).await;
        assert!(matches!(answer, Ok(Answer::Metrics(text)) if text.ends_with("# EOF\n")));
        let explain = Request::Explain(asked("scope0"));
        let answer = handle(&broker, &explain, &caller).await;
        assert!(
            matches!(answer, Ok(Answer::Explanation(explained)) if explained.refused.is_none())
        );
    }

    #[tokio::test]
    async fn token_and_watch_of_an_unknown_scope_set_are_refused() {
        let (broker, caller) = (broker(1), Caller::default());
        let token = Request::Token(TokenRequest {
            asked: asked("other"),
            min_ttl_ms: None,
            time_left_ms: 1000,
            renew: None,
        });
        for request in [token, Request::Watch(asked("other"))] {
            let refusal = handle(&broker, &request, &caller).await.unwrap_err();
            assert_eq!(refusal.kind, RefusalKind::UnknownScope);
        }
    }
}

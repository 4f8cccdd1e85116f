//! What a fake broker grants and refuses, and what it has counted. No I/O.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::time::Duration;

use super::DEFAULT_CLIENT;
use crate::clock::BootTime;
use domo_token_protocol::messages::{
    Asked, BrokerStatus, Explanation, Refusal, RefusalKind, Renew, Request, Response, ScopeState,
    ScopeStatus, TokenAnswer, TokenRequest, TokenText, VERSION,
};
use domo_token_protocol::scope::{ScopeError, ScopeSet};

/// How long tokens are valid by default.
const HOUR: Duration = Duration::from_secs(3600);

/// How a fake broker responds to requests for a scope set that it has no token for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Failure {
    Refusal(RefusalKind),
}

impl Failure {
    fn refusal(self) -> Refusal {
        let Self::Refusal(kind) = self;
        Refusal::new(kind, cause(kind))
    }

    fn response(self) -> Response {
        Response::Refusal(self.refusal())
    }
}

/// The state of a fake broker.
pub(super) struct Grants {
    sets: BTreeMap<ScopeSet, Grant>,
    /// How requests for all other scope sets fail, if they do.
    others: Option<Failure>,
    /// The lifetime of new tokens.
    lifetime: Duration,
    last_generation: u64,
    started: BootTime,
    requests: usize,
    /// What watchers have not been sent yet.
    news: Vec<(ScopeSet, Response)>,
}

#[derive(Default)]
struct Grant {
    token: Option<StoredToken>,
    failure: Option<Failure>,
    /// The number of tokens made.
    made: u64,
    /// How often callers reported a token that Domo rejected.
    rejected: u64,
}

struct StoredToken {
    text: TokenText,
    generation: u64,
    lifetime: Duration,
    obtained: BootTime,
}

impl StoredToken {
    fn expires(&self) -> BootTime {
        self.obtained + self.lifetime
    }

    fn response(&self, scope: &ScopeSet, client: Option<&str>) -> Response {
        Response::Token(TokenAnswer {
            access_token: self.text.clone(),
            client: client.unwrap_or(DEFAULT_CLIENT).to_owned(),
            scope: scope.as_str().to_owned(),
            generation: self.generation,
            lifetime_ms: u64::try_from(self.lifetime.as_millis()).unwrap_or(u64::MAX),
            expires: self.expires(),
        })
    }
}

impl Grants {
    pub(super) fn new(now: BootTime) -> Self {
        Self {
            sets: BTreeMap::new(),
            others: None,
            lifetime: HOUR,
            last_generation: 0,
            started: now,
            requests: 0,
            news: Vec::new(),
        }
    }

    /// Grants a token with this text. Watchers of the scope set receive it.
    pub(super) fn grant(&mut self, scope: ScopeSet, text: TokenText, now: BootTime) {
        let token = self.new_token(&scope, Some(text), now);
        self.sets.entry(scope.clone()).or_default().failure = None;
        self.news.push((scope, token));
    }

    pub(super) fn fail(&mut self, scope: ScopeSet, failure: Failure) {
        self.sets.entry(scope.clone()).or_default().failure = Some(failure);
        self.news.push((scope, failure.response()));
    }

    pub(super) fn fail_others(&mut self, failure: Failure) {
        self.others = Some(failure);
    }

    pub(super) fn set_lifetime(&mut self, lifetime: Duration) {
        self.lifetime = lifetime;
    }

    pub(super) fn requests(&self) -> usize {
        self.requests
    }

    /// Returns how often a token of these scopes was reported as rejected by Domo.
    pub(super) fn rejected(&self, scope: &ScopeSet) -> u64 {
        self.sets.get(scope).map_or(0, |grant| grant.rejected)
    }

    /// Returns what watchers have not been sent yet, in order.
    pub(super) fn take_news(&mut self) -> Vec<(ScopeSet, Response)> {
        std::mem::take(&mut self.news)
    }

    /// Returns the response to a request, which may have several parts.
    pub(super) fn answer(&mut self, request: &Request, now: BootTime) -> Vec<Response> {
        self.requests += 1;
        match request {
            Request::Token(request) => vec![self.token(request, now)],
            Request::Watch(asked) => vec![self.current(asked, now)],
            Request::Status => self.status(now),
            Request::Explain(asked) => vec![self.explain(asked)],
            Request::Metrics => vec![Response::Metrics(self.metrics()), Response::End],
        }
    }

    fn token(&mut self, request: &TokenRequest, now: BootTime) -> Response {
        let scope = match self.scope(&request.asked) {
            Ok(scope) => scope,
            Err(refusal) => return Response::Refusal(refusal),
        };
        let min_ttl = Duration::from_millis(request.min_ttl_ms.unwrap_or(0));
        let grant = self.sets.entry(scope.clone()).or_default();
        let current = grant.token.as_ref().map(|token| token.generation);
        let is_rejected = match request.renew {
            Some(Renew::Current) => true,
            Some(Renew::Rejected(generation)) => {
                grant.rejected += 1;
                current == Some(generation)
            }
            None => false,
        };
        let is_usable = |token: &&StoredToken| {
            !is_rejected && token.expires() > now && token.expires() >= now + min_ttl
        };
        if let Some(token) = grant.token.as_ref().filter(is_usable) {
            return token.response(&scope, request.asked.client.as_deref());
        }
        if min_ttl > self.lifetime {
            return Failure::Refusal(RefusalKind::MinTtlTooLong).response();
        }
        let token = self.new_token(&scope, None, now);
        self.news.push((scope, token.clone()));
        of_client(token, &request.asked)
    }

    /// Returns the current token, or makes one.
    fn current(&mut self, asked: &Asked, now: BootTime) -> Response {
        let any = TokenRequest {
            asked: asked.clone(),
            min_ttl_ms: None,
            time_left_ms: 0,
            renew: None,
        };
        self.token(&any, now)
    }

    /// Returns the scope set of a request, unless the request is refused.
    fn scope(&self, asked: &Asked) -> Result<ScopeSet, Refusal> {
        let unknown =
            |error: ScopeError| Refusal::new(RefusalKind::UnknownScope, error.to_string());
        let scope = ScopeSet::parse(&asked.scope).map_err(unknown)?;
        match self.failure(&scope) {
            Some(failure) => Err(failure.refusal()),
            None => Ok(scope),
        }
    }

    fn failure(&self, scope: &ScopeSet) -> Option<Failure> {
        match self.sets.get(scope) {
            Some(grant) if grant.failure.is_some() || grant.token.is_some() => grant.failure,
            Some(_) | None => self.others,
        }
    }

    /// Makes a token. The text of the current one keeps its generation.
    fn new_token(&mut self, scope: &ScopeSet, text: Option<TokenText>, now: BootTime) -> Response {
        let grant = self.sets.entry(scope.clone()).or_default();
        let current = grant.token.as_ref();
        let same = current.filter(|current| Some(&current.text) == text.as_ref());
        let generation = same.map_or(self.last_generation + 1, |current| current.generation);
        self.last_generation = self.last_generation.max(generation);
        let generated = || TokenText::new(format!("fake-token-{generation}"));
        grant.made += 1;
        let token = grant.token.insert(StoredToken {
            text: text.unwrap_or_else(generated),
            generation,
            lifetime: self.lifetime,
            obtained: now,
        });
        token.response(scope, None)
    }

    fn status(&self, now: BootTime) -> Vec<Response> {
        let broker = Response::Broker(BrokerStatus {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            protocol: VERSION,
            pid: std::process::id(),
            started: self.started,
            config_path: None,
            config_loaded: self.started,
            config_error: None,
        });
        let scopes = self.sets.iter();
        let scopes = scopes.map(|(scope, grant)| Response::Scope(grant.status(scope, now)));
        let mut parts: Vec<_> = std::iter::once(broker).chain(scopes).collect();
        parts.push(Response::End);
        parts
    }

    fn explain(&self, asked: &Asked) -> Response {
        let scope = ScopeSet::parse(&asked.scope);
        let failure = scope.ok().and_then(|scope| self.failure(&scope));
        let refused = failure.map(|Failure::Refusal(kind)| kind);
        let rule = refused.map_or("the fake broker grants it", cause);
        Response::Explanation(Explanation {
            client: Some(asked.client.as_deref().unwrap_or(DEFAULT_CLIENT).to_owned()),
            scope: asked.scope.clone(),
            peer: format!("pid {}", std::process::id()),
            refused,
            rule: rule.to_owned(),
        })
    }

    fn metrics(&self) -> String {
        let version = env!("CARGO_PKG_VERSION");
        let mut text = format!(
            "# HELP domo_token_build_info Version of the fake broker and its protocol.\n\
             # TYPE domo_token_build_info gauge\n\
             domo_token_build_info{{version=\"{version}\",protocol=\"{VERSION}\"}} 1\n\
             # HELP domo_token_renewals_total Tokens made.\n\
             # TYPE domo_token_renewals_total counter\n"
        );
        for (scope, grant) in &self.sets {
            let labels = format!("client=\"{DEFAULT_CLIENT}\",scope=\"{scope}\"");
            // Writing to a string does not fail.
            let _ = writeln!(text, "domo_token_renewals_total{{{labels}}} {}", grant.made);
        }
        text
    }
}

impl Grant {
    fn status(&self, scope: &ScopeSet, now: BootTime) -> ScopeStatus {
        let token = self.token.as_ref().filter(|token| token.expires() > now);
        let state = match self.failure {
            Some(Failure::Refusal(RefusalKind::Denied)) => ScopeState::Denied,
            Some(_) => ScopeState::Waiting,
            None if token.is_some() => ScopeState::Fresh,
            None => ScopeState::Idle,
        };
        let error = self.failure.map(|Failure::Refusal(kind)| cause(kind));
        ScopeStatus {
            client: DEFAULT_CLIENT.to_owned(),
            client_id: "fake".to_owned(),
            scope: scope.as_str().to_owned(),
            state,
            obtained: token.map(|token| token.obtained),
            expires: token.map(StoredToken::expires),
            generation: token.map(|token| token.generation),
            next_attempt: None,
            requests: self.made,
            attempts: u32::from(error.is_some()),
            last_error: error.map(str::to_owned),
            last_error_at: error.map(|_| now),
            rejected: self.rejected,
            last_rejected_by: None,
            credentials_error: None,
        }
    }
}

/// Sets the client of a token to that of its request.
pub(super) fn of_client(mut response: Response, asked: &Asked) -> Response {
    if let (Response::Token(token), Some(client)) = (&mut response, &asked.client) {
        token.client.clone_from(client);
    }
    response
}

fn cause(kind: RefusalKind) -> &'static str {
    match kind {
        RefusalKind::NotPermitted => "the fake broker does not permit this scope set",
        RefusalKind::UnknownClient => "the fake broker has no such client",
        RefusalKind::UnknownScope => "the fake broker has no such scope set",
        RefusalKind::MinTtlTooLong => "the fake broker's tokens expire too early",
        RefusalKind::Denied => "the fake broker reports that Domo rejects the client",
        RefusalKind::Gone => "the fake broker no longer has this scope set",
        RefusalKind::Unavailable => "the fake broker has no token now",
        RefusalKind::Busy => "the fake broker is busy",
    }
}

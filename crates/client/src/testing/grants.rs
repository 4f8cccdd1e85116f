//! What a fake broker grants and refuses, and what it has counted. No I/O.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::time::Duration;

use super::DEFAULT_CLIENT;
use crate::clock::BootTime;
use crate::error::ErrorKind;
use domo_token_protocol::messages::{
    BrokerStatus, Explanation, Refusal, RefusalKind, Renew, Request, Response, ScopeState,
    ScopeStatus, TokenAnswer, TokenOrigin, TokenRequest, TokenSubject, TokenText, VERSION,
};
use domo_token_protocol::scope::ScopeSet;

/// How long tokens are valid by default.
const HOUR: Duration = Duration::from_secs(3600);

/// How a fake broker fails requests for a scope set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Failure {
    Refusal {
        kind: RefusalKind,
        retry_after: Option<Duration>,
    },
    Fault(Fault),
}

/// A failure that is no response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    /// It does not answer.
    NoAnswer,
    /// It speaks another protocol version.
    OtherVersion,
    /// It sends what is no message.
    Malformed,
}

/// What is sent to a caller.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Answer {
    /// The parts of a response.
    Response(Vec<Response>),
    Fault(Fault),
}

impl Failure {
    /// Returns the failure that callers receive as an error of this kind; `None` if no broker can cause one.
    pub(super) fn of(kind: ErrorKind, retry_after: Option<Duration>) -> Option<Self> {
        let kind = match kind {
            ErrorKind::Timeout => return Some(Self::Fault(Fault::NoAnswer)),
            ErrorKind::IncompatibleVersion => return Some(Self::Fault(Fault::OtherVersion)),
            ErrorKind::Protocol => return Some(Self::Fault(Fault::Malformed)),
            ErrorKind::NotPermitted => RefusalKind::NotPermitted,
            ErrorKind::UnknownClient => RefusalKind::UnknownClient,
            ErrorKind::UnknownScope => RefusalKind::UnknownScope,
            ErrorKind::MinTtlTooLong => RefusalKind::MinTtlTooLong,
            ErrorKind::Rejected => RefusalKind::Denied,
            ErrorKind::Gone => RefusalKind::Gone,
            ErrorKind::Unavailable => RefusalKind::Unavailable,
            ErrorKind::Busy => RefusalKind::Busy,
            ErrorKind::NotRunning
            | ErrorKind::Untrusted
            | ErrorKind::InvalidScope
            | ErrorKind::InvalidSocket
            | ErrorKind::Io => return None,
        };
        Some(Self::Refusal { kind, retry_after })
    }

    fn answer(self, now: BootTime) -> Answer {
        match self {
            Self::Refusal { kind, retry_after } => {
                let mut refusal = Refusal::new(kind, cause(kind));
                refusal.next_attempt = retry_after.map(|wait| now + wait);
                Response::Refusal(refusal).into()
            }
            Self::Fault(fault) => Answer::Fault(fault),
        }
    }

    fn refused(self) -> Option<RefusalKind> {
        match self {
            Self::Refusal { kind, .. } => Some(kind),
            Self::Fault(_) => None,
        }
    }
}

impl From<Response> for Answer {
    fn from(response: Response) -> Self {
        Self::Response(vec![response])
    }
}

impl Answer {
    /// Sets the client of a token to that of its request.
    pub(super) fn for_client(mut self, subject: &TokenSubject) -> Self {
        if let Self::Response(parts) = &mut self
            && let [Response::Token(token)] = &mut parts[..]
            && let Some(client) = &subject.client
        {
            token.client.clone_from(client);
        }
        self
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
    notifications: Vec<(ScopeSet, Answer)>,
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
            notifications: Vec::new(),
        }
    }

    /// Grants a token with this text. Watchers of the scope set receive it.
    pub(super) fn grant(&mut self, scope: ScopeSet, text: TokenText, now: BootTime) {
        let token = self.new_token(&scope, Some(text), now);
        self.sets.entry(scope.clone()).or_default().failure = None;
        self.notifications.push((scope, token.into()));
    }

    /// Fails requests for these scopes until a token is granted. Watchers of the scope set receive that, too.
    pub(super) fn fail(&mut self, scope: ScopeSet, failure: Failure, now: BootTime) {
        self.sets.entry(scope.clone()).or_default().failure = Some(failure);
        self.notifications.push((scope, failure.answer(now)));
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
    pub(super) fn take_notifications(&mut self) -> Vec<(ScopeSet, Answer)> {
        std::mem::take(&mut self.notifications)
    }

    /// Returns the answer to a request.
    pub(super) fn answer(&mut self, request: &Request, now: BootTime) -> Answer {
        self.requests += 1;
        match request {
            Request::Token(request) => self.token(request, now),
            Request::Watch(subject) => {
                let current = TokenRequest {
                    subject: subject.clone(),
                    min_ttl_ms: None,
                    time_left_ms: 0,
                    renew: None,
                };
                self.token(&current, now)
            }
            Request::Status => Answer::Response(self.status(now)),
            Request::Explain(subject) => self.explain(subject).into(),
            Request::Metrics => {
                let text = Response::Metrics(self.metrics());
                Answer::Response(vec![text, Response::End])
            }
        }
    }

    fn token(&mut self, request: &TokenRequest, now: BootTime) -> Answer {
        let subject = &request.subject;
        let scope = match ScopeSet::parse(&subject.scope) {
            Ok(scope) => scope,
            Err(error) => {
                let refusal = Refusal::new(RefusalKind::UnknownScope, error.to_string());
                return Response::Refusal(refusal).into();
            }
        };
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
        if let Some(failure) = self.failure(&scope) {
            return failure.answer(now);
        }
        let min_ttl = Duration::from_millis(request.min_ttl_ms.unwrap_or(0));
        let current = self.sets.get(&scope).and_then(|grant| grant.token.as_ref());
        let is_usable = |token: &&StoredToken| {
            !is_rejected && token.expires() > now && token.expires() >= now + min_ttl
        };
        if let Some(token) = current.filter(is_usable) {
            return token.response(&scope, subject.client.as_deref()).into();
        }
        if min_ttl > self.lifetime {
            let kind = RefusalKind::MinTtlTooLong;
            return Response::Refusal(Refusal::new(kind, cause(kind))).into();
        }
        let token = self.new_token(&scope, None, now);
        self.notifications.push((scope, token.clone().into()));
        Answer::from(token).for_client(subject)
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
            ..BrokerStatus::default()
        });
        let scopes = self.sets.iter();
        let scopes = scopes.map(|(scope, grant)| Response::Scope(grant.status(scope, now)));
        let mut parts: Vec<_> = std::iter::once(broker).chain(scopes).collect();
        parts.push(Response::End);
        parts
    }

    fn explain(&self, subject: &TokenSubject) -> Response {
        let scope = ScopeSet::parse(&subject.scope);
        let failure = scope.ok().and_then(|scope| self.failure(&scope));
        let refused = failure.and_then(Failure::refused);
        let rule = refused.map_or("the fake broker grants it", cause);
        Response::Explanation(Explanation {
            client: Some(
                subject
                    .client
                    .as_deref()
                    .unwrap_or(DEFAULT_CLIENT)
                    .to_owned(),
            ),
            scope: subject.scope.clone(),
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
            Some(failure) if failure.refused() == Some(RefusalKind::Denied) => ScopeState::Denied,
            Some(_) => ScopeState::Waiting,
            None if token.is_some() => ScopeState::Fresh,
            None => ScopeState::Idle,
        };
        let error = self.failure.and_then(Failure::refused).map(cause);
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
            from: token.map(|_| TokenOrigin::Domo),
        }
    }
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

//! Requests in flight (single flight): one request per key serves all threads that need its answer.
//!
//! A caller without a sufficient cached token waits for the request of its key that is in flight, or
//! leads a new one. Each caller then checks the result against its own requirement and deadline.

use std::collections::BTreeMap;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::clock::{BootTime, boot_now};
use crate::error::Error;
use crate::retry::{GRACE, RetryPolicy};
use crate::token::{Token, TokenKey};
use crate::token_cache::TokenCache;
use domo_token_protocol::messages::Renew;

/// The time limit of a request for a fresher token while the cached one is still valid.
const EARLY_RENEWAL: Duration = Duration::from_secs(1);

/// The conditions that a caller sets for a token.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Requirement {
    /// The least time until it expires.
    pub(crate) min_ttl: Option<Duration>,
    pub(crate) renew: Option<Renew>,
    /// With `renew`, when the rejected token expires: a cached one that expires later is newer.
    pub(crate) rejected_expires: Option<BootTime>,
}

impl Requirement {
    /// No conditions.
    pub(crate) const ANY: Self = Self {
        min_ttl: None,
        renew: None,
        rejected_expires: None,
    };

    /// Another token than this one, which Domo rejected.
    pub(crate) fn other_than(rejected: &Token) -> Self {
        Self {
            renew: Some(Renew::Rejected(rejected.generation())),
            rejected_expires: Some(rejected.expires()),
            ..Self::ANY
        }
    }

    /// Returns whether a cached token is sufficient, without a request.
    pub(crate) fn is_met_by_cached(&self, token: &Token, now: BootTime) -> bool {
        if let Some(renew) = self.renew {
            let newer = |rejected| token.expires() > rejected;
            if renew == Renew::Rejected(token.generation())
                || !self.rejected_expires.is_some_and(newer)
            {
                return false;
            }
        }
        match self.min_ttl {
            None => token.is_fresh(now),
            Some(least) => token.is_valid(now) && token.left(now) >= least,
        }
    }

    /// Returns whether a token that was requested with the conditions of another caller is sufficient.
    fn is_met_by(&self, token: &Token, requested: &Self) -> bool {
        let new_enough = match self.renew {
            None => true,
            Some(Renew::Rejected(generation)) => token.generation() != generation,
            Some(Renew::Current) => requested.renew.is_some(),
        };
        let is_long_enough = |least| token.left(boot_now()) >= least;
        new_enough && self.min_ttl.is_none_or(is_long_enough)
    }

    /// Returns whether a failure to meet this requirement is one to meet the other, too.
    fn is_no_stricter_than(&self, other: &Self) -> bool {
        self == other || (self.renew.is_none() && self.min_ttl <= other.min_ttl)
    }
}

/// One call for a token.
pub(crate) struct CallerRequest {
    pub(crate) key: TokenKey,
    pub(crate) requirement: Requirement,
    pub(crate) deadline: BootTime,
    pub(crate) retry: RetryPolicy,
    /// Whether it has led a request. A caller with conditions first requests a token without any, so
    /// that callers without conditions do not wait for the stricter request.
    pub(crate) has_led: bool,
}

impl CallerRequest {
    /// Returns when the call ends, answered or not.
    pub(crate) fn cancel_at(&self) -> BootTime {
        self.deadline + GRACE
    }
}

/// One request to the broker.
pub(crate) struct InFlight {
    pub(crate) key: TokenKey,
    pub(crate) requirement: Requirement,
    pub(crate) deadline: BootTime,
    pub(crate) retry: RetryPolicy,
    state: Mutex<State>,
    completed: Condvar,
    #[cfg(feature = "tokio")]
    completed_async: tokio::sync::Notify,
}

#[derive(Default)]
struct State {
    outcome: Option<Outcome>,
    /// How many threads are blocked on it: a wake-up costs a system call even if there are none.
    waiting: usize,
}

/// How a request has ended.
#[derive(Clone)]
enum Outcome {
    Completed(Result<Token, Error>),
    /// The runtime of its task has ended.
    Abandoned,
}

/// What a call does next.
pub(crate) enum Role {
    /// It returns a cached token.
    Cached(Token),
    /// It waits for the request of another call.
    Follow(Arc<InFlight>),
    /// It sends the request.
    Lead(Leader),
}

/// The requests of one process that are in flight, at most one for each key.
pub(crate) struct InFlightRequests(Mutex<BTreeMap<TokenKey, Arc<InFlight>>>);

impl InFlightRequests {
    pub(crate) fn new() -> Self {
        Self(Mutex::new(BTreeMap::new()))
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<TokenKey, Arc<InFlight>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn join_or_lead(
        self: &Arc<Self>,
        call: &mut CallerRequest,
        cache: &TokenCache,
    ) -> Role {
        let mut requests = self.lock();
        if let Some(Renew::Rejected(generation)) = call.requirement.renew {
            cache.evict(&call.key, generation);
        }
        let now = boot_now();
        // Looked up under the lock: a request that has completed meanwhile has cached its token.
        let token = cache.get(&call.key);
        let in_flight = requests.get(&call.key);
        let in_flight = in_flight.filter(|request| now < request.stalled_at());
        if let Some(token) = &token {
            // A caller without conditions does not wait for the fresher token.
            let is_sufficient =
                in_flight.is_some() && call.requirement == Requirement::ANY && token.is_valid(now);
            if is_sufficient || call.requirement.is_met_by_cached(token, now) {
                return Role::Cached(token.clone());
            }
        }
        if let Some(request) = in_flight {
            return Role::Follow(Arc::clone(request));
        }
        let request = Arc::new(InFlight::of(call, token.as_ref(), now));
        requests.insert(call.key.clone(), Arc::clone(&request));
        Role::Lead(Leader {
            requests: Arc::clone(self),
            request,
            result: None,
        })
    }
}

impl InFlight {
    fn of(call: &mut CallerRequest, cached: Option<&Token>, now: BootTime) -> Self {
        let usable = cached.filter(|token| token.is_valid(now + EARLY_RENEWAL));
        let mut requirement = call.requirement;
        if requirement.renew.is_none() && usable.is_none() && !call.has_led {
            requirement = Requirement::ANY;
        }
        call.has_led = true;
        let mut request = Self {
            key: call.key.clone(),
            requirement,
            deadline: call.deadline,
            retry: call.retry,
            state: Mutex::new(State::default()),
            completed: Condvar::new(),
            #[cfg(feature = "tokio")]
            completed_async: tokio::sync::Notify::new(),
        };
        if requirement == Requirement::ANY && usable.is_some() {
            request.deadline = request.deadline.min(now + EARLY_RENEWAL);
            request.retry = RetryPolicy::NONE;
        }
        request
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns when others no longer wait for the request. Its leader has completed it by then, unless it is a
    /// task of a tokio runtime that does not run.
    fn stalled_at(&self) -> BootTime {
        self.deadline + 2 * GRACE
    }

    /// Blocks until the request has completed, at most until `until` or until it has stalled.
    pub(crate) fn wait(&self, until: BootTime) {
        let until = until.min(self.stalled_at());
        let mut state = self.state();
        state.waiting += 1;
        while state.outcome.is_none() {
            let left = until.saturating_since(boot_now());
            if left.is_zero() {
                break;
            }
            let waited = self.completed.wait_timeout(state, left);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        state.waiting -= 1;
    }

    fn end(&self, outcome: Outcome) {
        let mut state = self.state();
        state.outcome = Some(outcome);
        if state.waiting > 0 {
            self.completed.notify_all();
        }
        drop(state);
        #[cfg(feature = "tokio")]
        self.completed_async.notify_waiters();
    }

    /// Waits as [`Self::wait`] does.
    #[cfg(feature = "tokio")]
    pub(crate) async fn wait_async(&self, until: BootTime) {
        let until = until.min(self.stalled_at());
        let completed = self.completed_async.notified();
        let mut completed = std::pin::pin!(completed);
        // Registers before the check, so that no completion is missed.
        completed.as_mut().enable();
        if self.state().outcome.is_none() {
            let left = until.saturating_since(boot_now());
            // `resolve` reports a timeout.
            let _ = tokio::time::timeout(left, completed).await;
        }
    }

    /// Returns the result of a call that led or awaited this request; `None` if the call needs another.
    pub(crate) fn resolve(
        &self,
        call: &CallerRequest,
        cache: &TokenCache,
    ) -> Option<Result<Token, Error>> {
        let outcome = self.state().outcome.clone();
        let error = match outcome {
            Some(Outcome::Completed(Ok(token))) => {
                let is_sufficient = self.requirement == call.requirement
                    || call.requirement.is_met_by(&token, &self.requirement);
                return is_sufficient.then_some(Ok(token));
            }
            Some(Outcome::Completed(Err(error))) => error,
            Some(Outcome::Abandoned) if boot_now() < call.deadline => return None,
            Some(Outcome::Abandoned) | None => Error::late(),
        };
        // A valid cached token outlasts any error but a decision of the broker.
        if call.requirement == Requirement::ANY && !error.is_decision() {
            let valid = cache
                .get(&call.key)
                .filter(|token| token.is_valid(boot_now()));
            if let Some(token) = valid {
                return Some(Ok(token));
            }
        }
        // A caller with more time, or a weaker requirement, than the leader may still succeed.
        let is_out_of_time = call.deadline <= self.deadline + GRACE || boot_now() >= call.deadline;
        let is_final = !error.is_retryable() || is_out_of_time;
        (self.requirement.is_no_stricter_than(&call.requirement) && is_final
            || boot_now() >= call.cancel_at())
        .then_some(Err(error))
    }
}

/// Sends a request. Dropping it completes the request, also when a panic unwinds.
pub(crate) struct Leader {
    requests: Arc<InFlightRequests>,
    request: Arc<InFlight>,
    result: Option<Result<Token, Error>>,
}

impl Leader {
    pub(crate) fn request(&self) -> Arc<InFlight> {
        Arc::clone(&self.request)
    }

    /// Sends the request and caches its token.
    pub(crate) fn run(
        self,
        send: impl FnOnce(&InFlight) -> Result<Token, Error>,
        cache: &TokenCache,
    ) {
        let result = send(&self.request);
        self.complete(result, cache);
    }

    /// Completes the request with this result and caches its token.
    pub(crate) fn complete(mut self, result: Result<Token, Error>, cache: &TokenCache) {
        if let Ok(token) = &result {
            // Before the request completes, so that the next caller finds the token.
            cache.insert(token);
        }
        self.result = Some(result);
    }
}

impl Drop for Leader {
    fn drop(&mut self) {
        let outcome = match self.result.take() {
            Some(result) => Outcome::Completed(result),
            // The next one would panic as well.
            None if std::thread::panicking() => Outcome::Completed(Err(Error::later(
                "the request for this token, which another call shares, was cancelled",
            ))),
            None => Outcome::Abandoned,
        };
        let mut requests = self.requests.lock();
        let current = requests.get(&self.request.key);
        // Another call leads in place of a request that has stalled.
        if current.is_some_and(|current| Arc::ptr_eq(current, &self.request)) {
            requests.remove(&self.request.key);
        }
        drop(requests);
        self.request.end(outcome);
    }
}

#[cfg(test)]
mod tests {
    use std::panic::{AssertUnwindSafe, catch_unwind};
    use std::path::Path;

    use super::*;
    use crate::error::ErrorKind;
    use domo_token_protocol::messages::{TokenAnswer, TokenText};
    use domo_token_protocol::scope::ScopeSet;

    fn key() -> TokenKey {
        TokenKey {
            client: None,
            scope: ScopeSet::parse("data").unwrap(),
        }
    }

    fn call(requirement: Requirement) -> CallerRequest {
        CallerRequest {
            key: key(),
            requirement,
            deadline: boot_now() + Duration::from_secs(10),
            retry: RetryPolicy::NONE,
            has_led: false,
        }
    }

    fn token(generation: u64) -> Token {
        let answer = TokenAnswer {
            access_token: TokenText::new("c4nary".to_owned()),
            client: "acme".to_owned(),
            scope: "data".to_owned(),
            generation,
            lifetime_ms: 3_599_000,
            expires: boot_now() + Duration::from_secs(3599),
        };
        let broker = Path::new("/run/broker.sock").into();
        Token::new(answer, &key(), None, &broker).unwrap()
    }

    fn lead(role: Role) -> Leader {
        match role {
            Role::Lead(leader) => leader,
            Role::Follow(_) | Role::Cached(_) => panic!("it should lead"),
        }
    }

    fn follow(role: Role) -> Arc<InFlight> {
        match role {
            Role::Follow(request) => request,
            Role::Lead(_) | Role::Cached(_) => panic!("it should wait"),
        }
    }

    #[test]
    fn request_that_panics_fails_its_waiters_and_the_next_call_leads() {
        let (requests, cache) = (Arc::new(InFlightRequests::new()), TokenCache::new());
        let leader = lead(requests.join_or_lead(&mut call(Requirement::ANY), &cache));
        let mut waiting = call(Requirement::ANY);
        let request = follow(requests.join_or_lead(&mut waiting, &cache));
        let bug = AssertUnwindSafe(|| leader.run(|_| panic!("a bug"), &cache));
        assert!(catch_unwind(bug).is_err());
        request.wait(waiting.cancel_at());
        let result = request.resolve(&waiting, &cache).unwrap();
        assert_eq!(result.unwrap_err().kind(), ErrorKind::Unavailable);
        lead(requests.join_or_lead(&mut waiting, &cache)).run(|_| Ok(token(1)), &cache);
        assert!(matches!(
            requests.join_or_lead(&mut waiting, &cache),
            Role::Cached(_)
        ));
    }

    #[test]
    fn callers_of_an_abandoned_request_lead_their_own() {
        let (requests, cache) = (Arc::new(InFlightRequests::new()), TokenCache::new());
        let leader = lead(requests.join_or_lead(&mut call(Requirement::ANY), &cache));
        let mut waiting = call(Requirement::ANY);
        let request = follow(requests.join_or_lead(&mut waiting, &cache));
        drop(leader);
        request.wait(waiting.cancel_at());
        assert!(request.resolve(&waiting, &cache).is_none());
        lead(requests.join_or_lead(&mut waiting, &cache)).run(|_| Ok(token(1)), &cache);
    }

    #[test]
    fn stalled_request_is_replaced_and_does_not_end_the_one_in_its_place() {
        let (requests, cache) = (Arc::new(InFlightRequests::new()), TokenCache::new());
        let mut past = call(Requirement::ANY);
        past.deadline = boot_now() - 2 * GRACE;
        let stalled = lead(requests.join_or_lead(&mut past, &cache));
        let mut waiting = call(Requirement::ANY);
        stalled.request().wait(waiting.cancel_at());
        assert!(stalled.request().resolve(&waiting, &cache).is_none());
        let leader = lead(requests.join_or_lead(&mut waiting, &cache));
        stalled.run(|_| Err(Error::later("too late")), &cache);
        let request = follow(requests.join_or_lead(&mut call(Requirement::ANY), &cache));
        assert!(Arc::ptr_eq(&request, &leader.request()));
    }

    #[test]
    fn poisoned_lock_does_not_stop_a_request() {
        let (requests, cache) = (Arc::new(InFlightRequests::new()), TokenCache::new());
        let leader = lead(requests.join_or_lead(&mut call(Requirement::ANY), &cache));
        let request = leader.request();
        let bug = AssertUnwindSafe(|| {
            let _guards = (requests.lock(), request.state());
            panic!("a bug");
        });
        assert!(catch_unwind(bug).is_err());
        leader.run(|_| Ok(token(1)), &cache);
        let result = request.resolve(&call(Requirement::ANY), &cache).unwrap();
        assert_eq!(result.unwrap().generation(), 1);
        assert!(matches!(
            requests.join_or_lead(&mut call(Requirement::ANY), &cache),
            Role::Cached(_)
        ));
    }

    #[test]
    fn failure_of_a_strict_requirement_does_not_fail_a_weaker_one() {
        let (requests, cache) = (Arc::new(InFlightRequests::new()), TokenCache::new());
        cache.insert(&token(1));
        let renewal = Requirement::other_than(&token(1));
        let leader = lead(requests.join_or_lead(&mut call(renewal), &cache));
        let mut weaker = call(Requirement::ANY);
        let request = follow(requests.join_or_lead(&mut weaker, &cache));
        let also = follow(requests.join_or_lead(&mut call(renewal), &cache));
        leader.run(|_| Err(Error::later("no other")), &cache);
        assert!(
            request.resolve(&weaker, &cache).is_none(),
            "it leads its own"
        );
        assert!(also.resolve(&call(renewal), &cache).unwrap().is_err());
    }

    #[test]
    fn rejected_token_that_is_returned_again_is_requested_again() {
        let (requests, cache) = (Arc::new(InFlightRequests::new()), TokenCache::new());
        let early = lead(requests.join_or_lead(&mut call(Requirement::ANY), &cache));
        let mut renewal = call(Requirement::other_than(&token(1)));
        let request = follow(requests.join_or_lead(&mut renewal, &cache));
        early.run(|_| Ok(token(1)), &cache);
        assert!(request.resolve(&renewal, &cache).is_none());
        let again = lead(requests.join_or_lead(&mut renewal, &cache));
        assert!(cache.get(&key()).is_none(), "evicted");
        again.run(|_| Ok(token(2)), &cache);
        assert_eq!(cache.get(&key()).unwrap().generation(), 2);
    }
}

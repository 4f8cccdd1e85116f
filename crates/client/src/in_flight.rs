//! Requests under way, so that each is made once for all threads that want its answer.
//!
//! Whoever finds no good token in memory boards: it joins the request for its set that is under
//! way, or leads one of its own. What comes of it is judged by each for itself, by its own need
//! and deadline.

use std::collections::BTreeMap;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::clock::{BootTime, boot_now};
use crate::error::Error;
use crate::token::{Set, Token};
use crate::token_cache::TokenCache;
use crate::transport::{GRACE, RetryPolicy};
use domo_token_protocol::messages::Renew;

/// How long the broker is asked for a better token while the one in memory can still be used.
const SPARE: Duration = Duration::from_secs(1);

/// What a caller asks of a token.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Requirement {
    /// The life it must have left.
    pub(crate) min_ttl: Option<Duration>,
    pub(crate) renew: Option<Renew>,
    /// With `renew`, when the refused token dies: one in memory that dies later is a newer one.
    pub(crate) refused_dies: Option<BootTime>,
}

impl Requirement {
    /// No conditions.
    pub(crate) const ANY: Self = Self {
        min_ttl: None,
        renew: None,
        refused_dies: None,
    };

    /// Another token than this one, which was refused.
    pub(crate) fn other_than(refused: &Token) -> Self {
        Self {
            renew: Some(Renew::Rejected(refused.generation())),
            refused_dies: Some(refused.expires()),
            ..Self::ANY
        }
    }

    /// Whether a token in memory will do, with the broker not asked.
    pub(crate) fn is_met_in_memory(&self, token: &Token, now: BootTime) -> bool {
        if let Some(renew) = self.renew {
            let newer = |dies| token.expires() > dies;
            if renew == Renew::Rejected(token.generation()) || !self.refused_dies.is_some_and(newer)
            {
                return false;
            }
        }
        match self.min_ttl {
            None => token.is_fresh(now),
            Some(least) => token.is_valid(now) && token.left(now) >= least,
        }
    }

    /// Whether what another caller asked for will do.
    fn is_met_by(&self, token: &Token, theirs: &Self) -> bool {
        let new_enough = match self.renew {
            None => true,
            Some(Renew::Rejected(generation)) => token.generation() != generation,
            Some(Renew::Current) => theirs.renew.is_some(),
        };
        let lives_enough = |least| token.left(boot_now()) >= least;
        new_enough && self.min_ttl.is_none_or(lives_enough)
    }

    /// Whether a token that can't be had for this need can't be had for the other either.
    fn is_within(&self, other: &Self) -> bool {
        self == other || (self.renew.is_none() && self.min_ttl <= other.min_ttl)
    }
}

/// One caller's call.
pub(crate) struct Call {
    pub(crate) set: Set,
    pub(crate) need: Requirement,
    pub(crate) deadline: BootTime,
    pub(crate) patience: RetryPolicy,
    /// Whether it has asked for any token at all already: one that demands more asks for that
    /// first, so that those who don't needn't wait with it.
    pub(crate) asked_any: bool,
}

impl Call {
    /// When it is over, answered or not.
    pub(crate) fn give_up(&self) -> BootTime {
        self.deadline + GRACE
    }
}

/// One request under way.
pub(crate) struct InFlight {
    pub(crate) set: Set,
    pub(crate) need: Requirement,
    pub(crate) deadline: BootTime,
    pub(crate) patience: RetryPolicy,
    landing: Mutex<Landing>,
    landed: Condvar,
    #[cfg(feature = "tokio")]
    told: tokio::sync::Notify,
}

#[derive(Default)]
struct Landing {
    outcome: Option<Result<Token, Error>>,
    /// How many threads wait for it: to wake none costs a system call.
    waiting: usize,
}

/// How a call goes on.
pub(crate) enum Step {
    /// It is over: a token in memory will do.
    Cached(Token),
    /// It waits for another's request.
    Join(Arc<InFlight>),
    /// It makes the request.
    Lead(Leader),
}

/// The requests of one process that are under way: one for each set.
pub(crate) struct InFlightRequests(Mutex<BTreeMap<Set, Arc<InFlight>>>);

impl InFlightRequests {
    pub(crate) fn new() -> Self {
        Self(Mutex::new(BTreeMap::new()))
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<Set, Arc<InFlight>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn join_or_lead(self: &Arc<Self>, call: &mut Call, held: &TokenCache) -> Step {
        let mut flights = self.lock();
        if let Some(Renew::Rejected(generation)) = call.need.renew {
            held.evict(&call.set, generation);
        }
        let now = boot_now();
        // Looked up under the lock: a request that has landed meanwhile left its token there.
        let token = held.of(&call.set);
        let under_way = flights.get(&call.set);
        if let Some(token) = &token {
            // Whoever would be content with it doesn't wait for a better one that is on its way.
            let content =
                under_way.is_some() && call.need == Requirement::ANY && token.is_valid(now);
            if content || call.need.is_met_in_memory(token, now) {
                return Step::Cached(token.clone());
            }
        }
        if let Some(flight) = under_way {
            return Step::Join(Arc::clone(flight));
        }
        let flight = Arc::new(InFlight::of(call, token.as_ref(), now));
        flights.insert(call.set.clone(), Arc::clone(&flight));
        Step::Lead(Leader {
            flights: Arc::clone(self),
            flight,
            outcome: None,
        })
    }
}

impl InFlight {
    fn of(call: &mut Call, held: Option<&Token>, now: BootTime) -> Self {
        let spare = held.filter(|token| token.is_valid(now + SPARE));
        let mut need = call.need;
        if need.renew.is_none() && spare.is_none() && !call.asked_any {
            need = Requirement::ANY;
        }
        call.asked_any = true;
        let mut flight = Self {
            set: call.set.clone(),
            need,
            deadline: call.deadline,
            patience: call.patience,
            landing: Mutex::new(Landing::default()),
            landed: Condvar::new(),
            #[cfg(feature = "tokio")]
            told: tokio::sync::Notify::new(),
        };
        if need == Requirement::ANY && spare.is_some() {
            flight.deadline = flight.deadline.min(now + SPARE);
            flight.patience = RetryPolicy::NONE;
        }
        flight
    }

    fn landing(&self) -> MutexGuard<'_, Landing> {
        self.landing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Blocks until it has landed, but no longer than until `give_up`.
    pub(crate) fn wait(&self, give_up: BootTime) {
        let mut landing = self.landing();
        landing.waiting += 1;
        while landing.outcome.is_none() {
            let left = give_up.saturating_since(boot_now());
            if left.is_zero() {
                break;
            }
            let waited = self.landed.wait_timeout(landing, left);
            landing = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        landing.waiting -= 1;
    }

    fn complete(&self, outcome: Result<Token, Error>) {
        let mut landing = self.landing();
        landing.outcome = Some(outcome);
        if landing.waiting > 0 {
            self.landed.notify_all();
        }
        drop(landing);
        #[cfg(feature = "tokio")]
        self.told.notify_waiters();
    }

    /// Waits until it has landed, but no longer than until `give_up`.
    #[cfg(feature = "tokio")]
    pub(crate) async fn landed(&self, give_up: BootTime) {
        let told = self.told.notified();
        let mut told = std::pin::pin!(told);
        // From here on nothing is missed.
        told.as_mut().enable();
        if self.landing().outcome.is_none() {
            let left = give_up.saturating_since(boot_now());
            let _in_time = tokio::time::timeout(left, told).await;
        }
    }

    /// What a call that led it or waited for it comes to; `None` if it has to board once more.
    pub(crate) fn resolve(&self, call: &Call, held: &TokenCache) -> Option<Result<Token, Error>> {
        let outcome = self.landing().outcome.clone();
        let error = match outcome {
            Some(Ok(token)) => {
                let will_do = self.need == call.need || call.need.is_met_by(&token, &self.need);
                return will_do.then_some(Ok(token));
            }
            Some(Err(error)) => error,
            None => Error::late(),
        };
        // An error takes no living token from anyone, but the broker's own word does.
        if call.need == Requirement::ANY && !error.is_verdict() {
            let living = held
                .of(&call.set)
                .filter(|token| token.is_valid(boot_now()));
            if let Some(token) = living {
                return Some(Ok(token));
            }
        }
        // A caller with more time or a lesser need than the one who asked may fare better.
        let no_more_time = call.deadline <= self.deadline + GRACE || boot_now() >= call.deadline;
        let hopeless = !error.is_temporary() || no_more_time;
        (self.need.is_within(&call.need) && hopeless || boot_now() >= call.give_up())
            .then_some(Err(error))
    }
}

/// Whoever makes the request. However it ends, by a panic too, those who wait hear of it.
pub(crate) struct Leader {
    flights: Arc<InFlightRequests>,
    flight: Arc<InFlight>,
    outcome: Option<Result<Token, Error>>,
}

impl Leader {
    pub(crate) fn flight(&self) -> Arc<InFlight> {
        Arc::clone(&self.flight)
    }

    /// Makes the request and holds the token that comes.
    pub(crate) fn run(
        mut self,
        ask: impl FnOnce(&InFlight) -> Result<Token, Error>,
        held: &TokenCache,
    ) {
        let outcome = ask(&self.flight);
        if let Ok(token) = &outcome {
            // Before it has landed, so that whoever comes next finds it.
            held.hold(token);
        }
        self.outcome = Some(outcome);
    }
}

impl Drop for Leader {
    fn drop(&mut self) {
        let outcome = self.outcome.take().unwrap_or_else(|| {
            Err(Error::later(
                "the call that asked the broker was broken off",
            ))
        });
        self.flights.lock().remove(&self.flight.set);
        self.flight.complete(outcome);
    }
}

#[cfg(test)]
mod tests {
    use std::panic::{AssertUnwindSafe, catch_unwind};
    use std::path::Path;

    use super::*;
    use domo_token_protocol::messages::{TokenAnswer, TokenText};
    use domo_token_protocol::scope::ScopeSet;

    fn set() -> Set {
        Set {
            client: None,
            scope: ScopeSet::parse("data").unwrap(),
        }
    }

    fn call(need: Requirement) -> Call {
        Call {
            set: set(),
            need,
            deadline: boot_now() + Duration::from_secs(10),
            patience: RetryPolicy::NONE,
            asked_any: false,
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
        Token::new(answer, &set(), None, &broker).unwrap()
    }

    fn lead(step: Step) -> Leader {
        match step {
            Step::Lead(pilot) => pilot,
            Step::Join(_) | Step::Cached(_) => panic!("it should ask"),
        }
    }

    fn join(step: Step) -> Arc<InFlight> {
        match step {
            Step::Join(flight) => flight,
            Step::Lead(_) | Step::Cached(_) => panic!("it should wait"),
        }
    }

    #[test]
    fn who_waits_for_a_request_that_panics_hears_of_it_and_the_next_one_asks() {
        let (flights, held) = (Arc::new(InFlightRequests::new()), TokenCache::new());
        let pilot = lead(flights.join_or_lead(&mut call(Requirement::ANY), &held));
        let mut waiting = call(Requirement::ANY);
        let flight = join(flights.join_or_lead(&mut waiting, &held));
        let bug = AssertUnwindSafe(|| pilot.run(|_| panic!("a bug"), &held));
        assert!(catch_unwind(bug).is_err());
        flight.wait(waiting.give_up());
        let told = flight.resolve(&waiting, &held).unwrap();
        assert!(matches!(told, Err(Error::TryLater { .. })), "{told:?}");
        lead(flights.join_or_lead(&mut waiting, &held)).run(|_| Ok(token(1)), &held);
        assert!(matches!(
            flights.join_or_lead(&mut waiting, &held),
            Step::Cached(_)
        ));
    }

    #[test]
    fn a_poisoned_lock_stops_nobody() {
        let (flights, held) = (Arc::new(InFlightRequests::new()), TokenCache::new());
        let pilot = lead(flights.join_or_lead(&mut call(Requirement::ANY), &held));
        let flight = pilot.flight();
        let bug = AssertUnwindSafe(|| {
            let _locks = (flights.lock(), flight.landing());
            panic!("a bug");
        });
        assert!(catch_unwind(bug).is_err());
        pilot.run(|_| Ok(token(1)), &held);
        let told = flight.resolve(&call(Requirement::ANY), &held).unwrap();
        assert_eq!(told.unwrap().generation(), 1);
        assert!(matches!(
            flights.join_or_lead(&mut call(Requirement::ANY), &held),
            Step::Cached(_)
        ));
    }

    #[test]
    fn what_failed_for_a_greater_need_says_nothing_of_a_lesser_one() {
        let (flights, held) = (Arc::new(InFlightRequests::new()), TokenCache::new());
        held.hold(&token(1));
        let renewal = Requirement::other_than(&token(1));
        let pilot = lead(flights.join_or_lead(&mut call(renewal), &held));
        let mut lesser = call(Requirement::ANY);
        let flight = join(flights.join_or_lead(&mut lesser, &held));
        let also = join(flights.join_or_lead(&mut call(renewal), &held));
        pilot.run(|_| Err(Error::later("no other")), &held);
        assert!(
            flight.resolve(&lesser, &held).is_none(),
            "it asks for itself"
        );
        assert!(also.resolve(&call(renewal), &held).unwrap().is_err());
    }

    #[test]
    fn a_refused_token_that_comes_once_more_is_asked_for_anew() {
        let (flights, held) = (Arc::new(InFlightRequests::new()), TokenCache::new());
        let early = lead(flights.join_or_lead(&mut call(Requirement::ANY), &held));
        let mut renewal = call(Requirement::other_than(&token(1)));
        let flight = join(flights.join_or_lead(&mut renewal, &held));
        early.run(|_| Ok(token(1)), &held);
        assert!(flight.resolve(&renewal, &held).is_none());
        let again = lead(flights.join_or_lead(&mut renewal, &held));
        assert!(held.of(&set()).is_none(), "held no longer");
        again.run(|_| Ok(token(2)), &held);
        assert_eq!(held.of(&set()).unwrap().generation(), 2);
    }
}

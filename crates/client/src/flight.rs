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
use crate::exchange::{GRACE, Patience};
use crate::held::Held;
use crate::token::{Set, Token};
use domo_token_protocol::messages::Renew;

/// How long the broker is asked for a better token while the one in memory can still be used.
const SPARE: Duration = Duration::from_secs(1);

/// What a caller asks of a token.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Need {
    /// The life it must have left.
    pub(crate) min_ttl: Option<Duration>,
    pub(crate) renew: Option<Renew>,
    /// With `renew`, when the refused token dies: one in memory that dies later is a newer one.
    pub(crate) refused_dies: Option<BootTime>,
}

impl Need {
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
            None => token.does(now),
            Some(least) => token.lives(now) && token.left(now) >= least,
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
    pub(crate) need: Need,
    pub(crate) deadline: BootTime,
    pub(crate) patience: Patience,
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
pub(crate) struct Flight {
    pub(crate) set: Set,
    pub(crate) need: Need,
    pub(crate) deadline: BootTime,
    pub(crate) patience: Patience,
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
    Held(Token),
    /// It waits for another's request.
    Join(Arc<Flight>),
    /// It makes the request.
    Lead(Pilot),
}

/// The requests of one process that are under way: one for each set.
pub(crate) struct Flights(Mutex<BTreeMap<Set, Arc<Flight>>>);

impl Flights {
    pub(crate) fn new() -> Self {
        Self(Mutex::new(BTreeMap::new()))
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<Set, Arc<Flight>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn board(self: &Arc<Self>, call: &mut Call, held: &Held) -> Step {
        let mut flights = self.lock();
        if let Some(Renew::Rejected(generation)) = call.need.renew {
            held.drop_refused(&call.set, generation);
        }
        let now = boot_now();
        // Looked up under the lock: a request that has landed meanwhile left its token there.
        let token = held.of(&call.set);
        let under_way = flights.get(&call.set);
        if let Some(token) = &token {
            // Whoever would be content with it doesn't wait for a better one that is on its way.
            let content = under_way.is_some() && call.need == Need::ANY && token.lives(now);
            if content || call.need.is_met_in_memory(token, now) {
                return Step::Held(token.clone());
            }
        }
        if let Some(flight) = under_way {
            return Step::Join(Arc::clone(flight));
        }
        let flight = Arc::new(Flight::of(call, token.as_ref(), now));
        flights.insert(call.set.clone(), Arc::clone(&flight));
        Step::Lead(Pilot {
            flights: Arc::clone(self),
            flight,
            outcome: None,
        })
    }
}

impl Flight {
    fn of(call: &mut Call, held: Option<&Token>, now: BootTime) -> Self {
        let spare = held.filter(|token| token.lives(now + SPARE));
        let mut need = call.need;
        if need.renew.is_none() && spare.is_none() && !call.asked_any {
            need = Need::ANY;
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
        if need == Need::ANY && spare.is_some() {
            flight.deadline = flight.deadline.min(now + SPARE);
            flight.patience = Patience::NONE;
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

    fn land(&self, outcome: Result<Token, Error>) {
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
    pub(crate) fn settle(&self, call: &Call, held: &Held) -> Option<Result<Token, Error>> {
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
        if call.need == Need::ANY && !error.is_verdict() {
            let living = held.of(&call.set).filter(|token| token.lives(boot_now()));
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
pub(crate) struct Pilot {
    flights: Arc<Flights>,
    flight: Arc<Flight>,
    outcome: Option<Result<Token, Error>>,
}

impl Pilot {
    pub(crate) fn flight(&self) -> Arc<Flight> {
        Arc::clone(&self.flight)
    }

    /// Makes the request and holds the token that comes.
    pub(crate) fn fly(mut self, ask: impl FnOnce(&Flight) -> Result<Token, Error>, held: &Held) {
        let outcome = ask(&self.flight);
        if let Ok(token) = &outcome {
            // Before it has landed, so that whoever comes next finds it.
            held.hold(token);
        }
        self.outcome = Some(outcome);
    }
}

impl Drop for Pilot {
    fn drop(&mut self) {
        let outcome = self.outcome.take().unwrap_or_else(|| {
            Err(Error::later(
                "the call that asked the broker was broken off",
            ))
        });
        self.flights.lock().remove(&self.flight.set);
        self.flight.land(outcome);
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

    fn call(need: Need) -> Call {
        Call {
            set: set(),
            need,
            deadline: boot_now() + Duration::from_secs(10),
            patience: Patience::NONE,
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

    fn lead(step: Step) -> Pilot {
        match step {
            Step::Lead(pilot) => pilot,
            Step::Join(_) | Step::Held(_) => panic!("it should ask"),
        }
    }

    fn join(step: Step) -> Arc<Flight> {
        match step {
            Step::Join(flight) => flight,
            Step::Lead(_) | Step::Held(_) => panic!("it should wait"),
        }
    }

    #[test]
    fn who_waits_for_a_request_that_panics_hears_of_it_and_the_next_one_asks() {
        let (flights, held) = (Arc::new(Flights::new()), Held::new());
        let pilot = lead(flights.board(&mut call(Need::ANY), &held));
        let mut waiting = call(Need::ANY);
        let flight = join(flights.board(&mut waiting, &held));
        let bug = AssertUnwindSafe(|| pilot.fly(|_| panic!("a bug"), &held));
        assert!(catch_unwind(bug).is_err());
        flight.wait(waiting.give_up());
        let told = flight.settle(&waiting, &held).unwrap();
        assert!(matches!(told, Err(Error::TryLater { .. })), "{told:?}");
        lead(flights.board(&mut waiting, &held)).fly(|_| Ok(token(1)), &held);
        assert!(matches!(flights.board(&mut waiting, &held), Step::Held(_)));
    }

    #[test]
    fn a_poisoned_lock_stops_nobody() {
        let (flights, held) = (Arc::new(Flights::new()), Held::new());
        let pilot = lead(flights.board(&mut call(Need::ANY), &held));
        let flight = pilot.flight();
        let bug = AssertUnwindSafe(|| {
            let _locks = (flights.lock(), flight.landing());
            panic!("a bug");
        });
        assert!(catch_unwind(bug).is_err());
        pilot.fly(|_| Ok(token(1)), &held);
        let told = flight.settle(&call(Need::ANY), &held).unwrap();
        assert_eq!(told.unwrap().generation(), 1);
        assert!(matches!(
            flights.board(&mut call(Need::ANY), &held),
            Step::Held(_)
        ));
    }

    #[test]
    fn what_failed_for_a_greater_need_says_nothing_of_a_lesser_one() {
        let (flights, held) = (Arc::new(Flights::new()), Held::new());
        held.hold(&token(1));
        let renewal = Need::other_than(&token(1));
        let pilot = lead(flights.board(&mut call(renewal), &held));
        let mut lesser = call(Need::ANY);
        let flight = join(flights.board(&mut lesser, &held));
        let also = join(flights.board(&mut call(renewal), &held));
        pilot.fly(|_| Err(Error::later("no other")), &held);
        assert!(
            flight.settle(&lesser, &held).is_none(),
            "it asks for itself"
        );
        assert!(also.settle(&call(renewal), &held).unwrap().is_err());
    }

    #[test]
    fn a_refused_token_that_comes_once_more_is_asked_for_anew() {
        let (flights, held) = (Arc::new(Flights::new()), Held::new());
        let early = lead(flights.board(&mut call(Need::ANY), &held));
        let mut renewal = call(Need::other_than(&token(1)));
        let flight = join(flights.board(&mut renewal, &held));
        early.fly(|_| Ok(token(1)), &held);
        assert!(flight.settle(&renewal, &held).is_none());
        let again = lead(flights.board(&mut renewal, &held));
        assert!(
            !held.of(&set()).unwrap().lives(boot_now()),
            "held no longer"
        );
        again.fly(|_| Ok(token(2)), &held);
        assert_eq!(held.of(&set()).unwrap().generation(), 2);
    }
}

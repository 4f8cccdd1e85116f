//! One fetch, step by step.

mod leases;
mod results;
mod store_failures;
mod stored_records;

use super::*;
use crate::fetch_result::Cause;
use crate::token::Validity;

const ENGINE: u64 = 1_700_000_000_000;
const START: BootTime = BootTime::from_millis(50_000_000);
const HOUR: Duration = Duration::from_secs(3_600);
const SECOND: Duration = Duration::from_secs(1);
const HOST: HostId = HostId([1; 16]);
const OTHER: HostId = HostId([2; 16]);

fn scope() -> ScopeSet {
    ScopeSet::parse("data").unwrap()
}

fn occasion(held: Option<Token>) -> Occasion {
    Occasion {
        scope: scope(),
        held,
        is_urgent: false,
        min_left: Duration::ZERO,
        ignores_notes: false,
        confirms_rejection: false,
        failures: 0,
        draw: 1.0,
        timeout: Duration::from_secs(20),
    }
}

/// Returns a token of this lifetime that is valid for `left`.
fn held(text: &str, lifetime: Duration, left: Duration) -> Token {
    let validity = Validity {
        generation: 1,
        obtained: START,
        lifetime,
        expires: START + left,
    };
    Token::new("acme", &scope(), &text.into(), validity).unwrap()
}

fn time_at(now: BootTime) -> StoreTime {
    let time_ms = ENGINE + clocks::millis(now.saturating_since(START));
    StoreTime {
        asked: now,
        answered: now,
        time_ms,
        wall_ms: time_ms,
    }
}

/// Returns the record of a token that expires `left` after [`START`].
fn record(text: &str, left: Duration) -> TokenRecord {
    TokenRecord {
        text: TokenText::new(text.to_owned()),
        granted: "data".to_owned(),
        lifetime_ms: 3_600_000,
        expires_engine_ms: ENGINE + clocks::millis(left),
        expires_wall_ms: ENGINE + clocks::millis(left),
    }
}

fn note(failure: NotedFailure, seconds: u64, host: HostId) -> NoteRecord {
    NoteRecord {
        until_engine_ms: ENGINE + seconds * 1_000,
        until_wall_ms: ENGINE + seconds * 1_000,
        wait_ms: seconds * 1_000,
        count: 4,
        host,
        is_confirmed: false,
        failure,
        message: "status 503".to_owned(),
    }
}

/// One fetch, and its random numbers.
struct Run {
    fetch: FleetFetch,
    rng: fastrand::Rng,
}

impl Run {
    fn start(occasion: Occasion) -> (Self, Step) {
        Self::start_with(occasion, SetMemory::default(), true)
    }

    fn start_with(occasion: Occasion, memory: SetMemory, may_look: bool) -> (Self, Step) {
        let mut rng = fastrand::Rng::with_seed(7);
        let (fetch, step) = FleetFetch::start(HOST, occasion, memory, may_look, START, &mut rng);
        (Self { fetch, rng }, step)
    }

    fn looked(
        &mut self,
        token: Option<TokenRecord>,
        note: Option<NoteRecord>,
        now: BootTime,
    ) -> Step {
        let time = time_at(now);
        let looked = Looked { time, token, note };
        self.fetch.looked(Ok(looked), now, &mut self.rng)
    }

    fn store_failed(&mut self, now: BootTime) -> Step {
        self.fetch.looked(Err(StoreFailed), now, &mut self.rng)
    }

    fn held_by_another(&mut self, now: BootTime) -> Step {
        self.fetch.claimed(Ok(false), now, &mut self.rng)
    }

    fn responded(&mut self, result: Result<Fetched, FetchError>, sent: BootTime) -> Step {
        self.fetch
            .responded(result, sent, sent + SECOND, &mut self.rng)
    }
}

fn obtained(lifetime: Duration) -> Fetched {
    Fetched {
        text: "n3w".into(),
        lifetime,
        expires: None,
        renew_at: None,
        origin: TokenOrigin::Domo,
        lifetime_source: LifetimeSource::Stated,
        granted: scope(),
    }
}

fn end(step: Step) -> End {
    let Step::End(end) = step else {
        panic!("not the end: {step:?}");
    };
    *end
}

fn taken(step: Step) -> Fetched {
    let fetch = end(step).fetch;
    let Fetch::Obtained(fetched) = fetch else {
        panic!("not taken: {fetch:?}");
    };
    fetched
}

fn postponed(step: Step) -> BootTime {
    let fetch = end(step).fetch;
    let Fetch::Postponed(at) = fetch else {
        panic!("not postponed: {fetch:?}");
    };
    at
}

impl Step {
    /// Ends the use of a step that is not examined.
    fn clear(self) {
        assert!(
            matches!(self, Self::Request { is_extended: true }),
            "{self:?}"
        );
    }
}

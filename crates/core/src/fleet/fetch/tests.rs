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

#[test]
fn cold_host_takes_the_stored_token_and_renews_with_the_others() {
    let (mut run, step) = Run::start(occasion(None));
    assert!(matches!(step, Step::Look));
    let fetched = taken(run.looked(Some(record("n3w", HOUR)), None, START));
    assert_eq!(fetched.text.expose_secret(), "n3w");
    assert_eq!(fetched.origin, TokenOrigin::Fleet);
    assert_eq!(fetched.expires, Some(START + HOUR - SECOND * 10));
    let renew_at = fetched.renew_at.unwrap().saturating_since(START);
    let bounds = HOUR.mul_f64(0.70)..=HOUR.mul_f64(0.80);
    assert!(bounds.contains(&renew_at), "{renew_at:?}");
}

#[test]
fn token_is_taken_only_if_it_outlives_the_held_one_by_a_second_and_is_another() {
    let old = || occasion(Some(held("old", HOUR, SECOND * 800)));
    for (text, left, is_taken) in [
        ("n3w", 3_600, true),
        ("n3w", 812, true),
        ("n3w", 811, false),
        ("n3w", 700, false),
        ("old", 3_600, false),
    ] {
        let (mut run, _) = Run::start(old());
        let step = run.looked(Some(record(text, SECOND * left)), None, START);
        assert_eq!(matches!(step, Step::End(_)), is_taken, "{text} {left}");
        assert_eq!(matches!(step, Step::Claim(_)), !is_taken, "{text} {left}");
    }
}

#[test]
fn extreme_times_serve_no_token_for_longer_than_its_lifetime() {
    let times = [0, 1, 999, 20_000, ENGINE, u64::MAX - 1, u64::MAX];
    for lifetime_ms in [0, 1, 20_000, 3_600_000, 86_400_001] {
        for (expires_engine_ms, expires_wall_ms) in
            times.into_iter().flat_map(|a| times.map(|b| (a, b)))
        {
            for (time_ms, wall_ms) in times.into_iter().flat_map(|a| times.map(|b| (a, b))) {
                let record = TokenRecord {
                    lifetime_ms,
                    expires_engine_ms,
                    expires_wall_ms,
                    ..record("n3w", HOUR)
                };
                let time = StoreTime {
                    time_ms,
                    wall_ms,
                    ..time_at(START)
                };
                let looked = Looked {
                    time,
                    token: Some(record),
                    note: Some(NoteRecord {
                        until_engine_ms: expires_engine_ms,
                        until_wall_ms: expires_wall_ms,
                        wait_ms: u64::MAX,
                        count: u32::MAX,
                        ..note(NotedFailure::Transient(Cause::Server), 1, OTHER)
                    }),
                };
                let (mut run, _) = Run::start(occasion(None));
                let Step::End(end) = run.fetch.looked(Ok(looked), START, &mut run.rng) else {
                    continue;
                };
                let lifetime = Duration::from_millis(lifetime_ms);
                match end.fetch {
                    Fetch::Obtained(fetched) => {
                        let expires = fetched.expires.unwrap();
                        assert!(expires < START + lifetime, "{expires}");
                    }
                    Fetch::Failed { agreed, .. } => {
                        let latest = START + HOUR + SECOND * 3;
                        assert!(agreed.unwrap().at <= latest, "{agreed:?}");
                    }
                    Fetch::Postponed(at) => panic!("{at}"),
                }
            }
        }
    }
}

#[test]
fn token_that_is_too_short_for_the_callers_is_not_taken() {
    let needs = |seconds| Occasion {
        min_left: SECOND * seconds,
        ..occasion(None)
    };
    for (seconds, is_taken) in [(100, true), (589, true), (590, false)] {
        let (mut run, _) = Run::start(needs(seconds));
        let step = run.looked(Some(record("n3w", SECOND * 600)), None, START);
        assert_eq!(matches!(step, Step::End(_)), is_taken, "{seconds}");
    }
}

#[test]
fn note_of_domos_failure_is_adopted_with_its_count_and_end() {
    let failure = NotedFailure::Transient(Cause::Server);
    let (mut run, _) = Run::start(occasion(None));
    let end = end(run.looked(None, Some(note(failure, 30, OTHER)), START));
    let Fetch::Failed { error, agreed } = end.fetch else {
        panic!("not adopted");
    };
    let expected =
        FetchError::transient(Cause::Server, "another host's request failed: status 503");
    assert_eq!(error, expected);
    let agreed = agreed.unwrap();
    assert_eq!(agreed.failures, 4);
    let after = agreed.at.saturating_since(START + SECOND * 30);
    assert!(
        agreed.at >= START + SECOND * 30 && after <= SECOND * 3,
        "{after:?}"
    );
    assert!(end.publication.is_none());
}

#[test]
fn note_is_ignored_after_a_reload_and_if_one_host_may_have_caused_it() {
    let failure = NotedFailure::Transient(Cause::Server);
    let reloaded = Occasion {
        ignores_notes: true,
        ..occasion(None)
    };
    let (mut run, _) = Run::start(reloaded);
    let step = run.looked(None, Some(note(failure, 30, OTHER)), START);
    assert!(matches!(step, Step::Claim(_)));
    let unreachable = NotedFailure::Transient(Cause::Connect);
    let (mut run, _) = Run::start(occasion(None));
    let step = run.looked(None, Some(note(unreachable, 30, OTHER)), START);
    assert!(matches!(step, Step::Claim(_)));
}

#[test]
fn replayed_note_binds_once() {
    let failure = NotedFailure::Transient(Cause::Server);
    let replayed = note(failure, 30, OTHER);
    let (mut run, _) = Run::start(occasion(None));
    let memory = end(run.looked(None, Some(replayed.clone()), START)).memory;
    let (mut run, _) = Run::start_with(occasion(None), memory, true);
    assert!(matches!(
        run.looked(None, Some(replayed), START),
        Step::Claim(_)
    ));
    let newer = note(failure, 31, OTHER);
    assert!(matches!(run.looked(None, Some(newer), START), Step::End(_)));
}

#[test]
fn host_with_a_token_leaves_the_renewal_to_the_holder_of_the_lease() {
    let (mut run, _) = Run::start(occasion(Some(held("old", HOUR, SECOND * 900))));
    run.looked(None, None, START);
    let at = postponed(run.held_by_another(START)).saturating_since(START);
    assert!((SECOND * 5..=SECOND * 15).contains(&at), "{at:?}");
}

#[test]
fn host_that_needs_a_token_looks_again_until_its_patience_ends() {
    let urgent = Occasion {
        is_urgent: true,
        ..occasion(Some(held("old", HOUR, SECOND * 900)))
    };
    for occasion in [occasion(None), urgent] {
        let (mut run, _) = Run::start(occasion);
        let mut now = START;
        let waited = loop {
            assert!(matches!(run.looked(None, None, now), Step::Claim(_)));
            match run.held_by_another(now) {
                Step::Wait(until) => {
                    let pause = until.saturating_since(now).as_millis();
                    assert!((300..=700).contains(&pause), "{pause}");
                    now = until;
                    assert!(matches!(run.fetch.waited(), Step::Look));
                }
                Step::Request { is_extended } => {
                    assert!(!is_extended);
                    break now.saturating_since(START);
                }
                step => panic!("{step:?}"),
            }
        };
        assert!(waited >= SECOND * 25 && waited < SECOND * 39, "{waited:?}");
    }
}

#[test]
fn scope_set_hurries_once_after_another_has_waited_in_vain() {
    let requests_alone = |memory| {
        let (mut run, _) = Run::start_with(occasion(None), memory, true);
        run.fetch.hurry(START);
        run.looked(None, None, START);
        let step = run.held_by_another(START);
        (run, matches!(step, Step::Request { is_extended: false }))
    };
    let (mut run, is_alone) = requests_alone(SetMemory::default());
    assert!(is_alone);
    let failed = FetchError::transient(Cause::Timeout, "no response");
    let failed = end(run.responded(Err(failed), START));
    assert!(!failed.has_waited_in_vain, "it did not wait");
    assert!(!requests_alone(failed.memory).1, "once");
    let obtained = end(run.responded(Ok(obtained(HOUR)), START));
    assert!(requests_alone(obtained.memory).1);
}

#[test]
fn renewal_is_requested_alone_once_little_of_the_lifetime_is_left() {
    // Less than a twentieth is left.
    let (mut run, _) = Run::start(occasion(Some(held("old", HOUR, SECOND * 179))));
    run.looked(None, None, START);
    assert!(matches!(run.held_by_another(START), Step::Wait(_)));
}

#[test]
fn short_lived_token_is_renewed_while_there_is_time_for_two_requests() {
    let minute = SECOND * 60;
    let short = Occasion {
        timeout: SECOND * 6,
        ..occasion(Some(held("old", minute, SECOND * 15)))
    };
    let (mut run, _) = Run::start(short);
    run.looked(None, None, START);
    assert!(matches!(run.held_by_another(START), Step::Wait(_)));
    run.fetch.waited();
    let now = START + SECOND * 3;
    run.looked(None, None, now);
    assert!(matches!(
        run.held_by_another(now),
        Step::Request { is_extended: false }
    ));
}

#[test]
fn renewal_is_left_to_others_only_while_there_is_time_for_two_requests() {
    // By the store's clock the taken token is valid for 12 minutes more than it is served.
    let skewed = TokenRecord {
        expires_wall_ms: ENGINE + 1_800_000,
        ..record("n3w", SECOND * 2_700)
    };
    let (mut run, _) = Run::start(occasion(None));
    let end = end(run.looked(Some(skewed), None, START));
    let Fetch::Obtained(fetched) = end.fetch else {
        panic!("{:?}", end.fetch);
    };
    let expires = fetched.expires.unwrap();
    let token = held("n3w", HOUR, expires.saturating_since(START));
    // A wait for the holder of the lease, and two requests.
    let needed = timing::longest_patience() + SECOND * 40;
    for seed in 0..20 {
        let mut rng = fastrand::Rng::with_seed(seed);
        let mut now = START;
        let waits_from = loop {
            let occasion = occasion(Some(token.clone()));
            let (mut fetch, _) = FleetFetch::start(HOST, occasion, end.memory, true, now, &mut rng);
            let step = fetch.claimed(Ok(false), now, &mut rng);
            if matches!(step, Step::Wait(_)) {
                break now;
            }
            now = postponed(step);
        };
        assert!(waits_from + needed <= expires, "{waits_from} {expires}");
    }
}

#[test]
fn token_that_lives_less_than_twenty_seconds_is_not_shared() {
    let short = SECOND * 19;
    let (mut run, step) = Run::start(occasion(Some(held("old", short, SECOND * 5))));
    assert!(matches!(step, Step::Request { is_extended: false }));
    let end = end(run.responded(Ok(obtained(short)), START));
    assert!(end.publication.is_none());
    // A host without a token remembers that.
    let (_, step) = Run::start_with(occasion(None), end.memory, true);
    assert!(matches!(step, Step::Request { is_extended: false }));
}

#[test]
fn failure_of_the_store_postpones_a_renewal_once_and_leaves_time_for_two_requests() {
    let left = SECOND * 900;
    let (mut run, _) = Run::start(occasion(Some(held("old", HOUR, left))));
    let first = end(run.store_failed(START));
    let Fetch::Postponed(at) = first.fetch else {
        panic!("not postponed");
    };
    assert!(at <= START + left - SECOND * 180, "{at}");
    for may_look in [true, false] {
        let again = occasion(Some(held("old", HOUR, SECOND * 900)));
        let (mut run, step) = Run::start_with(again, first.memory, may_look);
        let step = if may_look { run.store_failed(at) } else { step };
        assert!(matches!(step, Step::Request { is_extended: false }));
    }
}

#[test]
fn failure_of_the_store_delays_a_host_without_a_token_by_at_most_three_seconds() {
    let (mut run, step) = Run::start_with(occasion(None), SetMemory::default(), false);
    let Step::WaitAlone(until) = step else {
        panic!("{step:?}");
    };
    assert!(until <= START + SECOND * 3);
    assert!(matches!(
        run.fetch.waited(),
        Step::Request { is_extended: false }
    ));
}

#[test]
fn failure_of_the_store_delays_nothing_if_callers_wait_after_a_reload_or_with_a_short_lived_token()
{
    let urgent = Occasion {
        is_urgent: true,
        ..occasion(Some(held("old", HOUR, SECOND * 900)))
    };
    let reloaded = Occasion {
        ignores_notes: true,
        ..occasion(Some(held("old", HOUR, SECOND * 900)))
    };
    let short = occasion(Some(held("old", SECOND * 299, SECOND * 100)));
    for occasion in [urgent, reloaded, short] {
        let (mut run, _) = Run::start(occasion);
        let step = run.store_failed(START);
        assert!(
            matches!(step, Step::Request { is_extended: false }),
            "{step:?}"
        );
    }
}

#[test]
fn success_is_published_unless_a_stored_token_outlives_it() {
    let (mut run, _) = Run::start(occasion(None));
    run.looked(None, None, START);
    let step = run.fetch.claimed(Ok(true), START, &mut run.rng);
    assert!(matches!(step, Step::Request { is_extended: true }));
    let sent = START + SECOND * 30;
    let end = end(run.responded(Ok(obtained(HOUR)), sent));
    let Fetch::Obtained(fetched) = &end.fetch else {
        panic!("{:?}", end.fetch);
    };
    assert_eq!(fetched.expires, Some(sent + HOUR));
    let Some(Publication::Token(token)) = end.publication else {
        panic!("nothing published");
    };
    let time = time_at(sent + SECOND);
    let (published, kept) = token.record(None, &time).unwrap();
    assert_eq!(published.expires_engine_ms, ENGINE + 3_630_000);
    assert_eq!(published.expires_wall_ms, ENGINE + 3_630_000);
    assert_eq!(kept, SECOND * 3_599);
    let older = record("older", SECOND * 3_600);
    assert!(token.record(Some(&older), &time).is_some());
    let newer = record("newer", SECOND * 3_631);
    assert!(token.record(Some(&newer), &time).is_none());
    // The store's clock was set back by a day, so that this one seems to be valid for longer than it ever was.
    let before = record("before", SECOND * 86_400 + HOUR);
    assert!(token.record(Some(&before), &time).is_some());
}

#[test]
fn failure_continues_the_count_of_the_note_and_todays_backoff() {
    let failure = NotedFailure::Transient(Cause::Server);
    let (mut run, _) = Run::start(occasion(None));
    run.looked(None, Some(note(failure, 0, OTHER)), START);
    run.fetch.claimed(Ok(true), START, &mut run.rng).clear();
    let error = FetchError::transient(Cause::Server, "status 503");
    let end = end(run.responded(Err(error), START));
    let Fetch::Failed { agreed, .. } = end.fetch else {
        panic!("not failed");
    };
    let agreed = agreed.unwrap();
    // The fifth failure, with the longest draw.
    assert_eq!(agreed.failures, 5);
    assert_eq!(agreed.at, START + SECOND + SECOND * 16);
    assert!(matches!(end.publication, Some(Publication::Note(_))));
}

#[test]
fn host_whose_request_failed_for_its_own_reason_claims_a_short_lease_until_a_success() {
    let claims = |memory: SetMemory, cause: Cause| {
        let (mut run, _) = Run::start_with(occasion(None), memory, true);
        let Step::Claim(lease) = run.looked(None, None, START) else {
            panic!("no claim");
        };
        let step = run.fetch.claimed(Ok(true), START, &mut run.rng);
        let Step::Request { is_extended } = step else {
            panic!("no request");
        };
        let failed = FetchError::transient(cause, "it failed");
        let memory = end(run.responded(Err(failed), START)).memory;
        ((lease.as_secs(), is_extended), memory)
    };
    let (first, memory) = claims(SetMemory::default(), Cause::Connect);
    let (second, memory) = claims(memory, Cause::Timeout);
    // Domo itself fails: the host has a way to it.
    let (third, memory) = claims(memory, Cause::Server);
    let (fourth, memory) = claims(memory, Cause::Connect);
    let seen = [first, second, third, fourth];
    assert_eq!(seen, [(5, true), (1, false), (1, false), (5, true)]);
    let (mut run, _) = Run::start_with(occasion(None), memory, true);
    let memory = end(run.looked(Some(record("n3w", HOUR)), None, START)).memory;
    let (after_success, _) = claims(memory, Cause::Connect);
    assert_eq!(after_success, (5, true));
}

/// Fails under the lease for that cause, and looks again at `now`, when the lease has not lapsed. Returns the next step.
fn step_with_own_lease(cause: Cause, now: BootTime) -> (Run, Step) {
    let (mut run, _) = Run::start(occasion(None));
    run.looked(None, None, START);
    run.fetch.claimed(Ok(true), START, &mut run.rng).clear();
    let failed = FetchError::transient(cause, "it failed");
    let memory = end(run.responded(Err(failed), START)).memory;
    let (mut run, _) = Run::start_with(occasion(None), memory, true);
    run.looked(None, None, now);
    let step = run.held_by_another(now);
    (run, step)
}

#[test]
fn host_does_not_wait_for_the_lease_that_it_holds_since_its_last_attempt() {
    let (mut run, step) = step_with_own_lease(Cause::Server, START + SECOND * 3);
    assert!(matches!(step, Step::Extend), "{step:?}");
    let step = run.fetch.extended(Ok(()), START, &mut run.rng);
    step.clear();
    // It has lapsed, and another host has claimed it.
    let (_, step) = step_with_own_lease(Cause::Server, START + SECOND * 6);
    assert!(matches!(step, Step::Wait(_)), "{step:?}");
}

#[test]
fn host_that_may_have_no_way_to_domo_leaves_the_next_attempt_to_others() {
    let (_, step) = step_with_own_lease(Cause::Connect, START + SECOND * 3);
    assert!(matches!(step, Step::Wait(_)), "{step:?}");
}

#[test]
fn store_that_fails_to_extend_the_own_lease_is_not_used() {
    let (mut run, _) = step_with_own_lease(Cause::Server, START + SECOND * 3);
    let step = run.fetch.extended(Err(StoreFailed), START, &mut run.rng);
    assert!(matches!(step, Step::WaitAlone(_)), "{step:?}");
}

#[test]
fn unconfirmed_rejection_stays_with_the_host() {
    for (confirms, is_shared) in [(false, false), (true, true)] {
        let rejected = Occasion {
            confirms_rejection: confirms,
            ..occasion(None)
        };
        let (mut run, _) = Run::start(rejected);
        run.looked(None, None, START);
        run.fetch.claimed(Ok(true), START, &mut run.rng).clear();
        let error = NotedFailure::Rejected { scope_only: false }.error("no".to_owned());
        let end = end(run.responded(Err(error), START));
        assert_eq!(end.publication.is_some(), is_shared);
        let Fetch::Failed { agreed, .. } = end.fetch else {
            panic!("not failed");
        };
        assert_eq!(agreed.is_some(), is_shared);
    }
}

#[test]
fn token_that_is_too_short_by_this_hosts_clocks_delays_only_every_other_fetch() {
    // The clocks disagree, so that a fifth of the lifetime is not used.
    let skewed = TokenRecord {
        expires_wall_ms: ENGINE + 3_600_000,
        ..record("n3w", SECOND * 700)
    };
    let (mut run, _) = Run::start(occasion(None));
    assert!(matches!(
        run.looked(Some(skewed.clone()), None, START),
        Step::Claim(_)
    ));
    assert!(matches!(run.held_by_another(START), Step::Wait(_)));
    run.fetch.waited();
    run.looked(Some(skewed.clone()), None, START);
    run.fetch.claimed(Ok(true), START, &mut run.rng).clear();
    let waited = end(run.responded(Ok(obtained(HOUR)), START)).memory;
    let (mut run, _) = Run::start_with(occasion(None), waited, true);
    // The own lease has lapsed.
    let later = START + SECOND * 10;
    run.looked(Some(skewed), None, later);
    assert!(matches!(
        run.held_by_another(later),
        Step::Request { is_extended: false }
    ));
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

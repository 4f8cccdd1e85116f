//! Who requests a token while a lease is held, and how long the others wait.

use super::*;

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
                step @ (Step::Look
                | Step::Claim(_)
                | Step::Extend
                | Step::WaitAlone(_)
                | Step::End(_)) => panic!("{step:?}"),
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

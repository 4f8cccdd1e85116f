//! Which stored tokens and notes count.

use super::*;

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

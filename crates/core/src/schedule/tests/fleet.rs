//! Tokens that another host obtained: their expiry is known, and it is not their lifetime after the request.

use super::*;

/// Returns a token of an hour that expires at `expires`.
fn shared(text: &str, expires: BootTime) -> Fetched {
    Fetched {
        expires: Some(expires),
        origin: TokenOrigin::Fleet,
        ..fetched(text, HOUR)
    }
}

/// Returns a schedule with a token of generation 1, whose request began at `START` and that expires at `expires`.
fn with_shared(expires: BootTime, draw: f64) -> Schedule {
    let mut schedule = schedule();
    let fetch_id = schedule.start(jitter(draw, 1), START);
    let outcome = schedule.handle_fetched(fetch_id, Ok(shared("shared", expires)), START + SECOND);
    assert!(matches!(outcome, Outcome::Obtained { .. }), "{outcome:?}");
    schedule
}

#[test]
fn token_of_another_host_expires_when_that_host_says_and_keeps_its_whole_lifetime() {
    let expires = START + SECOND * 600;
    let mut schedule = with_shared(expires, 0.0);
    let validity = schedule.token(START).unwrap().validity();
    assert_eq!((validity.expires, validity.lifetime), (expires, HOUR));
    // It was obtained before this host was booted.
    assert_eq!(validity.obtained, BootTime::default());
    assert!(schedule.token(expires).is_none());
    let more = TokenRequest {
        min_ttl: Some(SECOND * 601),
        ..request(SECOND * 60, START)
    };
    let waits = schedule.request(WaiterId(1), &more, START + SECOND);
    assert_eq!(waits, Answer::Later, "a new token can be valid for so long");
}

#[test]
fn token_of_another_host_is_renewed_within_what_is_left_of_it() {
    let floor_at = START + floor(HOUR);
    for left in [35, 60, 600, 900, 1800, 3000, 3600] {
        for draw in [0.0, 0.5, 0.999] {
            let expires = START + SECOND * left;
            let due = with_shared(expires, draw).poll_timeout().unwrap();
            assert!((floor_at..expires).contains(&due), "{left} {draw}: {due}");
            let is_in_span = due + HOUR.mul_f64(0.2) <= expires;
            assert!(is_in_span || due == floor_at, "{left} {draw}: {due}");
        }
    }
}

#[test]
fn token_of_another_host_that_is_about_to_expire_is_renewed_before_the_floor() {
    let expires = START + SECOND * 5;
    let old = Fetched {
        renew_at: Some(START),
        ..shared("old", expires)
    };
    let mut schedule = schedule();
    let fetch_id = schedule.start(jitter(0.5, 1), START);
    schedule.handle_fetched(fetch_id, Ok(old), START);
    assert!(schedule.token(START).is_some());
    let due = START + SECOND;
    assert_eq!(schedule.poll_timeout(), Some(due), "not after the expiry");
    schedule.handle_timeout(due);
    assert!(schedule.wants_fetch());
    // From the first request of this host on, the floor counts.
    let fetch_id = schedule.start(jitter(0.5, 2), due);
    schedule.handle_fetched(fetch_id, Ok(fetched("new", HOUR)), due);
    let rejected = TokenRequest {
        renew: Some(Renew::Rejected(2)),
        ..request(SECOND * 60, due)
    };
    let waits = schedule.request(WaiterId(1), &rejected, due + SECOND);
    assert_eq!(waits, Answer::Later);
    assert_eq!(schedule.poll_timeout(), Some(due + floor(HOUR)));
}

#[test]
fn token_of_another_host_that_has_expired_is_a_transient_failure() {
    for (expires, lifetime) in [
        (START + SECOND, HOUR),
        (BootTime::default(), HOUR),
        (START + HOUR, Duration::ZERO),
    ] {
        let mut schedule = schedule();
        let fetch_id = schedule.start(jitter(1.0, 1), START);
        let late = Fetched {
            lifetime,
            ..shared("late", expires)
        };
        let outcome = schedule.handle_fetched(fetch_id, Ok(late), START + SECOND);
        let Outcome::Failed { cause, .. } = outcome else {
            panic!("{outcome:?}");
        };
        assert_eq!(cause, Cause::Unusable);
        assert_eq!(
            schedule.poll_timeout(),
            Some(START + SECOND + BACKOFF_FIRST)
        );
    }
}

#[test]
fn token_of_another_host_can_be_renewed_by_a_caller_immediately() {
    let mut schedule = with_shared(START + SECOND * 600, 1.0);
    let now = START + SECOND * 2;
    let rejected = TokenRequest {
        renew: Some(Renew::Rejected(1)),
        ..request(SECOND * 10, now)
    };
    let waits = schedule.request(WaiterId(1), &rejected, now);
    assert_eq!(waits, Answer::Later);
    assert!(schedule.wants_fetch(), "no request of this host precedes");
}

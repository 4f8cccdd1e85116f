//! Callers with conditions, by the rows of the policy table.

use super::*;

fn min_ttl(least: Duration, wait: Duration, now: BootTime) -> TokenRequest {
    TokenRequest {
        min_ttl: Some(least),
        ..request(wait, now)
    }
}

fn renew(renew: Renew, wait: Duration, now: BootTime) -> TokenRequest {
    TokenRequest {
        renew: Some(renew),
        ..request(wait, now)
    }
}

fn failing(cause: Cause) -> Result<Fetched, FetchError> {
    Err(FetchError::transient(cause, "Domo returned 503"))
}

/// Returns a schedule whose renewal failed `failures` times, the last time now.
fn in_back_off(failures: u32) -> (Schedule, BootTime) {
    let mut schedule = fresh(HOUR);
    let mut now = START;
    for failure in 0..failures {
        now = schedule.poll_timeout().unwrap();
        schedule.handle_timeout(now);
        let fetch_id = schedule.start(jitter(1.0, 10 + u64::from(failure)), now);
        schedule.handle_fetched(fetch_id, failing(Cause::Server), now);
    }
    assert!(replies(&mut schedule).is_empty());
    (schedule, now)
}

#[test]
fn min_ttl_is_decided_by_the_first_token_while_no_lifetime_is_known() {
    let mut schedule = schedule();
    let fetch_id = schedule.start(jitter(0.0, 1), START);
    for (waiter, least) in [(1, HOUR * 2), (2, HOUR / 2)] {
        let request = min_ttl(least, SECOND * 60, START);
        assert_eq!(
            schedule.request(WaiterId(waiter), &request, START),
            Answer::Later
        );
    }
    let now = START + SECOND;
    schedule.handle_fetched(fetch_id, Ok(fetched("first", HOUR)), now);
    let replies = replies(&mut schedule);
    let [(1, Err(refusal)), (2, Ok(_))] = &replies[..] else {
        panic!("{replies:?}");
    };
    assert_eq!(refusal.kind, RefusalKind::MinTtlTooLong);
    for figure in ["3600 s", "7200 s", "3570 s"] {
        assert!(refusal.cause.contains(figure), "{}", refusal.cause);
    }
}

#[test]
fn longest_possible_min_ttl_is_met_once_the_floor_allows() {
    for seconds in [1_u32, 2, 5, 19, 20, 60, 599, 3599, 86_400] {
        let lifetime = SECOND * seconds;
        let mut schedule = fresh(lifetime);
        let most = lifetime.saturating_sub(floor(lifetime));
        let now = START + floor(lifetime) + SECOND / 1000;
        let reply = schedule.request(WaiterId(1), &min_ttl(most, SECOND * 60, now), now);
        assert_eq!(reply, Answer::Later, "{lifetime:?}");
        let due = schedule.poll_timeout().unwrap().max(now);
        schedule.handle_timeout(now);
        let now = if schedule.wants_fetch() { now } else { due };
        schedule.handle_timeout(now);
        let fetch_id = schedule.start(jitter(0.0, 2), now);
        schedule.handle_fetched(fetch_id, Ok(fetched("second", lifetime)), now);
        assert!(
            matches!(replies(&mut schedule)[..], [(1, Ok(_))]),
            "{lifetime:?}"
        );
        let more = min_ttl(lifetime + SECOND, SECOND * 60, now);
        let refusal = refused(schedule.request(WaiterId(2), &more, now));
        assert_eq!(refusal.kind, RefusalKind::MinTtlTooLong, "{lifetime:?}");
    }
}

#[test]
fn min_ttl_that_the_floor_delays_past_the_deadline_is_unavailable_with_the_time() {
    let mut schedule = fresh(HOUR);
    let now = START + SECOND * 25;
    let request = min_ttl(SECOND * 3580, SECOND * 5, now);
    assert_eq!(
        refused(schedule.request(WaiterId(1), &request, now)).kind,
        RefusalKind::MinTtlTooLong,
        "more than T less the floor"
    );
    let now = START + SECOND * 20;
    let rejected = renew(Renew::Rejected(1), SECOND * 5, now);
    let refusal = refused(schedule.request(WaiterId(2), &rejected, now));
    assert_eq!(refusal.kind, RefusalKind::Unavailable);
    assert_eq!(refusal.next_attempt, Some(START + floor(HOUR)));
    let too_young = "the token was renewed 20 s ago; the next renewal is possible in 10 s";
    assert!(refusal.cause.contains(too_young), "{}", refusal.cause);
    for now in [START + floor(HOUR), START + HOUR / 2] {
        let impatient = renew(Renew::Rejected(1), Duration::ZERO, now);
        let refusal = refused(schedule.request(WaiterId(3), &impatient, now));
        assert!(refusal.cause.contains("no time"), "{}", refusal.cause);
    }
    assert!(!schedule.wants_fetch());
}

#[test]
fn extreme_durations_do_not_overflow() {
    let most = Duration::from_millis(u64::MAX);
    let end = BootTime::from_millis(u64::MAX);
    let mut schedule = fresh(HOUR);
    let request = TokenRequest {
        min_ttl: Some(most),
        deadline: end,
        renew: Some(Renew::Rejected(u64::MAX)),
    };
    let refusal = refused(schedule.request(WaiterId(1), &request, START));
    assert_eq!(refusal.kind, RefusalKind::MinTtlTooLong);
    let error = FetchError::Transient {
        cause: Cause::RateLimited,
        message: "Domo returned 429".to_owned(),
        retry_after: Some(Duration::MAX),
    };
    schedule.handle_timeout(end);
    assert!(schedule.wants_fetch());
    let fetch_id = schedule.start(jitter(0.0, 2), end);
    schedule.handle_fetched(fetch_id, Err(error), end);
    assert_eq!(schedule.poll_timeout(), Some(end), "the clock's end");
}

#[test]
fn min_ttl_beyond_a_reissued_token_is_unavailable_with_the_reason() {
    let mut schedule = fresh(HOUR);
    let due = schedule.poll_timeout().unwrap();
    schedule.handle_timeout(due);
    let fetch_id = schedule.start(jitter(0.0, 2), due);
    let left = SECOND * 1440;
    schedule.handle_fetched(fetch_id, Ok(fetched("first", left)), due);
    let request = min_ttl(left + SECOND, SECOND * 60, due);
    let refusal = refused(schedule.request(WaiterId(1), &request, due));
    assert_eq!(refusal.kind, RefusalKind::Unavailable);
    assert!(refusal.cause.contains("same token"), "{}", refusal.cause);
    assert_eq!(refusal.next_attempt, Some(due + left / 2));
    assert!(!schedule.wants_fetch());
    let served = schedule.request(WaiterId(2), &min_ttl(left, SECOND, due), due);
    assert_eq!(generation(served), 1);
}

#[test]
fn expired_reissued_token_is_not_reported_as_valid() {
    let mut schedule = fresh(HOUR);
    let due = schedule.poll_timeout().unwrap();
    schedule.handle_timeout(due);
    let fetch_id = schedule.start(jitter(0.0, 2), due);
    schedule.handle_fetched(fetch_id, Ok(fetched("first", SECOND * 10)), due);
    assert_eq!(
        schedule.poll_timeout(),
        Some(due + SECOND * 10),
        "its expiry"
    );
    let expiry = due + SECOND * 11;
    let refusal = refused(schedule.request(WaiterId(1), &request(SECOND, expiry), expiry));
    assert_eq!(refusal.kind, RefusalKind::Unavailable);
    assert_eq!(refusal.next_attempt, Some(due + floor(HOUR)));
    assert!(
        refusal.cause.contains("it has expired"),
        "{}",
        refusal.cause
    );
}

#[test]
fn renewal_without_a_generation_joins_the_next_attempt_and_does_not_move_it() {
    let (mut schedule, now) = in_back_off(4);
    let retry_at = now + SECOND * 8;
    assert_eq!(schedule.poll_timeout(), Some(retry_at));
    let patient = renew(Renew::Current, SECOND * 60, now);
    assert_eq!(schedule.request(WaiterId(1), &patient, now), Answer::Later);
    assert_eq!(
        schedule.poll_timeout(),
        Some(retry_at),
        "not brought forward"
    );
    assert!(!schedule.wants_fetch());
    let impatient = renew(Renew::Current, SECOND, now);
    let refusal = refused(schedule.request(WaiterId(2), &impatient, now));
    assert_eq!(refusal.kind, RefusalKind::Unavailable);
    assert_eq!(refusal.next_attempt, Some(retry_at));
    assert_eq!(
        generation(schedule.request(WaiterId(3), &request(SECOND, now), now)),
        1,
        "the old token is there for the others"
    );
}

#[test]
fn waiters_are_decided_again_after_each_failed_attempt() {
    let mut schedule = schedule();
    let fetch_id = schedule.start(jitter(1.0, 1), START);
    for (waiter, wait) in [(1, SECOND * 2), (2, SECOND * 60)] {
        assert_eq!(
            schedule.request(WaiterId(waiter), &request(wait, START), START),
            Answer::Later
        );
    }
    schedule.handle_fetched(fetch_id, failing(Cause::Server), START);
    assert!(
        replies(&mut schedule).is_empty(),
        "a second's wait suits both"
    );
    let now = START + SECOND;
    schedule.handle_timeout(now);
    let fetch_id = schedule.start(jitter(1.0, 2), now);
    schedule.handle_fetched(fetch_id, failing(Cause::Server), now);
    let replies = replies(&mut schedule);
    let [(1, Err(refusal))] = &replies[..] else {
        panic!("{replies:?}");
    };
    assert_eq!(refusal.kind, RefusalKind::Unavailable);
    assert_eq!(refusal.next_attempt, Some(now + SECOND * 2));
    let now = now + SECOND * 2;
    schedule.handle_timeout(now);
    let fetch_id = schedule.start(jitter(1.0, 3), now);
    schedule.handle_fetched(fetch_id, Err(denied(true)), now);
    let refusal = refused(super::replies(&mut schedule).pop().map(|(_, reply)| reply));
    assert_eq!(refusal.kind, RefusalKind::Denied, "the patient one too");
}

#[test]
fn caller_of_a_blocked_scope_set_receives_cause_and_next_attempt() {
    let mut schedule = schedule();
    let fetch_id = schedule.start(jitter(1.0, 1), START);
    schedule.handle_fetched(fetch_id, failing(Cause::Server), START);
    let until = START + DENIED_RETRY;
    schedule.block("Domo returned 401: who are you", Some(until), false, START);
    let refusal = refused(schedule.request(WaiterId(1), &request(HOUR, START), START));
    assert_eq!(refusal.kind, RefusalKind::Denied);
    assert!(refusal.cause.contains("401"), "{}", refusal.cause);
    assert_eq!(refusal.next_attempt, Some(until));
    let status = schedule.status("", START);
    assert!(
        status.last_error.unwrap().contains("401"),
        "not its own 503"
    );
    assert_eq!(status.next_attempt, Some(until));
    let watched = refused(schedule.watcher_reply(START));
    assert!(watched.cause.contains("401"), "{}", watched.cause);
    let later = until + SECOND;
    let refusal = refused(schedule.request(WaiterId(2), &request(HOUR, later), later));
    assert_eq!(refusal.next_attempt, None, "nothing in the past");
}

#[test]
fn new_credentials_are_treated_as_if_no_lifetime_were_known() {
    let mut schedule = fresh(SECOND * 4);
    schedule.new_credentials(START + SECOND);
    let now = START + SECOND;
    let fetch_id = schedule.start(jitter(0.0, 2), now);
    assert_eq!(fetch_id, schedule.fetch_id);
    let joined = schedule.request(WaiterId(1), &min_ttl(HOUR / 2, SECOND * 60, now), now);
    assert_eq!(joined, Answer::Later, "judged when the first token comes");
    let slow = now + SECOND * 10;
    schedule.handle_timeout(slow);
    let outcome = schedule.handle_fetched(fetch_id, Ok(fetched("slow", HOUR)), slow);
    assert!(
        matches!(outcome, Outcome::Obtained { first: false, .. }),
        "{outcome:?}"
    );
    assert!(matches!(replies(&mut schedule)[..], [(1, Ok(_))]));
    let due = now + timing::renew_after(HOUR, HOUR, false, 0.0);
    assert_eq!(schedule.poll_timeout(), Some(due));
}

#[test]
fn waiter_is_decided_by_the_response_and_not_by_a_block_that_it_ends() {
    let left = SECOND * 1440;
    let scope_refused = denied(true);
    for (answer, kind, message) in [
        (
            Ok(fetched("first", left)),
            RefusalKind::Unavailable,
            "same token",
        ),
        (
            Err(scope_refused),
            RefusalKind::Denied,
            "Bad client credentials",
        ),
    ] {
        let mut schedule = fresh(HOUR);
        let due = START + HOUR - left;
        schedule.handle_timeout(due);
        let fetch_id = schedule.start(jitter(0.0, 2), due);
        let more_than_left = TokenRequest {
            min_ttl: Some(left + SECOND),
            ..request(SECOND * 60, due)
        };
        assert_eq!(
            schedule.request(WaiterId(1), &more_than_left, due),
            Answer::Later
        );
        schedule.block("another set was refused", None, false, due);
        schedule.handle_fetched(fetch_id, answer, due);
        let replies = replies(&mut schedule);
        let [(1, Err(refusal))] = &replies[..] else {
            panic!("{replies:?}");
        };
        assert_eq!(refusal.kind, kind);
        assert!(refusal.cause.contains(message), "{}", refusal.cause);
    }
}

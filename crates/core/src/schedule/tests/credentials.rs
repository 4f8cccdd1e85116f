//! New credentials, reloads and rejections of a scope set's client.

use super::*;
use domo_token_protocol::messages::ScopeState;

#[test]
fn reload_retries_rejected_scope_sets_and_keeps_timers_of_valid_tokens() {
    let mut refused = schedule();
    let fetch_id = refused.start(jitter(0.0, 1), START);
    refused.handle_fetched(fetch_id, Err(denied(false)), START);
    refused.reload(START);
    assert!(refused.wants_fetch());

    let mut fresh = fresh(HOUR);
    let due = fresh.poll_timeout();
    fresh.reload(START);
    assert_eq!(fresh.poll_timeout(), due);
}

#[test]
fn blocked_scope_set_makes_no_request_and_serves_its_valid_token() {
    let mut schedule = fresh(HOUR);
    schedule.block("Domo returned 401", None, false, START);
    let expiry = START + HOUR;
    assert_eq!(schedule.poll_timeout(), Some(expiry), "its expiry alone");
    assert_eq!(
        generation(schedule.request(WaiterId(1), &request(SECOND, START), START)),
        1
    );
    let expiry = START + HOUR;
    let refusal = refused(schedule.request(WaiterId(2), &request(SECOND, expiry), expiry));
    assert_eq!(refusal.kind, RefusalKind::Denied);
    schedule.unblock(expiry);
    schedule.handle_timeout(expiry);
    assert!(schedule.wants_fetch());
}

#[test]
fn shutdown_refuses_all_waiters() {
    let mut schedule = schedule();
    schedule.start(jitter(0.0, 1), START);
    assert_eq!(
        schedule.request(WaiterId(1), &request(HOUR, START), START),
        Answer::Later
    );
    schedule.shutdown(RefusalKind::Busy, "stopping");
    let replies = replies(&mut schedule);
    assert!(matches!(&replies[..], [(1, Err(refusal))] if refusal.kind == RefusalKind::Busy));
}

#[test]
fn response_to_old_credentials_is_dropped_and_its_callers_join_the_new_fetch() {
    let mut schedule = schedule();
    let old = schedule.start(jitter(0.0, 1), START);
    assert_eq!(
        schedule.request(WaiterId(1), &request(HOUR, START), START),
        Answer::Later
    );
    schedule.new_credentials(START);
    assert_eq!(schedule.poll_command(), Some(Command::Abort(SET)));
    assert!(schedule.wants_fetch());
    let new = schedule.start(jitter(0.0, 2), START);
    let dropped = schedule.handle_fetched(old, Ok(fetched("old", HOUR)), START);
    assert_eq!(dropped, Outcome::Ignored);
    assert!(replies(&mut schedule).is_empty());
    schedule.handle_fetched(new, Ok(fetched("new", HOUR)), START);
    assert!(matches!(&replies(&mut schedule)[..], [(1, Ok(token))] if token.is(&"new".into())));
}

#[test]
fn scope_set_may_probe_unless_it_is_fetching_or_has_to_wait() {
    let later = START + SECOND * 2;
    let mut schedule = schedule();
    assert!(schedule.may_probe(START), "nothing keeps it");
    let fetch_id = schedule.start(jitter(1.0, 1), START);
    assert!(!schedule.may_probe(later), "it is asking");
    let error = FetchError::transient(Cause::Server, "Domo returned 503");
    schedule.handle_fetched(fetch_id, Err(error), START);
    let retry_at = START + BACKOFF_FIRST;
    assert!(!schedule.may_probe(START));
    assert!(schedule.may_probe(retry_at));

    let mut fresh = fresh(HOUR);
    assert!(fresh.may_probe(START + floor(HOUR)), "a timer keeps nobody");
    let due = fresh.poll_timeout().unwrap();
    fresh.handle_timeout(due);
    let fetch_id = fresh.start(jitter(0.0, 2), due);
    let left = SECOND * 1440;
    fresh.handle_fetched(fetch_id, Ok(fetched("first", left)), due);
    assert!(!fresh.may_probe(due), "the same token would come again");
    assert!(fresh.may_probe(due + left / 2));
}

#[test]
fn status_shows_a_block_as_denied_and_the_error_of_new_credentials() {
    let mut schedule = fresh(HOUR);
    assert_eq!(schedule.status("", START).state, ScopeState::Fresh);
    let until = START + SECOND;
    schedule.block("Domo returned 401", Some(until), false, START);
    let status = schedule.status("", START);
    assert_eq!(status.state, ScopeState::Denied);
    assert_eq!(status.credentials_error, None, "they had this token");
    assert_eq!(schedule.status("", until).next_attempt, None, "it is due");

    schedule.new_credentials(START);
    let fetch_id = schedule.start(jitter(0.0, 2), START);
    schedule.handle_fetched(fetch_id, Err(denied(false)), START);
    let error = schedule.status("", START).credentials_error;
    assert!(error.unwrap().contains("Bad client credentials"));
    assert_eq!(
        schedule.status("", START + HOUR).credentials_error,
        None,
        "no old token is left"
    );
}

/// Returns new credentials at `now`, and whether they cause a request then.
fn changed(schedule: &mut Schedule, now: BootTime, number: u64) -> bool {
    schedule.new_credentials(now);
    let requests = schedule.wants_fetch();
    if requests {
        schedule.start(jitter(0.0, number), now);
    }
    requests
}

#[test]
fn new_credentials_cause_three_requests_in_a_row_then_one_per_interval() {
    let mut schedule = fresh(HOUR);
    let mut requested_at = Vec::new();
    // Five changes a second for forty seconds.
    for step in 0..200 {
        let now = START + SECOND * step / 5;
        schedule.handle_timeout(now);
        if changed(&mut schedule, now, u64::from(step) + 2) {
            requested_at.push(now.saturating_since(START).as_secs());
        }
    }
    assert_eq!(requested_at, [0, 0, 0, 10, 20, 30]);
}

#[test]
fn deferred_credentials_are_tried_last_and_the_old_token_is_served_until_then() {
    let mut schedule = fresh(HOUR);
    for number in 2..=4 {
        assert!(changed(&mut schedule, START, number));
    }
    let old = schedule.fetch_id;
    assert!(!changed(&mut schedule, START, 5));
    let late = schedule.handle_fetched(old, Ok(fetched("of the third", HOUR)), START);
    assert_eq!(late, Outcome::Ignored, "it was given up");
    let served = schedule.request(WaiterId(1), &request(SECOND, START), START);
    assert_eq!(generation(served), 1);
    let until = START + CHANGE_INTERVAL;
    assert_eq!(schedule.poll_timeout(), Some(until));
    assert_eq!(schedule.status("", START).next_attempt, Some(until));
    // A reload does not circumvent it.
    schedule.reload(START);
    assert!(!schedule.wants_fetch());
    schedule.handle_timeout(until);
    assert!(
        schedule.wants_fetch(),
        "the newest credentials have their turn"
    );
    let fetch_id = schedule.start(jitter(0.0, 6), until);
    schedule.handle_fetched(fetch_id, Ok(fetched("newest", HOUR)), until);
    assert!(schedule.token(until).unwrap().is(&"newest".into()));
}

#[test]
fn caller_joins_deferred_credentials_due_in_time_and_is_refused_otherwise() {
    let mut schedule = schedule();
    for number in 1..=3 {
        assert!(changed(&mut schedule, START, number));
    }
    schedule.new_credentials(START);
    let until = START + CHANGE_INTERVAL;
    let joins = schedule.request(WaiterId(1), &request(SECOND * 11, START), START);
    assert_eq!(joins, Answer::Later);
    let refusal = refused(schedule.request(WaiterId(2), &request(SECOND * 9, START), START));
    assert_eq!(refusal.kind, RefusalKind::Unavailable);
    assert_eq!(refusal.next_attempt, Some(until));
    assert!(refusal.cause.contains("too often"), "{}", refusal.cause);
    schedule.handle_timeout(until);
    let fetch_id = schedule.start(jitter(0.0, 4), until);
    schedule.handle_fetched(fetch_id, Ok(fetched("newest", HOUR)), until);
    assert!(matches!(&replies(&mut schedule)[..], [(1, Ok(_))]));
}

#[test]
fn requests_that_new_credentials_did_not_cause_are_not_counted() {
    let mut schedule = schedule();
    let mut now = START;
    for number in 1..=5 {
        let fetch_id = schedule.start(jitter(0.0, number), now);
        let error = FetchError::transient(Cause::Server, "503");
        schedule.handle_fetched(fetch_id, Err(error), now);
        now = schedule.poll_timeout().unwrap();
        schedule.handle_timeout(now);
    }
    // Nor are changes before the request that the change before them caused.
    for _change in 0..5 {
        schedule.new_credentials(now);
    }
    for number in 6..=8 {
        assert!(changed(&mut schedule, now, number), "{number}");
    }
    assert!(!changed(&mut schedule, now, 9));
}

#[test]
fn reloads_cause_three_requests_in_a_row_then_one_per_interval() {
    let mut schedule = schedule();
    let mut requested_at = Vec::new();
    // Five reloads a second for forty seconds, while each request is rejected.
    for step in 0..200 {
        let now = START + SECOND * step / 5;
        schedule.handle_timeout(now);
        schedule.reload(now);
        if schedule.wants_fetch() {
            let fetch_id = schedule.start(jitter(0.0, u64::from(step) + 2), now);
            schedule.handle_fetched(fetch_id, Err(denied(true)), now);
            requested_at.push(now.saturating_since(START).as_secs());
        }
    }
    // The first one is that of a new set.
    assert_eq!(requested_at, [0, 0, 0, 0, 10, 20, 30]);
}

#[test]
fn reload_that_has_to_wait_makes_no_attempt_later() {
    let mut schedule = schedule();
    let failed = |schedule: &mut Schedule| {
        let fetch_id = schedule.start(jitter(0.0, 1), START);
        let error = FetchError::transient(Cause::Server, "503");
        schedule.handle_fetched(fetch_id, Err(error), START);
    };
    failed(&mut schedule);
    for _ in 0..3 {
        schedule.reload(START);
        assert!(schedule.wants_fetch());
        failed(&mut schedule);
    }
    let due = schedule.poll_timeout().unwrap();
    assert!(due < START + CHANGE_INTERVAL);
    schedule.reload(START);
    assert_eq!(schedule.poll_timeout(), Some(due));
}

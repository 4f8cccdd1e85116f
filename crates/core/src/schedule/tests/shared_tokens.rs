//! Fetches that wait for a token of another host: when a request counts, what the source learns, what it decides.

use super::*;
use crate::fetch::{AgreedRetry, Fetch};

fn sharing() -> Schedule {
    let mut schedule = schedule();
    schedule.set_shares(true);
    schedule
}

/// Returns a sharing schedule with a token of an hour, and the time and id of its renewal, which has started.
fn renewing() -> (Schedule, BootTime, FetchId) {
    let mut schedule = fresh(HOUR);
    schedule.set_shares(true);
    let due = schedule.poll_timeout().unwrap();
    schedule.handle_timeout(due);
    let fetch_id = schedule.start(jitter(0.5, 2), due);
    (schedule, due, fetch_id)
}

fn agreed(error: FetchError, failures: u32, at: BootTime) -> Fetch {
    let agreed = Some(AgreedRetry { failures, at });
    Fetch::Failed { error, agreed }
}

fn unavailable() -> FetchError {
    FetchError::transient(Cause::Server, "503")
}

#[test]
fn request_counts_once_and_only_when_it_is_sent() {
    let mut schedule = sharing();
    let fetch_id = schedule.start(jitter(0.0, 1), START);
    let requests = |schedule: &Schedule| schedule.status("", START).requests;
    assert_eq!(requests(&schedule), 0);
    schedule.handle_requested(FetchId(99), START);
    assert_eq!(requests(&schedule), 0, "another fetch");
    for _report in 0..2 {
        schedule.handle_requested(fetch_id, START);
        assert_eq!(requests(&schedule), 1);
    }
    schedule.handle_fetched(fetch_id, Ok(fetched("first", HOUR)), START);
    schedule.handle_requested(fetch_id, START);
    assert_eq!(requests(&schedule), 1, "a late report");
}

#[test]
fn fetch_that_shares_may_wait_for_another_host_before_its_request_has_its_own_time() {
    let limit = REQUEST_MAX + REQUEST_GRACE;
    let mut alone = schedule();
    alone.start(jitter(0.0, 1), START);
    assert_eq!(alone.poll_timeout(), Some(START + limit));
    let mut schedule = sharing();
    let fetch_id = schedule.start(jitter(0.0, 1), START);
    assert_eq!(schedule.poll_timeout(), Some(START + FLEET_WAIT + limit));
    let sent = START + SECOND * 30;
    for later in [Duration::ZERO, SECOND] {
        schedule.handle_requested(fetch_id, sent + later);
        assert_eq!(schedule.poll_timeout(), Some(sent + limit));
    }
    schedule.handle_timeout(sent + limit);
    let commands: Vec<_> = std::iter::from_fn(|| schedule.poll_command()).collect();
    assert!(matches!(
        commands[..],
        [
            Command::Abort(_),
            Command::Report(
                _,
                Outcome::Failed {
                    requested: true,
                    cause: Cause::Timeout,
                    ..
                }
            ),
            Command::NotifyWatchers(_)
        ]
    ));
}

#[test]
fn caller_that_times_out_learns_whether_another_host_requests_the_token() {
    for (shares, is_sent, why) in [
        (true, false, "another host of the fleet is requesting one"),
        (true, true, "Domo has not responded yet"),
        (false, false, "Domo has not responded yet"),
    ] {
        let mut schedule = schedule();
        schedule.set_shares(shares);
        let fetch_id = schedule.start(jitter(0.0, 1), START);
        if is_sent {
            schedule.handle_requested(fetch_id, START);
        }
        schedule.request(WaiterId(1), &request(SECOND, START), START);
        schedule.handle_timeout(START + SECOND);
        let reply = replies(&mut schedule).pop().map(|(_, reply)| reply);
        let cause = refused(reply).cause;
        assert!(
            cause.ends_with(&format!("no token in time; {why}")),
            "{cause}"
        );
    }
}

#[test]
fn occasion_of_a_first_fetch_has_no_token_and_the_least_that_can_be_served() {
    let mut schedule = sharing();
    assert!(schedule.occasion(START).is_none(), "no fetch");
    schedule.start(jitter(0.25, 1), START);
    let occasion = schedule.occasion(START).unwrap();
    assert_eq!(occasion.scope.as_str(), "data");
    assert!(occasion.held.is_none() && !occasion.is_urgent);
    assert!(!occasion.ignores_notes && !occasion.confirms_rejection);
    assert_eq!((occasion.failures, occasion.draw), (0, 0.25));
    assert_eq!((occasion.min_left, occasion.timeout), (SECOND, REQUEST_MAX));
}

#[test]
fn occasion_is_urgent_when_a_caller_waits_for_another_token_than_the_one_held() {
    let (mut schedule, due, _) = renewing();
    let occasion = schedule.occasion(due).unwrap();
    assert!(!occasion.is_urgent);
    assert!(occasion.held.unwrap().is(&"first".into()));
    let waits = [
        (1, Some(SECOND * 3000), None),
        (2, Some(SECOND * 3100), None),
        (3, None, Some(Renew::Rejected(1))),
    ];
    for (waiter, min_ttl, renew) in waits {
        let request = TokenRequest {
            min_ttl,
            renew,
            ..request(SECOND * 60, due)
        };
        let answer = schedule.request(WaiterId(waiter), &request, due);
        assert_eq!(answer, Answer::Later);
        assert!(schedule.occasion(due).unwrap().is_urgent, "{waiter}");
    }
    assert_eq!(schedule.occasion(due).unwrap().min_left, SECOND * 3100);
    for waiter in [1, 2] {
        schedule.cancel(WaiterId(waiter));
    }
    let occasion = schedule.occasion(due).unwrap();
    assert!(occasion.is_urgent, "a rejected generation");
    assert_eq!(occasion.min_left, SECOND);
}

#[test]
fn fetch_caused_by_new_credentials_or_a_reload_ignores_failures_of_other_hosts() {
    let mut schedule = sharing();
    let mut now = START;
    let mut ignores = |schedule: &mut Schedule| {
        now = now + SECOND;
        schedule.handle_timeout(now);
        let fetch_id = schedule.start(jitter(1.0, 1), now);
        let ignores = schedule.occasion(now).unwrap().ignores_notes;
        schedule.handle_fetched(fetch_id, Err(unavailable()), now);
        (ignores, now)
    };
    let (at_start, now) = ignores(&mut schedule);
    schedule.reload(now);
    let (after_reload, now) = ignores(&mut schedule);
    let (retry, _) = ignores(&mut schedule);
    schedule.new_credentials(now);
    let (after_change, _) = ignores(&mut schedule);
    assert_eq!(
        (at_start, after_reload, retry, after_change),
        (false, true, false, true)
    );
}

#[test]
fn occasion_tells_whether_a_rejection_confirms_an_earlier_one() {
    let mut schedule = sharing();
    let first = schedule.start(jitter(0.0, 1), START);
    assert!(!schedule.occasion(START).unwrap().confirms_rejection);
    schedule.handle_fetched(first, Err(denied(false)), START);
    let again = START + CONFIRM_AFTER;
    schedule.handle_timeout(again);
    let second = schedule.start(jitter(0.0, 2), again);
    assert!(schedule.occasion(again).unwrap().confirms_rejection);
    schedule.handle_fetched(second, Ok(fetched("first", HOUR)), again);
    let due = schedule.poll_timeout().unwrap();
    schedule.handle_timeout(due);
    schedule.start(jitter(0.0, 3), due);
    assert!(!schedule.occasion(due).unwrap().confirms_rejection);
}

#[test]
fn postponed_renewal_is_no_failure_and_is_due_at_its_time() {
    let (mut schedule, due, fetch_id) = renewing();
    let at = due + SECOND * 10;
    let outcome = schedule.handle_fetched(fetch_id, Fetch::Postponed(at), due);
    assert_eq!(outcome, Outcome::Ignored);
    assert_eq!(schedule.poll_command(), None, "nothing to report");
    assert_eq!(schedule.poll_timeout(), Some(at));
    assert!(!schedule.wants_fetch());
    let status = schedule.status("", due);
    assert_eq!((status.attempts, status.requests), (0, 1));
    assert_eq!(status.last_error, None);
    schedule.handle_timeout(at);
    assert!(schedule.wants_fetch());
}

#[test]
fn postponed_renewal_is_at_least_a_second_ahead_and_not_after_the_expiry() {
    let (_, renewal, _) = renewing();
    for (at, due) in [
        (BootTime::default(), renewal + SECOND),
        (START + HOUR * 2, START + HOUR),
    ] {
        let (mut schedule, now, fetch_id) = renewing();
        schedule.handle_fetched(fetch_id, Fetch::Postponed(at), now);
        assert_eq!(schedule.poll_timeout(), Some(due));
    }
}

#[test]
fn caller_that_needs_another_token_starts_the_next_fetch_when_one_is_postponed() {
    let (mut schedule, due, fetch_id) = renewing();
    let rejected = TokenRequest {
        renew: Some(Renew::Rejected(1)),
        ..request(SECOND * 10, due)
    };
    let answer = schedule.request(WaiterId(1), &rejected, due);
    assert_eq!(answer, Answer::Later);
    let at = due + SECOND * 15;
    schedule.handle_fetched(fetch_id, Fetch::Postponed(at), due);
    assert!(replies(&mut schedule).is_empty());
    assert!(schedule.wants_fetch());
    schedule.start(jitter(0.5, 3), due);
    assert!(schedule.occasion(due).unwrap().is_urgent);
}

#[test]
fn fetch_postponed_without_a_valid_token_is_a_failure() {
    let mut schedule = sharing();
    let fetch_id = schedule.start(jitter(1.0, 1), START);
    let outcome = schedule.handle_fetched(fetch_id, Fetch::Postponed(START + HOUR), START);
    assert!(
        matches!(
            outcome,
            Outcome::Failed {
                requested: false,
                ..
            }
        ),
        "{outcome:?}"
    );
    assert_eq!(schedule.poll_timeout(), Some(START + BACKOFF_FIRST));
}

#[test]
fn fetch_that_tries_a_rejected_client_is_urgent() {
    let mut schedule = fresh(HOUR);
    schedule.set_shares(true);
    let due = START + SECOND * 300;
    schedule.block("unknown client", Some(due), true, START + SECOND);
    schedule.handle_timeout(due);
    schedule.start(jitter(0.5, 2), due);
    let occasion = schedule.occasion(due).unwrap();
    assert!(occasion.held.is_some() && occasion.is_urgent);
}

#[test]
fn scope_set_tries_its_rejected_client_no_earlier_than_the_floor() {
    let schedule = fresh(HOUR);
    let floor = START + floor(HOUR);
    assert!(schedule.may_probe(floor));
    assert!(!schedule.may_probe(floor - SECOND));
}

#[test]
fn floor_counts_from_the_request_of_a_fetch_that_waited_for_another_host() {
    let mut schedule = sharing();
    let fetch_id = schedule.start(jitter(0.0, 1), START);
    let sent = START + SECOND * 30;
    schedule.handle_requested(fetch_id, sent);
    let fetched = Fetched {
        expires: Some(sent + HOUR),
        renew_at: Some(sent),
        ..fetched("first", HOUR)
    };
    schedule.handle_fetched(fetch_id, Ok(fetched), sent + SECOND);
    assert_eq!(schedule.poll_timeout(), Some(sent + floor(HOUR)));
}

#[test]
fn renewal_time_of_the_source_is_used_but_not_before_the_floor() {
    let floor_at = START + floor(HOUR);
    for (at, due) in [
        (START + SECOND * 1234, START + SECOND * 1234),
        (START + SECOND, floor_at),
        (START + HOUR * 2, START + HOUR),
    ] {
        let mut schedule = sharing();
        let fetch_id = schedule.start(jitter(0.5, 1), START);
        let taken = Fetched {
            renew_at: Some(at),
            ..fetched("taken", HOUR)
        };
        schedule.handle_fetched(fetch_id, Ok(taken), START);
        assert_eq!(schedule.poll_timeout(), Some(due));
    }
}

#[test]
fn token_taken_from_another_host_is_reported_with_its_origin_and_without_a_request() {
    let mut schedule = sharing();
    let fetch_id = schedule.start(jitter(0.5, 1), START);
    assert_eq!(schedule.token_origin(START), None);
    let taken = Fetched {
        origin: TokenOrigin::Fleet,
        expires: Some(START + HOUR / 2),
        ..fetched("taken", HOUR)
    };
    let outcome = schedule.handle_fetched(fetch_id, Ok(taken), START);
    assert!(
        matches!(
            outcome,
            Outcome::Obtained {
                requested: false,
                origin: TokenOrigin::Fleet,
                ..
            }
        ),
        "{outcome:?}"
    );
    assert_eq!(schedule.token_origin(START), Some(TokenOrigin::Fleet));
    assert_eq!(schedule.token_origin(START + HOUR), None, "it has expired");
    let status = schedule.status("", START);
    assert_eq!(
        (status.requests, status.from),
        (0, Some(TokenOrigin::Fleet))
    );
    assert_eq!(schedule.status("", START + HOUR).from, None);
    let snapshot = schedule.snapshot(START).unwrap();
    let mut restarted = sharing();
    restarted.resume(snapshot, START);
    assert_eq!(restarted.token_origin(START), None, "not known any more");
}

#[test]
fn agreed_retry_replaces_the_count_of_failures_and_the_time_of_the_next_attempt() {
    let at = START + SECOND * 100;
    for error in [unavailable(), denied(true), denied(false)] {
        let mut schedule = sharing();
        let fetch_id = schedule.start(jitter(0.0, 1), START);
        schedule.handle_fetched(fetch_id, agreed(error, 7, at), START);
        assert_eq!(schedule.poll_timeout(), Some(at));
        assert_eq!(schedule.shown_next_attempt(START), Some(at));
        assert_eq!(schedule.status("", START).attempts, 7);
        schedule.handle_timeout(at);
        assert!(schedule.wants_fetch());
        let own = schedule.start(jitter(0.0, 2), at);
        assert_eq!(schedule.occasion(at).unwrap().failures, 7);
        schedule.handle_fetched(own, Err(unavailable()), at);
        assert_eq!(schedule.status("", at).attempts, 8);
    }
}

#[test]
fn agreed_retry_is_at_least_a_second_ahead() {
    for error in [unavailable(), denied(true), denied(false)] {
        let mut schedule = sharing();
        let fetch_id = schedule.start(jitter(0.0, 1), START);
        schedule.handle_fetched(fetch_id, agreed(error, 1, START), START);
        assert_eq!(schedule.poll_timeout(), Some(START + SECOND));
    }
}

#[test]
fn client_rejection_on_which_the_fleet_agrees_is_confirmed() {
    let mut schedule = sharing();
    let fetch_id = schedule.start(jitter(0.0, 1), START);
    let at = START + SECOND * 200;
    let outcome = schedule.handle_fetched(fetch_id, agreed(denied(false), 2, at), START);
    assert!(
        matches!(
            outcome,
            Outcome::Denied {
                requested: false,
                rejected: Rejected::Client,
                ..
            }
        ),
        "{outcome:?}"
    );
    let patient = request(SECOND * 30, START);
    let refusal = refused(schedule.request(WaiterId(1), &patient, START));
    assert_eq!(refusal.kind, RefusalKind::Denied);
    assert_eq!(refusal.next_attempt, Some(at));
    schedule.handle_timeout(at);
    schedule.start(jitter(0.0, 2), at);
    assert!(schedule.occasion(at).unwrap().confirms_rejection);
}

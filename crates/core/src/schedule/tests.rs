mod callers;
mod client_rejection;
mod credentials;
mod document;
mod failure_reports;
mod fleet;
mod loading;
mod outages;
mod proxy_login;
mod shared_tokens;
mod snapshot;
mod watchers;

use super::*;
use crate::fetch_result::{Cause, FetchError, Fetched, LifetimeSource, TokenOrigin};
use domo_token_protocol::messages::{Refusal, RefusalKind, Renew};

const SET: SetId = SetId(1);
const HOUR: Duration = Duration::from_secs(3600);
const SECOND: Duration = Duration::from_secs(1);
const START: BootTime = BootTime::from_millis(1_000_000);

fn schedule() -> Schedule {
    Schedule::new(SET, "acme".to_owned(), ScopeSet::parse("data").unwrap())
}

fn fetched(text: &str, lifetime: Duration) -> Fetched {
    Fetched {
        text: text.into(),
        lifetime,
        expires: None,
        renew_at: None,
        origin: TokenOrigin::Domo,
        lifetime_source: LifetimeSource::Stated,
        granted: ScopeSet::parse("data").unwrap(),
    }
}

fn jitter(draw: f64, generation: u64) -> Jitter {
    Jitter { draw, generation }
}

fn request(wait: Duration, now: BootTime) -> TokenRequest {
    TokenRequest {
        min_ttl: None,
        deadline: now + wait,
        renew: None,
    }
}

fn denied(scope_only: bool) -> FetchError {
    FetchError::Denied {
        scope_only,
        in_domos_form: true,
        message: "Domo returned 401: Bad client credentials".to_owned(),
    }
}

fn replies(schedule: &mut Schedule) -> Vec<(u64, Reply)> {
    let commands = std::iter::from_fn(|| schedule.poll_command());
    commands
        .filter_map(|command| match command {
            Command::Reply(waiter, reply) => Some((waiter.0, reply)),
            Command::Fetch(..)
            | Command::Abort(_)
            | Command::Report(..)
            | Command::NotifyWatchers(_)
            | Command::Remove(_) => None,
        })
        .collect()
}

/// Returns a schedule whose first token, of generation 1, was requested and obtained at `START`.
fn fresh(lifetime: Duration) -> Schedule {
    let mut schedule = schedule();
    let fetch_id = schedule.start(jitter(0.5, 1), START);
    schedule.handle_requested(fetch_id, START);
    schedule.handle_fetched(fetch_id, Ok(fetched("first", lifetime)), START);
    assert!(replies(&mut schedule).is_empty());
    schedule
}

impl From<Answer> for Option<Reply> {
    fn from(answer: Answer) -> Self {
        match answer {
            Answer::Now(reply) => Some(reply),
            Answer::Later => None,
        }
    }
}

fn generation(reply: impl Into<Option<Reply>>) -> u64 {
    reply.into().unwrap().unwrap().validity().generation
}

fn refused(reply: impl Into<Option<Reply>>) -> Refusal {
    reply.into().unwrap().unwrap_err()
}

#[test]
fn callers_before_the_first_token_share_one_fetch() {
    let mut schedule = schedule();
    assert!(schedule.wants_fetch());
    let fetch_id = schedule.start(jitter(0.0, 1), START);
    assert!(!schedule.wants_fetch());
    for waiter in [1, 2] {
        let reply = schedule.request(WaiterId(waiter), &request(SECOND * 10, START), START);
        assert_eq!(reply, Answer::Later);
    }
    schedule.handle_fetched(fetch_id, Ok(fetched("first", HOUR)), START + SECOND);
    let replies = replies(&mut schedule);
    assert_eq!(replies.len(), 2);
    assert!(replies.iter().all(|(_, reply)| reply.is_ok()));
    assert!(!schedule.wants_fetch());
}

#[test]
fn lifetime_counts_from_before_the_request_was_sent() {
    let mut schedule = schedule();
    let fetch_id = schedule.start(jitter(0.0, 1), START);
    schedule.handle_fetched(fetch_id, Ok(fetched("first", HOUR)), START + SECOND * 15);
    assert_eq!(
        schedule.token(START).unwrap().validity().expires,
        START + HOUR
    );
}

#[test]
fn first_token_is_renewed_between_40_and_80_percent_of_its_lifetime() {
    assert_eq!(fresh(HOUR).poll_timeout(), Some(START + HOUR.mul_f64(0.6)));
}

#[test]
fn later_token_is_renewed_between_70_and_80_percent_of_its_lifetime() {
    let mut schedule = fresh(HOUR);
    let due = schedule.poll_timeout().unwrap();
    schedule.handle_timeout(due);
    let fetch_id = schedule.start(jitter(0.0, 2), due);
    schedule.handle_fetched(fetch_id, Ok(fetched("second", HOUR)), due);
    assert_eq!(schedule.poll_timeout(), Some(due + HOUR.mul_f64(0.7)));
}

#[test]
fn the_old_token_is_served_while_the_next_one_is_fetched() {
    let mut schedule = fresh(HOUR);
    let due = schedule.poll_timeout().unwrap();
    schedule.handle_timeout(due);
    assert!(schedule.wants_fetch());
    schedule.start(jitter(0.0, 2), due);
    assert_eq!(
        generation(schedule.request(WaiterId(1), &request(SECOND, due), due)),
        1
    );
}

#[test]
fn error_never_replaces_a_valid_token() {
    for error in [
        denied(false),
        FetchError::transient(Cause::Unusable, "garbage"),
    ] {
        let mut schedule = fresh(HOUR);
        let due = schedule.poll_timeout().unwrap();
        schedule.handle_timeout(due);
        let fetch_id = schedule.start(jitter(0.0, 2), due);
        schedule.handle_fetched(fetch_id, Err(error), due);
        assert_eq!(
            generation(schedule.request(WaiterId(1), &request(SECOND, due), due)),
            1
        );
    }
}

#[test]
fn expired_token_is_never_served_and_its_expiry_moves_no_attempt() {
    let mut schedule = fresh(HOUR);
    let due = schedule.poll_timeout().unwrap();
    schedule.handle_timeout(due);
    let fetch_id = schedule.start(jitter(0.0, 2), due);
    let error = FetchError::Transient {
        cause: Cause::RateLimited,
        message: "Domo returned 429".to_owned(),
        retry_after: Some(HOUR),
    };
    schedule.handle_fetched(fetch_id, Err(error), due);
    let expiry = START + HOUR;
    let refusal = refused(schedule.request(WaiterId(1), &request(SECOND, expiry), expiry));
    assert_eq!(refusal.kind, RefusalKind::Unavailable);
    assert_eq!(refusal.next_attempt, Some(due + HOUR));
    assert!(refusal.cause.contains("429"), "{}", refusal.cause);
    assert_eq!(schedule.poll_timeout(), Some(due + HOUR));
}

#[test]
fn token_about_to_expire_is_not_served() {
    let mut schedule = fresh(SECOND * 100);
    let due = schedule.poll_timeout().unwrap();
    schedule.handle_timeout(due);
    schedule.start(jitter(0.0, 2), due);
    let late = START + Duration::from_millis(99_500);
    assert_eq!(
        schedule.request(WaiterId(1), &request(SECOND, late), late),
        Answer::Later
    );
}

#[test]
fn waiting_caller_is_answered_by_its_deadline() {
    let mut schedule = schedule();
    schedule.start(jitter(0.0, 1), START);
    let deadline = START + SECOND * 2;
    assert_eq!(
        schedule.request(WaiterId(7), &request(SECOND * 2, START), START),
        Answer::Later
    );
    assert_eq!(schedule.poll_timeout(), Some(deadline));
    schedule.handle_timeout(deadline);
    let replies = replies(&mut schedule);
    assert!(
        matches!(&replies[..], [(7, Err(refusal))] if refusal.kind == RefusalKind::Unavailable)
    );
}

#[test]
fn request_without_a_response_times_out_and_is_repeated() {
    let mut schedule = schedule();
    let fetch_id = schedule.start(jitter(1.0, 1), START);
    let limit = START + SECOND * 20 + REQUEST_GRACE;
    assert_eq!(schedule.poll_timeout(), Some(limit), "after its own limit");
    schedule.handle_timeout(limit);
    assert_eq!(schedule.poll_command(), Some(Command::Abort(SET)));
    assert_eq!(schedule.poll_timeout(), Some(limit + BACKOFF_FIRST));
    let late = schedule.handle_fetched(fetch_id, Ok(fetched("late", HOUR)), limit);
    assert_eq!(late, Outcome::Ignored);
    assert!(schedule.token(limit).is_none());
}

#[test]
fn rejected_credentials_cause_no_request_for_five_minutes_despite_callers() {
    let mut schedule = schedule();
    let fetch_id = schedule.start(jitter(0.0, 1), START);
    schedule.handle_fetched(fetch_id, Err(denied(false)), START);
    let confirmed = START + CONFIRM_AFTER;
    schedule.handle_timeout(confirmed);
    let fetch_id = schedule.start(jitter(0.0, 2), confirmed);
    schedule.handle_fetched(fetch_id, Err(denied(false)), confirmed);
    let soon = confirmed + SECOND;
    let refusal = refused(schedule.request(WaiterId(1), &request(HOUR, soon), soon));
    assert_eq!(refusal.kind, RefusalKind::Denied);
    assert!(refusal.cause.contains("Bad client credentials"));
    assert!(!schedule.wants_fetch());
    assert_eq!(schedule.poll_timeout(), Some(confirmed + DENIED_RETRY));
}

#[test]
fn a_caller_whose_deadline_is_after_the_next_attempt_joins_it() {
    let mut schedule = schedule();
    let fetch_id = schedule.start(jitter(1.0, 1), START);
    let error = FetchError::transient(Cause::Server, "Domo returned 503");
    schedule.handle_fetched(fetch_id, Err(error), START);
    assert_eq!(
        schedule.request(WaiterId(1), &request(SECOND * 5, START), START),
        Answer::Later
    );
    let refusal = refused(schedule.request(WaiterId(2), &request(SECOND / 2, START), START));
    assert_eq!(refusal.next_attempt, Some(START + SECOND));
    let just = schedule.request(WaiterId(3), &request(SECOND, START), START);
    assert!(refused(just).next_attempt.is_some(), "no time is left then");
    let due = schedule.poll_timeout().unwrap();
    schedule.handle_timeout(due);
    let fetch_id = schedule.start(jitter(0.0, 2), due);
    schedule.handle_fetched(fetch_id, Ok(fetched("first", HOUR)), due);
    assert!(matches!(replies(&mut schedule)[..], [(1, Ok(_))]));
}

#[test]
fn min_ttl_above_any_lifetime_is_refused_with_the_longest_possible() {
    let mut schedule = fresh(HOUR);
    let mut request = request(SECOND, START);
    request.min_ttl = Some(HOUR + SECOND);
    let refusal = refused(schedule.request(WaiterId(1), &request, START));
    assert_eq!(refusal.kind, RefusalKind::MinTtlTooLong);
    assert!(refusal.cause.contains("3570 s"), "{}", refusal.cause);
}

#[test]
fn min_ttl_above_the_remaining_lifetime_moves_renewal_forward_to_the_floor() {
    let mut schedule = fresh(HOUR);
    let now = START + SECOND * 10;
    let mut request = request(SECOND * 60, now);
    request.min_ttl = Some(SECOND * 3570);
    request.deadline = now + SECOND * 60;
    // Now the token is valid for long enough; 21 seconds later it is not.
    assert_eq!(generation(schedule.request(WaiterId(1), &request, now)), 1);
    let now = START + SECOND * 31;
    request.deadline = now + SECOND * 60;
    assert_eq!(schedule.request(WaiterId(2), &request, now), Answer::Later);
    assert!(schedule.wants_fetch());
}

#[test]
fn rejected_generation_that_was_replaced_causes_no_request() {
    let mut schedule = fresh(HOUR);
    let mut request = request(SECOND, START);
    request.renew = Some(Renew::Rejected(99));
    assert_eq!(
        generation(schedule.request(WaiterId(1), &request, START)),
        1
    );
    assert!(!schedule.wants_fetch());
}

#[test]
fn callers_that_reject_the_current_token_share_one_fetch_at_the_floor() {
    let mut schedule = fresh(HOUR);
    let now = START + SECOND;
    let mut request = request(SECOND * 60, now);
    request.renew = Some(Renew::Rejected(1));
    for waiter in 1..=50 {
        assert_eq!(
            schedule.request(WaiterId(waiter), &request, now),
            Answer::Later
        );
    }
    let due = schedule.poll_timeout().unwrap();
    assert_eq!(due, START + floor(HOUR));
    schedule.handle_timeout(due);
    let fetch_id = schedule.start(jitter(0.0, 2), due);
    schedule.handle_fetched(fetch_id, Ok(fetched("second", HOUR)), due);
    let replies = replies(&mut schedule);
    assert_eq!(replies.len(), 50);
    for (_, reply) in replies {
        assert_eq!(generation(Some(reply)), 2);
    }
}

#[test]
fn renewal_without_a_generation_serves_a_token_younger_than_the_floor() {
    let mut schedule = fresh(HOUR);
    let young = START + floor(HOUR);
    let mut request = request(SECOND, young);
    request.renew = Some(Renew::Current);
    assert_eq!(
        generation(schedule.request(WaiterId(1), &request, young)),
        1
    );
    let old = young + SECOND;
    request.deadline = old + SECOND;
    assert_eq!(schedule.request(WaiterId(2), &request, old), Answer::Later);
    assert!(schedule.wants_fetch());
}

#[test]
fn reissued_token_keeps_its_generation_and_is_renewed_at_half_its_remaining_time() {
    let mut schedule = fresh(HOUR);
    let due = schedule.poll_timeout().unwrap();
    schedule.handle_timeout(due);
    let fetch_id = schedule.start(jitter(0.0, 2), due);
    schedule.handle_requested(fetch_id, due);
    let left = Duration::from_secs(1440);
    schedule.handle_fetched(fetch_id, Ok(fetched("first", left)), due);
    let validity = schedule.token(due).unwrap().validity();
    assert_eq!((validity.generation, validity.lifetime), (1, HOUR));
    assert_eq!(validity.expires, due + left);
    assert_eq!(schedule.poll_timeout(), Some(due + left / 2));
    assert_eq!(schedule.status("", due).requests, 2);
    let rejected = |wait| TokenRequest {
        renew: Some(Renew::Rejected(1)),
        ..request(wait, due)
    };
    let refusal = refused(schedule.request(WaiterId(1), &rejected(SECOND * 60), due));
    assert_eq!(refusal.kind, RefusalKind::Unavailable);
    assert!(refusal.cause.contains("same token"));
    assert_eq!(refusal.next_attempt, Some(due + left / 2));
    let just = schedule.request(WaiterId(3), &rejected(left / 2), due);
    assert!(refused(just).next_attempt.is_some(), "no time is left then");
    let patient = schedule.request(WaiterId(2), &rejected(HOUR), due);
    assert_eq!(patient, Answer::Later, "the next attempt is in time");
}

#[test]
fn token_expired_on_arrival_is_a_failure() {
    let mut schedule = schedule();
    let fetch_id = schedule.start(jitter(0.0, 1), START);
    let outcome =
        schedule.handle_fetched(fetch_id, Ok(fetched("slow", SECOND)), START + SECOND * 2);
    assert!(matches!(
        outcome,
        Outcome::Failed {
            cause: Cause::Unusable,
            ..
        }
    ));
    assert!(schedule.token(START + SECOND * 2).is_none());
}

#[test]
fn suspend_is_applied_before_anything_is_served() {
    let mut schedule = fresh(HOUR);
    let after = START + HOUR * 2;
    assert_eq!(
        schedule.request(WaiterId(1), &request(SECOND, after), after),
        Answer::Later
    );
    assert!(schedule.wants_fetch());
}

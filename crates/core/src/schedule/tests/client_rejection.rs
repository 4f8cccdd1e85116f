//! The first rejection of a client after a success or new credentials is confirmed by one more request.

use super::*;
use domo_token_protocol::messages::ScopeState;

/// Returns a schedule whose first request was rejected at `START`.
fn rejected() -> Schedule {
    let mut schedule = schedule();
    assert_eq!(reject(&mut schedule, START), Rejected::ClientUnconfirmed);
    schedule
}

/// Sends the request that is due and has it rejected.
fn reject(schedule: &mut Schedule, now: BootTime) -> Rejected {
    schedule.handle_timeout(now);
    assert!(schedule.wants_fetch());
    let fetch_id = schedule.start(jitter(0.5, 1), now);
    let outcome = schedule.handle_fetched(fetch_id, Err(denied(false)), now);
    let Outcome::Denied { rejected, .. } = outcome else {
        panic!("{outcome:?}");
    };
    rejected
}

fn fetch(schedule: &mut Schedule, result: Result<Fetched, FetchError>, now: BootTime) {
    schedule.handle_timeout(now);
    assert!(schedule.wants_fetch());
    let fetch_id = schedule.start(jitter(0.5, 1), now);
    schedule.handle_fetched(fetch_id, result, now);
}

#[test]
fn first_rejection_is_confirmed_after_five_seconds_and_then_counts_for_five_minutes() {
    let mut schedule = rejected();
    let confirm_at = START + CONFIRM_AFTER;
    assert_eq!(schedule.poll_timeout(), Some(confirm_at));
    assert_eq!(schedule.status("", START).state, ScopeState::Denied);
    assert_eq!(reject(&mut schedule, confirm_at), Rejected::Client);
    let retry_at = confirm_at + DENIED_RETRY;
    assert_eq!(schedule.poll_timeout(), Some(retry_at));
    assert_eq!(reject(&mut schedule, retry_at), Rejected::Client);
    assert_eq!(schedule.poll_timeout(), Some(retry_at + DENIED_RETRY));
}

#[test]
fn caller_waits_for_the_confirmation_if_its_deadline_allows_and_is_denied_otherwise() {
    let mut schedule = rejected();
    let impatient = schedule.request(WaiterId(1), &request(CONFIRM_AFTER, START), START);
    let refusal = refused(impatient);
    assert_eq!(refusal.kind, RefusalKind::Denied);
    assert!(refusal.cause.contains("Bad client credentials"));
    assert_eq!(refusal.next_attempt, Some(START + CONFIRM_AFTER));
    let joins = schedule.request(WaiterId(2), &request(SECOND * 10, START), START);
    assert_eq!(joins, Answer::Later);
    assert!(!schedule.wants_fetch(), "a caller starts nothing");
    let confirm_at = START + CONFIRM_AFTER;
    fetch(&mut schedule, Ok(fetched("first", HOUR)), confirm_at);
    assert!(matches!(replies(&mut schedule)[..], [(2, Ok(_))]));
}

#[test]
fn caller_that_waits_is_denied_by_a_rejected_confirmation() {
    let mut schedule = rejected();
    assert_eq!(
        schedule.request(WaiterId(1), &request(SECOND * 10, START), START),
        Answer::Later
    );
    reject(&mut schedule, START + CONFIRM_AFTER);
    let replies = replies(&mut schedule);
    assert!(
        matches!(&replies[..], [(1, Err(refusal))] if refusal.kind == RefusalKind::Denied),
        "{replies:?}"
    );
}

#[test]
fn caller_whose_deadline_passes_during_the_confirmation_gets_domos_message() {
    let mut schedule = rejected();
    assert_eq!(
        schedule.request(WaiterId(1), &request(SECOND * 10, START), START),
        Answer::Later
    );
    let confirm_at = START + CONFIRM_AFTER;
    schedule.handle_timeout(confirm_at);
    schedule.start(jitter(0.5, 1), confirm_at);
    schedule.handle_timeout(START + SECOND * 10);
    let refusal = refused(replies(&mut schedule).pop().map(|(_, reply)| reply));
    assert_eq!(refusal.kind, RefusalKind::Denied);
    assert!(refusal.cause.contains("Bad client credentials"));
}

#[test]
fn confirmation_that_fails_otherwise_backs_off_and_the_next_rejection_counts() {
    let mut schedule = rejected();
    let confirm_at = START + CONFIRM_AFTER;
    let busy = Err(FetchError::transient(Cause::Server, "Domo returned 503"));
    fetch(&mut schedule, busy, confirm_at);
    let soon = schedule.request(WaiterId(1), &request(SECOND, confirm_at), confirm_at);
    assert_eq!(refused(soon).kind, RefusalKind::Unavailable);
    let retry_at = schedule.poll_timeout().unwrap();
    assert!(retry_at <= confirm_at + BACKOFF_FIRST * 2);
    assert_eq!(reject(&mut schedule, retry_at), Rejected::Client);
    assert_eq!(schedule.poll_timeout(), Some(retry_at + DENIED_RETRY));
}

#[test]
fn rejection_is_confirmed_after_a_success_or_new_credentials_but_not_after_a_reload() {
    let mut schedule = rejected();
    let confirm_at = START + CONFIRM_AFTER;
    fetch(&mut schedule, Ok(fetched("first", HOUR)), confirm_at);
    let due = schedule.poll_timeout().unwrap();
    assert_eq!(reject(&mut schedule, due), Rejected::ClientUnconfirmed);
    schedule.new_credentials(due);
    assert_eq!(reject(&mut schedule, due), Rejected::ClientUnconfirmed);
    schedule.reload(due);
    assert_eq!(reject(&mut schedule, due), Rejected::Client);
    schedule.reload(due);
    assert_eq!(reject(&mut schedule, due), Rejected::Client);
}

#[test]
fn confirmations_do_not_count_as_changes_of_credentials() {
    let mut schedule = schedule();
    for _change in 0..CHANGES_IN_A_ROW {
        schedule.new_credentials(START);
        assert_eq!(reject(&mut schedule, START), Rejected::ClientUnconfirmed);
    }
    let confirm_at = START + CONFIRM_AFTER;
    assert_eq!(reject(&mut schedule, confirm_at), Rejected::Client);
    schedule.new_credentials(confirm_at);
    assert_eq!(schedule.poll_timeout(), Some(START + CHANGE_INTERVAL));
}

#[test]
fn scope_set_decides_callers_alike_while_another_one_confirms_the_client() {
    let mut schedule = schedule();
    let until = START + CONFIRM_AFTER;
    schedule.await_confirmation("Domo returned 401", Some(until), START);
    let joins = schedule.request(WaiterId(1), &request(SECOND * 10, START), START);
    assert_eq!(joins, Answer::Later);
    let refusal = refused(schedule.request(WaiterId(2), &request(SECOND, START), START));
    assert_eq!(refusal.kind, RefusalKind::Denied);
    schedule.handle_timeout(until);
    assert!(!schedule.wants_fetch(), "the other one requests");
    // The other one's request fails, and is repeated after the deadline of the caller.
    schedule.update_block(Some(START + SECOND * 20), until);
    let refusal = refused(replies(&mut schedule).pop().map(|(_, reply)| reply));
    assert_eq!(refusal.kind, RefusalKind::Denied);
    assert_eq!(refusal.next_attempt, Some(START + SECOND * 20));
}

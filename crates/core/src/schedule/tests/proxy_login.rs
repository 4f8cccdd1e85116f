//! The proxy rejects the login of the scope set's client.

use super::*;
use domo_token_protocol::messages::ScopeState;

const MESSAGE: &str = "the proxy returned 407; fix proxy_auth_file";

fn login_rejected() -> FetchError {
    FetchError::ProxyLogin {
        message: MESSAGE.to_owned(),
    }
}

#[test]
fn rejected_login_denies_callers_with_the_proxys_message_and_the_next_attempt() {
    let mut schedule = schedule();
    let fetch_id = schedule.start(jitter(0.5, 1), START);
    let waits = schedule.request(WaiterId(1), &request(SECOND * 600, START), START);
    assert_eq!(waits, Answer::Later);
    schedule.handle_fetched(fetch_id, Err(login_rejected()), START);
    let until = START + DENIED_RETRY;
    let refusal = refused(replies(&mut schedule).pop().map(|(_, reply)| reply));
    assert_eq!(refusal.kind, RefusalKind::Denied);
    assert!(refusal.cause.contains(MESSAGE), "{}", refusal.cause);
    assert_eq!(refusal.next_attempt, Some(until));
    let status = schedule.status("", START);
    assert_eq!(status.state, ScopeState::Denied);
    assert_eq!(status.next_attempt, Some(until));
    assert_eq!(status.last_error.as_deref(), Some(MESSAGE));
    assert!(schedule.wants_fetch(), "as soon as the login may be tried");
}

#[test]
fn valid_token_is_served_while_the_login_is_rejected() {
    let mut schedule = fresh(HOUR);
    schedule.reject_login(MESSAGE, START + DENIED_RETRY, START);
    let reply = schedule.request(WaiterId(1), &request(SECOND, START), START);
    assert_eq!(generation(reply), 1);
    let expired = START + HOUR;
    schedule.reject_login(MESSAGE, expired + DENIED_RETRY, expired - SECOND);
    let refusal = refused(schedule.request(WaiterId(2), &request(HOUR, expired), expired));
    assert_eq!(refusal.kind, RefusalKind::Denied);
    schedule.accept_login(expired);
    let joins = schedule.request(WaiterId(3), &request(HOUR, expired), expired);
    assert_eq!(joins, Answer::Later);
    assert!(schedule.wants_fetch());
}

#[test]
fn rejection_by_the_proxy_is_no_error_of_the_credentials() {
    let mut schedule = fresh(HOUR);
    schedule.new_credentials(START);
    let fetch_id = schedule.start(jitter(0.5, 1), START);
    let error = |schedule: &Schedule| {
        let status = schedule.status("", START);
        assert!(status.expires.is_some() && status.last_error.is_some());
        status.credentials_error
    };
    schedule.handle_fetched(fetch_id, Err(login_rejected()), START);
    assert_eq!(error(&schedule), None);
    schedule.accept_login(START);
    let fetch_id = schedule.start(jitter(0.5, 1), START);
    schedule.handle_fetched(
        fetch_id,
        Err(failure_reports::transient(Cause::Server)),
        START,
    );
    assert!(error(&schedule).is_some());
}

#[test]
fn login_rejected_through_another_set_is_not_reported_twice() {
    let mut schedule = schedule();
    let fetch_id = schedule.start(jitter(0.5, 1), START);
    schedule.reject_login(MESSAGE, START + DENIED_RETRY, START);
    let outcome = schedule.handle_fetched(fetch_id, Err(login_rejected()), START + SECOND);
    assert!(failure_reports::is_known(&outcome));
    let next = schedule.status("", START + SECOND).next_attempt;
    assert_eq!(next, Some(START + DENIED_RETRY), "as for the other set");
}

#[test]
fn caller_whose_deadline_passes_while_the_login_is_tried_gets_the_proxys_message() {
    let mut schedule = schedule();
    schedule.reject_login(MESSAGE, START + DENIED_RETRY, START);
    let due = START + DENIED_RETRY;
    let joins = schedule.request(WaiterId(1), &request(SECOND, due), due);
    assert_eq!(joins, Answer::Later, "another set tries it");
    schedule.handle_timeout(due + SECOND);
    let refusal = refused(replies(&mut schedule).pop().map(|(_, reply)| reply));
    assert_eq!(refusal.kind, RefusalKind::Denied);
    assert!(refusal.cause.contains(MESSAGE));
}

//! A client whose credentials are not loaded.

use domo_token_protocol::messages::ScopeState;

use super::*;

#[test]
fn caller_waits_while_the_client_is_loaded_and_is_served_after() {
    let mut schedule = schedule();
    schedule.set_loading(Some(Loading::Pending), START);
    assert!(!schedule.wants_fetch());
    let reply = schedule.request(WaiterId(1), &request(SECOND, START), START);
    assert_eq!(reply, Answer::Later);
    assert_eq!(schedule.status("", START).state, ScopeState::Idle);
    schedule.set_loading(None, START);
    assert!(schedule.wants_fetch());
    assert_eq!(schedule.poll_command(), None, "it goes on waiting");
    let fetch_id = schedule.start(jitter(0.0, 1), START);
    schedule.handle_fetched(fetch_id, Ok(fetched("token", HOUR)), START);
    let replies = replies(&mut schedule);
    assert!(matches!(&replies[..], [(1, Ok(_))]), "{replies:?}");
}

#[test]
fn caller_of_a_client_that_failed_to_load_is_refused_by_whether_it_is_retried() {
    let later = START + SECOND * 30;
    for (retry_at, kind, state) in [
        (Some(later), RefusalKind::Unavailable, ScopeState::Waiting),
        (None, RefusalKind::UnknownClient, ScopeState::Denied),
    ] {
        let mut schedule = schedule();
        schedule.set_loading(Some(Loading::Pending), START);
        let reply = schedule.request(WaiterId(1), &request(SECOND, START), START);
        assert_eq!(reply, Answer::Later);
        schedule.set_loading(Some(Loading::Failed { retry_at }), START);
        let mut replies = replies(&mut schedule);
        let (_, reply) = replies.remove(0);
        let refusal = reply.unwrap_err();
        assert_eq!((refusal.kind, refusal.next_attempt), (kind, retry_at));
        assert_eq!(refusal.cause, "client \"acme\" could not be loaded");
        let again = schedule.request(WaiterId(2), &request(SECOND, START), START);
        assert_eq!(again, Answer::Now(Err(refusal.clone())));
        assert_eq!(schedule.watcher_reply(START), Some(Err(refusal)));
        let status = schedule.status("", START);
        assert_eq!((status.state, status.next_attempt), (state, retry_at));
        assert!(!schedule.wants_fetch());
    }
}

#[test]
fn restored_token_is_not_served_before_its_client_is_loaded() {
    let snapshot = fresh(HOUR).snapshot(START).unwrap();
    let mut after = schedule();
    after.set_loading(Some(Loading::Failed { retry_at: None }), START);
    let reply = after.request(WaiterId(1), &request(SECOND, START), START);
    assert!(matches!(reply, Answer::Now(Err(_))));
    after.resume(snapshot, START);
    after.set_loading(None, START);
    assert!(!after.wants_fetch());
    let reply = after.request(WaiterId(2), &request(SECOND, START), START);
    assert_eq!(generation(reply), 1);
}

//! Tokens over a restart of the daemon.

use super::*;

#[test]
fn snapshot_keeps_the_token_and_its_timer() {
    let before = fresh(HOUR);
    let snapshot = before.snapshot(START).unwrap();
    let mut after = schedule();
    after.resume(snapshot, START);
    let now = START + SECOND;
    assert!(!after.wants_fetch());
    assert_eq!(
        generation(after.request(WaiterId(1), &request(SECOND, now), now)),
        1
    );
    assert_eq!(after.poll_timeout(), before.poll_timeout());
}

#[test]
fn token_whose_renewal_was_in_flight_is_kept_and_renewed_immediately() {
    let mut before = fresh(HOUR);
    let due = before.poll_timeout().unwrap();
    before.handle_timeout(due);
    before.start(jitter(0.0, 2), due);
    let mut after = schedule();
    after.resume(before.snapshot(due).unwrap(), due);
    assert_eq!(after.poll_timeout(), Some(due));
    after.handle_timeout(due);
    assert!(after.wants_fetch());
    assert_eq!(after.token(due).unwrap().validity().generation, 1);
}

#[test]
fn failed_renewal_after_a_restart_is_no_error_of_new_credentials() {
    let mut before = fresh(HOUR);
    let due = before.poll_timeout().unwrap();
    before.handle_timeout(due);
    let failed = |schedule: &mut Schedule, now| {
        let fetch_id = schedule.start(jitter(0.0, 2), now);
        let error = FetchError::transient(Cause::Server, "503");
        schedule.handle_fetched(fetch_id, Err(error), now);
        schedule.status("", now).credentials_error
    };
    assert_eq!(failed(&mut before, due), None);
    let mut after = schedule();
    after.resume(before.snapshot(due).unwrap(), due);
    after.handle_timeout(due);
    assert_eq!(failed(&mut after, due), None);
    // With new ones there are, before a restart and after it.
    before.new_credentials(due);
    assert!(failed(&mut before, due).is_some());
    let mut after = schedule();
    after.resume(before.snapshot(due).unwrap(), due);
    assert!(after.wants_fetch(), "no floor holds them up");
    assert!(failed(&mut after, due).is_some());
}

#[test]
fn expired_token_is_not_in_the_snapshot() {
    assert_eq!(fresh(HOUR).snapshot(START + HOUR), None);
}

//! Reports of outages: their beginning, once, and their end.

use super::failure_reports::{attempt, is_known, transient};
use super::*;

fn reports(schedule: &mut Schedule) -> Vec<Outcome> {
    let commands = std::iter::from_fn(|| schedule.poll_command());
    commands
        .filter_map(|command| match command {
            Command::Report(_, outcome) => Some(outcome),
            Command::Fetch(..)
            | Command::Abort(_)
            | Command::Reply(..)
            | Command::NotifyWatchers(_)
            | Command::Remove(_) => None,
        })
        .collect()
}

/// Returns what callers get after a failed attempt or an expiry.
fn impact(outcome: &Outcome) -> CallerImpact {
    match outcome {
        Outcome::Denied { impact, .. }
        | Outcome::Failed { impact, .. }
        | Outcome::Expired { impact, .. } => *impact,
        Outcome::Ignored | Outcome::Obtained { .. } | Outcome::RejectedByDomo => {
            panic!("no failure: {outcome:?}")
        }
    }
}

fn no_token(duration: Duration, first: bool) -> CallerImpact {
    CallerImpact::NoToken { duration, first }
}

fn recovery(outcome: &Outcome) -> Option<Recovery> {
    let Outcome::Obtained { recovery, .. } = outcome else {
        panic!("{outcome:?}");
    };
    *recovery
}

/// Runs all attempts and timers until `end`; each attempt fails with `error`.
fn fail_until(schedule: &mut Schedule, end: BootTime, error: &FetchError) -> Vec<Outcome> {
    let mut outcomes = Vec::new();
    while let Some(due) = schedule.poll_timeout().filter(|due| *due <= end) {
        schedule.handle_timeout(due);
        if schedule.wants_fetch() {
            let fetch_id = schedule.start(jitter(0.5, 1), due);
            schedule.handle_fetched(fetch_id, Err(error.clone()), due);
        }
        outcomes.extend(reports(schedule));
    }
    schedule.handle_timeout(end);
    outcomes.extend(reports(schedule));
    outcomes
}

fn expiries(outcomes: &[Outcome]) -> Vec<&Outcome> {
    let is_expiry = |outcome: &&Outcome| matches!(outcome, Outcome::Expired { .. });
    outcomes.iter().filter(is_expiry).collect()
}

#[test]
fn failed_renewal_with_a_valid_token_reports_the_time_left() {
    let mut schedule = fresh(HOUR);
    let due = schedule.poll_timeout().unwrap();
    let outcome = attempt(&mut schedule, Err(transient(Cause::Server)));
    let left = (START + HOUR).saturating_since(due);
    assert_eq!(impact(&outcome), CallerImpact::TokenValid { left });
}

#[test]
fn expiry_without_a_successor_is_reported_once_when_it_happens() {
    for error in [
        transient(Cause::Connect),
        transient(Cause::Tls),
        denied(true),
    ] {
        let mut schedule = fresh(HOUR);
        let outcomes = fail_until(&mut schedule, START + HOUR * 2, &error);
        let at_expiry = outcomes
            .iter()
            .position(|outcome| matches!(impact(outcome), CallerImpact::NoToken { .. }));
        let (before, after) = outcomes.split_at(at_expiry.unwrap());
        assert!(before.len() > 1 && after.len() > 2, "{error:?}");
        assert!(
            matches!(after[0], Outcome::Expired { .. }),
            "{:?}",
            after[0]
        );
        assert_eq!(impact(&after[0]), no_token(Duration::ZERO, true));
        let later = &after[1..];
        let is_again = |outcome: &Outcome| {
            is_known(outcome)
                && matches!(impact(outcome), CallerImpact::NoToken { first: false, .. })
        };
        assert!(later.iter().all(is_again), "{later:?}");
    }
}

#[test]
fn first_token_that_fails_is_an_outage_since_its_request() {
    let mut schedule = schedule();
    let fetch_id = schedule.start(jitter(0.5, 1), START);
    let now = START + SECOND * 4;
    let outcome = schedule.handle_fetched(fetch_id, Err(transient(Cause::Server)), now);
    assert_eq!(impact(&outcome), no_token(SECOND * 4, true));
    assert_eq!(reports(&mut schedule).len(), 1);
    let later = fail_until(&mut schedule, now + HOUR, &transient(Cause::Timeout));
    assert!(later.iter().all(is_known), "{later:?}");
}

#[test]
fn expiry_with_the_first_request_under_way_is_reported_if_that_fails() {
    let mut schedule = fresh(HOUR);
    let due = schedule.poll_timeout().unwrap();
    schedule.handle_timeout(due);
    let fetch_id = schedule.start(jitter(0.5, 2), due);
    // Suspended over the expiry.
    let now = START + HOUR + SECOND * 60;
    let mut answered = fresh(HOUR);
    answered.handle_timeout(due);
    let answered_round = answered.start(jitter(0.5, 2), due);
    let outcome = schedule.handle_fetched(fetch_id, Err(transient(Cause::Connect)), now);
    assert_eq!(impact(&outcome), no_token(SECOND * 60, true));
    let outcome = answered.handle_fetched(answered_round, Ok(fetched("second", HOUR)), now);
    assert_eq!(recovery(&outcome), None);
}

#[test]
fn suspend_over_renewal_and_expiry_reports_nothing_unless_the_next_request_fails() {
    let mut schedule = fresh(HOUR);
    let now = START + HOUR * 3;
    schedule.handle_timeout(now);
    assert_eq!(reports(&mut schedule), []);
    assert!(schedule.wants_fetch());
    let fetch_id = schedule.start(jitter(0.5, 2), now);
    let outcome = schedule.handle_fetched(fetch_id, Err(transient(Cause::Connect)), now + SECOND);
    assert_eq!(impact(&outcome), no_token(HOUR * 2 + SECOND, true));
}

#[test]
fn suspend_over_the_expiry_after_a_failed_renewal_reports_the_time_of_expiry() {
    let mut schedule = fresh(HOUR);
    attempt(&mut schedule, Err(transient(Cause::Server)));
    reports(&mut schedule);
    schedule.handle_timeout(START + HOUR * 3);
    let outcomes = reports(&mut schedule);
    let [expired] = outcomes.as_slice() else {
        panic!("{outcomes:?}");
    };
    assert_eq!(impact(expired), no_token(HOUR * 2, true));
}

#[test]
fn expiry_while_the_renewal_is_queued_is_reported() {
    let mut schedule = fresh(HOUR);
    let due = schedule.poll_timeout().unwrap();
    schedule.handle_timeout(due);
    schedule.handle_timeout(due + SECOND);
    reports(&mut schedule);
    schedule.handle_timeout(START + HOUR);
    schedule.handle_timeout(START + HOUR + SECOND);
    let expected = Outcome::Expired {
        cause: OutageCause::Queued,
        impact: no_token(Duration::ZERO, true),
    };
    assert_eq!(reports(&mut schedule), [expected]);
}

#[test]
fn expiry_while_new_credentials_wait_is_reported_with_what_they_wait_for() {
    let mut held = fresh(HOUR);
    let end = START + HOUR;
    for second in (1..8).rev() {
        let now = end - SECOND * second;
        held.new_credentials(now);
        if held.wants_fetch() {
            held.start(jitter(0.5, 2), now);
        }
    }
    assert!(!held.wants_fetch());
    let mut awaiting = fresh(HOUR);
    awaiting.new_credentials(end - SECOND);
    awaiting.await_credential_check(true);
    for (mut schedule, cause) in [
        (held, OutageCause::ChangeLimit),
        (awaiting, OutageCause::AwaitsCredentialCheck),
    ] {
        reports(&mut schedule);
        schedule.handle_timeout(end);
        let impact = no_token(Duration::ZERO, true);
        let expected = Outcome::Expired { cause, impact };
        assert_eq!(reports(&mut schedule), [expected]);
    }
}

#[test]
fn first_request_that_is_queued_is_no_outage() {
    let mut schedule = schedule();
    schedule.handle_timeout(START);
    schedule.handle_timeout(START + HOUR);
    assert_eq!(reports(&mut schedule), []);
}

#[test]
fn recovery_reports_attempts_and_how_long_callers_were_affected() {
    let mut schedule = fresh(HOUR);
    let first_failure = schedule.poll_timeout().unwrap();
    fail_until(
        &mut schedule,
        START + HOUR * 2,
        &transient(Cause::RateLimited),
    );
    let attempts = schedule.failures + 1;
    let now = schedule.poll_timeout().unwrap();
    let outcome = attempt(&mut schedule, Ok(fetched("second", HOUR)));
    let expected = Recovery {
        attempts,
        failing: now.saturating_since(first_failure),
        outage: now.saturating_since(START + HOUR),
    };
    assert_eq!(recovery(&outcome), Some(expected));

    let first_failure = schedule.poll_timeout().unwrap();
    attempt(&mut schedule, Err(transient(Cause::Server)));
    let now = schedule.poll_timeout().unwrap();
    let outcome = attempt(&mut schedule, Ok(fetched("third", HOUR)));
    let expected = Recovery {
        attempts: 2,
        failing: now.saturating_since(first_failure),
        outage: Duration::ZERO,
    };
    assert_eq!(recovery(&outcome), Some(expected), "a token was valid");
    let outcome = attempt(&mut schedule, Ok(fetched("fourth", HOUR)));
    assert_eq!(recovery(&outcome), None);
}

#[test]
fn outage_is_reported_again_when_new_credentials_do_not_end_it() {
    let mut schedule = fresh(HOUR);
    fail_until(&mut schedule, START + HOUR * 2, &denied(true));
    let mut now = START + HOUR * 2;
    for (change, is_first) in [
        (Schedule::reload as fn(&mut Schedule, BootTime), false),
        (Schedule::new_credentials, true),
    ] {
        now = now + SECOND * 60;
        change(&mut schedule, now);
        schedule.handle_timeout(now);
        assert_eq!(reports(&mut schedule), [], "before the request");
        let fetch_id = schedule.start(jitter(0.5, 1), now);
        let outcome = schedule.handle_fetched(fetch_id, Err(denied(true)), now);
        let duration = now.saturating_since(START + HOUR);
        assert_eq!(impact(&outcome), no_token(duration, is_first));
        assert_eq!(is_known(&outcome), !is_first);
        let later = fail_until(&mut schedule, now + SECOND * 30, &denied(true));
        assert!(expiries(&later).is_empty(), "{later:?}");
    }
    let fetch_id = {
        schedule.new_credentials(now);
        schedule.start(jitter(0.5, 1), now)
    };
    let outcome = schedule.handle_fetched(fetch_id, Ok(fetched("second", HOUR)), now);
    let recovery = recovery(&outcome).unwrap();
    assert_eq!(recovery.outage, now.saturating_since(START + HOUR));
}

#[test]
fn old_token_of_new_credentials_that_fail_is_reported_at_its_expiry() {
    let mut schedule = fresh(HOUR);
    let now = START + SECOND;
    schedule.new_credentials(now);
    let fetch_id = schedule.start(jitter(0.5, 2), now);
    let outcome = schedule.handle_fetched(fetch_id, Err(transient(Cause::Server)), now);
    assert!(matches!(impact(&outcome), CallerImpact::TokenValid { .. }));
    let outcomes = fail_until(&mut schedule, START + HOUR, &transient(Cause::Server));
    assert_eq!(expiries(&outcomes).len(), 1);
}

#[test]
fn restored_token_is_reported_at_its_expiry() {
    let snapshot = fresh(HOUR).snapshot(START).unwrap();
    let mut schedule = schedule();
    schedule.resume(snapshot, START + SECOND);
    let outcomes = fail_until(&mut schedule, START + HOUR, &transient(Cause::Server));
    assert_eq!(expiries(&outcomes).len(), 1);
}

#[test]
fn client_that_is_not_loaded_is_not_reported_here() {
    for retry_at in [None, Some(START + HOUR)] {
        let mut schedule = schedule();
        schedule.set_loading(Some(Loading::Failed { retry_at }), START);
        schedule.handle_timeout(START + HOUR);
        assert_eq!(reports(&mut schedule), []);
    }
}

#[test]
fn rejection_of_the_client_is_reported_for_a_set_without_a_token_and_at_the_expiry_of_one() {
    let expired = |impact| Outcome::Expired {
        cause: OutageCause::ClientDenied,
        impact,
    };
    let mut without = schedule();
    without.block("Domo returned 401", None, false, START);
    let outcomes = reports(&mut without);
    assert_eq!(outcomes, [expired(no_token(Duration::ZERO, true))]);
    let mut with = fresh(HOUR);
    reports(&mut with);
    with.block("Domo returned 401", None, false, START);
    assert_eq!(reports(&mut with), []);
    with.handle_timeout(START + HOUR);
    let outcomes = reports(&mut with);
    assert_eq!(outcomes, [expired(no_token(Duration::ZERO, true))]);
}

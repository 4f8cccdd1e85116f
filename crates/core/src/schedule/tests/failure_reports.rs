//! Reports of failed renewals: a change once, a repetition as such.

use super::*;

/// Returns whether a failure of that kind was reported before.
pub(super) fn is_known(outcome: &Outcome) -> bool {
    match outcome {
        Outcome::Denied { repeated, .. } | Outcome::Failed { repeated, .. } => *repeated,
        Outcome::Ignored
        | Outcome::Obtained { .. }
        | Outcome::RejectedByDomo
        | Outcome::Expired { .. } => panic!("no failure: {outcome:?}"),
    }
}

pub(super) fn attempt(schedule: &mut Schedule, result: Result<Fetched, FetchError>) -> Outcome {
    let now = schedule.poll_timeout().unwrap_or(START);
    schedule.handle_timeout(now);
    assert!(schedule.wants_fetch());
    let fetch_id = schedule.start(jitter(0.5, 1), now);
    schedule.handle_fetched(fetch_id, result, now)
}

fn fails(schedule: &mut Schedule, error: FetchError) -> bool {
    is_known(&attempt(schedule, Err(error)))
}

pub(super) fn transient(cause: Cause) -> FetchError {
    FetchError::transient(cause, "no")
}

#[test]
fn failure_of_each_kind_is_reported_once_until_a_success() {
    let mut schedule = schedule();
    let steps = [
        (transient(Cause::Server), false),
        (transient(Cause::Connect), true),
        (denied(false), false),
        // Its confirmation is reported, too.
        (denied(false), false),
        (denied(false), true),
        (transient(Cause::Tls), false),
        (transient(Cause::NotFound), true),
        (transient(Cause::Timeout), true),
        (denied(true), true),
    ];
    for (number, (error, quiet)) in steps.into_iter().enumerate() {
        assert_eq!(fails(&mut schedule, error), quiet, "step {number}");
    }
    attempt(&mut schedule, Ok(fetched("first", HOUR)));
    assert!(!fails(&mut schedule, denied(true)), "after a success");
}

#[test]
fn failure_after_new_credentials_or_with_a_new_message_after_a_reload_is_reported_again() {
    let mut schedule = schedule();
    assert!(!fails(&mut schedule, denied(false)));
    schedule.reload(START);
    assert!(!fails(&mut schedule, denied(false)), "the confirmation");
    schedule.reload(START);
    assert!(fails(&mut schedule, denied(false)), "the same message");
    assert!(fails(&mut schedule, denied_because("locked")), "no reload");
    schedule.reload(START);
    assert!(!fails(&mut schedule, denied_because("locked")));
    schedule.reload(START);
    assert!(fails(&mut schedule, denied_because("locked (toe A1)")));
    schedule.reload(START);
    assert!(fails(&mut schedule, denied_because("locked (toe B2)")));
    assert!(!fails(&mut schedule, transient(Cause::Server)));
    schedule.new_credentials(START);
    assert!(!fails(&mut schedule, denied_because("locked")));
}

fn denied_because(message: &str) -> FetchError {
    FetchError::Denied {
        scope_only: false,
        in_domos_form: true,
        message: message.to_owned(),
    }
}

#[test]
fn rejection_through_another_scope_set_is_reported_once() {
    let mut schedule = schedule();
    let fetch_id = schedule.start(jitter(0.5, 1), START);
    schedule.block("Domo returned 401", None, false, START);
    let outcome = schedule.handle_fetched(fetch_id, Err(denied(false)), START);
    assert!(is_known(&outcome));
}

#[test]
fn short_and_odd_lifetimes_are_reported_once_whenever_they_begin() {
    let mut schedule = schedule();
    let warnings = |outcome| {
        let Outcome::Obtained {
            unexpected_lifetime,
            short,
            ..
        } = outcome
        else {
            panic!("{outcome:?}");
        };
        (unexpected_lifetime, short)
    };
    let odd = |text: &str, lifetime_source| Fetched {
        lifetime_source,
        ..fetched(text, SECOND * 300)
    };
    let (assumed, stated) = (LifetimeSource::Assumed, HOUR * 1000);
    let capped = LifetimeSource::Capped { stated };
    let by_itself = |stated| LifetimeSource::OwnExpiry { stated };
    let steps = [
        (fetched("1", HOUR), (None, false)),
        (fetched("2", SECOND * 20), (None, false)),
        (fetched("3", SECOND * 19), (None, true)),
        (odd("4", assumed), (Some(assumed), false)),
        (fetched("5", SECOND * 5), (None, false)),
        (odd("6", assumed), (None, false)),
        (odd("7", capped), (Some(capped), false)),
        (
            odd("8", by_itself(stated)),
            (Some(by_itself(stated)), false),
        ),
        (odd("9", by_itself(HOUR)), (None, false)),
        (odd("10", capped), (None, false)),
    ];
    for (step, (answer, expected)) in steps.into_iter().enumerate() {
        let outcome = attempt(&mut schedule, Ok(answer));
        assert_eq!(warnings(outcome), expected, "step {step}");
    }
}

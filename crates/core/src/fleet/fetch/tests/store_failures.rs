//! What a host does when the store fails.

use super::*;

#[test]
fn failure_of_the_store_postpones_a_renewal_once_and_leaves_time_for_two_requests() {
    let left = SECOND * 900;
    let (mut run, _) = Run::start(occasion(Some(held("old", HOUR, left))));
    let first = end(run.store_failed(START));
    let Fetch::Postponed(at) = first.fetch else {
        panic!("not postponed");
    };
    assert!(at <= START + left - SECOND * 180, "{at}");
    for may_look in [true, false] {
        let again = occasion(Some(held("old", HOUR, SECOND * 900)));
        let (mut run, step) = Run::start_with(again, first.memory, may_look);
        let step = if may_look { run.store_failed(at) } else { step };
        assert!(matches!(step, Step::Request { is_extended: false }));
    }
}

#[test]
fn failure_of_the_store_delays_a_host_without_a_token_by_at_most_three_seconds() {
    let (mut run, step) = Run::start_with(occasion(None), SetMemory::default(), false);
    let Step::WaitAlone(until) = step else {
        panic!("{step:?}");
    };
    assert!(until <= START + SECOND * 3);
    assert!(matches!(
        run.fetch.waited(),
        Step::Request { is_extended: false }
    ));
}

#[test]
fn failure_of_the_store_delays_nothing_if_callers_wait_after_a_reload_or_with_a_short_lived_token()
{
    let urgent = Occasion {
        is_urgent: true,
        ..occasion(Some(held("old", HOUR, SECOND * 900)))
    };
    let reloaded = Occasion {
        ignores_notes: true,
        ..occasion(Some(held("old", HOUR, SECOND * 900)))
    };
    let short = occasion(Some(held("old", SECOND * 299, SECOND * 100)));
    for occasion in [urgent, reloaded, short] {
        let (mut run, _) = Run::start(occasion);
        let step = run.store_failed(START);
        assert!(
            matches!(step, Step::Request { is_extended: false }),
            "{step:?}"
        );
    }
}

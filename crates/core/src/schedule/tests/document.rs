//! `docs/architecture.md` against the code: the states, their transitions and the numbers.

use std::collections::BTreeSet;

use domo_token_protocol::messages::ScopeState;

use super::*;
use crate::schedule::timing::{
    FLOOR_MAX, FLOOR_MIN, FLOOR_PART, MIN_LEFT_MAX, REQUEST_MAX, REQUEST_MIN,
};

const DOCUMENT: &str = include_str!("../../../../../docs/architecture.md");

/// Returns name and value of each constant, as the document shows them.
fn constants() -> BTreeSet<(String, String)> {
    let spans = [
        ("FLOOR_MIN", FLOOR_MIN),
        ("FLOOR_MAX", FLOOR_MAX),
        ("MIN_LEFT_MAX", MIN_LEFT_MAX),
        ("BACKOFF_FIRST", BACKOFF_FIRST),
        ("BACKOFF_MAX", BACKOFF_MAX),
        ("RETRY_AFTER_MAX", RETRY_AFTER_MAX),
        ("DENIED_RETRY", DENIED_RETRY),
        ("CONFIRM_AFTER", CONFIRM_AFTER),
        ("REQUEST_MAX", REQUEST_MAX),
        ("REQUEST_MIN", REQUEST_MIN),
        ("CHANGE_INTERVAL", CHANGE_INTERVAL),
        ("FLEET_WAIT", FLEET_WAIT),
    ];
    let spans = spans.map(|(name, span)| (name, format!("{} s", span.as_secs())));
    let counts = [
        ("REQUEST_GRACE", format!("{} ms", REQUEST_GRACE.as_millis())),
        ("FLOOR_PART", FLOOR_PART.to_string()),
        ("CHANGES_IN_A_ROW", CHANGES_IN_A_ROW.to_string()),
    ];
    let all = spans.into_iter().chain(counts);
    all.map(|(name, value)| (name.to_owned(), value)).collect()
}

#[test]
fn document_lists_each_constant_with_its_value_and_no_other() {
    // The tests of the fleet compare its own.
    let (policy, _) = DOCUMENT.split_once("| `LEASE` |").unwrap();
    let rows = policy.lines().filter(|line| line.starts_with("| `"));
    let cells = rows.map(|row| row.split('|').map(str::trim).collect::<Vec<_>>());
    let documented: BTreeSet<(String, String)> = cells
        .filter(|cells| cells.len() == 5 && cells[1].chars().any(char::is_uppercase))
        .map(|cells| (cells[1].replace('`', ""), cells[2].to_owned()))
        // The scheduler's tests compare these.
        .filter(|(name, _)| !name.starts_with("MAX_IN_FLIGHT") && name != "LOGIN_WORKS")
        .collect();
    assert_eq!(documented, constants());
}

#[test]
fn document_states_the_fractions_of_the_lifetime_for_renewal() {
    let part = |first, draw| timing::renew_after(HOUR, HOUR, first, draw).as_secs_f64() / 3600.0;
    for first in [true, false] {
        let range = format!("{:.2}–{:.2}", part(first, 0.0), part(first, 1.0));
        assert!(DOCUMENT.contains(&range), "{range}");
    }
}

/// An observed transition, as in the diagram.
type Edge = (ScopeState, ScopeState);

fn state_named(name: &str) -> ScopeState {
    let all = [
        ScopeState::Idle,
        ScopeState::Fetching,
        ScopeState::Fresh,
        ScopeState::Waiting,
        ScopeState::Denied,
    ];
    let found = all.into_iter().find(|state| format!("{state:?}") == name);
    found.unwrap_or_else(|| panic!("no state {name}"))
}

fn diagram() -> BTreeSet<String> {
    let (states, _) = DOCUMENT.split_once("## A fetch with a fleet").unwrap();
    let lines = states.lines().filter(|line| line.contains("-->"));
    let edges = lines.filter(|line| !line.contains("[*]")).map(|line| {
        let (edge, _) = line.split_once(':').unwrap();
        let (from, to) = edge.split_once("-->").unwrap();
        shown((state_named(from.trim()), state_named(to.trim())))
    });
    edges.collect()
}

fn shown((from, to): Edge) -> String {
    format!("{from:?} --> {to:?}")
}

/// Returns the transitions of schedules to which random events happen, as status shows them.
fn seen_edges() -> BTreeSet<String> {
    let mut seen = BTreeSet::new();
    let mut rng = fastrand::Rng::with_seed(7);
    for _schedule in 0..200 {
        let mut schedule = schedule();
        let mut now = START;
        let mut state = schedule.status("", now).state;
        for step in 0..200 {
            assert_transitions(&mut schedule, &mut now, &mut rng, step);
            while schedule.poll_command().is_some() {}
            let next = schedule.status("", now).state;
            if next != state {
                seen.insert(shown((state, next)));
            }
            state = next;
        }
    }
    seen
}

/// One random event.
fn assert_transitions(
    schedule: &mut Schedule,
    now: &mut BootTime,
    rng: &mut fastrand::Rng,
    step: u64,
) {
    let fetch_id = schedule.fetch_id;
    match rng.u8(..9) {
        0 if schedule.wants_fetch() => {
            schedule.start(jitter(rng.f64(), step), *now);
        }
        1 => {
            let fetched = fetched(&format!("token {step}"), HOUR);
            schedule.handle_fetched(fetch_id, Ok(fetched), *now);
        }
        2 => {
            schedule.handle_fetched(fetch_id, Err(denied(true)), *now);
        }
        3 => {
            let error = FetchError::transient(Cause::Server, "503");
            schedule.handle_fetched(fetch_id, Err(error), *now);
        }
        4 => schedule.new_credentials(*now),
        7 => {
            let message = "407".to_owned();
            schedule.handle_fetched(fetch_id, Err(FetchError::ProxyLogin { message }), *now);
        }
        5 => schedule.reload(*now),
        6 => {
            let request = TokenRequest {
                renew: Some(Renew::Current),
                ..request(SECOND * 600, *now)
            };
            schedule.request(WaiterId(step), &request, *now);
        }
        _ => {
            *now = schedule.poll_timeout().unwrap_or(*now);
            schedule.handle_timeout(*now);
        }
    }
}

#[test]
fn diagram_shows_exactly_the_transitions_that_happen() {
    assert_eq!(seen_edges(), diagram());
}

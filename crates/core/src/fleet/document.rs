//! The constants in `docs/architecture.md` against the code.

use std::collections::BTreeSet;
use std::time::Duration;

use super::{breaker, clocks, fetch, notes, timing};

const DOCUMENT: &str = include_str!("../../../../docs/architecture.md");

fn seconds(span: Duration) -> String {
    format!("{} s", span.as_secs())
}

/// Returns name and value of each constant, as the document shows them.
fn constants() -> BTreeSet<(String, String)> {
    let span = |(from, to): (f64, f64)| format!("{from}–{to} s");
    let patience = format!("{}, plus up to half of it", seconds(timing::PATIENCE));
    let breaker = [breaker::FIRST, breaker::LONGEST].map(seconds).join(", ");
    let (from, to) = timing::LAST;
    let all = [
        ("LEASE", seconds(timing::LEASE)),
        ("SUSPECT_LEASE", seconds(timing::SUSPECT_LEASE)),
        ("EXTEND_EVERY", seconds(timing::EXTEND_EVERY)),
        ("PATIENCE", patience),
        ("HURRY", seconds(timing::HURRY)),
        ("LOOK_AGAIN", span(timing::LOOK_AGAIN)),
        ("SUSPECT_LOOKS_AGAIN", span(timing::SUSPECT_LOOKS_AGAIN)),
        ("COME_BACK", span(timing::COME_BACK)),
        ("LAST", format!("{from:.2}–{to:.2}")),
        ("ALONE_WITHIN", format!("{} s", timing::ALONE_WITHIN)),
        ("AFTER_NOTE", format!("{} s", timing::AFTER_NOTE)),
        ("NOTE_MAX", seconds(notes::NOTE_MAX)),
        ("AGREEMENT", seconds(notes::AGREEMENT)),
        ("KEPT_LONGER", seconds(notes::KEPT_LONGER)),
        ("FIRST, LONGEST", breaker),
        ("OUTLIVES_BY", seconds(fetch::OUTLIVES_BY)),
        ("AGREEMENT_MAX", seconds(clocks::AGREEMENT_MAX)),
        ("SHORTEST_SHARED", seconds(timing::SHORTEST_SHARED)),
        ("SHORTEST_POSTPONED", seconds(timing::SHORTEST_POSTPONED)),
    ];
    let owned = |(name, value): (&str, String)| (name.to_owned(), value);
    all.into_iter().map(owned).collect()
}

#[test]
fn document_lists_each_constant_of_the_fleet_with_its_value_and_no_other() {
    let start = DOCUMENT.find("| `LEASE` |").unwrap();
    let rows = DOCUMENT[start..]
        .lines()
        .take_while(|line| !line.is_empty());
    let cells = rows.map(|row| row.split('|').map(str::trim).collect::<Vec<_>>());
    let documented: BTreeSet<(String, String)> = cells
        .map(|cells| (cells[1].replace('`', ""), cells[2].to_owned()))
        .collect();
    assert_eq!(documented, constants());
}

//! Outages of a client with many scope sets: one report for all of them.

use super::*;
use crate::schedule::{Effect, OutageCause};

const HOUR: Duration = Duration::from_secs(3600);

/// What was reported as new to the operator: an outage, or a failure of another kind.
fn new_reports(roster: &mut Roster) -> Vec<(SetId, Outcome)> {
    let is_new = |outcome: &Outcome| match outcome {
        Outcome::Denied { effect, again, .. } | Outcome::Failed { effect, again, .. } => {
            !again || matches!(effect, Effect::NoToken { first: true, .. })
        }
        Outcome::Expired { effect, .. } => matches!(effect, Effect::NoToken { first: true, .. }),
        Outcome::Ignored | Outcome::RefusedInUse | Outcome::Obtained { .. } => false,
    };
    let commands = std::iter::from_fn(|| roster.poll_command());
    commands
        .filter_map(|command| match command {
            Command::Report(set, outcome) if is_new(&outcome) => Some((set, outcome)),
            Command::Report(..)
            | Command::Fetch(..)
            | Command::Abort(_)
            | Command::Reply(..)
            | Command::Announce(_)
            | Command::Forget(_) => None,
        })
        .collect()
}

/// Answers each request for that long, as it is due.
fn run(
    roster: &mut Roster,
    from: BootTime,
    until: BootTime,
    answer: impl Fn(&Roster, SetId) -> Result<Fetched, FetchError>,
) -> Vec<(SetId, Outcome)> {
    let (mut now, mut reports) = (from, Vec::new());
    loop {
        let mut flights = Vec::new();
        let mut others = VecDeque::new();
        while let Some(command) = roster.poll_command() {
            match command {
                Command::Fetch(set, round) => flights.push((set, round)),
                Command::Abort(_)
                | Command::Reply(..)
                | Command::Report(..)
                | Command::Announce(_)
                | Command::Forget(_) => others.push_back(command),
            }
        }
        roster.commands = others;
        reports.extend(new_reports(roster));
        if flights.is_empty() {
            match roster.poll_timeout().filter(|due| *due <= until) {
                Some(due) => now = due,
                None => return reports,
            }
            roster.handle_timeout(now);
        }
        for (set, round) in flights {
            let answer = answer(roster, set);
            roster.handle_fetched(set, round, answer, now);
        }
    }
}

#[test]
fn rejection_of_a_client_with_many_sets_is_one_warning_and_one_outage() {
    let mut roster = Roster::new(1);
    let sets = add(&mut roster, "acme", 500);
    let reports = run(&mut roster, NOW, NOW, |roster, set| Ok(good(roster, set)));
    assert_eq!(reports, []);
    let end = NOW + HOUR * 3;
    let reports = run(&mut roster, NOW, end, |_, _| denied());
    let [warning, outage] = reports.as_slice() else {
        panic!("{reports:?}");
    };
    assert!(
        matches!(
            warning.1,
            Outcome::Denied {
                effect: Effect::TokenValid { .. },
                ..
            }
        ),
        "{warning:?}"
    );
    assert!(
        matches!(
            outage.1,
            Outcome::Expired {
                cause: OutageCause::ClientDenied,
                ..
            }
        ),
        "{outage:?}"
    );
    assert_eq!(roster.sets_beside(outage.0), sets.len());
}

#[test]
fn rejection_at_a_start_is_one_outage_and_another_after_a_reload() {
    let mut roster = Roster::new(1);
    add(&mut roster, "acme", 500);
    let mut now = NOW;
    for _start in 0..2 {
        let end = now + HOUR;
        let reports = run(&mut roster, now, end, |_, _| denied());
        let [(set, outcome)] = reports.as_slice() else {
            panic!("{reports:?}");
        };
        assert!(
            matches!(
                outcome,
                Outcome::Denied {
                    effect: Effect::NoToken { first: true, .. },
                    ..
                }
            ),
            "{outcome:?}"
        );
        assert_eq!(roster.trouble_of(*set), Some("Domo answered 401"));
        now = end;
        roster.retry(now);
    }
}

#[test]
fn removed_set_reports_no_outage() {
    let mut roster = Roster::new(1);
    add(&mut roster, "acme", 2);
    run(&mut roster, NOW, NOW, |roster, set| Ok(good(roster, set)));
    let end = NOW + HOUR.mul_f64(0.95);
    run(&mut roster, NOW, end, |_, _| {
        Err(FetchError::transient(Cause::Server, "503"))
    });
    roster.configure(vec![wanted("acme", 1)], end);
    let reports = run(&mut roster, end, NOW + HOUR * 2, |_, _| {
        Err(FetchError::transient(Cause::Server, "503"))
    });
    let [(set, Outcome::Expired { .. })] = reports.as_slice() else {
        panic!("{reports:?}");
    };
    assert!(roster.has(*set));
}

#[test]
fn sets_of_two_clients_report_their_outages_one_each() {
    let mut roster = Roster::new(1);
    let sets = [add(&mut roster, "acme", 2), add(&mut roster, "other", 1)].concat();
    run(&mut roster, NOW, NOW, |roster, set| Ok(good(roster, set)));
    let reports = run(&mut roster, NOW, NOW + HOUR * 2, |_, set| {
        let cause = [Cause::Connect, Cause::Timeout][usize::from(set == sets[0])];
        Err(FetchError::transient(cause, "no"))
    });
    let expired = reports
        .iter()
        .filter(|(_, outcome)| matches!(outcome, Outcome::Expired { .. }));
    let mut expired: Vec<SetId> = expired.map(|(set, _)| *set).collect();
    expired.sort_unstable();
    assert_eq!(expired, sets);
    assert_eq!(reports.len(), sets.len() * 2, "{reports:?}");
}

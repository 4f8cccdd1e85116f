//! Outages of a client with many scope sets: one report for those that are without a token from the
//! same moment on.

use super::*;
use crate::schedule::{CallerImpact, OutageCause, Rejected};

const HOUR: Duration = Duration::from_secs(3600);
const SECOND: Duration = Duration::from_secs(1);

/// Returns the reports that are logged as errors or warnings.
fn new_reports(scheduler: &mut Scheduler) -> Vec<(SetId, Outcome)> {
    let is_new = |outcome: &Outcome| match outcome {
        Outcome::Denied {
            impact, repeated, ..
        }
        | Outcome::Failed {
            impact, repeated, ..
        } => !repeated || matches!(impact, CallerImpact::NoToken { first: true, .. }),
        Outcome::Expired { impact, .. } => {
            matches!(impact, CallerImpact::NoToken { first: true, .. })
        }
        Outcome::Ignored | Outcome::RejectedByDomo | Outcome::Obtained { .. } => false,
    };
    let commands = std::iter::from_fn(|| scheduler.poll_command());
    commands
        .filter_map(|command| match command {
            Command::Report(set, outcome) if is_new(&outcome) => Some((set, outcome)),
            Command::Report(..)
            | Command::Fetch(..)
            | Command::Abort(_)
            | Command::Reply(..)
            | Command::NotifyWatchers(_)
            | Command::Remove(_) => None,
        })
        .collect()
}

/// Runs from `from` until `until`; each request is answered immediately.
fn run(
    scheduler: &mut Scheduler,
    from: BootTime,
    until: BootTime,
    answer: impl Fn(&Scheduler, SetId) -> Result<Fetched, FetchError>,
) -> Vec<(SetId, Outcome)> {
    let (mut now, mut reports) = (from, Vec::new());
    loop {
        let mut requests = Vec::new();
        let mut others = VecDeque::new();
        while let Some(command) = scheduler.poll_command() {
            match command {
                Command::Fetch(set, fetch_id) => requests.push((set, fetch_id)),
                Command::Abort(_)
                | Command::Reply(..)
                | Command::Report(..)
                | Command::NotifyWatchers(_)
                | Command::Remove(_) => others.push_back(command),
            }
        }
        scheduler.commands = others;
        reports.extend(new_reports(scheduler));
        if requests.is_empty() {
            match scheduler.poll_timeout().filter(|due| *due <= until) {
                Some(due) => now = due,
                None => return reports,
            }
            scheduler.handle_timeout(now);
        }
        for (set, fetch_id) in requests {
            let answer = answer(scheduler, set);
            scheduler.handle_fetched(set, fetch_id, answer, now);
        }
    }
}

#[test]
fn rejection_of_a_client_with_many_sets_is_a_warning_each_time_and_one_outage() {
    let mut scheduler = Scheduler::new(1);
    let sets = add(&mut scheduler, "acme", 500);
    let reports = run(&mut scheduler, NOW, NOW, |scheduler, set| {
        Ok(good(scheduler, set))
    });
    assert_eq!(reports, []);
    let end = NOW + HOUR * 3;
    let reports = run(&mut scheduler, NOW, end, |_, _| denied());
    let [first, confirmed, outage] = reports.as_slice() else {
        panic!("{reports:?}");
    };
    for (warning, expected) in [
        (first, Rejected::ClientUnconfirmed),
        (confirmed, Rejected::Client),
    ] {
        let Outcome::Denied {
            rejected,
            impact: CallerImpact::TokenValid { .. },
            ..
        } = warning.1
        else {
            panic!("{warning:?}");
        };
        assert_eq!(rejected, expected);
    }
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
    assert_eq!(
        scheduler.scope_sets_without_token(outage.0, end),
        sets.len()
    );
}

fn is_confirmation(outcome: &Outcome) -> bool {
    let Outcome::Denied {
        rejected, repeated, ..
    } = outcome
    else {
        return false;
    };
    *rejected == Rejected::Client && !repeated
}

#[test]
fn confirmed_rejection_is_reported_once_more_whatever_happens_in_between() {
    for (between, is_reload) in [(false, false), (true, false), (false, true)] {
        let mut scheduler = Scheduler::new(1);
        add(&mut scheduler, "acme", 5);
        let reports = run(&mut scheduler, NOW, NOW + SECOND, |_, _| denied());
        assert_eq!(reports.len(), 1, "{reports:?}");
        let mut now = NOW + SECOND;
        if is_reload {
            scheduler.retry(now);
        }
        if between {
            now = NOW + schedule::CONFIRM_AFTER;
            let busy = |_: &Scheduler, _| Err(FetchError::transient(Cause::Server, "503"));
            run(&mut scheduler, now, now, busy);
        }
        let end = now + HOUR;
        let mut reports = run(&mut scheduler, now, end, |_, _| denied());
        assert_eq!(reports.len(), 1, "{between} {is_reload} {reports:?}");
        assert!(is_confirmation(&reports.remove(0).1));
    }
}

#[test]
fn first_token_after_the_rejection_of_another_set_is_no_recovery() {
    let mut scheduler = Scheduler::new(1);
    add(&mut scheduler, "acme", 2);
    let requests = fetches(&mut scheduler);
    scheduler.handle_fetched(requests[0].0, requests[0].1, denied(), NOW);
    let answer = Ok(good(&scheduler, requests[1].0));
    scheduler.handle_fetched(requests[1].0, requests[1].1, answer, NOW);
    let commands = std::iter::from_fn(|| scheduler.poll_command());
    let mut obtained = commands.filter_map(|command| match command {
        Command::Report(
            _,
            Outcome::Obtained {
                recovery, first, ..
            },
        ) => Some((recovery, first)),
        Command::Report(..)
        | Command::Fetch(..)
        | Command::Abort(_)
        | Command::Reply(..)
        | Command::NotifyWatchers(_)
        | Command::Remove(_) => None,
    });
    assert_eq!(obtained.next(), Some((None, true)));
}

#[test]
fn error_of_another_set_or_of_a_login_is_shown_with_its_time() {
    let mut scheduler = Scheduler::new(1);
    scheduler.configure(
        vec![
            spec("acme", 2),
            proxy_logins::through(proxy_logins::WRONG, "b", 2),
        ],
        NOW,
    );
    for (set, fetch_id) in fetches(&mut scheduler) {
        let is_acme = scheduler.name_of(set).unwrap().0 == "acme";
        let answer = if is_acme {
            denied()
        } else {
            proxy_logins::rejected()
        };
        scheduler.handle_fetched(set, fetch_id, answer, NOW);
    }
    let later = NOW + SECOND;
    assert_eq!(scheduler.status(later).count(), 4);
    for set in scheduler.status(later) {
        assert!(set.last_error.is_some());
        assert_eq!(set.last_error_at, Some(NOW), "{}", set.client);
    }
}

#[test]
fn rejection_at_a_start_is_one_outage_and_another_after_new_credentials() {
    let mut scheduler = Scheduler::new(1);
    let sets = add(&mut scheduler, "acme", 500);
    let mut now = NOW;
    for _start in 0..2 {
        let end = now + HOUR;
        let reports = run(&mut scheduler, now, end, |_, _| denied());
        let [(set, outcome), (_, confirmed)] = reports.as_slice() else {
            panic!("{reports:?}");
        };
        assert!(is_confirmation(confirmed), "{confirmed:?}");
        assert!(
            matches!(
                outcome,
                Outcome::Denied {
                    impact: CallerImpact::NoToken { first: true, .. },
                    ..
                }
            ),
            "{outcome:?}"
        );
        assert_eq!(scheduler.error_message(*set), Some("Domo returned 401"));
        assert_eq!(scheduler.scope_sets_without_token(*set, now), sets.len());
        now = end;
        scheduler.configure(vec![renewed(500)], now);
    }
}

fn renewed(count: usize) -> ClientSpec {
    ClientSpec {
        renewed: true,
        ..spec("acme", count)
    }
}

#[test]
fn reload_without_a_change_reports_no_outage_again() {
    for error in [
        FetchError::transient(Cause::Server, "503"),
        FetchError::transient(Cause::NotFound, "404"),
        denied().unwrap_err(),
    ] {
        let mut scheduler = Scheduler::new(1);
        add(&mut scheduler, "acme", 200);
        let mut now = NOW + SECOND * 20;
        let reports = run(&mut scheduler, NOW, now, |_, _| Err(error.clone()));
        assert!(!reports.is_empty());
        for _edit in 0..3 {
            scheduler.configure(vec![spec("acme", 200)], now);
            scheduler.retry(now);
            let end = now + SECOND * 60;
            let reports = run(&mut scheduler, now, end, |_, _| Err(error.clone()));
            assert_eq!(reports, []);
            now = end;
        }
    }
}

#[test]
fn rejection_with_another_message_after_a_reload_is_reported_once() {
    let mut scheduler = Scheduler::new(1);
    add(&mut scheduler, "acme", 5);
    run(&mut scheduler, NOW, NOW, |_, _| denied());
    let now = NOW + SECOND * 60;
    scheduler.retry(now);
    let reports = run(&mut scheduler, now, now + HOUR, |_, _| {
        Err(FetchError::Denied {
            scope_only: false,
            in_domos_form: true,
            message: "Domo returned 401: locked".to_owned(),
        })
    });
    let [
        (
            _,
            Outcome::Denied {
                repeated: false, ..
            },
        ),
    ] = reports.as_slice()
    else {
        panic!("{reports:?}");
    };
}

#[test]
fn tokens_that_expire_at_different_times_under_a_rejected_client_are_reported_one_each() {
    let mut scheduler = Scheduler::new(1);
    add(&mut scheduler, "acme", 2);
    run(&mut scheduler, NOW, NOW, |scheduler, set| {
        Ok(good(scheduler, set))
    });
    for minute in 1..4 {
        let now = NOW + SECOND * 60 * minute;
        // Each set after the first two is added a minute later.
        scheduler.configure(
            vec![spec("acme", usize::try_from(minute).unwrap() + 2)],
            now,
        );
        run(&mut scheduler, now, now, |scheduler, set| {
            Ok(good(scheduler, set))
        });
    }
    let now = NOW + SECOND * 300;
    scheduler.configure(vec![renewed(5)], now);
    let reports = run(&mut scheduler, now, NOW + SECOND * 3599, |_, _| denied());
    assert_eq!(reports.len(), 2, "both rejections: {reports:?}");
    assert!(is_confirmation(&reports[1].1), "{reports:?}");
    let mut counts = Vec::new();
    for minute in 0..4 {
        let now = NOW + HOUR + SECOND * 60 * minute;
        let reports = run(&mut scheduler, now, now, |_, _| denied());
        let [(set, Outcome::Expired { cause, .. })] = reports.as_slice() else {
            panic!("{minute}: {reports:?}");
        };
        assert_eq!(*cause, OutageCause::ClientDenied);
        counts.push(scheduler.scope_sets_without_token(*set, now));
    }
    assert_eq!(counts, [2, 3, 4, 5]);
}

#[test]
fn removed_set_reports_no_outage() {
    let mut scheduler = Scheduler::new(1);
    add(&mut scheduler, "acme", 2);
    run(&mut scheduler, NOW, NOW, |scheduler, set| {
        Ok(good(scheduler, set))
    });
    let end = NOW + HOUR.mul_f64(0.95);
    run(&mut scheduler, NOW, end, |_, _| {
        Err(FetchError::transient(Cause::Server, "503"))
    });
    scheduler.configure(vec![spec("acme", 1)], end);
    let reports = run(&mut scheduler, end, NOW + HOUR * 2, |_, _| {
        Err(FetchError::transient(Cause::Server, "503"))
    });
    let [(set, Outcome::Expired { .. })] = reports.as_slice() else {
        panic!("{reports:?}");
    };
    assert!(scheduler.contains(*set));
}

#[test]
fn sets_of_two_clients_report_their_outages_one_each() {
    let mut scheduler = Scheduler::new(1);
    let sets = [
        add(&mut scheduler, "acme", 2),
        add(&mut scheduler, "other", 1),
    ]
    .concat();
    run(&mut scheduler, NOW, NOW, |scheduler, set| {
        Ok(good(scheduler, set))
    });
    let reports = run(&mut scheduler, NOW, NOW + HOUR * 2, |_, set| {
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

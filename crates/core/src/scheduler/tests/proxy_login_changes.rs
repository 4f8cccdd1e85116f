//! Logins at proxies when the config, the login or its clients change.

use super::proxy_logins::{GOOD, SECOND, WRONG, rejected, through, with_login};
use super::*;
use crate::schedule::CallerImpact;

#[test]
fn reload_tries_a_rejected_login_by_one_request_three_times_in_a_row_then_once_per_interval() {
    let mut scheduler = Scheduler::new(1);
    scheduler.configure(with_login(WRONG, &["a", "b", "c"], 4), NOW);
    let mut sent = Vec::new();
    for step in 0..200 {
        let now = NOW + SECOND / 5 * step;
        scheduler.handle_timeout(now);
        if step > 0 {
            scheduler.retry(now);
        }
        for (set, fetch_id) in fetches(&mut scheduler) {
            sent.push(now.saturating_since(NOW).as_secs());
            scheduler.handle_fetched(set, fetch_id, rejected(), now);
        }
    }
    // The first one is that of the start.
    assert_eq!(sent, [0, 0, 0, 0, 10, 20, 30]);
}

#[test]
fn trial_that_new_credentials_abort_counts_as_often_as_it_starts() {
    let mut scheduler = Scheduler::new(1);
    scheduler.configure(vec![through(WRONG, "a", 4)], NOW);
    let (set, fetch_id) = fetches(&mut scheduler)[0];
    scheduler.handle_fetched(set, fetch_id, rejected(), NOW);
    let mut seconds = Vec::new();
    // The client's secret changes five times a second, and the proxy never responds.
    for step in 0..100 {
        let now = NOW + SECOND / 5 * step;
        scheduler.handle_timeout(now);
        scheduler.configure(
            vec![ClientSpec {
                renewed: true,
                ..through(WRONG, "a", 4)
            }],
            now,
        );
        scheduler.retry(now);
        let requests = fetches(&mut scheduler).len();
        seconds.extend(std::iter::repeat_n(step / 5, requests));
    }
    assert_eq!(seconds, [0, 0, 0, 10]);
}

#[test]
fn login_that_changes_constantly_is_tried_three_times_then_once_per_interval() {
    let mut scheduler = Scheduler::new(1);
    let mut sent = Vec::new();
    for step in 0..200_u32 {
        let now = NOW + SECOND / 5 * step;
        scheduler.handle_timeout(now);
        let login = ProxyLoginId::new(u64::from(step));
        let mut config = with_login(login, &["a", "b", "c"], 4);
        for client in &mut config {
            client.renewed = step > 0;
        }
        scheduler.configure(config, now);
        for (set, fetch_id) in fetches(&mut scheduler) {
            sent.push(now.saturating_since(NOW).as_secs());
            scheduler.handle_fetched(set, fetch_id, rejected(), now);
        }
    }
    assert_eq!(sent, [0, 0, 0, 0, 10, 20, 30]);
    let later = NOW + SECOND * 1000;
    scheduler.handle_timeout(later);
    scheduler.configure(vec![spec("a", 4)], later);
    assert!(scheduler.logins.is_empty() && scheduler.login_timers.is_empty());
}

#[test]
fn login_trial_of_a_removed_scope_set_passes_to_another_one() {
    for keep_client in [true, false] {
        let mut scheduler = Scheduler::new(1);
        scheduler.configure(with_login(GOOD, &["a", "b"], 2), NOW);
        let requests = fetches(&mut scheduler);
        assert_eq!(requests.len(), 1);
        let (_, scope) = scheduler.name_of(requests[0].0).unwrap();
        let scope = scope.clone();
        let mut config = with_login(GOOD, &["a", "b"], 2);
        if keep_client {
            config[0].scopes.remove(&scope);
        } else {
            config.remove(0);
        }
        scheduler.configure(config, NOW);
        assert_eq!(fetches(&mut scheduler).len(), 1, "{keep_client}");
    }
}

#[test]
fn client_that_changes_its_login_during_a_trial_continues_with_the_new_one() {
    let mut scheduler = Scheduler::new(1);
    scheduler.configure(with_login(WRONG, &["a", "b"], 2), NOW);
    let tried = fetches(&mut scheduler);
    assert_eq!(tried.len(), 1);
    let config = vec![
        through(WRONG, "a", 2),
        ClientSpec {
            renewed: true,
            ..spec("b", 2)
        },
    ];
    scheduler.configure(config, NOW);
    let requests = fetches(&mut scheduler);
    let names: Vec<&str> = requests
        .iter()
        .map(|(set, _)| scheduler.name_of(*set).unwrap().0)
        .collect();
    assert_eq!(names, ["b", "b"]);
    let status = |scheduler: &Scheduler| -> Vec<ScopeState> {
        let sets = scheduler.status(NOW).filter(|set| set.client == "b");
        sets.map(|set| set.state).collect()
    };
    scheduler.handle_fetched(tried[0].0, tried[0].1, rejected(), NOW);
    assert_eq!(status(&scheduler), [ScopeState::Fetching; 2]);
}

#[test]
fn client_with_a_login_that_was_just_rejected_is_denied_from_its_first_request_on() {
    let mut scheduler = Scheduler::new(1);
    scheduler.configure(with_login(WRONG, &["a"], 1), NOW);
    let tried = fetches(&mut scheduler);
    scheduler.handle_fetched(tried[0].0, tried[0].1, rejected(), NOW);
    scheduler.configure(with_login(WRONG, &["a", "b"], 1), NOW);
    assert_eq!(fetches(&mut scheduler), []);
    assert!(
        scheduler
            .status(NOW)
            .all(|set| set.state == ScopeState::Denied)
    );
}

/// Returns how many errors or warnings these commands log about a rejected login.
fn reported(scheduler: &mut Scheduler) -> usize {
    let is_new = |command: Command| match command {
        Command::Report(
            _,
            Outcome::Denied {
                repeated, impact, ..
            },
        ) => !repeated || matches!(impact, CallerImpact::NoToken { first: true, .. }),
        Command::Report(_, Outcome::Expired { impact, .. }) => {
            matches!(impact, CallerImpact::NoToken { first: true, .. })
        }
        Command::Report(..)
        | Command::Fetch(..)
        | Command::Abort(_)
        | Command::Reply(..)
        | Command::NotifyWatchers(_)
        | Command::Remove(_) => false,
    };
    let commands = std::iter::from_fn(|| scheduler.poll_command());
    commands.map(is_new).filter(|is_new| *is_new).count()
}

#[test]
fn client_that_is_loaded_after_its_login_was_rejected_neither_tries_nor_reports_it_again() {
    let names = ["a", "b", "c", "d"];
    let config = |loaded: usize| -> Vec<ClientSpec> {
        let clients = names.iter().enumerate().map(|(number, name)| {
            if number < loaded {
                through(WRONG, name, 2)
            } else {
                ClientSpec {
                    loading: Some(Loading::Pending),
                    shares: false,
                    ..spec(name, 2)
                }
            }
        });
        clients.collect()
    };
    let mut scheduler = Scheduler::new(1);
    scheduler.configure(config(1), NOW);
    let requests = fetches(&mut scheduler);
    assert_eq!(requests.len(), 1);
    scheduler.handle_fetched(requests[0].0, requests[0].1, rejected(), NOW);
    assert_eq!(reported(&mut scheduler), 1);
    for loaded in 2..=names.len() {
        let now = NOW + SECOND * u32::try_from(loaded).unwrap();
        scheduler.handle_timeout(now);
        scheduler.configure(config(loaded), now);
        scheduler.handle_timeout(now + SECOND / 2);
        assert!(scheduler.in_flight.is_empty(), "{loaded}");
        assert_eq!(reported(&mut scheduler), 0, "{loaded}");
        let denied = scheduler
            .status(now)
            .filter(|set| set.state == ScopeState::Denied);
        assert_eq!(denied.count(), loaded * 2);
    }
}

#[test]
fn login_deferred_because_it_changes_too_often_is_refused_with_the_time() {
    let mut scheduler = Scheduler::new(1);
    let mut now = NOW;
    for step in 0..4 {
        now = NOW + SECOND / 5 * step;
        let mut config = with_login(ProxyLoginId::new(step.into()), &["a", "b"], 2);
        for client in &mut config {
            client.renewed = step > 0;
        }
        scheduler.configure(config, now);
        for (set, fetch_id) in fetches(&mut scheduler) {
            scheduler.handle_fetched(set, fetch_id, rejected(), now);
        }
    }
    let login = ProxyLoginId::new(9);
    let mut config = with_login(login, &["a", "b"], 2);
    for client in &mut config {
        client.renewed = true;
    }
    scheduler.configure(config, now);
    assert_eq!(fetches(&mut scheduler), []);
    let until = scheduler.login_timers.first().unwrap().0;
    let request = TokenRequest {
        min_ttl: None,
        deadline: now + SECOND,
        renew: None,
    };
    for set in scheduler.sets.keys().copied().collect::<Vec<_>>() {
        let refusal = refused(scheduler.request(set, WaiterId(1), &request, now));
        assert!(
            refusal.cause.ends_with(schedule::CHANGED_TOO_OFTEN),
            "{}",
            refusal.cause
        );
        assert_eq!(refusal.next_attempt, Some(until));
        let status = scheduler.status_of(set, now).unwrap();
        assert_eq!(status.next_attempt, Some(until));
    }
    scheduler.handle_timeout(until);
    assert_eq!(fetches(&mut scheduler).len(), 1);
}

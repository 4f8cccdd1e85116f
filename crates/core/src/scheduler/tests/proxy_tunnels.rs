//! Open tunnels show that a proxy's login works; missing ones show nothing.

use super::proxy_logins::{
    GOOD, SECOND, WRONG, complete, immediately, rejected, run, through, times, with_login,
};
use super::*;

#[test]
fn open_tunnel_proves_the_login_before_domo_responds() {
    let mut scheduler = Scheduler::new(1);
    scheduler.configure(with_login(GOOD, &["a", "b"], 4), NOW);
    let requests = fetches(&mut scheduler);
    assert_eq!(requests.len(), 1);
    scheduler.handle_tunnel(requests[0].0, requests[0].1, NOW);
    assert_eq!(fetches(&mut scheduler).len(), 5, "three of each client");
    // The result of the request does not change that.
    let late = Err(FetchError::transient(Cause::Timeout, "no answer"));
    scheduler.handle_fetched(requests[0].0, requests[0].1, late, NOW);
    assert_eq!(fetches(&mut scheduler).len(), 1);
}

#[test]
fn login_that_worked_is_tried_by_one_request_after_a_minute_or_a_reload() {
    for is_reload in [true, false] {
        let mut scheduler = Scheduler::new(1);
        let clients: Vec<String> = (0..30).map(|number| format!("c{number}")).collect();
        let clients: Vec<&str> = clients.iter().map(String::as_str).collect();
        scheduler.configure(with_login(WRONG, &clients, 4), NOW);
        let outage =
            |_: &Scheduler, _, _| immediately(Err(FetchError::transient(Cause::Server, "503")));
        let later = NOW + SECOND * 20;
        let sent = run(&mut scheduler, NOW, later, outage);
        assert!(sent.len() > 120, "the login works");
        while scheduler.poll_command().is_some() {}
        let from = if is_reload {
            scheduler.retry(later);
            later
        } else {
            let later = later + schedule::BACKOFF_MAX + LOGIN_WORKS;
            scheduler.handle_timeout(later);
            later
        };
        let sent = run(&mut scheduler, from, from + SECOND * 299, |_, _, _| {
            immediately(rejected())
        });
        assert_eq!(times(&sent), [0], "{is_reload}");
    }
}

#[test]
fn requests_without_a_tunnel_are_cancelled_when_another_one_is_rejected() {
    let mut scheduler = Scheduler::new(1);
    scheduler.configure(with_login(WRONG, &["a", "b"], 4), NOW);
    let first = fetches(&mut scheduler);
    let answer = Ok(good(&scheduler, first[0].0));
    complete(&mut scheduler, first[0], answer, NOW);
    let requests = fetches(&mut scheduler);
    assert_eq!(requests.len(), 6);
    scheduler.handle_tunnel(requests[0].0, requests[0].1, NOW);
    scheduler.handle_fetched(requests[1].0, requests[1].1, rejected(), NOW);
    let commands = std::iter::from_fn(|| scheduler.poll_command());
    let aborted: BTreeSet<SetId> = commands
        .filter_map(|command| match command {
            Command::Abort(set) => Some(set),
            Command::Fetch(..)
            | Command::Reply(..)
            | Command::Report(..)
            | Command::NotifyWatchers(_)
            | Command::Remove(_) => None,
        })
        .collect();
    assert_eq!(aborted, requests[2..].iter().map(|(set, _)| *set).collect());
    // The request with a tunnel succeeds, which does not end the rejection.
    let answer = Ok(good(&scheduler, requests[0].0));
    scheduler.handle_fetched(requests[0].0, requests[0].1, answer, NOW);
    assert_eq!(fetches(&mut scheduler), []);
    scheduler.handle_timeout(NOW + schedule::DENIED_RETRY);
    assert_eq!(fetches(&mut scheduler).len(), 1);
}

#[test]
fn proxy_without_a_login_receives_concurrent_requests_until_it_answers_407() {
    let none = ProxyLoginId::without_login(1);
    let mut scheduler = Scheduler::new(1);
    scheduler.configure(with_login(none, &["a", "b"], 4), NOW);
    let requests = fetches(&mut scheduler);
    assert_eq!(requests.len(), 6);
    scheduler.handle_fetched(requests[0].0, requests[0].1, rejected(), NOW);
    assert_eq!(fetches(&mut scheduler), []);
    let denied = |set: ScopeStatus| set.state == ScopeState::Denied;
    assert!(scheduler.status(NOW).all(denied));
    let soon = NOW + schedule::DENIED_RETRY - SECOND;
    scheduler.handle_timeout(soon);
    assert_eq!(fetches(&mut scheduler), []);
}

#[test]
fn failure_of_another_kind_after_five_minutes_replaces_the_rejection() {
    let mut scheduler = Scheduler::new(1);
    scheduler.configure(with_login(WRONG, &["a", "b"], 2), NOW);
    let requests = fetches(&mut scheduler);
    complete(&mut scheduler, requests[0], rejected(), NOW);
    let now = NOW + schedule::DENIED_RETRY;
    scheduler.handle_timeout(now);
    let requests = fetches(&mut scheduler);
    assert_eq!(requests.len(), 1);
    let busy = Err(FetchError::transient(
        Cause::Proxy,
        "the proxy returned 503",
    ));
    complete(&mut scheduler, requests[0], busy, now);
    for set in scheduler.status(now) {
        let error = set.last_error.unwrap_or_default();
        assert!(!error.contains("407"), "{error}");
        assert_ne!(set.state, ScopeState::Denied);
    }
    assert_eq!(
        scheduler.scope_sets_without_token(requests[0].0, now),
        2,
        "of its client"
    );
}

#[test]
fn trial_that_ends_without_a_tunnel_leaves_the_login_untried() {
    for cause in [Cause::Connect, Cause::Proxy, Cause::Timeout, Cause::Tls] {
        let mut scheduler = Scheduler::new(1);
        scheduler.configure(vec![through(GOOD, "a", 4)], NOW);
        let requests = fetches(&mut scheduler);
        assert_eq!(requests.len(), 1);
        let failed = Err(FetchError::transient(cause, "no"));
        complete(&mut scheduler, requests[0], failed, NOW);
        assert_eq!(fetches(&mut scheduler).len(), 1, "{cause}");
    }
}

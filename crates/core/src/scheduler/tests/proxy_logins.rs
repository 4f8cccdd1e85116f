//! Logins at proxies: how often a wrong one is tried, and which requests wait for it.

use super::*;
use crate::schedule::{CallerImpact, OutageCause, Rejected};

pub(super) const SECOND: Duration = Duration::from_secs(1);
pub(super) const WRONG: ProxyLoginId = ProxyLoginId::new(1);
pub(super) const GOOD: ProxyLoginId = ProxyLoginId::new(2);
const NEW: ProxyLoginId = ProxyLoginId::new(3);

pub(super) fn through(login: ProxyLoginId, name: &str, count: usize) -> ClientSpec {
    ClientSpec {
        proxy_login: Some(login),
        ..spec(name, count)
    }
}

pub(super) fn with_login(login: ProxyLoginId, clients: &[&str], count: usize) -> Vec<ClientSpec> {
    let names = clients.iter();
    names.map(|name| through(login, name, count)).collect()
}

pub(super) fn rejected() -> Result<Fetched, FetchError> {
    Err(FetchError::ProxyLogin {
        message: "the proxy returned 407; fix proxy_auth_file".to_owned(),
    })
}

/// A request: when it was sent, in seconds, and for which client.
pub(super) type Sent = (u64, String);

/// The result of a request, and after how long.
pub(super) type Response = (Duration, Result<Fetched, FetchError>);

/// Runs from `from` until `end`.
pub(super) fn run(
    scheduler: &mut Scheduler,
    from: BootTime,
    end: BootTime,
    answer: impl Fn(&Scheduler, SetId, BootTime) -> Response,
) -> Vec<Sent> {
    let (mut now, mut sent) = (from, Vec::new());
    let mut requests: BTreeMap<(BootTime, SetId), (FetchId, Result<Fetched, FetchError>)> =
        BTreeMap::new();
    loop {
        for (set, fetch_id) in fetches(scheduler) {
            let name = scheduler.name_of(set).unwrap().0.to_owned();
            sent.push((now.saturating_since(from).as_secs(), name));
            let (delay, result) = answer(scheduler, set, now);
            requests.retain(|(_, of), _| *of != set);
            requests.insert((now + delay, set), (fetch_id, result));
        }
        let answered = requests.keys().next().map(|(at, _)| *at);
        let due = answered.into_iter().chain(scheduler.poll_timeout()).min();
        match due.filter(|due| *due <= end) {
            Some(due) => now = due.max(now),
            None => return sent,
        }
        if answered == due
            && let Some(((_, set), (fetch_id, result))) = requests.pop_first()
        {
            complete(scheduler, (set, fetch_id), result, now);
        } else {
            scheduler.handle_timeout(now);
        }
    }
}

/// Ends a request; unless the proxy ended it, its tunnel was opened before.
pub(super) fn complete(
    scheduler: &mut Scheduler,
    (set, fetch_id): (SetId, FetchId),
    result: Result<Fetched, FetchError>,
    now: BootTime,
) {
    let is_opened = match &result {
        Ok(_) | Err(FetchError::Denied { .. }) => true,
        Err(FetchError::ProxyLogin { .. }) => false,
        Err(FetchError::Transient { cause, .. }) => *cause == Cause::Server,
    };
    if is_opened {
        scheduler.handle_tunnel(set, fetch_id, now);
    }
    scheduler.handle_fetched(set, fetch_id, result, now);
}

pub(super) fn immediately(result: Result<Fetched, FetchError>) -> Response {
    (SECOND / 10, result)
}

pub(super) fn times(sent: &[Sent]) -> Vec<u64> {
    sent.iter().map(|(at, _)| *at).collect()
}

#[test]
fn wrong_login_of_three_clients_is_tried_once_and_then_once_in_five_minutes() {
    let mut scheduler = Scheduler::new(1);
    scheduler.configure(with_login(WRONG, &["a", "b", "c"], 4), NOW);
    let end = NOW + SECOND * 901;
    let sent = run(&mut scheduler, NOW, end, |_, _, _| immediately(rejected()));
    assert_eq!(times(&sent), [0, 300, 600, 900]);
    for set in scheduler.status(end) {
        assert_eq!(set.state, ScopeState::Denied);
        assert!(set.last_error.unwrap().contains("407"));
        assert!(set.next_attempt.is_some());
    }
}

#[test]
fn login_that_worked_and_is_then_rejected_is_tried_once_and_then_once_in_five_minutes() {
    let mut scheduler = Scheduler::new(1);
    scheduler.configure(with_login(WRONG, &["a", "b", "c"], 4), NOW);
    let works = |scheduler: &Scheduler, set, _| immediately(Ok(good(scheduler, set)));
    let sent = run(&mut scheduler, NOW, NOW + SECOND, works);
    assert_eq!(sent.len(), 12);
    // The tokens are renewed after 24 to 48 min: until 2 h later.
    let (from, end) = (NOW + SECOND, NOW + SECOND * 7200);
    let sent = run(&mut scheduler, from, end, |_, _, _| immediately(rejected()));
    assert!(sent.len() <= 7200 / 300, "{sent:?}");
    let gaps = sent.windows(2).map(|pair| pair[1].0 - pair[0].0);
    assert!(gaps.min().unwrap() >= 299, "{sent:?}");
}

#[test]
fn corrected_login_is_tried_immediately_by_one_request_and_then_used_by_all() {
    let mut scheduler = Scheduler::new(1);
    scheduler.configure(with_login(WRONG, &["a", "b", "c"], 4), NOW);
    let later = NOW + SECOND * 60;
    run(
        &mut scheduler,
        NOW,
        later,
        |_, _, _| immediately(rejected()),
    );
    let mut config = with_login(NEW, &["a", "b", "c"], 4);
    for client in &mut config {
        client.renewed = true;
    }
    scheduler.configure(config, later);
    let slow = |scheduler: &Scheduler, set, _| (SECOND / 2, Ok(good(scheduler, set)));
    let sent = run(&mut scheduler, later, later + SECOND * 20, slow);
    assert_eq!(sent.len(), 12);
    assert_eq!(sent[0].0, 0);
    assert!(sent.iter().all(|(at, _)| *at <= 2), "{sent:?}");
    let fresh = |set: ScopeStatus| set.state == ScopeState::Fresh;
    assert!(scheduler.status(later + SECOND * 20).all(fresh));
    assert_eq!(
        scheduler.logins.len(),
        2,
        "the rejected one for its minutes"
    );
    scheduler.handle_timeout(NOW + SECOND * 400);
    assert_eq!(scheduler.logins.len(), 1, "no state of it is left");
    assert!(scheduler.login_timers.is_empty());
}

#[test]
pub(super) fn rejected_login_delays_no_client_with_another_login_or_without_a_proxy() {
    let mut scheduler = Scheduler::new(1);
    let mut config = with_login(GOOD, &["good"], 4);
    config.extend(with_login(WRONG, &["wrong", "wrong too"], 4));
    config.push(spec("direct", 4));
    scheduler.configure(config, NOW);
    let end = NOW + SECOND * 36_000;
    let sent = run(&mut scheduler, NOW, end, |scheduler, set, _| {
        let name = scheduler.name_of(set).unwrap().0;
        immediately(if name.starts_with("wrong") {
            rejected()
        } else {
            Ok(good(scheduler, set))
        })
    });
    let count = |name: &str| sent.iter().filter(|(_, of)| of.starts_with(name)).count();
    assert_eq!(count("wrong"), 120);
    assert!(count("good") >= 4 * 12 && count("direct") >= 4 * 12);
    for set in scheduler.status(end) {
        assert_eq!(set.expires.is_some(), !set.client.starts_with("wrong"));
    }
}

#[test]
fn hanging_proxy_with_an_untried_login_receives_one_request_at_a_time() {
    let mut scheduler = Scheduler::new(1);
    let mut config = with_login(WRONG, &["a", "b", "c"], 40);
    config.push(spec("direct", 40));
    scheduler.configure(config, NOW);
    let end = NOW + SECOND * 1200;
    let sent = run(
        &mut scheduler,
        NOW,
        end,
        |scheduler, set, _| match scheduler.name_of(set).unwrap().0 {
            "direct" => immediately(Ok(good(scheduler, set))),
            _ => (
                SECOND * 20,
                Err(FetchError::transient(Cause::Timeout, "late")),
            ),
        },
    );
    let direct = sent.iter().filter(|(_, name)| name == "direct");
    assert_eq!(direct.filter(|(at, _)| *at < 3).count(), 40);
    let mut hanging = sent.into_iter().filter(|(_, name)| name != "direct");
    let names: Vec<String> = hanging.by_ref().map(|(_, name)| name).collect();
    assert_eq!(names.len(), 61, "one at a time, and each takes 20 s");
    // The first client's request started before the others were added.
    for turn in names[1..].chunks(3) {
        let clients: BTreeSet<&String> = turn.iter().collect();
        assert_eq!(clients.len(), turn.len(), "round-robin: {turn:?}");
    }
}

#[test]
fn caller_whose_request_waits_for_a_login_receives_the_reason() {
    let mut scheduler = Scheduler::new(1);
    scheduler.configure(with_login(GOOD, &["a", "b"], 1), NOW);
    let tried = fetches(&mut scheduler)[0].0;
    let waiting = *scheduler.sets.keys().find(|set| **set != tried).unwrap();
    let request = TokenRequest {
        min_ttl: None,
        deadline: NOW + SECOND,
        renew: None,
    };
    for (number, set) in [(1, tried), (2, waiting)] {
        assert_eq!(
            scheduler.request(set, WaiterId(number), &request, NOW),
            Answer::Later
        );
    }
    scheduler.handle_timeout(NOW + SECOND);
    let mut causes = BTreeMap::new();
    while let Some(command) = scheduler.poll_command() {
        if let Command::Reply(waiter, reply) = command {
            causes.insert(waiter.0, reply.unwrap_err().cause);
        }
    }
    assert!(
        causes[&1].contains("Domo has not responded yet"),
        "{causes:?}"
    );
    let message = "another scope set has tested the proxy login";
    assert!(causes[&2].contains(message), "{causes:?}");
}

#[test]
fn client_rejected_by_domo_under_a_rejected_login_is_rejected_by_both_one_after_the_other() {
    let mut scheduler = Scheduler::new(1);
    scheduler.configure(vec![through(WRONG, "a", 3)], NOW);
    let requests = fetches(&mut scheduler);
    complete(&mut scheduler, requests[0], denied(), NOW);
    // The proxy rejects the request that is to confirm it.
    let now = NOW + schedule::CONFIRM_AFTER;
    scheduler.handle_timeout(now);
    let requests = fetches(&mut scheduler);
    complete(&mut scheduler, requests[0], rejected(), now);
    for set in scheduler.status(now) {
        assert!(set.last_error.unwrap().contains("407"));
        assert_eq!(set.next_attempt, Some(now + schedule::DENIED_RETRY));
    }
    let now = now + schedule::DENIED_RETRY;
    scheduler.handle_timeout(now);
    let requests = fetches(&mut scheduler);
    assert_eq!(requests.len(), 1);
    complete(&mut scheduler, requests[0], denied(), now);
    for set in scheduler.status(now) {
        assert!(set.last_error.unwrap().contains("401"));
        assert_eq!(set.next_attempt, Some(now + schedule::DENIED_RETRY));
    }
    assert_eq!(fetches(&mut scheduler), []);
}

#[test]
pub(super) fn rejected_login_of_many_clients_is_reported_once() {
    let mut scheduler = Scheduler::new(1);
    scheduler.configure(with_login(WRONG, &["a", "b", "c"], 4), NOW);
    let mut now = NOW;
    let mut reports = Vec::new();
    while now < NOW + SECOND * 1000 {
        let mut requests = Vec::new();
        while let Some(command) = scheduler.poll_command() {
            match command {
                Command::Fetch(set, fetch_id) => requests.push((set, fetch_id)),
                Command::Report(
                    _,
                    Outcome::Denied {
                        rejected,
                        repeated,
                        impact,
                        ..
                    },
                ) => {
                    assert_eq!(rejected, Rejected::ProxyLogin);
                    if !repeated || matches!(impact, CallerImpact::NoToken { first: true, .. }) {
                        reports.push(impact);
                    }
                }
                Command::Report(_, Outcome::Expired { cause, impact }) => {
                    assert_eq!(cause, OutageCause::ProxyLogin);
                    if let CallerImpact::NoToken { first: true, .. } = impact {
                        reports.push(impact);
                    }
                }
                Command::Report(..)
                | Command::Abort(_)
                | Command::Reply(..)
                | Command::NotifyWatchers(_)
                | Command::Remove(_) => {}
            }
        }
        for (set, fetch_id) in requests {
            scheduler.handle_fetched(set, fetch_id, rejected(), now);
            assert_eq!(scheduler.scope_sets_without_token(set, now), 12);
        }
        now = scheduler.poll_timeout().unwrap();
        scheduler.handle_timeout(now);
    }
    assert_eq!(reports.len(), 1, "{reports:?}");
}

mod admission;
mod client_rejection;
mod configure;
mod outages;
mod proxy_login_changes;
mod proxy_logins;
mod proxy_tunnels;
mod shared_tokens;

use super::*;
use std::time::Duration;

use domo_token_protocol::messages::{ScopeState, ScopeStatus};

use crate::fetch_result::{Cause, Fetched, LifetimeSource};

const NOW: BootTime = BootTime::from_millis(1_000_000);

fn sets(count: usize) -> Vec<ScopeSet> {
    let names = (0..count).map(|number| format!("scope{number}"));
    names.map(|name| ScopeSet::parse(&name).unwrap()).collect()
}

fn spec(name: &str, count: usize) -> ClientSpec {
    ClientSpec {
        name: name.to_owned(),
        shown_id: String::new(),
        scopes: sets(count).into_iter().collect(),
        renewed: false,
        proxy_login: None,
        loading: None,
        shares: false,
    }
}

/// Adds a client; returns its scope sets in order.
fn add(scheduler: &mut Scheduler, name: &str, count: usize) -> Vec<SetId> {
    scheduler.add_client(spec(name, count), NOW);
    let id = scheduler.names[name];
    scheduler.clients[&id].sets.values().copied().collect()
}

fn fetches(scheduler: &mut Scheduler) -> Vec<(SetId, FetchId)> {
    let commands = std::iter::from_fn(|| scheduler.poll_command());
    commands
        .filter_map(|command| match command {
            Command::Fetch(set, fetch_id) => Some((set, fetch_id)),
            Command::Abort(_)
            | Command::Reply(..)
            | Command::Report(..)
            | Command::NotifyWatchers(_)
            | Command::Remove(_) => None,
        })
        .collect()
}

fn good(scheduler: &Scheduler, set: SetId) -> Fetched {
    let (client, scope) = scheduler.name_of(set).unwrap();
    Fetched {
        text: format!("token-{client}-{scope}").into(),
        lifetime: Duration::from_secs(3600),
        expires: None,
        renew_at: None,
        origin: crate::fetch_result::TokenOrigin::Domo,
        lifetime_source: LifetimeSource::Stated,
        granted: scope.clone(),
    }
}

#[track_caller]
fn refused(answer: Answer) -> Refusal {
    match answer {
        Answer::Now(Err(refusal)) => refusal,
        Answer::Now(Ok(_)) | Answer::Later => panic!("{answer:?}"),
    }
}

fn denied() -> Result<Fetched, FetchError> {
    Err(FetchError::Denied {
        scope_only: false,
        in_domos_form: true,
        message: "Domo returned 401".to_owned(),
    })
}

#[test]
fn scope_sets_are_fetched_at_start_with_three_requests_per_client_at_once() {
    let mut scheduler = Scheduler::new(1);
    add(&mut scheduler, "acme", 8);
    let mut started = 0;
    let mut requests = fetches(&mut scheduler);
    assert_eq!(requests.len(), MAX_IN_FLIGHT_PER_CLIENT);
    while let Some((set, fetch_id)) = requests.pop() {
        started += 1;
        let answer = Ok(good(&scheduler, set));
        scheduler.handle_fetched(set, fetch_id, answer, NOW);
        requests.extend(fetches(&mut scheduler));
        assert!(requests.len() <= MAX_IN_FLIGHT_PER_CLIENT);
    }
    assert_eq!(started, 8);
}

#[test]
fn many_clients_stay_within_the_total_bound_and_all_are_fetched() {
    let mut scheduler = Scheduler::new(1);
    for number in 0..100 {
        add(&mut scheduler, &format!("client{number}"), 2);
    }
    let mut requests = fetches(&mut scheduler);
    assert_eq!(requests.len(), MAX_IN_FLIGHT);
    let mut started = 0;
    while let Some((set, fetch_id)) = requests.pop() {
        started += 1;
        let answer = Ok(good(&scheduler, set));
        scheduler.handle_fetched(set, fetch_id, answer, NOW);
        requests.extend(fetches(&mut scheduler));
        assert!(requests.len() <= MAX_IN_FLIGHT);
    }
    assert_eq!(started, 200);
}

#[test]
fn timed_out_request_makes_room_for_the_next() {
    let mut scheduler = Scheduler::new(1);
    add(&mut scheduler, "acme", 4);
    assert_eq!(fetches(&mut scheduler).len(), 3);
    let due = scheduler.poll_timeout().unwrap();
    scheduler.handle_timeout(due);
    assert_eq!(fetches(&mut scheduler).len(), 1);
}

#[test]
fn rejected_client_is_probed_by_one_of_its_scope_sets() {
    let mut scheduler = Scheduler::new(1);
    add(&mut scheduler, "acme", 5);
    add(&mut scheduler, "other", 1);
    let mut now = NOW;
    let requests = fetches(&mut scheduler);
    assert_eq!(requests.len(), 4);
    for (set, fetch_id) in requests {
        let answer = match scheduler.name_of(set).unwrap().0 {
            "acme" => denied(),
            _ => Ok(good(&scheduler, set)),
        };
        scheduler.handle_fetched(set, fetch_id, answer, now);
    }
    assert_eq!(fetches(&mut scheduler), []);
    for _ in 0..12 {
        now = now + schedule::DENIED_RETRY;
        scheduler.handle_timeout(now);
        let is_probe = fetches(&mut scheduler);
        let is_probe: Vec<_> = is_probe
            .into_iter()
            .filter(|(set, _)| scheduler.name_of(*set).unwrap().0 == "acme")
            .collect();
        assert_eq!(
            is_probe.len(),
            1,
            "one request in five minutes for the whole client"
        );
        scheduler.handle_fetched(is_probe[0].0, is_probe[0].1, denied(), now);
        scheduler.handle_timeout(now);
    }
    now = now + schedule::DENIED_RETRY;
    scheduler.handle_timeout(now);
    let mut requests = fetches(&mut scheduler);
    requests.retain(|(set, _)| scheduler.name_of(*set).unwrap().0 == "acme");
    let mut started = 0;
    while let Some((set, fetch_id)) = requests.pop() {
        started += 1;
        let answer = Ok(good(&scheduler, set));
        scheduler.handle_fetched(set, fetch_id, answer, now);
        requests.extend(fetches(&mut scheduler));
    }
    assert_eq!(started, 5, "all follow once the probe succeeds");
}

#[test]
fn rejected_scope_stops_its_own_scope_set_only() {
    let mut scheduler = Scheduler::new(1);
    add(&mut scheduler, "acme", 2);
    let requests = fetches(&mut scheduler);
    let refused = Err(FetchError::Denied {
        scope_only: true,
        in_domos_form: true,
        message: "invalid_scope".to_owned(),
    });
    scheduler.handle_fetched(requests[0].0, requests[0].1, refused, NOW);
    let answer = Ok(good(&scheduler, requests[1].0));
    scheduler.handle_fetched(requests[1].0, requests[1].1, answer, NOW);
    let states: Vec<_> = scheduler.status(NOW).map(|set| set.state).collect();
    let has = |state| states.contains(&state);
    assert!(
        has(ScopeState::Denied) && has(ScopeState::Fresh),
        "{states:?}"
    );
}

#[test]
fn status_continues_after_any_scope_set() {
    let mut scheduler = Scheduler::new(1);
    for (client, sets) in [("acme", 3), ("beta", 2)] {
        add(&mut scheduler, client, sets);
    }
    let name = |set: ScopeStatus| (set.client, ScopeSet::parse(&set.scope).unwrap());
    let all: Vec<_> = scheduler.status(NOW).map(name).collect();
    assert_eq!(all.len(), 5);
    for (number, previous) in all.iter().enumerate() {
        let rest = scheduler.status_after(Some(previous), NOW);
        let rest = rest.map(|(scope, set)| (set.client, scope.clone()));
        let rest: Vec<_> = rest.collect();
        assert_eq!(rest, all[number + 1..]);
    }
    let absent = ("aardvark".to_owned(), ScopeSet::parse("z").unwrap());
    assert_eq!(scheduler.status_after(Some(&absent), NOW).count(), 5);
}

#[test]
fn late_response_to_a_timed_out_request_is_ignored() {
    let mut scheduler = Scheduler::new(1);
    add(&mut scheduler, "acme", 1);
    let (set, fetch_id) = fetches(&mut scheduler)[0];
    let due = scheduler.poll_timeout().unwrap();
    scheduler.handle_timeout(due);
    let answer = Ok(good(&scheduler, set));
    scheduler.handle_fetched(set, fetch_id, answer, due);
    assert!(scheduler.status(due).all(|set| set.expires.is_none()));
}

#[test]
fn unknown_client_and_unknown_scope_set_are_distinguished() {
    let mut scheduler = Scheduler::new(1);
    add(&mut scheduler, "acme", 2);
    let scope = ScopeSet::parse("nosuch").unwrap();
    assert_eq!(scheduler.find("nobody", &scope), Err(NotFound::Client));
    assert_eq!(
        scheduler.find("acme", &scope),
        Err(NotFound::Scope(sets(2)))
    );
    assert!(scheduler.find("acme", &sets(1)[0]).is_ok());
}

#[test]
fn request_for_a_set_that_does_not_exist_is_refused_and_waits_for_nothing() {
    let mut scheduler = Scheduler::new(1);
    scheduler.configure(vec![spec("acme", 1)], NOW);
    let set = fetches(&mut scheduler)[0].0;
    scheduler.configure(Vec::new(), NOW);
    fetches(&mut scheduler);
    let request = TokenRequest {
        min_ttl: None,
        deadline: NOW + Duration::from_secs(10),
        renew: None,
    };
    for set in [set, SetId(99)] {
        let refusal = refused(scheduler.request(set, WaiterId(1), &request, NOW));
        assert_eq!(refusal.kind, RefusalKind::Gone);
        assert_eq!(refusal.cause, REMOVED);
    }
    assert_eq!(scheduler.poll_command(), None);
    assert_eq!(scheduler.poll_timeout(), None);
}

#[test]
fn failed_and_timed_out_attempts_are_reported() {
    let mut scheduler = Scheduler::new(1);
    add(&mut scheduler, "acme", 1);
    fetches(&mut scheduler);
    let due = scheduler.poll_timeout().unwrap();
    scheduler.handle_timeout(due);
    let reported = std::iter::from_fn(|| scheduler.poll_command()).any(|command| {
        matches!(
            command,
            Command::Report(
                _,
                Outcome::Failed {
                    cause: Cause::Timeout,
                    repeated: false,
                    ..
                }
            )
        )
    });
    assert!(reported);
}

#[test]
fn document_states_the_current_bounds() {
    let document = include_str!("../../../../docs/architecture.md");
    let works = format!("{} s", LOGIN_WORKS.as_secs());
    for (name, bound) in [
        (
            "MAX_IN_FLIGHT_PER_CLIENT",
            MAX_IN_FLIGHT_PER_CLIENT.to_string(),
        ),
        ("MAX_IN_FLIGHT", MAX_IN_FLIGHT.to_string()),
        ("LOGIN_WORKS", works),
    ] {
        assert!(
            document.contains(&format!("| `{name}` | {bound} |")),
            "{name}"
        );
    }
}

//! Clients whose tokens are shared with other hosts.

use super::*;
use crate::fetch::AgreedRetry;
use crate::schedule::{FLEET_WAIT, REQUEST_GRACE, REQUEST_MAX};

fn sharing(name: &str, count: usize) -> ClientSpec {
    ClientSpec {
        shares: true,
        ..spec(name, count)
    }
}

/// Returns the scopes of the requests of a new host with 20 scope sets, in the order of their start.
fn order(seed: u64, wanted: &[ClientSpec]) -> Vec<String> {
    let mut scheduler = Scheduler::new(seed);
    for spec in wanted {
        scheduler.configure(vec![spec.clone()], NOW);
    }
    let mut started = Vec::new();
    let mut requests: VecDeque<_> = fetches(&mut scheduler).into();
    while let Some((set, fetch_id)) = requests.pop_front() {
        started.push(scheduler.name_of(set).unwrap().1.to_string());
        let answer = Ok(good(&scheduler, set));
        scheduler.handle_fetched(set, fetch_id, answer, NOW);
        requests.extend(fetches(&mut scheduler));
    }
    started
}

#[test]
fn hosts_that_start_together_fetch_shared_tokens_each_in_another_order() {
    let sorted = order(1, &[spec("acme", 20)]);
    assert_eq!(order(2, &[spec("acme", 20)]), sorted, "without a fleet");
    let pending = ClientSpec {
        loading: Some(Loading::Pending),
        shares: false,
        ..sharing("acme", 20)
    };
    for wanted in [
        vec![sharing("acme", 20)],
        vec![pending, sharing("acme", 20)],
    ] {
        let orders = [1, 2, 3].map(|seed| order(seed, &wanted));
        assert!(orders[0] != orders[1] && orders[1] != orders[2]);
        for mut order in orders {
            assert_ne!(order, sorted);
            order.sort();
            let mut all = sorted.clone();
            all.sort();
            assert_eq!(order, all, "each once");
        }
    }
}

#[test]
fn reload_changes_how_long_the_next_fetch_may_wait() {
    let mut scheduler = Scheduler::new(1);
    let limit = REQUEST_MAX + REQUEST_GRACE;
    scheduler.configure(vec![spec("acme", 1)], NOW);
    assert_eq!(scheduler.poll_timeout(), Some(NOW + limit));
    for (number, shares) in [(1, true), (2, false)] {
        let now = NOW + Duration::from_secs(number);
        let changed = ClientSpec {
            shares,
            renewed: true,
            ..spec("acme", 1)
        };
        scheduler.configure(vec![changed], now);
        let wait = if shares { FLEET_WAIT } else { Duration::ZERO };
        assert_eq!(scheduler.poll_timeout(), Some(now + wait + limit));
    }
}

#[test]
fn request_that_is_sent_gets_its_own_time_and_the_timer_follows() {
    let mut scheduler = Scheduler::new(1);
    scheduler.configure(vec![sharing("acme", 1)], NOW);
    let (set, fetch_id) = fetches(&mut scheduler)[0];
    assert!(scheduler.occasion(set, NOW).is_some());
    let later = NOW + Duration::from_secs(20);
    scheduler.handle_progress(set, fetch_id, Progress::Requested, later);
    let due = later + REQUEST_MAX + REQUEST_GRACE;
    assert_eq!(scheduler.poll_timeout(), Some(due));
    assert_eq!(scheduler.status_of(set, later).unwrap().requests, 1);
    scheduler.handle_timeout(due);
    assert!(scheduler.occasion(set, due).is_none());
    let absent = SetId(99);
    scheduler.handle_progress(absent, fetch_id, Progress::Requested, due);
    assert!(scheduler.occasion(absent, due).is_none());
}

#[test]
fn client_rejection_on_which_the_fleet_agrees_blocks_all_scope_sets_until_its_time() {
    let mut scheduler = Scheduler::new(1);
    scheduler.configure(vec![sharing("acme", 3)], NOW);
    let requests = fetches(&mut scheduler);
    let at = NOW + Duration::from_secs(77);
    let error = denied().unwrap_err();
    let agreed = Some(AgreedRetry { failures: 4, at });
    let (set, fetch_id) = requests[0];
    scheduler.handle_fetched(set, fetch_id, Fetch::Failed { error, agreed }, NOW);
    for (set, fetch_id) in &requests[1..] {
        let error = denied().unwrap_err();
        let fetch = Fetch::Failed { error, agreed };
        scheduler.handle_fetched(*set, *fetch_id, fetch, NOW);
    }
    assert_eq!(scheduler.poll_timeout(), Some(at));
    for status in scheduler.status(NOW) {
        assert_eq!(status.state, ScopeState::Denied);
        assert_eq!(status.next_attempt, Some(at));
    }
    scheduler.handle_timeout(at);
    assert_eq!(fetches(&mut scheduler).len(), 1, "one tries it");
}

//! The first rejection of a client, its confirmation, and their effect on the client's other scope sets.

use super::*;

const SECOND: Duration = Duration::from_secs(1);

/// Runs until `end`, each request taking a tenth of a second. Returns when each request was sent, in
/// tenths of a second.
fn run(
    scheduler: &mut Scheduler,
    end: BootTime,
    answer: impl Fn(usize, &Scheduler, SetId) -> Result<Fetched, FetchError>,
) -> Vec<u128> {
    let (mut now, mut sent) = (NOW, Vec::new());
    let mut requests: VecDeque<(BootTime, SetId, FetchId, usize)> = VecDeque::new();
    loop {
        for (set, fetch_id) in fetches(scheduler) {
            let number = sent.len();
            sent.push(now.saturating_since(NOW).as_millis() / 100);
            requests.push_back((now + SECOND / 10, set, fetch_id, number));
        }
        let answered = requests.front().map(|(at, ..)| *at);
        let due = answered.into_iter().chain(scheduler.poll_timeout()).min();
        match due.filter(|due| *due <= end) {
            Some(due) => now = due,
            None => return sent,
        }
        scheduler.handle_timeout(now);
        if let Some((_, set, fetch_id, number)) = requests.pop_front_if(|(at, ..)| *at <= now) {
            let answer = answer(number, scheduler, set);
            scheduler.handle_fetched(set, fetch_id, answer, now);
        }
    }
}

#[test]
fn wrong_secret_costs_those_in_flight_one_confirmation_and_then_one_request_in_five_minutes() {
    let mut scheduler = Scheduler::new(1);
    add(&mut scheduler, "acme", 8);
    let end = NOW + SECOND * 1000;
    let sent = run(&mut scheduler, end, |_, _, _| denied());
    // The second one was answered when the first one was, so its rejection is no confirmation.
    assert_eq!(sent, [0, 0, 0, 51, 3052, 6053, 9054]);
}

#[test]
fn one_rejection_that_passes_costs_all_scope_sets_five_seconds() {
    let mut scheduler = Scheduler::new(1);
    add(&mut scheduler, "acme", 8);
    let end = NOW + SECOND * 20;
    let sent = run(&mut scheduler, end, |number, scheduler, set| match number {
        0..3 => denied(),
        _ => Ok(good(scheduler, set)),
    });
    assert_eq!(sent.len(), 3 + 8);
    assert_eq!(sent[3], 51);
    assert!(sent[4..].iter().all(|at| (52..60).contains(at)), "{sent:?}");
    let fresh = |set: ScopeStatus| set.state == ScopeState::Fresh;
    assert!(scheduler.status(end).all(fresh));
}

#[test]
fn rejected_scope_set_continues_when_another_one_confirms_the_client() {
    let mut scheduler = Scheduler::new(1);
    add(&mut scheduler, "acme", 3);
    let requests = fetches(&mut scheduler);
    for (set, fetch_id) in &requests {
        scheduler.handle_fetched(*set, *fetch_id, denied(), NOW);
    }
    let request = TokenRequest {
        min_ttl: None,
        deadline: NOW + SECOND * 10,
        renew: None,
    };
    for (waiter, (set, _)) in requests.iter().enumerate() {
        let waiter = WaiterId(waiter.try_into().unwrap());
        assert_eq!(
            scheduler.request(*set, waiter, &request, NOW),
            Answer::Later,
            "it waits"
        );
    }
    let now = NOW + schedule::CONFIRM_AFTER;
    scheduler.handle_timeout(now);
    let confirming = fetches(&mut scheduler);
    let [(set, fetch_id)] = confirming[..] else {
        panic!("{confirming:?}");
    };
    assert_eq!(set, requests[0].0, "the one that was rejected first");
    let answer = Ok(good(&scheduler, set));
    scheduler.handle_fetched(set, fetch_id, answer, now);
    assert_eq!(fetches(&mut scheduler).len(), 2);
}

#[test]
fn rejected_trial_of_new_credentials_costs_one_confirmation() {
    let mut scheduler = Scheduler::new(1);
    scheduler.configure(vec![spec("acme", 6)], NOW);
    let end = NOW + SECOND * 1000;
    let sent = run(&mut scheduler, end, |_, _, _| denied());
    assert_eq!(sent.len(), 3 + 1 + 3);
    let renewed = ClientSpec {
        renewed: true,
        ..spec("acme", 6)
    };
    scheduler.configure(vec![renewed], end);
    let trial = fetches(&mut scheduler);
    assert_eq!(trial.len(), 1);
    scheduler.handle_fetched(trial[0].0, trial[0].1, denied(), end);
    let mut count = 0;
    let mut now = end;
    while now < end + schedule::CONFIRM_AFTER + schedule::DENIED_RETRY {
        for (set, fetch_id) in fetches(&mut scheduler) {
            count += 1;
            scheduler.handle_fetched(set, fetch_id, denied(), now);
        }
        now = scheduler.poll_timeout().unwrap();
        scheduler.handle_timeout(now);
    }
    assert_eq!(count, 1, "the confirmation");
}

#[test]
fn new_credentials_during_the_wait_for_the_confirmation_are_tried_immediately() {
    let mut scheduler = Scheduler::new(1);
    scheduler.configure(vec![spec("acme", 3)], NOW);
    for (set, fetch_id) in fetches(&mut scheduler) {
        scheduler.handle_fetched(set, fetch_id, denied(), NOW);
    }
    let renewed = ClientSpec {
        renewed: true,
        ..spec("acme", 3)
    };
    let soon = NOW + SECOND;
    scheduler.configure(vec![renewed], soon);
    let requests = fetches(&mut scheduler);
    assert_eq!(requests.len(), 1, "one set tries them");
    let answer = Ok(good(&scheduler, requests[0].0));
    scheduler.handle_fetched(requests[0].0, requests[0].1, answer, soon);
    assert_eq!(fetches(&mut scheduler).len(), 2);
}

#[test]
fn reload_during_the_wait_for_the_confirmation_is_the_confirmation() {
    let mut scheduler = Scheduler::new(1);
    add(&mut scheduler, "acme", 2);
    for (set, fetch_id) in fetches(&mut scheduler) {
        scheduler.handle_fetched(set, fetch_id, denied(), NOW);
    }
    let soon = NOW + SECOND;
    scheduler.retry(soon);
    let requests = fetches(&mut scheduler);
    assert_eq!(requests.len(), 2);
    for (set, fetch_id) in requests {
        scheduler.handle_fetched(set, fetch_id, denied(), soon);
    }
    scheduler.handle_timeout(soon + schedule::CONFIRM_AFTER);
    assert_eq!(fetches(&mut scheduler), []);
    scheduler.handle_timeout(soon + schedule::DENIED_RETRY);
    assert_eq!(fetches(&mut scheduler).len(), 1);
}

#[test]
fn confirmation_that_fails_otherwise_is_repeated_by_the_same_set_alone() {
    let mut scheduler = Scheduler::new(1);
    let sets = add(&mut scheduler, "acme", 4);
    let requests = fetches(&mut scheduler);
    let confirming = requests[0].0;
    for (set, fetch_id) in requests {
        scheduler.handle_fetched(set, fetch_id, denied(), NOW);
    }
    for _attempt in 0..5 {
        let now = scheduler.poll_timeout().unwrap();
        scheduler.handle_timeout(now);
        let requests = fetches(&mut scheduler);
        let [(set, fetch_id)] = requests[..] else {
            panic!("{requests:?}");
        };
        assert_eq!(set, confirming);
        let busy = Err(FetchError::transient(Cause::Server, "503"));
        scheduler.handle_fetched(set, fetch_id, busy, now);
        let next = scheduler.status(now).map(|set| set.next_attempt);
        let next: BTreeSet<_> = next.collect();
        assert_eq!(next.len(), 1, "all show when that is: {next:?}");
    }
    let mut now = scheduler.poll_timeout().unwrap();
    scheduler.handle_timeout(now);
    let requests = fetches(&mut scheduler);
    scheduler.handle_fetched(requests[0].0, requests[0].1, denied(), now);
    scheduler.handle_timeout(now + schedule::CONFIRM_AFTER);
    assert_eq!(fetches(&mut scheduler), [], "that was the confirmation");
    now = now + schedule::DENIED_RETRY;
    scheduler.handle_timeout(now);
    let probe = fetches(&mut scheduler);
    let answer = Ok(good(&scheduler, probe[0].0));
    scheduler.handle_fetched(probe[0].0, probe[0].1, answer, now);
    assert_eq!(fetches(&mut scheduler).len(), sets.len() - 1);
}

#[test]
fn scope_set_added_to_a_rejected_client_causes_no_confirmation() {
    let mut scheduler = Scheduler::new(1);
    scheduler.configure(vec![spec("acme", 1)], NOW);
    let first = fetches(&mut scheduler);
    scheduler.handle_fetched(first[0].0, first[0].1, denied(), NOW);
    let now = NOW + schedule::CONFIRM_AFTER;
    scheduler.handle_timeout(now);
    let second = fetches(&mut scheduler);
    scheduler.handle_fetched(second[0].0, second[0].1, denied(), now);
    scheduler.configure(vec![spec("acme", 2)], now);
    let added = fetches(&mut scheduler);
    assert_eq!(added.len(), 1);
    scheduler.handle_fetched(added[0].0, added[0].1, denied(), now);
    scheduler.handle_timeout(now + schedule::CONFIRM_AFTER);
    assert_eq!(fetches(&mut scheduler), []);
}

#[test]
fn set_that_was_rejected_once_keeps_its_wait_and_its_callers_when_another_one_succeeds() {
    let mut scheduler = Scheduler::new(1);
    add(&mut scheduler, "acme", 2);
    let requests = fetches(&mut scheduler);
    let (set, fetch_id) = requests[0];
    scheduler.handle_fetched(set, fetch_id, denied(), NOW);
    let request = |wait| TokenRequest {
        min_ttl: None,
        deadline: NOW + SECOND * wait,
        renew: None,
    };
    assert_eq!(
        scheduler.request(set, WaiterId(1), &request(10), NOW),
        Answer::Later
    );
    let answer = Ok(good(&scheduler, requests[1].0));
    scheduler.handle_fetched(requests[1].0, requests[1].1, answer, NOW);
    let commands: Vec<Command> = std::iter::from_fn(|| scheduler.poll_command()).collect();
    let replies = commands.iter();
    let replies = replies.filter(|command| matches!(command, Command::Reply(..)));
    assert_eq!(replies.count(), 0, "its own next request is due in time");
    let refusal = refused(scheduler.request(set, WaiterId(2), &request(2), NOW));
    assert!(refusal.cause.contains("401"), "{}", refusal.cause);
    let now = NOW + schedule::CONFIRM_AFTER;
    scheduler.handle_timeout(now);
    let repeated = fetches(&mut scheduler);
    assert_eq!(repeated.len(), 1);
    let answer = Ok(good(&scheduler, repeated[0].0));
    scheduler.handle_fetched(repeated[0].0, repeated[0].1, answer, now);
    let is_token = |command| matches!(command, Command::Reply(WaiterId(1), Ok(_)));
    assert!(std::iter::from_fn(|| scheduler.poll_command()).any(is_token));
}

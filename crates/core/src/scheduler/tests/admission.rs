use super::*;

/// Runs until `end`; only the requests of `healthy` are answered.
fn pass(scheduler: &mut Scheduler, healthy: &str, end: BootTime) -> Option<BootTime> {
    let mut now = NOW;
    loop {
        for (set, fetch_id) in fetches(scheduler) {
            if scheduler.name_of(set).unwrap().0 == healthy {
                let answer = Ok(good(scheduler, set));
                scheduler.handle_fetched(set, fetch_id, answer, now);
                return Some(now);
            }
        }
        now = scheduler.poll_timeout().unwrap();
        if now > end {
            return None;
        }
        scheduler.handle_timeout(now);
    }
}

#[test]
fn clients_whose_requests_hang_do_not_starve_another_client() {
    let mut scheduler = Scheduler::new(1);
    for number in 0..30 {
        add(&mut scheduler, &format!("hangs{number:02}"), 40);
    }
    add(&mut scheduler, "healthy", 1);
    let end = NOW + schedule::request_timeout(None) + schedule::REQUEST_GRACE;
    let served = pass(&mut scheduler, "healthy", end);
    assert_eq!(served, Some(end), "with the first room there is");
}

#[test]
fn clients_that_wait_for_admission_are_served_round_robin() {
    let mut scheduler = Scheduler::new(1);
    let names = (0..40).map(|number| format!("client{number:02}"));
    for name in names {
        add(&mut scheduler, &name, 10);
    }
    let mut requests: VecDeque<(SetId, FetchId)> = fetches(&mut scheduler).into();
    let mut turns: BTreeMap<String, usize> = BTreeMap::new();
    for _answer in 0..200 {
        let (set, fetch_id) = requests.pop_front().unwrap();
        let (client, _) = scheduler.name_of(set).unwrap();
        *turns.entry(client.to_owned()).or_default() += 1;
        let answer = Ok(good(&scheduler, set));
        scheduler.handle_fetched(set, fetch_id, answer, NOW);
        requests.extend(fetches(&mut scheduler));
        assert!(requests.len() <= MAX_IN_FLIGHT);
    }
    assert_eq!(turns.len(), 40, "nobody is left out: {turns:?}");
    let (least, most) = (turns.values().min(), turns.values().max());
    assert!(most.unwrap() - least.unwrap() <= 3, "{turns:?}");
}

/// Domo rejects one scope set of a client as if it rejected the client; the others would be granted.
#[test]
fn client_rejection_of_one_scope_set_costs_the_others_no_token() {
    let mut scheduler = Scheduler::new(1);
    let sets = add(&mut scheduler, "acme", 6);
    let mut now = NOW;
    let mut started: BTreeMap<SetId, Vec<BootTime>> = BTreeMap::new();
    while now < NOW + Duration::from_secs(86_400) {
        let mut requests = fetches(&mut scheduler);
        while let Some((set, fetch_id)) = requests.pop() {
            started.entry(set).or_default().push(now);
            let answer = if set == sets[0] {
                denied()
            } else {
                Ok(good(&scheduler, set))
            };
            scheduler.handle_fetched(set, fetch_id, answer, now);
            requests.extend(fetches(&mut scheduler));
        }
        let valid = scheduler.status(now);
        let valid = valid.filter(|set| set.expires.is_some()).count();
        let begun = now > NOW + Duration::from_secs(1200);
        assert!(!begun || valid == 5, "{now}");
        now = scheduler.poll_timeout().unwrap();
        scheduler.handle_timeout(now);
    }
    // Each rejection follows another set's success, so it is confirmed.
    let intervals = started[&sets[0]].windows(3);
    let intervals = intervals.map(|three| three[2].saturating_since(three[0]));
    assert!(intervals.min().unwrap() >= schedule::DENIED_RETRY);
    let all: usize = started.values().map(Vec::len).sum();
    assert!(all <= 3 * 288 + 6 * 34, "{all} in a day");
}

#[test]
fn scope_set_with_rejected_scopes_waits_whatever_happens_to_its_client() {
    let mut scheduler = Scheduler::new(1);
    add(&mut scheduler, "acme", 3);
    let requests = fetches(&mut scheduler);
    let refused = Err(FetchError::Denied {
        scope_only: true,
        in_domos_form: true,
        message: "invalid_scope".to_owned(),
    });
    scheduler.handle_fetched(requests[0].0, requests[0].1, refused, NOW);
    let soon = NOW + Duration::from_secs(1);
    scheduler.handle_fetched(requests[1].0, requests[1].1, denied(), soon);
    let answer = Ok(good(&scheduler, requests[2].0));
    scheduler.handle_fetched(requests[2].0, requests[2].1, answer, soon);
    assert_eq!(fetches(&mut scheduler), [], "none before its five minutes");
    let confirm_at = soon + schedule::CONFIRM_AFTER;
    scheduler.handle_timeout(confirm_at);
    let confirming = fetches(&mut scheduler);
    assert_eq!(confirming.len(), 1);
    assert_eq!(confirming[0].0, requests[1].0);
    let answer = Ok(good(&scheduler, requests[1].0));
    scheduler.handle_fetched(confirming[0].0, confirming[0].1, answer, confirm_at);
    assert_eq!(fetches(&mut scheduler), []);
    scheduler.handle_timeout(NOW + schedule::DENIED_RETRY);
    let started = fetches(&mut scheduler);
    assert_eq!(started.len(), 1);
    assert_eq!(started[0].0, requests[0].0);
}

#[test]
fn scope_set_under_retry_after_does_not_probe_for_its_client() {
    let mut scheduler = Scheduler::new(1);
    let sets = add(&mut scheduler, "acme", 3);
    let requests = fetches(&mut scheduler);
    let busy = FetchError::Transient {
        cause: Cause::RateLimited,
        message: "429".to_owned(),
        retry_after: Some(Duration::from_secs(3600)),
    };
    for ((set, fetch_id), answer) in requests.into_iter().zip([denied(), Err(busy), denied()]) {
        scheduler.handle_fetched(set, fetch_id, answer, NOW);
    }
    let mut now = NOW;
    while now < NOW + Duration::from_secs(3600) {
        now = scheduler.poll_timeout().unwrap();
        scheduler.handle_timeout(now);
        for (set, fetch_id) in fetches(&mut scheduler) {
            let early = now < NOW + Duration::from_secs(3600);
            assert!(set != sets[1] || !early, "requested at {now}");
            scheduler.handle_fetched(set, fetch_id, denied(), now);
        }
    }
}

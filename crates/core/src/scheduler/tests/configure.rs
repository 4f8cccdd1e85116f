use domo_token_protocol::messages::RefusalKind;

use super::*;

fn fetched(scheduler: &mut Scheduler) {
    loop {
        let requests = fetches(scheduler);
        if requests.is_empty() {
            return;
        }
        for (set, fetch_id) in requests {
            let answer = Ok(good(scheduler, set));
            scheduler.handle_fetched(set, fetch_id, answer, NOW);
        }
    }
}

fn expiries(scheduler: &Scheduler) -> Vec<(String, String, Option<BootTime>)> {
    let all = scheduler.status(NOW);
    all.map(|set| (set.client, set.scope, set.expires))
        .collect()
}

#[test]
fn unchanged_scope_sets_keep_their_tokens_and_cause_no_request() {
    let mut scheduler = Scheduler::new(1);
    let all = vec![spec("acme", 2), spec("other", 1)];
    let changes = scheduler.configure(all.clone(), NOW);
    assert_eq!(changes.added, ["acme", "other"]);
    fetched(&mut scheduler);
    let before = expiries(&scheduler);
    let due = scheduler.poll_timeout();
    assert_eq!(scheduler.configure(all, NOW), ConfigDiff::default());
    assert_eq!(fetches(&mut scheduler), []);
    assert_eq!(expiries(&scheduler), before);
    assert_eq!(scheduler.poll_timeout(), due);
}

#[test]
fn added_scope_sets_are_fetched_and_callers_of_removed_ones_are_refused() {
    let mut scheduler = Scheduler::new(1);
    scheduler.configure(vec![spec("acme", 2), spec("other", 1)], NOW);
    let requests = fetches(&mut scheduler);
    let id = scheduler.find("other", &sets(1)[0]).unwrap();
    let request = TokenRequest {
        min_ttl: None,
        deadline: NOW + Duration::from_secs(10),
        renew: None,
    };
    assert_eq!(
        scheduler.request(id, WaiterId(7), &request, NOW),
        Answer::Later
    );

    let changes = scheduler.configure(vec![spec("acme", 3)], NOW);
    assert_eq!(changes.removed, ["other"]);
    assert_eq!(changes.scopes, ["acme"]);
    let commands: Vec<Command> = std::iter::from_fn(|| scheduler.poll_command()).collect();
    assert!(commands.contains(&Command::Abort(id)));
    assert!(commands.contains(&Command::Remove(id)));
    let is_removed = commands.iter().any(|command| {
        matches!(command, Command::Reply(WaiterId(7), Err(refusal)) if refusal.kind == RefusalKind::Gone)
    });
    assert!(is_removed, "{commands:?}");
    let asked = |command: &&Command| matches!(command, Command::Fetch(..));
    assert_eq!(commands.iter().filter(asked).count(), 1, "the added set");

    let (set, fetch_id) = requests.into_iter().find(|(set, _)| *set == id).unwrap();
    let late = Fetched {
        text: "late".into(),
        lifetime: Duration::from_secs(3600),
        expires: None,
        renew_at: None,
        origin: crate::fetch_result::TokenOrigin::Domo,
        lifetime_source: LifetimeSource::Stated,
        granted: sets(1)[0].clone(),
    };
    scheduler.handle_fetched(set, fetch_id, Ok(late), NOW);
    assert_eq!(scheduler.poll_command(), None, "its late answer is dropped");
    assert_eq!(scheduler.watcher_reply(id, NOW), None);
    assert!(scheduler.status(NOW).all(|set| set.client == "acme"));
}

#[test]
fn admission_freed_by_a_removed_client_is_used() {
    let mut scheduler = Scheduler::new(1);
    let many = |from: usize| (from..100).map(|number| spec(&format!("c{number:02}"), 1));
    scheduler.configure(many(0).collect(), NOW);
    assert_eq!(fetches(&mut scheduler).len(), MAX_IN_FLIGHT);
    scheduler.configure(many(64).collect(), NOW);
    assert_eq!(fetches(&mut scheduler).len(), 36);
}

#[test]
fn new_credentials_are_tried_immediately_in_each_state_of_the_old_ones() {
    let mut scheduler = Scheduler::new(1);
    scheduler.configure(vec![spec("acme", 5)], NOW);
    for (set, fetch_id) in fetches(&mut scheduler) {
        scheduler.handle_fetched(set, fetch_id, denied(), NOW);
    }
    assert_eq!(fetches(&mut scheduler), [], "the whole client waits");
    let renewed = ClientSpec {
        shown_id: "new…".to_owned(),
        renewed: true,
        ..spec("acme", 5)
    };
    let changes = scheduler.configure(vec![renewed], NOW);
    assert_eq!(changes.renewed, ["acme"]);
    let requests = fetches(&mut scheduler);
    assert_eq!(
        requests.len(),
        1,
        "the old ones were rejected: one set tries"
    );
    for (set, fetch_id) in requests {
        let answer = Ok(good(&scheduler, set));
        scheduler.handle_fetched(set, fetch_id, answer, NOW);
    }
    fetched(&mut scheduler);
    let fresh = |set: ScopeStatus| set.state == ScopeState::Fresh && set.client_id == "new…";
    assert!(scheduler.status(NOW).all(fresh));
}

#[test]
fn retry_starts_rejected_and_waiting_scope_sets_only() {
    let mut scheduler = Scheduler::new(1);
    scheduler.configure(vec![spec("acme", 2), spec("good", 1), spec("slow", 1)], NOW);
    for (set, fetch_id) in fetches(&mut scheduler) {
        let (client, _) = scheduler.name_of(set).unwrap();
        let answer = match client {
            "acme" => denied(),
            "slow" => Err(FetchError::transient(Cause::Server, "503")),
            _ => Ok(good(&scheduler, set)),
        };
        scheduler.handle_fetched(set, fetch_id, answer, NOW);
    }
    assert_eq!(fetches(&mut scheduler), []);
    scheduler.retry(NOW);
    let tried = fetches(&mut scheduler);
    let names: Vec<&str> = tried
        .iter()
        .map(|(set, _)| scheduler.name_of(*set).unwrap().0)
        .collect();
    assert_eq!(names, ["acme", "acme", "slow"]);
}

#[test]
fn scope_set_toggled_by_each_config_is_limited_like_changing_credentials() {
    for keep_client in [true, false] {
        let mut scheduler = Scheduler::new(1);
        let with = vec![spec("acme", 2), spec("other", 1)];
        let mut without = vec![spec("other", 1)];
        without.extend(keep_client.then(|| spec("acme", 1)));
        let mut asked = Vec::new();
        for step in 0..100 {
            let now = NOW + Duration::from_millis(200) * step;
            scheduler.handle_timeout(now);
            let config = if step % 2 == 0 { &with } else { &without };
            scheduler.configure(config.clone(), now);
            for (set, _) in fetches(&mut scheduler) {
                if scheduler
                    .name_of(set)
                    .is_some_and(|(_, scope)| *scope == sets(2)[1])
                {
                    asked.push(now.saturating_since(NOW).as_secs());
                }
            }
        }
        // The first one is that of a new set.
        assert_eq!(asked, [0, 0, 0, 1, 10], "{keep_client}");
    }
}

#[test]
fn client_renamed_by_each_config_is_limited_like_changing_credentials() {
    let loaded = |name: &str, loading: Option<Loading>| {
        let shown_id = if loading.is_none() { "441e307a…" } else { "" };
        let shown_id = shown_id.to_owned();
        let spec = spec(name, 1);
        vec![ClientSpec {
            shown_id,
            loading,
            shares: false,
            ..spec
        }]
    };
    for by_command in [false, true] {
        let mut scheduler = Scheduler::new(1);
        let mut asked = Vec::new();
        for step in 0..100 {
            let now = NOW + Duration::from_millis(200) * step;
            scheduler.handle_timeout(now);
            let name = if step % 2 == 0 { "acme" } else { "beta" };
            if by_command {
                scheduler.configure(loaded(name, Some(Loading::Pending)), now);
            }
            scheduler.configure(loaded(name, None), now);
            let requests = fetches(&mut scheduler).len();
            asked.extend(std::iter::repeat_n(
                now.saturating_since(NOW).as_secs(),
                requests,
            ));
        }
        // The first one is that of a new set.
        assert_eq!(asked, [0, 0, 0, 0, 10], "{by_command}");
    }
}

#[test]
fn scope_set_added_again_later_is_a_new_one() {
    let mut scheduler = Scheduler::new(1);
    let later = |seconds| NOW + Duration::from_secs(seconds);
    for step in 0..8 {
        scheduler.configure(vec![spec("acme", 1)], later(step * 40));
        assert_eq!(fetches(&mut scheduler).len(), 1, "{step}");
        scheduler.configure(Vec::new(), later(step * 40 + 1));
        fetches(&mut scheduler);
    }
    assert_eq!(
        scheduler.removed_sets.len(),
        1,
        "what is long past is forgotten"
    );
}

fn renewed(count: usize) -> Vec<ClientSpec> {
    vec![ClientSpec {
        renewed: true,
        ..spec("acme", count)
    }]
}

#[test]
fn wrong_credentials_that_change_constantly_cost_a_client_few_requests() {
    let mut scheduler = Scheduler::new(1);
    scheduler.configure(vec![spec("acme", 3)], NOW);
    fetched(&mut scheduler);
    let mut asked = Vec::new();
    // Five changes a second for forty seconds, each rejected immediately.
    for step in 0..200 {
        let now = NOW + Duration::from_millis(200) * step;
        scheduler.handle_timeout(now);
        scheduler.configure(renewed(3), now);
        for (set, fetch_id) in fetches(&mut scheduler) {
            asked.push(now.saturating_since(NOW).as_secs());
            scheduler.handle_fetched(set, fetch_id, denied(), now);
        }
    }
    // All sets at first, and after the first rejection one.
    assert_eq!(asked, [0, 0, 0, 0, 0, 10, 20, 30]);
}

#[test]
fn scope_sets_waiting_for_a_trial_continue_when_it_fails_times_out_or_is_removed() {
    for case in 0..3 {
        let mut scheduler = Scheduler::new(1);
        scheduler.configure(vec![spec("acme", 3)], NOW);
        for (set, fetch_id) in fetches(&mut scheduler) {
            scheduler.handle_fetched(set, fetch_id, denied(), NOW);
        }
        scheduler.configure(renewed(3), NOW);
        let requests = fetches(&mut scheduler);
        assert_eq!(requests.len(), 1);
        let (set, fetch_id) = requests[0];
        let later = NOW + Duration::from_secs(60);
        match case {
            0 => {
                let failed = Err(FetchError::transient(Cause::Server, "503"));
                scheduler.handle_fetched(set, fetch_id, failed, NOW);
            }
            1 => scheduler.handle_timeout(later),
            _ => {
                let mut rest = spec("acme", 3);
                rest.scopes.retain(|scope| *scope != sets(3)[0]);
                scheduler.configure(vec![rest], NOW);
            }
        }
        assert!(fetches(&mut scheduler).len() >= 2, "{case}");
    }
}

#[test]
fn rejected_trial_blocks_the_client_as_any_rejection() {
    let mut scheduler = Scheduler::new(1);
    scheduler.configure(vec![spec("acme", 3)], NOW);
    for (set, fetch_id) in fetches(&mut scheduler) {
        scheduler.handle_fetched(set, fetch_id, denied(), NOW);
    }
    scheduler.configure(renewed(3), NOW);
    for (set, fetch_id) in fetches(&mut scheduler) {
        scheduler.handle_fetched(set, fetch_id, denied(), NOW);
    }
    assert_eq!(fetches(&mut scheduler), []);
    let blocked = |set: ScopeStatus| set.state == ScopeState::Denied;
    assert!(scheduler.status(NOW).all(blocked));
}

use super::*;

/// Returns how often watchers were notified.
fn announcements(schedule: &mut Schedule) -> usize {
    let commands = std::iter::from_fn(|| schedule.poll_command());
    commands
        .filter(|command| *command == Command::NotifyWatchers(SET))
        .count()
}

fn failing() -> Result<Fetched, FetchError> {
    Err(FetchError::transient(Cause::Server, "Domo returned 503"))
}

#[test]
fn each_new_token_is_announced_once() {
    let mut schedule = schedule();
    assert!(
        schedule.watcher_reply(START).is_none(),
        "nothing is sure yet"
    );
    let fetch_id = schedule.start(jitter(0.5, 1), START);
    schedule.handle_fetched(fetch_id, Ok(fetched("first", HOUR)), START);
    assert_eq!(announcements(&mut schedule), 1);
    let due = schedule.poll_timeout().unwrap();
    schedule.handle_timeout(due);
    assert_eq!(announcements(&mut schedule), 0);
    let fetch_id = schedule.start(jitter(0.5, 2), due);
    schedule.handle_fetched(fetch_id, Ok(fetched("second", HOUR)), due);
    assert_eq!(announcements(&mut schedule), 1);
    assert_eq!(generation(schedule.watcher_reply(due)), 2);
}

#[test]
fn expiry_without_a_successor_and_the_next_token_are_announced_once_each() {
    let mut schedule = fresh(HOUR);
    let due = schedule.poll_timeout().unwrap();
    schedule.handle_timeout(due);
    let fetch_id = schedule.start(jitter(0.0, 2), due);
    schedule.handle_fetched(fetch_id, failing(), due);
    assert_eq!(announcements(&mut schedule), 0, "the old one is valid");
    let mut now = due;
    let mut announced = 0;
    while now < START + HOUR * 2 {
        now = schedule.poll_timeout().unwrap();
        schedule.handle_timeout(now);
        if schedule.wants_fetch() {
            let fetch_id = schedule.start(jitter(0.0, 3), now);
            schedule.handle_fetched(fetch_id, failing(), now);
        }
        announced += announcements(&mut schedule);
    }
    assert_eq!(announced, 1);
    let refusal = refused(schedule.watcher_reply(now));
    assert_eq!(refusal.kind, RefusalKind::Unavailable);
    assert!(refusal.cause.contains("503"), "{}", refusal.cause);
    schedule.handle_timeout(schedule.poll_timeout().unwrap());
    let fetch_id = schedule.start(jitter(0.0, 4), now);
    schedule.handle_fetched(fetch_id, Ok(fetched("later", HOUR)), now);
    assert_eq!(announcements(&mut schedule), 1);
    assert_eq!(generation(schedule.watcher_reply(now)), 4);
}

#[test]
fn first_failure_is_announced_and_a_second_is_not() {
    let mut schedule = schedule();
    for expected in [1, 0] {
        let now = schedule.poll_timeout().unwrap_or(START);
        schedule.handle_timeout(now);
        let fetch_id = schedule.start(jitter(0.0, 1), now);
        schedule.handle_fetched(fetch_id, failing(), now);
        assert_eq!(announcements(&mut schedule), expected);
    }
}

#[test]
fn expired_token_is_not_shown_before_its_expiry_is_processed() {
    let schedule = fresh(HOUR);
    assert!(schedule.watcher_reply(START + HOUR).unwrap().is_err());
}

#[test]
fn second_rejected_token_in_a_row_is_reported_once() {
    let mut schedule = fresh(HOUR);
    let mut now = START;
    let mut reported = 0;
    for generation in 1..=4 {
        now = now + SECOND * 31;
        let request = TokenRequest {
            renew: Some(Renew::Rejected(generation)),
            ..request(SECOND * 60, now)
        };
        for waiter in [1, 2] {
            schedule.record_rejection(generation, format!("uid {waiter}"));
            assert_eq!(
                schedule.request(WaiterId(waiter), &request, now),
                Answer::Later
            );
        }
        let fetch_id = schedule.start(jitter(0.0, generation + 1), now);
        let text = format!("token {generation}");
        schedule.handle_fetched(fetch_id, Ok(fetched(&text, HOUR)), now);
        let commands = std::iter::from_fn(|| schedule.poll_command());
        reported += commands
            .filter(|command| *command == Command::Report(SET, Outcome::RejectedByDomo))
            .count();
    }
    assert_eq!(reported, 1);
    let status = schedule.status("", now);
    assert_eq!(status.rejected, 8);
    assert_eq!(status.last_rejected_by.as_deref(), Some("uid 2"));
}

use super::*;

/// Lets time pass until `end` while no request is ever answered but those of `healthy`.
fn pass(roster: &mut Roster, healthy: &str, end: BootTime) -> Option<BootTime> {
    let mut now = NOW;
    loop {
        for (set, round) in fetches(roster) {
            if roster.name_of(set).unwrap().0 == healthy {
                let answer = Ok(good(roster, set));
                roster.handle_fetched(set, round, answer, now);
                return Some(now);
            }
        }
        now = roster.poll_timeout().unwrap();
        if now > end {
            return None;
        }
        roster.handle_timeout(now);
    }
}

#[test]
fn clients_whose_domo_hangs_do_not_keep_another_from_its_turn() {
    let mut roster = Roster::new(1);
    for number in 0..30 {
        add(&mut roster, &format!("hangs{number:02}"), 40);
    }
    add(&mut roster, "healthy", 1);
    let end = NOW + schedule::request_timeout(None);
    let served = pass(&mut roster, "healthy", end);
    assert_eq!(served, Some(end), "with the first room there is");
}

#[test]
fn clients_that_wait_for_room_have_it_by_turns() {
    let mut roster = Roster::new(1);
    let names = (0..40).map(|number| format!("client{number:02}"));
    for name in names {
        add(&mut roster, &name, 10);
    }
    let mut flights: VecDeque<(SetId, Round)> = fetches(&mut roster).into();
    let mut turns: BTreeMap<String, usize> = BTreeMap::new();
    for _answer in 0..200 {
        let (set, round) = flights.pop_front().unwrap();
        let (client, _) = roster.name_of(set).unwrap();
        *turns.entry(client.to_owned()).or_default() += 1;
        let answer = Ok(good(&roster, set));
        roster.handle_fetched(set, round, answer, NOW);
        flights.extend(fetches(&mut roster));
        assert!(flights.len() <= MAX_FLIGHTS);
    }
    assert_eq!(turns.len(), 40, "nobody is left out: {turns:?}");
    let (least, most) = (turns.values().min(), turns.values().max());
    assert!(most.unwrap() - least.unwrap() <= 3, "{turns:?}");
}

use super::*;

fn at(seconds: u64) -> BootTime {
    BootTime::from_millis(1000 * seconds)
}

fn key(uid: u32) -> Key {
    (uid, None)
}

fn named(name: &str) -> Identity {
    Identity {
        user: Some(name.to_owned()),
        groups: vec![(7, Some("etl".to_owned()))],
    }
}

/// Without a name, as of a subordinate uid.
fn unnamed() -> Identity {
    Identity::default()
}

#[track_caller]
fn wait(lookups: &mut Lookups, uid: u32, now: BootTime) -> watch::Receiver<Ended> {
    match lookups.request(key(uid), now) {
        Answer::Wait(answer, _) => answer,
        Answer::Now(found) => panic!("{found:?}"),
    }
}

#[track_caller]
fn now(lookups: &mut Lookups, uid: u32, moment: BootTime) -> Found {
    match lookups.request(key(uid), moment) {
        Answer::Now(found) => found,
        Answer::Wait(..) => panic!("uid {uid} waits"),
    }
}

/// A user whose groups have been looked up.
fn look_up(lookups: &mut Lookups, uid: u32, moment: BootTime) {
    let answer = wait(lookups, uid, moment);
    assert_eq!(lookups.start(), Some(key(uid)));
    lookups.ended(key(uid), Some(named(&uid.to_string())), moment);
    assert!(answer.borrow().is_some());
}

#[test]
fn answer_is_valid_for_ten_seconds_from_its_arrival() {
    let mut lookups = Lookups::default();
    let _answer = wait(&mut lookups, 1, at(0));
    lookups.start();
    lookups.ended(key(1), Some(named("ann")), at(8));
    assert!(now(&mut lookups, 1, at(17)).is_complete);
    let _again = wait(&mut lookups, 1, at(18));
}

#[test]
fn failed_lookup_of_one_user_keeps_the_groups_of_others() {
    let mut lookups = Lookups::default();
    for uid in 1..5 {
        look_up(&mut lookups, uid, at(0));
    }
    for uid in 1..5 {
        let _answer = wait(&mut lookups, uid, at(100));
        assert_eq!(lookups.start(), Some(key(uid)));
        lookups.ended(key(uid), None, at(100));
        let found = now(&mut lookups, uid, at(101));
        assert_eq!(*found.identity, named(&uid.to_string()));
        assert!(found.is_complete);
    }
}

#[test]
fn last_known_groups_are_valid_for_an_hour_from_the_last_answer() {
    let mut lookups = Lookups::default();
    look_up(&mut lookups, 1, at(0));
    for (moment, is_complete) in [(3000, true), (3599, true), (3620, false), (9000, false)] {
        let answer = wait(&mut lookups, 1, at(moment));
        lookups.start();
        lookups.ended(key(1), None, at(moment));
        drop(answer);
        let found = lookups.without_answer(key(1), at(moment));
        assert_eq!(found.is_complete, is_complete, "after {moment} s");
        assert_eq!(found.identity.user.is_some(), is_complete);
    }
}

#[test]
fn hanging_lookup_keeps_the_fallback_and_is_not_repeated() {
    let mut lookups = Lookups::default();
    look_up(&mut lookups, 1, at(0));
    let answer = wait(&mut lookups, 1, at(20));
    assert_eq!(lookups.start(), Some(key(1)));
    lookups.failed(key(1), at(21));
    drop(answer);
    lookups.cancel(key(1));
    for moment in [21, 25, 40, 60, 600, 3599] {
        let found = now(&mut lookups, 1, at(moment));
        assert_eq!(*found.identity, named("1"), "after {moment} s");
        assert_eq!(lookups.start(), None);
    }
    assert!(!now(&mut lookups, 1, at(3600)).is_complete);
    lookups.ended(key(1), Some(named("ann")), at(4000));
    assert_eq!(*now(&mut lookups, 1, at(4001)).identity, named("ann"));
}

#[test]
fn known_user_goes_before_unknown_ones_that_asked_earlier_and_finds_a_thread() {
    let mut lookups = Lookups::default();
    look_up(&mut lookups, 1, at(0));
    let mut waiting: Vec<_> = (100..130)
        .map(|uid| wait(&mut lookups, uid, at(20)))
        .collect();
    let started: Vec<Key> = std::iter::from_fn(|| lookups.start()).collect();
    assert_eq!(started.len(), MAX_RUNNING_UNKNOWN);
    waiting.push(wait(&mut lookups, 1, at(20)));
    assert_eq!(lookups.start(), Some(key(1)));
    assert_eq!(lookups.start(), None);
    lookups.ended(key(100), Some(unnamed()), at(21));
    assert_eq!(lookups.start(), Some(key(106)));
}

#[test]
fn unknown_users_past_the_bound_are_answered_without_a_lookup() {
    let mut lookups = Lookups::default();
    let waiting: Vec<_> = (0..64).map(|uid| wait(&mut lookups, uid, at(0))).collect();
    let found = now(&mut lookups, 64, at(0));
    assert!(!found.is_complete);
    drop(waiting);
    for uid in 0..64 {
        lookups.cancel(key(uid));
    }
    assert_eq!(lookups.start(), None, "no caller waits any more");
    assert!(lookups.pending.is_empty() && lookups.waiting_unknown.is_empty());
    let _answer = wait(&mut lookups, 64, at(0));
}

#[test]
fn users_missing_in_the_database_evict_no_known_user() {
    let mut lookups = Lookups::default();
    look_up(&mut lookups, 1, at(0));
    for uid in 100_000..110_000 {
        let _answer = wait(&mut lookups, uid, at(1));
        lookups.start();
        lookups.ended(key(uid), Some(unnamed()), at(1));
        // By many of the groups of one user of the database, too.
        lookups.ended((2, Some(uid)), Some(named("2")), at(2));
    }
    assert_eq!(lookups.known.len(), MAX_KNOWN);
    assert_eq!(lookups.order.len(), MAX_KNOWN);
    let of_two = lookups.known.keys().filter(|key| key.0 == 2).count();
    assert_eq!(of_two, MAX_KNOWN_PER_USER);
    assert_eq!(*now(&mut lookups, 1, at(9)).identity, named("1"));
}

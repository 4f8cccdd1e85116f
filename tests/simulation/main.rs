//! The core and the broker's loop with a simulated clock, network and callers; also several hosts that share tokens
//! through a simulated store.
//!
//! Invariants, checked after every step: (a) a served token is valid for as long as the caller requires; (b) one
//! request at a time for a scope set; (c) none before the floor, the back-off or a rejection allow, a client's first
//! rejection and its confirmation included, and none with a proxy login that was rejected or that another request
//! tries; (d) an error never replaces a valid token; (e) no token in any refusal, log line or `Debug`. Each caller is
//! answered by its deadline, each watcher receives the current state, and in the end everything recovers. On hosts that
//! share a store, all this holds for each one, and a token that a host takes is valid for as long as the host serves it.

#![cfg(test)]

mod callers;
mod clock;
mod domo;
mod log;
mod logins;
mod run;
mod behaviour;
mod host;
mod store;

use behaviour::Behaviour;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestCaseError, TestError, TestRunner};
use run::{Op, Outcome, SETS, play};
use store::StoreFault;

/// Schedules in one run of the tests, unless `PROPTEST_CASES` is set.
const SCHEDULES: u32 = 10_000;

/// Tests that they are shared among.
const GROUPS: u32 = 4;

/// Hosts that share a store.
const HOSTS: usize = 3;

/// The part of the schedules that are played on several hosts; each takes about six times as long as one on one host.
const OF_FLEETS: u32 = 25;

fn behaviour() -> impl Strategy<Value = Behaviour> {
    prop_oneof![
        2 => Just(Behaviour::Good),
        4 => Just(Behaviour::Mixed),
        1 => Just(Behaviour::Slow),
        2 => Just(Behaviour::Down),
        1 => Just(Behaviour::RateLimited),
        2 => Just(Behaviour::Silent),
        1 => Just(Behaviour::Garbage),
        1 => Just(Behaviour::BadCertificate),
        1 => Just(Behaviour::ClientRejected),
        2 => Just(Behaviour::PassingRefusals),
        1 => Just(Behaviour::ScopeRejected),
        2 => Just(Behaviour::SameToken),
        1 => Just(Behaviour::ShortLives),
    ]
}

fn ask(sets: usize) -> impl Strategy<Value = Op> {
    let callers = prop_oneof![6 => 1..4_u8, 1 => Just(50_u8)];
    let wait = prop_oneof![4 => 0..30_000_u32, 1 => 30_000..600_000_u32];
    let min_ttl = proptest::option::weighted(0.3, 0..1_200_u32);
    let renew = proptest::option::weighted(0.4, any::<bool>());
    (0..sets, callers, wait, min_ttl, renew).prop_map(|(set, callers, wait_ms, min_ttl, renew)| {
        Op::Ask {
            set,
            callers,
            wait_ms,
            min_ttl,
            renew,
        }
    })
}

fn op(sets: usize) -> impl Strategy<Value = Op> {
    prop_oneof![
        8 => ask(sets),
        8 => (0..1_500_u32).prop_map(Op::Pass),
        4 => behaviour().prop_map(Op::Behaviour),
        1 => (1..20_000_u32).prop_map(Op::Suspend),
        1 => Just(Op::Leave),
        2 => (0..sets).prop_map(Op::Watch),
        1 => Just(Op::Reload),
        2 => (0..sets, any::<bool>()).prop_map(|(client, valid)| Op::Rotate { client, valid }),
        1 => (0..sets, 3..9_u8).prop_map(|(client, times)| Op::Flap { client, times }),
        1 => (0..sets).prop_map(Op::Toggle),
        2 => (0..sets, 0..4_u64).prop_map(|(client, login)| Op::Login { client, login }),
        2 => (0..4_u64, any::<bool>()).prop_map(|(login, valid)| Op::Proxy { login, valid }),
    ]
}

fn op_of_fleet() -> impl Strategy<Value = Op> {
    let fault = proptest::sample::select(StoreFault::ALL.to_vec());
    let ahead = prop_oneof![2 => Just(0), 2 => -20..20_i32, 1 => -4_000..4_000_i32];
    prop_oneof![
        8 => op(SETS.len() * HOSTS),
        1 => fault.prop_map(Op::Store),
        1 => (0..HOSTS, ahead).prop_map(|(host, ahead_s)| Op::Clock { host, ahead_s }),
    ]
}

/// Returns the number of schedules of which a test plays a part.
fn schedules() -> u32 {
    let cases = std::env::var("PROPTEST_CASES").ok();
    cases
        .and_then(|text| text.parse().ok())
        .unwrap_or(SCHEDULES)
}

fn play_all(lifetimes: &'static [u32]) {
    let seen = play_random(1, lifetimes, op(SETS.len()), schedules() / GROUPS);
    print_figures(&format!("tokens that live {lifetimes:?} s: {seen:?}"));
}

fn play_random(
    hosts: usize,
    lifetimes: &'static [u32],
    op: impl Strategy<Value = Op>,
    cases: u32,
) -> Outcome {
    let config = Config {
        cases,
        failure_persistence: None,
        max_shrink_iters: 20_000,
        ..Config::default()
    };
    let lifetime = proptest::sample::select(lifetimes);
    let ops = proptest::collection::vec(op, 1..30);
    let schedules = (any::<u64>(), lifetime, ops);
    let seen = std::cell::RefCell::new(Outcome::default());
    let result = TestRunner::new(config).run(&schedules, |(seed, lifetime, ops)| {
        let played = play(hosts, seed, lifetime, &ops).map_err(TestCaseError::fail)?;
        let mut seen = seen.borrow_mut();
        seen.schedules += 1;
        seen.requests += played.requests;
        seen.regular_requests += played.regular_requests;
        seen.tokens += played.tokens;
        seen.steps += played.steps;
        seen.taken += played.taken;
        seen.adopted += played.adopted;
        seen.sharing += u32::from(played.taken > 0);
        Ok(())
    });
    match result {
        Ok(()) => {}
        Err(TestError::Fail(why, input)) => panic!("{why}\nby {input:?}"),
        Err(TestError::Abort(why)) => panic!("{why}"),
    }
    let seen = seen.into_inner();
    assert_eq!(seen.schedules, cases, "all have been played to their end");
    assert!(seen.tokens > u64::from(cases), "hardly anybody got a token");
    seen
}

fn print_figures(line: &str) {
    eprintln!("{line}");
}

#[test]
fn invariants_hold_for_lifetimes_of_seconds() {
    play_all(&[1, 2, 5]);
}

#[test]
fn invariants_hold_for_lifetimes_of_a_minute() {
    play_all(&[30, 60]);
}

#[test]
fn invariants_hold_for_lifetimes_up_to_an_hour() {
    play_all(&[300, 3599]);
}

#[test]
fn invariants_hold_for_lifetimes_of_a_day() {
    play_all(&[86_400]);
}

#[test]
fn invariants_hold_for_three_hosts_that_share_a_store() {
    let cases = (schedules() / OF_FLEETS).max(1);
    let lifetimes = &[5, 60, 300, 3599, 3599, 86_400];
    let seen = play_random(HOSTS, lifetimes, op_of_fleet(), cases);
    print_figures(&format!("three hosts: {seen:?}"));
    assert!(seen.sharing > cases / 2, "hosts hardly share: {seen:?}");
}

#[test]
fn three_hosts_without_faults_send_hardly_more_requests_than_one() {
    // Twenty lifetimes.
    let ops = vec![Op::Pass(1000 / 3); 60];
    for seed in 0..2 {
        let played = play(HOSTS, seed, 3599, &ops).unwrap();
        let lifetimes = 20 * SETS.len() as u64;
        let requests = played.regular_requests;
        print_figures(&format!(
            "seed {seed}: {requests} requests in {lifetimes} lifetimes"
        ));
        assert!(requests * 10 <= lifetimes * 17, "{played:?}");
    }
}

/// A failure that a random run found: the scope set that tried a rejected client had a token, so its fetch was postponed
/// by hours when the store failed, and the others waited for it.
#[test]
fn failing_store_does_not_postpone_the_attempt_of_a_rejected_client() {
    let ops = [
        Op::Store(StoreFault::Fails),
        Op::Behaviour(Behaviour::PassingRefusals),
        Op::Pass(4),
    ];
    play(HOSTS, 260_040_870_007_589_707, 86_400, &ops).unwrap();
}

/// A failure that a random run found: the floor counted from the start of a fetch that had waited for another host.
#[test]
fn floor_counts_from_the_request_of_a_fetch_that_waited() {
    let ops = [
        Op::Behaviour(Behaviour::ShortLives),
        Op::Suspend(4969),
        Op::Store(StoreFault::Mixed),
        Op::Pass(1247),
    ];
    play(HOSTS, 0, 60, &ops).unwrap();
}

#[test]
fn constantly_changing_credentials_cause_three_requests_then_one_per_interval() {
    let rotate = |step: u32| Op::Rotate {
        client: 0,
        // The last one is good.
        valid: step % 2 == 1,
    };
    // A change each second, because the lifetime is a thousand seconds.
    let ops: Vec<Op> = (0..40)
        .flat_map(|step| [rotate(step), Op::Pass(1)])
        .collect();
    let played = play(1, 7, 1000, &ops).unwrap();
    // Four sets: one at the start, three in a row, three more in 40 s, and at the end one or two.
    assert!(played.requests <= 2 * 4 + 4 * 9, "{}", played.requests);
    assert!(played.requests >= 4 * 5, "{}", played.requests);
}

/// A failure that a random run found: waiting callers were refused for a rejection that the response ended.
#[test]
fn response_in_flight_during_a_client_rejection_denies_no_caller() {
    let ops = [
        Op::Behaviour(Behaviour::SameToken),
        Op::Pass(467),
        Op::Rotate {
            client: 0,
            valid: true,
        },
        Op::Ask {
            set: 2,
            callers: 1,
            wait_ms: 248,
            min_ttl: Some(534),
            renew: None,
        },
        Op::Behaviour(Behaviour::ClientRejected),
        Op::Pass(1),
    ];
    play(1, 12_283_287_743_455_926_520, 300, &ops).unwrap();
}

/// A failure of the check itself that a random run found: a token's earlier expiry was taken for a wrong one before the
/// broker had applied the response with the new one.
#[test]
fn reissued_token_keeps_its_lifetime_until_the_response_is_processed() {
    let rotate = Op::Rotate {
        client: 0,
        valid: true,
    };
    let ops = [
        Op::Behaviour(Behaviour::SameToken),
        Op::Pass(3),
        rotate,
        Op::Suspend(1),
    ];
    play(1, 55_620_674_851_113_090, 30, &ops).unwrap();
}

/// A failure of the check itself that a random run found: a request that is due at the time of another one's 407 starts
/// before it, and is aborted at the same time.
#[test]
fn request_due_at_the_time_of_a_login_rejection_may_start() {
    let ask = |set, callers, wait_ms, min_ttl, renew| Op::Ask {
        set,
        callers,
        wait_ms,
        min_ttl,
        renew,
    };
    let proxy = |login, valid| Op::Proxy { login, valid };
    let ops = [
        Op::Watch(4),
        proxy(2, false),
        Op::Pass(1296),
        Op::Pass(1449),
        Op::Watch(0),
        proxy(3, false),
        ask(2, 1, 435_827, None, None),
        ask(3, 3, 18_819, None, None),
        Op::Rotate {
            client: 3,
            valid: true,
        },
        ask(5, 2, 6_486, None, Some(true)),
        ask(5, 1, 5_102, None, Some(true)),
        Op::Login {
            client: 5,
            login: 3,
        },
        Op::Behaviour(Behaviour::Down),
        Op::Toggle(0),
        Op::Leave,
        Op::Suspend(19_532),
        ask(5, 50, 409_231, Some(791), Some(true)),
        proxy(3, false),
        ask(4, 2, 21_154, None, None),
        Op::Pass(1499),
        ask(5, 2, 28_650, None, None),
        Op::Pass(937),
    ];
    play(1, 6_827_082_841_770_696_349, 86_400, &ops).unwrap();
}

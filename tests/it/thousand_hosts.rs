//! What Domo receives over a day from many hosts that start together, simulated with the pure core.

use std::collections::BTreeSet;
use std::time::Duration;

use domo_token::platform::clock::BootTime;
use domo_token_core::fetch_result::{Cause, FetchError, Fetched, LifetimeSource};
use domo_token_core::schedule::{Answer, CONFIRM_AFTER, DENIED_RETRY, TokenRequest, WaiterId};
use domo_token_core::scheduler::{ClientSpec, Command, Scheduler};
use domo_token_protocol::scope::ScopeSet;

const START: BootTime = BootTime::from_millis(1_000_000);
const HOUR: Duration = Duration::from_secs(3600);

/// The lifetime of Domo's tokens.
const LIFETIME: Duration = Duration::from_secs(3599);

/// The duration of a request.
const ANSWER: Duration = Duration::from_millis(150);

fn unavailable() -> FetchError {
    FetchError::transient(Cause::Server, "503")
}

fn scope() -> ScopeSet {
    ScopeSet::parse("data").unwrap()
}

/// A host with one scope set that has just started.
fn host(seed: u64) -> Scheduler {
    let mut host = Scheduler::new(seed);
    let wanted = ClientSpec {
        name: "acme".to_owned(),
        shown_id: String::new(),
        scopes: BTreeSet::from([scope()]),
        renewed: true,
        proxy_login: None,
        loading: None,
        shares: false,
    };
    host.configure(vec![wanted], START);
    host
}

/// The token of that number.
fn granted(number: usize) -> Fetched {
    Fetched {
        text: format!("token {number}").into(),
        lifetime: LIFETIME,
        expires: None,
        renew_at: None,
        origin: domo_token_core::fetch_result::TokenOrigin::Domo,
        lifetime_source: LifetimeSource::Stated,
        granted: scope(),
    }
}

/// Returns when a host sends requests from its start until `end`. `error` returns the failure at a time, if any.
fn requests(
    seed: u64,
    end: Duration,
    error: impl Fn(Duration) -> Option<FetchError>,
) -> Vec<Duration> {
    let mut host = host(seed);
    let mut now = START;
    let mut times = Vec::new();
    loop {
        while let Some(command) = host.poll_command() {
            let Command::Fetch(set, fetch_id) = command else {
                continue;
            };
            let since = now.saturating_since(START);
            times.push(since);
            let answer = match error(since) {
                Some(error) => Err(error),
                None => Ok(granted(times.len())),
            };
            now = now + ANSWER;
            host.handle_fetched(set, fetch_id, answer, now);
        }
        now = host.poll_timeout().unwrap();
        if now.saturating_since(START) >= end {
            return times;
        }
        host.handle_timeout(now);
    }
}

#[test]
fn one_host_makes_about_thirty_two_requests_a_day() {
    let counts: Vec<usize> = (0..1000)
        .map(|seed| requests(seed, HOUR * 24, |_| None).len())
        .collect();
    let (least, most) = (counts.iter().min().unwrap(), counts.iter().max().unwrap());
    let mean = counts.iter().sum::<usize>() / counts.len();
    // 86 400 s / (3 599 s × 0.75); the first renewal is earlier.
    assert_eq!((*least, mean, *most), (32, 32, 34));
    let document = include_str!("../../docs/architecture.md");
    assert!(document.contains("32 to 34 requests a day"), "it is stated");
}

#[test]
fn thousand_hosts_started_together_spread_their_renewals() {
    let mut bins = vec![0_u32; 24 * 60];
    for seed in 0..1000 {
        for at in requests(seed, HOUR * 24, |_| None) {
            bins[usize::try_from(at.as_secs() / 60).unwrap()] += 1;
        }
    }
    let after_first_cycle = &bins[60..];
    let total: u32 = after_first_cycle.iter().sum();
    let mean = f64::from(total) / 1380.0;
    let most = f64::from(*after_first_cycle.iter().max().unwrap());
    assert!(
        most <= mean * 3.0,
        "{most} in one minute, {mean} on average"
    );
}

/// Simulates the first half hour of an outage that begins at the first renewal, while the token is valid. Returns
/// the pauses between attempts in milliseconds, and how often the host woke up.
fn outage(seed: u64) -> (Vec<u128>, usize) {
    let mut host = host(seed);
    let set = host.find("acme", &scope()).unwrap();
    let Some(Command::Fetch(_, first)) = host.poll_command() else {
        panic!("it asks at its start");
    };
    host.handle_fetched(set, first, Ok(granted(1)), START);
    let end = (START + LIFETIME).min(host.poll_timeout().unwrap() + HOUR / 2);
    let (mut pauses, mut last, mut wakes) = (Vec::new(), None, 0);
    loop {
        let now = host.poll_timeout().unwrap();
        if now >= end {
            break;
        }
        host.handle_timeout(now);
        wakes += 1;
        while let Some(command) = host.poll_command() {
            if let Command::Fetch(_, fetch_id) = command {
                pauses.extend(last.map(|last| now.saturating_since(last).as_millis()));
                last = Some(now);
                host.handle_fetched(set, fetch_id, Err(unavailable()), now);
            }
        }
        let request = TokenRequest {
            min_ttl: None,
            deadline: now,
            renew: None,
        };
        let served = host.request(set, WaiterId(1), &request, now);
        let usable = now + Duration::from_secs(1) <= START + LIFETIME;
        assert!(
            !usable || matches!(served, Answer::Now(Ok(_))),
            "{served:?}"
        );
    }
    let failed = host.status(end).next().unwrap().attempts;
    assert_eq!(usize::try_from(failed).unwrap(), pauses.len() + 1);
    (pauses, wakes)
}

#[test]
fn outage_with_a_valid_token_affects_no_caller_and_follows_the_backoff() {
    for seed in 0..200 {
        let (pauses, wakes) = outage(seed);
        assert!((10..50).contains(&pauses.len()), "{pauses:?}");
        for (number, rest) in pauses.iter().enumerate() {
            let longest = 60_000.min(1000 << number.min(10));
            assert!((longest / 2..=longest).contains(rest), "{number}: {rest}");
        }
        // One timer starts each attempt, and nothing else wakes the host.
        assert!(wakes <= pauses.len() + 2, "{wakes}");
    }
}

#[test]
fn outage_of_half_an_hour_causes_at_most_fifty_attempts() {
    for seed in 0..1000 {
        let down = HOUR..HOUR + Duration::from_secs(1800);
        let all = requests(seed, HOUR * 3, |at| down.contains(&at).then(unavailable));
        let attempts = all.iter().filter(|at| down.contains(*at)).count();
        assert!(attempts <= 50, "{attempts}");
        let back = all.iter().find(|at| **at >= down.end).unwrap();
        assert!(*back < down.end + HOUR, "it recovers");
    }
}

#[test]
fn ten_minutes_of_failures_cause_at_most_twenty_five_requests() {
    for seed in 0..1000 {
        let times = requests(seed, Duration::from_secs(600), |_| Some(unavailable()));
        assert!((10..=25).contains(&times.len()), "{}", times.len());
    }
}

#[test]
fn the_end_of_an_outage_is_noticed_within_a_minute() {
    for seed in 0..1000 {
        let end = Duration::from_secs(7200);
        let all = requests(seed, HOUR * 3, |at| (at < end).then(unavailable));
        let first = all.iter().find(|at| **at >= end).unwrap();
        assert!(*first <= end + Duration::from_secs(61), "{first:?}");
    }
}

#[test]
fn day_of_rejections_causes_one_confirmation_and_one_request_in_five_minutes() {
    for seed in 0..100 {
        let refused = |_| {
            Some(FetchError::Denied {
                scope_only: false,
                in_domos_form: true,
                message: "401".to_owned(),
            })
        };
        let times = requests(seed, HOUR * 24, refused);
        let mut pauses = times.windows(2).map(|pair| pair[1].saturating_sub(pair[0]));
        assert!(pauses.next().unwrap() >= CONFIRM_AFTER);
        assert!(pauses.min().unwrap() >= DENIED_RETRY);
        assert!((280..=289).contains(&times.len()), "{}", times.len());
    }
}

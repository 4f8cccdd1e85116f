//! A day of a fleet of a thousand hosts, in virtual time: the core of each host (scheduler, fetch, breaker) against a
//! simulated store and a simulated Domo. The bounds of requests are what `docs/fleet.md` promises.

#![cfg(test)]

mod domo;
mod events;
mod fleet;
mod host;
mod store;

use std::time::Duration;

use domo::{Fault, Outage};
use fleet::{Fleet, Plan, Report};
use store::EngineFault;

const HOUR: u64 = 3_600;
const DAY: u64 = 24 * HOUR;
const MINUTE: u64 = 60;

/// Lifetime of the tokens, in seconds.
const LIFETIME: u64 = 3_599;

/// Clocks that NTP keeps: within a second of each other.
const IN_STEP: Duration = Duration::from_secs(1);

/// Clocks that nobody keeps.
const OUT_OF_STEP: Duration = Duration::from_secs(300);

fn run(name: &str, plan: Plan) -> Report {
    let report = Fleet::new(plan).run();
    print_figures(&format!("{name}: {report}"));
    assert!(report.tokens_obtained > 0, "{name}: no token at all");
    report
}

fn print_figures(line: &str) {
    eprintln!("{line}");
}

/// Outages of Domo: half an hour and two hours of 503, and twenty minutes without a response.
fn domo_outages() -> Vec<Outage> {
    vec![
        Outage::new(3 * HOUR, 30 * MINUTE, Fault::Unavailable),
        Outage::new(8 * HOUR, 2 * HOUR, Fault::Unavailable),
        Outage::new(15 * HOUR, 20 * MINUTE, Fault::Hangs),
    ]
}

/// Six outages of the engine, from a minute to three hours.
fn engine_outages() -> Vec<(u64, u64, EngineFault)> {
    vec![
        (2 * HOUR, MINUTE, EngineFault::Refuses),
        (4 * HOUR, 90 * MINUTE, EngineFault::Refuses),
        (8 * HOUR, 10 * MINUTE, EngineFault::Hangs),
        (10 * HOUR, 3 * HOUR, EngineFault::Refuses),
        (16 * HOUR, HOUR, EngineFault::Slow),
        (19 * HOUR, 30 * MINUTE, EngineFault::Hangs),
    ]
}

#[test]
fn day_without_faults_takes_one_request_per_lifetime() {
    for (name, spread) in [
        ("started at the same time", 0),
        ("started within an hour", HOUR),
    ] {
        let report = run(
            name,
            Plan {
                start_spread: Duration::from_secs(spread),
                ..Plan::default()
            },
        );
        assert!(report.requests() <= 45, "{report}");
        assert!(report.most_within(10) <= 2, "{report}");
        assert_eq!(report.expired_served, 0, "{report}");
        assert_eq!(report.without_token, 0, "{report}");
    }
}

#[test]
fn day_without_faults_with_clocks_out_of_step_takes_few_requests() {
    let report = run(
        "clocks within five minutes",
        Plan {
            skew: OUT_OF_STEP,
            ..Plan::default()
        },
    );
    assert!(report.requests() <= 45, "{report}");
    assert_eq!(report.expired_served, 0, "{report}");
}

#[test]
fn outages_of_domo_with_clocks_out_of_step_cost_no_more() {
    let plan = Plan {
        domo: domo_outages(),
        skew: OUT_OF_STEP,
        ..Plan::default()
    };
    let report = run("the same with clocks within five minutes", plan);
    assert!(report.requests() <= 800, "{report}");
    assert!(report.most_within(60) <= 30, "{report}");
    assert_eq!(report.expired_served, 0, "{report}");
}

#[test]
fn outages_of_domo_cost_one_attempt_per_backoff_for_the_whole_fleet() {
    let plan = Plan {
        domo: domo_outages(),
        ..Plan::default()
    };
    let report = run("Domo away 30 min, 2 h, hanging 20 min", plan);
    assert!(report.requests() <= 800, "{report}");
    assert!(report.most_within(60) <= 30, "{report}");
    assert_eq!(report.expired_served, 0, "{report}");
}

#[test]
fn outages_of_the_engine_cost_one_request_of_each_host_spread_over_the_lifetime() {
    let plan = Plan {
        engine: engine_outages(),
        ..Plan::default()
    };
    let report = run("six outages of the engine, up to 3 h", plan);
    assert!(report.requests() <= 7_000, "{report}");
    assert!(report.most_within(1) <= 20, "{report}");
    assert_eq!(report.expired_served, 0, "{report}");
    assert_eq!(report.without_token, 0, "{report}");
}

#[test]
fn failovers_that_lose_writes_cost_few_requests() {
    let plan = Plan {
        failovers: (1..24).map(|hour| hour * HOUR + 137).collect(),
        ..Plan::default()
    };
    let report = run("a failover each hour, half of them lose writes", plan);
    assert!(report.requests() <= 60, "{report}");
    assert_eq!(report.expired_served, 0, "{report}");
    assert_eq!(report.without_token, 0, "{report}");
}

#[test]
fn host_without_a_way_to_domo_costs_the_others_nothing() {
    let plan = Plan {
        without_way: 1,
        ..Plan::default()
    };
    let report = run("one host without a way to Domo", plan);
    assert!(report.requests() <= 45, "{report}");
    assert_eq!(report.without_token, 0, "{report}");
    assert_eq!(report.expired_served, 0, "{report}");
}

#[test]
fn client_that_domo_rejects_costs_one_request_in_five_minutes() {
    let plan = Plan {
        domo: vec![Outage::new(6 * HOUR, 3 * HOUR, Fault::Rejects)],
        ..Plan::default()
    };
    let report = run("Domo rejects the client for 3 h", plan);
    assert!(report.requests() <= 45 + 50, "{report}");
    // Before a second host has confirmed it, a few others are rejected too.
    assert!(report.most_within(60) <= 15, "{report}");
    assert_eq!(report.expired_served, 0, "{report}");
}

#[test]
fn everything_together_serves_no_expired_token() {
    let plan = Plan {
        domo: domo_outages(),
        engine: engine_outages(),
        failovers: (1..24).map(|hour| hour * HOUR + 137).collect(),
        without_way: 3,
        restarts: true,
        start_spread: Duration::from_secs(HOUR),
        ..Plan::default()
    };
    let report = run("everything together", plan);
    assert_eq!(report.expired_served, 0, "{report}");
    assert!(report.requests() <= 10_000, "{report}");
}

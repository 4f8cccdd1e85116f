//! Status, metrics and log of a host.

use super::hosts::{
    Fleet, SHORT, fleet_status, metric, renew, start_with_metrics, token_of, wait_for_metric,
};
use crate::common::metrics::{connect, get};
use crate::common::wait::until;
use crate::common::{HOUR, config_text, parts, sandbox};

/// The start of the line of a lookup's outcome.
fn lookups(outcome: &str) -> String {
    format!(
        "domo_token_fleet_lookups_total{{client=\"acme\",scope=\"data\",outcome=\"{outcome}\"}}"
    )
}

fn published(outcome: &str) -> String {
    format!("domo_token_fleet_published_total{{outcome=\"{outcome}\"}}")
}

#[test]
fn metrics_count_lookups_and_publications_and_requests_only_of_domo() {
    let Some(fleet) = Fleet::start(SHORT) else {
        return;
    };
    let (first, first_port) = start_with_metrics(&fleet.config());
    token_of(&first);
    wait_for_metric(first_port, &published("stored"), 1.0);
    wait_for_metric(first_port, &lookups("nothing"), 1.0);
    let (second, second_port) = start_with_metrics(&fleet.config());
    token_of(&second);
    wait_for_metric(second_port, &lookups("taken"), 1.0);
    let sent = "domo_token_renewals_total{client=\"acme\",scope=\"data\"}";
    let sent_by = |port| metric(port, sent);
    assert!((sent_by(first_port) - 1.0).abs() < 0.1 && sent_by(second_port) < 0.1);
    for port in [first_port, second_port] {
        assert!(metric(port, "domo_token_fleet_up") > 0.5);
        let difference = metric(port, "domo_token_fleet_clock_difference_seconds");
        assert!(difference.abs() < 5.0, "{difference}");
        let (_, text) = get(connect(port), "/metrics");
        assert!(!text.contains("domo_token_fleet_failures_total{cause=\"connect\"} 1"));
    }
    let record = fleet.keys(":token").remove(0);
    fleet.engine.cli(&["SET", &record, "\u{1}garbage"]);
    renew(&second);
    wait_for_metric(second_port, &lookups("unsealable"), 1.0);
}

#[test]
fn metrics_of_a_host_without_a_fleet_have_none_of_it() {
    let sandbox = sandbox(HOUR);
    let (host, port) = crate::common::metrics::start(&config_text(&sandbox, "[\"data\"]"));
    crate::common::token(&host.ask(&["data"]));
    let (_, text) = get(connect(port), "/metrics");
    let values: Vec<&str> = text
        .lines()
        .filter(|line| line.starts_with("domo_token_fleet"))
        .collect();
    assert!(values.is_empty(), "{values:?}");
    assert!(fleet_status(&host).is_null());
}

#[test]
fn status_shows_the_engine_its_last_error_and_where_tokens_come_from() {
    let Some(mut fleet) = Fleet::start(SHORT) else {
        return;
    };
    let host = fleet.host();
    token_of(&host);
    let status = fleet_status(&host);
    assert_eq!(status["up"], true, "{status}");
    let place = status["place"].as_str().unwrap();
    assert!(place.contains(&fleet.engine.port().to_string()), "{place}");
    assert!(
        status["since"].is_u64() && status["last_error"].is_null(),
        "{status}"
    );
    let difference = status["clock_difference_ms"].as_i64().unwrap();
    assert!(difference.abs() < 5000, "{status}");
    assert_eq!(host.status_of("data")["from"], "domo");
    let other = fleet.host();
    token_of(&other);
    assert_eq!(other.status_of("data")["from"], "fleet");
    let (_, text, _) = parts(&other.ask(&["status"]));
    assert!(text.contains("fleet"), "{text}");
    fleet.engine.kill();
    renew(&host);
    let down = fleet_status(&host);
    assert_eq!(down["up"], false, "{down}");
    assert!(
        down["last_error"].as_str().unwrap().contains("refused"),
        "{down}"
    );
    assert_eq!(host.status_of("data")["from"], "domo");
}

#[test]
fn failure_of_the_engine_is_logged_once_without_its_keys() {
    let Some(mut fleet) = Fleet::start(SHORT) else {
        return;
    };
    let host = fleet.host();
    token_of(&host);
    let names = fleet.keys("");
    assert!(!names.is_empty());
    fleet.engine.kill();
    for _ in 0..3 {
        renew(&host);
        assert_eq!(fleet_status(&host)["up"], false);
    }
    let (_, log) = host.stop();
    let lines: Vec<&str> = log
        .lines()
        .filter(|line| line.contains("fleet store unavailable"))
        .collect();
    assert_eq!(lines.len(), 1, "{log}");
    assert!(lines[0].contains(&fleet.engine.address()), "{lines:?}");
    for name in names {
        let digits = name.split(['{', '}']).nth(1).unwrap();
        assert!(!log.contains(digits), "a key is in the log");
    }
}

#[test]
fn lifetime_below_20_s_turns_sharing_off_and_is_logged_once() {
    let Some(fleet) = Fleet::start(std::time::Duration::from_secs(4)) else {
        return;
    };
    let hosts = fleet.hosts(2);
    for host in &hosts {
        token_of(host);
    }
    let broker = hosts[0].broker();
    let first = broker.token("data").unwrap();
    until(|| {
        let next = broker.request("data").send().unwrap();
        if next.secret() == first.secret() {
            Err("not renewed")
        } else {
            Ok(())
        }
    });
    assert!(fleet.keys(":token").is_empty());
}

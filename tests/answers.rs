//! Answers of Domo's that hold no token that could be used.

#![expect(clippy::unwrap_used, reason = "in a test, what fails says so")]

mod common;

use std::fs;
use std::time::Duration;

use common::many::{config_of, sandboxes};
use common::wait::until;
use common::{Daemon, HOUR, PATIENCE, parts, token};
use domo_sandbox::Fault;
use serde_json::json;

/// A 200 without a usable token, and answers that break off.
fn unusable() -> Vec<Fault> {
    let deep = "[".repeat(100_000);
    vec![
        Fault::empty(),
        Fault::html(200),
        Fault::garbage(),
        Fault::cut(),
        Fault::cut_in_body(),
        Fault::oversized(64 * 1024 * 1024),
        Fault::status(200)
            .body([0x1f, 0x8b, 8, 0, 0, 0, 0, 0])
            .header("content-encoding", "gzip"),
        Fault::status(200).body(deep),
        Fault::status(200).body("{\"access_token\":\"a\",\"access_token\":\"b\",\"expires_in\":9}"),
        Fault::status(200).body("\u{feff}{\"access_token\":\"a\",\"expires_in\":9}"),
        Fault::default().header("content-type", "text/html"),
        Fault::token("two\nlines"),
        Fault::token("n\0l"),
        Fault::token("schlüssel"),
        Fault::token("with blank"),
        Fault::token(""),
        Fault::token_size(16 * 1024 + 1),
        Fault::token_type("mac"),
        Fault::expires_in(json!(0)),
        Fault::expires_in(json!(-5)),
        Fault::expires_in(json!("soon")),
        Fault::status(503),
        Fault::status(404),
    ]
}

#[test]
fn an_answer_without_a_usable_token_costs_the_living_one_nothing() {
    let faults = unusable();
    // The first renewal comes at 16 s at the latest, and goes on failing until the death at 20 s.
    let sandboxes = sandboxes(&faults, Duration::from_secs(20), true);
    for (sandbox, fault) in sandboxes.iter().zip(&faults) {
        sandbox.always(fault.clone());
    }
    let daemon = Daemon::start(&config_of(&sandboxes));
    // A new one each time holds nothing, and asks the daemon.
    let ask = |number: usize| daemon.broker().client(&format!("client{number}"));
    let numbers = 0..sandboxes.len();
    let first: Vec<_> = numbers
        .map(|number| ask(number).token("data").unwrap())
        .collect();
    for sandbox in &sandboxes {
        sandbox.wait_for_requests(2, PATIENCE).unwrap();
    }
    let broker = daemon.broker();
    until(|| {
        let mut sets = broker.status().unwrap().scopes.into_iter();
        let without = sets.find(|set| set.last_error.is_none());
        without.map_or(Ok(()), |set| Err(set.client))
    });
    for (number, fault) in faults.iter().enumerate() {
        let still = ask(number).token("data").unwrap();
        assert_eq!(still.generation(), first[number].generation(), "{fault:?}");
    }
}

#[test]
fn without_a_token_an_unusable_answer_is_75_in_one_line_and_is_tried_again() {
    let faults = unusable();
    let sandboxes = sandboxes(&faults, HOUR, false);
    for (sandbox, fault) in sandboxes.iter().zip(&faults) {
        sandbox.always(fault.clone());
    }
    let mut daemon = Daemon::start(&config_of(&sandboxes));
    let largest_before = peak_memory(&daemon);
    let asking = (0..sandboxes.len()).map(|number| {
        let name = format!("client{number}");
        let asking = daemon.helper(&["--client", &name, "--timeout", "1", "data"]);
        (name, { asking }.spawn().unwrap())
    });
    let asking: Vec<_> = asking.collect();
    for ((name, asking), fault) in asking.into_iter().zip(&faults) {
        let (code, stdout, stderr) = parts(&asking.wait_with_output().unwrap());
        assert_eq!(
            (code, stdout.as_str()),
            (Some(75), ""),
            "{name}, {fault:?}: {stderr}"
        );
        assert_eq!(stderr.lines().count(), 1, "{stderr}");
    }
    let grown = peak_memory(&daemon) - largest_before;
    assert!(grown <= 4 * 1024, "{grown} KiB");
    for sandbox in &sandboxes {
        sandbox.recover();
    }
    assert!(daemon.reload().contains("config loaded"));
    for number in 0..sandboxes.len() {
        token(&daemon.ask(&["--client", &format!("client{number}"), "data"]));
    }
}

/// The most memory that it has had, in KiB.
fn peak_memory(daemon: &Daemon) -> u64 {
    let status = fs::read_to_string(format!("/proc/{}/status", daemon.pid())).unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM:"));
    let figure = line.unwrap().split_whitespace().nth(1);
    figure.unwrap().parse().unwrap()
}

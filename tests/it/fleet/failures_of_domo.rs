//! Failures of Domo, which the hosts share: one back-off for all of them.

use std::fs;
use std::time::Duration;

use domo_sandbox::Fault;
use serde_json::Value;

use super::hosts::{Fleet, SECRET, host_folder, shared_token, token_of};
use crate::common::wait::until;
use crate::common::{CLIENT_ID, Daemon, HOUR, PATIENCE, failure, pauses};

/// Waits until a host's scope set has this state, and returns its status.
fn wait_for_state(host: &Daemon, state: &str) -> Value {
    until(|| {
        let set = host.status_of("data");
        if set["state"] == state {
            Ok(set)
        } else {
            Err(set)
        }
    })
}

#[test]
fn attempts_of_all_hosts_during_an_outage_follow_one_backoff() {
    let Some(fleet) = Fleet::start(HOUR) else {
        return;
    };
    fleet.sandbox.always(Fault::status(503));
    let hosts = fleet.hosts(3);
    let seen = fleet.sandbox.wait_for_requests(3, PATIENCE).unwrap();
    // The back-off is at least half a second, then a second. Without a fleet there are three requests at the start.
    let pauses = pauses(&seen);
    for (pause, least) in pauses.iter().zip([500, 1000]) {
        assert!(*pause >= Duration::from_millis(least), "{pauses:?}");
    }
    fleet.sandbox.recover();
    let failed = fleet.requests();
    shared_token(&hosts);
    assert_eq!(fleet.requests(), failed + 1);
    assert!(fleet.keys(":note").is_empty(), "a success removes the note");
}

#[test]
fn host_that_starts_during_an_outage_adopts_the_failure_and_a_reload_tries_again() {
    let Some(fleet) = Fleet::start(HOUR) else {
        return;
    };
    fleet
        .sandbox
        .script([Fault::status(503).retry_after("600")]);
    let mut first = fleet.host();
    first.wait_for_log("503");
    let mut second = fleet.host();
    let set = wait_for_state(&second, "waiting");
    assert_eq!(fleet.requests(), 1);
    let error = set["last_error"].as_str().unwrap();
    assert!(error.contains("503"), "{error}");
    let rest = set["next_attempt_at"].as_u64().unwrap() - set["last_error_at"].as_u64().unwrap();
    assert!((590..=604).contains(&rest), "{set}");
    let stderr = failure(&second.ask(&["--timeout", "1", "data"]), 75);
    assert!(stderr.contains("503"), "{stderr}");
    assert!(second.reload().contains("config loaded"));
    let token = token_of(&second);
    assert_eq!(fleet.requests(), 2);
    assert!(first.reload().contains("config loaded"));
    assert_eq!(
        token_of(&first),
        token,
        "it takes the token of the second host"
    );
    assert_eq!(fleet.requests(), 2);
}

/// A host with a secret that Domo rejects.
fn rejected_host(fleet: &Fleet) -> Daemon {
    let folder = host_folder(&fleet.config());
    let secret = format!("{SECRET}-of-yesterday\n");
    fs::write(folder.path().join("acme.secret"), secret).unwrap();
    Daemon::start_in(folder)
}

#[test]
fn rejection_is_shared_after_a_second_host_and_a_reload_sends_a_request() {
    let Some(fleet) = Fleet::start(HOUR) else {
        return;
    };
    // Each of them confirms its first rejection by a second request.
    let one = rejected_host(&fleet);
    wait_for_state(&one, "denied");
    fleet.sandbox.wait_for_requests(2, PATIENCE).unwrap();
    let two = rejected_host(&fleet);
    wait_for_state(&two, "denied");
    let is_shared = || {
        let note = fleet.keys(":note");
        let confirmed = fleet.requests() >= 3 && note.len() == 1;
        if confirmed {
            Ok(())
        } else {
            Err((fleet.requests(), note))
        }
    };
    until(is_shared);
    until(|| {
        let set = two.status_of("data");
        let next = set["next_attempt_at"].as_u64().unwrap();
        let rest = next.saturating_sub(set["last_error_at"].as_u64().unwrap());
        if rest > 250 { Ok(()) } else { Err(set) }
    });
    let before = fleet.requests();
    assert!(before <= 4, "{before}");
    let mut third = rejected_host(&fleet);
    let set = wait_for_state(&third, "denied");
    assert_eq!(fleet.requests(), before, "the third host sends nothing");
    assert!(set["last_error"].as_str().unwrap().contains("401"), "{set}");
    failure(&third.ask(&["data"]), 78);
    let secret = format!("{SECRET}-of-yesterday");
    fleet.sandbox.add_client(CLIENT_ID, &secret, &["data"]);
    assert!(third.reload().contains("config loaded"));
    let token = token_of(&third);
    assert_eq!(fleet.requests(), before + 1);
    let mut one = one;
    assert!(one.reload().contains("config loaded"));
    assert_eq!(token_of(&one), token);
    assert_eq!(fleet.requests(), before + 1);
}

#[test]
fn rejection_of_one_host_alone_stops_no_other() {
    let Some(fleet) = Fleet::start(HOUR) else {
        return;
    };
    // A response that a broken proxy may have sent instead of Domo.
    fleet.sandbox.script([Fault::html(401), Fault::html(401)]);
    let one = fleet.host();
    wait_for_state(&one, "denied");
    fleet.sandbox.wait_for_requests(2, PATIENCE).unwrap();
    let two = fleet.host();
    token_of(&two);
    assert_eq!(fleet.requests(), 3);
}

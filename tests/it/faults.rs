//! Failures of Domo, through the real daemon.

use std::fs;
use std::time::Duration;

use crate::common;
use crate::common::many::{config_with_clients, retry_pause, sandboxes, wait_for_state};
use crate::common::{
    CANARY_SECRET, CLIENT_ID, Daemon, HOUR, PATIENCE, config_text, failure, parts, pauses, sandbox,
    sandbox_and_daemon, timed, token,
};
use domo_sandbox::{Fault, Sandbox};
use domo_token_client::Error;
use domo_token_client::clock::{boot_now, wall_now};
use domo_token_protocol::messages::ScopeState;
use serde_json::{Value, json};

/// The floor between two requests for tokens with a lifetime as short as in tests.
const FLOOR: Duration = Duration::from_secs(1);

#[test]
fn callers_without_a_token_fail_by_their_deadline_and_recovery_is_noticed() {
    let (sandbox, daemon) = sandbox_and_daemon(Duration::from_secs(3));
    let broker = daemon.broker();
    let mut watch = broker.watch("data").unwrap();
    watch.next().unwrap().unwrap();
    sandbox.always(Fault::status(503));
    while watch.next().unwrap().is_ok() {}
    // The back-off is several seconds by now, so that both kinds of callers occur.
    sandbox
        .wait_for_requests(sandbox.requests().len() + 2, PATIENCE)
        .unwrap();
    for deadline in [Duration::from_millis(50), Duration::from_secs(3)] {
        let (took, answer) = timed(|| broker.with_timeout(deadline).token("data"));
        let Err(Error::TryLater {
            cause,
            next_attempt,
            ..
        }) = answer
        else {
            panic!("{answer:?}");
        };
        assert!(took <= deadline + Duration::from_millis(200), "{took:?}");
        assert!(cause.contains("503"), "{cause}");
        assert!(next_attempt.is_some());
    }
    let failed = sandbox.requests().len();
    sandbox.recover();
    let seen = sandbox.wait_for_requests(failed + 1, PATIENCE * 2).unwrap();
    let rest = pauses(&seen[failed - 1..])[0];
    assert!(rest <= Duration::from_secs(60), "{rest:?}");
    assert!(broker.with_timeout(PATIENCE).token("data").is_ok());
}

#[test]
fn hanging_request_times_out_its_caller_and_affects_no_other_scope_set() {
    let sandbox = sandbox(HOUR);
    let mut daemon = Daemon::start(&config_text(&sandbox, "[\"user\"]"));
    let cached = token(&daemon.ask(&["user"]));
    sandbox.always(Fault::hang());
    daemon.write(
        "config.toml",
        &config_text(&sandbox, "[\"user\", \"data\"]"),
    );
    assert!(daemon.reload().contains("config loaded"));
    sandbox.wait_for_requests(2, PATIENCE).unwrap();
    let waiting = daemon.helper(&["--timeout", "2", "data"]).spawn().unwrap();
    for _ in 0..50 {
        assert_eq!(token(&daemon.ask(&["user"])), cached);
    }
    // The broker's message arrives before the helper times out, 200 ms after the deadline.
    let stderr = failure(&waiting.wait_with_output().unwrap(), 75);
    assert!(stderr.contains("Domo has not responded yet"), "{stderr}");
    let (took, output) = timed(|| daemon.ask(&["--timeout", "2", "data"]));
    assert_eq!(output.status.code(), Some(75));
    assert!(took >= Duration::from_secs(2), "{took:?}");
}

#[test]
fn retry_after_is_a_minimum_in_both_forms_and_ignored_if_invalid() {
    let sandboxes: Vec<Sandbox> = (0..5).map(|_| sandbox(HOUR)).collect();
    let start = boot_now();
    let date = httpdate::fmt_http_date(wall_now() + Duration::from_secs(60));
    let cases = [
        ("60", 60..=61),
        (date.as_str(), 59..=61),
        ("-1", 0..=2),
        ("soon", 0..=2),
        ("1000000000", 3600..=3601),
    ];
    for (sandbox, (value, _)) in sandboxes.iter().zip(&cases) {
        sandbox.always(Fault::status(429));
        sandbox.script([Fault::status(429).retry_after(value)]);
    }
    let daemon = Daemon::start(&config_with_clients(&sandboxes));
    for (number, (value, expected)) in cases.into_iter().enumerate() {
        let set = wait_for_state(&daemon, number, ScopeState::Waiting);
        if *expected.start() > 2 {
            let rest = retry_pause(&set);
            // A date is nearer when the response arrives.
            let passed = if value == date {
                boot_now().saturating_since(start).as_secs()
            } else {
                0
            };
            assert!(
                rest + passed >= *expected.start() && rest <= *expected.end(),
                "{value}: {rest}, {passed} s later"
            );
            assert_eq!(sandboxes[number].requests().len(), 1, "{value}");
        } else {
            let seen = sandboxes[number].wait_for_requests(2, PATIENCE).unwrap();
            assert!(pauses(&seen)[0] < Duration::from_secs(2), "{value}");
        }
        let error = set["last_error"].as_str().unwrap();
        assert!(error.contains("429"), "{error}");
    }
}

#[test]
fn retry_after_is_honoured_although_the_body_never_arrives() {
    let sandbox = sandbox(HOUR);
    sandbox.always(Fault::status(429).retry_after("600").hanging());
    let daemon = Daemon::start(&config_text(&sandbox, "[\"data\"]"));
    let stderr = failure(&daemon.ask(&["--timeout", "10", "data"]), 75);
    assert!(stderr.contains("429"), "{stderr}");
    let set = daemon.status_of("data");
    assert!((600..=601).contains(&retry_pause(&set)), "{set}");
}

#[test]
fn unsupported_method_exits_75_and_names_the_key() {
    let sandbox = sandbox(HOUR);
    sandbox.always(Fault::status(405));
    let daemon = Daemon::start(&config_text(&sandbox, "[\"data\"]"));
    let stderr = failure(&daemon.ask(&["--timeout", "1", "data"]), 75);
    assert!(stderr.contains("token_method"), "{stderr}");
}

#[test]
fn ungranted_scope_exits_78_is_named_and_stops_only_its_scope_set() {
    let sandbox = sandbox(HOUR);
    sandbox.always(Fault::scope("data audit"));
    let mut daemon = Daemon::start(&config_text(&sandbox, "[\"data\", \"data user\"]"));
    daemon.wait_for_log("cause=denied");
    let stderr = failure(&daemon.ask(&["data user"]), 78);
    assert!(stderr.contains("without the scope \"user\""), "{stderr}");
    token(&daemon.ask(&["data"]));
    sandbox.always(Fault::no_scope());
    assert!(daemon.reload().contains("config loaded"));
    token(&daemon.ask(&["data user"]));
}

#[test]
fn retry_after_delays_the_next_request() {
    let sandbox = sandbox(HOUR);
    sandbox.script([Fault::status(503).retry_after("3")]);
    let _daemon = Daemon::start(&config_text(&sandbox, "[\"data\"]"));
    let seen = sandbox.wait_for_requests(2, PATIENCE).unwrap();
    assert!(pauses(&seen)[0] >= Duration::from_secs(3), "{seen:?}");
}

#[test]
fn rejections_are_distinguished_from_transient_failures() {
    let domo = "{\"status\":403,\"statusReason\":\"Forbidden\",\"message\":\"No such user\",\
                \"toe\":\"ABC\"}";
    let cases = [
        (
            Fault::oauth_error(400, "invalid_client", "Who?"),
            ScopeState::Denied,
            "invalid_client",
        ),
        (
            Fault::oauth_error(400, "invalid_scope", "Which?"),
            ScopeState::Denied,
            "invalid_scope",
        ),
        (Fault::html(401), ScopeState::Denied, "401"),
        (
            Fault::status(403).body(domo),
            ScopeState::Denied,
            "No such user (toe ABC)",
        ),
        (Fault::html(403), ScopeState::Waiting, "403"),
        (Fault::status(400).body("no"), ScopeState::Waiting, "400"),
    ];
    let faults: Vec<Fault> = cases.iter().map(|(fault, ..)| fault.clone()).collect();
    let sandboxes = sandboxes(&faults, HOUR, false);
    for (sandbox, fault) in sandboxes.iter().zip(&faults) {
        sandbox.always(fault.clone());
    }
    let mut daemon = Daemon::start(&config_with_clients(&sandboxes));
    for (number, (_, state, words)) in cases.iter().enumerate() {
        let set = wait_for_state(&daemon, number, *state);
        let error = set["last_error"].as_str().unwrap();
        assert!(error.contains(words), "{error}");
        if *state == ScopeState::Denied {
            // It waits for the confirmation.
            let name = format!("client{number}");
            let stderr = failure(&daemon.ask(&["-c", &name, "data"]), 78);
            assert!(stderr.contains(words), "{stderr}");
            let set = wait_for_state(&daemon, number, *state);
            assert!((290..=301).contains(&retry_pause(&set)), "{set}");
            let confirmations = usize::from(*words != "invalid_scope");
            assert_eq!(sandboxes[number].requests().len(), 1 + confirmations);
        }
    }
    for sandbox in &sandboxes {
        sandbox.recover();
    }
    assert!(daemon.reload().contains("config loaded"));
    for number in 0..4 {
        let name = format!("client{number}");
        token(&daemon.ask(&["-c", &name, "--timeout", "2", "data"]));
    }
}

#[test]
fn corrected_secret_and_reload_end_a_rejection_immediately() {
    let sandbox = sandbox(HOUR);
    let folder = common::folder(&config_text(&sandbox, "[\"data\", \"user\"]"));
    fs::write(folder.path().join("acme.secret"), "c4nary-wrong-secret\n").unwrap();
    let mut daemon = Daemon::start_in(folder);
    daemon.wait_for_log("cause=denied");
    let (code, ..) = parts(&daemon.ask(&["data"]));
    assert_eq!(code, Some(78));
    daemon.write("acme.secret", &format!("{CANARY_SECRET}\n"));
    let (took, tokens) = timed(|| {
        assert!(daemon.reload().contains("config loaded"));
        ["data", "user"].map(|scope| token(&daemon.ask(&[scope])))
    });
    assert!(took <= Duration::from_secs(2), "{took:?}");
    assert_ne!(tokens[0], tokens[1]);
}

#[test]
fn repeatedly_reissued_token_is_requested_at_growing_intervals_above_the_floor() {
    let sandbox = sandbox(Duration::from_secs(6));
    sandbox.script([Fault::default()]);
    sandbox.always(Fault::same_token());
    let daemon = Daemon::start(&config_text(&sandbox, "[\"data\"]"));
    let broker = daemon.broker();
    let mut watch = broker.watch("data").unwrap();
    let first = watch.next().unwrap().unwrap();
    assert!(
        watch.next().unwrap().is_err(),
        "it expires without a new one"
    );
    let seen = sandbox.requests();
    assert!((2..=5).contains(&seen.len()), "{seen:?}");
    assert!(pauses(&seen).iter().all(|rest| *rest >= FLOOR), "{seen:?}");
    sandbox.recover();
    let next = watch.next().unwrap().unwrap();
    assert_ne!(next.generation(), first.generation());
}

#[test]
fn lifetimes_are_parsed_in_all_forms_and_short_ones_respect_the_floor() {
    let forms = [
        (Fault::expires_in(json!("3599")), 3599),
        (Fault::no_expires_in(), 300),
        (Fault::expires_in(Value::Null), 300),
        (Fault::expires_in(json!(1e18)), 86_400),
        (Fault::expires_in(json!(60)), 60),
    ];
    let faults: Vec<Fault> = forms.iter().map(|(fault, _)| fault.clone()).collect();
    // The expiry in the tokens is later than the stated one.
    let long = sandboxes(&faults, 48 * HOUR, false);
    let daemon = Daemon::start(&config_with_clients(&long));
    for (number, (fault, seconds)) in forms.iter().enumerate() {
        let set = wait_for_state(&daemon, number, ScopeState::Fresh);
        let lifetime = set["expires_at"].as_u64().unwrap() - set["obtained_at"].as_u64().unwrap();
        assert!(lifetime.abs_diff(*seconds) <= 1, "{fault:?}: {lifetime}");
    }
    let short: Vec<Sandbox> = [1, 2, 5].map(|s| sandbox(Duration::from_secs(s))).into();
    let _daemon = Daemon::start(&config_with_clients(&short));
    for sandbox in &short {
        let seen = sandbox.wait_for_requests(4, PATIENCE).unwrap();
        let starts: Vec<Duration> = seen.iter().map(|request| request.at).collect();
        for pair in starts.windows(2) {
            // Requests are sent a floor apart, and may catch up with each other on their way.
            let apart = pair[1].saturating_sub(pair[0]) + Duration::from_millis(100);
            assert!(apart >= FLOOR, "{starts:?}");
        }
    }
}

#[test]
fn redirects_are_not_followed() {
    let other = sandbox(HOUR);
    let elsewhere = other.token_url();
    for status in [301, 302, 303, 307, 308] {
        let here = sandbox(HOUR);
        let secure = elsewhere.replace("http://", "https://");
        let targets = [elsewhere.clone(), secure, here.url("/oauth/elsewhere")];
        here.script(targets.iter().map(|target| Fault::redirect(status, target)));
        let daemon = Daemon::start(&config_text(&here, "[\"data\"]"));
        for asked in 1..=targets.len() {
            let stderr = failure(&daemon.ask(&["--timeout", "1", "data"]), 75);
            assert!(stderr.contains("redirect"), "{stderr}");
            assert_eq!(here.requests().len(), asked);
            // A reload attempts immediately what was waiting.
            if asked < targets.len() {
                daemon.signal("-HUP");
                here.wait_for_requests(asked + 1, PATIENCE).unwrap();
            }
        }
        assert!(
            here.requests()
                .iter()
                .all(|seen| seen.path != "/oauth/elsewhere")
        );
        assert!(
            here.requests()
                .iter()
                .all(|seen| seen.client_id.as_deref() == Some(CLIENT_ID))
        );
    }
    assert_eq!(other.requests().len(), 0);
}

//! What is logged about failed renewals: whether callers are affected, and since when.

use std::fs;
use std::time::Duration;

use crate::common::{
    CANARY_SECRET, Daemon, HOUR, PATIENCE, config_text, folder, parts, sandbox, sandbox_and_daemon,
    sandbox_and_folder, token,
};
use domo_sandbox::Fault;
use serde_json::Value;

const VALID: &str = "renewal failed; the current token is still valid";
const NO_TOKEN: &str = "no valid token; callers fail until renewal succeeds";
const REJECTED: &str = "Domo rejected the client; confirming in 5 s; if it is rejected again, \
                        callers fail until the client's credentials are fixed";
const RECOVERED: &str = "token obtained after failures";

#[track_caller]
fn assert_once(log: &str, text: &str) {
    assert_eq!(log.matches(text).count(), 1, "{text}: {log}");
}

#[test]
fn outage_is_a_warning_then_an_error_at_expiry_then_a_recovery_with_its_duration() {
    let (sandbox, folder) = sandbox_and_folder(Duration::from_secs(4));
    let command = Daemon::command_of_config(folder.path());
    let mut daemon = Daemon::start_as(command, folder);
    token(&daemon.ask(&["--wait", "data"]));
    sandbox.always(Fault::status(503));
    let warning = daemon.wait_for_log(VALID);
    token(&daemon.ask(&["data"]));
    let error = daemon.wait_for_log(NO_TOKEN);
    let (code, ..) = parts(&daemon.ask(&["--timeout", "1", "data"]));
    assert_eq!(code, Some(75));
    sandbox.always(Fault::default());
    let recovery = daemon.wait_for_log(RECOVERED);
    assert!(warning.contains(" level=warn "), "{warning}");
    assert!(error.contains(" level=error "), "{error}");
    assert!(recovery.contains(" level=info "), "{recovery}");
    for field in ["client=acme", "scope=data", "cause=server", "error=\""] {
        assert!(warning.contains(field), "{warning}");
        assert!(error.contains(field), "{error}");
    }
    assert!(warning.contains("expires_in_s="), "{warning}");
    assert!(warning.contains("retry_in_s="), "{warning}");
    assert!(error.contains("no_token_s=0"), "{error}");
    for field in ["attempts=", "failing_s=", "outage_s="] {
        assert!(recovery.contains(field), "{recovery}");
    }
    let (_, log) = daemon.stop();
    for text in [VALID, NO_TOKEN, RECOVERED] {
        assert_once(&log, text);
    }
}

#[test]
fn outage_in_json_has_its_level_and_fields() {
    let (sandbox, folder) = sandbox_and_folder(Duration::from_secs(4));
    let mut command = Daemon::command_of_config(folder.path());
    command.args(["--log-format", "json"]);
    let mut daemon = Daemon::start_as(command, folder);
    token(&daemon.ask(&["--wait", "data"]));
    sandbox.always(Fault::status(503));
    let mut line = |text| {
        let line = daemon.wait_for_log(text);
        serde_json::from_str::<Value>(&line).unwrap()
    };
    let (warning, error) = (line(VALID), line(NO_TOKEN));
    sandbox.always(Fault::default());
    let recovery = line(RECOVERED);
    let levels = [&warning, &error, &recovery].map(|line| line["level"].as_str().unwrap());
    assert_eq!(levels, ["WARN", "ERROR", "INFO"]);
    for line in [&warning, &error] {
        assert_eq!(line["client"], "acme");
        assert_eq!(line["scope"], "data");
        assert_eq!(line["cause"], "server");
        assert!(line["retry_in_s"].is_u64(), "{line}");
        assert!(line["error"].as_str().unwrap().contains("503"), "{line}");
    }
    assert!(warning["expires_in_s"].as_u64().unwrap() <= 4, "{warning}");
    assert_eq!(error["no_token_s"], 0);
    assert!(recovery["attempts"].as_u64().unwrap() > 1, "{recovery}");
    let seconds = |name| recovery[name].as_u64().unwrap();
    assert!(seconds("failing_s") >= seconds("outage_s"), "{recovery}");
    daemon.stop();
}

#[test]
fn first_token_that_fails_is_an_error_and_its_recovery_is_logged() {
    let sandbox = sandbox(HOUR);
    sandbox.always(Fault::status(503));
    let mut daemon = Daemon::start(&config_text(&sandbox, "[\"data\"]"));
    assert!(daemon.wait_for_log(NO_TOKEN).contains(" level=error "));
    sandbox.always(Fault::default());
    daemon.wait_for_log(RECOVERED);
    let (_, log) = daemon.stop();
    assert_once(&log, NO_TOKEN);
}

#[test]
fn rejected_client_with_many_scope_sets_is_one_error_with_their_number() {
    let sandbox = sandbox(HOUR);
    let sets = ["data", "user", "audit", "data user", "audit data"];
    let config = config_text(&sandbox, &format!("{sets:?}"));
    let folder = folder(&config);
    fs::write(folder.path().join("acme.secret"), "c4nary-wrong").unwrap();
    let mut daemon = Daemon::start_in(folder);
    let error = daemon.wait_for_log(REJECTED);
    assert!(error.contains(" level=error "), "{error}");
    assert!(error.contains("scope_sets=5"), "{error}");
    assert!(error.contains("cause=denied"), "{error}");
    for set in sets {
        let (code, ..) = parts(&daemon.ask(&[set]));
        assert_eq!(code, Some(78));
    }
    let (_, log) = daemon.stop();
    assert_once(&log, REJECTED);
}

#[test]
fn rejection_while_the_old_token_is_valid_is_a_warning() {
    let (_sandbox, mut daemon) = sandbox_and_daemon(HOUR);
    token(&daemon.ask(&["--wait", "data"]));
    daemon.write("acme.secret", "c4nary-wrong\n");
    let line = daemon.wait_for_log("cause=denied");
    let warning = "Domo rejected the client; the current token is still valid; confirming in 5 s; \
                   if it is rejected again, fix the client's credentials";
    assert!(
        line.contains(" level=warn ") && line.contains(warning),
        "{line}"
    );
    assert!(line.contains("retry_in_s="), "{line}");
    token(&daemon.ask(&["data"]));
    daemon.write("acme.secret", CANARY_SECRET);
    daemon.wait_for_log(RECOVERED);
    daemon.stop();
}

#[test]
fn rejected_scope_set_is_an_error_with_advice() {
    let sandbox = sandbox(HOUR);
    sandbox.always(Fault::oauth_error(400, "invalid_scope", "no such scope"));
    let mut daemon = Daemon::start(&config_text(&sandbox, "[\"data\"]"));
    let line = daemon.wait_for_log("Domo rejected the scope set; callers fail until");
    let advice = "callers fail until an API client with these scopes is configured, or tokens in the config is corrected";
    assert!(
        line.contains(" level=error ") && line.contains(advice),
        "{line}"
    );
    assert!(line.contains("retry_in_s="), "{line}");
    daemon.stop();
}

#[test]
fn outage_is_logged_again_after_new_credentials_but_not_after_a_reload() {
    let sandbox = sandbox(HOUR);
    let sets = ["data", "user", "audit", "data user"];
    let folder = folder(&config_text(&sandbox, &format!("{sets:?}")));
    fs::write(folder.path().join("acme.secret"), "c4nary-wrong").unwrap();
    let mut daemon = Daemon::start_in(folder);
    daemon.wait_for_log(REJECTED);
    for _reload in 0..2 {
        let before = sandbox.requests().len();
        daemon.signal("-HUP");
        // The requests that it causes.
        sandbox.wait_for_requests(before + 1, PATIENCE).unwrap();
    }
    daemon.write("acme.secret", "c4nary-wrong-too\n");
    daemon.wait_for_log(REJECTED);
    let (_, log) = daemon.stop();
    assert_eq!(log.matches(REJECTED).count(), 2, "{log}");
}

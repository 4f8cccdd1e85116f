//! From the config through daemon, sandbox and socket to the helper.

use std::collections::HashSet;
use std::fs;
use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::process::Stdio;
use std::time::Duration;

use crate::common;
use crate::common::wait::until;
use crate::common::{
    CANARY_SECRET, CLIENT_ID, Daemon, HOUR, PATIENCE, config_text, failure, get, helper, parts,
    sandbox, sandbox_and_daemon, sandbox_and_folder, token,
};
use domo_sandbox::{Fault, Sandbox};
use domo_token_client::clock::boot_now;
use domo_token_client::{Broker, ErrorKind, ScopeState};
use domo_token_protocol::greeting::Greeting;
use domo_token_protocol::messages::VERSION;

#[test]
fn script_gets_a_valid_token_with_one_request_to_domo() {
    let (sandbox, daemon) = sandbox_and_daemon(HOUR);
    let first = token(&daemon.ask(&["data"]));
    assert_eq!(token(&daemon.ask(&["get", "data"])), first);
    assert_eq!(token(&daemon.ask(&["-c", "acme", "data"])), first);
    let requests = sandbox.requests();
    assert_eq!(requests.len(), 1);
    assert_eq!(requests[0].method, "POST");
    assert_eq!(requests[0].scope.as_deref(), Some("data"));
    assert_eq!(requests[0].client_id.as_deref(), Some(CLIENT_ID));
    assert_eq!(get(&sandbox.url("/v1/datasets"), &first), 200);
}

#[test]
fn tokens_are_fetched_before_the_first_caller() {
    let sandbox = sandbox(HOUR);
    let _daemon = Daemon::start(&config_text(
        &sandbox,
        "[\"data\", \"user\", \"data,user\", \"user data\"]",
    ));
    let requests = sandbox.wait_for_requests(3, PATIENCE).unwrap();
    let scopes: HashSet<String> = requests.into_iter().filter_map(|seen| seen.scope).collect();
    let expected = ["data", "user", "data user"].map(str::to_owned);
    assert_eq!(scopes, HashSet::from(expected));
}

#[test]
fn get_works_as_well_as_post() {
    let sandbox = sandbox(HOUR);
    let config = config_text(&sandbox, "[\"data user\"]") + "token_method = \"get\"\n";
    let daemon = Daemon::start(&config);
    token(&daemon.ask(&["user", "data"]));
    let seen = &sandbox.requests()[0];
    assert_eq!(
        (seen.method.as_str(), seen.scope.as_deref()),
        ("GET", Some("data user"))
    );
}

#[test]
fn https_works_with_ca_file_and_fails_without() {
    let sandbox = Sandbox::builder()
        .client(CLIENT_ID, CANARY_SECRET, &["data"])
        .https(true)
        .start()
        .unwrap();
    let config = config_text(&sandbox, "[\"data\"]");
    let folder = common::folder(&(config.clone() + "ca_file = \"ca.pem\"\n"));
    fs::write(folder.path().join("ca.pem"), sandbox.ca_pem().unwrap()).unwrap();
    token(&Daemon::start_in(folder).ask(&["data"]));

    let daemon = Daemon::start(&config);
    let stderr = failure(&daemon.ask(&["--timeout", "1", "data"]), 75);
    assert!(stderr.contains("certificate"), "{stderr}");
    assert_eq!(
        sandbox.requests().len(),
        1,
        "nothing was sent to a server not trusted"
    );
}

#[test]
fn output_formats_contain_the_same_token() {
    let (_sandbox, daemon) = sandbox_and_daemon(HOUR);
    let plain = token(&daemon.ask(&["data"]));
    let line = |format: &str| parts(&daemon.ask(&["--format", format, "data"])).1;
    assert_eq!(line("token"), format!("{plain}\n"));
    assert_eq!(line("header"), format!("Authorization: Bearer {plain}\n"));
    assert_eq!(
        line("curl"),
        format!("header = \"Authorization: Bearer {plain}\"\n")
    );
    assert_eq!(line("env"), format!("DOMO_ACCESS_TOKEN={plain}\n"));
    let export = format!("export DOMO_ACCESS_TOKEN='{plain}'\n");
    assert_eq!(line("export"), export);
    assert_eq!(parts(&daemon.ask(&["-o", "export", "data"])).1, export);
    let powershell = format!("$env:DOMO_ACCESS_TOKEN = '{plain}'\n");
    assert_eq!(line("powershell"), powershell);
    let fish = format!("set -gx DOMO_ACCESS_TOKEN '{plain}'\n");
    assert_eq!(line("fish"), fish);
    let json: serde_json::Value = serde_json::from_str(&line("json")).unwrap();
    assert_eq!(json["access_token"], plain);
    assert_eq!(json["token_type"], "bearer");
    assert_eq!(json["scope"], "data");
    assert_eq!(json["client"], "acme");
    assert!(json["generation"].is_u64());
    let left = json["expires_in"].as_u64().unwrap();
    assert!((3500..=3599).contains(&left), "{left}");
    assert!(json["expires_at"].as_u64().unwrap() > 1_700_000_000);
}

#[test]
fn no_newline_option_omits_the_newline() {
    let (_sandbox, daemon) = sandbox_and_daemon(HOUR);
    let plain = token(&daemon.ask(&["data"]));
    let text = |arguments: &[&str]| parts(&daemon.ask(arguments)).1;
    assert_eq!(text(&["-n", "data"]), plain);
    let header = format!("Authorization: Bearer {plain}");
    let arguments = ["get", "--no-newline", "-o", "header", "data"];
    assert_eq!(text(&arguments), header);
    assert!(!text(&["-n", "-o", "json", "data"]).ends_with('\n'));
    let exec = ["exec", "-n", "--fd", "3", "data", "--", "cat", "/dev/fd/3"];
    let mut command = daemon.helper(&exec);
    command.env("PATH", "/usr/bin:/bin");
    assert_eq!(parts(&command.output().unwrap()).1, plain);
}

#[test]
fn unconfigured_scope_set_exits_78_with_the_configured_ones() {
    let sandbox = sandbox(HOUR);
    let daemon = Daemon::start(&config_text(&sandbox, "[\"data\", \"data user\"]"));
    for (set, hint) in [
        ("audit", "put \"audit\" into tokens of [clients.acme]"),
        ("nosuch", "Domo's scopes are account, audit"),
        ("Data", "did you mean \"data\"?"),
    ] {
        let (code, stdout, stderr) = parts(&daemon.ask(&[set]));
        assert_eq!((code, stdout.as_str()), (Some(78), ""));
        for part in [set, "acme", "\"data\"", "\"data user\"", hint] {
            assert!(stderr.contains(part), "{part} in {stderr}");
        }
    }
    let (_, _, stderr) = parts(&daemon.ask(&["nosuch"]));
    assert_eq!(stderr.lines().count(), 1, "{stderr}");
    let (code, stdout, stderr) = parts(&daemon.ask(&["--client", "nobody", "data"]));
    assert_eq!((code, stdout.as_str()), (Some(78), ""));
    assert!(
        stderr.contains("nobody") && stderr.contains("\"acme\""),
        "{stderr}"
    );
}

#[test]
fn missing_broker_exits_69_immediately_with_how_to_start_one() {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("broker.sock");
    let output = helper(&socket, &["data"]).output().unwrap();
    let (code, stdout, stderr) = parts(&output);
    assert_eq!((code, stdout.as_str()), (Some(69), ""));
    assert!(
        stderr.contains(socket.to_str().unwrap()) && stderr.contains("domo-tokend"),
        "{stderr}"
    );
}

#[test]
fn wrong_secret_exits_78_with_domos_message_and_stops_the_client() {
    let sandbox = sandbox(HOUR);
    let folder = common::folder(&config_text(
        &sandbox,
        "[\"data\", \"user\", \"audit\", \"data user\"]",
    ));
    fs::write(folder.path().join("acme.secret"), "c4nary-wrong-secret\n").unwrap();
    let mut daemon = Daemon::start_in(folder);
    daemon.wait_for_log("cause=denied");
    for scope in ["data", "user", "audit", "data user"] {
        let stderr = failure(&daemon.ask(&[scope]), 78);
        assert!(stderr.contains("Bad client credentials"), "{stderr}");
    }
    let seen = sandbox.requests().len();
    assert!(
        seen <= 3 + 1,
        "{seen} requests: more than may be under way at once and a confirmation"
    );
    let (_, log) = daemon.stop();
    assert!(!log.contains("c4nary"), "{log}");
}

#[test]
fn two_hundred_concurrent_processes_on_an_empty_cache_cause_one_request() {
    let sandbox = sandbox(HOUR);
    sandbox.script([Fault::hold()]);
    let daemon = Daemon::start(&config_text(&sandbox, "[\"data\"]"));
    sandbox.wait_for_requests(1, PATIENCE).unwrap();
    let callers: Vec<_> = (0..200)
        .map(|_| daemon.helper(&["--timeout", "60", "data"]).spawn().unwrap())
        .collect();
    daemon_waiters(&daemon, 200);
    sandbox.recover();
    let outputs = callers
        .into_iter()
        .map(|caller| caller.wait_with_output().unwrap());
    let tokens: HashSet<String> = outputs.map(|output| token(&output)).collect();
    assert_eq!(tokens.len(), 1);
    assert_eq!(sandbox.requests().len(), 1);
}

/// Waits until that many callers are connected, by the daemon's descriptors.
fn daemon_waiters(daemon: &Daemon, count: usize) {
    let folder = format!("/proc/{}/fd", daemon.pid());
    until(|| match fs::read_dir(&folder).unwrap().count() {
        many if many >= count => Ok(()),
        few => Err(few),
    });
}

#[test]
fn token_is_renewed_before_its_expiry_without_delaying_callers() {
    let (sandbox, daemon) = sandbox_and_daemon(Duration::from_secs(5));
    let broker = Broker::connect_to(daemon.socket()).unwrap();
    let first = broker.token("data").unwrap();
    let requests = sandbox.wait_for_requests(2, PATIENCE).unwrap();
    let between = requests[1].at.checked_sub(requests[0].at).unwrap();
    // It is sent at least 2 s after the first one, and may catch up with it on its way.
    let earliest = Duration::from_millis(1900);
    assert!(
        between >= earliest && between < Duration::from_secs(5),
        "{between:?}"
    );
    let second = broker
        .request("data")
        .min_ttl(Duration::from_millis(3500))
        .send()
        .unwrap();
    assert_ne!(first.generation(), second.generation());
    assert_ne!(first.secret(), second.secret());
}

#[test]
fn failing_domo_exits_75_with_the_cause_and_recovers() {
    let sandbox = sandbox(HOUR);
    sandbox.always(Fault::status(503));
    let daemon = Daemon::start(&config_text(&sandbox, "[\"data\"]"));
    let stderr = failure(&daemon.ask(&["--timeout", "1", "data"]), 75);
    assert!(stderr.contains("503"), "{stderr}");
    sandbox.recover();
    token(&daemon.ask(&["--timeout", "60", "data"]));
}

#[test]
fn caller_is_answered_by_its_deadline_while_domo_hangs() {
    let sandbox = sandbox(HOUR);
    sandbox.always(Fault::hang());
    let daemon = Daemon::start(&config_text(&sandbox, "[\"data\"]"));
    let stderr = failure(&daemon.ask(&["--timeout", "2", "data"]), 75);
    assert!(stderr.contains("in time"), "{stderr}");
}

#[test]
fn invalid_responses_never_replace_the_valid_token() {
    let (sandbox, daemon) = sandbox_and_daemon(Duration::from_secs(6));
    let broker = Broker::connect_to(daemon.socket()).unwrap();
    let first = broker.token("data").unwrap();
    sandbox.script([Fault::garbage()]);
    sandbox.wait_for_requests(2, PATIENCE).unwrap();
    let still = daemon.broker().token("data").unwrap();
    assert_eq!(still.generation(), first.generation());
    sandbox.wait_for_requests(3, PATIENCE).unwrap();
    let next = broker
        .request("data")
        .min_ttl(Duration::from_secs(3))
        .send()
        .unwrap();
    assert_ne!(next.generation(), first.generation());
}

#[test]
fn status_lists_scope_sets_without_tokens() {
    let sandbox = sandbox(HOUR);
    let daemon = Daemon::start(&config_text(&sandbox, "[\"data\", \"user\"]"));
    let secret = token(&daemon.ask(&["data"]));
    token(&daemon.ask(&["user"]));
    let (code, stdout, stderr) = parts(&daemon.ask(&["status"]));
    assert_eq!(code, Some(0), "{stderr}");
    assert!(
        stdout.contains("acme") && stdout.contains("data") && stdout.contains("user"),
        "{stdout}"
    );
    let (code, json, stderr) = parts(&daemon.ask(&["status", "--json"]));
    assert_eq!(code, Some(0), "{stderr}");
    serde_json::from_str::<serde_json::Value>(&json).unwrap();
    for text in [stdout, json] {
        assert!(
            !text.contains(&secret) && !text.contains(CLIENT_ID),
            "{text}"
        );
    }
}

#[test]
fn failed_write_to_standard_output_exits_74_with_a_message() {
    let (_sandbox, daemon) = sandbox_and_daemon(HOUR);
    let full = fs::File::options().write(true).open("/dev/full").unwrap();
    let output = daemon
        .helper(&["data"])
        .stdout(Stdio::from(full))
        .output()
        .unwrap();
    let (code, _, stderr) = parts(&output);
    assert_eq!(code, Some(74), "{stderr}");
    assert!(stderr.contains("output"), "{stderr}");
    let mut child = daemon.helper(&["data"]).spawn().unwrap();
    drop(child.stdout.take());
    let code = child.wait().unwrap().code();
    assert!(code == Some(74) || code == Some(0), "{code:?}");
}

#[test]
fn sigterm_exits_0_answers_waiting_callers_and_removes_the_socket() {
    for signal in ["-TERM", "-INT"] {
        let sandbox = sandbox(HOUR);
        sandbox.always(Fault::hang());
        let mut daemon = Daemon::start(&config_text(&sandbox, "[\"data\"]"));
        let socket = daemon.socket();
        sandbox.wait_for_requests(1, PATIENCE).unwrap();
        let mut idle = UnixStream::connect(&socket).unwrap();
        let waiting = daemon.helper(&["--timeout", "60", "data"]).spawn().unwrap();
        daemon.wait_for_log("received request");
        daemon.signal(signal);
        let output = waiting.wait_with_output().unwrap();
        failure(&output, 75);
        let (code, log) = daemon.wait_with_log();
        assert_eq!(code, Some(0), "{log}");
        assert!(!socket.exists());
        let mut nothing = Vec::new();
        let _ = idle.write_all(b"DTK\x01");
        let _ = idle.read_to_end(&mut nothing);
        assert_eq!(nothing, b"");
    }
}

#[test]
fn trace_log_contains_no_secrets_and_no_tokens() {
    let sandbox = sandbox(Duration::from_secs(4));
    sandbox.script([
        Fault::oauth_error(503, "overloaded", &format!("you sent {CANARY_SECRET}")),
        Fault::garbage(),
    ]);
    let daemon = Daemon::start(&config_text(&sandbox, "[\"data\"]"));
    let given = token(&daemon.ask(&["--timeout", "60", "--wait", "data"]));
    sandbox.wait_for_requests(4, PATIENCE).unwrap();
    daemon.ask(&["nosuch"]);
    daemon.ask(&["status"]);
    let (_, log) = daemon.stop();
    assert!(log.contains("token obtained"), "{log}");
    assert!(
        !log.contains(CANARY_SECRET) && !log.contains(&given),
        "{log}"
    );
    assert!(!log.contains("eyJ"), "a JWT's start: {log}");
}

#[test]
fn socket_is_accessible_to_its_owner_only() {
    let (_sandbox, daemon) = sandbox_and_daemon(HOUR);
    let mode = |name: &str| {
        let stat = fs::metadata(daemon.folder().join(name)).unwrap();
        stat.permissions().mode() & 0o7777
    };
    assert_eq!(mode("broker.sock"), 0o600);
    assert_eq!(mode("broker.sock.lock"), 0o600);
}

#[test]
fn broken_caller_does_not_affect_others() {
    let (_sandbox, daemon) = sandbox_and_daemon(HOUR);
    let given = token(&daemon.ask(&["data"]));
    let _idle_connection = UnixStream::connect(daemon.socket()).unwrap();
    let mut half = UnixStream::connect(daemon.socket()).unwrap();
    half.write_all(b"DTK\x01\x20\x00").unwrap();
    for bad in [
        &b"get / HTTP/1.1\r\n\r\n"[..],
        b"DTK\x01\xff\xff\xff\xff",
        b"DTK\x01\x02\x00\x00\x00\xff\xff",
        b"DTK\x01\x00\x00\x00\x00",
    ] {
        let mut caller = UnixStream::connect(daemon.socket()).unwrap();
        caller.write_all(bad).unwrap();
        let mut answer = Vec::new();
        let _ = caller.read_to_end(&mut answer);
        assert_eq!(answer, b"", "{bad:?}");
    }
    let mut newer = UnixStream::connect(daemon.socket()).unwrap();
    let before = boot_now();
    newer.write_all(b"DTK\x63").unwrap();
    let mut answer = Vec::new();
    newer.read_to_end(&mut answer).unwrap();
    let greeting = Greeting::decode(&answer).unwrap().unwrap();
    assert_eq!(
        (greeting.version(), answer.len()),
        (VERSION, greeting.length())
    );
    let clock = greeting.clock().unwrap();
    assert!(clock <= boot_now() && before.saturating_since(clock) < PATIENCE);
    assert_eq!(token(&daemon.ask(&["data"])), given);
}

#[test]
fn app_that_starts_before_the_daemon_gets_a_token_from_a_lazy_broker() {
    let (sandbox, folder) = sandbox_and_folder(HOUR);
    let broker = Broker::lazy_at(folder.path().join("broker.sock")).with_timeout(PATIENCE);
    let error = broker.token("data").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotRunning, "{error}");
    let mut daemon = Daemon::start_in(folder);
    let first = broker.token("data").unwrap();
    let status = broker.status().unwrap();
    assert_eq!(status.broker.pid, daemon.pid());
    assert!(status.broker.started.elapsed() < PATIENCE);
    let set = &status.scopes[0];
    assert_eq!((set.state, set.scope.as_str()), (ScopeState::Fresh, "data"));
    assert!(set.has_valid_token());
    let left = set.expires.unwrap().remaining();
    assert!(left.abs_diff(first.expires_in()) < PATIENCE, "{left:?}");
    let explanation = broker.explain("data").unwrap();
    assert_eq!(
        (explanation.denied, explanation.scope.as_str()),
        (None, "data")
    );
    let unknown = broker.explain("nosuch").unwrap();
    assert_eq!(unknown.denied, Some(ErrorKind::UnknownScope));
    assert_eq!(sandbox.requests().len(), 1);
    daemon.restart("-TERM");
    let after = broker.request("data").min_ttl(HOUR / 2).renew().send();
    assert!(!after.unwrap().expires_in().is_zero());
}

#[test]
fn client_errors_distinguish_unknown_scope_sets_and_too_long_min_ttl() {
    let (_sandbox, daemon) = sandbox_and_daemon(HOUR);
    let broker = Broker::connect_to(daemon.socket()).unwrap();
    let error = broker.token("nosuch").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::UnknownScope, "{error}");
    let error = broker.with_client("nosuch").token("data").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::UnknownClient, "{error}");
    let error = broker.request("data").min_ttl(HOUR * 2).send().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::MinTtlTooLong, "{error}");
    assert!(error.to_string().contains("3569 s"), "{error}");
    assert!(broker.with_client("acme").token("data").is_ok());
}

#[test]
fn unknown_client_of_the_variable_is_reported_with_the_variable() {
    let (_sandbox, daemon) = sandbox_and_daemon(HOUR);
    let ask = |arguments: &[&str]| {
        let mut ask = helper(&daemon.socket(), arguments);
        let output = ask.env("DOMO_TOKEN_CLIENT", "acm").output().unwrap();
        let (code, _, stderr) = parts(&output);
        assert_eq!(code, Some(78), "{stderr}");
        stderr
    };
    let expected = "no client \"acm\"; did you mean \"acme\"?\n";
    let by_variable = format!("domo-token: $DOMO_TOKEN_CLIENT is \"acm\": {expected}");
    for arguments in [
        &["data"][..],
        &["watch", "data"],
        &["exec", "data", "--", "true"],
    ] {
        assert_eq!(ask(arguments), by_variable);
    }
    assert_eq!(
        ask(&["-c", "acm", "data"]),
        format!("domo-token: {expected}")
    );
    assert!(ask(&["-c", "acme", "user"]).starts_with("domo-token: client \"acme\" has no"));
}

//! Changes of config and credentials by SIGHUP, and watchers of the changed scope sets.

use std::time::Duration;

use crate::common::{
    CANARY_SECRET, CLIENT_ID, Daemon, HOUR, PATIENCE, client_text, config_text, failure, parts,
    sandbox, sandbox_and_daemon, token,
};
use domo_sandbox::Fault;
use domo_token_client::{ErrorKind, Watch};

fn reload(daemon: &mut Daemon, config: &str) {
    daemon.write("config.toml", config);
    assert!(daemon.reload().contains("config loaded"));
}

/// Returns the generation of the next token. Anything else is a failure.
fn next(watch: &mut Watch) -> u64 {
    watch.next().unwrap().unwrap().generation()
}

#[test]
fn unchanged_client_causes_no_request_and_a_new_scope_set_one() {
    let (sandbox, mut daemon) = sandbox_and_daemon(HOUR);
    let cached = token(&daemon.ask(&["data"]));
    reload(&mut daemon, &config_text(&sandbox, "[\"data\"]"));
    assert_eq!(sandbox.requests().len(), 1);
    let two = config_text(&sandbox, "[\"data\", \"user\"]");
    reload(
        &mut daemon,
        &(two + &client_text("beta", &sandbox, "[\"audit\"]")),
    );
    for arguments in [["-c", "acme", "user"], ["-c", "beta", "audit"]] {
        token(&daemon.ask(&arguments));
    }
    assert_eq!(token(&daemon.ask(&["-c", "acme", "data"])), cached);
    assert_eq!(sandbox.requests().len(), 3);
}

#[test]
fn invalid_config_changes_nothing_and_is_shown_in_status() {
    let sandbox = sandbox(HOUR);
    let good = config_text(&sandbox, "[\"data\"]");
    let mut daemon = Daemon::start(&good);
    let cached = token(&daemon.ask(&["data"]));
    for (wrong, words) in [
        ("", "no client"),
        ("[clients.acme", "config.toml:1:14: invalid TOML"),
        (
            &format!("{good}client_secrt = \"{CANARY_SECRET}\"\n"),
            "client_secrt",
        ),
    ] {
        daemon.write("config.toml", wrong);
        let line = daemon.reload();
        assert!(line.contains("keeping the previous one"), "{line}");
        assert!(line.contains(words), "{words} in {line}");
        assert!(!line.contains(CANARY_SECRET), "{line}");
        assert_eq!(token(&daemon.ask(&["data"])), cached);
        let status = daemon.status();
        let error = status["broker"]["config_error"].as_str().unwrap();
        assert!(error.contains(words), "{error}");
        let (_, stdout, _) = parts(&daemon.ask(&["status"]));
        assert!(stdout.contains("config error: "), "{stdout}");
    }
    reload(&mut daemon, &good);
    assert!(daemon.status()["broker"]["config_error"].is_null());
    assert_eq!(sandbox.requests().len(), 1);
}

#[test]
fn new_secret_is_used_and_the_old_token_served_until_the_next() {
    let (sandbox, mut daemon) = sandbox_and_daemon(HOUR);
    let cached = token(&daemon.ask(&["data"]));
    sandbox.add_client(CLIENT_ID, "c4nary-second-secret", &["data"]);
    sandbox.script([Fault::hold()]);
    daemon.write("acme.secret", "c4nary-second-secret\n");
    daemon.signal("-HUP");
    sandbox.wait_for_requests(2, PATIENCE).unwrap();
    assert_eq!(token(&daemon.ask(&["data"])), cached);
    sandbox.recover();
    daemon.wait_for_log("token renewed");
    assert_ne!(token(&daemon.ask(&["data"])), cached);
    assert_eq!(sandbox.requests().len(), 2);
}

#[test]
fn change_that_needs_a_restart_is_reported_until_it_is_undone() {
    let sandbox = sandbox(HOUR);
    let config = config_text(&sandbox, "[\"data\"]");
    let mut daemon = Daemon::start(&config);
    let wide = format!("[broker]\nsocket_mode = \"0666\"\n{config}");
    for other in [wide.clone(), wide + "# again\n"] {
        daemon.write("config.toml", &other);
        daemon.wait_for_log("broker.socket_mode changed; restart the daemon");
        daemon.wait_for_log("config loaded");
    }
    reload(&mut daemon, &config);
    let (_, log) = daemon.stop();
    assert_eq!(
        log.matches("restart the daemon to apply").count(),
        2,
        "{log}"
    );
}

#[test]
fn removed_scope_set_is_gone_for_watchers_and_unknown_to_callers() {
    let sandbox = sandbox(HOUR);
    let mut daemon = Daemon::start(&config_text(&sandbox, "[\"data\", \"user\"]"));
    let mut watch = daemon.broker().watch("user").unwrap();
    next(&mut watch);
    reload(&mut daemon, &config_text(&sandbox, "[\"data\"]"));
    let last = watch.next().unwrap().unwrap_err();
    assert_eq!(last.kind(), ErrorKind::Gone, "{last}");
    assert!(watch.next().is_none());
    assert_eq!(daemon.ask(&["user"]).status.code(), Some(78));
}

#[test]
fn waiter_of_a_removed_scope_set_receives_gone() {
    let (sandbox, mut daemon) = sandbox_and_daemon(HOUR);
    token(&daemon.ask(&["data"]));
    sandbox.always(Fault::hang());
    let two = config_text(&sandbox, "[\"data\", \"user\"]");
    reload(&mut daemon, &two);
    sandbox.wait_for_requests(2, PATIENCE).unwrap();
    let waiting = daemon
        .helper(&["--wait", "--timeout", "60", "user"])
        .spawn()
        .unwrap();
    daemon.wait_for_log("received request");
    reload(&mut daemon, &config_text(&sandbox, "[\"data\"]"));
    failure(&waiting.wait_with_output().unwrap(), 78);
}

#[test]
fn watcher_receives_the_current_token_each_new_one_and_one_message_per_outage() {
    let (sandbox, daemon) = sandbox_and_daemon(Duration::from_secs(4));
    let broker = daemon.broker();
    let mut watch = broker.watch("data").unwrap();
    let first = next(&mut watch);
    let second = next(&mut watch);
    assert_ne!(first, second);
    sandbox.always(Fault::status(503));
    let error = loop {
        if let Err(error) = watch.next().unwrap() {
            break error;
        }
    };
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
    sandbox.recover();
    let after = next(&mut watch);
    assert_ne!(after, second);
}

#[test]
fn watcher_reconnects_after_a_restart_of_the_daemon() {
    let (_sandbox, mut daemon) = sandbox_and_daemon(HOUR);
    let mut watch = daemon.broker().watch("data").unwrap();
    let first = next(&mut watch);
    for signal in ["-TERM", "-KILL"] {
        daemon.restart(signal);
        let again = loop {
            // A message about the broker's absence may come first.
            if let Ok(token) = watch.next().unwrap() {
                break token;
            }
        };
        assert_ne!(again.generation(), first);
    }
}

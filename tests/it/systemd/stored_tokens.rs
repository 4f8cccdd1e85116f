//! Tokens that systemd's file-descriptor store keeps over a restart of the daemon.

use std::fs::{self, File};
use std::path::Path;

use super::activation::activated;
use super::notified::Notified;
use super::notified_daemon;
use crate::common;
use crate::common::{Daemon, HOUR, config_text, parts, sandbox, token};
use domo_sandbox::Fault;

/// A daemon that systemd starts again with the stored file descriptor. `folder` must outlive it.
fn restarted(folder: &Path, kept: (String, File), extra: &str) -> (Daemon, Notified) {
    let again = common::folder(&(fs::read_to_string(folder.join("config.toml")).unwrap() + extra));
    let mut command = activated(again.path(), &kept.0, vec![kept.1.into()]);
    let notified = Notified::bind(again.path(), &mut command);
    (Daemon::start_as(command, again), notified)
}

#[test]
fn tokens_survive_a_restart_even_by_sigkill_without_a_request_to_domo() {
    for signal in ["-TERM", "-KILL"] {
        let sandbox = sandbox(HOUR);
        let (daemon, notified) = notified_daemon(&config_text(&sandbox, "[\"data\"]"));
        let kept = notified.wait_for_kept();
        let before = daemon.broker().token("data").unwrap();
        daemon.signal(signal);
        let (again, notified) = restarted(daemon.folder(), kept, "");
        let after = again.broker().token("data").unwrap();
        assert_eq!(after.secret(), before.secret());
        assert_eq!(after.generation(), before.generation());
        assert_eq!(sandbox.requests().len(), 1, "{signal}");
        assert_eq!(again.status_of("data")["state"], "fresh");
        // It stores a new one and removes the old one.
        notified.wait_for_kept();
    }
}

#[test]
fn tokens_of_the_old_client_id_are_served_until_the_first_of_the_new_one() {
    let sandbox = sandbox(HOUR);
    let (daemon, notified) = notified_daemon(&config_text(&sandbox, "[\"data\"]"));
    let kept = notified.wait_for_kept();
    let before = token(&daemon.ask(&["data"]));
    let config = fs::read_to_string(daemon.folder().join("config.toml")).unwrap();
    let new = "7d1f0000-0000-4000-8000-000000000002";
    sandbox.add_client(new, common::CANARY_SECRET, &["data"]);
    daemon.write("config.toml", &config.replace(common::CLIENT_ID, new));
    sandbox.always(Fault::status(503));
    let (again, _notified) = restarted(daemon.folder(), kept, "");
    assert_eq!(token(&again.ask(&["data"])), before);
    sandbox.always(Fault::default());
    let broker = again.broker();
    let mut tokens = broker.watch("data").unwrap().map(Result::unwrap);
    let renewed = tokens.find(|token| token.secret() != before).unwrap();
    assert_eq!(renewed.scope(), "data");
}

#[test]
fn stored_token_of_a_client_that_is_not_loaded_stays_stored_and_unserved() {
    let sandbox = sandbox(HOUR);
    let two = common::client_text("beta", &sandbox, "[\"data\"]");
    let config = config_text(&sandbox, "[\"user\"]") + &two;
    let (mut daemon, notified) = notified_daemon(&config);
    token(&daemon.ask(&["-c", "acme", "user"]));
    let cached = token(&daemon.ask(&["-c", "beta", "data"]));
    daemon.signal("-TERM");
    let kept = notified.kept_at_end(&mut daemon);
    let missing = two.replace("acme.secret", "missing.secret");
    daemon.write("config.toml", &config.replace(&two, &missing));
    let (mut again, notified) = restarted(daemon.folder(), kept, "");
    let (code, _, stderr) = parts(&again.ask(&["-c", "beta", "data"]));
    assert_eq!(code, Some(78), "{stderr}");
    again.signal("-TERM");
    let kept = notified.kept_at_end(&mut again);
    again.write("config.toml", &config);
    let (last, _notified) = restarted(again.folder(), kept, "");
    assert_eq!(token(&last.ask(&["-c", "beta", "data"])), cached);
    assert_eq!(sandbox.requests().len(), 2);
}

#[test]
fn keep_over_restart_false_stores_no_tokens() {
    let sandbox = sandbox(HOUR);
    let config = config_text(&sandbox, "[\"data\"]");
    let (daemon, notified) = notified_daemon(&config);
    let kept = notified.wait_for_kept();
    daemon.signal("-TERM");
    let off = "[broker]\nkeep_over_restart = false\n";
    let (again, notified) = restarted(daemon.folder(), kept, off);
    token(&again.ask(&["data"]));
    assert_eq!(sandbox.requests().len(), 2, "requested again");
    notified.wait_for("FDSTOREREMOVE=1");
    again.signal("-TERM");
    loop {
        let message = notified.next();
        assert!(!message.contains("FDSTORE=1"), "{message}");
        if message.contains("STOPPING=1") {
            break;
        }
    }
}

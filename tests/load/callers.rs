//! Many concurrent callers, and callers whose token Domo rejected.

use std::collections::HashSet;
use std::path::Path;
use std::thread;
use std::time::Duration;

use crate::common;
use crate::common::{
    CANARY_SECRET, CLIENT_ID, Daemon, HOUR, PATIENCE, config_text, failure, get, parts, pauses,
    raise_descriptor_limit, sandbox, sandbox_and_daemon, timed, token,
};
use domo_sandbox::{Fault, Sandbox};
use domo_token_client::{Broker, ErrorKind, Token};

/// A lifetime with a short floor: 2 s.
const SHORT: Duration = Duration::from_secs(40);

/// Runs `job` with its number on that many threads.
fn concurrently<T: Send>(count: usize, job: impl Fn(usize) -> T + Sync) -> Vec<T> {
    thread::scope(|scope| {
        let job = &job;
        let threads: Vec<_> = (0..count)
            .map(|number| scope.spawn(move || job(number)))
            .collect();
        let results = threads.into_iter().map(thread::ScopedJoinHandle::join);
        results.map(|result| result.unwrap()).collect()
    })
}

/// Requests a renewal of the rejected token of that generation, on a new connection.
fn reject(socket: &Path, generation: u64) -> Token {
    let broker = Broker::connect_to(socket).unwrap().with_timeout(PATIENCE);
    broker.request("data").rejected(generation).send().unwrap()
}

#[test]
fn thousand_first_requests_for_fifty_scope_sets_cause_fifty_requests() {
    raise_descriptor_limit();
    let scopes: Vec<String> = (0..50).map(|number| format!("scope{number}")).collect();
    let names: Vec<&str> = scopes.iter().map(String::as_str).collect();
    let sandbox = Sandbox::builder()
        .client(CLIENT_ID, CANARY_SECRET, &names)
        .start()
        .unwrap();
    sandbox.always(Fault::hold());
    let mut daemon = Daemon::start(&config_text(&sandbox, &format!("{scopes:?}")));
    sandbox.wait_for_requests(3, PATIENCE).unwrap();
    let socket = daemon.socket();
    let tokens = thread::scope(|scope| {
        let asking = scope.spawn(|| {
            concurrently(1000, |number| {
                let broker = Broker::connect_to(&socket)
                    .unwrap()
                    .with_timeout(PATIENCE * 2);
                let token = broker.token(&scopes[number % 50]).unwrap();
                (number % 50, token.generation())
            })
        });
        for _ in 0..1000 {
            daemon.wait_for_log("received request");
        }
        assert_eq!(sandbox.requests().len(), 3, "three at once for one client");
        sandbox.recover();
        asking.join().unwrap()
    });
    let distinct: HashSet<(usize, u64)> = tokens.into_iter().collect();
    assert_eq!(distinct.len(), 50, "one token for each set");
    assert_eq!(sandbox.requests().len(), 50);
}

/// Eight callers that request tokens continuously and get the token of that generation.
fn request_repeatedly(socket: &Path, generation: u64) {
    concurrently(8, |_| {
        let broker = Broker::connect_to(socket).unwrap();
        for _ in 0..100 {
            // A caller that rejects another token gets the current one, from the daemon and not from its cache.
            let token = broker.request("data").rejected(0).send().unwrap();
            assert_eq!(token.generation(), generation);
        }
    });
}

#[test]
fn many_callers_in_an_outage_are_served_without_more_requests_to_domo() {
    let (sandbox, daemon) = sandbox_and_daemon(Duration::from_secs(30));
    let first = daemon.broker().token("data").unwrap().generation();
    sandbox.always(Fault::status(503));
    // It fails after 24 s at the latest, so that 5 s remain for a renewal.
    sandbox.wait_for_requests(2, PATIENCE).unwrap();
    request_repeatedly(&daemon.socket(), first);
    // Whether it ended before the next attempt or not, no attempt is early.
    let seen = sandbox.wait_for_requests(4, PATIENCE).unwrap();
    let due = [500, 1000, 2000, 4000].map(Duration::from_millis);
    let mut pairs = pauses(&seen[1..]).into_iter().zip(due);
    assert!(pairs.all(|(rest, due)| rest >= due), "{seen:?}");
}

#[test]
fn fifty_callers_with_a_rejected_token_cause_one_request() {
    let (sandbox, daemon) = sandbox_and_daemon(SHORT);
    let first = daemon.broker().token("data").unwrap();
    sandbox.revoke(first.secret());
    assert_eq!(get(&sandbox.url("/v1/datasets"), first.secret()), 401);
    let socket = daemon.socket();
    let generations = concurrently(50, |_| reject(&socket, first.generation()).generation());
    let distinct: HashSet<u64> = generations.into_iter().collect();
    assert_eq!(distinct.len(), 1);
    assert_eq!(sandbox.requests().len(), 2);

    let current = reject(&socket, first.generation());
    assert_eq!(sandbox.requests().len(), 2, "it was replaced already");
    assert_eq!(get(&sandbox.url("/v1/datasets"), current.secret()), 200);
    let set = daemon.status_of("data");
    assert!(set["rejected"].as_u64().unwrap() >= 1, "{set}");
    let by = set["last_rejected_by"].as_str().unwrap();
    assert!(by.contains("uid"), "{by}");
}

#[test]
fn helper_renews_with_and_without_a_generation() {
    let (sandbox, daemon) = sandbox_and_daemon(SHORT);
    let json = |arguments: &[&str]| -> serde_json::Value {
        let (code, stdout, stderr) = parts(&daemon.ask(arguments));
        assert_eq!(code, Some(0), "{stderr}");
        serde_json::from_str(&stdout).unwrap()
    };
    let first = json(&["--format", "json", "data"]);
    let renew = format!("--renew={}", first["generation"]);
    let second = json(&["--format", "json", "--timeout", "60", &renew, "data"]);
    assert_ne!(first["generation"], second["generation"]);
    let again = json(&["--format", "json", &renew, "data"]);
    assert_eq!(second["generation"], again["generation"]);
    let young = json(&["--format", "json", "--renew", "data"]);
    assert_eq!(second["generation"], young["generation"], "served as it is");
    assert_eq!(sandbox.requests().len(), 2);
    failure(&daemon.ask(&["--renew=soon", "data"]), 2);
}

#[test]
fn rejections_of_renewed_tokens_are_warned_of_once() {
    let (_sandbox, mut daemon) = sandbox_and_daemon(Duration::from_secs(30));
    let mut token = daemon.broker().token("data").unwrap();
    for _ in 0..4 {
        token = reject(&daemon.socket(), token.generation());
    }
    assert_eq!(daemon.status_of("data")["rejected"], 4);
    daemon.wait_for_log("Domo issues tokens and rejects them");
    let (_, log) = daemon.stop();
    let warnings = log.lines().filter(|line| line.contains("rejects them"));
    assert_eq!(warnings.count(), 1, "{log}");
}

#[test]
fn rejected_token_is_not_served_to_its_caller_when_domo_returns_no_other() {
    let (sandbox, daemon) = sandbox_and_daemon(SHORT);
    let first = daemon.broker().token("data").unwrap();
    sandbox.always(Fault::status(503));
    let broker = daemon.broker().with_timeout(Duration::from_secs(5));
    let refused = broker.request("data").rejected(first.generation()).send();
    assert_eq!(refused.unwrap_err().kind(), ErrorKind::Unavailable);
    let others = broker.token("data").unwrap();
    assert_eq!(
        others.generation(),
        first.generation(),
        "it lives for the others"
    );
    sandbox.always(Fault::oauth_error(
        401,
        "invalid_client",
        "Bad client credentials",
    ));
    let requests = sandbox.requests().len();
    daemon.signal("-HUP");
    sandbox.wait_for_requests(requests + 1, PATIENCE).unwrap();
    let refused = broker.request("data").rejected(first.generation()).send();
    assert_eq!(refused.unwrap_err().kind(), ErrorKind::Rejected);
}

#[test]
fn wait_retries_a_missing_broker_and_a_failing_domo_but_no_denial() {
    let sandbox = sandbox(HOUR);
    sandbox.script([Fault::status(503), Fault::status(503)]);
    let folder = common::folder(&config_text(&sandbox, "[\"data\"]"));
    let socket = folder.path().join("broker.sock");
    let early = common::helper(&socket, &["--wait", "--timeout", "60", "data"]);
    let early = { early }.spawn().unwrap();
    let daemon = Daemon::start_in(folder);
    let given = token(&early.wait_with_output().unwrap());
    assert_eq!(given, token(&daemon.ask(&["data"])));
    for words in [["nosuch", "data"], ["acme", "nosuch"]] {
        let [client, scope] = words;
        let (took, output) =
            timed(|| daemon.ask(&["--wait", "--timeout", "60", "-c", client, scope]));
        assert_eq!(output.status.code(), Some(78));
        assert!(took < PATIENCE, "{took:?}");
    }
}

#[test]
fn wait_ends_at_the_timeout() {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("broker.sock");
    let (took, output) = timed(|| {
        common::helper(&socket, &["--wait", "--timeout", "1", "data"])
            .output()
            .unwrap()
    });
    failure(&output, 69);
    assert!(took >= Duration::from_secs(1), "{took:?}");
}

//! Callers of other users: the same access tables, messages and audit lines as with frames.

use std::fs;
use std::path::Path;
use std::time::Duration;

use super::connection::{Answer, Connection, head};
use super::without_pid;
use crate::common::callers::{DAEMON, GAMES_GROUP, USER_A, USER_B, ask_as, is_root, open_daemon};
use crate::common::wait::until;
use crate::common::{Daemon, HOUR, config_text, failure, parts, sandbox, token};
use serde_json::Value;

const RULES: &str = "[clients.acme.access]\n\
                     data = { users = [\"daemon\"], groups = [\"games\"] }\n\
                     \"user, data\" = { groups = [60] }\n";

const TOKENS: &str = "[\"data\", \"data user\", \"audit\"]";

#[track_caller]
fn get_as(daemon: &Daemon, uid: u32, gid: u32, target: &str) -> Answer {
    Connection::open_as(daemon, uid, gid).get(target)
}

/// Returns a message of the helper without the name of the program.
#[track_caller]
fn helper_message(daemon: &Daemon, uid: u32, arguments: &[&str], exit_code: i32) -> String {
    let stderr = failure(&ask_as(daemon, uid, uid, arguments), exit_code);
    let message = stderr.strip_prefix("domo-token: ").unwrap();
    without_pid(message.trim_end())
}

#[test]
fn rules_grant_the_same_scope_sets_as_with_frames() {
    if !is_root() {
        return;
    }
    let sandbox = sandbox(HOUR);
    let daemon = open_daemon(&sandbox, TOKENS, "", RULES);
    for (uid, gid, scopes, expected) in [
        (DAEMON, DAEMON, "data", 200),
        (USER_A, GAMES_GROUP, "data", 200),
        (USER_A, GAMES_GROUP, "data,user", 200),
        (DAEMON, DAEMON, "data,user", 403),
        (USER_A, USER_A, "data", 403),
        (0, 0, "data", 403),
        (0, 0, "nosuch", 404),
        (65534, GAMES_GROUP, "data", 403),
    ] {
        let target = format!("/v1/token/{scopes}");
        let answer = get_as(&daemon, uid, gid, &target);
        assert_eq!(
            answer.status,
            expected,
            "{uid} {gid} {scopes} {}",
            answer.text()
        );
        let arguments = scopes.replace(',', " ");
        let code = ask_as(&daemon, uid, gid, &[&arguments]).status.code();
        match answer.status {
            200 => assert_eq!(code, Some(0)),
            403 => {
                answer.problem("not_permitted");
                assert_eq!(code, Some(77));
            }
            _ => {
                answer.problem("unknown_scope");
                assert_eq!(code, Some(78));
            }
        }
        if expected == 403 {
            let watch = get_as(&daemon, uid, gid, &format!("/v1/watch/{scopes}"));
            watch.problem("not_permitted");
        }
    }
}

#[test]
fn caller_that_ends_its_direction_before_it_is_looked_up_receives_the_token() {
    if !is_root() {
        return;
    }
    let sandbox = sandbox(HOUR);
    let daemon = open_daemon(&sandbox, TOKENS, "", RULES);
    token(&ask_as(&daemon, DAEMON, DAEMON, &["data"]));
    let mut connection = Connection::open_as(&daemon, USER_A, GAMES_GROUP);
    connection.send(head("GET", "/v1/token/data", &[]));
    connection.finish();
    let answer = connection.answer("GET");
    assert_eq!(answer.status, 200, "{}", answer.text());
}

#[test]
fn denial_has_one_text_for_known_and_unknown_names() {
    if !is_root() {
        return;
    }
    let sandbox = sandbox(HOUR);
    let daemon = open_daemon(&sandbox, TOKENS, "", RULES);
    let answer = |target: &str| {
        let answer = get_as(&daemon, USER_A, USER_A, target);
        let detail = without_pid(&answer.detail("not_permitted"));
        let problem = answer.problem("not_permitted");
        (
            detail,
            problem["title"].clone(),
            answer.all("retry-after").len(),
        )
    };
    let named = |(detail, title, count): (String, Value, usize), name: &str, known: &str| {
        (detail.replace(name, known), title, count)
    };
    let known = answer("/v1/token/audit");
    assert_eq!(known, named(answer("/v1/token/nosuch"), "nosuch", "audit"));
    assert!(!known.0.contains("acme"), "{}", known.0);
    let with_client = answer("/v1/token/audit?client=acme");
    let other = answer("/v1/token/audit?client=nobody");
    assert_eq!(with_client, named(other, "nobody", "acme"));
    assert!(with_client.0.contains("uid 4242"), "{}", with_client.0);
    assert_eq!(known.0, helper_message(&daemon, USER_A, &["audit"], 77));
    let arguments = ["-c", "nobody", "nosuch"];
    let expected = helper_message(&daemon, USER_A, &arguments, 77);
    assert_eq!(answer("/v1/token/nosuch?client=nobody").0, expected);
}

#[test]
fn if_none_match_of_a_hidden_token_is_denied() {
    if !is_root() {
        return;
    }
    let sandbox = sandbox(HOUR);
    let daemon = open_daemon(&sandbox, TOKENS, "", RULES);
    let etag = get_as(&daemon, DAEMON, DAEMON, "/v1/token/data");
    let etag = etag.header("etag").unwrap();
    for value in [etag, "*"] {
        let headers = [("If-None-Match", value)];
        let mut denied = Connection::open_as(&daemon, USER_A, USER_A);
        let answer = denied.request("GET", "/v1/token/data", &headers);
        answer.problem("not_permitted");
        let mut granted = Connection::open_as(&daemon, DAEMON, DAEMON);
        let answer = granted.request("GET", "/v1/token/data", &headers);
        assert_eq!(answer.status, 304);
    }
}

#[test]
fn status_and_explanation_show_what_frames_show() {
    if !is_root() {
        return;
    }
    let sandbox = sandbox(HOUR);
    let daemon = open_daemon(&sandbox, TOKENS, "", RULES);
    assert_eq!(
        get_as(&daemon, DAEMON, DAEMON, "/v1/token/data").status,
        200
    );
    for uid in [0, DAEMON, USER_A] {
        let ours = get_as(&daemon, uid, uid, "/v1/status").json();
        let (_, text, _) = parts(&ask_as(&daemon, uid, uid, &["status", "--json"]));
        let theirs: Value = serde_json::from_str(&text).unwrap();
        let sets = |status: &Value| -> Vec<(Value, Value)> {
            let sets = status["tokens"].as_array().unwrap().iter();
            sets.map(|set| (set["client"].clone(), set["scope"].clone()))
                .collect()
        };
        assert_eq!(sets(&ours), sets(&theirs), "{uid}");
        assert_eq!(
            ours["broker"]["config_path"], theirs["broker"]["config_path"],
            "{uid}"
        );
        for (target, arguments) in [
            ("/v1/explain/data", &["--explain", "--json", "data"][..]),
            ("/v1/explain/audit", &["--explain", "--json", "audit"]),
            ("/v1/explain/nosuch", &["--explain", "--json", "nosuch"]),
        ] {
            let ours = get_as(&daemon, uid, uid, target);
            let (_, theirs, _) = parts(&ask_as(&daemon, uid, uid, arguments));
            let json = |text: &str| serde_json::from_str::<Value>(&without_pid(text)).unwrap();
            assert_eq!(json(ours.text()), json(&theirs), "{uid} {target}");
        }
    }
    let hidden = get_as(&daemon, USER_A, USER_A, "/v1/status")
        .text()
        .to_owned();
    assert!(!hidden.contains("acme"), "{hidden}");
}

#[test]
fn metrics_and_readiness_show_only_what_a_caller_may_see() {
    if !is_root() {
        return;
    }
    let sandbox = sandbox(HOUR);
    let daemon = open_daemon(&sandbox, "[\"data\", \"data user\", \"nosuch\"]", "", RULES);
    assert_eq!(
        get_as(&daemon, DAEMON, DAEMON, "/v1/token/data").status,
        200
    );
    let metrics = |uid| get_as(&daemon, uid, uid, "/metrics");
    let all = metrics(0);
    for set in ["scope=\"data\"", "scope=\"data user\"", "scope=\"nosuch\""] {
        assert!(all.text().contains(set), "{set} in {}", all.text());
    }
    let some = metrics(DAEMON);
    assert!(some.text().contains("scope=\"data\""), "{}", some.text());
    assert!(!some.text().contains("data user") && !some.text().contains("nosuch"));
    assert!(!metrics(USER_A).text().contains("acme"));

    let ready = |uid| get_as(&daemon, uid, uid, "/readyz");
    let all = ready(0);
    assert_eq!(all.status, 503, "Domo grants no scope nosuch");
    assert!(all.text().contains("acme/nosuch"), "{}", all.text());
    let some = ready(DAEMON);
    assert_eq!((some.status, some.text()), (200, "ready\n"));
    assert!(!ready(USER_A).text().contains("acme"));
    assert_eq!(get_as(&daemon, USER_A, USER_A, "/livez").status, 200);

    let set = |uid, path: &str| {
        let answer = get_as(&daemon, uid, uid, &format!("/readyz/{path}"));
        (answer.status, answer.text().to_owned())
    };
    assert_eq!(set(DAEMON, "acme/data").0, 200);
    let hidden = set(DAEMON, "acme/data,user");
    assert_eq!(hidden.0, 404);
    let unknown = set(DAEMON, "acme/audit,buzz");
    let unknown = (unknown.0, unknown.1.replace("audit,buzz", "data,user"));
    let unknown = (unknown.0, unknown.1.replace("audit buzz", "data user"));
    assert_eq!(hidden, unknown);
    let of_no_client = set(DAEMON, "nobody/data,user");
    assert_eq!(
        hidden,
        (of_no_client.0, of_no_client.1.replace("nobody", "acme"))
    );
    assert_eq!(set(0, "acme/nosuch").0, 503);
}

/// Waits for the line after `seen` ones, and returns it without time and process id.
#[track_caller]
fn audit_line(path: &Path, seen: usize) -> Value {
    let lines = until(|| {
        let text = fs::read_to_string(path).unwrap_or_default();
        let lines = text.lines().map(|line| serde_json::from_str(line).unwrap());
        let lines: Vec<Value> = lines.collect();
        (lines.len() > seen).then_some(lines).ok_or(text)
    });
    assert_eq!(lines.len(), seen + 1, "{lines:?}");
    let mut line = lines[seen].clone();
    let fields = line.as_object_mut().unwrap();
    assert!(fields.remove("time").unwrap().as_f64().unwrap() > 1.7e9);
    assert!(fields.remove("pid").unwrap().is_u64());
    line
}

#[test]
fn audit_lines_equal_those_of_frames() {
    if !is_root() {
        return;
    }
    let sandbox = sandbox(HOUR);
    let audit = RULES.to_owned() + "[audit]\nfile = \"audit.jsonl\"\n";
    let daemon = open_daemon(&sandbox, TOKENS, "", &audit);
    let path = daemon.folder().join("audit.jsonl");
    let denied = "not_permitted";
    let cases = [
        (DAEMON, "data", &["data"][..], "served"),
        (
            DAEMON,
            "data?format=token",
            &["-o", "token", "data"],
            "served",
        ),
        (DAEMON, "user,data", &["data", "user"], denied),
        (USER_A, "data", &["data"], denied),
        (
            USER_A,
            "nosuch?client=nobody",
            &["-c", "nobody", "nosuch"],
            denied,
        ),
        (0, "nosuch", &["nosuch"], "unknown_scope"),
    ];
    for (number, (uid, scopes, arguments, outcome)) in cases.into_iter().enumerate() {
        get_as(&daemon, uid, uid, &format!("/v1/token/{scopes}"));
        let ours = audit_line(&path, number * 2);
        ask_as(&daemon, uid, uid, arguments);
        let theirs = audit_line(&path, number * 2 + 1);
        assert_eq!(ours, theirs, "{scopes}");
        assert_eq!(ours["outcome"], outcome, "{scopes}");
    }
}

#[test]
fn each_token_of_a_watch_has_an_audit_line() {
    let sandbox = sandbox(Duration::from_secs(3));
    let config = config_text(&sandbox, "[\"data\"]");
    let daemon = Daemon::start(&(config + "[audit]\nfile = \"audit.jsonl\"\n"));
    let path = daemon.folder().join("audit.jsonl");
    let mut watch = Connection::open(&daemon);
    watch.send(head("GET", "/v1/watch/data", &[]));
    assert_eq!(watch.head_of_answer().status, 200);
    for number in 0..2 {
        let event = String::from_utf8(watch.chunk().unwrap()).unwrap();
        let line = audit_line(&path, number);
        assert_eq!(line["outcome"], "served");
        let id = format!("id: {}\n", line["generation"]);
        assert!(event.contains(&id), "{id:?}");
    }
}

#[test]
fn requests_that_give_no_token_have_no_audit_line() {
    let sandbox = sandbox(HOUR);
    let config = config_text(&sandbox, "[\"data\"]");
    let daemon = Daemon::start(&(config + "[audit]\nfile = \"audit.jsonl\"\n"));
    let path = daemon.folder().join("audit.jsonl");
    let (_, generation) = super::first_token(&daemon);
    for target in [
        "/v1/status",
        "/metrics",
        "/livez",
        "/readyz",
        "/nosuch",
        "/v1/token/data?x=1",
    ] {
        super::get(&daemon, target);
    }
    let mut bad = Connection::open(&daemon);
    bad.exchange(head("GET", "/v1/token/data", &[("Origin", "x")]));
    let headers = [("If-None-Match", &*format!("\"{generation}\""))];
    let not_modified = super::get_with(&daemon, "/v1/token/data", &headers);
    assert_eq!(not_modified.status, 304);
    // A line of its own, after all others.
    super::get(&daemon, "/v1/token/last").problem("unknown_scope");
    let text = until(|| {
        let text = fs::read_to_string(&path).unwrap_or_default();
        text.contains("\"last\"")
            .then_some(text.clone())
            .ok_or(text)
    });
    let outcomes: Vec<Value> = text
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap()["outcome"].clone())
        .collect();
    // Whether 304 counts as served is open: the caller is given no token, and has it already.
    assert!(outcomes.len() == 2 || outcomes.len() == 3, "{text}");
    assert_eq!(outcomes.first().unwrap(), "served");
    assert_eq!(outcomes.last().unwrap(), "unknown_scope");
}

#[test]
fn rejection_names_the_caller_that_reported_it() {
    if !is_root() {
        return;
    }
    let sandbox = sandbox(Duration::from_secs(20));
    let daemon = open_daemon(&sandbox, "[\"data\"]", "", "");
    let json = get_as(&daemon, USER_B, USER_B, "/v1/token/data").json();
    let target = format!("/v1/token/data?rejected={}", json["generation"]);
    let renewed = get_as(&daemon, USER_B, USER_B, &target).json();
    assert_ne!(renewed["generation"], json["generation"]);
    let set = daemon.status_of("data");
    assert_eq!(set["rejected"], 1);
    let by = set["last_rejected_by"].as_str().unwrap();
    assert!(by.contains("4243"), "{by}");
}

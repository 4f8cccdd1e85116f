//! `GET /v1/token/{SCOPES}`: formats, scope sets, clients, the minimum time to live, and renewal.

use std::time::Duration;

use super::{first_token, get, helper_json};
use crate::common::wait::until;
use crate::common::{
    Daemon, HOUR, client_text, config_text, get as get_from_domo, parts, sandbox,
    sandbox_and_daemon, timed, token,
};
use domo_sandbox::Fault;
use serde_json::Value;

/// Fails unless two objects have the same fields, apart from those that are times, which may differ by a second.
#[track_caller]
pub(super) fn assert_same(left: &Value, right: &Value, times: &[&str]) {
    match (left, right) {
        (Value::Object(ours), Value::Object(theirs)) => {
            let names = |fields: &serde_json::Map<String, Value>| -> Vec<String> {
                fields.keys().cloned().collect()
            };
            assert_eq!(names(ours), names(theirs));
            for (name, value) in ours {
                let other = &theirs[name];
                if times.contains(&name.as_str()) && !value.is_null() {
                    let (value, other) = (value.as_u64().unwrap(), other.as_u64().unwrap());
                    assert!(value.abs_diff(other) <= 1, "{name}: {value}, {other}");
                } else {
                    assert_same(value, other, times);
                }
            }
        }
        (Value::Array(ours), Value::Array(theirs)) => {
            assert_eq!(ours.len(), theirs.len());
            for (one, other) in ours.iter().zip(theirs) {
                assert_same(one, other, times);
            }
        }
        _ => assert_eq!(left, right),
    }
}

#[test]
fn token_is_the_one_that_the_helper_prints_and_domo_accepts_it() {
    let (sandbox, daemon) = sandbox_and_daemon(HOUR);
    let (text, _) = first_token(&daemon);
    assert_eq!(token(&daemon.ask(&["data"])), text);
    assert_eq!(get_from_domo(&sandbox.url("/v1/datasets"), &text), 200);
    assert_eq!(sandbox.requests().len(), 1);
}

#[test]
fn json_equals_that_of_the_helper() {
    let (_sandbox, daemon) = sandbox_and_daemon(HOUR);
    let expected = helper_json(&daemon, &["--format", "json", "data"]);
    for target in ["/v1/token/data", "/v1/token/data?format=json"] {
        let json = get(&daemon, target).json();
        assert_same(&json, &expected, &["expires_at", "expires_in"]);
    }
}

#[test]
fn text_formats_are_one_line_that_equals_the_helpers() {
    let (_sandbox, daemon) = sandbox_and_daemon(HOUR);
    let (text, _) = first_token(&daemon);
    for (format, expected) in [
        ("token", format!("{text}\n")),
        ("header", format!("Authorization: Bearer {text}\n")),
    ] {
        let answer = get(&daemon, &format!("/v1/token/data?format={format}"));
        assert_eq!(answer.status, 200);
        let kind = answer.header("content-type").unwrap();
        assert!(kind.starts_with("text/plain"), "{kind}");
        assert_eq!(answer.text(), expected);
        let (_, stdout, _) = parts(&daemon.ask(&["--format", format, "data"]));
        assert_eq!(answer.text(), stdout);
    }
}

#[test]
fn scopes_are_separated_by_comma_or_space_in_any_order() {
    let sandbox = sandbox(HOUR);
    let daemon = Daemon::start(&config_text(&sandbox, "[\"data user\"]"));
    let expected = get(&daemon, "/v1/token/data,user").json();
    assert_eq!(expected["scope"], "data user");
    for scopes in [
        "data%20user",
        "user,data",
        "user%20data",
        "user%2Cdata",
        "user%2cdata",
        "data,user,data",
        "data,%20user",
        "%64ata,user",
    ] {
        let json = get(&daemon, &format!("/v1/token/{scopes}")).json();
        assert_eq!(json["generation"], expected["generation"], "{scopes}");
    }
    assert_eq!(sandbox.requests().len(), 1);
}

#[test]
fn client_is_that_of_the_query_or_the_default() {
    let (first, second) = (sandbox(HOUR), sandbox(HOUR));
    let config = "[broker]\ndefault_client = \"acme\"\n".to_owned()
        + &client_text("acme", &first, "[\"data\"]")
        + &client_text("beta", &second, "[\"data\"]");
    let daemon = Daemon::start(&config);
    let client = |target: &str| get(&daemon, target).json()["client"].clone();
    assert_eq!(client("/v1/token/data"), "acme");
    assert_eq!(client("/v1/token/data?client=acme"), "acme");
    assert_eq!(client("/v1/token/data?client=beta"), "beta");
    assert_eq!(client("/v1/token/data?client=%62eta&timeout=5s"), "beta");
}

#[test]
fn head_has_the_headers_of_get_and_no_body() {
    let (_sandbox, daemon) = sandbox_and_daemon(HOUR);
    first_token(&daemon);
    for target in [
        "/v1/token/data?format=token",
        "/v1/token/data?format=header",
        "/v1/token/nosuch",
        "/v1/explain/data",
        "/livez",
        "/readyz",
        "/readyz/acme/data",
        "/v1/openapi.json",
        "/nosuch",
    ] {
        let mut connection = super::Connection::open(&daemon);
        let head = connection.request("HEAD", target, &[]);
        let get = connection.get(target);
        assert_eq!(head.status, get.status, "{target}");
        let (mut head, get) = (head.headers_but_date(), get.headers_but_date());
        if !head.iter().any(|(name, _)| name == "content-length") {
            // RFC 9110 §9.3.2 permits to omit what is only known once the body is.
            let length = get.iter().find(|(name, _)| name == "content-length");
            head.extend(length.cloned());
            head.sort();
        }
        assert_eq!(head, get, "{target}");
        connection.request("HEAD", target, &[("Connection", "close")]);
        connection.assert_closed();
    }
}

#[test]
fn responses_have_a_date() {
    let (_sandbox, daemon) = sandbox_and_daemon(HOUR);
    for target in ["/v1/token/data", "/v1/token/nosuch", "/nosuch"] {
        let answer = get(&daemon, target);
        let date = answer
            .header("date")
            .unwrap_or_else(|| panic!("{answer:?}"));
        assert!(date.ends_with(" GMT") && date.len() == 29, "{date}");
    }
}

#[test]
fn min_ttl_above_the_limit_is_served_while_the_current_token_meets_it() {
    let (_sandbox, daemon) = sandbox_and_daemon(HOUR);
    let (text, _) = first_token(&daemon);
    // Above 3569 s, which a later token may not meet.
    for span in ["3575s", "59m35s", "3575"] {
        let answer = get(&daemon, &format!("/v1/token/data?min_ttl={span}"));
        assert_eq!(answer.json()["access_token"], text);
    }
    let detail = get(&daemon, "/v1/token/data?min_ttl=2h").detail("min_ttl_too_long");
    assert!(detail.contains("3569 s"), "{detail}");
}

#[test]
fn min_ttl_that_the_token_does_not_meet_renews_it() {
    let (sandbox, daemon) = sandbox_and_daemon(Duration::from_secs(20));
    let (_, first) = first_token(&daemon);
    let second = until(|| {
        let json = get(&daemon, "/v1/token/data?min_ttl=18s").json();
        assert!(
            json["expires_in"].as_u64().unwrap() >= 17,
            "{}",
            json["expires_in"]
        );
        let generation = json["generation"].as_u64().unwrap();
        (generation != first).then_some(generation).ok_or(first)
    });
    assert_ne!(second, first);
    assert!(sandbox.requests().len() >= 2);
}

#[test]
fn rejected_generation_is_renewed_and_another_one_is_not() {
    let (sandbox, daemon) = sandbox_and_daemon(Duration::from_secs(20));
    let (first, generation) = first_token(&daemon);
    let current = get(
        &daemon,
        &format!("/v1/token/data?rejected={}", generation ^ 1),
    )
    .json();
    assert_eq!(
        current["access_token"], first,
        "the current one was not rejected"
    );
    assert_eq!(sandbox.requests().len(), 1);
    let target = format!("/v1/token/data?rejected={generation}&format=json");
    let renewed = get(&daemon, &target).json();
    assert_ne!(renewed["access_token"], first);
    assert_ne!(renewed["generation"], generation);
    assert_eq!(sandbox.requests().len(), 2);
    let again = get(&daemon, &target).json();
    assert_eq!(
        again["generation"], renewed["generation"],
        "{generation} is not current"
    );
    let rejected = &daemon.status_of("data")["rejected"];
    assert!(rejected.as_u64().unwrap() >= 1, "{rejected}");
}

#[test]
fn timeout_bounds_the_wait_for_a_token() {
    let sandbox = sandbox(HOUR);
    sandbox.always(Fault::hold());
    let daemon = Daemon::start(&config_text(&sandbox, "[\"data\"]"));
    for timeout in ["1s", "1"] {
        let target = format!("/v1/token/data?timeout={timeout}");
        let (took, answer) = timed(|| get(&daemon, &target));
        answer.problem("unavailable");
        assert!(took >= Duration::from_millis(900), "{took:?}");
        assert!(took < Duration::from_secs(4), "{took:?}");
    }
}

#[test]
fn caller_that_waits_receives_the_token_when_domo_answers() {
    let sandbox = sandbox(HOUR);
    sandbox.script([Fault::hold()]);
    let mut daemon = Daemon::start(&config_text(&sandbox, "[\"data\"]"));
    let mut waiting: Vec<_> = (0..5).map(|_| super::Connection::open(&daemon)).collect();
    for connection in &mut waiting {
        connection.send(super::connection::head(
            "GET",
            "/v1/token/data?timeout=30s",
            &[],
        ));
        daemon.wait_for_log("received request");
    }
    sandbox.recover();
    let texts = waiting.iter_mut().map(|connection| {
        let json = connection.answer("GET").json();
        json["access_token"].as_str().unwrap().to_owned()
    });
    let texts: std::collections::HashSet<String> = texts.collect();
    assert_eq!(texts.len(), 1, "one token for all");
    assert_eq!(sandbox.requests().len(), 1);
}

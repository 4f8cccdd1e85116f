//! `ETag` and `If-None-Match`: a caller that has the current token receives 304.

use std::time::Duration;

use super::{Connection, first_token, get_with};
use crate::common::wait::until;
use crate::common::{HOUR, sandbox_and_daemon};

#[test]
fn etag_is_the_quoted_generation_in_each_format() {
    let (_sandbox, daemon) = sandbox_and_daemon(HOUR);
    let (_, generation) = first_token(&daemon);
    let expected = format!("\"{generation}\"");
    for target in [
        "/v1/token/data",
        "/v1/token/data?format=token",
        "/v1/token/data?format=header",
    ] {
        for method in ["GET", "HEAD"] {
            let answer = Connection::open(&daemon).request(method, target, &[]);
            assert_eq!(answer.header("etag"), Some(&*expected), "{method} {target}");
        }
    }
}

#[test]
fn matching_if_none_match_is_304_without_a_body() {
    let (_sandbox, daemon) = sandbox_and_daemon(HOUR);
    let (_, generation) = first_token(&daemon);
    let other = generation ^ 1;
    let mut connection = Connection::open(&daemon);
    for value in [
        format!("\"{generation}\""),
        format!("W/\"{generation}\""),
        format!("\"{other}\", \"{generation}\""),
        format!("\"{other}\",\"{generation}\",\"x\""),
        format!("\"x,y\", W/\"{generation}\""),
        "*".to_owned(),
    ] {
        for method in ["GET", "HEAD"] {
            let headers = [("If-None-Match", value.as_str())];
            let answer = connection.request(method, "/v1/token/data", &headers);
            assert_eq!(answer.status, 304, "{method} {value}");
            assert_eq!(answer.header("etag"), Some(&*format!("\"{generation}\"")));
            assert!(answer.header("transfer-encoding").is_none());
        }
    }
    let two = format!("\"{generation}\"");
    let headers = [("If-None-Match", "\"x\""), ("If-None-Match", two.as_str())];
    let answer = connection.request("GET", "/v1/token/data", &headers);
    assert_eq!(
        answer.status, 304,
        "two fields are one list (RFC 9110 §5.3)"
    );
    assert_eq!(
        connection.get("/livez").status,
        200,
        "no byte of a body was sent"
    );
}

#[test]
fn other_if_none_match_is_200() {
    let (_sandbox, daemon) = sandbox_and_daemon(HOUR);
    let (text, generation) = first_token(&daemon);
    let other = generation ^ 1;
    for value in [
        format!("\"{other}\""),
        format!("\"{generation}0\""),
        format!("\"0{generation}\""),
        format!("\"x{generation}\", \"\""),
        format!("W/\"{other}\""),
    ] {
        let answer = get_with(&daemon, "/v1/token/data", &[("If-None-Match", &value)]);
        assert_eq!(answer.json()["access_token"], text, "{value}");
    }
}

#[test]
fn if_none_match_does_not_hide_an_error() {
    let (_sandbox, daemon) = sandbox_and_daemon(HOUR);
    let (_, generation) = first_token(&daemon);
    for value in [format!("\"{generation}\""), "*".to_owned()] {
        let get = |target| get_with(&daemon, target, &[("If-None-Match", &value)]);
        get("/v1/token/data?min_ttl=2h").problem("min_ttl_too_long");
        get("/v1/token/nosuch").problem("unknown_scope");
        get("/v1/token/data?client=nobody").problem("unknown_client");
        get("/v1/token/data?nosuch=1").problem("bad_request");
    }
}

#[test]
fn if_none_match_does_not_apply_with_rejected() {
    let (_sandbox, daemon) = sandbox_and_daemon(Duration::from_secs(20));
    let (_, generation) = first_token(&daemon);
    let tag = format!("\"{generation}\"");
    let rejected = |generation: u64, tag: &str| {
        let target = format!("/v1/token/data?rejected={generation}");
        let answer = get_with(&daemon, &target, &[("If-None-Match", tag)]);
        answer.json()["generation"].as_u64().unwrap()
    };
    assert_eq!(rejected(generation ^ 1, &tag), generation);
    assert_eq!(rejected(generation ^ 1, "*"), generation);
    let renewed = rejected(generation, &tag);
    assert_ne!(renewed, generation);
}

#[test]
fn if_none_match_does_not_apply_when_min_ttl_is_not_met() {
    let (_sandbox, daemon) = sandbox_and_daemon(Duration::from_secs(20));
    let (_, generation) = first_token(&daemon);
    let tag = format!("\"{generation}\"");
    let get = || {
        let headers = [("If-None-Match", tag.as_str())];
        get_with(&daemon, "/v1/token/data?min_ttl=18s", &headers)
    };
    assert_eq!(get().status, 304, "it meets 18 s now");
    let renewed = until(|| {
        let answer = get();
        (answer.status == 200)
            .then(|| answer.json())
            .ok_or(answer.status)
    });
    assert_ne!(renewed["generation"], generation);
    assert!(renewed["expires_in"].as_u64().unwrap() >= 17);
}

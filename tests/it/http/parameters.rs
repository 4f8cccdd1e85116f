//! The query: its keys and values, and percent-encoding.

use super::{Connection, first_token, get};
use crate::common::{HOUR, sandbox_and_daemon};

#[test]
fn unknown_key_is_400_and_names_the_nearest_one() {
    let (_sandbox, daemon) = sandbox_and_daemon(HOUR);
    for (query, nearest) in [
        ("min_tll=5s", "min_ttl"),
        ("minttl=5s", "min_ttl"),
        ("min-ttl=5s", "min_ttl"),
        ("MIN_TTL=5s", "min_ttl"),
        ("formt=json", "format"),
        ("Format=json", "format"),
        ("cleint=acme", "client"),
        ("time_out=5s", "timeout"),
        ("reject=1", "rejected"),
        ("format=json&cliennt=acme", "client"),
    ] {
        let detail = get(&daemon, &format!("/v1/token/data?{query}")).detail("bad_request");
        assert!(
            detail.contains(&format!("{nearest:?}")) || detail.contains(nearest),
            "{detail}"
        );
        let key = query.rsplit('&').next().unwrap().split('=').next().unwrap();
        assert!(detail.contains(key), "{key} in {detail}");
    }
    get(&daemon, "/v1/token/data?zzzzzzzz=1").problem("bad_request");
    get(&daemon, "/v1/token/data?=1").problem("bad_request");
}

#[test]
fn key_of_another_path_is_400() {
    let (_sandbox, daemon) = sandbox_and_daemon(HOUR);
    for target in [
        "/v1/status?format=json",
        "/v1/explain/data?min_ttl=5s",
        "/v1/explain/data?rejected=1",
        "/v1/watch/data?rejected=1",
        "/v1/openapi.json?client=acme",
        "/livez?format=json",
    ] {
        get(&daemon, target).problem("bad_request");
    }
}

#[test]
fn repeated_key_is_400() {
    let (_sandbox, daemon) = sandbox_and_daemon(HOUR);
    for query in [
        "min_ttl=1s&min_ttl=1s",
        "format=json&format=token",
        "client=acme&client=nobody",
        "format=json&%66ormat=token",
        "rejected=1&timeout=1s&rejected=2",
    ] {
        let detail = get(&daemon, &format!("/v1/token/data?{query}")).detail("bad_request");
        let key = query.split('=').next().unwrap();
        assert!(detail.contains(key), "{key} in {detail}");
    }
}

#[test]
fn invalid_value_is_400_and_names_its_key() {
    let (_sandbox, daemon) = sandbox_and_daemon(HOUR);
    for (key, values) in [
        (
            "min_ttl",
            &[
                "",
                "abc",
                "-5s",
                "5x",
                "5.5s",
                "5s5s",
                "s",
                "1h30",
                "%205s",
                "99999999999999999999s",
            ][..],
        ),
        (
            "timeout",
            &["", "abc", "-1", "10ss", "99999999999999999999"],
        ),
        (
            "rejected",
            &[
                "",
                "abc",
                "-1",
                "1.5",
                "0x10",
                "99999999999999999999999",
                "%201",
                "1%20",
                "W%2F1",
            ],
        ),
        ("format", &["", "xml", "JSON", "token%00", "curl%20"]),
    ] {
        for value in values {
            let target = format!("/v1/token/data?{key}={value}");
            let detail = get(&daemon, &target).detail("bad_request");
            assert!(detail.contains(key), "{key}={value}: {detail}");
        }
    }
    let detail = get(&daemon, "/v1/token/data?format=xml").detail("bad_request");
    for format in ["json", "token", "header"] {
        assert!(detail.contains(format), "{detail}");
    }
    get(&daemon, "/v1/token/data?min_ttl").problem("bad_request");
}

#[test]
fn plus_sign_of_a_query_is_not_part_of_a_duration_or_number() {
    let (_sandbox, daemon) = sandbox_and_daemon(HOUR);
    for query in ["min_ttl=+5s", "rejected=+1", "timeout=+5"] {
        let answer = get(&daemon, &format!("/v1/token/data?{query}"));
        answer.problem("bad_request");
    }
}

#[test]
fn valid_durations_and_encoded_queries_are_accepted() {
    let (_sandbox, daemon) = sandbox_and_daemon(HOUR);
    let (text, _) = first_token(&daemon);
    for query in [
        "min_ttl=90s&timeout=10s",
        "min_ttl=90&timeout=10",
        "min_ttl=5m",
        "min_ttl=0s",
        "min_ttl=30m30s",
        "timeout=1m",
        "format=js%6Fn",
        "%63lient=acme",
        "client=acme&min_ttl=1s&timeout=1s&format=json&rejected=1",
    ] {
        let json = get(&daemon, &format!("/v1/token/data?{query}")).json();
        assert_eq!(json["access_token"], text, "{query}");
    }
    assert_eq!(
        get(&daemon, "/v1/token/data?").status,
        200,
        "an empty query"
    );
}

#[test]
fn invalid_percent_encoding_is_400() {
    let (_sandbox, daemon) = sandbox_and_daemon(HOUR);
    for target in [
        "/v1/token/data%",
        "/v1/token/da%2",
        "/v1/token/da%zzta",
        "/v1/token/data%ff",
        "/v1/token/data%c3%28",
        "/v1/token/data?client=%",
        "/v1/token/data?client=%a",
        "/v1/token/data?client=%gg",
        "/v1/token/data?client=%ff",
        "/v1/token/data?%zz=1",
        "/v1/explain/da%zzta",
        "/readyz/acme/da%zzta",
    ] {
        get(&daemon, target).problem("bad_request");
    }
}

#[test]
fn scope_set_that_is_none_is_a_client_error_that_names_the_reason() {
    let (_sandbox, daemon) = sandbox_and_daemon(HOUR);
    for (scopes, status) in [
        (",", &[400, 404][..]),
        ("%20", &[400, 404]),
        ("da%22ta", &[400, 404]),
        ("da%5Cta", &[400, 404]),
        ("data%00", &[400, 404]),
        ("da%0D%0Ata", &[400, 404]),
        ("d%C3%A4ta", &[400, 404]),
        ("", &[400, 404]),
    ] {
        let answer = get(&daemon, &format!("/v1/token/{scopes}"));
        assert!(
            status.contains(&answer.status),
            "{scopes}: {}",
            answer.text()
        );
        let kind = answer.kind();
        assert!(
            ["bad_request", "unknown_scope", "not_found"].contains(&&*kind),
            "{scopes}: {kind}"
        );
    }
    let long = "a".repeat(2000);
    let answer = get(&daemon, &format!("/v1/token/{long}"));
    assert!([400, 404].contains(&answer.status));
    let detail = answer.problem(&answer.kind())["detail"]
        .as_str()
        .unwrap()
        .to_owned();
    assert!(detail.len() < 2000 && detail.contains("1024"), "{detail}");
}

#[test]
fn long_or_strange_names_are_not_reflected_whole() {
    let (_sandbox, daemon) = sandbox_and_daemon(HOUR);
    let long = "n".repeat(4000);
    let detail = get(&daemon, &format!("/v1/token/data?client={long}")).detail("unknown_client");
    assert!(
        detail.contains('…') && detail.len() < 2048,
        "{}",
        detail.len()
    );
    let answer = get(&daemon, &format!("/v1/token/data?{long}=1"));
    let detail = answer.detail("bad_request");
    assert!(detail.len() < 2048, "{}", detail.len());
    // Control characters of a name would otherwise reach a caller's terminal.
    for name in ["a%0ab", "a%1b%5b31m", "a%00", "%7f"] {
        let answer = get(&daemon, &format!("/v1/token/data?client={name}"));
        let kind = answer.kind();
        assert!(
            ["bad_request", "unknown_client"].contains(&&*kind),
            "{kind}"
        );
        let problem = answer.problem(&kind);
        let detail = problem["detail"].as_str().unwrap();
        assert!(!detail.contains(char::is_control), "{detail:?}");
    }
}

#[test]
fn connection_stays_open_after_an_error_in_a_query() {
    let (_sandbox, daemon) = sandbox_and_daemon(HOUR);
    let mut connection = Connection::open(&daemon);
    connection
        .get("/v1/token/data?nosuch=1")
        .problem("bad_request");
    connection.get("/nosuch").problem("not_found");
    connection.get("/v1/token/nosuch").problem("unknown_scope");
    assert_eq!(connection.get("/v1/token/data").status, 200);
}

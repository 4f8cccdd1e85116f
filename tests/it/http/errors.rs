//! Each kind of error with its status, exit code and message.
//!
//! `Answer::problem` checks status, `exit_code`, `title`, `detail` and the time of the next attempt for all of them.

use std::collections::HashMap;
use std::fs;

use super::{Connection, connection, first_token, get, get_with};
use crate::common::{
    Daemon, HOUR, client_text, config_text, failure, folder, sandbox, sandbox_and_daemon,
};
use domo_sandbox::Fault;

/// Returns the message of the helper for this request, after a check of its exit code.
#[track_caller]
fn helper_message(daemon: &Daemon, arguments: &[&str], exit_code: i32) -> String {
    let stderr = failure(&daemon.ask(arguments), exit_code);
    let message = stderr.strip_prefix("domo-token: ").unwrap();
    message.trim_end().to_owned()
}

#[test]
fn unknown_path_is_404() {
    let (_sandbox, daemon) = sandbox_and_daemon(HOUR);
    for path in [
        "/",
        "/nosuch",
        "/v1",
        "/v1/",
        "/v1/token",
        "/v2/token/data",
        "/v1/Token/data",
        "/V1/token/data",
        "/v1/tokens/data",
        "/v1/token/data/more",
        "/v1/status/data",
        "/v1/explain",
        "/v1/watch",
        "/metrics/x",
        "/livez/x",
        "/readyz/acme",
        "/readyz/acme/data/x",
        "/v1/openapi",
        "/index.html",
        "/favicon.ico",
    ] {
        let answer = get(&daemon, path);
        assert_eq!(answer.status, 404, "{path} {}", answer.text());
        if !path.starts_with("/readyz/") {
            answer.problem("not_found");
        }
    }
}

#[test]
fn unknown_names_have_the_messages_of_the_helper() {
    let sandbox = sandbox(HOUR);
    let daemon = Daemon::start(&config_text(&sandbox, "[\"data\", \"data user\"]"));
    for (target, kind, arguments) in [
        ("/v1/token/audit", "unknown_scope", &["audit"][..]),
        ("/v1/token/nosuch", "unknown_scope", &["nosuch"]),
        ("/v1/token/Data", "unknown_scope", &["Data"]),
        (
            "/v1/token/data?client=acm",
            "unknown_client",
            &["-c", "acm", "data"],
        ),
        (
            "/v1/token/data?client=nobody",
            "unknown_client",
            &["-c", "nobody", "data"],
        ),
        ("/v1/watch/nosuch", "unknown_scope", &["nosuch"]),
        (
            "/v1/watch/data?client=acm",
            "unknown_client",
            &["-c", "acm", "data"],
        ),
    ] {
        let detail = get(&daemon, target).detail(kind);
        assert_eq!(detail, helper_message(&daemon, arguments, 78), "{target}");
    }
}

#[test]
fn missing_default_client_is_404_without_the_helpers_options() {
    let sandbox = sandbox(HOUR);
    let config =
        client_text("acme", &sandbox, "[\"data\"]") + &client_text("beta", &sandbox, "[\"data\"]");
    let daemon = Daemon::start(&config);
    let detail = get(&daemon, "/v1/token/data").detail("unknown_client");
    assert!(
        detail.contains("\"acme\"") && detail.contains("\"beta\""),
        "{detail}"
    );
    assert!(
        detail.contains("client=") || detail.contains("default_client"),
        "{detail}"
    );
}

#[test]
fn other_methods_are_405_with_the_allowed_ones() {
    let (_sandbox, daemon) = sandbox_and_daemon(HOUR);
    let allowed = |method: &str, target: &str| {
        let answer = Connection::open(&daemon).request(method, target, &[]);
        answer.problem("method_not_allowed");
        let mut allowed: Vec<String> = answer
            .header("allow")
            .unwrap()
            .split(',')
            .map(|method| method.trim().to_owned())
            .collect();
        allowed.sort();
        allowed
    };
    for target in [
        "/v1/token/data",
        "/v1/status",
        "/v1/explain/data",
        "/metrics",
        "/livez",
        "/readyz",
        "/readyz/acme/data",
        "/v1/openapi.json",
    ] {
        for method in [
            "POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "QUERY", "GETX",
        ] {
            assert_eq!(
                allowed(method, target),
                ["GET", "HEAD"],
                "{method} {target}"
            );
        }
    }
    for method in ["POST", "DELETE", "OPTIONS"] {
        assert_eq!(allowed(method, "/v1/watch/data"), ["GET"]);
    }
    let head = Connection::open(&daemon).request("HEAD", "/v1/watch/data", &[]);
    assert_eq!((head.status, head.header("allow")), (405, Some("GET")));
    let unknown = Connection::open(&daemon).request("POST", "/nosuch", &[]);
    unknown.problem("not_found");
}

#[test]
fn body_of_another_method_is_never_a_request() {
    let (_sandbox, daemon) = sandbox_and_daemon(HOUR);
    let smuggled = connection::head("GET", "/v1/token/data", &[]);
    let length = smuggled.len().to_string();
    let chunked = format!("{:x}\r\n{smuggled}\r\n0\r\n\r\n", smuggled.len());
    for (headers, body) in [
        (("Content-Length", length.as_str()), smuggled.as_str()),
        (("Transfer-Encoding", "chunked"), chunked.as_str()),
    ] {
        let mut connection = Connection::open(&daemon);
        connection.send(connection::head("POST", "/v1/token/data", &[headers]));
        connection.send(body);
        connection.send(connection::head(
            "GET",
            "/livez",
            &[("Connection", "close")],
        ));
        let answer = connection.answer("POST");
        answer.problem("method_not_allowed");
        let rest = String::from_utf8(connection.read_to_end()).unwrap();
        assert!(!rest.contains("access_token"), "{rest}");
        let is_live = rest.starts_with("HTTP/1.1 200 ") && rest.ends_with("\r\n\r\nlive\n");
        assert!(rest.is_empty() || is_live, "{rest}");
    }
}

#[test]
fn announced_body_is_not_waited_for() {
    let (_sandbox, daemon) = sandbox_and_daemon(HOUR);
    for headers in [
        &[("Content-Length", "1000000000000")][..],
        &[("Content-Length", "5"), ("Expect", "100-continue")],
    ] {
        let mut connection = Connection::open(&daemon);
        let answer = connection.request("POST", "/v1/status", headers);
        answer.problem("method_not_allowed");
    }
}

#[test]
fn removed_scope_set_is_410_for_a_caller_that_waits() {
    let sandbox = sandbox(HOUR);
    sandbox.script([Fault::default(), Fault::hold()]);
    let config = config_text(&sandbox, "[\"data\"]");
    let mut daemon = Daemon::start(&config);
    first_token(&daemon);
    daemon.write(
        "config.toml",
        &config_text(&sandbox, "[\"data\", \"user\"]"),
    );
    daemon.wait_for_log("config loaded");
    let mut connection = Connection::open(&daemon);
    connection.send(connection::head("GET", "/v1/token/user?timeout=1m", &[]));
    daemon.wait_for_log("received request");
    daemon.write("config.toml", &config);
    let detail = connection.answer("GET").detail("gone");
    assert!(detail.contains("removed"), "{detail}");
    sandbox.recover();
}

#[test]
fn rejection_by_domo_is_424_with_domos_message() {
    let sandbox = sandbox(HOUR);
    sandbox.always(Fault::oauth_error(
        400,
        "invalid_scope",
        "no such scope here",
    ));
    let daemon = Daemon::start(&config_text(&sandbox, "[\"data\"]"));
    let problem = get(&daemon, "/v1/token/data").problem("denied");
    let detail = problem["detail"].as_str().unwrap();
    assert!(detail.contains("no such scope here"), "{detail}");
    // The helper appends the time of the next attempt, which is a field here.
    let message = helper_message(&daemon, &["data"], 78);
    assert!(message.starts_with(detail), "{message}");
    let wait = problem["retry_after_ms"].as_u64().unwrap();
    assert!((200_000..=300_000).contains(&wait), "{problem}");
}

#[test]
fn wrong_secret_is_424_within_the_deadline() {
    let sandbox = sandbox(HOUR);
    let folder = folder(&config_text(&sandbox, "[\"data\"]"));
    fs::write(folder.path().join("acme.secret"), "c4nary-wrong-secret\n").unwrap();
    let daemon = Daemon::start_in(folder);
    let detail = get(&daemon, "/v1/token/data?timeout=1s").detail("denied");
    assert!(detail.contains("Bad client credentials"), "{detail}");
}

#[test]
fn unavailable_is_503_with_the_time_of_the_next_attempt() {
    let sandbox = sandbox(HOUR);
    sandbox.always(Fault::status(503).retry_after("50"));
    let daemon = Daemon::start(&config_text(&sandbox, "[\"data\"]"));
    let answer = get(&daemon, "/v1/token/data?timeout=5s");
    let problem = answer.problem("unavailable");
    assert!(
        problem["detail"].as_str().unwrap().contains("503"),
        "{problem}"
    );
    let wait = problem["retry_after_ms"].as_u64().unwrap();
    assert!((40_000..=51_000).contains(&wait), "{wait}");
    let seconds: u64 = answer.header("retry-after").unwrap().parse().unwrap();
    assert!((40..=51).contains(&seconds), "{seconds}");
}

#[test]
fn client_that_could_not_be_loaded_is_reported_as_by_the_helper() {
    let sandbox = sandbox(HOUR);
    let missing = client_text("beta", &sandbox, "[\"data\"]").replace("acme.secret", "no.secret");
    let daemon = Daemon::start(&(config_text(&sandbox, "[\"data\"]") + &missing));
    let detail = get(&daemon, "/v1/token/data?client=beta").detail("unknown_client");
    assert_eq!(detail, helper_message(&daemon, &["-c", "beta", "data"], 78));
}

#[test]
fn other_versions_are_505_and_close_the_connection() {
    let (_sandbox, daemon) = sandbox_and_daemon(HOUR);
    for request in [
        "GET /v1/token/data HTTP/1.0\r\nHost: localhost\r\n\r\n",
        "GET /v1/token/data HTTP/1.0\r\n\r\n",
        "GET /v1/token/data HTTP/1.0\r\nHost: localhost\r\nConnection: keep-alive\r\n\r\n",
        "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\u{4}\0\0\0\0\0",
        "GET /v1/token/data HTTP/2.0\r\nHost: localhost\r\n\r\n",
    ] {
        let mut connection = Connection::open(&daemon);
        connection
            .exchange(request)
            .problem("version_not_supported");
        connection.assert_closed();
    }
}

#[test]
fn line_that_is_no_request_line_is_a_client_error_and_closes_the_connection() {
    let (_sandbox, daemon) = sandbox_and_daemon(HOUR);
    for line in [
        "GET",
        "GET ",
        "GET /livez",
        "GET /livez ",
        "GET  /livez HTTP/1.1",
        "GET /livez  HTTP/1.1",
        "GET /livez HTTP/1.1 ",
        "GET\t/livez\tHTTP/1.1",
        "GET /li vez HTTP/1.1",
        "GET /livez http/1.1",
        "GET /livez HTTP/1.11",
        "GET /livez HTTPS/1.1",
        "GET /livez HTTP/9.9",
        "GET livez HTTP/1.1",
        "GET @/livez HTTP/1.1",
        "GETX\0 /livez HTTP/1.1",
        "GET /livez HTTP/1.1\0",
    ] {
        let mut connection = Connection::open(&daemon);
        let request = format!("{line}\r\nHost: localhost\r\n\r\n");
        let answer = connection.exchange(request);
        let kind = answer.kind();
        let kinds = ["bad_request", "version_not_supported"];
        assert!(kinds.contains(&&*kind), "{line:?}: {kind}");
        connection.assert_closed();
    }
}

#[test]
fn each_kind_has_one_title_and_a_detail_of_its_own() {
    let (_sandbox, daemon) = sandbox_and_daemon(HOUR);
    let mut titles = HashMap::new();
    for (target, headers) in [
        ("/nosuch", &[][..]),
        ("/nosuch2", &[]),
        ("/v1/token/nosuch", &[]),
        ("/v1/token/audit", &[]),
        ("/v1/token/data?client=nobody", &[]),
        ("/v1/token/data?nosuch=1", &[]),
        ("/v1/token/data?min_ttl=x", &[]),
        ("/v1/token/data?min_ttl=2h", &[]),
        ("/v1/token/data", &[("Origin", "http://a.example")]),
    ] {
        let answer = get_with(&daemon, target, headers);
        let problem = answer.problem(&answer.kind());
        let title = problem["title"].clone();
        let known = titles
            .entry(problem["type"].clone())
            .or_insert(title.clone());
        assert_eq!(*known, title, "RFC 9457 §3.1.3: {problem}");
        assert_ne!(problem["detail"], title, "{problem}");
    }
    assert_eq!(titles.len(), 6);
}

//! Tokens and what callers send stay out of the log. The log of each daemon is searched when it ends.

use super::connection::{Connection, head};
use super::{first_token, get, get_with};
use crate::common::{Daemon, HOUR, sandbox_and_folder};

#[test]
fn debug_log_has_neither_tokens_nor_headers() {
    let (_sandbox, folder) = sandbox_and_folder(HOUR);
    let mut command = Daemon::command_of_config(folder.path());
    command.args(["--log", "debug"]);
    let daemon = Daemon::start_as(command, folder);
    let (text, generation) = first_token(&daemon);
    let credentials = format!("Bearer {text}");
    for target in [
        "/v1/token/data",
        "/v1/token/data?format=token",
        "/v1/token/data?format=header",
        "/v1/token/data?min_ttl=2h",
        "/v1/token/nosuch",
        "/v1/status",
        "/v1/explain/data",
        "/metrics",
        "/nosuch",
    ] {
        let headers = [
            ("Authorization", &*credentials),
            ("Cookie", &*text),
            ("X-Token", &*text),
        ];
        let answer = get_with(&daemon, target, &headers);
        let gives_a_token = target.starts_with("/v1/token/data") && answer.status == 200;
        assert_eq!(answer.text().contains(&text), gives_a_token, "{target}");
    }
    let tag = format!("\"{generation}\"");
    let answer = get_with(&daemon, "/v1/token/data", &[("If-None-Match", &tag)]);
    assert!(answer.body.is_empty());
    for bad in [
        format!("GET /v1/token/data HTTP/1.1\r\nHost: localhost\r\nAuthorization : {text}\r\n\r\n"),
        format!("GET /v1/token/data HTTP/1.1\r\nHost: {text}\r\n\r\n"),
        format!("GET /v1/token/data HTTP/1.1\r\nHost: localhost\r\nOrigin: {text}\r\n\r\n"),
        format!("GET //{text} HTTP/1.1\r\nHost: localhost\r\n\r\n"),
        format!("GET /{text} HTTP/1.1\r\nHost: localhost\r\n\r\n"),
        format!("GET /v1/token/data?rejected={text} HTTP/1.1\r\nHost: localhost\r\n\r\n"),
        format!("GET /v1/token/data?{text}=1 HTTP/1.1\r\nHost: localhost\r\n\r\n"),
        format!("{text} / HTTP/1.1\r\nHost: localhost\r\n\r\n"),
    ] {
        let mut connection = Connection::open(&daemon);
        connection.send(bad);
        connection.finish();
        connection.read_to_end();
    }
    let mut watch = Connection::open(&daemon);
    watch.send(head("GET", "/v1/watch/data", &[("Last-Event-ID", &text)]));
    assert_eq!(watch.head_of_answer().status, 200);
    watch.chunk();
    assert_eq!(get(&daemon, "/livez").status, 200);
    let (code, log) = daemon.stop();
    assert_eq!(code, Some(0));
    assert!(log.contains("level=debug"), "{log}");
    assert!(!log.contains(&text), "{log}");
}

#[test]
fn errors_name_no_token_and_no_secret_header() {
    let (_sandbox, folder) = sandbox_and_folder(HOUR);
    let daemon = Daemon::start_in(folder);
    let (text, _) = first_token(&daemon);
    let headers = [("Authorization", &*text), ("Origin", &*text)];
    let answer = get_with(&daemon, "/v1/token/data", &headers);
    answer.problem("forbidden_origin");
    assert!(!answer.text().contains(&text));
}

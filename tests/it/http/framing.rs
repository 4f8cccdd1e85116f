//! Where one message ends and the next begins: pipelines, persistent connections, and their end.

use std::io::{ErrorKind, Read, Write};
use std::net::Shutdown;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use super::connection::{Connection, head};
use super::{first_token, get, get_with};
use crate::common::wait::until;
use crate::common::{
    Daemon, HOUR, PATIENCE, config_text, sandbox, sandbox_and_daemon, timed, token,
};
use domo_sandbox::Fault;

#[test]
fn requests_that_arrive_byte_by_byte_are_answered() {
    let (_sandbox, daemon) = sandbox_and_daemon(HOUR);
    let (text, _) = first_token(&daemon);
    let mut connection = Connection::open(&daemon);
    for _ in 0..2 {
        for byte in head("GET", "/v1/token/data?format=token", &[]).bytes() {
            connection.send([byte]);
        }
        assert_eq!(connection.answer("GET").text(), format!("{text}\n"));
    }
}

#[test]
fn requests_that_arrive_in_two_pieces_are_answered_wherever_they_are_cut() {
    let (_sandbox, daemon) = sandbox_and_daemon(HOUR);
    let request = head("GET", "/livez", &[("X-A", "b")]);
    let mut connection = Connection::open(&daemon);
    for at in 1..request.len() {
        let (start, rest) = request.split_at(at);
        connection.send(start);
        let answer = connection.exchange(rest);
        assert_eq!(answer.text(), "live\n", "cut at {at}");
    }
}

#[test]
fn pipelined_requests_are_answered_in_order() {
    let (_sandbox, daemon) = sandbox_and_daemon(HOUR);
    let (text, _) = first_token(&daemon);
    let targets = [
        ("GET", "/v1/token/data?format=token"),
        ("GET", "/nosuch"),
        ("HEAD", "/v1/token/data"),
        ("GET", "/livez"),
        ("GET", "/v1/token/nosuch"),
        ("POST", "/livez"),
        ("GET", "/v1/token/data?format=header"),
        ("GET", "/metrics"),
        ("GET", "/readyz"),
    ];
    let one: String = targets
        .iter()
        .map(|(method, target)| head(method, target, &[]))
        .collect();
    let mut connection = Connection::open(&daemon);
    let mut writer = connection.duplicate();
    let all = one.repeat(20);
    let writing = thread::spawn(move || writer.write_all(all.as_bytes()));
    for _ in 0..20 {
        let answers = targets.map(|(method, _)| connection.answer(method));
        let statuses = answers.each_ref().map(|answer| answer.status);
        assert_eq!(statuses, [200, 404, 200, 200, 404, 405, 200, 200, 200]);
        assert_eq!(answers[0].text(), format!("{text}\n"));
        assert_eq!(answers[1].kind(), "not_found");
        assert_eq!(answers[3].text(), "live\n");
        assert_eq!(answers[4].kind(), "unknown_scope");
        assert_eq!(answers[6].text(), format!("Authorization: Bearer {text}\n"));
        assert_eq!(answers[8].text(), "ready\n");
    }
    writing.join().unwrap().unwrap();
}

#[test]
fn request_after_one_that_waits_is_answered_after_it() {
    let sandbox = sandbox(HOUR);
    sandbox.script([Fault::hold()]);
    let daemon = Daemon::start(&config_text(&sandbox, "[\"data\"]"));
    let mut connection = Connection::open(&daemon);
    connection.send(head("GET", "/v1/token/data?timeout=1m", &[]));
    connection.send(head("GET", "/livez", &[]));
    // The daemon has both when it has answered another caller that came later.
    assert_eq!(get(&daemon, "/livez").status, 200);
    sandbox.recover();
    assert_eq!(connection.answer("GET").json()["client"], "acme");
    assert_eq!(connection.answer("GET").text(), "live\n");
}

#[test]
fn connection_persists_until_a_request_says_close() {
    let (_sandbox, daemon) = sandbox_and_daemon(HOUR);
    let mut connection = Connection::open(&daemon);
    for _ in 0..3 {
        let answer = connection.request("GET", "/livez", &[("Connection", "keep-alive")]);
        assert!(!answer.closes());
    }
    for value in ["close", "Close", "keep-alive, close", "x-other,close"] {
        let mut connection = Connection::open(&daemon);
        assert!(!connection.get("/livez").closes());
        let answer = connection.request("GET", "/livez", &[("Connection", value)]);
        assert!(answer.closes(), "{value}: RFC 9112 §9.6");
        connection.assert_closed();
    }
}

#[test]
fn nothing_after_connection_close_is_answered() {
    let (_sandbox, daemon) = sandbox_and_daemon(HOUR);
    let mut connection = Connection::open(&daemon);
    let close = head("GET", "/livez", &[("Connection", "close")]);
    connection.send(close + &head("GET", "/v1/token/data", &[]));
    assert_eq!(connection.answer("GET").text(), "live\n");
    connection.assert_closed();
}

#[test]
fn caller_that_ends_its_direction_receives_all_answers() {
    let (_sandbox, daemon) = sandbox_and_daemon(HOUR);
    let mut connection = Connection::open(&daemon);
    connection.send(head("GET", "/v1/token/data", &[]));
    connection.send(head("GET", "/livez", &[]));
    let first = connection.answer("GET");
    assert_eq!(first.status, 200);
    connection.finish();
    assert_eq!(connection.answer("GET").text(), "live\n");
    connection.assert_closed();
}

#[test]
fn caller_that_ends_its_direction_while_it_waits_receives_the_token() {
    let sandbox = sandbox(HOUR);
    sandbox.script([Fault::hold()]);
    let mut daemon = Daemon::start(&config_text(&sandbox, "[\"data\"]"));
    let mut connection = Connection::open(&daemon);
    connection.send(head("GET", "/v1/token/data?format=token", &[]));
    connection.finish();
    daemon.wait_for_log("received request");
    sandbox.recover();
    let answer = connection.answer("GET");
    assert_eq!(answer.status, 200, "{}", answer.text());
    connection.assert_closed();
}

#[test]
fn harmless_headers_are_ignored() {
    let (_sandbox, daemon) = sandbox_and_daemon(HOUR);
    let headers = [
        ("Accept", "text/html"),
        ("accept-encoding", "gzip, br"),
        ("Authorization", "Basic eDp5"),
        ("Content-Length", "0"),
        ("Content-Type", "application/json"),
        ("Cookie", "a=b"),
        ("Expect", "100-continue"),
        ("If-Modified-Since", "Thu, 01 Jan 2032 00:00:00 GMT"),
        ("Pragma", "no-cache"),
        ("Range", "bytes=0-3"),
        ("TE", "trailers"),
        ("Upgrade", "h2c, websocket"),
        ("User-Agent", "curl/8.0\tx"),
        ("X-Requested-With", ""),
    ];
    let answer = get_with(&daemon, "/v1/token/data", &headers);
    assert_eq!(answer.json()["client"], "acme");
    assert_eq!(answer.header("content-encoding"), None);
    for value in ["", "   ", "\t"] {
        let request = format!("GET /livez HTTP/1.1\r\nHost:localhost{value}\r\nX:{value}\r\n\r\n");
        assert_eq!(Connection::open(&daemon).exchange(request).text(), "live\n");
    }
}

#[test]
fn half_a_head_is_closed_by_the_request_deadline() {
    let sandbox = sandbox(HOUR);
    let limits = "[limits]\nrequest_deadline = \"1s\"\nfirst_request_deadline = \"1s\"\n";
    let daemon = Daemon::start(&(limits.to_owned() + &config_text(&sandbox, "[\"data\"]")));
    let half = "GET /v1/token/data HTTP/1.1\r\nHost: local";
    for requests_before in [0, 1] {
        let mut connection = Connection::open(&daemon);
        for _ in 0..requests_before {
            connection.get("/livez");
        }
        connection.send(half);
        let (took, rest) = timed(|| connection.read_to_end());
        let rest = String::from_utf8(rest).unwrap();
        assert!(rest.is_empty() || rest.starts_with("HTTP/1.1 4"), "{rest}");
        assert!(took < Duration::from_secs(5), "{took:?}");
    }
}

#[test]
fn idle_connection_closes_after_ten_seconds() {
    let (_sandbox, daemon) = sandbox_and_daemon(HOUR);
    let mut connection = Connection::open(&daemon);
    connection.get("/livez");
    let (took, ()) = timed(|| connection.assert_closed());
    assert!(took > Duration::from_millis(9_500), "{took:?}");
    assert!(took < Duration::from_secs(13), "{took:?}");
}

#[test]
fn caller_that_waits_longer_than_ten_seconds_is_not_idle() {
    let sandbox = sandbox(HOUR);
    sandbox.always(Fault::hold());
    let limits = "[limits]\nfirst_request_deadline = \"1s\"\n";
    let daemon = Daemon::start(&(limits.to_owned() + &config_text(&sandbox, "[\"data\"]")));
    let mut connection = Connection::open(&daemon);
    let (took, answer) = timed(|| connection.get("/v1/token/data?timeout=12s"));
    answer.problem("unavailable");
    assert!(took > Duration::from_millis(11_900), "{took:?}");
}

#[test]
fn two_thousand_pipelined_requests_delay_no_other_caller() {
    const COUNT: usize = 2000;
    let (_sandbox, daemon) = sandbox_and_daemon(HOUR);
    first_token(&daemon);
    let length = get(&daemon, "/metrics").body.len();
    let greedy = Connection::open(&daemon);
    let mut writer = greedy.duplicate();
    let all = head("GET", "/metrics", &[]).repeat(COUNT);
    let read = AtomicUsize::new(0);
    thread::scope(|scope| {
        let count = &read;
        let mut reader = greedy.duplicate();
        scope.spawn(move || {
            let mut buffer = vec![0; 64 * 1024];
            while let Ok(some @ 1..) = reader.read(&mut buffer) {
                count.fetch_add(some, Ordering::Relaxed);
            }
        });
        scope.spawn(move || {
            // It is cut off at the end.
            let _ = writer.write_all(all.as_bytes());
        });
        let so_far = || read.load(Ordering::Relaxed);
        until(|| (so_far() > 0).then_some(()).ok_or("it has none"));
        token(&daemon.ask(&["data"]));
        assert_eq!(get(&daemon, "/v1/token/data").status, 200);
        let had = so_far();
        greedy.duplicate().shutdown(Shutdown::Both).unwrap();
        assert!(
            had < length * COUNT / 2,
            "{had} bytes before another's answer"
        );
    });
}

#[test]
fn caller_that_reads_no_answer_is_dropped_by_the_answer_deadline() {
    let sandbox = sandbox(HOUR);
    let limits = "[limits]\nanswer_deadline = \"1s\"\n";
    let daemon = Daemon::start(&(limits.to_owned() + &config_text(&sandbox, "[\"data\"]")));
    let connection = Connection::open(&daemon);
    let mut writer = connection.duplicate();
    writer.set_write_timeout(Some(PATIENCE)).unwrap();
    let request = head("GET", "/metrics", &[]);
    let (took, error) = timed(|| {
        loop {
            if let Err(error) = writer.write_all(request.as_bytes()) {
                return error;
            }
        }
    });
    let ended = [ErrorKind::BrokenPipe, ErrorKind::ConnectionReset];
    assert!(ended.contains(&error.kind()), "{error}");
    assert!(took < PATIENCE / 2, "{took:?}");
}

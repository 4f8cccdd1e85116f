//! Limits on connections and watchers: 429 over HTTP, a frame for frames, and neither delays other callers.

use std::fs;
use std::time::Duration;

use super::connection::{Connection, head};
use super::get;
use crate::common::callers::{
    DAEMON, USER_A, USER_B, ask_as, half_request, is_root, open_daemon, token_request,
    watch_request,
};
use crate::common::wait::until;
use crate::common::{
    Daemon, HOUR, config_text, failure, sandbox, sandbox_and_daemon, timed, token,
};
use domo_sandbox::Fault;

/// The most HTTP connections of a user, and of all users.
const PER_USER: u32 = 32;
const IN_ALL: u32 = 256;

/// A user that opens this many connections, each of which has had one response.
fn open_connections(daemon: &Daemon, uid: u32, count: u32) -> Vec<Connection> {
    let open = |_| {
        let mut connection = Connection::open_as(daemon, uid, uid);
        let answer = connection.get("/livez");
        assert_eq!(answer.status, 200, "{}", answer.text());
        connection
    };
    (0..count).map(open).collect()
}

/// Sends a request that is over a limit, and returns the message.
#[track_caller]
fn rejected(daemon: &Daemon, uid: u32) -> String {
    let mut connection = Connection::open_as(daemon, uid, uid);
    let answer = connection.get("/v1/token/data");
    assert!(answer.closes(), "{answer:?}");
    connection.assert_closed();
    answer.detail("busy")
}

/// Reads the frame of a caller that is rejected: a greeting, then a refusal whose message contains `text`.
#[track_caller]
fn assert_frame(connection: &mut Connection, text: &str) {
    let sent = connection.read_to_end();
    assert!(sent.starts_with(b"DTK"), "{sent:?}");
    let shown = String::from_utf8_lossy(&sent);
    assert!(shown.contains(text), "{shown}");
}

#[test]
fn user_has_32_http_connections_and_root_too() {
    if !is_root() {
        return;
    }
    let sandbox = sandbox(HOUR);
    let daemon = open_daemon(&sandbox, "[\"data\"]", "", "");
    token(&daemon.ask(&["data"]));
    for uid in [USER_A, 0] {
        let mut held = open_connections(&daemon, uid, PER_USER);
        for _ in 0..3 {
            let detail = rejected(&daemon, uid);
            assert!(detail.contains("32"), "{detail}");
        }
        // Frames of the same user, and HTTP of others.
        token(&ask_as(&daemon, uid, uid, &["data"]));
        let mut other = Connection::open_as(&daemon, USER_B, USER_B);
        assert_eq!(other.get("/v1/token/data").status, 200);
        // The others are served as before.
        assert_eq!(held[0].get("/v1/token/data").status, 200);
        drop(held.pop());
        until(|| {
            let mut next = Connection::open_as(&daemon, uid, uid);
            let status = next.get("/livez").status;
            (status == 200).then_some(()).ok_or(status)
        });
    }
}

#[test]
fn all_users_together_have_256_http_connections() {
    if !is_root() {
        return;
    }
    let sandbox = sandbox(HOUR);
    let daemon = open_daemon(&sandbox, "[\"data\"]", "", "");
    token(&daemon.ask(&["data"]));
    // Each of these users has 8, so that none is at its own limit. Some places are only for root.
    let users = IN_ALL / 8 - 1;
    let mut held: Vec<Connection> = (0..users)
        .flat_map(|user| open_connections(&daemon, 100_000 + user, 8))
        .collect();
    let detail = rejected(&daemon, 100_000);
    assert!(detail.contains("256"), "{detail}");
    let mut of_root = open_connections(&daemon, 0, 8);
    rejected(&daemon, 100_000 + users - 1);
    for uid in [USER_A, DAEMON, 0, 100_000] {
        let (took, _) = timed(|| token(&ask_as(&daemon, uid, uid, &["data"])));
        assert!(took < Duration::from_secs(2), "{took:?}");
    }
    // A user without any takes the place of one of the others, as at the limit of the socket.
    let mut other = open_connections(&daemon, USER_B, 1);
    let served = |all: &mut [Connection]| {
        let served = all.iter_mut().map(Connection::is_served);
        served.filter(|is_served| *is_served).count()
    };
    assert_eq!((served(&mut of_root), served(&mut other)), (8, 1));
    assert_eq!(served(&mut held), held.len() - 1, "256 in all");
    drop(held);
    open_connections(&daemon, USER_A, PER_USER);
}

#[test]
fn connection_over_the_limit_of_the_socket_is_rejected_in_its_protocol() {
    if !is_root() {
        return;
    }
    let sandbox = sandbox(HOUR);
    let limits = "[limits]\nconnections_per_user = 4\n";
    let daemon = open_daemon(&sandbox, "[\"data\"]", limits, "");
    let _held: Vec<Connection> = (0..4)
        .map(|_| {
            let mut connection = Connection::open_as(&daemon, USER_A, USER_A);
            connection.send(watch_request());
            connection.take(16);
            connection
        })
        .collect();
    let detail = rejected(&daemon, USER_A);
    assert!(detail.contains("connection limit per user"), "{detail}");
    let open = || Connection::open_as(&daemon, USER_A, USER_A);
    let mut frames = open();
    frames.send(token_request());
    assert_frame(&mut frames, "connection limit per user");
    // The decision is made by the first four bytes, however they arrive.
    let mut slow = open();
    let request = head("GET", "/v1/token/data", &[]);
    let (start, rest) = request.split_at(2);
    slow.send(start);
    slow.send(rest);
    slow.answer("GET").problem("busy");
    slow.assert_closed();
    for bytes in [&b"DTK"[..], b"GE", b"get ", b"\x16\x03\x01\x02"] {
        let mut other = open();
        other.send(bytes);
        assert_frame(&mut other, "connection limit per user");
    }
    token(&ask_as(&daemon, DAEMON, DAEMON, &["data"]));
}

#[test]
fn silent_caller_over_the_limit_receives_a_frame_after_100_ms() {
    if !is_root() {
        return;
    }
    let sandbox = sandbox(HOUR);
    let limits = "[limits]\nconnections_per_user = 1\n";
    let daemon = open_daemon(&sandbox, "[\"data\"]", limits, "");
    token(&daemon.ask(&["data"]));
    let _held = open_connections(&daemon, USER_A, 1);
    let (took, ()) = timed(|| {
        let mut silent = Connection::open_as(&daemon, USER_A, USER_A);
        assert_frame(&mut silent, "connection limit per user");
    });
    assert!(took >= Duration::from_millis(90), "{took:?}");
    assert!(took < Duration::from_secs(2), "{took:?}");
    // Those that wait do not wait for each other, nor do other users for them.
    let open = |_| Connection::open_as(&daemon, USER_A, USER_A);
    let (took, mut many) = timed(|| (0..100).map(open).collect::<Vec<_>>());
    let (other, _) = timed(|| token(&ask_as(&daemon, DAEMON, DAEMON, &["data"])));
    assert!(other < Duration::from_secs(2), "{other:?}");
    let (rest, ()) = timed(|| {
        for silent in &mut many {
            assert_frame(silent, "connection limit per user");
        }
    });
    let took = took + other + rest;
    assert!(took < Duration::from_secs(5), "{took:?}, not 100 × 100 ms");
}

#[test]
fn callers_over_the_limit_that_send_late_receive_429() {
    if !is_root() {
        return;
    }
    let sandbox = sandbox(HOUR);
    let limits = "[limits]\nconnections_per_user = 1\n";
    let daemon = open_daemon(&sandbox, "[\"data\"]", limits, "");
    let _held = open_connections(&daemon, USER_A, 1);
    let open = |_| Connection::open_as(&daemon, USER_A, USER_A);
    let mut many: Vec<Connection> = (0..8).map(open).collect();
    // The daemon has accepted all of them when it has answered another caller that came later.
    assert_eq!(
        Connection::open_as(&daemon, USER_B, USER_B)
            .get("/livez")
            .status,
        200
    );
    for connection in &mut many {
        connection.send(head("GET", "/v1/token/data", &[]));
    }
    let is_429 = |connection: &mut Connection| connection.peek().starts_with(b"HTTP/1.1 429 ");
    let count = many.iter_mut().map(is_429).filter(|is_429| *is_429).count();
    assert_eq!(count, many.len(), "the others received a frame");
}

#[test]
fn caller_that_loses_its_connection_to_another_user_receives_429() {
    if !is_root() {
        return;
    }
    let sandbox = sandbox(HOUR);
    sandbox.always(Fault::hold());
    let limits = "[limits]\nconnections = 4\n";
    let mut daemon = open_daemon(&sandbox, "[\"data\"]", limits, "");
    let mut waiting: Vec<Connection> = (0..3)
        .map(|_| {
            let mut connection = Connection::open_as(&daemon, USER_A, USER_A);
            connection.send(head("GET", "/v1/token/data?timeout=1m", &[]));
            daemon.wait_for_log("received request");
            connection
        })
        .collect();
    let mut other = Connection::open_as(&daemon, USER_B, USER_B);
    assert_eq!(other.get("/livez").status, 200);
    let replaced = &mut waiting[0];
    let detail = replaced.answer("GET").detail("busy");
    assert!(detail.contains("another user"), "{detail}");
    replaced.assert_closed();
    sandbox.recover();
    for connection in &mut waiting[1..] {
        assert_eq!(connection.answer("GET").status, 200);
    }
}

#[test]
fn callers_that_disconnect_while_they_wait_release_their_places() {
    let sandbox = sandbox(HOUR);
    sandbox.always(Fault::hold());
    let daemon = Daemon::start(&config_text(&sandbox, "[\"data\"]"));
    for (target, ends_direction) in [
        ("/v1/token/data?timeout=1m", false),
        ("/v1/token/data?timeout=1m", true),
        ("/v1/watch/data", false),
        ("/v1/watch/data", true),
    ] {
        let waiting: Vec<Connection> = (0..PER_USER)
            .map(|_| {
                let mut connection = Connection::open(&daemon);
                connection.send(head("GET", target, &[]));
                if ends_direction {
                    connection.finish();
                }
                connection
            })
            .collect();
        until(|| {
            let status = get(&daemon, "/livez").status;
            (status == 429).then_some(()).ok_or(status)
        });
        drop(waiting);
        until(|| {
            let status = get(&daemon, "/livez").status;
            (status == 200).then_some(()).ok_or(status)
        });
    }
}

#[test]
fn http_connections_count_as_connections_of_the_socket() {
    if !is_root() {
        return;
    }
    let sandbox = sandbox(HOUR);
    let limits = "[limits]\nconnections_per_user = 3\n";
    let daemon = open_daemon(&sandbox, "[\"data\"]", limits, "");
    let held = open_connections(&daemon, USER_A, 3);
    let stderr = failure(
        &ask_as(&daemon, USER_A, USER_A, &["--timeout", "1", "data"]),
        75,
    );
    assert!(stderr.contains("connection limit per user"), "{stderr}");
    drop(held);
    token(&ask_as(&daemon, USER_A, USER_A, &["--wait", "data"]));
}

#[test]
fn connection_that_has_sent_nothing_counts_as_no_http_connection() {
    if !is_root() {
        return;
    }
    let sandbox = sandbox(HOUR);
    let daemon = open_daemon(&sandbox, "[\"data\"]", "", "");
    let open = |bytes: &[u8]| {
        let mut connection = Connection::open_as(&daemon, USER_A, USER_A);
        connection.send(bytes);
        connection
    };
    let _silent: Vec<_> = (0..PER_USER + 8).map(|_| open(b"")).collect();
    let _frames: Vec<_> = (0..PER_USER + 8).map(|_| open(&half_request())).collect();
    let mut http = open(b"");
    assert_eq!(http.get("/v1/token/data").status, 200);
}

#[test]
fn watchers_of_both_protocols_share_one_limit() {
    if !is_root() {
        return;
    }
    let sandbox = sandbox(HOUR);
    let limits = "[limits]\nwatchers_per_user = 2\n";
    let daemon = open_daemon(&sandbox, "[\"data\"]", limits, "");
    let mut frames = Connection::open_as(&daemon, USER_A, USER_A);
    frames.send(watch_request());
    frames.take(64);
    let watch = || {
        let mut connection = Connection::open_as(&daemon, USER_A, USER_A);
        connection.send(head("GET", "/v1/watch/data", &[]));
        let answer = connection.head_of_answer();
        (connection, answer)
    };
    let (http, answer) = watch();
    assert_eq!(answer.status, 200);
    let mut third = Connection::open_as(&daemon, USER_A, USER_A);
    let answer = third.get("/v1/watch/data");
    let detail = answer.detail("busy");
    assert!(
        detail.contains("watcher limit per user") && detail.contains('2'),
        "{detail}"
    );
    if !answer.closes() {
        assert_eq!(
            third.get("/v1/token/data").status,
            200,
            "a token is no watch"
        );
    }
    let mut of_frames = Connection::open_as(&daemon, USER_A, USER_A);
    of_frames.send(watch_request());
    let sent = of_frames.take(64);
    assert!(
        String::from_utf8_lossy(&sent).contains("watcher limit"),
        "{sent:?}"
    );
    let mut other = Connection::open_as(&daemon, USER_B, USER_B);
    other.send(head("GET", "/v1/watch/data", &[]));
    assert_eq!(other.head_of_answer().status, 200);
    drop(http);
    until(|| {
        let (_connection, answer) = watch();
        (answer.status == 200).then_some(()).ok_or(answer.status)
    });
}

#[test]
fn closed_connections_release_their_places() {
    let (_sandbox, daemon) = sandbox_and_daemon(HOUR);
    // More than a user may have at a time: each is released when it ends.
    for _ in 0..PER_USER * 3 {
        let mut connection = Connection::open(&daemon);
        let answer = connection.request("GET", "/livez", &[("Connection", "close")]);
        assert_eq!(answer.status, 200);
        connection.assert_closed();
    }
    for _ in 0..PER_USER * 3 {
        let mut connection = Connection::open(&daemon);
        connection.exchange("GET // HTTP/1.1\r\n\r\n");
        connection.assert_closed();
    }
    assert_eq!(get(&daemon, "/v1/token/data").status, 200);
}

#[test]
fn frames_are_served_while_http_is_full_and_busy() {
    let sandbox = sandbox(HOUR);
    let daemon = Daemon::start(&config_text(&sandbox, "[\"data\"]"));
    token(&daemon.ask(&["data"]));
    let busy: Vec<Connection> = (0..PER_USER)
        .map(|_| {
            let mut connection = Connection::open(&daemon);
            connection.send(head("GET", "/metrics", &[]).repeat(100));
            connection
        })
        .collect();
    let (took, _) = timed(|| token(&daemon.ask(&["data"])));
    assert!(took < Duration::from_secs(3), "{took:?}");
    drop(busy);
    token(&daemon.ask(&["data"]));
}

/// Returns the daemon's resident memory in KiB.
fn resident_kib(daemon: &Daemon) -> usize {
    let status = fs::read_to_string(format!("/proc/{}/status", daemon.pid())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let number = line.unwrap().split_whitespace().next();
    number.unwrap().parse().unwrap()
}

#[test]
fn callers_that_do_not_read_hold_no_copies_of_the_openapi_document() {
    if !is_root() {
        return;
    }
    let sandbox = sandbox(HOUR);
    let daemon = open_daemon(&sandbox, "[\"data\"]", "", "");
    let length = get(&daemon, "/v1/openapi.json").body.len();
    let before = resident_kib(&daemon);
    let mut waiting = Vec::new();
    for uid in 7001..7008 {
        for _ in 0..PER_USER {
            let mut connection = Connection::open_as(&daemon, uid, uid);
            connection.send(head("GET", "/v1/openapi.json", &[]));
            assert!(connection.receive() > 0);
            waiting.push(connection);
        }
    }
    let grown = resident_kib(&daemon).saturating_sub(before);
    let copies = waiting.len() * length / 1024;
    assert!(grown < copies / 2, "{grown} KiB; copies have {copies} KiB");
}

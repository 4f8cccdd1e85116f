//! `GET /v1/watch/{SCOPES}`: server-sent events.

use std::collections::BTreeMap;
use std::fs;
use std::time::Duration;

use super::connection::{Answer, Connection, head};
use super::tokens::assert_same;
use super::{first_token, get};
use crate::common::{Daemon, HOUR, PATIENCE, config_text, sandbox, sandbox_and_daemon, timed};
use domo_sandbox::Fault;
use serde_json::Value;

/// An event, or a comment with the field `""`.
type Fields = BTreeMap<String, String>;

/// A watch that has received the head of its response.
struct Watch {
    connection: Connection,
    unread: String,
}

impl Watch {
    #[track_caller]
    fn start(daemon: &Daemon, target: &str, headers: &[(&str, &str)]) -> Self {
        let mut connection = Connection::open(daemon);
        connection.send(head("GET", target, headers));
        let answer = connection.head_of_answer();
        Self::of(connection, &answer)
    }

    #[track_caller]
    fn of(connection: Connection, answer: &Answer) -> Self {
        assert_eq!(answer.status, 200);
        let kind = answer.header("content-type").unwrap();
        assert_eq!(kind.split(';').next(), Some("text/event-stream"), "{kind}");
        assert_eq!(answer.header("cache-control"), Some("no-store"));
        assert!(answer.is_chunked() || answer.closes(), "{answer:?}");
        assert!(answer.header("content-length").is_none(), "{answer:?}");
        Self {
            connection,
            unread: String::new(),
        }
    }

    /// Reads the next event or comment; `None` after the last one.
    #[track_caller]
    fn next(&mut self) -> Option<Fields> {
        loop {
            if let Some((event, rest)) = self.unread.split_once("\n\n") {
                let mut fields = Fields::new();
                for line in event.lines().filter(|line| !line.is_empty()) {
                    let (name, value) = line.split_once(':').unwrap_or((line, ""));
                    let value = value.strip_prefix(' ').unwrap_or(value);
                    let twice = fields.insert(name.to_owned(), value.to_owned());
                    assert_eq!(twice, None, "{name} in one line: {event}");
                }
                self.unread = rest.to_owned();
                return Some(fields);
            }
            let chunk = self.connection.chunk()?;
            self.unread.push_str(std::str::from_utf8(&chunk).unwrap());
            assert!(!self.unread.contains('\r'), "{:?}", self.unread);
        }
    }

    /// Reads the next event, and returns its data, and its id.
    #[track_caller]
    fn event(&mut self, name: &str) -> (Value, Option<String>) {
        loop {
            let fields = self.next().expect("an event");
            if fields.contains_key("") && fields.len() == 1 {
                continue;
            }
            assert_eq!(fields["event"], name, "{fields:?}");
            let known = ["event", "data", "id", "retry"];
            assert!(
                fields.keys().all(|field| known.contains(&field.as_str())),
                "{fields:?}"
            );
            let data = serde_json::from_str(&fields["data"]).unwrap();
            return (data, fields.get("id").cloned());
        }
    }

    /// Reads the next token and returns its generation, which is its id as well.
    #[track_caller]
    fn token(&mut self) -> (Value, u64) {
        let (data, id) = self.event("token");
        let generation = data["generation"].as_u64().unwrap();
        assert_eq!(id, Some(generation.to_string()));
        (data, generation)
    }
}

#[test]
fn first_event_is_the_current_token_as_json() {
    let (_sandbox, daemon) = sandbox_and_daemon(HOUR);
    let json = get(&daemon, "/v1/token/data").json();
    for target in [
        "/v1/watch/data",
        "/v1/watch/data?client=acme",
        "/v1/watch/%64ata",
    ] {
        let (data, _) = Watch::start(&daemon, target, &[]).token();
        assert_same(&data, &json, &["expires_at", "expires_in"]);
    }
}

#[test]
fn each_new_token_is_an_event_with_its_generation() {
    let (_sandbox, daemon) = sandbox_and_daemon(Duration::from_secs(3));
    let mut watch = Watch::start(&daemon, "/v1/watch/data", &[]);
    let mut generations = vec![watch.token().1];
    for _ in 0..2 {
        let (data, generation) = watch.token();
        assert!(!generations.contains(&generation), "{generations:?}");
        assert!(data["expires_in"].as_u64().unwrap() <= 3);
        generations.push(generation);
    }
}

#[test]
fn watch_that_starts_before_the_first_token_receives_it() {
    let sandbox = sandbox(HOUR);
    sandbox.script([Fault::hold()]);
    let daemon = Daemon::start(&config_text(&sandbox, "[\"data\"]"));
    // The response begins before there is an event.
    let mut watch = Watch::start(&daemon, "/v1/watch/data", &[]);
    sandbox.recover();
    let (_, generation) = watch.token();
    assert_eq!(first_token(&daemon).1, generation);
}

#[test]
fn last_event_id_of_the_current_token_skips_it() {
    let (sandbox, mut daemon) = sandbox_and_daemon(HOUR);
    let (_, generation) = first_token(&daemon);
    let current = generation.to_string();
    let mut skipping = Watch::start(&daemon, "/v1/watch/data", &[("Last-Event-ID", &current)]);
    for other in [
        (generation ^ 1).to_string(),
        String::new(),
        "x".to_owned(),
        format!("{current}0"),
        format!("0{current}"),
        format!("+{current}"),
    ] {
        let mut watch = Watch::start(&daemon, "/v1/watch/data", &[("Last-Event-ID", &other)]);
        assert_eq!(watch.token().1, generation, "after {other:?}");
    }
    // The next token is the first event of the one that has the current token.
    let secret = "c4nary-second-secret";
    sandbox.add_client(crate::common::CLIENT_ID, secret, &["data"]);
    daemon.write("acme.secret", secret);
    daemon.wait_for_log("token obtained");
    sandbox.wait_for_requests(2, PATIENCE).unwrap();
    let (_, renewed) = skipping.token();
    assert_ne!(renewed, generation);
}

#[test]
fn outage_is_one_event_with_the_time_of_the_next_attempt() {
    let sandbox = sandbox(HOUR);
    sandbox.always(Fault::status(503).retry_after("50"));
    let daemon = Daemon::start(&config_text(&sandbox, "[\"data\"]"));
    let mut watch = Watch::start(&daemon, "/v1/watch/data", &[]);
    let (data, id) = watch.event("unavailable");
    assert!(data["detail"].as_str().unwrap().contains("503"), "{data}");
    let wait = data["retry_after_ms"].as_u64().unwrap();
    assert!((40_000..=51_000).contains(&wait), "{data}");
    // An id would make a reconnecting caller skip a token.
    assert!(id.is_none_or(|id| id.is_empty()));
    sandbox.recover();
    daemon.signal("-HUP");
    assert_eq!(watch.token().1, first_token(&daemon).1);
}

#[test]
fn expiry_without_a_successor_is_an_event() {
    let sandbox = sandbox(Duration::from_secs(3));
    sandbox.script([Fault::default()]);
    let daemon = Daemon::start(&config_text(&sandbox, "[\"data\"]"));
    let mut watch = Watch::start(&daemon, "/v1/watch/data", &[]);
    watch.token();
    sandbox.always(Fault::status(503));
    let data = loop {
        // A renewal may have come before the fault.
        let fields = watch.next().unwrap();
        if fields["event"] == "unavailable" {
            break serde_json::from_str::<Value>(&fields["data"]).unwrap();
        }
        assert_eq!(fields["event"], "token");
    };
    assert!(data["detail"].as_str().unwrap().contains("503"), "{data}");
    sandbox.recover();
    watch.token();
}

#[test]
fn removed_scope_set_is_an_event_and_ends_the_stream() {
    let sandbox = sandbox(HOUR);
    let daemon = Daemon::start(&config_text(&sandbox, "[\"data\", \"user\"]"));
    let mut watch = Watch::start(&daemon, "/v1/watch/user", &[]);
    watch.token();
    daemon.write("config.toml", &config_text(&sandbox, "[\"data\"]"));
    let (data, _) = watch.event("gone");
    let detail = data["detail"].as_str().unwrap();
    assert!(detail.contains("removed"), "{data}");
    assert_eq!(watch.next(), None, "the last chunk follows");
    get(&daemon, "/v1/watch/user").problem("unknown_scope");
}

#[test]
fn watcher_that_may_not_have_the_token_any_more_receives_no_other() {
    let sandbox = sandbox(Duration::from_secs(4));
    let config = config_text(&sandbox, "[\"data\"]");
    let own_uid = rustix::process::geteuid().as_raw();
    let mut daemon = Daemon::start(&config);
    let mut watch = Watch::start(&daemon, "/v1/watch/data", &[]);
    watch.token();
    let rules = format!(
        "[clients.acme.access]\ndata = {{ users = [{}] }}\n",
        own_uid + 1
    );
    daemon.write("config.toml", &(config + &rules));
    daemon.wait_for_log("config loaded");
    get(&daemon, "/v1/token/data").problem("not_permitted");
    let mut last = None;
    while let Some(fields) = watch.next() {
        // Tokens from before the rule may be unread.
        last = Some(fields);
    }
    let last = last.expect("a reason");
    assert_eq!(last["event"], "gone", "{last:?}");
    let data: Value = serde_json::from_str(&last["data"]).unwrap();
    assert!(
        data["detail"].as_str().unwrap().contains("may not have"),
        "{data}"
    );
}

#[test]
fn watch_of_an_unknown_scope_set_or_client_is_a_problem() {
    let (_sandbox, daemon) = sandbox_and_daemon(HOUR);
    for (target, kind) in [
        ("/v1/watch/nosuch", "unknown_scope"),
        ("/v1/watch/data?client=nobody", "unknown_client"),
        ("/v1/watch/data?nosuch=1", "bad_request"),
    ] {
        let mut connection = Connection::open(&daemon);
        let answer = connection.get(target);
        answer.problem(kind);
        if answer.closes() {
            connection.assert_closed();
        } else {
            assert_eq!(connection.get("/v1/token/data").status, 200);
        }
    }
}

#[test]
fn stop_of_the_daemon_ends_the_stream() {
    let (_sandbox, mut daemon) = sandbox_and_daemon(HOUR);
    let mut watch = Watch::start(&daemon, "/v1/watch/data", &[]);
    watch.token();
    let mut idle = Connection::open(&daemon);
    idle.get("/livez");
    daemon.signal("-TERM");
    let (took, rest) = timed(|| watch.connection.read_to_end());
    idle.assert_closed();
    assert!(took < Duration::from_secs(3), "{took:?}");
    let rest = String::from_utf8(rest).unwrap();
    assert!(rest.is_empty() || rest.ends_with("0\r\n\r\n"), "{rest:?}");
    assert_eq!(daemon.wait().code(), Some(0));
}

#[test]
fn caller_that_waits_for_a_token_is_answered_when_the_daemon_stops() {
    let sandbox = sandbox(HOUR);
    sandbox.always(Fault::hold());
    let mut daemon = Daemon::start(&config_text(&sandbox, "[\"data\"]"));
    let mut connection = Connection::open(&daemon);
    connection.send(head("GET", "/v1/token/data?timeout=1m", &[]));
    daemon.wait_for_log("received request");
    daemon.signal("-TERM");
    let answer = connection.answer("GET");
    let kind = answer.kind();
    assert!(
        ["busy", "unavailable"].contains(&&*kind),
        "exit code 75, not {kind}"
    );
    connection.assert_closed();
    assert_eq!(daemon.wait().code(), Some(0));
}

#[test]
fn idle_watch_receives_a_comment_every_15_seconds() {
    let (_sandbox, daemon) = sandbox_and_daemon(HOUR);
    let mut watch = Watch::start(&daemon, "/v1/watch/data", &[]);
    watch.token();
    let (took, fields) = timed(|| watch.next().unwrap());
    assert!(
        fields.contains_key("") && fields.len() == 1,
        "a comment: {fields:?}"
    );
    assert!(took > Duration::from_millis(14_500), "{took:?}");
    assert!(took < Duration::from_secs(18), "{took:?}");
}

#[test]
fn slow_reader_is_dropped_and_delays_no_other_watcher() {
    let sandbox = sandbox(Duration::from_secs(2));
    sandbox.always(Fault::token_size(16 * 1024));
    let limits = "[limits]\nanswer_deadline = \"1s\"\n";
    let mut daemon = Daemon::start(&(limits.to_owned() + &config_text(&sandbox, "[\"data\"]")));
    let mut slow = Connection::open(&daemon);
    slow.send(head("GET", "/v1/watch/data", &[]));
    let mut watch = Watch::start(&daemon, "/v1/watch/data", &[]);
    for _ in 0..5 {
        watch.token();
    }
    daemon.wait_for_log("connection closed");
    let received = slow.read_to_end();
    assert!(received.starts_with(b"HTTP/1.1 200 "));
    // At most what the kernel buffers, and one token.
    assert!(received.len() <= 64 * 1024, "{}", received.len());
    watch.token();
}

#[test]
fn watcher_that_disconnects_is_forgotten() {
    let (_sandbox, daemon) = sandbox_and_daemon(HOUR);
    let sockets = || {
        let open = fs::read_dir(format!("/proc/{}/fd", daemon.pid())).unwrap();
        let links = open.filter_map(|entry| fs::read_link(entry.unwrap().path()).ok());
        links
            .filter(|link| link.to_string_lossy().starts_with("socket:"))
            .count()
    };
    first_token(&daemon);
    let watches: Vec<Watch> = (0..10)
        .map(|_| {
            let mut watch = Watch::start(&daemon, "/v1/watch/data", &[]);
            watch.token();
            watch
        })
        .collect();
    let during = sockets();
    drop(watches);
    crate::common::wait::until(|| {
        let now = sockets();
        (now + 10 <= during).then_some(()).ok_or((now, during))
    });
}

#[test]
fn request_sent_during_a_watch_is_not_answered_within_the_stream() {
    let (_sandbox, daemon) = sandbox_and_daemon(Duration::from_secs(3));
    let mut watch = Watch::start(&daemon, "/v1/watch/data", &[]);
    watch.token();
    watch.connection.send(head("GET", "/livez", &[]));
    // Either the stream goes on, or the connection ends.
    let rest = loop {
        match watch.next() {
            Some(fields) if fields.get("event").is_some_and(|event| event == "token") => {
                break None;
            }
            Some(_) => {}
            None => break Some(watch.connection.read_to_end()),
        }
    };
    assert!(rest.is_none_or(|rest| !rest.starts_with(b"HTTP/1.1 200")));
}

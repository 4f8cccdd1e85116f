//! `src/server/http/openapi.json` against the daemon: each documented response is sent and has its documented form, and
//! no other response is sent.

mod document;
pub(crate) mod exchange;

use std::collections::BTreeSet;
use std::fs;
use std::io::Write;
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::Once;
use std::thread;
use std::time::Duration;

use crate::common::wait::until;
use crate::common::{Daemon, HOUR, config_text, sandbox};
use document::{Document, Operation};
use domo_sandbox::{Fault, Sandbox};
use exchange::{Response, connect, exchange, exchange_until, get, request};
use serde_json::{Value, json};

/// The HTTP connections that a user may have.
const CONNECTIONS: usize = 32;

/// Returns a path with values in place of its parameters.
fn target(path: &str) -> String {
    path.replace("{SCOPES}", "data").replace("{CLIENT}", "acme")
}

/// Sends requests, checks the responses, and records which are seen.
struct Recorder {
    document: Document,
    seen: BTreeSet<Operation>,
    kinds: BTreeSet<String>,
    /// The title and the detail of each problem, by `in_general`.
    texts: BTreeSet<(String, String)>,
}

impl Recorder {
    fn new() -> Self {
        Self {
            document: Document::read(),
            seen: BTreeSet::new(),
            kinds: BTreeSet::new(),
            texts: BTreeSet::new(),
        }
    }

    /// Sends a request, and checks that the response has this status and its documented form.
    #[track_caller]
    fn send(&mut self, socket: &Path, path: &str, method: &str, request: &str, status: u16) {
        let is_enough = |received: &str| path.starts_with("/v1/watch/") && is_event(received);
        let response = exchange_until(socket, request, is_enough);
        assert_eq!(response.status, status, "{request}: {response:?}");
        self.record(path, method, &response);
    }

    /// Checks a response.
    #[track_caller]
    fn record(&mut self, path: &str, method: &str, response: &Response) {
        self.document.check_response(path, method, response);
        self.record_kind(response);
        let operation = (path.to_owned(), method.to_owned(), response.status);
        self.seen.insert(operation);
    }

    fn record_kind(&mut self, response: &Response) {
        if response.header("Content-Type") == Some("application/problem+json")
            && let Ok(problem) = serde_json::from_slice::<Value>(&response.body)
        {
            let kind = problem["type"].as_str().unwrap();
            let kind = kind.strip_prefix("urn:domo-token:").unwrap();
            self.kinds.insert(kind.to_owned());
            self.texts.insert(in_general(&problem));
        }
    }

    /// Sends such a request by each method of a path.
    #[track_caller]
    fn send_each(&mut self, socket: &Path, path: &str, target: &str, lines: &[&str], status: u16) {
        for method in self.document.methods(path) {
            let request = request(&method, target, lines);
            self.send(socket, path, &method, &request, status);
        }
    }
}

/// Returns the title and the detail of a problem, without quoted names, numbers, and what Domo answered.
fn in_general(problem: &Value) -> (String, String) {
    let text = |field| problem[field].as_str().unwrap();
    let (own, _) = text("detail")
        .split_once("Domo returned")
        .unwrap_or((text("detail"), ""));
    let own: Vec<&str> = own.split('"').step_by(2).collect();
    let own = own.join("\"\"").replace(|c: char| c.is_ascii_digit(), "");
    (text("title").to_owned(), own)
}

/// Returns whether an event is complete.
fn is_event(received: &str) -> bool {
    let body = received.split_once("\r\n\r\n").map(|(_, body)| body);
    body.is_some_and(|body| body.contains("event: ") && body.contains("\n\n"))
}

const TOKEN: &str = "/v1/token/{SCOPES}";
const READY: &str = "/readyz/{CLIENT}/{SCOPES}";

/// A daemon with a token for `data`. Nobody may have its token for `user`.
fn serving(sandbox: &Sandbox) -> Daemon {
    let uid = fs::metadata("/proc/self").unwrap().uid();
    let rules = format!("[clients.acme.access]\ndata = {{ users = [{uid}] }}\n");
    let config = config_text(sandbox, "[\"data\", \"user\"]") + &rules;
    let daemon = Daemon::start(&config);
    until(|| match get(&daemon.socket(), "/readyz").status {
        200 => Ok(()),
        status => Err(status),
    });
    daemon
}

/// Responses that are the same for all paths.
fn send_to_all_paths(recorder: &mut Recorder, socket: &Path) {
    for path in recorder.document.paths() {
        let target = target(&path);
        recorder.send_each(socket, &path, &target, &[], 200);
        recorder.send_each(socket, &path, &format!("{target}?nosuch=1"), &[], 400);
        recorder.send_each(socket, &path, &target, &["Origin: http://localhost"], 403);
        recorder.send_each(socket, &path, &target, &["A: b"; 65], 431);
        for method in recorder.document.methods(&path) {
            let request = format!("{method} {target} HTTP/1.0\r\nHost: localhost\r\n\r\n");
            recorder.send(socket, &path, &method, &request, 505);
        }
    }
    let _connections = reach_limit(socket);
    for path in recorder.document.paths() {
        recorder.send_each(socket, &path, &target(&path), &[], 429);
    }
}

/// Returns as many connections with part of a request as a user may have.
fn reach_limit(socket: &Path) -> Vec<UnixStream> {
    until(|| {
        // Connections of earlier requests may not have ended yet, so some of these may be rejected.
        let open = || {
            let mut stream = connect(socket);
            stream.write_all(b"GET /").unwrap();
            stream
        };
        let connections: Vec<_> = (0..CONNECTIONS).map(|_| open()).collect();
        match get(socket, "/livez").status {
            429 => Ok(connections),
            status => Err(status),
        }
    })
}

fn send_tokens(recorder: &mut Recorder, socket: &Path) {
    let tag = get(socket, "/v1/token/data");
    let tag = format!("If-None-Match: {}", tag.header("ETag").unwrap());
    recorder.send_each(socket, TOKEN, "/v1/token/data", &[&tag], 304);
    for format in ["json", "token", "header"] {
        let target = format!("/v1/token/data?format={format}");
        recorder.send_each(socket, TOKEN, &target, &[], 200);
    }
    for path in [TOKEN, "/v1/watch/{SCOPES}"] {
        let user = path.replace("{SCOPES}", "user");
        recorder.send_each(socket, path, &user, &[], 403);
        let unknown = target(path) + "?client=nosuch";
        recorder.send_each(socket, path, &unknown, &[], 404);
    }
    recorder.send_each(socket, TOKEN, "/v1/token/audit", &[], 404);
    recorder.send_each(socket, TOKEN, "/v1/token/data?min_ttl=2h", &[], 409);
    recorder.send_each(socket, TOKEN, "/v1/token/data?min-ttl=90s", &[], 400);
    recorder.send_each(socket, READY, "/readyz/acme/audit", &[], 404);
    let explain = "/v1/explain/{SCOPES}";
    for scopes in ["data", "user", "audit"] {
        let target = explain.replace("{SCOPES}", scopes);
        recorder.send_each(socket, explain, &target, &[], 200);
    }
}

/// Responses of a daemon that waits for its first token until the scope set is removed.
fn send_without_a_token(recorder: &mut Recorder) {
    let sandbox = sandbox(HOUR);
    sandbox.always(Fault::hang());
    let mut daemon = Daemon::start(&config_text(&sandbox, "[\"data\", \"user\"]"));
    let socket = daemon.socket();
    recorder.send_each(&socket, TOKEN, "/v1/token/data?timeout=0", &[], 503);
    recorder.send_each(&socket, "/readyz", "/readyz", &[], 503);
    recorder.send_each(&socket, READY, "/readyz/acme/data", &[], 503);
    let methods = recorder.document.methods(TOKEN);
    let waiting = methods.into_iter().map(|method| {
        let (socket, sent) = (
            socket.clone(),
            request(&method, "/v1/token/user?timeout=60s", &[]),
        );
        (method, thread::spawn(move || exchange(&socket, &sent)))
    });
    let waiting: Vec<_> = waiting.collect();
    // The log has a line for each token request: for those above, and for those that wait.
    for _ in 0..2 * waiting.len() {
        daemon.wait_for_log("request=token");
    }
    daemon.write("config.toml", &config_text(&sandbox, "[\"data\"]"));
    daemon.reload();
    for (method, response) in waiting {
        let response = response.join().unwrap();
        assert_eq!(response.status, 410, "{response:?}");
        recorder.record(TOKEN, &method, &response);
    }
    sandbox.recover();
}

fn send_while_domo_fails(recorder: &mut Recorder) {
    let sandbox = sandbox(HOUR);
    sandbox.always(Fault::status(503));
    let daemon = Daemon::start(&config_text(&sandbox, "[\"data\"]"));
    let target = "/v1/token/data?timeout=0";
    until(|| {
        let body = get(&daemon.socket(), target).body;
        let body = String::from_utf8(body).unwrap();
        if body.contains("Domo returned") {
            Ok(())
        } else {
            Err(body)
        }
    });
    recorder.send_each(&daemon.socket(), TOKEN, target, &[], 503);
}

/// Problems that belong to no documented operation.
fn send_to_no_operation(recorder: &mut Recorder, socket: &Path) {
    let document = Document::read();
    let mut check = |response: &Response, status: u16| {
        assert_eq!(response.status, status, "{response:?}");
        let body = serde_json::from_slice(&response.body).unwrap();
        document.check("/components/schemas/Problem", &body);
        recorder.record_kind(response);
    };
    check(&get(socket, "/v2/token/data"), 404);
    for path in document.paths() {
        let response = exchange(socket, &request("DELETE", &target(&path), &[]));
        check(&response, 405);
        let allowed = response.header("Allow").unwrap();
        assert_eq!(allowed.replace(' ', ""), document.methods(&path).join(","));
    }
}

#[test]
fn each_documented_response_is_sent_and_has_its_form() {
    let mut recorder = Recorder::new();
    let sandbox = sandbox(HOUR);
    let daemon = serving(&sandbox);
    let socket = daemon.socket();
    send_to_no_operation(&mut recorder, &socket);
    send_tokens(&mut recorder, &socket);
    send_to_all_paths(&mut recorder, &socket);

    let rejected = Daemon::start(&config_text(&sandbox, "[\"nosuch\"]"));
    recorder.send_each(&rejected.socket(), TOKEN, "/v1/token/nosuch", &[], 424);
    send_while_domo_fails(&mut recorder);
    send_without_a_token(&mut recorder);

    let documented = recorder.document.operations();
    let missing: Vec<_> = documented.difference(&recorder.seen).collect();
    // Only a bug or a blocked process causes these.
    let is_unreachable =
        |(path, _, status): &Operation| *status == 500 || path == "/livez" && *status == 503;
    let (unreachable, missing): (Vec<_>, Vec<_>) = missing
        .into_iter()
        .partition(|operation| is_unreachable(operation));
    assert!(missing.is_empty(), "{missing:#?}");
    assert!(!unreachable.is_empty());
    let mut kinds = recorder.document.kinds();
    assert!(kinds.remove("bug"));
    assert_eq!(recorder.kinds, kinds);

    for example in recorder.document.examples() {
        // A bug is not sent. `not_permitted` begins with the caller.
        let is_reachable =
            example["type"].is_string() && ![json!(500), json!(403)].contains(&example["status"]);
        let is_sent = || recorder.texts.contains(&in_general(&example));
        assert!(
            !is_reachable || is_sent(),
            "{example} is none of {:#?}",
            recorder.texts
        );
    }
}

/// Returns the data of the events of that name.
fn data_of(events: &str, name: &str) -> Vec<Value> {
    let events = events.split("\n\n");
    let named = events.filter(|event| event.lines().any(|line| line == format!("event: {name}")));
    named
        .map(|event| {
            let data = event.lines().find_map(|line| line.strip_prefix("data: "));
            serde_json::from_str(data.unwrap()).unwrap()
        })
        .collect()
}

#[test]
fn events_of_a_watch_have_their_documented_form() {
    let sandbox = sandbox(Duration::from_secs(2));
    let daemon = Daemon::start(&config_text(&sandbox, "[\"data\", \"user\"]"));
    let fail = Once::new();
    let remove = Once::new();
    let request = request("GET", "/v1/watch/data", &[]);
    let response = exchange_until(&daemon.socket(), &request, |events| {
        if events.contains("event: token\n") {
            fail.call_once(|| sandbox.always(Fault::status(503)));
        }
        if events.contains("event: unavailable\n") {
            remove.call_once(|| {
                daemon.write("config.toml", &config_text(&sandbox, "[\"user\"]"));
                daemon.signal("-HUP");
            });
        }
        false
    });
    let events = String::from_utf8(response.body).unwrap();
    let document = Document::read();
    for (name, schema) in [
        ("token", "Token"),
        ("unavailable", "UnavailableEvent"),
        ("gone", "GoneEvent"),
    ] {
        let found = data_of(&events, name);
        assert!(!found.is_empty(), "no {name} in {events}");
        for data in found {
            document.check(&format!("/components/schemas/{schema}"), &data);
        }
    }
}

#[test]
fn documented_parameters_are_accepted_with_their_examples() {
    let document = Document::read();
    let sandbox = sandbox(HOUR);
    let daemon = serving(&sandbox);
    let socket: PathBuf = daemon.socket();
    let mut count = 0;
    for path in document.paths() {
        for parameter in document.parameters(&path, "query") {
            let schema = &parameter["schema"];
            let values = [
                &parameter["example"],
                &schema["default"],
                &schema["minimum"],
            ];
            let listed = schema["enum"].as_array().into_iter().flatten();
            for value in values.into_iter().chain(listed) {
                if value.is_null() {
                    continue;
                }
                let value = value
                    .as_str()
                    .map_or_else(|| value.to_string(), str::to_owned);
                let target = format!(
                    "{}?{}={value}",
                    target(&path),
                    parameter["name"].as_str().unwrap()
                );
                let sent = request("GET", &target, &[]);
                let response = exchange_until(&socket, &sent, is_event);
                assert_eq!(response.status, 200, "{target}: {response:?}");
                count += 1;
            }
        }
    }
    assert!(count >= 8, "{count}");
}

#[test]
fn query_keys_are_documented_on_both_pages() {
    let document = Document::read();
    let page = include_str!("../../docs/http.md");
    let sandbox = sandbox(HOUR);
    let daemon = serving(&sandbox);
    for path in document.paths() {
        let response = get(&daemon.socket(), &(target(&path) + "?nosuch=1"));
        let problem: Value = serde_json::from_slice(&response.body).unwrap();
        let (_, known) = problem["detail"]
            .as_str()
            .unwrap()
            .split_once("this path has ")
            .unwrap();
        let documented = document.parameters(&path, "query");
        let documented: Vec<_> = documented
            .iter()
            .map(|parameter| parameter["name"].as_str().unwrap())
            .collect();
        let expected = if documented.is_empty() {
            "none".to_owned()
        } else {
            documented.join(", ")
        };
        assert_eq!(known, expected, "{path}");
        for key in documented {
            assert!(page.contains(&format!("| `{key}` | ")), "{key}");
        }
    }
}

#[test]
fn examples_match_their_schemas() {
    let count = Document::read().check_examples();
    assert!(count > 30, "{count}");
}

#[test]
fn undocumented_field_kind_and_status_are_found() {
    let fails = |schema: &str, text: &str| {
        let value: Value = serde_json::from_str(text).unwrap();
        let check = || Document::read().check(&format!("/components/schemas/{schema}"), &value);
        std::panic::catch_unwind(check).is_err()
    };
    assert!(!fails("GoneEvent", r#"{"detail": "a"}"#));
    assert!(fails("GoneEvent", r#"{"detail": "a", "more": 1}"#));
    assert!(fails("GoneEvent", "{}"));
    let problem = |kind: &str, status: u16| {
        let problem = format!(
            r#"{{"type": "urn:domo-token:{kind}", "title": "a", "status": {status}, "detail": "a", "exit_code": 75}}"#
        );
        fails("Problem", &problem)
    };
    assert!(!problem("busy", 429));
    assert!(problem("busy", 503));
    assert!(problem("nosuch", 429));
}

#[test]
fn http_page_lists_each_path_and_kind() {
    let page = include_str!("../../docs/http.md");
    let document = Document::read();
    for path in document.paths() {
        assert!(page.contains(&format!("| `{path}` | ")), "{path}");
    }
    for (kind, status, exit_code) in document.problems() {
        let row = format!("| `{kind}` | {status} | {exit_code} | ");
        assert!(page.contains(&row), "{row}");
    }
}

#[test]
fn served_document_is_the_file() {
    let sandbox = sandbox(HOUR);
    let daemon = Daemon::start(&config_text(&sandbox, "[\"data\"]"));
    let served = get(&daemon.socket(), "/v1/openapi.json");
    assert!(served.body == document::TEXT.as_bytes());
}

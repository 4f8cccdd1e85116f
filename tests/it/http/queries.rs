//! Status, explanation, metrics, health, and the `OpenAPI` document.

use std::collections::{BTreeMap, BTreeSet};

use super::tokens::assert_same;
use super::{first_token, get, get_with, helper_json, without_pid};
use crate::common::{
    CANARY_SECRET, CLIENT_ID, Daemon, HOUR, client_text, config_text, metrics, parts, sandbox,
    sandbox_and_daemon,
};
use domo_sandbox::Fault;
use serde_json::Value;

const TIMES: [&str; 6] = [
    "started_at",
    "config_loaded_at",
    "obtained_at",
    "expires_at",
    "next_attempt_at",
    "last_error_at",
];

/// Returns an explanation with the process id of its caller replaced.
fn explanation(mut json: Value) -> Value {
    for (_, value) in json.as_object_mut().unwrap() {
        if let Some(text) = value.as_str() {
            *value = without_pid(text).into();
        }
    }
    json
}

#[test]
fn status_equals_that_of_the_helper() {
    let sandbox = sandbox(HOUR);
    let config = config_text(&sandbox, "[\"data\", \"nosuch\"]")
        + &client_text("beta", &sandbox, "[\"user\"]");
    let mut daemon = Daemon::start(&config);
    first_token_of(&daemon, "acme", "data");
    first_token_of(&daemon, "beta", "user");
    daemon.wait_for_log("cause=denied");
    let expected = helper_json(&daemon, &["status", "--json"]);
    let answer = get(&daemon, "/v1/status");
    let json = answer.json();
    assert_same(&json, &expected, &TIMES);
    assert_eq!(json["broker"]["pid"], daemon.pid());
    assert_eq!(json["tokens"].as_array().unwrap().len(), 3);
    assert!(!answer.text().contains(CLIENT_ID) && !answer.text().contains("eyJ"));
}

#[track_caller]
fn first_token_of(daemon: &Daemon, client: &str, scopes: &str) {
    let answer = get(daemon, &format!("/v1/token/{scopes}?client={client}"));
    assert_eq!(answer.status, 200, "{}", answer.text());
}

#[test]
fn explanation_equals_that_of_the_helper() {
    let sandbox = sandbox(HOUR);
    let config = "[broker]\ndefault_client = \"acme\"\n".to_owned()
        + &config_text(&sandbox, "[\"data\", \"data user\"]")
        + &client_text("beta", &sandbox, "[\"user\"]")
        + "[clients.beta.access]\nuser = { users = [0] }\n";
    let daemon = Daemon::start(&config);
    for (target, arguments) in [
        ("/v1/explain/data", &["data"][..]),
        ("/v1/explain/user,data", &["data", "user"]),
        ("/v1/explain/data%20user", &["data", "user"]),
        ("/v1/explain/nosuch", &["nosuch"]),
        ("/v1/explain/data?client=nobody", &["-c", "nobody", "data"]),
        ("/v1/explain/user?client=beta", &["-c", "beta", "user"]),
        ("/v1/explain/data?client=beta", &["-c", "beta", "data"]),
    ] {
        let json = explanation(get(&daemon, target).json());
        let arguments = [&["--explain", "--json"], arguments].concat();
        let expected = explanation(helper_json(&daemon, &arguments));
        assert_eq!(json, expected, "{target}");
        for field in ["client", "scope", "decision", "rule", "seen_as"] {
            assert!(json.get(field).is_some(), "{field} in {json}");
        }
    }
}

#[test]
fn metrics_equal_those_of_the_helper() {
    let (_sandbox, daemon) = sandbox_and_daemon(HOUR);
    first_token(&daemon);
    let answer = get(&daemon, "/metrics");
    assert_eq!(answer.status, 200);
    let (_, expected, _) = parts(&daemon.ask(&["status", "--metrics"]));
    let samples = |text: &str| -> BTreeMap<String, f64> {
        let lines = text.lines().filter(|line| !line.starts_with('#'));
        let pairs = lines.map(|line| line.rsplit_once(' ').unwrap());
        pairs
            .map(|(name, value)| (name.to_owned(), value.parse().unwrap()))
            .collect()
    };
    let (ours, theirs) = (samples(answer.text()), samples(&expected));
    let names = |samples: &BTreeMap<String, f64>| samples.keys().cloned().collect::<Vec<_>>();
    assert_eq!(names(&ours), names(&theirs));
    assert!(ours.len() >= 10, "{ours:?}");
    for (name, value) in &ours {
        // Times are computed for each response, and the other values do not change in between.
        let difference = (value - theirs[name]).abs();
        let most = if name.contains("_seconds") || name == "domo_token_connections" {
            1.0
        } else {
            0.0
        };
        assert!(difference <= most, "{name}: {value}, {}", theirs[name]);
    }
    let comments = |text: &str| -> Vec<String> {
        let lines = text.lines().filter(|line| line.starts_with('#'));
        lines.map(str::to_owned).collect()
    };
    assert_eq!(comments(answer.text()), comments(&expected));
}

#[test]
fn metrics_and_health_equal_those_of_the_metrics_port() {
    let sandbox = sandbox(HOUR);
    let (daemon, port) = metrics::start(&config_text(&sandbox, "[\"data\", \"nosuch\"]"));
    first_token(&daemon);
    for path in [
        "/livez",
        "/readyz",
        "/readyz/acme/data",
        "/readyz/acme/nosuch",
        "/metrics",
    ] {
        let (status, body) = metrics::get(metrics::connect(port), path);
        let answer = get(&daemon, path);
        assert_eq!(answer.status, status, "{path}");
        if path != "/metrics" {
            assert_eq!(answer.text(), body, "{path}");
        }
    }
    let kind = |accept: &str| {
        let mut stream = metrics::connect(port);
        let request =
            format!("GET /metrics HTTP/1.1\r\nHost: localhost\r\nAccept: {accept}\r\n\r\n");
        std::io::Write::write_all(&mut stream, request.as_bytes()).unwrap();
        let mut answer = String::new();
        std::io::Read::read_to_string(&mut stream, &mut answer).unwrap();
        let line = answer
            .lines()
            .find(|line| line.to_lowercase().starts_with("content-type:"));
        line.unwrap().split_once(": ").unwrap().1.to_owned()
    };
    for accept in [
        "*/*",
        "text/plain",
        "application/openmetrics-text; version=1.0.0",
    ] {
        let answer = get_with(&daemon, "/metrics", &[("Accept", accept)]);
        assert_eq!(
            answer.header("content-type").unwrap(),
            kind(accept),
            "{accept}"
        );
    }
}

#[test]
fn readiness_covers_each_scope_set_and_follows_its_token() {
    let sandbox = sandbox(HOUR);
    sandbox.always(Fault::status(503));
    let daemon = Daemon::start(&config_text(&sandbox, "[\"data\", \"data user\"]"));
    assert_eq!(get(&daemon, "/livez").text(), "live\n");
    let answer = get(&daemon, "/readyz");
    assert_eq!(answer.status, 503);
    for set in ["acme/data", "acme/data user"] {
        assert!(answer.text().contains(set), "{}", answer.text());
    }
    assert_eq!(get(&daemon, "/readyz/acme/data").status, 503);
    sandbox.recover();
    daemon.signal("-HUP");
    first_token_of(&daemon, "acme", "data");
    first_token_of(&daemon, "acme", "data,user");
    let answer = get(&daemon, "/readyz");
    assert_eq!((answer.status, answer.text()), (200, "ready\n"));
    for path in ["data", "user,data", "data%20user"] {
        let answer = get(&daemon, &format!("/readyz/acme/{path}"));
        assert_eq!((answer.status, answer.text()), (200, "ready\n"), "{path}");
    }
    for path in ["/readyz/acme/nosuch", "/readyz/nobody/data", "/readyz/"] {
        assert_eq!(get(&daemon, path).status, 404, "{path}");
    }
}

#[test]
fn text_of_health_ends_with_one_newline() {
    let sandbox = sandbox(HOUR);
    sandbox.always(Fault::status(503));
    let daemon = Daemon::start(&config_text(&sandbox, "[\"data\"]"));
    for path in ["/livez", "/readyz", "/readyz/acme/data", "/metrics"] {
        let answer = get(&daemon, path);
        let kind = answer.header("content-type").unwrap_or_default();
        if kind == "application/problem+json" {
            continue;
        }
        let text = answer.text();
        assert!(
            text.ends_with('\n') && !text.ends_with("\n\n"),
            "{path}: {text:?}"
        );
    }
}

#[test]
fn status_and_metrics_of_many_scope_sets_are_complete() {
    let sandbox = sandbox(HOUR);
    sandbox.always(Fault::hold());
    let sets: Vec<String> = (0..300).map(|number| format!("scope{number:03}")).collect();
    let daemon = Daemon::start(&config_text(&sandbox, &format!("{sets:?}")));
    let status = get(&daemon, "/v1/status").json();
    let shown = status["tokens"].as_array().unwrap().iter();
    let shown: BTreeSet<&str> = shown.map(|set| set["scope"].as_str().unwrap()).collect();
    assert_eq!(shown, sets.iter().map(String::as_str).collect());
    assert_eq!(status["tokens"].as_array().unwrap().len(), sets.len());
    let metrics = get(&daemon, "/metrics");
    for scope in &sets {
        assert!(
            metrics.text().contains(&format!("scope=\"{scope}\"")),
            "{scope}"
        );
    }
    let ready = get(&daemon, "/readyz");
    assert_eq!(ready.text().lines().count(), sets.len());
}

#[test]
fn openapi_document_describes_each_path_and_holds_no_secret() {
    let (_sandbox, daemon) = sandbox_and_daemon(HOUR);
    let (token, _) = first_token(&daemon);
    let answer = get(&daemon, "/v1/openapi.json");
    let document = answer.json();
    let version = document["openapi"].as_str().unwrap();
    assert!(version.starts_with("3.1"), "{version}");
    let paths = document["paths"].as_object().unwrap();
    let shapes: BTreeSet<String> = paths
        .keys()
        .map(|path| {
            let parts = path
                .split('/')
                .map(|part| if part.starts_with('{') { "*" } else { part });
            parts.collect::<Vec<_>>().join("/")
        })
        .collect();
    let expected = [
        "/v1/token/*",
        "/v1/watch/*",
        "/v1/status",
        "/v1/explain/*",
        "/metrics",
        "/livez",
        "/readyz",
        "/readyz/*/*",
        "/v1/openapi.json",
    ];
    assert_eq!(shapes, expected.map(str::to_owned).into());
    for (path, item) in paths {
        assert!(item.get("get").is_some(), "{path}");
        let has_head = item.get("head").is_some();
        assert!(!(has_head && path.starts_with("/v1/watch")), "{path}");
        let responses = item["get"]["responses"].as_object().unwrap();
        assert!(responses.contains_key("200"), "{path}");
        assert!(!responses.contains_key("401"), "{path}");
        let expected: &[&str] = if path.starts_with("/v1/token/") {
            &[
                "304", "400", "403", "404", "409", "410", "424", "429", "503",
            ]
        } else if path.starts_with("/v1/watch/") {
            &["400", "403", "404", "429"]
        } else {
            &["400", "403"]
        };
        for status in expected {
            assert!(responses.contains_key(*status), "{path} {status}");
        }
    }
    let (_, item) = paths
        .iter()
        .find(|(path, _)| path.starts_with("/v1/token/"))
        .unwrap();
    let of_path = [&item["parameters"], &item["get"]["parameters"]];
    let of_path = of_path.into_iter().filter_map(Value::as_array).flatten();
    let names: BTreeSet<&str> = of_path
        .map(|parameter| match parameter["$ref"].as_str() {
            Some(reference) => document.pointer(&reference[1..]).unwrap(),
            None => parameter,
        })
        .filter(|parameter| parameter["in"] == "query")
        .map(|parameter| parameter["name"].as_str().unwrap())
        .collect();
    let expected = ["client", "format", "min_ttl", "rejected", "timeout"];
    assert_eq!(names, expected.into());
    let text = answer.text();
    assert!(!text.contains(&token) && !text.contains(CANARY_SECRET) && !text.contains(CLIENT_ID));
}

//! Rust apps: the one of the client's README during restarts and a revocation, and how an authorizer handles Domo's
//! responses.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::Duration;

use crate::common::wait::until;
use crate::common::{Daemon, HOUR, PATIENCE, config_text, sandbox, sandbox_and_daemon};
use domo_sandbox::{Fault, Recorded, Sandbox};
use domo_token_client::reqwest::{Authorizer, blocking};
use domo_token_client::{Broker, ErrorKind, tokio as on_tokio};
use reqwest::StatusCode;
use reqwest::header::{ACCEPT, AUTHORIZATION, HeaderValue};

/// The app of the README.
mod readme {

    include!("../../examples/app/readme.rs");

    pub(crate) fn run() {
        main().unwrap();
    }
}

/// Three of these are 18 s.
const LIFETIME: Duration = Duration::from_secs(6);

/// The shortest floor between two requests for one scope set.
const FLOOR: Duration = Duration::from_secs(1);

/// reqwest has no TLS provider here, and requires one even for plain HTTP.
fn choose_tls() {
    // Another test may have installed it.
    let _ = rustls::crypto::ring::default_provider().install_default();
}

#[test]
#[ignore = "runs for ever: it is started as a process of its own by the next one"]
fn the_app() {
    choose_tls();
    readme::run();
}

/// The app as a process, and what it prints about its calls.
struct App {
    child: Child,
    calls: Receiver<String>,
}

impl App {
    fn start(daemon: &Daemon, sandbox: &Sandbox) -> Self {
        // The URL is the first argument, where the app reads it; the harness takes it for another name of a test.
        let url = sandbox.url("/v1/datasets");
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args([&url, "app::the_app", "--exact", "--ignored", "--nocapture"])
            .env("DOMO_TOKEN_SOCKET", daemon.socket())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let stdout = BufReader::new(child.stdout.take().unwrap());
        let (sender, calls) = channel();
        thread::spawn(move || {
            let calls = stdout.lines().map_while(Result::ok);
            // Skips the output of the harness.
            for call in calls.filter(|line| line.contains('(')) {
                if sender.send(call).is_err() {
                    return;
                }
            }
        });
        Self { child, calls }
    }

    /// Waits for that many more calls, all of which must succeed.
    fn assert_calls_succeed(&self, count: usize) {
        for _ in 0..count {
            let call = self.calls.recv_timeout(PATIENCE).unwrap();
            assert!(call.ends_with("Ok(200)"), "{call}");
        }
    }

    /// Kills it and returns how many calls it had not printed; all must have succeeded.
    fn end(mut self) -> usize {
        assert!(self.child.try_wait().unwrap().is_none(), "still runs");
        self.child.kill().unwrap();
        self.child.wait().unwrap();
        let calls: Vec<String> = self.calls.iter().collect();
        // The last line may be incomplete.
        let whole = calls.len().saturating_sub(1);
        for call in &calls[..whole] {
            assert!(call.ends_with("Ok(200)"), "{call}");
        }
        whole
    }
}

/// How much a request may catch up with the one before it on its way.
const JITTER: Duration = Duration::from_millis(100);

/// Returns the requests that no due renewal explains. A daemon's second request may start after 0.4 of a lifetime,
/// later ones after 0.7.
fn early(requests: &[Recorded], firsts: &[usize]) -> usize {
    let due = |number: usize| {
        let part = if firsts.contains(&(number - 1)) {
            0.4
        } else {
            0.7
        };
        LIFETIME.mul_f64(part)
    };
    let between = |number: usize| requests[number].at.saturating_sub(requests[number - 1].at);
    let numbers = 1..requests.len();
    numbers
        .filter(|&number| between(number) + JITTER < due(number))
        .count()
}

fn resource_refusals(sandbox: &Sandbox) -> usize {
    let calls = sandbox.resource_calls();
    calls.iter().filter(|call| call.status == 401).count()
}

#[test]
fn readme_app_has_no_failed_call_during_two_restarts_and_a_revocation() {
    let (sandbox, mut daemon) = sandbox_and_daemon(LIFETIME);
    let app = App::start(&daemon, &sandbox);
    app.assert_calls_succeed(100);
    let mut firsts = vec![0];

    let restart = |daemon: &mut Daemon, firsts: &mut Vec<usize>, signal: &str| {
        daemon.restart(signal);
        // From here on the app has the new daemon's token.
        daemon.wait_for_log("request=token");
        let own = daemon.status_of("data")["requests"].as_u64().unwrap();
        firsts.push(sandbox.requests().len() - usize::try_from(own).unwrap());
    };
    restart(&mut daemon, &mut firsts, "-TERM");
    let seen = sandbox.requests();
    sandbox.revoke(seen.last().unwrap().token.as_ref().unwrap());
    sandbox.wait_for_requests(seen.len() + 1, PATIENCE).unwrap();
    restart(&mut daemon, &mut firsts, "-KILL");

    let begun = sandbox.requests()[0].at;
    let mut seen = sandbox.requests();
    while seen[seen.len() - 1].at < begun + LIFETIME * 3 {
        seen = sandbox.wait_for_requests(seen.len() + 1, PATIENCE).unwrap();
    }
    let calls = app.end();
    assert!(calls > 100, "{calls}");
    let refused = resource_refusals(&sandbox);
    assert!((1..=8).contains(&refused), "{refused} of 8 threads");
    // Counts rounds: starts of a daemon, due renewals, and the revocation. The two restarts and the revocation are
    // the requests that are not due.
    let requests = sandbox.requests();
    assert!(requests.iter().all(|request| request.status == Some(200)));
    let early = early(&requests, &firsts);
    assert!(early <= 3, "{early} of {requests:?}");
    // The daemon sees eight threads as one caller.
    let (_, log) = daemon.stop();
    let last = log.matches("request=token").count();
    let rounds = requests.len() - firsts[2];
    assert!(last <= rounds + 1, "{last} in {rounds} rounds");
    print_figures(&format!(
        "{} calls, {refused} refused and made again; {} requests, {early} of them for the restarts \
         and the revocation; the last daemon had {last} requests in {rounds} rounds",
        calls + 100,
        requests.len(),
    ));
}

fn print_figures(line: &str) {
    eprintln!("{line}");
}

#[test]
fn readme_shows_the_tested_app() {
    let (readme, app) = (
        include_str!("../../crates/client/README.md"),
        include_str!("../../examples/app/readme.rs"),
    );
    assert!(readme.contains(app));
}

/// A daemon, a blocking authorizer for it, and an HTTP client.
fn blocking_app(
    sandbox: &Sandbox,
) -> (
    Daemon,
    Broker,
    blocking::Authorizer,
    reqwest::blocking::Client,
) {
    choose_tls();
    let daemon = Daemon::start(&config_text(sandbox, "[\"data\"]"));
    let broker = daemon.broker().with_timeout(PATIENCE);
    let domo = blocking::Authorizer::new(&broker, "data").unwrap();
    let http = reqwest::blocking::Client::builder()
        .no_proxy()
        .build()
        .unwrap();
    (daemon, broker, domo, http)
}

#[test]
fn rejected_token_is_renewed_and_the_request_repeated_for_json_and_csv() {
    let sandbox = sandbox(Duration::from_secs(20));
    let (_daemon, broker, domo, http) = blocking_app(&sandbox);
    let url = sandbox.url("/v1/datasets");
    for (kinds, refusal) in [("application/json", 401), ("text/csv", 406)] {
        let first = broker.token("data").unwrap();
        sandbox.revoke(first.secret());
        let before = sandbox.resource_calls().len();
        let answer = domo
            .send(http.get(&url).header(ACCEPT, kinds).body("again"))
            .unwrap();
        assert_eq!(answer.status(), StatusCode::OK);
        let seen: Vec<u16> = sandbox.resource_calls()[before..]
            .iter()
            .map(|call| call.status)
            .collect();
        assert_eq!(seen, [refusal, 200]);
        assert_ne!(
            broker.token("data").unwrap().generation(),
            first.generation()
        );
    }
    assert_eq!(sandbox.requests().len(), 3);
}

#[test]
fn body_that_cannot_be_resent_gets_the_401_and_the_next_call_a_new_token() {
    let sandbox = sandbox(Duration::from_secs(20));
    let (_daemon, broker, domo, http) = blocking_app(&sandbox);
    let url = sandbox.url("/v1/datasets");
    sandbox.revoke(broker.token("data").unwrap().secret());
    let stream = reqwest::blocking::Body::new(std::io::Cursor::new("rows"));
    let answer = domo.send(http.post(&url).body(stream)).unwrap();
    assert_eq!(answer.status(), StatusCode::UNAUTHORIZED);
    assert!(answer.text().unwrap().contains("invalid_token"), "as it is");
    assert_eq!(domo.send(http.get(&url)).unwrap().status(), StatusCode::OK);
    assert_eq!(resource_refusals(&sandbox), 1);
}

#[test]
fn domos_first_response_is_returned_when_no_other_token_is_available() {
    let sandbox = sandbox(HOUR);
    let (_daemon, broker, _, http) = blocking_app(&sandbox);
    let domo = blocking::Authorizer::new(&broker.with_timeout(FLOOR), "data").unwrap();
    sandbox.revoke(broker.token("data").unwrap().secret());
    sandbox.always(Fault::status(503));
    let answer = domo.send(http.get(sandbox.url("/v1/datasets"))).unwrap();
    assert_eq!(answer.status(), StatusCode::UNAUTHORIZED);
    assert_eq!(resource_refusals(&sandbox), 1);
}

#[test]
fn other_responses_and_errors_are_returned_unchanged() {
    let sandbox = sandbox(HOUR);
    let (daemon, broker, domo, http) = blocking_app(&sandbox);
    let answer = domo.send(http.get(sandbox.url("/v1/users"))).unwrap();
    assert_eq!(
        answer.status(),
        StatusCode::FORBIDDEN,
        "the scope is lacking"
    );
    let error = domo.send(http.get("http://127.0.0.1:1/")).unwrap_err();
    assert!(matches!(
        error,
        domo_token_client::reqwest::SendError::Http(_)
    ));
    let unknown = blocking::Authorizer::new(&broker, "nosuch").unwrap();
    let refused = unknown
        .send(http.get(sandbox.url("/v1/users")))
        .unwrap_err();
    let domo_token_client::reqwest::SendError::Token(error) = refused else {
        panic!("{refused}");
    };
    assert_eq!(error.kind(), ErrorKind::UnknownScope, "{error}");
    let error = blocking::Authorizer::new(&daemon.broker(), " ").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidScope, "{error}");
    assert_eq!(sandbox.requests().len(), 1);
}

#[test]
fn async_app_renews_a_rejected_token() {
    choose_tls();
    let (sandbox, daemon) = sandbox_and_daemon(Duration::from_secs(20));
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let broker = on_tokio::Broker::connect_to(daemon.socket()).await.unwrap();
        let broker = broker.with_timeout(PATIENCE);
        let domo = Authorizer::new(&broker, "data").unwrap();
        let http = reqwest::Client::builder().no_proxy().build().unwrap();
        let get = || http.get(sandbox.url("/v1/datasets"));
        assert_eq!(domo.send(get()).await.unwrap().status(), StatusCode::OK);
        sandbox.revoke(broker.token("data").await.unwrap().secret());
        let csv = get().header(ACCEPT, "text/csv");
        assert_eq!(domo.send(csv).await.unwrap().status(), StatusCode::OK);
        sandbox.revoke(broker.token("data").await.unwrap().secret());
        let stream = reqwest::Body::wrap(reqwest::Body::from("rows"));
        let answer = domo.send(get().body(stream)).await.unwrap();
        assert_eq!(answer.status(), StatusCode::UNAUTHORIZED);
        assert_eq!(domo.send(get()).await.unwrap().status(), StatusCode::OK);
    });
    assert_eq!(sandbox.requests().len(), 3);
}

#[test]
fn the_header_is_marked_as_sensitive() {
    let (_sandbox, daemon) = sandbox_and_daemon(HOUR);
    let token = daemon.broker().token("data").unwrap();
    let header = HeaderValue::try_from(token.authorization()).unwrap();
    assert!(header.is_sensitive());
    let mut headers = reqwest::header::HeaderMap::new();
    headers.insert(AUTHORIZATION, header);
    assert!(!format!("{headers:?}").contains(token.secret()));
}

#[test]
fn kept_scope_set_is_updated_across_a_daemon_restart() {
    let (_sandbox, mut daemon) = sandbox_and_daemon(LIFETIME);
    let broker = daemon.broker();
    broker.keep("data").unwrap();
    let first = broker.token("data").unwrap().generation();
    let changed_from = |old: u64| {
        until(|| {
            let now = broker.token("data").unwrap().generation();
            (now != old).then_some(now).ok_or("no other token is held")
        })
    };
    let second = changed_from(first);
    daemon.restart("-TERM");
    changed_from(second);
    let (_, log) = daemon.stop();
    assert!(!log.contains("request=token"), "no request");
}

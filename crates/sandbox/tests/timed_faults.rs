//! Faults that a builder sets for the whole run: delays, revocation, and failures from some time on.

mod common;

use std::thread;
use std::time::Duration;

use common::{Connection, GRANT, PATIENCE, ask, basic, resource, sandbox};
use domo_sandbox::{Builder, Fault, Sandbox};

/// Long enough for a few requests, and short enough to wait for.
const SHORT: Duration = Duration::from_millis(150);

const LONG: Duration = Duration::from_secs(3600);

fn builder() -> Builder {
    Sandbox::builder().client("id", "secret", &["data", "user"])
}

fn statuses(sandbox: &Sandbox, count: usize) -> Vec<u16> {
    let answers = (0..count).map(|_| ask(sandbox, "data").status());
    answers.collect()
}

/// Calls `attempt` every 5 ms until it returns true.
#[track_caller]
fn until(mut attempt: impl FnMut() -> bool) {
    let pause = Duration::from_millis(5);
    let mut attempts = PATIENCE.as_millis() / pause.as_millis();
    while !attempt() {
        attempts -= 1;
        assert!(attempts > 0, "not within {PATIENCE:?}");
        thread::park_timeout(pause);
    }
}

#[test]
fn each_response_is_delayed() {
    let sandbox = builder().delay(SHORT).start().unwrap();
    let token = ask(&sandbox, "data").token();
    let calls = ["/v1/datasets", "/nowhere", "/v1/datasets"];
    let calls = calls.map(|path| resource(&sandbox, path, &token).status());
    assert_eq!(calls, [200, 404, 200]);

    let request = &sandbox.requests()[0];
    assert!(request.answered_at.unwrap() >= request.at + SHORT);
    let calls = sandbox.resource_calls();
    assert!(calls[0].at >= request.at + SHORT);
    assert!(calls[1].at >= calls[0].at + 2 * SHORT, "404 too");
}

#[test]
fn delayed_token_has_its_whole_lifetime() {
    let sandbox = builder().delay(SHORT).lifetime(SHORT).start().unwrap();
    let answer = ask(&sandbox, "data");
    assert_eq!(answer.json()["expires_in"], 1, "rounded up");
}

#[test]
fn delayed_response_blocks_no_other_connection() {
    let sandbox = builder().delay(LONG).start().unwrap();
    let mut connections = [(); 3].map(|()| Connection::open(&sandbox.token_url()));
    for connection in &mut connections {
        connection.send("POST", "/oauth/token", &basic("id", "secret"), GRANT);
    }
    sandbox.wait_for_requests(3, PATIENCE).unwrap();
    assert!(connections[0].is_silent());
}

#[test]
fn tokens_are_rejected_that_long_after_their_issue() {
    let sandbox = builder().revoke_after(SHORT).start().unwrap();
    let answer = ask(&sandbox, "data");
    assert_eq!(answer.json()["expires_in"], 3599);
    until(|| resource(&sandbox, "/v1/datasets", &answer.token()).status() == 401);
    ask(&sandbox, "data");
    let [issued, next] = &sandbox.requests()[..] else {
        panic!("two token requests")
    };
    assert!(next.at >= issued.at + SHORT, "not rejected earlier");
    let answered_at = issued.answered_at.unwrap();
    let mut calls = sandbox.resource_calls();
    assert_eq!(calls.pop().unwrap().status, 401);
    for call in calls {
        let in_time = call.at < answered_at + SHORT;
        assert!(call.status == 200 && in_time, "{call:?}");
    }
}

#[test]
fn revocation_ends_only_tokens_that_are_old_enough() {
    let sandbox = builder().revoke_after(LONG).start().unwrap();
    let token = ask(&sandbox, "data").token();
    let status = || resource(&sandbox, "/v1/datasets", &token).status();
    assert_eq!(status(), 200);

    let at_once = builder().revoke_after(Duration::ZERO).start().unwrap();
    let token = ask(&at_once, "data").token();
    assert_eq!(resource(&at_once, "/v1/datasets", &token).status(), 401);
    // As `Duration::MAX` is more than the clock can hold, it never comes.
    let never = builder().revoke_after(Duration::MAX).start().unwrap();
    let token = ask(&never, "data").token();
    assert_eq!(resource(&never, "/v1/datasets", &token).status(), 200);
}

#[test]
fn revoke_all_rejects_the_tokens_issued_so_far() {
    let sandbox = sandbox();
    let old = ["data", "user", "data"].map(|scope| ask(&sandbox, scope).token());
    sandbox.revoke_all();
    for token in &old {
        for path in ["/v1/datasets", "/v1/users"] {
            assert_eq!(resource(&sandbox, path, token).status(), 401);
        }
    }
    let new = ask(&sandbox, "data").token();
    assert_eq!(resource(&sandbox, "/v1/datasets", &new).status(), 200);
    let known = sandbox.resource_calls().iter().all(|call| call.token_known);
    assert!(known, "revoked tokens are known");
}

#[test]
fn failures_follow_in_order_and_the_last_one_repeats() {
    let sandbox = builder()
        .fail_with(vec![503, 200, 401, 429])
        .start()
        .unwrap();
    assert_eq!(statuses(&sandbox, 6), [503, 200, 401, 429, 429, 429]);
    sandbox.recover();
    assert_eq!(statuses(&sandbox, 2), [200, 200]);

    let normal = builder().fail_with(vec![500, 200]).start().unwrap();
    assert_eq!(statuses(&normal, 4), [500, 200, 200, 200]);
    let token = ask(&normal, "data").token();
    assert_eq!(resource(&normal, "/v1/datasets", &token).status(), 200);
    let none = builder().fail_with(Vec::new()).start().unwrap();
    assert_eq!(statuses(&none, 2), [200, 200]);
}

#[test]
fn script_and_permanent_fault_take_precedence_over_failures() {
    let sandbox = builder().fail_with(vec![501, 502]).start().unwrap();
    sandbox.script([Fault::status(400), Fault::default()]);
    assert_eq!(statuses(&sandbox, 4), [400, 200, 501, 502]);
    sandbox.always(Fault::status(500));
    assert_eq!(statuses(&sandbox, 2), [500, 500]);
}

#[test]
fn failures_begin_that_long_after_the_start() {
    let sandbox = builder().fail_after(SHORT).start().unwrap();
    until(|| ask(&sandbox, "data").status() == 503);
    for request in sandbox.requests() {
        let expected = if request.at < SHORT { 200 } else { 503 };
        assert_eq!(request.status, Some(expected), "{request:?}");
    }

    let later = builder().fail_after(LONG).fail_with(vec![500]);
    assert_eq!(statuses(&later.start().unwrap(), 2), [200, 200]);
    let failing = builder()
        .fail_with(vec![500, 200, 502])
        .fail_after(Duration::ZERO);
    assert_eq!(statuses(&failing.start().unwrap(), 3), [500, 200, 502]);
}

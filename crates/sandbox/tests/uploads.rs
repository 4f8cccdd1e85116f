//! Calls with a body: `Expect: 100-continue`, revocation during an upload, and faults of the API.

#![cfg(test)]

mod common;

use std::io::Write;

use common::{Api, Connection, SILENCE, ask, resource, sandbox};
use domo_sandbox::{Fault, RejectTiming, Sandbox};

const ROWS: &str = "a,b\n";

/// Sends the head of an import with that token, which expects 100 before its body.
fn expecting(sandbox: &Sandbox, token: &str, length: usize) -> Connection {
    let mut connection = Connection::open(&sandbox.url(""));
    let head = format!(
        "PUT /v1/datasets/4405ff58-1957-45f0-82bd-914d989a3ea3/data HTTP/1.1\r\nHost: localhost\r\n\
         Authorization: Bearer {token}\r\nContent-Type: text/csv\r\nExpect: 100-continue\r\n\
         Content-Length: {length}\r\n\r\n"
    );
    connection.0.write_all(head.as_bytes()).unwrap();
    connection
}

#[test]
fn body_is_read_after_a_100_and_a_rejection_comes_before_the_body() {
    let sandbox = sandbox();
    let token = ask(&sandbox, "data").token();
    let mut connection = expecting(&sandbox, &token, ROWS.len());
    assert_eq!(connection.head().head, "HTTP/1.1 100 Continue\r\n\r\n");
    connection.0.write_all(ROWS.as_bytes()).unwrap();
    assert_eq!(connection.answer().status(), 204);

    let mut connection = expecting(&sandbox, "no-token", ROWS.len());
    assert_eq!(connection.answer().status(), 401);
    let calls = sandbox.resource_calls();
    let seen = calls.iter().map(|call| (call.status, call.body_bytes));
    assert_eq!(seen.collect::<Vec<_>>(), [(204, 4), (401, 0)]);
}

#[test]
fn no_continue_sends_no_100_and_reads_the_body_of_a_rejected_call() {
    let builder = Sandbox::builder().client("id", "secret", &["data"]);
    let sandbox = builder.no_continue(true).start().unwrap();
    let token = ask(&sandbox, "data").token();
    for (token, status) in [(token.as_str(), 204), ("no-token", 401)] {
        let mut connection = expecting(&sandbox, token, ROWS.len());
        assert!(connection.is_silent(), "within {SILENCE:?}");
        connection.0.write_all(ROWS.as_bytes()).unwrap();
        assert_eq!(connection.answer().status(), status);
    }
}

#[test]
fn revocation_in_an_upload_rejects_during_or_after_the_body() {
    let sandbox = sandbox();
    for (rejects, received) in [(RejectTiming::DuringBody, 2), (RejectTiming::AfterBody, 4)] {
        let token = ask(&sandbox, "data").token();
        sandbox.revoke_in_upload(2, rejects);
        let mut connection = expecting(&sandbox, &token, ROWS.len());
        connection.head();
        connection.0.write_all(b"a,").unwrap();
        if rejects == RejectTiming::DuringBody {
            assert_eq!(connection.answer().status(), 401);
            connection.0.write_all(b"b\n").unwrap();
        } else {
            assert!(connection.is_silent());
            connection.0.write_all(b"b\n").unwrap();
            assert_eq!(connection.answer().status(), 401);
        }
        let call = sandbox.resource_calls().pop().unwrap();
        assert_eq!(
            (call.body_bytes, call.client_id.as_deref()),
            (received, Some("id"))
        );
        assert_eq!(resource(&sandbox, "/v1/datasets", &token).status(), 401);
    }
    let token = ask(&sandbox, "data").token();
    assert_eq!(resource(&sandbox, "/v1/datasets", &token).status(), 200);
}

#[test]
fn faults_of_calls_apply_in_order_and_not_to_the_token_endpoint() {
    let api = Api::new();
    let limited = Fault::status(429).retry_after("2");
    api.sandbox
        .script_calls([limited, Fault::status(503).body("down")]);
    let answer = api.call("GET", "/v1/datasets", "", "");
    assert_eq!(
        (answer.status(), answer.header("retry-after")),
        (429, Some("2"))
    );
    assert_eq!(answer.json()["path"], "/v1/datasets");
    ask(&api.sandbox, "data").token();
    assert_eq!(api.call("GET", "/v1/users", "", "").body, b"down");
    assert_eq!(api.get("/v1/users").0, 200);
    let faults = api.sandbox.resource_calls();
    let faults = faults.iter().map(|call| (call.status, call.is_fault));
    assert_eq!(
        faults.collect::<Vec<_>>(),
        [(429, true), (503, true), (200, false)]
    );
}

#[test]
fn cut_call_is_recorded_without_a_status() {
    let api = Api::new();
    api.sandbox.always_in_calls(Fault::cut());
    let token = ask(&api.sandbox, "data").token();
    let mut connection = Connection::open(&api.sandbox.url(""));
    let bearer = format!("Authorization: Bearer {token}\r\n");
    connection.send("GET", "/v1/datasets", &bearer, "");
    assert_eq!(connection.rest(), b"");
    let call = api.sandbox.resource_calls().pop().unwrap();
    assert_eq!((call.status, call.is_fault), (0, true));
    api.sandbox.recover();
    assert_eq!(api.get("/v1/datasets").0, 200);
}

//! What each fault does on the wire, and what is recorded.

mod common;

use std::thread;
use std::time::Duration;

use common::{Answer, Connection, GRANT, PATIENCE, SILENCE, ask, basic, call, resource, sandbox};
use domo_sandbox::{Fault, Sandbox};
use serde_json::json;

/// Sends a token request without reading its response.
fn request(sandbox: &Sandbox) -> Connection {
    let mut connection = Connection::open(&sandbox.url(""));
    let credentials = basic("id", "secret");
    let form = format!("{GRANT}&scope=data");
    connection.send("POST", "/oauth/token", &credentials, &form);
    connection
}

/// Returns the response to a token request with that fault.
fn with(sandbox: &Sandbox, fault: Fault) -> Answer {
    sandbox.script([fault]);
    ask(sandbox, "data")
}

/// Requests the protected resource with that token.
fn resource_status(sandbox: &Sandbox, token: &str) -> u16 {
    resource(sandbox, "/v1/datasets", token).status()
}

#[test]
fn status_fault_has_domos_error_body() {
    let sandbox = sandbox();
    let reasons = [
        (400, "Bad Request"),
        (401, "Unauthorized"),
        (429, "Too Many Requests"),
        (503, "Service Unavailable"),
    ];
    for (status, reason) in reasons {
        let answer = with(&sandbox, Fault::status(status));
        assert_eq!(answer.status(), status);
        let kind = answer.header("content-type").unwrap();
        assert_eq!(kind, "application/json;charset=UTF-8");
        assert_eq!(answer.header("retry-after"), None);
        let mut body = answer.json();
        let toe = body.as_object_mut().unwrap().remove("toe").unwrap();
        let parts: Vec<usize> = toe.as_str().unwrap().split('-').map(str::len).collect();
        assert_eq!(parts, [10, 5, 5]);
        let expected = json!({
            "status": status, "statusReason": reason, "path": "/oauth/token", "message": reason,
        });
        assert_eq!(body, expected);
        let recorded = sandbox.requests().pop().unwrap();
        assert_eq!((recorded.status, recorded.token), (Some(status), None));
    }
}

#[test]
fn oauth_error_fault_has_oauths_error_body() {
    let fault = Fault::oauth_error(400, "invalid_client", "Bad \"id\"");
    let answer = with(&sandbox(), fault);
    assert_eq!(answer.status(), 400);
    let expected = json!({"error": "invalid_client", "error_description": "Bad \"id\""});
    assert_eq!(answer.json(), expected);
}

#[test]
fn hang_sends_nothing_until_the_client_disconnects_and_blocks_no_other_request() {
    let sandbox = sandbox();
    sandbox.script([Fault::hang()]);
    let mut hung = request(&sandbox);
    sandbox.wait_for_requests(1, PATIENCE).unwrap();
    assert!(hung.is_silent());
    assert_eq!(ask(&sandbox, "data").status(), 200);
    assert!(hung.is_silent());
    drop(hung);
    assert_eq!(ask(&sandbox, "data").status(), 200);
    let recorded = sandbox.requests();
    let statuses: Vec<_> = recorded.iter().map(|request| request.status).collect();
    assert_eq!(statuses, [None, Some(200), Some(200)]);
    assert_eq!((&recorded[0].token, recorded[0].answered_at), (&None, None));
}

#[test]
fn hang_is_closed_without_a_response_at_recovery() {
    let sandbox = sandbox();
    sandbox.always(Fault::hang());
    for number in 1..=20 {
        let mut hung = request(&sandbox);
        sandbox.wait_for_requests(number, PATIENCE).unwrap();
        sandbox.recover();
        assert_eq!(hung.rest(), b"");
        sandbox.always(Fault::hang());
    }
    assert!(sandbox.requests().iter().all(|r| r.status.is_none()));
}

#[test]
fn held_request_is_granted_at_recovery() {
    let sandbox = sandbox();
    sandbox.script([Fault::hold()]);
    let mut held = request(&sandbox);
    sandbox.wait_for_requests(1, PATIENCE).unwrap();
    assert!(held.is_silent());
    assert_eq!(sandbox.requests()[0].status, None);
    sandbox.recover();
    let answer = held.answer();
    assert_eq!(answer.status(), 200);
    let recorded = sandbox.requests().remove(0);
    assert_eq!(recorded.token, Some(answer.token()));
    assert!(recorded.answered_at.unwrap() >= recorded.at + SILENCE);
    assert_eq!(resource_status(&sandbox, &answer.token()), 200);
}

#[test]
fn hang_in_the_body_sends_half_of_it() {
    let sandbox = sandbox();
    sandbox.script([Fault::default().hanging()]);
    let mut hung = request(&sandbox);
    let head = hung.head();
    assert_eq!(head.status(), 200);
    assert!(head.length() > 600, "{}", head.length());
    let half = hung.exactly(head.length() / 2);
    assert!(half.starts_with(b"{\""));
    assert!(hung.is_silent());
    sandbox.recover();
    assert_eq!(hung.rest(), b"");
    assert_eq!(sandbox.requests()[0].status, Some(200));
}

#[test]
fn cut_closes_the_connection_without_a_response() {
    let sandbox = sandbox();
    sandbox.script([Fault::cut()]);
    assert_eq!(request(&sandbox).rest(), b"");
    assert_eq!(sandbox.requests()[0].status, None);
    assert_eq!(ask(&sandbox, "data").status(), 200);
}

#[test]
fn a_cut_in_the_body_closes_the_connection_after_half_of_it() {
    let sandbox = sandbox();
    sandbox.script([Fault::cut_in_body(), Fault::cut_in_body().body("123456")]);
    let mut cut = request(&sandbox);
    let head = cut.head();
    let half = cut.rest();
    assert!(half.starts_with(b"{\""));
    assert_eq!((head.status(), half.len()), (200, head.length() / 2));
    let mut cut = request(&sandbox);
    assert_eq!(cut.head().length(), 6);
    assert_eq!(cut.rest(), b"123");
}

#[test]
fn faults_without_a_token_send_the_body_that_they_name() {
    let sandbox = sandbox();
    let html = with(&sandbox, Fault::html(502));
    let kind = html.header("content-type");
    assert_eq!(
        (html.status(), kind),
        (502, Some("text/html;charset=UTF-8"))
    );
    assert!(html.body.starts_with(b"<!DOCTYPE html>"));

    let empty = with(&sandbox, Fault::empty());
    assert_eq!((empty.status(), empty.body.len()), (200, 0));

    let garbage = with(&sandbox, Fault::garbage());
    assert_eq!(garbage.status(), 200);
    assert!(!garbage.body.is_empty() && str::from_utf8(&garbage.body).is_err());

    let oversized = with(&sandbox, Fault::oversized(3_000_000));
    assert_eq!((oversized.status(), oversized.body.len()), (200, 3_000_000));

    let away = with(&sandbox, Fault::redirect(307, "http://127.0.0.1:1/"));
    assert_eq!((away.status(), away.body.len()), (307, 0));
    assert_eq!(away.header("location"), Some("http://127.0.0.1:1/"));

    assert!(sandbox.requests().iter().all(|r| r.token.is_none()));
}

#[test]
fn token_with_a_replaced_or_omitted_field_is_valid() {
    let sandbox = sandbox();
    let proper = ask(&sandbox, "data").json();
    let faults = [
        (Fault::expires_in(json!(1)), "expires_in", json!(1)),
        (Fault::expires_in(json!("9")), "expires_in", json!("9")),
        (Fault::expires_in(json!(-0.5)), "expires_in", json!(-0.5)),
        (Fault::expires_in(json!(null)), "expires_in", json!(null)),
        (Fault::no_expires_in(), "expires_in", json!("left out")),
        (Fault::scope("audit"), "scope", json!("audit")),
        (Fault::no_scope(), "scope", json!("left out")),
        (Fault::token_type("mac"), "token_type", json!("mac")),
    ];
    for (fault, name, value) in faults {
        let answer = with(&sandbox, fault);
        let mut body = answer.json();
        let field = body.as_object_mut().unwrap().remove(name);
        assert_eq!(field.unwrap_or(json!("left out")), value);
        assert_eq!(resource_status(&sandbox, &answer.token()), 200);
        let mut expected = proper.clone();
        expected.as_object_mut().unwrap().remove(name);
        for new in ["access_token", "jti"] {
            expected[new] = body[new].clone();
        }
        assert_eq!(body, expected, "nothing but {name} changed");
    }
}

#[test]
fn token_with_a_given_text_or_size_is_valid() {
    let sandbox = sandbox();
    let text = with(&sandbox, Fault::token("opaque-token"));
    assert_eq!(text.token(), "opaque-token");
    assert_eq!(resource_status(&sandbox, "opaque-token"), 200);
    for size in [0, 1, 100, 65_536] {
        let token = with(&sandbox, Fault::token_size(size)).token();
        assert_eq!(token.len(), size);
    }
    let token = with(&sandbox, Fault::token_size(4000)).token();
    assert_eq!(resource_status(&sandbox, &token), 200);
    assert_eq!(sandbox.requests().pop().unwrap().token, Some(token));
}

#[test]
fn same_token_fault_returns_the_token_with_its_remaining_lifetime() {
    let sandbox = sandbox();
    sandbox.set_lifetime(Duration::from_secs(100));
    let first = ask(&sandbox, "data");
    assert_eq!(first.json()["expires_in"], 100);
    sandbox.set_lifetime(Duration::from_secs(5000));
    let second = with(&sandbox, Fault::same_token());
    assert_eq!(second.token(), first.token());
    assert!((1..=100).contains(&second.json()["expires_in"].as_u64().unwrap()));

    sandbox.script([Fault::same_token()]);
    let other = ask(&sandbox, "user");
    assert_ne!(other.token(), first.token(), "no token yet");
    assert_eq!(other.json()["expires_in"], 5000);
    assert_ne!(ask(&sandbox, "data").token(), first.token());
}

#[test]
fn additions_to_a_fault_are_sent_with_it() {
    let sandbox = sandbox();
    let fault = Fault::status(429).retry_after("Wed, 21 Oct 2015 07:28:00 GMT");
    let fault = fault.body("slow down").header("X-Trace", "7");
    let answer = with(&sandbox, fault);
    assert_eq!(answer.status(), 429);
    let date = Some("Wed, 21 Oct 2015 07:28:00 GMT");
    assert_eq!(answer.header("retry-after"), date);
    assert_eq!(answer.header("x-trace"), Some("7"));
    assert_eq!(answer.body, b"slow down");

    let refused = Fault::status(503)
        .header("no name", "1")
        .header("x", "a\nb");
    let answer = with(&sandbox, refused.retry_after("-1"));
    assert_eq!(answer.header("retry-after"), Some("-1"));
    assert_eq!((answer.header("x"), answer.status()), (None, 503));
}

#[test]
fn script_runs_in_order_followed_by_the_permanent_fault_until_recovery() {
    let sandbox = sandbox();
    sandbox.always(Fault::status(503));
    sandbox.script([Fault::status(500), Fault::default()]);
    sandbox.script([Fault::status(502)]);
    let statuses = |count| -> Vec<u16> {
        let answers = (0..count).map(|_| ask(&sandbox, "data").status());
        answers.collect()
    };
    assert_eq!(resource_status(&sandbox, "unknown"), 401, "takes no fault");
    assert_eq!(statuses(5), [500, 200, 502, 503, 503]);
    sandbox.script([Fault::status(500)]);
    sandbox.recover();
    assert_eq!(statuses(2), [200, 200]);
}

#[test]
fn debug_shows_no_token() {
    let faults = [
        Fault::token("c4nary"),
        Fault::status(200).body("c4nary").header("x", "c4nary"),
    ];
    let shown = format!("{faults:?}");
    assert!(shown.contains("Some(200)") && !shown.contains("c4nary"));
}

#[test]
fn record_has_each_request_and_its_response() {
    let sandbox = sandbox();
    let token = ask(&sandbox, "data").token();
    let query = "/oauth/token?grant_type=magic";
    call(&sandbox.url(""), "GET", query, &basic("id", "wrong"), "");
    call(&sandbox.url(""), "PUT", "/oauth/token", "", "");
    let recorded = sandbox.requests();
    let seen: Vec<_> = recorded
        .iter()
        .map(|r| (&*r.method, r.client_id.as_deref(), r.in_query, r.status))
        .collect();
    let expected = [
        ("POST", Some("id"), false, Some(200)),
        ("GET", Some("id"), true, Some(401)),
        ("PUT", None, false, Some(405)),
    ];
    assert_eq!(seen, expected);
    let (first, second) = (&recorded[0], &recorded[1]);
    assert_eq!(
        (&*first.path, first.scope.as_deref()),
        ("/oauth/token", Some("data"))
    );
    assert_eq!(
        (second.grant_type.as_deref(), &second.scope),
        (Some("magic"), &None)
    );
    assert_eq!(
        (first.token.as_deref(), &second.token),
        (Some(&*token), &None)
    );
    let answered_at = first.answered_at.unwrap();
    assert!(first.at <= answered_at && answered_at <= second.at);
    assert!(!format!("{recorded:?}").contains(&token));
}

#[test]
fn wait_for_requests_returns_when_they_arrive_or_fails_with_their_number() {
    let sandbox = sandbox();
    thread::scope(|scope| {
        let waiting = scope.spawn(|| sandbox.wait_for_requests(2, PATIENCE));
        assert_eq!(ask(&sandbox, "data").status(), 200);
        assert_eq!(ask(&sandbox, "audit").status(), 400);
        assert_eq!(waiting.join().unwrap().unwrap().len(), 2);
    });
    let outcome = sandbox.wait_for_requests(3, Duration::from_millis(1));
    let few = outcome.unwrap_err();
    assert_eq!((few.expected, few.received), (3, 2));
    assert_eq!(
        few.to_string(),
        "2 token requests within the timeout, expected 3"
    );
}

//! The program `domo-sandbox` without a command: its faults.

#![cfg(test)]

mod common;

use common::{Connection, GRANT, Program, basic, call, post};
use domo_sandbox::program::{DEMO_ID, DEMO_SECRET};

/// Skips the config after the first lines, which ends where the log begins.
fn url_of(program: &Program) -> String {
    let url = program.url();
    for _ in 0..6 {
        program.line();
    }
    url
}

/// Requests a token and returns the status.
fn status(url: &str) -> u16 {
    post(url, DEMO_ID, DEMO_SECRET, GRANT).status()
}

#[test]
fn fail_flag_applies_its_statuses_in_order_and_repeats_the_last() {
    let program = Program::start(&["--fail", "503,200,429"]);
    let url = url_of(&program);
    let seen: Vec<u16> = (0..5).map(|_| status(&url)).collect();
    assert_eq!(seen, [503, 200, 429, 429, 429]);
    let logged: Vec<String> = (0..5).map(|_| program.line()).collect();
    let logged = logged.iter().map(|line| line.rsplit(' ').next().unwrap());
    assert!(logged.eq(["503", "200", "429", "429", "429"]));
}

#[test]
fn fail_after_flag_applies_503_or_the_given_status_from_then_on() {
    for (flags, expected) in [
        (&["--fail-after", "0"][..], 503),
        (&["--fail-after", "0s", "--fail", "401"], 401),
        (&["--fail-after", "1h", "--fail", "401"], 200),
    ] {
        let program = Program::start(flags);
        assert_eq!(status(&program.url()), expected, "{flags:?}");
    }
}

#[test]
fn revoke_after_flag_makes_the_api_reject_a_fresh_token() {
    for (after, expected) in [("0", 401), ("1h", 200)] {
        let program = Program::start(&["--revoke-after", after]);
        let url = program.url();
        let token = post(&url, DEMO_ID, DEMO_SECRET, GRANT).token();
        let bearer = format!("Authorization: Bearer {token}\r\n");
        let answer = call(&url, "GET", "/v1/datasets", &bearer, "");
        assert_eq!(answer.status(), expected, "{after}");
    }
}

#[test]
fn delay_flag_delays_responses_of_the_token_endpoint_and_the_api() {
    let program = Program::start(&["--delay", "300ms"]);
    let url = program.url();
    let mut token = Connection::open(&url);
    token.send("POST", "/oauth/token", &basic(DEMO_ID, DEMO_SECRET), GRANT);
    assert!(token.is_silent());
    let bearer = format!("Authorization: Bearer {}\r\n", token.answer().token());
    let mut api = Connection::open(&url);
    api.send("GET", "/v1/datasets", &bearer, "");
    assert!(api.is_silent());
    assert_eq!(api.answer().status(), 200);
}

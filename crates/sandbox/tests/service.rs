//! The sandbox without faults, and its program.

mod common;

use std::fs;
use std::io::ErrorKind;
use std::net::{TcpListener, TcpStream};
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use common::{
    Answer, Connection, GRANT, PATIENCE, Program, Tls, ask, basic, call, host, open_tls, post,
    resource, run, sandbox,
};
use domo_sandbox::program::{DEMO_ID, DEMO_SECRET};
use domo_sandbox::{Fault, Sandbox};
use serde_json::{Value, json};

/// Checks that a response is an OAuth error.
#[track_caller]
fn assert_oauth(answer: &Answer, status: u16, error: &str, description: &str) {
    let expected = json!({"error": error, "error_description": description});
    assert_eq!((answer.status(), answer.json()), (status, expected));
}

#[test]
fn get_and_post_grant_the_requested_scopes_or_all() {
    let sandbox = sandbox();
    let url = sandbox.token_url();
    let cases = [
        ("&scope=user", "user"),
        ("&scope=user%20data", "user data"),
        ("&scope=", "data user"),
        ("", "data user"),
    ];
    for (asked, granted) in cases {
        let form = format!("{GRANT}{asked}");
        let query = format!("/oauth/token?{form}");
        let got = call(&url, "GET", &query, &basic("id", "secret"), "");
        let posted = post(&url, "id", "secret", &form);
        assert_eq!((got.status(), posted.status()), (200, 200));
        assert_eq!(got.json()["scope"], granted);
        assert_eq!(posted.json()["scope"], granted);
        assert_ne!(got.token(), posted.token());
    }
}

#[test]
fn grant_has_domos_fields_and_a_token_of_domos_form() {
    let all = "account audit buzz dashboard data user workflow";
    let granted: Vec<&str> = all.split(' ').collect();
    let builder = Sandbox::builder().client(DEMO_ID, "secret", &granted);
    let sandbox = builder.start().unwrap();
    for scope in ["data", all] {
        let form = format!("{GRANT}&scope={}", scope.replace(' ', "+"));
        let answer = post(&sandbox.url(""), DEMO_ID, "secret", &form);
        assert_eq!(answer.header("cache-control"), Some("no-store"));
        assert_eq!(answer.header("pragma"), Some("no-cache"));
        let (body, token) = (answer.json(), answer.token());
        let expected = json!({
            "access_token": token, "customer": "sandbox", "env": "prod1", "expires_in": 3599,
            "jti": body["jti"], "role": "Admin", "scope": scope, "token_type": "bearer",
            "userId": 964_382_593,
        });
        assert_eq!(body, expected);
        assert_eq!(body["jti"].as_str().unwrap().len(), 36);

        assert!((600..=900).contains(&token.len()), "{}", token.len());
        let parts = token.split('.').map(|part| URL_SAFE_NO_PAD.decode(part));
        let parts: Vec<Vec<u8>> = parts.map(Result::unwrap).collect();
        assert_eq!((parts.len(), parts[2].len()), (3, 256));
        assert_eq!(parts[0], br#"{"alg":"RS256"}"#);
        let payload: Value = serde_json::from_slice(&parts[1]).unwrap();
        let scopes: Vec<&str> = scope.split(' ').collect();
        let expected = json!({
            "client_id": DEMO_ID, "customer": "sandbox", "env": "prod1", "exp": payload["exp"],
            "jti": body["jti"], "role": "Admin", "scope": scopes, "userId": 964_382_593,
        });
        assert_eq!(payload, expected);
        assert!(payload["exp"].as_u64().unwrap() > 1_700_000_000);
    }
}

#[test]
fn wrong_credentials_get_401_with_domos_error_body() {
    let sandbox = sandbox();
    let url = sandbox.url("");
    let refused = [
        post(&url, "id", "wrong", GRANT),
        post(&url, "nobody", "secret", GRANT),
        call(&url, "POST", "/oauth/token", "", GRANT),
    ];
    for answer in refused {
        let body = answer.json();
        let expected = json!({
            "status": 401, "statusReason": "Unauthorized", "path": "/oauth/token",
            "message": "Bad client credentials", "toe": body["toe"],
        });
        assert_eq!((answer.status(), &body), (401, &expected));
        assert_eq!(body["toe"].as_str().unwrap().len(), 22);
    }
    let recorded = sandbox.requests();
    let ids: Vec<_> = recorded.iter().map(|r| r.client_id.as_deref()).collect();
    assert_eq!(ids, [Some("id"), Some("nobody"), None]);
}

#[test]
fn ungranted_scopes_and_other_grant_types_get_400_with_oauths_error_body() {
    let sandbox = sandbox();
    let cases = [
        ("audit", "audit"),
        ("data+no-such", "no-such"),
        ("data,user", "data,user"),
    ];
    for (asked, named) in cases {
        let description = format!("Invalid scope: {named}");
        assert_oauth(&ask(&sandbox, asked), 400, "invalid_scope", &description);
    }
    let url = sandbox.url("");
    let query = format!("/oauth/token?{GRANT}");
    let refused = [
        post(&url, "id", "secret", "grant_type=password&scope=data"),
        post(&url, "id", "secret", "scope=data"),
        // The query of a POST is not read.
        call(&url, "POST", &query, &basic("id", "secret"), ""),
    ];
    for answer in refused {
        let description = "Unsupported grant type";
        assert_oauth(&answer, 400, "unsupported_grant_type", description);
    }
    let lost = call(&url, "GET", "/oauth", "", "");
    assert_eq!((lost.status(), &lost.json()["status"]), (404, &json!(404)));
}

#[test]
fn resource_requires_a_valid_token_of_its_scope() {
    let sandbox = sandbox();
    let datasets = |token: &str| resource(&sandbox, "/v1/datasets", token);
    let valid = ask(&sandbox, "data").token();
    let revoked = ask(&sandbox, "data").token();
    sandbox.revoke(&revoked);
    sandbox.set_lifetime(Duration::ZERO);
    let expired = ask(&sandbox, "data");
    assert_eq!(expired.json()["expires_in"], 0);

    assert_eq!(datasets(&valid).status(), 200);
    assert_eq!(datasets(&valid).json()[0]["rows"], 2);
    for token in [&*expired.token(), &revoked, "unknown"] {
        let description = "Cannot convert access token to JSON";
        assert_oauth(&datasets(token), 401, "invalid_token", description);
    }
    let users = resource(&sandbox, "/v1/users", &valid);
    assert_eq!(users.status(), 403);
    assert_eq!(users.json()["error"], "insufficient_scope");
    let csv = "Accept: text/csv\r\n";
    let csv = call(&sandbox.url(""), "GET", "/v1/datasets", csv, "");
    assert_eq!(csv.status(), 406, "as Domo answers");

    let calls = sandbox.resource_calls();
    let statuses: Vec<_> = calls.iter().map(|call| call.status).collect();
    let known: Vec<_> = calls.iter().map(|call| call.token_known).collect();
    assert_eq!(statuses, [200, 200, 401, 401, 401, 403, 406]);
    assert_eq!(known, [true, true, true, true, false, true, false]);
    assert_eq!(calls[5].path, "/v1/users");
}

#[test]
fn changes_of_clients_and_lifetimes_keep_issued_tokens_valid() {
    let sandbox = sandbox();
    let url = sandbox.url("");
    assert_eq!(post(&url, "new", "1", GRANT).status(), 401);
    sandbox.add_client("new", "1", &["data"]);
    sandbox.set_lifetime(Duration::from_millis(59_001));
    let old = post(&url, "new", "1", GRANT);
    assert_eq!(old.json()["scope"], "data");
    assert_eq!(old.json()["expires_in"], 60, "rounded up");

    sandbox.add_client("new", "a +%", &["user"]);
    sandbox.set_lifetime(Duration::ZERO);
    assert_eq!(post(&url, "new", "1", GRANT).status(), 401);
    // OAuth requires form-encoded credentials.
    let replaced = post(&url, "n%65w", "a+%2B%25", GRANT);
    assert_eq!(replaced.json()["scope"], "user");
    assert_eq!(replaced.json()["expires_in"], 0);

    sandbox.remove_client("new");
    assert_eq!(post(&url, "new", "a+%2B%25", GRANT).status(), 401);
    assert_eq!(ask(&sandbox, "data").status(), 200);
    let reply = resource(&sandbox, "/v1/datasets", &old.token());
    assert_eq!(reply.status(), 200);
}

#[test]
fn sandbox_that_stops_listening_closes_connections_until_it_listens_again() {
    let sandbox = sandbox();
    let url = sandbox.token_url();
    sandbox.script([Fault::default(), Fault::hang()]);
    let (mut idle, mut hung) = (Connection::open(&url), Connection::open(&url));
    idle.send("POST", "/oauth/token", &basic("id", "secret"), GRANT);
    let token = idle.answer().token();
    hung.send("POST", "/oauth/token", &basic("id", "secret"), GRANT);
    sandbox.wait_for_requests(2, PATIENCE).unwrap();

    sandbox.stop_listening().unwrap();
    assert_eq!((idle.rest(), hung.rest()), (vec![], vec![]));
    let refused = TcpStream::connect(host(&url)).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::ConnectionRefused);

    sandbox.listen_again().unwrap();
    assert_eq!(sandbox.token_url(), url);
    let datasets = resource(&sandbox, "/v1/datasets", &token);
    assert_eq!(datasets.status(), 200);
    assert_eq!(ask(&sandbox, "data").status(), 200);
    assert_eq!(sandbox.requests().len(), 3);
}

#[test]
fn https_works_for_clients_that_trust_its_ca() {
    let https = || {
        Sandbox::builder()
            .client("id", "secret", &["data"])
            .https(true)
    };
    let (sandbox, other) = (https().start().unwrap(), https().start().unwrap());
    assert_eq!(self::sandbox().ca_pem(), None);
    let url = sandbox.token_url();
    assert!(url.starts_with("https://127.0.0.1:"), "{url}");

    let Tls { conn, sock } = &mut open_tls(&url, &other.ca_pem().unwrap()).0;
    let error = conn.complete_io(sock).unwrap_err();
    let cause = error.get_ref().unwrap().downcast_ref().unwrap();
    assert!(
        matches!(cause, rustls::Error::InvalidCertificate(_)),
        "{cause}"
    );

    let mut trusting = open_tls(&url, &sandbox.ca_pem().unwrap());
    trusting.send("POST", "/oauth/token", &basic("id", "secret"), GRANT);
    assert_eq!(trusting.answer().status(), 200);
    assert_eq!(sandbox.requests().len(), 1);
}

#[test]
fn the_program_prints_a_config_that_works_and_logs_each_request() {
    let program = Program::start(&["--lifetime", "2m"]);
    let url = program.url();
    let config: Vec<String> = (0..6).map(|_| program.line()).collect();
    let expected = [
        "[clients.sandbox]".to_owned(),
        format!("client_id = {DEMO_ID:?}"),
        format!("client_secret = {DEMO_SECRET:?}"),
        "tokens = [\"data\"]".to_owned(),
        format!("token_url = {url:?}"),
        "allow_http_loopback = true".to_owned(),
    ];
    assert_eq!(config, expected);

    let answer = post(&url, DEMO_ID, DEMO_SECRET, GRANT);
    assert_eq!(answer.json()["expires_in"], 120);
    let all = "account audit buzz dashboard data user workflow";
    assert_eq!(answer.json()["scope"], all);
    let form = format!("{GRANT}&scope=data");
    assert_eq!(post(&url, "id", DEMO_SECRET, &form).status(), 401);
    let logged = [program.line(), program.line()];
    let what = logged
        .each_ref()
        .map(|line| line.split_once(" s  ").unwrap().1);
    let granted = format!("POST client {DEMO_ID:?} scope \"all\": 200");
    assert_eq!(what, [&*granted, "POST client \"id\" scope \"data\": 401"]);
    #[cfg(unix)]
    assert_eq!(program.terminate(), Some(0));
}

#[test]
fn program_serves_the_clients_and_the_fault_of_its_flags() {
    let clients = ["--client", "a:1:user", "--client", "b:2:audit,data"];
    let program = Program::start(&[&clients[..], &["--fail", "503"]].concat());
    let url = program.url();
    let config: Vec<String> = (0..12).map(|_| program.line()).collect();
    let (first, second) = config.split_at(6);
    assert_eq!(first[..2], ["[clients.sandbox]", "client_id = \"a\""]);
    assert_eq!(
        first[2..4],
        ["client_secret = \"1\"", "tokens = [\"user\"]"]
    );
    assert_eq!(second[..2], ["[clients.sandbox1]", "client_id = \"b\""]);
    assert_eq!(
        second[2..4],
        ["client_secret = \"2\"", "tokens = [\"data\"]"]
    );
    assert_eq!(post(&url, "a", "1", GRANT).status(), 503);

    let program = Program::start(&clients);
    let url = program.url();
    assert_eq!(post(&url, "a", "1", GRANT).json()["scope"], "user");
    assert_eq!(post(&url, "b", "2", GRANT).json()["scope"], "audit data");
    assert_eq!(post(&url, DEMO_ID, DEMO_SECRET, GRANT).status(), 401);
}

#[test]
fn the_program_serves_https_and_never_overwrites_a_ca_file() {
    let file = format!(
        "{}/ca-{}.pem",
        env!("CARGO_TARGET_TMPDIR"),
        std::process::id()
    );
    let _ = fs::remove_file(&file);
    let flags = ["--port", "0", "--https", "--ca-file", &file];
    let program = Program::start(&flags[2..]);
    let url = program.url();
    assert!(url.starts_with("https://127.0.0.1:"), "{url}");
    let config: Vec<String> = (0..6).map(|_| program.line()).collect();
    assert_eq!(config[5], format!("ca_file = {file:?}"));
    let ca_pem = fs::read_to_string(&file).unwrap();
    let mut connection = open_tls(&url, &ca_pem);
    let credentials = basic(DEMO_ID, DEMO_SECRET);
    connection.send("POST", "/oauth/token", &credentials, GRANT);
    assert_eq!(connection.answer().status(), 200);

    let (code, stdout, stderr) = run(&flags);
    assert_eq!((code, &*stdout), (Some(71), ""));
    assert!(
        stderr.starts_with(&format!("domo-sandbox: cannot write the CA file {file}: ")),
        "{stderr}"
    );
    assert_eq!(fs::read_to_string(&file).unwrap(), ca_pem);
    fs::remove_file(file).unwrap();
}

#[test]
fn help_lists_every_flag() {
    let (code, stdout, _) = run(&["--help"]);
    assert_eq!(code, Some(0));
    let flags = [
        "port",
        "lifetime",
        "client",
        "https",
        "ca-file",
        "delay",
        "fail",
        "fail-after",
        "revoke-after",
        "no-continue",
        "help",
        "version",
    ];
    for flag in flags {
        assert!(stdout.contains(&format!(" --{flag}")), "{flag}: {stdout}");
    }
    assert_eq!(
        stdout.matches("  --").count() + stdout.matches(", --").count(),
        flags.len()
    );
}

#[test]
fn wrong_flags_end_with_2_and_a_taken_port_with_71() {
    let occupied = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = occupied.local_addr().unwrap().port().to_string();
    let cases = [
        ("--nonsense", "--nonsense"),
        ("--https", "--ca-file"),
        ("--ca-file=/nowhere/ca.pem", "--https"),
        ("--lifetime=0", "expected 90s"),
        ("--lifetime=1d", "expected 90s"),
        ("--client=id:secret", "expected ID:SECRET"),
        ("--client=:secret:data", "expected ID:SECRET"),
        ("--client=id:secret:", "expected ID:SECRET"),
        ("--fail=199", "199"),
        ("--fail=600", "600"),
        ("--fail=503,", "--fail"),
        ("--fail-after=soon", "expected 200ms"),
        ("--delay=1.5s", "expected 200ms"),
        ("--revoke-after=ms", "expected 200ms"),
    ];
    // If the flag were accepted, the port would end the program.
    for (flag, named) in cases {
        let (code, stdout, stderr) = run(&["--port", &port, flag]);
        assert_eq!((code, &*stdout), (Some(2), ""), "{flag}: {stderr}");
        assert!(stderr.contains(named), "{flag}: {stderr}");
    }
    assert_eq!(run(&["--port", "65536"]).0, Some(2));
    let (code, _, stderr) = run(&["--port", &port]);
    assert_eq!(code, Some(71));
    assert!(
        stderr.starts_with(&format!(
            "domo-sandbox: cannot listen on 127.0.0.1:{port}: "
        )),
        "{stderr}"
    );
}

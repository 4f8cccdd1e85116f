#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "in a test, what fails says so"
)]

mod connection_failures;
mod http_responses;
mod registration;

use std::fs;
use std::io::{Read, Write};
use std::net::TcpListener;
use std::thread;

use domo_sandbox::{Builder, Fault, Sandbox};
use hyper::header::{ACCEPT, ACCEPT_ENCODING, AUTHORIZATION, HOST, USER_AGENT};

use super::*;
use crate::config::TokenMethod;
use crate::connect::tests::block_on;
use domo_token_core::token::MAX_TOKEN;

const TOKEN: &str = "{\"access_token\":\"a\",\"token_type\":\"bearer\",\"expires_in\":9}";

fn endpoint(url: &str) -> Endpoint {
    Endpoint::new(url.parse().unwrap())
}

fn registration(endpoint: Endpoint) -> Result<Registration, SourceError> {
    let credentials = Credentials {
        client_id: "an-id".to_owned(),
        client_secret: "c4nary".into(),
    };
    Registration::new(endpoint, credentials, None)
}

/// Requests a token there.
fn fetched_from(endpoint: Endpoint) -> Result<Fetched, FetchError> {
    let source = DomoSource::new(registration(endpoint).unwrap(), &Shared::default()).unwrap();
    let scope = ScopeSet::parse("data").unwrap();
    block_on(source.fetch(&scope, Duration::from_secs(20), &|_| ()))
}

fn server() -> Builder {
    Sandbox::builder().client("an-id", "c4nary", &["data"])
}

/// Requests a token from a server with that fault.
fn fetched(fault: Fault) -> Result<Fetched, FetchError> {
    let sandbox = server().start().unwrap();
    sandbox.always(fault);
    fetched_from(endpoint(&sandbox.token_url()))
}

#[test]
fn document_states_the_current_bounds() {
    let document = include_str!("../../../docs/architecture.md");
    let (_, part) = document.split_once("## Reading Domo's response").unwrap();
    let seconds = |span: Duration| format!("{} s", span.as_secs());
    let bytes = |count: usize| format!("{count} B");
    let bounds = [
        ("CONNECT_TIMEOUT", seconds(connect::CONNECT_TIMEOUT)),
        ("ERROR_BODY", seconds(ERROR_BODY)),
        ("MAX_HEAD", bytes(transport::MAX_HEAD)),
        ("MAX_HEADERS", transport::MAX_HEADERS.to_string()),
        ("MAX_BODY", bytes(MAX_BODY)),
        ("MAX_TOKEN", bytes(MAX_TOKEN)),
        ("LIFETIME_ASSUMED", seconds(response::LIFETIME_ASSUMED)),
        ("LIFETIME_MAX", format!("{} s", response::LIFETIME_MAX)),
        ("EXPIRY_TOLERANCE", seconds(response::EXPIRY_TOLERANCE)),
        ("MAX_CODINGS", response::MAX_CODINGS.to_string()),
        ("MAX_MEMBERS", response::MAX_MEMBERS.to_string()),
        ("MAX_ITEMS", response::MAX_ITEMS.to_string()),
        ("MAX_TEXT", connect::MAX_TEXT.to_string()),
    ];
    for (name, value) in bounds {
        let row = format!("| `{name}` | {value} |");
        assert!(part.contains(&row), "{row}");
    }
}

/// Reads a request with its form.
fn read_request(stream: &mut impl Read) {
    let mut request = Vec::new();
    let mut byte = [0];
    while !request.ends_with(b"&scope=data") && stream.read(&mut byte).is_ok_and(|count| count > 0)
    {
        request.extend_from_slice(&byte);
    }
}

/// Requests a token from a server that sends these bytes and closes the connection.
fn fetched_raw(answer: impl Into<Vec<u8>>) -> Result<Fetched, FetchError> {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/oauth/token", listener.local_addr().unwrap());
    let answer = answer.into();
    thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        read_request(&mut stream);
        stream.write_all(&answer).unwrap();
    });
    fetched_from(endpoint(&url))
}

fn transient_message(result: Result<Fetched, FetchError>, expected: Cause) -> String {
    let Err(FetchError::Transient { cause, message, .. }) = result else {
        panic!("{result:?}")
    };
    assert_eq!(cause, expected, "{message}");
    message
}

/// Returns a 200 with these lines besides the necessary ones.
fn answer_with(lines: &str) -> String {
    let length = TOKEN.len();
    format!(
        "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n{lines}\r\n{TOKEN}"
    )
}

#[test]
fn request_accepts_only_uncompressed_json() {
    for method in [TokenMethod::Post, TokenMethod::Get] {
        let endpoint = Endpoint {
            method,
            ..endpoint("https://domo.example:8443/oauth/token")
        };
        let credentials = registration(endpoint.clone()).unwrap().credentials;
        let scope = ScopeSet::parse("data user").unwrap();
        let request = request::token_request(&endpoint, &credentials, &scope).unwrap();
        let headers = request.headers();
        assert_eq!(headers[ACCEPT_ENCODING], "identity");
        assert_eq!(headers[ACCEPT], "application/json");
        assert_eq!(headers[HOST], "domo.example:8443");
        assert_eq!(
            headers[USER_AGENT],
            format!("domo-token/{}", env!("CARGO_PKG_VERSION"))
        );
        assert_eq!(headers[AUTHORIZATION], "Basic YW4taWQ6YzRuYXJ5");
        assert!(headers[AUTHORIZATION].is_sensitive());
        let query = "grant_type=client_credentials&scope=data+user";
        let path = match method {
            TokenMethod::Post => "/oauth/token".to_owned(),
            TokenMethod::Get => format!("/oauth/token?{query}"),
        };
        assert_eq!(request.uri().to_string(), path);
    }
}

use std::io::Write;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use flate2::Compression;
use flate2::write::GzEncoder;
use proptest::prelude::*;
use secrecy::ExposeSecret;

use super::*;
use domo_token_core::fetch_result::{Cause, LifetimeSource};
use domo_token_core::token::MAX_TOKEN;

mod lifetimes;
mod rejections;
mod responders;
mod tokens;

const SECRET: &str = "c4nary-secret";
const SERVER_NAME: &str = "api.domo.example";

fn requested() -> ScopeSet {
    ScopeSet::parse("data user").unwrap()
}

/// Returns a complete response.
fn answer(status: u16, headers: &[(&'static str, &str)], body: impl AsRef<[u8]>) -> Answer {
    let mut map = HeaderMap::new();
    for (name, value) in headers {
        map.append(*name, value.parse().unwrap());
    }
    Answer {
        status: StatusCode::from_u16(status).unwrap(),
        headers: map,
        body: Zeroizing::new(body.as_ref().to_vec()),
        received: SystemTime::UNIX_EPOCH,
        cut: None,
    }
}

/// Returns the response with a connection that was closed before its end.
fn cut(answer: Answer, cause: Cause) -> Answer {
    Answer {
        cut: Some(FetchError::transient(cause, "cut")),
        ..answer
    }
}

fn read_with(answer: &Answer, client_secret: &str) -> Result<Fetched, FetchError> {
    let login = None;
    let secrets = Secrets {
        client_secret,
        login,
    };
    read(answer, &requested(), secrets, SERVER_NAME, Naming::Keys)
}

fn result(answer: &Answer) -> Result<Fetched, FetchError> {
    read_with(answer, SECRET)
}

fn token(body: impl AsRef<[u8]>) -> Result<Fetched, FetchError> {
    result(&answer(200, &[("content-type", "application/json")], body))
}

fn refuse(status: u16, headers: &[(&'static str, &str)], body: impl AsRef<[u8]>) -> FetchError {
    result(&answer(status, headers, body)).unwrap_err()
}

#[track_caller]
fn transient(error: FetchError) -> (Cause, String) {
    match error {
        FetchError::Transient { cause, message, .. } => (cause, message),
        FetchError::Denied { message, .. } | FetchError::ProxyLogin { message } => {
            panic!("denied: {message}")
        }
    }
}

#[track_caller]
fn denied(error: FetchError) -> (bool, String) {
    match error {
        FetchError::Denied {
            scope_only,
            message,
            ..
        } => (scope_only, message),
        FetchError::ProxyLogin { message } | FetchError::Transient { message, .. } => {
            panic!("not denied: {message}")
        }
    }
}

fn message(error: FetchError) -> String {
    match error {
        FetchError::Denied { message, .. }
        | FetchError::ProxyLogin { message }
        | FetchError::Transient { message, .. } => message,
    }
}

fn gzip(body: impl AsRef<[u8]>) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(body.as_ref()).unwrap();
    encoder.finish().unwrap()
}

proptest! {
    #[test]
    fn no_answer_panics_or_shows_the_secret(
        status in 100..600_u16,
        start in ".{0,20}",
        body in proptest::collection::vec(any::<u8>(), 0..200),
        header in 0..6_usize,
        form in 0..4_usize,
    ) {
        let secret = "c4nary s+cret/é";
        let encoded: String = url::form_urlencoded::byte_serialize(secret.as_bytes()).collect();
        let login = STANDARD.encode(format!("{start}:{encoded}"));
        let forms = [secret.to_owned(), encoded.clone(), login.clone(), start.clone()];
        let json = serde_json::json!({
            "error": forms[form], "error_description": forms[(form + 1) % 4],
            "message": start, "status": 400, "token_type": secret, "access_token": "abc",
        });
        let all = [json.to_string().into_bytes(), body].concat();
        let names = ["content-type", "content-encoding", "server", "www-authenticate", "age", "date"];
        let value = format!("error=\"{encoded}\" {login}");
        let headers = [(names[header], value.as_str())];
        for body in [&all[..], json.to_string().as_bytes(), &gzip(&all)] {
            let mut answer = answer(status, &headers, body);
            for cause in [None, Some(Cause::Connect)] {
                answer.cut = cause.map(|cause| FetchError::transient(cause, "cut"));
                let Err(error) = read_with(&answer, secret) else {
                    continue;
                };
                let message = message(error);
                prop_assert!(!message.contains(char::is_control), "{:?}", message);
                for form in [secret, &encoded, &login] {
                    prop_assert!(!message.contains(form), "{}", message);
                }
            }
        }
    }

    #[test]
    fn part_of_a_token_response_is_never_a_token(
        length in 0..114_usize, closes in any::<bool>(), compressed in any::<bool>(),
    ) {
        let whole = format!(
            "{{\"access_token\":\"{}\",\"expires_in\":3599}}",
            "a".repeat(80)
        );
        let body = if compressed { gzip(&whole) } else { whole.into_bytes() };
        prop_assume!(length < body.len());
        let part = answer(200, &[], &body[..length]);
        let part = if closes { cut(part, Cause::Connect) } else { part };
        prop_assert!(result(&part).is_err());
    }
}

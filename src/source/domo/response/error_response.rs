//! Classifies responses with another status than 200: rejected, or transient.

use std::time::Duration;

use hyper::StatusCode;

use super::Answer;
use super::content_encoding::{self, End};
use super::error_body::ErrorBody;
use super::headers::retry_after;
use super::responder_name::Responder;
use crate::config::Setting;
use domo_token_core::fetch_result::{Cause, FetchError};

/// What servers respond to plain HTTP on their port for TLS: nginx, Apache, Go and Tomcat.
const PLAIN_HTTP: [&str; 4] = [
    "plain http request was sent to https port",
    "speaking plain http to an ssl-enabled server port",
    "sent an http request to an https server",
    "combination of host and port requires tls",
];

/// How much of a page is searched for these, in bytes.
const MAX_PAGE: usize = 4096;

/// Returns the error of a response with another status than 200.
pub(super) fn read(answer: &Answer, responder: &Responder<'_>) -> FetchError {
    let decoded = content_encoding::decode(&answer.headers, &answer.body);
    let error = ErrorBody::read(&answer.headers, decoded.bytes());
    let hint = hint(answer.status, decoded.bytes(), responder);
    let message = message(
        answer.status,
        &error,
        &decoded.end,
        hint.as_deref(),
        responder,
    );
    let wait = retry_after(&answer.headers, answer.received);
    if is_denied(answer.status, &error, wait) {
        let scope_only = error.oauth_code() == Some("invalid_scope");
        return FetchError::Denied {
            scope_only,
            in_domos_form: error.is_rejection(),
            message,
        };
    }
    FetchError::Transient {
        cause: cause(answer.status, &error, wait),
        message,
        retry_after: wait,
    }
}

fn is_denied(status: StatusCode, error: &ErrorBody, wait: Option<Duration>) -> bool {
    match status.as_u16() {
        401 => true,
        400 | 403 => error.is_rejection() && error.asks_to_retry().is_none() && wait.is_none(),
        _ => false,
    }
}

fn cause(status: StatusCode, error: &ErrorBody, wait: Option<Duration>) -> Cause {
    match status.as_u16() {
        400 | 403 => {
            let waits = wait.map(|_| Cause::Server);
            error.asks_to_retry().or(waits).unwrap_or(Cause::Unusable)
        }
        404 => Cause::NotFound,
        407 => Cause::Proxy,
        429 => Cause::RateLimited,
        408 | 425 | 500..=599 => Cause::Server,
        304 => Cause::Unusable,
        300..=399 => Cause::RedirectRefused,
        _ => Cause::Unusable,
    }
}

/// Returns what to do about that status of Domo or a proxy.
fn hint(status: StatusCode, body: &[u8], responder: &Responder<'_>) -> Option<String> {
    let naming = responder.naming();
    let check = responder.check_url();
    let other_method = "change token_method to the other one of \"post\" and \"get\"";
    let hint = match status.as_u16() {
        400 | 497 if is_about_plain_http(body) => {
            let key = naming.name(Setting::TOKEN_URL);
            &format!("the port speaks TLS; write https:// in {key}")
        }
        200..=299 => "a token response has status 200; a proxy may have changed the response",
        304 => "the request is not conditional; it must not be answered by a cache",
        300..=399 => {
            &format!("redirects are not followed, because they would forward the secret; {check}")
        }
        404 => &check,
        405 => naming.choose(
            other_method,
            "for GET, use a config file with token_method = \"get\"",
            other_method,
        ),
        407 => naming.choose(
            "an intermediate proxy requires a login; set it as proxy, with the login in \
             proxy_auth_file",
            "an intermediate proxy requires a login; set it as DOMO_PROXY, with the login in \
             DOMO_PROXY_AUTH_FILE",
            "an intermediate proxy requires a login; set it with --proxy, with the login in \
             --proxy-auth-file",
        ),
        421 => &format!("the server is not responsible for this host; {check}"),
        426 => &format!("the server requires a protocol other than HTTP/1.1; {check}"),
        511 => "the network requires a login in a browser (captive portal)",
        _ => return None,
    };
    Some(hint.to_owned())
}

fn is_about_plain_http(body: &[u8]) -> bool {
    let page = body.get(..MAX_PAGE).unwrap_or(body);
    let page = String::from_utf8_lossy(page).to_ascii_lowercase();
    PLAIN_HTTP.iter().any(|message| page.contains(message))
}

/// Returns the responder, its message, and what to do.
fn message(
    status: StatusCode,
    error: &ErrorBody,
    end: &End,
    hint: Option<&str>,
    responder: &Responder<'_>,
) -> String {
    let is_domos = error.is_domos();
    let mut message = if is_domos {
        responder.domo()
    } else {
        responder.anyone()
    };
    let mut text = error.text(responder);
    if let End::Unsupported(coding) = end {
        let coding = responder.name(coding);
        text = format!("its Content-Encoding \"{coding}\" is not supported");
    }
    if !text.is_empty() {
        message.push_str(": ");
        message.push_str(text.trim_start());
    }
    match hint {
        Some(hint) => {
            message.push_str("; ");
            message.push_str(hint);
        }
        None if text.is_empty() && !is_domos && status.as_u16() >= 400 => {
            message.push_str(": the response may be from a proxy or gateway");
        }
        None => {}
    }
    message
}

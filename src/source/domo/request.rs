//! Builds token requests: the client credentials grant with HTTP Basic (RFC 6749 §4.4.2).

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use domo_token_protocol::scope::ScopeSet;
use http_body_util::Full;
use hyper::body::Bytes;
use hyper::header::{
    ACCEPT, ACCEPT_ENCODING, AUTHORIZATION, CONTENT_TYPE, HOST, HeaderValue, USER_AGENT,
};
use hyper::{Method, Request};
use secrecy::ExposeSecret;
use url::{Position, form_urlencoded};
use zeroize::Zeroizing;

use crate::config::{Endpoint, TokenMethod};
use crate::connect;
use crate::credentials::Credentials;

/// Returns the request for a token of this scope set.
pub(super) fn token_request(
    endpoint: &Endpoint,
    credentials: &Credentials,
    scope: &ScopeSet,
) -> Result<Request<Full<Bytes>>, hyper::http::Error> {
    let parameters = form_urlencoded::Serializer::new(String::new())
        .append_pair("grant_type", "client_credentials")
        .append_pair("scope", scope.as_str())
        .finish();
    let path = &endpoint.url[Position::BeforePath..Position::AfterPath];
    let host = &endpoint.url[Position::BeforeHost..Position::AfterPort];
    let request = Request::builder()
        .header(HOST, host)
        .header(AUTHORIZATION, authorization(credentials)?)
        .header(ACCEPT, "application/json")
        // Without it any coding is acceptable (RFC 9110 §12.5.3).
        .header(ACCEPT_ENCODING, "identity")
        .header(USER_AGENT, connect::USER_AGENT);
    match endpoint.method {
        TokenMethod::Post => request
            .method(Method::POST)
            .uri(path)
            .header(CONTENT_TYPE, "application/x-www-form-urlencoded")
            .body(Full::from(parameters)),
        TokenMethod::Get => request
            .method(Method::GET)
            .uri(format!("{path}?{parameters}"))
            .body(Full::default()),
    }
}

/// Returns the HTTP Basic header with id and secret (RFC 6749 §2.3.1).
fn authorization(credentials: &Credentials) -> Result<HeaderValue, hyper::http::Error> {
    let id = form_encode(&credentials.client_id);
    let secret = form_encode(credentials.client_secret.expose_secret());
    let plain = Zeroizing::new(format!("{}:{}", *id, *secret));
    let value = Zeroizing::new(format!(
        "Basic {}",
        *Zeroizing::new(STANDARD.encode(&*plain))
    ));
    let mut value = HeaderValue::from_str(&value)?;
    value.set_sensitive(true);
    Ok(value)
}

/// Id and secret are form-encoded before Basic (RFC 6749 §2.3.1).
fn form_encode(text: &str) -> Zeroizing<String> {
    Zeroizing::new(form_urlencoded::byte_serialize(text.as_bytes()).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn id_and_secret_are_form_encoded() {
        assert_eq!(form_encode("a b+c:d%é").as_str(), "a+b%2Bc%3Ad%25%C3%A9");
    }
}

//! The token endpoint.

use std::io;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http_body_util::{BodyExt, Limited};
use hyper::body::Incoming;
use hyper::header::{AUTHORIZATION, HeaderMap};
use hyper::{Method, Request, Response};
use serde_json::{Map, Value, json};
use url::form_urlencoded;

use crate::api::OWNER_ID;
use crate::body::Answer;
use crate::clock;
use crate::fault::{Fault, TokenFault};
use crate::fault_response::{before_head, with_fault};
use crate::record::Recorded;
use crate::response::{Closed, JSON, domo_error, reason};
use crate::state::{Issued, State};
use crate::token;

/// The path of the token endpoint.
pub(crate) const TOKEN_PATH: &str = "/oauth/token";

/// The longest form that is read, in bytes.
const MAX_FORM: usize = 64 * 1024;

/// A response without faults.
struct Plain {
    status: u16,
    body: Value,
    token: Option<String>,
}

/// Answers a token request.
pub(crate) async fn answer(
    request: Request<Incoming>,
    state: &State,
) -> Result<Response<Answer>, Closed> {
    let at = state.since_start();
    let method = request.method().clone();
    let basic = basic(request.headers());
    let query = request.uri().query().unwrap_or_default().to_owned();
    let form = Limited::new(request.into_body(), MAX_FORM).collect().await;
    let form = form.map_err(io::Error::other)?.to_bytes();
    let posted = method == Method::POST;
    // Domo seems to read only the form of a POST request.
    let parameters = if posted { &form[..] } else { query.as_bytes() };
    let parameter = |name: &str| {
        let mut pairs = form_urlencoded::parse(parameters);
        pairs
            .find(|(key, _)| key == name)
            .map(|(_, value)| value.into_owned())
    };
    let recorded = Recorded {
        at,
        method: method.to_string(),
        path: TOKEN_PATH.to_owned(),
        grant_type: parameter("grant_type"),
        scope: parameter("scope"),
        client_id: basic.as_ref().map(|(id, _)| id.clone()),
        in_query: !query.is_empty(),
        status: None,
        answered_at: None,
        token: None,
    };
    let (number, mut fault, mut recovery) = state.record_request(recorded.clone());
    before_head(&fault, &mut recovery).await?;
    state.delay().await;
    let plain = if let Some(status) = fault.status {
        error_response(status, domo_error(status, reason(status), TOKEN_PATH))
    } else if posted || method == Method::GET {
        grant(&recorded, basic.as_ref(), &fault, state)
    } else {
        error_response(
            405,
            domo_error(405, "Request method not supported", TOKEN_PATH),
        )
    };
    state.record_response(number, plain.status, plain.token);
    let mut body = plain.body;
    if let Some(fields) = body.as_object_mut() {
        replace(fields, std::mem::take(&mut fault.fields));
    }
    let body = body.to_string().into_bytes();
    Ok(with_fault(plain.status, body, JSON, fault, recovery))
}

fn error_response(status: u16, body: Value) -> Plain {
    Plain {
        status,
        body,
        token: None,
    }
}

/// Returns the normal response, except for a token's text that a fault replaces.
fn grant(
    request: &Recorded,
    basic: Option<&(String, String)>,
    fault: &Fault,
    state: &State,
) -> Plain {
    let known = basic.and_then(|(id, secret)| {
        let inner = state.lock();
        let client = inner
            .clients
            .get(id)
            .filter(|client| client.secret == *secret)?;
        Some((id.clone(), client.granted.clone()))
    });
    let Some((client_id, granted)) = known else {
        return error_response(401, domo_error(401, "Bad client credentials", TOKEN_PATH));
    };
    if request.grant_type.as_deref() != Some("client_credentials") {
        let body = json!({
            "error": "unsupported_grant_type",
            "error_description": "Unsupported grant type",
        });
        return error_response(400, body);
    }
    let requested = request.scope.as_deref().unwrap_or_default();
    let mut scopes: Vec<String> = requested
        .split_ascii_whitespace()
        .map(str::to_owned)
        .collect();
    if let Some(unknown) = scopes.iter().find(|scope| !granted.contains(scope)) {
        let body = json!({
            "error": "invalid_scope",
            "error_description": format!("Invalid scope: {unknown}"),
        });
        return error_response(400, body);
    }
    if scopes.is_empty() {
        scopes = granted;
    }
    issue(&client_id, scopes, fault, state)
}

fn issue(client_id: &str, scopes: Vec<String>, fault: &Fault, state: &State) -> Plain {
    let mut inner = state.lock();
    let scope = scopes.join(" ");
    let key = (client_id.to_owned(), scope.clone());
    let lifetime = inner.lifetime;
    let (fresh, jti) = token::issue(client_id, &scopes, clock::epoch() + lifetime);
    let text = match &fault.token {
        None => fresh,
        Some(TokenFault::Text(text)) => text.clone(),
        Some(TokenFault::Size(bytes)) => fresh.chars().cycle().take(*bytes).collect(),
        Some(TokenFault::Same) => inner.last.get(&key).cloned().unwrap_or(fresh),
    };
    let now = clock::now();
    let issued = inner.tokens.entry(text.clone()).or_insert(Issued {
        client_id: client_id.to_owned(),
        scopes,
        expires: now + lifetime,
        revoked_at: state.revocation(now),
    });
    let left = issued.expires.saturating_duration_since(now);
    inner.last.insert(key, text.clone());
    let body = json!({
        "access_token": text,
        "customer": "sandbox",
        "env": "prod1",
        "expires_in": left.as_millis().div_ceil(1000),
        "jti": jti,
        "role": "Admin",
        "scope": scope,
        "token_type": "bearer",
        "userId": OWNER_ID,
    });
    Plain {
        status: 200,
        body,
        token: Some(text),
    }
}

fn replace(fields: &mut Map<String, Value>, faults: Vec<(&'static str, Option<Value>)>) {
    for (name, value) in faults {
        match value {
            Some(value) => {
                fields.insert(name.to_owned(), value);
            }
            None => {
                fields.remove(name);
            }
        }
    }
}

/// Returns user and password of HTTP Basic, which OAuth form-encodes (RFC 6749 §2.3.1).
fn basic(headers: &HeaderMap) -> Option<(String, String)> {
    let text = headers.get(AUTHORIZATION)?.to_str().ok()?;
    let encoded = text.strip_prefix("Basic ")?;
    let decoded = String::from_utf8(STANDARD.decode(encoded.trim()).ok()?).ok()?;
    let (user, password) = decoded.split_once(':')?;
    Some((form_decode(user), form_decode(password)))
}

fn form_decode(text: &str) -> String {
    let mut pairs = form_urlencoded::parse(text.as_bytes());
    pairs
        .next()
        .map(|(key, _)| key.into_owned())
        .unwrap_or_default()
}

//! The protected resources: checks the token, and calls the API.

use std::io;

use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper::header::{ACCEPT, AUTHORIZATION, EXPECT, HeaderMap};
use hyper::http::request::Parts;
use hyper::{Request, Response};
use serde_json::{Value, json};

use crate::api::{Call, Content, Family, Problem, Reply};
use crate::body::Answer;
use crate::clock;
use crate::fault::{Fault, RejectTiming};
use crate::fault_response::{before_head, with_fault};
use crate::record::ResourceCall;
use crate::response::{Closed, JSON, domo_error, json_response, reason, respond};
use crate::state::{Inner, State};

/// What a token permits.
struct Access {
    /// The client that the token was issued to, if this sandbox issued it.
    client_id: Option<String>,
    /// 200, or the status of the rejection.
    status: u16,
}

/// A body, or why it was not read to its end.
enum Upload {
    Whole(Vec<u8>),
    TooLarge,
    /// The token was revoked meanwhile.
    Revoked,
    /// The client expects the rejection before it sends the body.
    NotStarted,
}

/// Answers a call of a protected resource with that path after the name of its family.
pub(crate) async fn answer(
    request: Request<Incoming>,
    family: Family,
    path: &[&str],
    state: &State,
) -> Result<Response<Answer>, Closed> {
    let at = state.since_start();
    let (head, body) = request.into_parts();
    let token = token(&head.headers);
    let access = access_of(token, family.scope(), &state.lock());
    let mut call = ResourceCall {
        at,
        method: head.method.to_string(),
        path: head.uri.path().to_owned(),
        status: access.status,
        token_known: access.client_id.is_some(),
        client_id: access.client_id,
        body_bytes: 0,
        answered_at: at,
        is_fault: false,
    };
    let limit = family.max_body(path, state.limits());
    let mut upload = Upload::NotStarted;
    // Without permission the body is read too: a client may read the response only after it has sent the body. One
    // that sent `Expect` reads it first.
    if access.status == 200 || !state.sends_continue() || !expects_continue(&head.headers) {
        let limit = if access.status == 200 { limit } else { 0 };
        upload = read(body, limit, token, state, &mut call.body_bytes).await?;
    }
    state.delay().await;
    let response = match (access.status, upload) {
        (200, Upload::Revoked) => Ok(unauthorized(&head.headers)),
        (200, upload) => {
            let body = match &upload {
                Upload::Whole(body) => Some(body.as_slice()),
                Upload::TooLarge | Upload::Revoked | Upload::NotStarted => None,
            };
            permitted(&head, family, path, body, limit, state, &mut call.is_fault).await
        }
        (403, _) => Ok(json_response(403, &insufficient_scope(family.scope()))),
        _ => Ok(unauthorized(&head.headers)),
    };
    call.status = response
        .as_ref()
        .map_or(0, |response| response.status().as_u16());
    call.answered_at = state.since_start();
    state.lock().resource_calls.push(call);
    response
}

/// Answers a call with permission; without its body, that is larger than the limit.
async fn permitted(
    head: &Parts,
    family: Family,
    path: &[&str],
    body: Option<&[u8]>,
    limit: usize,
    state: &State,
    is_fault: &mut bool,
) -> Result<Response<Answer>, Closed> {
    let uri_path = head.uri.path();
    if let Some((fault, mut recovery)) = state.next_call_fault() {
        *is_fault = true;
        before_head(&fault, &mut recovery).await?;
        let status = fault.status.unwrap_or(503);
        // A held response is a normal one.
        if fault != Fault::hold() {
            let body = domo_error(status, reason(status), uri_path).to_string();
            return Ok(with_fault(status, body.into_bytes(), JSON, fault, recovery));
        }
    }
    let Some(body) = body else {
        return Ok(reply(Err(Problem::too_large(limit)), uri_path));
    };
    let call = Call {
        method: head.method.as_str(),
        path,
        query: head.uri.query().unwrap_or_default(),
        headers: &head.headers,
        body,
    };
    let result = state.lock().store.answer(family, &call);
    Ok(reply(result, uri_path))
}

fn expects_continue(headers: &HeaderMap) -> bool {
    headers
        .get(EXPECT)
        .is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"100-continue"))
}

/// Returns the token of a request, or nothing.
fn token(headers: &HeaderMap) -> &str {
    let header = headers.get(AUTHORIZATION);
    // The scheme is case-insensitive (RFC 9110 §11.1), and pydomo's is in lower case.
    header
        .and_then(|value| value.to_str().ok())
        .and_then(|text| text.split_once(' '))
        .filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"))
        .map_or("", |(_, token)| token)
}

fn access_of(token: &str, scope: &str, inner: &Inner) -> Access {
    let Some(issued) = inner.tokens.get(token) else {
        return Access {
            client_id: None,
            status: 401,
        };
    };
    let status = if !issued.is_valid(clock::now()) {
        401
    } else if issued.scopes.iter().any(|held| held == scope) {
        200
    } else {
        403
    };
    Access {
        client_id: Some(issued.client_id.clone()),
        status,
    }
}

/// Reads a whole body of up to `limit` bytes.
async fn read(
    mut body: Incoming,
    limit: usize,
    token: &str,
    state: &State,
    received: &mut u64,
) -> io::Result<Upload> {
    let mut bytes = Some(Vec::new());
    let mut is_revoked = false;
    while let Some(frame) = body.frame().await {
        let Ok(data) = frame.map_err(io::Error::other)?.into_data() else {
            continue;
        };
        *received += data.len() as u64;
        bytes = bytes.filter(|bytes| bytes.len() + data.len() <= limit);
        if let Some(bytes) = &mut bytes {
            bytes.extend_from_slice(&data);
        }
        match state.revoke_in_upload(*received, token) {
            Some(RejectTiming::DuringBody) => {
                // Without a reader, the connection would be reset, perhaps before the client reads the response.
                tokio::spawn(async move { while let Some(Ok(_)) = body.frame().await {} });
                return Ok(Upload::Revoked);
            }
            Some(RejectTiming::AfterBody) => is_revoked = true,
            None => {}
        }
    }
    Ok(match bytes {
        _ if is_revoked => Upload::Revoked,
        Some(bytes) => Upload::Whole(bytes),
        None => Upload::TooLarge,
    })
}

fn reply(result: Result<Reply, Problem>, path: &str) -> Response<Answer> {
    match result {
        Ok(Reply { status, content }) => match content {
            Content::None => respond(status, Answer::whole(Vec::new()), None),
            Content::Json(body) => json_response(status, &body),
            Content::Csv(body) => respond(status, Answer::whole(body), Some("text/csv")),
        },
        Err(Problem { status, message }) => {
            json_response(status, &domo_error(status, &message, path))
        }
    }
}

fn unauthorized(headers: &HeaderMap) -> Response<Answer> {
    // As Domo does if the error's JSON is not acceptable.
    if headers
        .get(ACCEPT)
        .is_some_and(|accept| accept == "text/csv")
    {
        let page = "<!DOCTYPE html><html><body>Not Acceptable</body></html>";
        let kind = Some("text/html;charset=UTF-8");
        return respond(406, Answer::whole(page.into()), kind);
    }
    let description = "Cannot convert access token to JSON";
    let body = json!({"error": "invalid_token", "error_description": description});
    json_response(401, &body)
}

fn insufficient_scope(scope: &str) -> Value {
    json!({
        "error": "insufficient_scope",
        "error_description": "Insufficient scope for this resource",
        "scope": scope,
    })
}

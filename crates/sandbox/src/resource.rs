//! The protected resources: checks the token, and calls the API.

use std::io;

use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper::header::{ACCEPT, AUTHORIZATION, HeaderMap};
use hyper::{Request, Response};
use serde_json::{Value, json};

use crate::api::{Call, Content, Family, Problem, Reply};
use crate::body::Answer;
use crate::clock;
use crate::record::ResourceCall;
use crate::response::{Closed, domo_error, json_response, respond};
use crate::state::{Inner, State};

/// Answers a call of a protected resource with that path after the name of its family.
pub(crate) async fn answer(
    request: Request<Incoming>,
    family: Family,
    path: &[&str],
    state: &State,
) -> Result<Response<Answer>, Closed> {
    let at = state.since_start();
    let (head, body) = request.into_parts();
    let (token_known, status) = status_for(token(&head.headers), family.scope(), &state.lock());
    let limits = state.limits();
    // Without permission the body is read too: a client may read the response only after it has sent the body.
    let limit = if status == 200 {
        family.max_body(path, limits)
    } else {
        0
    };
    let body = read(body, limit).await.map_err(io::Error::other)?;
    state.delay().await;
    let response = match (status, body) {
        (200, Some(body)) => {
            let call = Call {
                method: head.method.as_str(),
                path,
                query: head.uri.query().unwrap_or_default(),
                headers: &head.headers,
                body: &body,
            };
            let result = state.lock().store.answer(family, &call);
            reply(result, head.uri.path())
        }
        (200, None) => reply(Err(Problem::too_large(limit)), head.uri.path()),
        (403, _) => json_response(403, &insufficient_scope(family.scope())),
        _ => unauthorized(&head.headers),
    };
    state.lock().resource_calls.push(ResourceCall {
        at,
        method: head.method.to_string(),
        path: head.uri.path().to_owned(),
        status: response.status().as_u16(),
        token_known,
    });
    Ok(response)
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

fn status_for(token: &str, scope: &str, inner: &Inner) -> (bool, u16) {
    let Some(issued) = inner.tokens.get(token) else {
        return (false, 401);
    };
    if !issued.is_valid(clock::now()) {
        return (true, 401);
    }
    let status = if issued.scopes.iter().any(|held| held == scope) {
        200
    } else {
        403
    };
    (true, status)
}

/// Reads a whole body; `None` if it is longer than the limit.
async fn read(mut body: Incoming, limit: usize) -> Result<Option<Vec<u8>>, hyper::Error> {
    let mut bytes = Some(Vec::new());
    while let Some(frame) = body.frame().await {
        if let Ok(data) = frame?.into_data() {
            bytes = bytes.filter(|bytes| bytes.len() + data.len() <= limit);
            if let Some(bytes) = &mut bytes {
                bytes.extend_from_slice(&data);
            }
        }
    }
    Ok(bytes)
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

//! Routes requests to the token endpoint and to the protected resources.

use std::sync::Arc;

use hyper::body::Incoming;
use hyper::{Request, Response};

use crate::api::Family;
use crate::body::Answer;
use crate::response::{Closed, domo_error, json_response};
use crate::state::State;
use crate::token_endpoint::TOKEN_PATH;
use crate::{resource, token_endpoint};

/// Answers one request.
pub(crate) async fn answer(
    request: Request<Incoming>,
    state: Arc<State>,
) -> Result<Response<Answer>, Closed> {
    let path = request.uri().path().to_owned();
    if path == TOKEN_PATH {
        return token_endpoint::answer(request, &state).await;
    }
    if let Some((family, rest)) = Family::of_path(&path) {
        return resource::answer(request, family, &rest, &state).await;
    }
    state.delay().await;
    Ok(json_response(404, &domo_error(404, "Not Found", &path)))
}

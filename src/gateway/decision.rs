//! Decides about a request by its head and the settings: what it is for, which application sent it, and which rule
//! permits it.

use std::sync::Arc;

use zeroize::Zeroizing;

use super::error::Refusal;
use super::head::Head;
use super::local_token::{self, InvalidToken, Verified};
use super::request::Forwarded;
use super::settings::{App, State};
use crate::platform::clock::{since_1970, wall_now};
use crate::request_head::BodyLength;

/// What is done with a request.
pub(super) enum Decision {
    Forward(Forwarded),
    /// It is for the token endpoint.
    Token(ReceivedHead),
    Refuse(Refused),
}

/// A request that is not forwarded.
pub(super) struct Refused {
    pub(super) refusal: Refusal,
    pub(super) method: String,
    /// The path without the query.
    pub(super) path: String,
    /// The application, if its local token is valid.
    pub(super) app: Option<Arc<App>>,
}

/// The head of a request to the token endpoint.
pub(super) struct ReceivedHead {
    pub(super) method: String,
    pub(super) query: Option<String>,
    pub(super) authorization: Option<Zeroizing<Vec<u8>>>,
    pub(super) body: BodyLength,
    /// Whether the application waits for the permission to send its body.
    pub(super) is_awaited: bool,
}

/// Decides about a request that was sent by `scheme`.
pub(super) fn decide(head: &Head<'_, '_>, state: &State, scheme: &str) -> Decision {
    if head.target.is_token_endpoint() {
        return Decision::Token(ReceivedHead {
            method: head.method.to_owned(),
            query: head.target.query.map(str::to_owned),
            authorization: head
                .authorization
                .map(|value| Zeroizing::new(value.to_vec())),
            body: head.body,
            is_awaited: head.expects_continue,
        });
    }
    let refuse = |refusal: Refusal, app: Option<Arc<App>>| {
        Decision::Refuse(Refused {
            refusal,
            method: head.method.to_owned(),
            path: head.target.path.to_owned(),
            app,
        })
    };
    let (app, verified) = match authenticate(head, state) {
        Ok(found) => found,
        Err(invalid) => return refuse(Refusal::Token(invalid), None),
    };
    let Some((scopes, token_request)) = app.rule(head.method, head.target.path) else {
        return refuse(Refusal::NoRule, Some(app));
    };
    if !scopes.missing_from(&verified.scopes).is_empty() {
        let refusal = Refusal::MissingScopes(scopes.clone());
        return refuse(refusal, Some(app));
    }
    let token_request = Arc::clone(token_request);
    Decision::Forward(Forwarded::new(head, app, token_request, scheme))
}

fn authenticate(head: &Head<'_, '_>, state: &State) -> Result<(Arc<App>, Verified), InvalidToken> {
    let value = head.authorization.ok_or(InvalidToken::Missing)?;
    let token = local_token::bearer(value)?;
    let keys = |name: &str| state.apps.get(name).map(|app| Arc::clone(&app.keys));
    let now = since_1970(wall_now()).as_secs();
    let verified = local_token::verify(token, keys, now)?;
    let app = state.apps.get(&verified.app);
    let app = app.ok_or(InvalidToken::UnknownApp)?;
    Ok((Arc::clone(app), verified))
}

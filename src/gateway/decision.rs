//! Decides about a request by its head and the settings: what it is for, which application sent it, and which rule
//! permits it.

use std::sync::Arc;
use std::time::Duration;

use domo_token_protocol::scope::ScopeSet;
use zeroize::Zeroizing;

use super::error::Refusal;
use super::head::Head;
use super::local_token::{self, InvalidToken, Verified};
use super::request::Forwarded;
use super::settings::{App, State};
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

/// What a valid local token permits, and when that was verified. Within the same second and with the same settings the
/// same token is valid, too: a busy connection verifies it once a second.
pub(super) struct Login {
    /// The value of `Authorization`.
    value: Zeroizing<Vec<u8>>,
    verified_s: u64,
    /// Of the settings.
    generation: u64,
    app: Arc<App>,
    scopes: ScopeSet,
}

/// Decides about a request that was sent by `scheme`, at `now` since 1970. `login` is the last one of its connection.
pub(super) fn decide(
    head: &Head<'_, '_>,
    state: &State,
    scheme: &str,
    now: Duration,
    login: &mut Option<Login>,
) -> Decision {
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
    let Login { app, scopes, .. } = match authenticate(head, state, now.as_secs(), login) {
        Ok(login) => login,
        Err(invalid) => return refuse(Refusal::Token(invalid), None),
    };
    let app = Arc::clone(app);
    let Some((needed, token_request)) = app.rule(head.method, head.target.path) else {
        return refuse(Refusal::NoRule, Some(app));
    };
    if !needed.missing_from(scopes).is_empty() {
        let refusal = Refusal::MissingScopes(needed.clone());
        return refuse(refusal, Some(app));
    }
    let token_request = Arc::clone(token_request);
    Decision::Forward(Forwarded::new(head, app, token_request, scheme))
}

fn authenticate<'l>(
    head: &Head<'_, '_>,
    state: &State,
    now_s: u64,
    login: &'l mut Option<Login>,
) -> Result<&'l Login, InvalidToken> {
    let value = head.authorization.ok_or(InvalidToken::Missing)?;
    let is_same = |login: &Login| {
        login.verified_s == now_s
            && login.generation == state.generation
            && login.value.as_slice() == value
    };
    if let Some(last) = login.take().filter(is_same) {
        return Ok(login.insert(last));
    }
    let token = local_token::bearer(value)?;
    let keys = |name: &str| state.apps.get(name).map(|app| Arc::clone(&app.keys));
    let Verified { app, scopes } = local_token::verify(token, keys, now_s)?;
    let app = state.apps.get(&app).ok_or(InvalidToken::UnknownApp)?;
    Ok(login.insert(Login {
        value: Zeroizing::new(value.to_vec()),
        verified_s: now_s,
        generation: state.generation,
        app: Arc::clone(app),
        scopes,
    }))
}

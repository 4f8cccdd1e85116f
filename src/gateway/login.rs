//! Serves `/oauth/token`: local tokens for applications with the right secret.

use std::sync::PoisonError;
use std::time::Duration;

use tokio::time::sleep;
use tracing::{debug, warn};
use zeroize::Zeroizing;

use super::body::receive;
use super::chunked::Decoder;
use super::connection::{Answered, Connection, Next};
use super::decision::ReceivedHead;
use super::error::Refusal;
use super::local_token::{TokenId, issue};
use super::pump::Framing;
use super::session::{self, AppError};
use super::target::TOKEN_PATH;
use super::token_endpoint::{
    MAX_BODY, RawRequest, TokenRequest, token_response, wrong_credentials,
};
use super::upload::CONTINUE;
use crate::platform::clock::Clock;
use crate::request_head::BodyLength;

/// What a request for a token results in.
enum Login {
    /// The response with the token.
    Issued(Zeroizing<Vec<u8>>),
    Refused(Refusal),
    /// The name of an application of the config, if it is one, with another secret.
    Wrong(Option<String>),
}

impl<C: Clock> Connection<C> {
    /// Answers a request to the token endpoint.
    pub(super) async fn serve_token(&mut self, head: ReceivedHead, closes: bool) -> Next {
        let refused = |closes| Answered {
            path: TOKEN_PATH,
            is_head: head.method == "HEAD",
            closes,
        };
        let body = match self.token_body(&head).await {
            Ok(body) => body,
            Err(AppError::Disconnected) => return Next::Abort,
            Err(AppError::TimedOut) => return self.refuse(&Refusal::Late, refused(true)).await,
            Err(AppError::Malformed(error)) => {
                return self.refuse(&Refusal::Chunk(error), refused(true)).await;
            }
        };
        let request = TokenRequest::parse(RawRequest {
            method: &head.method,
            query: head.query.as_deref(),
            authorization: head.authorization.as_ref().map(|value| value.as_slice()),
            body: &body,
        });
        let login = match request {
            Ok(request) => self.log_in(&request, closes),
            Err(refusal) => Login::Refused(refusal),
        };
        match login {
            Login::Issued(response) => self.respond(&response, closes).await,
            Login::Refused(refusal) => self.refuse(&refusal, refused(closes)).await,
            Login::Wrong(app) => {
                sleep(self.count_failure(app.as_deref())).await;
                self.refuse(&wrong_credentials(), refused(closes)).await
            }
        }
    }

    /// Reads the body; one that is too long as far as this shows.
    async fn token_body(&mut self, head: &ReceivedHead) -> Result<Vec<u8>, AppError> {
        let framing = match head.body {
            BodyLength::None => return Ok(Vec::new()),
            BodyLength::Length(length) => Framing::Length(length),
            BodyLength::Chunked => Framing::Chunked(Decoder::new()),
        };
        let limit = self.gateway.0.timing.first_head;
        let (link, alarm) = (&mut self.link, &mut self.alarm);
        if head.is_awaited {
            session::send(link, alarm, CONTINUE, limit).await?;
        }
        Ok(receive(link, alarm, framing, MAX_BODY, limit).await?.bytes)
    }

    fn log_in(&mut self, request: &TokenRequest, closes: bool) -> Login {
        let state = self.gateway.state();
        let Some(app) = state.apps.get(&request.app) else {
            return Login::Wrong(None);
        };
        if app.is_broken {
            let message = "the files of the application cannot be used; run: domo-tokend check";
            return Login::Refused(Refusal::AppUnusable(message.to_owned()));
        }
        let mut secrets = app.hashes.iter().zip(app.keys.iter());
        let matching = secrets.find(|(hash, _)| hash.matches(&request.secret));
        let Some((_, key)) = matching else {
            return Login::Wrong(Some(request.app.clone()));
        };
        let granted = match &app.scopes {
            Some(scopes) => request.granted(scopes),
            None => Err(Refusal::NoRule),
        };
        let scopes = match granted.and_then(|scopes| self.join(app).map(|()| scopes)) {
            Ok(scopes) => scopes,
            Err(refusal) => return Login::Refused(refusal),
        };
        let id = TokenId(fastrand::u128(..));
        let now = self.gateway.0.broker.wall().as_secs();
        let token = issue(app.name(), &scopes, id, key, now);
        debug!(
            app = app.name(),
            scopes = scopes.as_str(),
            "issued a local token"
        );
        let delivery = self.delivery(false, closes);
        Login::Issued(token_response(&token, &scopes, id, delivery))
    }

    /// Logs a failed login with the name of that application, and returns how long its answer is delayed.
    fn count_failure(&self, app: Option<&str>) -> Duration {
        let logins = self.gateway.0.logins.lock();
        let mut logins = logins.unwrap_or_else(PoisonError::into_inner);
        let failed = logins.failed(app, self.gateway.0.broker.now());
        drop(logins);
        if let Some(failures) = failed.log {
            let app = app.unwrap_or("unknown");
            warn!(app, failures, "wrong credentials at the gateway");
        }
        failed.delay
    }
}

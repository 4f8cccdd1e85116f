//! A watch as an event stream (WHATWG HTML, server-sent events).

use std::path::Path;
use std::pin::Pin;
use std::time::Duration;

use domo_token_core::access_policy::Caller;
use domo_token_core::token::Token;
use domo_token_protocol::messages::{Refusal, RefusalKind, TokenSubject};
use serde::Serialize;
use tokio::time::sleep;

use super::body::{self, Body, Now};
use super::head::Head;
use super::problem::Problem;
use super::response::{self, ConnectionEnd, LAST_CHUNK, chunked_head};
use super::{Next, Session, SessionError};
use crate::api::{self, Answer, Request, Watch};
use crate::broker::Broker;
use crate::platform::clock::Clock;

/// How often a comment is sent, so that both sides notice a lost connection.
const COMMENT_INTERVAL: Duration = Duration::from_secs(15);

const COMMENT: &[u8] = b": keep-alive\n\n";

/// The data of an event without a token.
#[derive(Serialize)]
struct Failure<'a> {
    detail: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    retry_after_ms: Option<u64>,
}

impl Session {
    pub(super) async fn serve_watch<C: Clock>(
        &mut self,
        subject: &TokenSubject,
        head: &Head<'_>,
        broker: &Broker<C>,
        caller: &Caller,
        stopped: Pin<&mut impl Future<Output = ()>>,
    ) -> Result<Next, SessionError> {
        let request = Request::Watch(subject.clone());
        let problem = match api::handle(broker, &request, caller).await {
            Ok(Answer::Watch(watch)) => match self.permit.begin_watch() {
                Ok(()) => {
                    let seen = head.last_event_id;
                    self.send_events(watch, seen, broker, stopped).await?;
                    self.permit.end_watch();
                    return Ok(Next::End);
                }
                Err(cause) => Problem::busy(cause),
            },
            Ok(Answer::Token(_) | Answer::Messages(_)) => return Err(SessionError::Answer),
            Err(refusal) => Problem::of_refusal(refusal, Now::read().boot),
        };
        let response = problem.into();
        self.respond(&response, head.method, ConnectionEnd::Close)
            .await?;
        Ok(Next::End)
    }

    /// Sends events until the scope set is removed, the caller loses its right to it, disconnects or does not
    /// read, or the daemon stops. A first token whose generation is `seen` is skipped.
    async fn send_events<C: Clock>(
        &mut self,
        mut watch: Box<Watch<C>>,
        mut seen: Option<&str>,
        broker: &Broker<C>,
        mut stopped: Pin<&mut impl Future<Output = ()>>,
    ) -> Result<(), SessionError> {
        let start = chunked_head(response::EVENTS, ConnectionEnd::Close, Now::read().wall);
        self.send([&start]).await?;
        loop {
            let news = tokio::select! {
                // So that the last message is sent before the stream ends.
                biased;
                news = watch.next() => news,
                disconnected = self.disconnected() => return disconnected,
                () = &mut stopped => break,
                () = sleep(COMMENT_INTERVAL) => {
                    self.send_chunk(&COMMENT.to_vec().into()).await?;
                    continue;
                }
            };
            let news = match news {
                Ok(token) => match self.attest(broker).await? {
                    Some(attested) => watch.confirm(token, &attested.caller),
                    None => return Ok(()),
                },
                Err(refusal) => Err(refusal),
            };
            match news {
                Ok(token) => {
                    let generation = token.validity().generation.to_string();
                    if seen.take() != Some(&*generation) {
                        let event = token_event(&token, self.socket(), Now::read());
                        self.send_chunk(&event).await?;
                    }
                }
                // The daemon stops: the caller connects again.
                Err(refusal) if refusal.kind == RefusalKind::Busy => break,
                Err(refusal) => {
                    let last = is_last(refusal.kind);
                    let event = failure_event(refusal, Now::read());
                    self.send_chunk(&event).await?;
                    if last {
                        break;
                    }
                }
            }
        }
        self.send([LAST_CHUNK]).await
    }
}

fn token_event(token: &Token, socket: &Path, now: Now) -> Body {
    let generation = token.validity().generation;
    let start = format!("event: token\nid: {generation}\ndata: ");
    body::token_json(&start, token, socket, now, "\n\n")
}

/// Returns whether no more follows a refusal.
fn is_last(kind: RefusalKind) -> bool {
    kind != RefusalKind::Unavailable
}

fn failure_event(refusal: Refusal, now: Now) -> Body {
    let name = if is_last(refusal.kind) {
        "gone"
    } else {
        "unavailable"
    };
    let problem = Problem::of_refusal(refusal, now.boot);
    let mut event = format!("event: {name}\ndata: ").into_bytes();
    body::write_json(
        &mut event,
        &Failure {
            detail: &problem.detail,
            retry_after_ms: problem.retry_after_ms(),
        },
    );
    event.extend_from_slice(b"\n\n");
    event.into()
}

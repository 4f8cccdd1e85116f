//! The HTTP/1.1 adapter of the API: one connection's requests and responses.
//!
//! - `head`: parses heads, and rejects ambiguous ones.
//! - `problem`: errors as problem details.
//! - `route`: paths and queries as requests of the API.
//! - `response`: responses as bytes.
//! - `body`: tokens, status and explanations as bodies.
//! - `events`: a watch as an event stream.
//!
//! hyper is not used here: its own rejections have no body, it accepts heads that must be rejected, and requests
//! have no bodies. Heads are parsed by the same parser, httparse.

mod body;
mod events;
mod head;
mod problem;
mod response;
mod route;

use std::borrow::Cow;
use std::pin::Pin;
use std::time::Duration;

use domo_token_core::access_policy::Caller;
use domo_token_core::token::Token;
use domo_token_protocol::messages::{Request, Response as Message, TokenRequest, TokenSubject};
use tokio::task::yield_now;
use tokio::time::{Instant, sleep, timeout, timeout_at};

use super::peer::USER_HZ_TICK;
use super::session::{AMBIGUOUS, Session, SessionError};
use crate::api::{self, Answer, Messages};
use crate::broker::{Broker, METRICS_TYPE};
use crate::platform::clock::Clock;

use body::{Body, Now};
use head::{Head, Method};
use problem::{Kind, Status};
use response::{CHUNK_END, ConnectionEnd, LAST_CHUNK, Response, chunk_start, chunked_head};
use route::{Format, Route};

pub(super) use head::MAX_HEAD;
pub(super) use problem::Problem;

/// How long a connection may be idle between two requests.
const IDLE: Duration = Duration::from_secs(10);

/// How long a connection is read, and what is read discarded, after a response that ends it. Otherwise the caller could
/// not read the response while it still sends.
const LINGER: Duration = Duration::from_secs(1);

/// The most bytes that are discarded.
const MAX_DISCARDED: usize = 1024 * 1024;

/// The size at which a part of a long body is sent, in bytes.
const CHUNK: usize = 4096;

/// The description of the API.
const OPENAPI: &str = include_str!("http/openapi.json");

/// Returns a whole response that rejects a caller whose connection is then closed.
/// `request` are the first bytes of its request.
pub(super) fn rejection(problem: Problem, request: &[u8]) -> Vec<u8> {
    let response = Response::from(problem);
    let mut bytes = response.head(ConnectionEnd::Close, Now::read().wall);
    bytes.extend_from_slice(&response.body_for(Method::of(request)).concat());
    bytes
}

/// What follows a response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Next {
    Request,
    /// The connection ends.
    End,
}

impl Session {
    /// Serves requests until the caller disconnects, is idle, or violates the protocol. The first one must be
    /// complete at `deadline`.
    pub(super) async fn serve_http<C: Clock>(
        mut self: Box<Self>,
        broker: &Broker<C>,
        mut stopped: Pin<&mut impl Future<Output = ()>>,
        deadline: Instant,
    ) -> Result<(), SessionError> {
        if let Err(cause) = self.permit.begin_http(Now::read().boot) {
            let method = Method::of(&self.unread);
            return self.reject(Problem::busy(cause), method).await;
        }
        let mut head = tokio::select! {
            biased;
            head = timeout_at(deadline, self.read_head()) => head??,
            () = &mut stopped => return Ok(()),
        };
        loop {
            let bytes = match head {
                Ok(Some(bytes)) => bytes,
                Ok(None) => return Ok(()),
                Err(problem) => {
                    let method = Method::of(&self.unread);
                    return self.reject(problem, method).await;
                }
            };
            self.permit.wait_for_turn().await;
            let next = self.serve_request(&bytes, broker, stopped.as_mut()).await?;
            if next == Next::End {
                return Ok(());
            }
            if !self.unread.is_empty() {
                // Others are served in between, even if many requests were sent together.
                yield_now().await;
            }
            head = self.next_head(stopped.as_mut()).await?;
        }
    }

    /// Sends a response after which the connection ends.
    async fn reject(&mut self, problem: Problem, method: Method) -> Result<(), SessionError> {
        self.respond(&problem.into(), method, ConnectionEnd::Close)
            .await?;
        self.discard().await;
        Ok(())
    }

    /// Reads and discards what the caller still sends, for [`LINGER`] at most.
    async fn discard(&mut self) {
        self.stream.shut_down();
        let discarding = async {
            let mut left = MAX_DISCARDED;
            while left > 0 {
                self.unread.clear();
                match self.read_more().await {
                    Ok(0) | Err(_) => break,
                    Ok(read) => left = left.saturating_sub(read),
                }
            }
        };
        // A caller that sends more has had time to read the response.
        let _ = timeout(LINGER, discarding).await;
    }

    async fn next_head(
        &mut self,
        stopped: Pin<&mut impl Future<Output = ()>>,
    ) -> Result<Result<Option<Vec<u8>>, Problem>, SessionError> {
        if self.unread.is_empty() {
            // An idle connection holds no buffer.
            self.unread = Vec::new();
            let read = tokio::select! {
                biased;
                read = timeout(IDLE, self.read_more()) => read,
                () = stopped => return Ok(Ok(None)),
            };
            match read {
                Ok(Ok(0)) | Err(_) => return Ok(Ok(None)),
                Ok(read) => read?,
            };
        }
        let limit = self.permit.deadlines().request;
        timeout(limit, self.read_head()).await?
    }

    /// Reads until a head is complete, and returns its bytes; `None` if the caller has disconnected.
    async fn read_head(&mut self) -> Result<Result<Option<Vec<u8>>, Problem>, SessionError> {
        // RFC 9112 §2.2: some callers send empty lines after a request.
        let mut seen = 0;
        loop {
            let empty = head::empty_lines(&self.unread);
            if empty > 0 {
                self.unread.drain(..empty);
                seen = 0;
            }
            match head::length(&self.unread, seen) {
                Ok(None) => seen = self.unread.len(),
                Ok(Some(length)) => {
                    let rest = self.unread.split_off(length);
                    return Ok(Ok(Some(std::mem::replace(&mut self.unread, rest))));
                }
                Err(problem) => return Ok(Err(problem)),
            }
            if self.read_more().await? == 0 {
                return Ok(Ok(None));
            }
        }
    }

    async fn serve_request<C: Clock>(
        &mut self,
        bytes: &[u8],
        broker: &Broker<C>,
        stopped: Pin<&mut impl Future<Output = ()>>,
    ) -> Result<Next, SessionError> {
        let head = match head::parse(bytes) {
            Ok(head) => head,
            Err(problem) => {
                self.reject(problem, Method::of(bytes)).await?;
                return Ok(Next::End);
            }
        };
        // Where a body ends is not followed.
        let end = if head.closes || head.has_body {
            ConnectionEnd::Close
        } else {
            ConnectionEnd::KeepOpen
        };
        let next = match route::route(&head) {
            Ok(route) => self.serve_route(route, &head, broker, end, stopped).await?,
            Err(problem) => {
                self.respond(&problem.into(), head.method, end).await?;
                Next::Request
            }
        };
        if head.has_body {
            self.discard().await;
        }
        Ok(if end == ConnectionEnd::Close {
            Next::End
        } else {
            next
        })
    }

    async fn serve_route<C: Clock>(
        &mut self,
        route: Route,
        head: &Head<'_>,
        broker: &Broker<C>,
        end: ConnectionEnd,
        stopped: Pin<&mut impl Future<Output = ()>>,
    ) -> Result<Next, SessionError> {
        let Some(attested) = self.attest(broker).await? else {
            return Ok(Next::End);
        };
        let Some(caller) = Self::admit(attested, broker, route.name()) else {
            sleep(USER_HZ_TICK).await;
            let response = Problem::busy(AMBIGUOUS).into();
            self.respond(&response, head.method, end).await?;
            return Ok(Next::Request);
        };
        let response = match route {
            Route::Token(request, format) => {
                let answer = self.token(request, format, head, broker, &caller);
                match answer.await? {
                    Some(response) => response,
                    None => return Ok(Next::End),
                }
            }
            Route::Watch(subject) => {
                let subject = &subject;
                return Box::pin(self.serve_watch(subject, head, broker, &caller, stopped)).await;
            }
            Route::Status => {
                Box::pin(self.serve_status(head.method, broker, &caller, end)).await?;
                return Ok(Next::Request);
            }
            Route::Metrics => {
                Box::pin(self.serve_metrics(head.method, broker, &caller, end)).await?;
                return Ok(Next::Request);
            }
            Route::Explain(subject) => {
                let explanation = broker.explain(&subject, &caller);
                let body = body::explanation(&explanation, self.socket());
                Response::new(Status::OK, response::JSON, body)
            }
            Route::Live => health(api::live(broker).await),
            Route::Ready => health(api::ready(broker, &caller)),
            Route::ReadySet { client, scope } => {
                match api::ready_set(broker, &client, &scope, &caller) {
                    Some(ready) => health(ready),
                    None => Problem::new(Kind::NotFound, api::NO_SUCH_SCOPE_SET).into(),
                }
            }
            Route::OpenApi => Response::new(Status::OK, response::JSON, Cow::Borrowed(OPENAPI)),
        };
        self.respond(&response, head.method, end).await?;
        Ok(Next::Request)
    }

    /// Returns the response to a token request; `None` if the caller disconnects before.
    async fn token<C: Clock>(
        &mut self,
        request: TokenRequest,
        format: Format,
        head: &Head<'_>,
        broker: &Broker<C>,
        caller: &Caller,
    ) -> Result<Option<Response>, SessionError> {
        self.awaits_token = true;
        let renews = request.renew.is_some();
        let request = Request::Token(request);
        let answer = tokio::select! {
            // Most answers are ready immediately.
            biased;
            answer = api::handle(broker, &request, caller) => answer,
            disconnected = self.disconnected() => return disconnected.map(|()| None),
        };
        Ok(Some(match answer {
            Ok(Answer::Token(token)) => {
                let generation = token.validity().generation;
                if !renews && has_etag(&head.if_none_match, generation) {
                    Response::not_modified(generation)
                } else {
                    self.token_response(&token, format)
                }
            }
            Ok(Answer::Watch(_) | Answer::Messages(_)) => bug(),
            Err(refusal) => Problem::of_refusal(refusal, Now::read().boot).into(),
        }))
    }

    /// Returns once the caller has disconnected. What it sends meanwhile is kept, up to the size of a head; if it ends its
    /// direction, it may still wait for the response.
    async fn disconnected(&mut self) -> Result<(), SessionError> {
        while self.unread.len() < MAX_HEAD {
            if self.read_more().await? == 0 {
                return Ok(self.stream.closed().await?);
            }
        }
        std::future::pending().await
    }

    fn token_response(&self, token: &Token, format: Format) -> Response {
        let kind = match format {
            Format::Json => response::JSON,
            Format::Token | Format::Header => response::TEXT,
        };
        let body = body::token(token, format, self.socket(), Now::read());
        Response {
            generation: Some(token.validity().generation),
            ..Response::new(Status::OK, kind, body)
        }
    }

    async fn respond(
        &mut self,
        response: &Response,
        method: Method,
        end: ConnectionEnd,
    ) -> Result<(), SessionError> {
        self.awaits_token = false;
        let head = response.head(end, Now::read().wall);
        let [start, token, rest] = response.body_for(method);
        self.send([&head, start, token, rest]).await
    }

    async fn serve_status<C: Clock>(
        &mut self,
        method: Method,
        broker: &Broker<C>,
        caller: &Caller,
        end: ConnectionEnd,
    ) -> Result<(), SessionError> {
        let now = Now::read();
        self.send([&chunked_head(response::JSON, end, now.wall)])
            .await?;
        if method == Method::Head {
            return Ok(());
        }
        // As the helper: the default client does not depend on the scope set.
        let any = TokenSubject {
            client: None,
            scope: "data".to_owned(),
        };
        let default_client = broker.explain(&any, caller).client;
        let Ok(Answer::Messages(messages)) = api::handle(broker, &Request::Status, caller).await
        else {
            return Err(SessionError::Answer);
        };
        let socket = self.shared.socket.clone();
        let mut is_first = true;
        let mut write = |body: &mut Vec<u8>, message: Message| match message {
            Message::Broker(status) => {
                body.extend_from_slice(b"{\"broker\":");
                body::write_broker(body, &status, default_client.as_deref(), &socket, now);
                body.extend_from_slice(b",\"tokens\":[");
            }
            Message::Scope(set) => {
                if !std::mem::take(&mut is_first) {
                    body.push(b',');
                }
                body::write_scope(body, &set, now);
            }
            Message::End => body.extend_from_slice(b"]}\n"),
            Message::Token(_)
            | Message::Refusal(_)
            | Message::Explanation(_)
            | Message::Metrics(_) => {}
        };
        self.write_chunks(messages, &mut write).await
    }

    async fn serve_metrics<C: Clock>(
        &mut self,
        method: Method,
        broker: &Broker<C>,
        caller: &Caller,
        end: ConnectionEnd,
    ) -> Result<(), SessionError> {
        if let Err(cause) = self.permit.begin_metrics() {
            return self
                .respond(&Problem::busy(cause).into(), method, end)
                .await;
        }
        let now = Now::read();
        self.send([&chunked_head(METRICS_TYPE, end, now.wall)])
            .await?;
        if method == Method::Head {
            self.permit.end_metrics();
            return Ok(());
        }
        let Ok(Answer::Messages(messages)) = api::handle(broker, &Request::Metrics, caller).await
        else {
            return Err(SessionError::Answer);
        };
        let mut write = |body: &mut Vec<u8>, message: Message| {
            if let Message::Metrics(text) = message {
                body.extend_from_slice(text.as_bytes());
            }
        };
        self.write_chunks(messages, &mut write).await?;
        self.permit.end_metrics();
        Ok(())
    }

    /// Writes messages as a body in chunks. Others are served in between, however many messages there are.
    async fn write_chunks(
        &mut self,
        messages: Messages<'_>,
        write: &mut (dyn FnMut(&mut Vec<u8>, Message) + Send),
    ) -> Result<(), SessionError> {
        let mut body = Vec::new();
        for message in messages {
            write(&mut body, message);
            if body.len() >= CHUNK {
                self.send_chunk(&Body::from(std::mem::take(&mut body)))
                    .await?;
                yield_now().await;
                self.permit.wait_for_turn().await;
            }
        }
        if !body.is_empty() {
            self.send_chunk(&body.into()).await?;
        }
        self.send([LAST_CHUNK]).await
    }

    /// Sends a chunk, which must not be empty.
    async fn send_chunk(&mut self, chunk: &Body) -> Result<(), SessionError> {
        let size = chunk_start(chunk.len());
        let [start, token, rest] = chunk.pieces();
        self.send([size.as_bytes(), start, token, rest, CHUNK_END])
            .await
    }
}

/// Returns the response to a health check.
fn health(result: Result<&'static str, impl Into<Cow<'static, str>>>) -> Response {
    let (status, text) = match result {
        Ok(text) => (Status::OK, Cow::Borrowed(text)),
        Err(text) => (Status::UNAVAILABLE, text.into()),
    };
    Response::new(status, response::TEXT, text)
}

fn bug() -> Response {
    let detail = "the broker found no answer; please report this bug";
    Problem::new(Kind::Bug, detail).into()
}

/// Returns whether `If-None-Match` names a generation (RFC 9110 §13.1.2).
fn has_etag(fields: &[&str], generation: u64) -> bool {
    let current = format!("\"{generation}\"");
    let is_current = |tag: &str| {
        let tag = tag.trim();
        tag.strip_prefix("W/").unwrap_or(tag) == current
    };
    fields
        .iter()
        .any(|field| field.trim() == "*" || field.split(',').any(is_current))
}

#[cfg(all(unix, any(test, fuzzing)))]
pub(in crate::server) mod fuzzing;

#[cfg(all(test, unix))]
mod tests;

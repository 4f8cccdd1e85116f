//! One forwarded request: a token of the broker, the request to the server, and its response. If the server rejects the
//! token, the request is sent once more with a new one, as long as its whole body is still there.

use std::future::poll_fn;
use std::task::{Context, Poll};

use domo_token_core::token::Token;
use domo_token_protocol::messages::{Refusal, Renew, TokenRequest};
use tokio::time::Instant;

use super::body;
use super::chunked::Decoder;
use super::download::Download;
use super::pump::{Encoding, Framing, Pump, PumpError};
use super::rejection::Rejection;
use super::request::Forwarded;
use super::response::{Additions, ResponseStart};
use super::response_head::ResponseBody;
use super::session::{AppError, Session};
use super::settings::least_time_left;
use super::upload::{RequestBody, Upload};
use super::upstream::{ServerLink, UpstreamError};
use super::waiting::{self, AttemptError};
use crate::broker::Broker;
use crate::platform::clock::{Clock, timer_now};

/// One exchange between an application and the server of an API.
pub(super) struct Exchange<'a, 's, C> {
    pub(super) broker: &'a Broker<C>,
    pub(super) session: &'a mut Session<'s>,
    pub(super) request: &'a Forwarded,
    /// Whether the application's connection ends after the response.
    pub(super) closes: bool,
    /// Whether the whole request was read, so that another one can follow.
    pub(super) is_read: bool,
}

/// Why an exchange has no complete response of the server.
#[derive(Debug)]
pub(super) enum Failure {
    App(AppError),
    /// There is no token.
    Refused(Refusal),
    Upstream(UpstreamError),
    /// The response with this status was sent in part.
    Incomplete(u16),
}

impl From<AppError> for Failure {
    fn from(error: AppError) -> Self {
        Self::App(error)
    }
}

impl From<UpstreamError> for Failure {
    fn from(error: UpstreamError) -> Self {
        Self::Upstream(error)
    }
}

impl<C: Clock> Exchange<'_, '_, C> {
    /// Forwards the request, and returns the status that was sent to the application.
    ///
    /// # Errors
    ///
    /// [`Failure`]; unless it is incomplete, nothing was sent to the application.
    pub(super) async fn run(&mut self) -> Result<u16, Failure> {
        let request = self.request;
        let mut body = body::read(self.session, request.body, request.is_awaited).await?;
        self.is_read = matches!(body, RequestBody::Held(_));
        let mut token = self.token(&body).await?;
        let head = request.head(token.text(), &body);
        let is_gated = request.is_gated(&body);
        let mut upload = Upload::new(&head, &mut body, is_gated);
        let (server, start) = self.attempt(&mut upload).await?;
        if !request.is_rejection(start.status) {
            return self.deliver(server, start, &mut upload, false).await;
        }
        let rejection = Rejection::receive(self.session, server, start).await;
        self.is_read |= upload.is_done;
        let permission = upload.rest_of_permission();
        let generation = token.validity().generation;
        let renewed = self.renewed_token(generation).await?;
        let is_renewed = renewed.is_some();
        match renewed {
            Some(renewed) if body.is_intact() => token = renewed,
            Some(_) | None => return self.pass(rejection, permission, is_renewed).await,
        }
        drop(rejection);
        self.session.usage.count_retry();
        let head = request.head(token.text(), &body);
        let is_gated = request.is_gated(&body);
        let mut upload = Upload::new(&head, &mut body, is_gated);
        let (server, start) = self.attempt(&mut upload).await?;
        let is_renewed = request.is_rejection(start.status);
        self.deliver(server, start, &mut upload, is_renewed).await
    }

    /// Returns the token of the rule. With a long body it is valid for a while yet, if the broker can do that.
    async fn token(&mut self, body: &RequestBody) -> Result<Token, Failure> {
        let request = &self.request.token_request;
        let caller = &self.request.app.caller;
        let answer = self.broker.token(request, caller);
        let token = self.session.while_connected(answer).await?;
        let token = token.map_err(Failure::Refused)?;
        if matches!(body, RequestBody::Held(_)) {
            return Ok(token);
        }
        let least = least_time_left(token.validity().lifetime);
        if token.validity().left(self.broker.now()) >= least {
            return Ok(token);
        }
        let request = TokenRequest {
            min_ttl_ms: u64::try_from(least.as_millis()).ok(),
            ..(**request).clone()
        };
        let answer = self.broker.token(&request, caller);
        let longer = self.session.while_connected(answer).await?;
        Ok(longer.unwrap_or(token))
    }

    /// Returns a newer token than that of `generation`; `None` if there is none in time.
    async fn renewed_token(&mut self, generation: u64) -> Result<Option<Token>, AppError> {
        let request = TokenRequest {
            renew: Some(Renew::Rejected(generation)),
            ..(*self.request.token_request).clone()
        };
        let answer = self.broker.token(&request, &self.request.app.caller);
        let renewed = self.session.while_connected(answer).await?;
        Ok(renewed
            .ok()
            .filter(|token| token.validity().generation != generation))
    }

    /// Sends the request, and returns the start of its response. On a kept connection that turns out to be closed before
    /// anything was sent, it is sent on a new one.
    async fn attempt(
        &mut self,
        upload: &mut Upload<'_>,
    ) -> Result<(ServerLink, ResponseStart), Failure> {
        let upstream = &self.request.app.upstream;
        let connected = self.session.while_connected(upstream.connection());
        let mut server = connected.await??;
        loop {
            let answer =
                waiting::response_start(self.session, &mut server, upload, self.request).await;
            let error = match answer {
                Ok(start) => return Ok((server, start)),
                Err(AttemptError::App(error)) => return Err(error.into()),
                Err(AttemptError::Upstream(error)) => return Err(error.into()),
                Err(AttemptError::Server(error)) => error,
            };
            if !server.is_reused || upload.has_written() {
                return Err(upstream.failure(&server, &error).into());
            }
            let connecting = Box::pin(upstream.connect());
            let connected = self.session.while_connected(connecting);
            server = connected.await??;
        }
    }

    /// Sends the response to the application, while the rest of the request goes on.
    async fn deliver(
        &mut self,
        mut server: ServerLink,
        start: ResponseStart,
        upload: &mut Upload<'_>,
        is_renewed: bool,
    ) -> Result<u16, Failure> {
        self.is_read |= upload.is_done;
        upload.release();
        let additions = Additions {
            closes: self.closes || !self.is_read,
            is_renewed,
        };
        let (status, keeps_open) = (start.status, start.keeps_open);
        let pump = pump_of(start.body);
        server.link.buffer.consume(start.length);
        let mut head = upload.rest_of_permission().to_vec();
        head.append(&mut start.finish(additions));
        let mut relay = Relay {
            download: Download::new(head, pump),
            upload,
            moved: 0,
            last: timer_now(),
        };
        let session = &mut *self.session;
        let sent = poll_fn(|context| relay.poll(context, session, &mut server)).await;
        let is_request_sent = relay.upload.is_done;
        sent.map_err(|()| Failure::Incomplete(status))?;
        self.is_read |= is_request_sent;
        self.closes = additions.closes;
        if keeps_open && is_request_sent && server.link.buffer.is_empty() {
            self.request.app.upstream.keep(server);
        }
        Ok(status)
    }

    /// Sends a response that was received in full before.
    async fn pass(
        &mut self,
        rejection: Rejection,
        permission: &[u8],
        is_renewed: bool,
    ) -> Result<u16, Failure> {
        self.closes |= !self.is_read;
        let additions = Additions {
            closes: self.closes,
            is_renewed,
        };
        let (status, bytes) = rejection.finish(additions);
        self.session.count_received(bytes.len());
        let bytes = [permission, &bytes].concat();
        let sent = self.session.send(&bytes).await;
        sent.map_err(|_| Failure::Incomplete(status))?;
        Ok(status)
    }
}

fn pump_of(body: ResponseBody) -> Option<Pump> {
    let (framing, encoding) = match body {
        ResponseBody::None => return None,
        ResponseBody::Length(length) => (Framing::Length(length), Encoding::Identity),
        ResponseBody::Chunked => (Framing::Chunked(Decoder::new()), Encoding::Chunked),
        ResponseBody::UntilClose => (Framing::UntilClose, Encoding::Chunked),
    };
    Some(Pump::new(framing, encoding))
}

/// A response on its way, and the rest of its request.
struct Relay<'a, 'u> {
    download: Download,
    upload: &'a mut Upload<'u>,
    /// The bytes that were moved at the time `last`.
    moved: u64,
    last: Instant,
}

impl Relay<'_, '_> {
    /// Moves what it can. Returns once the response was sent, or cannot be.
    fn poll(
        &mut self,
        context: &mut Context<'_>,
        session: &mut Session<'_>,
        server: &mut ServerLink,
    ) -> Poll<Result<(), ()>> {
        let Session {
            app,
            alarm,
            timing,
            usage,
        } = session;
        if self.upload.is_active() && !self.upload.is_gated {
            let stream = &mut *server.link.stream;
            let sent = self.upload.poll(context, app, stream, usage);
            if let Poll::Ready(Err(PumpError::Read | PumpError::Malformed(_))) = sent {
                return Poll::Ready(Err(()));
            }
        }
        let stream = &mut *app.stream;
        let sent = self.download.poll(context, &mut server.link, stream, usage);
        if let Poll::Ready(sent) = sent {
            return Poll::Ready(sent.map_err(|_| ()));
        }
        if !self.upload.reads_body() && app.poll_closed(context).is_ready() {
            return Poll::Ready(Err(()));
        }
        let moved = self.upload.moved() + self.download.moved();
        if moved != self.moved {
            self.moved = moved;
            self.last = timer_now();
        }
        let due = self.last + timing.idle;
        alarm.poll(context, due).map(|()| Err(()))
    }
}

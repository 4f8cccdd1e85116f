//! One connection of an application: its requests, one after another.

use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::Poll;
use std::time::UNIX_EPOCH;

use tokio::io::AsyncWrite;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::debug;

use super::Gateway;
use super::alarm::Alarm;
use super::buffer::Link;
use super::decision::{Decision, Login, decide};
use super::error::{Refusal, Toe};
use super::exchange::{Exchange, Failure};
use super::head::{self, MAX_HEAD};
use super::limits::{MAX_PER_APP, Place};
use super::listener::Scheme;
use super::own_response::Delivery;
use super::request::Forwarded;
use super::session::{self, AppError, Session};
use super::settings::App;
use super::upstream::UpstreamError;
use crate::audit::AppRequest;
use crate::broker::app_usage::AppConnection;
use crate::connect::Stream;
use crate::platform::clock::{BootTime, Clock, timer_now};
use crate::request_head::{BodyLength, empty_lines};

/// The status by which a request is recorded whose application disconnected before the response.
const DISCONNECTED: u16 = 499;

/// The most bytes that are discarded at once.
const DISCARD: usize = 64 * 1024;

/// What follows a response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// Another request.
    Request,
    /// The end of the connection, once the application has read the response.
    Close,
    /// The end of the connection: the application reads nothing more.
    Abort,
}

/// What the head of a request results in.
struct Received {
    decision: Decision,
    has_body: bool,
    /// Whether the application ends the connection after this request.
    closes: bool,
}

/// A request that the gateway itself answers.
pub(super) struct Answered<'a> {
    pub(super) path: &'a str,
    pub(super) is_head: bool,
    /// Whether the connection ends after the response.
    pub(super) closes: bool,
}

/// A connection of an application.
pub(super) struct Connection<C> {
    pub(super) gateway: Gateway<C>,
    pub(super) link: Link,
    pub(super) alarm: Alarm,
    scheme: Scheme,
    place: Place,
    /// The last valid local token.
    login: Option<Login>,
    /// The application that it was counted for.
    app: Option<(Arc<App>, AppConnection)>,
    /// When the head must be complete.
    deadline: Instant,
}

impl<C: Clock> Connection<C> {
    /// Returns a connection whose first head must be complete at `deadline`.
    pub(super) fn new(
        stream: Box<dyn Stream>,
        scheme: Scheme,
        gateway: Gateway<C>,
        place: Place,
        deadline: Instant,
    ) -> Self {
        Self {
            gateway,
            link: Link::new(stream),
            alarm: Alarm::new(deadline),
            scheme,
            place,
            login: None,
            app: None,
            deadline,
        }
    }

    /// Serves requests until the application disconnects, is idle, or violates the protocol; after `stop` is cancelled, at
    /// most one more.
    pub(super) async fn run(mut self, stop: CancellationToken) {
        let mut stopped = pin!(stop.cancelled());
        loop {
            let next = match self.next_head(stopped.as_mut()).await {
                Some(Ok(length)) => self.serve_request(length, &stop).await,
                Some(Err(refusal)) => self.refuse_head(&refusal).await,
                None => return,
            };
            match next {
                Next::Request => {}
                Next::Close => return self.close().await,
                Next::Abort => return,
            }
            self.link.buffer.shrink();
            self.deadline = timer_now() + self.gateway.0.timing.next_head;
        }
    }

    /// Returns the length of the next head; `None` at the end of the connection.
    async fn next_head(
        &mut self,
        mut stopped: Pin<&mut impl Future<Output = ()>>,
    ) -> Option<Result<usize, Refusal>> {
        let Self {
            gateway,
            link,
            alarm,
            deadline,
            ..
        } = self;
        let mut searched = 0;
        let stop_idle = gateway.0.timing.stop_idle;
        let mut due = *deadline;
        let mut is_stopping = false;
        poll_fn(|context| {
            loop {
                let empty = empty_lines(link.buffer.content());
                if empty > 0 {
                    // RFC 9112 §2.2: some applications send empty lines after a request.
                    link.buffer.consume(empty);
                    searched = 0;
                }
                match head::length(link.buffer.content(), searched) {
                    Ok(None) => searched = link.buffer.len(),
                    Ok(Some(length)) => return Poll::Ready(Some(Ok(length))),
                    Err(refusal) => return Poll::Ready(Some(Err(refusal))),
                }
                if !link.buffer.has_room() {
                    link.buffer.grow(MAX_HEAD + 1);
                }
                match link.poll_fill(context) {
                    Poll::Ready(Ok(0) | Err(_)) => return Poll::Ready(None),
                    Poll::Ready(Ok(_)) => {}
                    Poll::Pending => break,
                }
            }
            let is_idle = link.buffer.is_empty();
            if !is_stopping && stopped.as_mut().poll(context).is_ready() {
                is_stopping = true;
                due = due.min(timer_now() + stop_idle);
            }
            let late = alarm.poll(context, due);
            late.map(|()| (!is_idle).then_some(Err(Refusal::Late)))
        })
        .await
    }

    async fn serve_request(&mut self, length: usize, stop: &CancellationToken) -> Next {
        let received = match self.receive(length) {
            Ok(received) => received,
            Err(refusal) => return self.refuse_head(&refusal).await,
        };
        self.link.buffer.consume(length);
        let closes = received.closes || stop.is_cancelled();
        let has_body = received.has_body;
        match received.decision {
            Decision::Forward(request) => {
                if let Err(refusal) = self.join(&request.app) {
                    let answered = Answered {
                        path: &request.path,
                        is_head: request.is_head(),
                        closes: closes || has_body,
                    };
                    self.record(&request.app, &request.method, answered.path, &refusal);
                    return self.refuse(&refusal, answered).await;
                }
                self.forward(&request, closes).await
            }
            Decision::Token(request) => self.serve_token(request, closes).await,
            Decision::Refuse(refused) => {
                let answered = Answered {
                    path: &refused.path,
                    is_head: refused.method == "HEAD",
                    closes: closes || has_body,
                };
                if let Some(app) = &refused.app {
                    self.record(app, &refused.method, &refused.path, &refused.refusal);
                }
                self.refuse(&refused.refusal, answered).await
            }
        }
    }

    /// Parses the head of that length, and decides about the request. Not asynchronous, so that connections do not keep the
    /// space for the fields.
    fn receive(&mut self, length: usize) -> Result<Received, Refusal> {
        let bytes = self.link.buffer.content().get(..length);
        let mut storage = head::storage();
        let head = head::parse(bytes.unwrap_or_default(), &mut storage)?;
        let now = self.gateway.0.broker.wall();
        let state = self.gateway.state();
        Ok(Received {
            has_body: head.body != BodyLength::None,
            closes: head.closes,
            decision: decide(&head, &state, self.scheme.name(), now, &mut self.login),
        })
    }

    /// Counts the connection for an application with valid credentials, until it uses another one's.
    ///
    /// # Errors
    ///
    /// [`Refusal`] if there are too many.
    pub(super) fn join(&mut self, app: &Arc<App>) -> Result<(), Refusal> {
        if !self.place.authenticate() {
            return Err(Refusal::Busy);
        }
        if let Some((counted, _)) = &self.app
            && Arc::ptr_eq(&counted.usage, &app.usage)
        {
            return Ok(());
        }
        let max = MAX_PER_APP;
        let connection = app.usage.connect(max);
        let connection = connection.ok_or(Refusal::AppConnections { max })?;
        self.app = Some((Arc::clone(app), connection));
        Ok(())
    }

    async fn forward(&mut self, request: &Forwarded, closes: bool) -> Next {
        let started = self.gateway.0.broker.now();
        let gateway = self.gateway.clone();
        let mut session = Session {
            app: &mut self.link,
            alarm: &mut self.alarm,
            timing: &gateway.0.timing,
            usage: &request.app.usage,
        };
        let mut exchange = Exchange {
            broker: &gateway.0.broker,
            session: &mut session,
            request,
            closes,
            is_read: false,
        };
        let result = exchange.run().await;
        let closes = exchange.closes || !exchange.is_read;
        let refusal = match result {
            Ok(status) => {
                self.record_status(request, status, started);
                return if closes { Next::Close } else { Next::Request };
            }
            Err(Failure::Incomplete(status)) => {
                self.record_status(request, status, started);
                return Next::Abort;
            }
            Err(Failure::App(AppError::Disconnected)) => {
                self.record_status(request, DISCONNECTED, started);
                return Next::Abort;
            }
            Err(failure) => refusal_of(failure, gateway.0.broker.now()),
        };
        self.record_status(request, refusal.status().0, started);
        let answered = Answered {
            path: &request.path,
            is_head: request.is_head(),
            closes,
        };
        self.refuse(&refusal, answered).await
    }

    /// Answers a request whose head is invalid.
    async fn refuse_head(&mut self, refusal: &Refusal) -> Next {
        let answered = Answered {
            path: "",
            is_head: self.link.buffer.content().starts_with(b"HEAD "),
            closes: true,
        };
        self.refuse(refusal, answered).await
    }

    /// Answers a request that is not forwarded.
    pub(super) async fn refuse(&mut self, refusal: &Refusal, answered: Answered<'_>) -> Next {
        let closes = answered.closes || refusal.must_close();
        let toe = Toe(fastrand::u64(..));
        debug!(status = refusal.status().0, %toe, "refused a request of an application: {refusal}");
        let delivery = self.delivery(answered.is_head, closes);
        let response = refusal.response(answered.path, toe, delivery);
        self.respond(&response, closes).await
    }

    pub(super) fn delivery(&self, is_head: bool, closes: bool) -> Delivery {
        Delivery {
            is_head,
            closes,
            now: UNIX_EPOCH + self.gateway.0.broker.wall(),
        }
    }

    /// Sends a response of the gateway itself.
    pub(super) async fn respond(&mut self, response: &[u8], closes: bool) -> Next {
        let limit = self.gateway.0.timing.next_head;
        match session::send(&mut self.link, &mut self.alarm, response, limit).await {
            Err(_) => Next::Abort,
            Ok(()) if closes => Next::Close,
            Ok(()) => Next::Request,
        }
    }

    fn record(&self, app: &App, method: &str, path: &str, refusal: &Refusal) {
        let status = refusal.status().0;
        app.usage
            .count_request(method, status, self.gateway.0.broker.now());
        self.audit(app, method, path, status);
    }

    fn record_status(&self, request: &Forwarded, status: u16, started: BootTime) {
        let Forwarded {
            app, method, path, ..
        } = request;
        let now = self.gateway.0.broker.now();
        app.usage.count_request(method, status, now);
        self.audit(app, method, path, status);
        let duration_ms = now.saturating_since(started).as_millis();
        debug!(
            app = app.name(),
            method, path, status, duration_ms, "forwarded a request of an application"
        );
    }

    fn audit(&self, app: &App, method: &str, path: &str, status: u16) {
        self.gateway.0.broker.record_app_request(&AppRequest {
            app: app.name(),
            client: &app.client,
            method,
            path,
            status,
        });
    }

    /// Closes the connection. What the application still sends is discarded for a while: otherwise it could not read the
    /// response.
    async fn close(mut self) {
        let timing = self.gateway.0.timing;
        let end = timer_now() + timing.linger;
        let mut is_shut_down = false;
        loop {
            let due = end.min(timer_now() + timing.linger_idle);
            let Self { link, alarm, .. } = &mut self;
            link.buffer.consume(DISCARD);
            let read = poll_fn(|context| {
                if !is_shut_down {
                    // A failure shows when reading.
                    is_shut_down = Pin::new(&mut link.stream).poll_shutdown(context).is_ready();
                }
                match link.poll_fill(context) {
                    Poll::Ready(read) => Poll::Ready(read.unwrap_or(0)),
                    Poll::Pending => alarm.poll(context, due).map(|()| 0),
                }
            });
            if read.await == 0 || timer_now() >= end {
                return;
            }
        }
    }
}

fn refusal_of(failure: Failure, now: BootTime) -> Refusal {
    match failure {
        Failure::App(AppError::Malformed(error)) => Refusal::Chunk(error),
        Failure::App(AppError::TimedOut | AppError::Disconnected) | Failure::Incomplete(_) => {
            Refusal::Late
        }
        Failure::Upstream(UpstreamError::Failed(message)) => Refusal::Unreachable(message),
        Failure::Upstream(UpstreamError::NoAnswer) => Refusal::NoAnswer,
        Failure::Refused(refusal) => {
            let until = |next: BootTime| next.saturating_since(now);
            Refusal::NoToken {
                retry_after: refusal.next_attempt.map(until),
                message: refusal.cause,
            }
        }
    }
}

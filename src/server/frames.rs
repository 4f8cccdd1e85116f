//! The adapter of the API for frames: one connection's requests and responses, one at a time.

mod read;

use std::pin::Pin;

use domo_token_protocol::frame;
use domo_token_protocol::greeting::{self, GREETING, Greeting, HELLO};
use domo_token_protocol::messages::{OLDEST_VERSION, RefusalKind, Response, VERSION};
use tokio::task::yield_now;
use tokio::time::sleep;

use super::peer::USER_HZ_TICK;
use super::reject::busy;
use super::session::{AMBIGUOUS, MESSAGES_PER_TURN, Session, SessionError};
use crate::api::{self, Answer, Messages, Request, Watch};
use crate::broker::Broker;
use crate::platform::clock::Clock;

pub(super) use read::Incoming;

/// The longest request, in bytes, that a connection keeps while it is idle.
const MAX_KEPT_REQUEST: usize = 256;

/// The longest unread data: a hello and the frame of a request.
pub(super) const MAX_UNREAD: usize = HELLO + frame::HEAD + frame::MAX_REQUEST;

impl Session {
    /// Serves requests, beginning with `incoming`, until the caller disconnects, violates the protocol, or `stopped`
    /// completes.
    pub(super) async fn serve_frames<C: Clock>(
        mut self: Box<Self>,
        mut incoming: Box<Incoming>,
        broker: &Broker<C>,
        mut stopped: Pin<&mut impl Future<Output = ()>>,
    ) -> Result<(), SessionError> {
        loop {
            self.permit.wait_for_turn().await;
            let mut watch = self.respond_in_frames(&incoming.request, broker).await?;
            if let Some(watch) = &mut watch {
                self.watch(watch, broker, stopped.as_mut()).await?;
                self.permit.end_watch();
            }
            if !self.unread.is_empty() {
                // Others are served in between, even if many requests were sent together.
                yield_now().await;
            }
            let last = (incoming.frame.len() <= MAX_KEPT_REQUEST).then_some(incoming);
            match self.next_request(last, stopped.as_mut()).await? {
                Some(next) => incoming = next,
                None => return Ok(()),
            }
        }
    }

    /// Returns the first request, whose hello was received.
    pub(super) async fn first_frame(
        &mut self,
        hello: [u8; HELLO],
    ) -> Result<Option<Box<Incoming>>, SessionError> {
        let version = greeting::hello_version(hello)?;
        if !(OLDEST_VERSION..=VERSION).contains(&version) {
            self.write(&[]).await?;
            return Err(SessionError::Version(version));
        }
        self.version = version;
        self.unread.drain(..HELLO);
        self.rest_of_request().await
    }

    /// Answers a request. Returns the watch that it begins, if any.
    async fn respond_in_frames<C: Clock>(
        &mut self,
        request: &Request,
        broker: &Broker<C>,
    ) -> Result<Option<Box<Watch<C>>>, SessionError> {
        self.awaits_token = matches!(request, Request::Token(_));
        // Most callers need no look-up, and a future for one costs a tenth of an answer.
        let attested = match self.attest_now(broker) {
            Some(attested) => attested,
            None => match self.attest(broker).await? {
                Some(attested) => attested,
                None => return Ok(None),
            },
        };
        let Some(caller) = Self::admit(attested, broker, request.name()) else {
            sleep(USER_HZ_TICK).await;
            self.answer(busy(AMBIGUOUS.to_owned())).await?;
            return Ok(None);
        };
        if matches!(request, Request::Metrics)
            && let Err(cause) = self.permit.begin_metrics()
        {
            self.answer(busy(cause)).await?;
            return Ok(None);
        }
        let answer = tokio::select! {
            // Most answers are ready immediately.
            biased;
            answer = api::handle(broker, request, &caller) => answer,
            read = self.read_more() => return match read? {
                0 => Ok(None),
                _ => Err(SessionError::PipelinedRequest),
            },
        };
        match answer {
            Ok(Answer::Token(token)) => self.write(token.frame()).await?,
            Ok(Answer::Watch(watch)) => match self.permit.begin_watch() {
                Ok(()) => return Ok(Some(watch)),
                Err(cause) => self.answer(busy(cause)).await?,
            },
            Ok(Answer::Messages(messages)) => Box::pin(self.write_messages(messages)).await?,
            Err(refusal) => self.answer(Response::Refusal(refusal)).await?,
        }
        Ok(None)
    }

    async fn write_messages(&mut self, messages: Messages<'_>) -> Result<(), SessionError> {
        for (number, message) in (1..).zip(messages) {
            self.answer(message).await?;
            // Others are served in between, however many messages there are.
            if number % MESSAGES_PER_TURN == 0 {
                yield_now().await;
                self.permit.wait_for_turn().await;
            }
        }
        self.permit.end_metrics();
        // A whole answer can cost as much as many requests.
        yield_now().await;
        Ok(())
    }

    /// Sends each new token until the set is removed, the caller loses its right to it, disconnects or does
    /// not read, or the daemon stops. After the end of the stream the caller may connect again.
    async fn watch<C: Clock>(
        &mut self,
        watch: &mut Watch<C>,
        broker: &Broker<C>,
        mut stopped: Pin<&mut impl Future<Output = ()>>,
    ) -> Result<(), SessionError> {
        if self.unread.is_empty() {
            self.unread = Vec::new();
        }
        loop {
            let news = tokio::select! {
                // So that the last message is sent before the stream ends.
                biased;
                news = watch.next() => news,
                read = self.read_more() => return match read? {
                    0 => Ok(()),
                    _ => Err(SessionError::PipelinedRequest),
                },
                () = &mut stopped => return Ok(()),
            };
            let news = match news {
                Ok(token) => {
                    let Some(attested) = self.attest(broker).await? else {
                        return Ok(());
                    };
                    watch.confirm(token, &attested.caller)
                }
                Err(refusal) => Err(refusal),
            };
            match news {
                Ok(token) => self.write(token.frame()).await?,
                Err(refusal) => {
                    let last = refusal.kind != RefusalKind::Unavailable;
                    self.answer(Response::Refusal(refusal)).await?;
                    if last {
                        return Ok(());
                    }
                }
            }
        }
    }

    /// Encodes the response first, so that it is not in memory while its frame is written.
    pub(super) fn answer(
        &mut self,
        response: Response,
    ) -> impl Future<Output = Result<(), SessionError>> + Send + '_ {
        let frame = response.encode(self.version);
        async move { self.write(&frame?).await }
    }

    /// Writes an answer's frame; before the first one, in the same write, the greeting.
    async fn write(&mut self, frame: &[u8]) -> Result<(), SessionError> {
        self.awaits_token = false;
        let mut buffer = [0; GREETING];
        let greeting = self.greeting(&mut buffer);
        self.send([greeting, frame]).await
    }

    /// Returns the greeting at the first call, and nothing after that.
    pub(super) fn greeting<'a>(&mut self, buffer: &'a mut [u8; GREETING]) -> &'a [u8] {
        if std::mem::replace(&mut self.greeted, true) {
            return &[];
        }
        Greeting::new(self.version, self.accepted).encode(buffer)
    }
}

//! One connection of a fake broker: bytes in, frames out. No I/O.

use zeroize::Zeroizing;

use super::grants::Grants;
use crate::clock::BootTime;
use domo_token_protocol::frame::{self, FrameError};
use domo_token_protocol::greeting::{self, GREETING, Greeting, HELLO};
use domo_token_protocol::messages::{
    Asked, OLDEST_VERSION, RefusalKind, Request, Response, VERSION,
};
use domo_token_protocol::scope::ScopeSet;

/// The state of a connection.
pub(super) struct Session {
    /// Bytes of an incomplete request, which holds no secret.
    received: Vec<u8>,
    /// The boot clock when it was accepted.
    opened: BootTime,
    greeting: Option<Greeting>,
    watched: Option<(ScopeSet, Asked)>,
}

/// What to send, and whether the connection ends after it.
#[derive(Default)]
pub(super) struct Output {
    pub(super) frames: Vec<Zeroizing<Vec<u8>>>,
    pub(super) close: bool,
}

impl Session {
    pub(super) fn new(opened: BootTime) -> Self {
        Self {
            received: Vec::new(),
            opened,
            greeting: None,
            watched: None,
        }
    }

    /// Returns the responses to all requests that are complete with these bytes.
    pub(super) fn receive(&mut self, bytes: &[u8], grants: &mut Grants, now: BootTime) -> Output {
        self.received.extend_from_slice(bytes);
        let mut output = Output::default();
        if self.respond(grants, now, &mut output).is_err() {
            output.close = true;
        }
        output
    }

    fn respond(
        &mut self,
        grants: &mut Grants,
        now: BootTime,
        output: &mut Output,
    ) -> Result<(), FrameError> {
        if self.greeting.is_none() {
            let Some((hello, _)) = self.received.split_first_chunk::<HELLO>() else {
                return Ok(());
            };
            let version = greeting::hello_version(*hello)?;
            self.received.drain(..HELLO);
            let is_known = (OLDEST_VERSION..=VERSION).contains(&version);
            let greeting = Greeting::new(if is_known { version } else { VERSION }, self.opened);
            let bytes = greeting.encode(&mut [0; GREETING]).to_vec();
            output.frames.push(bytes.into());
            self.greeting = Some(greeting);
            output.close = !is_known;
        }
        while !output.close {
            let Some((body, used)) = frame::split_request(&self.received)? else {
                return Ok(());
            };
            let request = frame::decode::<Request>(body)?;
            self.received.drain(..used);
            let responses = grants.answer(&request, now);
            if let Request::Watch(asked) = request {
                let scope = ScopeSet::parse(&asked.scope).ok();
                self.watched = scope.map(|scope| (scope, asked));
            }
            for response in responses {
                output.add(&response)?;
                // Its watch ends with a decision.
                output.close |= self.watched.is_some() && is_decision(&response);
            }
        }
        Ok(())
    }

    /// Returns what a watcher is sent of a new token or a refusal.
    pub(super) fn notify(&self, scope: &ScopeSet, news: &Response) -> Output {
        let mut output = Output::default();
        let Some((_, asked)) = self
            .watched
            .as_ref()
            .filter(|(watched, _)| watched == scope)
        else {
            return output;
        };
        output.close = is_decision(news);
        if output
            .add(&super::grants::of_client(news.clone(), asked))
            .is_err()
        {
            output.close = true;
        }
        output
    }
}

impl Output {
    fn add(&mut self, response: &Response) -> Result<(), FrameError> {
        self.frames.push(frame::encode(response)?);
        Ok(())
    }
}

/// Returns whether a watch ends with this response.
fn is_decision(response: &Response) -> bool {
    matches!(response, Response::Refusal(refusal) if refusal.kind != RefusalKind::Unavailable)
}

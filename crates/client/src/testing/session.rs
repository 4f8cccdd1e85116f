//! One connection of a fake broker: bytes in, frames out. No I/O.

use zeroize::Zeroizing;

use super::grants::{Answer, Fault, Grants};
use crate::clock::BootTime;
use domo_token_protocol::frame::{self, FrameError};
use domo_token_protocol::greeting::{self, GREETING, Greeting, HELLO};
use domo_token_protocol::messages::{
    OLDEST_VERSION, RefusalKind, Request, Response, TokenSubject, VERSION,
};
use domo_token_protocol::scope::ScopeSet;

/// A protocol version that no client speaks.
const OTHER_VERSION: u8 = u8::MAX;

/// A frame whose body is no response.
const MALFORMED: [u8; 5] = [1, 0, 0, 0, 0x63];

/// The state of a connection.
pub(super) struct Session {
    /// Bytes of an incomplete request, which holds no secret.
    received: Vec<u8>,
    /// The boot clock when it was accepted.
    opened: BootTime,
    /// The greeting that the caller's hello requests.
    greeting: Option<Greeting>,
    /// Whether the greeting was sent.
    greeted: bool,
    watched: Option<(ScopeSet, TokenSubject)>,
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
            greeted: false,
            watched: None,
        }
    }

    /// Returns the answers to all requests that are complete with these bytes.
    pub(super) fn receive(&mut self, bytes: &[u8], grants: &mut Grants, now: BootTime) -> Output {
        self.received.extend_from_slice(bytes);
        let mut output = Output::default();
        output.close = self.respond(grants, now, &mut output).is_err() || output.close;
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
            let version = if is_known { version } else { VERSION };
            self.greeting = Some(Greeting::new(version, self.opened));
            if !is_known {
                self.greet(output);
                output.close = true;
            }
        }
        while !output.close {
            let Some((body, used)) = frame::split_request(&self.received)? else {
                return Ok(());
            };
            let request = frame::decode::<Request>(body)?;
            self.received.drain(..used);
            let answer = grants.answer(&request, now);
            if let Request::Watch(subject) = request {
                let scope = ScopeSet::parse(&subject.scope).ok();
                self.watched = scope.map(|scope| (scope, subject));
            }
            self.send(&answer, output)?;
        }
        Ok(())
    }

    /// Returns what a watcher is sent of a new token or a failure.
    pub(super) fn notify(&mut self, scope: &ScopeSet, answer: &Answer) -> Output {
        let mut output = Output::default();
        if let Some((watched, subject)) = &self.watched
            && watched == scope
        {
            let answer = answer.clone().for_client(subject);
            output.close = self.send(&answer, &mut output).is_err() || output.close;
        }
        output
    }

    fn send(&mut self, answer: &Answer, output: &mut Output) -> Result<(), FrameError> {
        let version = self.greeting.map_or(VERSION, |greeting| greeting.version());
        match answer {
            Answer::Response(parts) => {
                self.greet(output);
                for part in parts {
                    output.frames.push(part.clone().encode(version)?);
                    output.close |= self.watched.is_some() && ends_watch(part);
                }
            }
            Answer::Fault(Fault::NoAnswer) => {}
            Answer::Fault(Fault::Malformed) => {
                self.greet(output);
                output.frames.push(MALFORMED.to_vec().into());
                output.close = true;
            }
            Answer::Fault(Fault::OtherVersion) => {
                // The caller connects again if this connection has another version.
                if !self.greeted {
                    output
                        .frames
                        .push(greeting::hello(OTHER_VERSION).to_vec().into());
                }
                output.close = true;
            }
        }
        Ok(())
    }

    /// Sends the greeting before the first answer.
    fn greet(&mut self, output: &mut Output) {
        let greeting = self.greeting.filter(|_| !self.greeted);
        if let Some(greeting) = greeting {
            let bytes = greeting.encode(&mut [0; GREETING]).to_vec();
            output.frames.push(bytes.into());
            self.greeted = true;
        }
    }
}

/// Returns whether a watch ends with this response.
fn ends_watch(response: &Response) -> bool {
    matches!(response, Response::Refusal(refusal) if refusal.kind != RefusalKind::Unavailable)
}

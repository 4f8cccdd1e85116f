//! Drives a connection over a blocking stream, by deadlines.

use std::io;

use crate::clock::{BootTime, boot_now};
use crate::connection::{Connection, Failure};
use crate::find_broker::Target;
use crate::stream::Stream;
use domo_token_protocol::messages::{Request, Response};

/// A connection whose calls block.
pub(crate) struct BlockingConnection {
    pub(crate) state: Connection,
    pub(crate) stream: Stream,
}

impl BlockingConnection {
    /// Connects, by `deadline` at the latest.
    pub(crate) fn open(target: &Target, deadline: BootTime) -> io::Result<Self> {
        let opened = boot_now();
        let left = deadline.saturating_since(opened);
        Ok(Self {
            stream: Stream::open(&target.path, left)?,
            state: Connection::new(&target.path, opened),
        })
    }

    /// Returns whether the broker has neither sent anything since the last response nor disconnected.
    pub(crate) fn is_quiet(&self) -> bool {
        !self.state.has_unread() && self.stream.is_quiet()
    }

    /// Sends a request.
    pub(crate) fn send(&mut self, request: &Request, deadline: BootTime) -> Result<(), Failure> {
        let bytes = self.state.send(request)?;
        Ok(self.stream.send(&bytes, left_until(deadline)?)?)
    }

    /// Waits for the next response, until `deadline`.
    pub(crate) fn receive(&mut self, deadline: BootTime) -> Result<Response, Failure> {
        let mut next = self.state.next_response(boot_now())?;
        loop {
            if let Some(response) = next {
                return Ok(response);
            }
            let left = left_until(deadline)?;
            let count = match self.stream.receive(self.state.space(), left) {
                Ok(count) => count,
                Err(error) => return Err(self.state.read_failed(error)),
            };
            next = self.state.receive(count, boot_now())?;
        }
    }
}

/// Returns the time left, which is never zero: to the system that means no timeout.
fn left_until(deadline: BootTime) -> Result<std::time::Duration, Failure> {
    let left = deadline.saturating_since(boot_now());
    if left.is_zero() {
        return Err(Failure::Late);
    }
    Ok(left)
}

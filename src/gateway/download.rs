//! A response on its way to the application.

use std::ops::Range;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use super::buffer::Link;
use super::pump::{Pump, PumpError};
use super::upload::poll_write_parts;
use crate::broker::app_usage::{AppUsage, Direction};
use crate::connect::Stream;

/// One response on its way.
pub(super) struct Download {
    head: Vec<u8>,
    written: usize,
    is_head_sent: bool,
    /// `None` if there is no body.
    pump: Option<Pump>,
    /// The part of the body that is sent together with the head, in the server's buffer.
    first: Option<Range<usize>>,
}

impl Download {
    pub(super) fn new(head: Vec<u8>, pump: Option<Pump>) -> Self {
        Self {
            head,
            written: 0,
            is_head_sent: false,
            pump,
            first: None,
        }
    }

    /// Returns how many bytes were sent so far.
    pub(super) fn moved(&self) -> u64 {
        let body = self.pump.as_ref().map_or(0, Pump::moved);
        self.written as u64 + body
    }

    /// Sends what it can. Returns once the response was sent.
    pub(super) fn poll(
        &mut self,
        context: &mut Context<'_>,
        server: &mut Link,
        app: &mut dyn Stream,
        usage: &AppUsage,
    ) -> Poll<Result<(), PumpError>> {
        let count = &mut |bytes| usage.count_bytes(Direction::Received, bytes as u64);
        let first = match (&self.first, &mut self.pump) {
            (Some(first), _) => first.clone(),
            (None, Some(pump)) => {
                let first = pump.take_first(&mut server.buffer, count)?;
                self.first.insert(first).clone()
            }
            (None, None) => 0..0,
        };
        if !self.is_head_sent {
            let parts = [self.head.as_slice(), server.buffer.slice(&first)];
            ready!(poll_write_parts(context, app, parts, &mut self.written))
                .map_err(PumpError::Write)?;
            self.is_head_sent = true;
        }
        match &mut self.pump {
            Some(pump) => pump.poll(context, server, app, count),
            None => Pin::new(app).poll_flush(context).map_err(PumpError::Write),
        }
    }
}

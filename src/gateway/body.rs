//! Reads the body of a request as far as it is held, so that the request can be sent again.

use std::time::Duration;

use super::alarm::Alarm;
use super::buffer::{LARGE, Link};
use super::chunked::{CHUNK_END, ChunkHead, Decoder};
use super::pump::{Encoding, Framing, Pump, PumpError};
use super::session::{AppError, Session, fill};
use super::upload::{CONTINUE, RequestBody};
use crate::request_head::BodyLength;

/// The largest body that is held.
pub(super) const MAX_HELD: usize = LARGE;

/// Reads a body of up to [`MAX_HELD`] bytes. A longer one is left where it is; of one in chunks, whose length is not
/// known before, the start is read. `is_awaited` if the application waits for the permission to send it.
///
/// # Errors
///
/// [`AppError`] if it is incomplete.
pub(super) async fn read(
    session: &mut Session<'_>,
    length: BodyLength,
    is_awaited: bool,
) -> Result<RequestBody, AppError> {
    if let BodyLength::Length(length) = length
        && length > MAX_HELD as u64
    {
        return Ok(RequestBody::Streamed {
            length: Some(length),
            start: Vec::new(),
            pump: Pump::new(Framing::Length(length), Encoding::Identity),
            is_awaited,
            has_started: false,
        });
    }
    if is_awaited && length != BodyLength::None {
        session.send(CONTINUE).await?;
    }
    let framing = match length {
        BodyLength::None => return Ok(RequestBody::Held(Vec::new())),
        BodyLength::Length(length) => Framing::Length(length),
        BodyLength::Chunked => Framing::Chunked(Decoder::new()),
    };
    let idle = session.timing.idle;
    let received = receive(session.app, session.alarm, framing, MAX_HELD, idle).await?;
    let Received { bytes, rest } = received;
    session.count_sent(bytes.len());
    let Some(rest) = rest else {
        return Ok(RequestBody::Held(bytes));
    };
    Ok(RequestBody::Streamed {
        length: None,
        start: [ChunkHead::new(bytes.len()).as_bytes(), &bytes, CHUNK_END].concat(),
        pump: Pump::new(rest, Encoding::Chunked),
        is_awaited: false,
        has_started: false,
    })
}

/// What was read of a body.
pub(super) struct Received {
    pub(super) bytes: Vec<u8>,
    /// How the rest is found, if there is more.
    pub(super) rest: Option<Framing>,
}

/// Reads a body until its end, or until more than `most` bytes were read.
///
/// # Errors
///
/// [`AppError`] if it ends before.
pub(super) async fn receive(
    app: &mut Link,
    alarm: &mut Alarm,
    mut framing: Framing,
    most: usize,
    idle: Duration,
) -> Result<Received, AppError> {
    let mut bytes = match framing {
        Framing::Length(length) => {
            Vec::with_capacity(usize::try_from(length).map_or(0, |length| length.min(most)))
        }
        Framing::Chunked(_) | Framing::UntilClose => Vec::new(),
    };
    loop {
        let part = framing.decode(&mut app.buffer);
        let part = part.map_err(|error| match error {
            PumpError::Malformed(error) => AppError::Malformed(error),
            PumpError::Read | PumpError::Write(_) => AppError::Disconnected,
        })?;
        bytes.extend_from_slice(app.buffer.slice(&part.data));
        if part.is_last {
            return Ok(Received { bytes, rest: None });
        }
        if bytes.len() > most {
            let rest = Some(framing);
            return Ok(Received { bytes, rest });
        }
        fill(app, alarm, idle).await?;
    }
}

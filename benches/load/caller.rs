//! Callers with minimal cost: their requests are prepared bytes, and responses are not decoded.

use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use domo_token_protocol::frame::{HEAD, split};
use domo_token_protocol::greeting::GREETING;
use rustix::event::epoll::{self, CreateFlags, EventData, EventFlags};

use crate::figures::now;

/// One connection.
pub(crate) struct Caller {
    stream: UnixStream,
    buffer: Vec<u8>,
}

impl Caller {
    pub(crate) fn connect(socket: &Path) -> io::Result<Self> {
        Ok(Self::of(UnixStream::connect(socket)?))
    }

    pub(crate) fn of(stream: UnixStream) -> Self {
        let buffer = vec![0; 4096];
        Self { stream, buffer }
    }

    pub(crate) fn into_stream(self) -> UnixStream {
        self.stream
    }

    pub(crate) fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.write_all(bytes)
    }

    /// Sends hello and request. Returns greeting and response.
    pub(crate) fn first(&mut self, opening: &[u8]) -> io::Result<Vec<u8>> {
        self.send(opening)?;
        self.rest_of_first()
    }

    /// Returns greeting and response to what was sent.
    pub(crate) fn rest_of_first(&mut self) -> io::Result<Vec<u8>> {
        let mut answer = vec![0; GREETING + HEAD];
        self.stream.read_exact(&mut answer)?;
        let head = answer.get(GREETING..).and_then(|head| head.try_into().ok());
        let length = u32::from_le_bytes(head.unwrap_or_default());
        answer.resize(GREETING + HEAD + usize::try_from(length).unwrap_or(0), 0);
        let body = answer.get_mut(GREETING + HEAD..).unwrap_or_default();
        self.stream.read_exact(body)?;
        Ok(answer)
    }

    /// Sends an HTTP request. Returns the length of the response, which has a token.
    pub(crate) fn first_http(&mut self, request: &[u8]) -> io::Result<usize> {
        self.send(request)?;
        let mut read = 0;
        loop {
            let room = self.buffer.get_mut(read..).unwrap_or_default();
            match self.stream.read(room)? {
                0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                more => read += more,
            }
            let answer = self.buffer.get(..read).unwrap_or_default();
            let answer = String::from_utf8_lossy(answer);
            let Some((head, body)) = answer.split_once("\r\n\r\n") else {
                continue;
            };
            let mut fields = head.lines();
            let status = fields.next();
            if status != Some("HTTP/1.1 200 OK") {
                return Err(io::Error::other(format!("{status:?} instead of a token")));
            }
            let length = fields.find_map(|field| field.strip_prefix("Content-Length: "));
            let length: Option<usize> = length.and_then(|length| length.parse().ok());
            let length = length.ok_or(io::ErrorKind::InvalidData)?;
            if body.len() == length {
                return Ok(read);
            }
        }
    }

    /// Makes one round trip. Returns the length of the response.
    pub(crate) fn ask(&mut self, request: &[u8]) -> io::Result<usize> {
        self.stream.write_all(request)?;
        let mut read = 0;
        while split(self.buffer.get(..read).unwrap_or_default())
            .map_err(io::Error::other)?
            .is_none()
        {
            match self
                .stream
                .read(self.buffer.get_mut(read..).unwrap_or_default())?
            {
                0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                more => read += more,
            }
        }
        Ok(read)
    }
}

/// Many connections on one thread, each of which sends its next request after each response.
pub(crate) struct Connections {
    streams: Vec<UnixStream>,
    poller: rustix::fd::OwnedFd,
}

impl Connections {
    /// Opens that many connections, each with one response.
    pub(crate) fn connect(socket: &Path, count: usize, opening: &[u8]) -> io::Result<Self> {
        let mut streams = Vec::with_capacity(count);
        for _ in 0..count {
            let mut caller = Caller::connect(socket)?;
            caller.first(opening)?;
            streams.push(caller.stream);
        }
        Self::of(streams)
    }

    /// Returns connections that wait for no response.
    pub(crate) fn of(streams: Vec<UnixStream>) -> io::Result<Self> {
        let poller = epoll::create(CreateFlags::CLOEXEC)?;
        for (number, stream) in streams.iter().enumerate() {
            let data = EventData::new_u64(u64::try_from(number).unwrap_or(0));
            epoll::add(&poller, stream, data, EventFlags::IN)?;
        }
        Ok(Self { streams, poller })
    }

    /// Sends requests on all connections for that long. Returns the responses per second.
    pub(crate) fn rate(
        &mut self,
        request: &[u8],
        answer: usize,
        span: Duration,
    ) -> io::Result<f64> {
        let mut left = vec![answer; self.streams.len()];
        let mut buffer = vec![0; 64 * 1024];
        let mut answered = 0_u32;
        let mut events = Vec::with_capacity(self.streams.len());
        let start = now();
        let end = start + span;
        for stream in &mut self.streams {
            stream.write_all(request)?;
        }
        let mut asking = self.streams.len();
        while asking > 0 {
            epoll::wait(
                &self.poller,
                rustix::buffer::spare_capacity(&mut events),
                None,
            )?;
            let over = now() >= end;
            for event in events.drain(..) {
                let number = usize::try_from(event.data.u64()).unwrap_or(0);
                let (Some(stream), Some(left)) =
                    (self.streams.get_mut(number), left.get_mut(number))
                else {
                    continue;
                };
                let read = stream.read(&mut buffer)?;
                if read == 0 {
                    return Err(io::ErrorKind::UnexpectedEof.into());
                }
                *left = left.saturating_sub(read);
                if *left > 0 {
                    continue;
                }
                answered += 1;
                if over {
                    asking -= 1;
                } else {
                    *left = answer;
                    stream.write_all(request)?;
                }
            }
        }
        Ok(f64::from(answered) / (now() - start).as_secs_f64())
    }
}

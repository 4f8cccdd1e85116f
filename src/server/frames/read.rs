//! Reads requests: bytes in, requests out.

use std::pin::Pin;

use domo_token_protocol::frame;
use domo_token_protocol::messages::Request;
use tokio::time::timeout;

use crate::server::session::{Session, SessionError};

/// A request and its frame.
pub(in crate::server) struct Incoming {
    pub(in crate::server) frame: Vec<u8>,
    pub(in crate::server) request: Request,
}

/// The result of one read.
enum ReadOutcome {
    /// The last request again.
    Again,
    /// A complete request with nothing after it.
    Request(Box<Incoming>),
    /// Other bytes, which are in the session's buffer.
    Bytes,
    /// The caller has disconnected.
    End,
}

impl Session {
    /// Waits for the next request without a limit: an idle connection stays open. The rest of a request that
    /// has begun must arrive within `request_deadline`.
    pub(super) async fn next_request(
        &mut self,
        last: Option<Box<Incoming>>,
        stopped: Pin<&mut impl Future<Output = ()>>,
    ) -> Result<Option<Box<Incoming>>, SessionError> {
        if self.unread.is_empty() {
            // An idle connection holds no buffer.
            self.unread = Vec::new();
            let arrived = tokio::select! {
                biased;
                arrived = self.read(last.as_deref()) => arrived?,
                () = stopped => return Ok(None),
            };
            match arrived {
                ReadOutcome::Again => return Ok(last),
                ReadOutcome::Request(incoming) => return Ok(Some(incoming)),
                ReadOutcome::End => return Ok(None),
                ReadOutcome::Bytes => {}
            }
        }
        let limit = self.permit.deadlines().request;
        timeout(limit, self.rest_of_request()).await?
    }

    pub(super) async fn rest_of_request(&mut self) -> Result<Option<Box<Incoming>>, SessionError> {
        loop {
            if let Some((body, used)) = frame::split_request(&self.unread)? {
                let request = frame::decode(body)?;
                let frame = self.unread.drain(..used).collect();
                return Ok(Some(Box::new(Incoming { frame, request })));
            }
            if self.read_more().await? == 0 {
                return Ok(None);
            }
        }
    }

    /// Reads once while the buffer is empty. Most reads return one complete request, which is decoded in place, or
    /// not at all if it is the last one again.
    async fn read(&mut self, last: Option<&Incoming>) -> Result<ReadOutcome, SessionError> {
        self.read_with(|bytes, unread| {
            if last.is_some_and(|last| last.frame == bytes) {
                return Ok(ReadOutcome::Again);
            }
            Ok(match frame::split_request(bytes)? {
                _ if bytes.is_empty() => ReadOutcome::End,
                Some((body, used)) if used == bytes.len() => {
                    ReadOutcome::Request(Box::new(Incoming {
                        request: frame::decode(body)?,
                        frame: bytes.to_vec(),
                    }))
                }
                Some(_) | None => {
                    unread.extend_from_slice(bytes);
                    ReadOutcome::Bytes
                }
            })
        })
        .await
    }
}

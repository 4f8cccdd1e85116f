//! Bodies that hang or end early.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use hyper::body::{Body, Bytes, Frame, SizeHint};

/// A body and how it ends.
pub(crate) struct Answer {
    /// The bytes to send; `None` once they are sent.
    bytes: Option<Bytes>,
    end: End,
    /// The value of `Content-Length`: more than the length of `bytes` if the body ends early.
    length: u64,
}

pub(crate) enum End {
    Proper,
    /// The connection is closed once the bytes are sent.
    Cut,
    /// The connection is closed now.
    Broken,
    /// The response stops until this completes.
    Hang(Pin<Box<dyn Future<Output = ()> + Send>>),
}

impl Answer {
    pub(crate) fn whole(body: Vec<u8>) -> Self {
        Self {
            length: body.len() as u64,
            bytes: Some(Bytes::from(body)),
            end: End::Proper,
        }
    }

    /// Returns half the body, followed by `end`.
    pub(crate) fn broken(body: &[u8], end: End) -> Self {
        let (half, _) = body.split_at(body.len() / 2);
        Self {
            length: body.len() as u64,
            end,
            ..Self::whole(half.to_vec())
        }
    }
}

impl Body for Answer {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        if let Some(bytes) = self.bytes.take() {
            return Poll::Ready(Some(Ok(Frame::data(bytes))));
        }
        if let End::Hang(until) = &mut self.end {
            ready!(until.as_mut().poll(context));
            self.end = End::Cut;
        }
        match self.end {
            End::Proper => Poll::Ready(None),
            // hyper discards its buffer at an error; `Pending` makes it send the buffer first.
            End::Cut => {
                self.end = End::Broken;
                context.waker().wake_by_ref();
                Poll::Pending
            }
            End::Broken | End::Hang(_) => {
                Poll::Ready(Some(Err(io::Error::other("closed by a fault"))))
            }
        }
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.length)
    }
}

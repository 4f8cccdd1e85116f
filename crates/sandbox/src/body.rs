//! Bodies that hang, drip or end early.

use std::collections::VecDeque;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use hyper::body::{Body, Bytes, Frame, SizeHint};
use tokio::time::{Sleep, sleep};

/// A body in pieces, with pauses between them and the end.
pub(crate) struct Answer {
    pieces: VecDeque<Bytes>,
    pause: Option<Duration>,
    sleeping: Option<Pin<Box<Sleep>>>,
    end: End,
    /// The value of `Content-Length`, which is more than the pieces have if the body ends early.
    length: u64,
}

pub(crate) enum End {
    Proper,
    /// The connection is closed once the pieces are sent.
    Cut,
    /// The connection is closed now.
    Broken,
    /// Nothing more is sent until this completes.
    Hang(Pin<Box<dyn Future<Output = ()> + Send>>),
}

impl Answer {
    pub(crate) fn whole(body: Vec<u8>) -> Self {
        Self {
            length: body.len() as u64,
            pieces: VecDeque::from([Bytes::from(body)]),
            pause: None,
            sleeping: None,
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

    pub(crate) fn dripping(body: &[u8], bytes: usize, every: Duration) -> Self {
        Self {
            length: body.len() as u64,
            pieces: body.chunks(bytes).map(Bytes::copy_from_slice).collect(),
            pause: Some(every),
            ..Self::whole(Vec::new())
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
        if let Some(sleeping) = &mut self.sleeping {
            ready!(sleeping.as_mut().poll(context));
            self.sleeping = None;
        }
        if let Some(piece) = self.pieces.pop_front() {
            self.sleeping = self.pause.map(|pause| Box::pin(sleep(pause)));
            return Poll::Ready(Some(Ok(Frame::data(piece))));
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
            End::Broken | End::Hang(_) => Poll::Ready(Some(Err(io::Error::other("cut on order")))),
        }
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.length)
    }
}

//! What one exchange needs of the application's connection.

use std::future::{Future, poll_fn};
use std::io;
use std::pin::{Pin, pin};
use std::task::{Poll, ready};
use std::time::Duration;

use tokio::io::AsyncWrite;

use super::alarm::Alarm;
use super::buffer::Link;
use super::chunked::ChunkError;
use super::timing::Timing;
use crate::broker::app_usage::{AppUsage, Direction};
use crate::platform::clock::timer_now;

pub(super) struct Session<'a> {
    pub(super) app: &'a mut Link,
    pub(super) alarm: &'a mut Alarm,
    pub(super) timing: &'a Timing,
    pub(super) usage: &'a AppUsage,
}

/// Why a request ends because of the application.
#[derive(Debug)]
pub(super) enum AppError {
    Disconnected,
    /// Its body is invalid.
    Malformed(ChunkError),
    /// It sends nothing more of its body, or reads nothing of the response.
    TimedOut,
}

impl Session<'_> {
    /// Returns what `work` does, unless the application disconnects before.
    pub(super) async fn while_connected<T>(
        &mut self,
        work: impl Future<Output = T>,
    ) -> Result<T, AppError> {
        let mut work = pin!(work);
        let app = &mut *self.app;
        poll_fn(|context| {
            if let Poll::Ready(done) = work.as_mut().poll(context) {
                return Poll::Ready(Ok(done));
            }
            app.poll_closed(context)
                .map(|()| Err(AppError::Disconnected))
        })
        .await
    }

    /// Sends bytes to the application.
    pub(super) async fn send(&mut self, bytes: &[u8]) -> Result<(), AppError> {
        send(self.app, self.alarm, bytes, self.timing.idle).await
    }

    pub(super) fn count_sent(&self, bytes: usize) {
        self.usage.count_bytes(Direction::Sent, bytes as u64);
    }

    pub(super) fn count_received(&self, bytes: usize) {
        self.usage.count_bytes(Direction::Received, bytes as u64);
    }
}

/// Reads once, within `limit`.
pub(super) async fn fill(
    app: &mut Link,
    alarm: &mut Alarm,
    limit: Duration,
) -> Result<(), AppError> {
    let due = timer_now() + limit;
    poll_fn(|context| match app.poll_fill(context) {
        Poll::Ready(Ok(0) | Err(_)) => Poll::Ready(Err(AppError::Disconnected)),
        Poll::Ready(Ok(_)) => Poll::Ready(Ok(())),
        Poll::Pending => alarm.poll(context, due).map(|()| Err(AppError::TimedOut)),
    })
    .await
}

/// Sends bytes within `limit`.
pub(super) async fn send(
    app: &mut Link,
    alarm: &mut Alarm,
    bytes: &[u8],
    limit: Duration,
) -> Result<(), AppError> {
    let due = timer_now() + limit;
    let mut left = bytes;
    poll_fn(|context| {
        let mut write = || -> Poll<io::Result<()>> {
            while !left.is_empty() {
                let count = ready!(Pin::new(&mut app.stream).poll_write(context, left))?;
                if count == 0 {
                    return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
                }
                left = left.get(count..).unwrap_or_default();
            }
            Pin::new(&mut app.stream).poll_flush(context)
        };
        match write() {
            Poll::Ready(sent) => Poll::Ready(sent.map_err(|_| AppError::Disconnected)),
            Poll::Pending => alarm.poll(context, due).map(|()| Err(AppError::TimedOut)),
        }
    })
    .await
}

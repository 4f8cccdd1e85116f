//! The timer of a connection. Deadlines that move later, as most do, cost nothing until the earlier one has passed.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::time::{Instant, Sleep, sleep_until};

pub(super) struct Alarm(Pin<Box<Sleep>>);

impl Alarm {
    pub(super) fn new(due: Instant) -> Self {
        Self(Box::pin(sleep_until(due)))
    }

    /// Returns once `due` has passed.
    pub(super) fn poll(&mut self, context: &mut Context<'_>, due: Instant) -> Poll<()> {
        if due < self.0.deadline() {
            self.0.as_mut().reset(due);
        }
        loop {
            ready!(self.0.as_mut().poll(context));
            if self.0.deadline() >= due {
                return Poll::Ready(());
            }
            self.0.as_mut().reset(due);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::time::Duration;

    use super::*;
    use crate::platform::clock::timer_now;

    #[tokio::test]
    async fn alarm_fires_at_the_deadline_of_the_last_poll() {
        let start = timer_now();
        let millis = Duration::from_millis;
        let mut alarm = Alarm::new(start + millis(5));
        for due in [10, 11, 12, 20] {
            let due = start + millis(due);
            // A later deadline of an earlier poll is forgotten.
            let later = due + Duration::from_secs(3600);
            let early = poll_fn(|context| Poll::Ready(alarm.poll(context, later))).await;
            assert!(early.is_pending());
            poll_fn(|context| alarm.poll(context, due)).await;
            assert!(timer_now() >= due);
        }
    }
}

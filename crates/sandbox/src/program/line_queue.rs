//! Lines for an output that may not be read. A write to a full pipe or a stopped terminal blocks until its reader
//! reads, so only a thread of its own writes; lines beyond the queue's size are dropped and counted.

use std::collections::VecDeque;
use std::io;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

/// Lines in the queue.
const MAX_LINES: usize = 1024;

/// How long the end of the process waits for lines that are not written yet.
const FLUSH_TIMEOUT: Duration = Duration::from_millis(300);

/// A queue of lines, and the thread that writes them. Clones are the same queue.
#[derive(Clone)]
pub(super) struct LineQueue(Arc<Shared>);

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    /// Notified of a new line and of an empty queue.
    changed: Condvar,
}

#[derive(Default)]
struct State {
    lines: VecDeque<String>,
    /// Lines dropped since the last report. Once the queue is full, lines are dropped until it is empty: one gap,
    /// reported where it is.
    dropped: u64,
    is_writing: bool,
}

impl LineQueue {
    /// Starts the thread, which calls `write` with one text after the other and ignores its errors.
    pub(super) fn start(
        mut write: impl FnMut(&[u8]) -> io::Result<()> + Send + 'static,
    ) -> io::Result<Self> {
        let shared = Arc::new(Shared::default());
        let queue = Self(Arc::clone(&shared));
        let run = move || {
            loop {
                let text = shared.next();
                // A closed output is not an error.
                let _ = write(text.as_bytes());
                shared.state().is_writing = false;
                shared.changed.notify_all();
            }
        };
        thread::Builder::new()
            .name("output".to_owned())
            .spawn(run)?;
        Ok(queue)
    }

    /// Adds a text of whole lines, or drops and counts it if the queue is full.
    pub(super) fn push(&self, text: String) {
        let mut state = self.0.state();
        if state.dropped > 0 || state.lines.len() >= MAX_LINES {
            state.dropped += 1;
            return;
        }
        state.lines.push_back(text);
        drop(state);
        self.0.changed.notify_all();
    }

    /// Returns once all lines are written, or cannot be within a third of a second.
    pub(super) fn flush(&self) {
        let is_busy = |state: &mut State| state.is_writing || !state.lines.is_empty();
        let state = self.0.state();
        let waited = self
            .0
            .changed
            .wait_timeout_while(state, FLUSH_TIMEOUT, is_busy);
        // What is left then is lost.
        drop(waited);
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Blocks until there is something to write.
    fn next(&self) -> String {
        let is_idle = |state: &mut State| state.lines.is_empty() && state.dropped == 0;
        let waited = self.changed.wait_while(self.state(), is_idle);
        let mut state = waited.unwrap_or_else(PoisonError::into_inner);
        state.is_writing = true;
        state.lines.pop_front().unwrap_or_else(|| {
            let lost = std::mem::take(&mut state.dropped);
            format!("# {lost} lines dropped: the output was not read\n")
        })
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{channel, sync_channel};

    use super::*;

    #[test]
    fn gap_is_reported_where_it_is_and_later_lines_follow() {
        // The receiver of a channel without room takes the place of a reader that stops.
        let (sender, lines) = sync_channel(0);
        let (started, has_started) = channel();
        let write = move |text: &[u8]| {
            started.send(()).map_err(io::Error::other)?;
            let text = String::from_utf8(text.to_vec()).unwrap();
            sender.send(text).map_err(io::Error::other)
        };
        let queue = LineQueue::start(write).unwrap();
        queue.push("first\n".to_owned());
        has_started.recv().unwrap();
        for number in 0..MAX_LINES + 7 {
            queue.push(format!("{number}\n"));
        }
        assert_eq!(lines.recv().unwrap(), "first\n");
        for number in 0..MAX_LINES {
            assert_eq!(lines.recv().unwrap(), format!("{number}\n"));
        }
        let report = "# 7 lines dropped: the output was not read\n";
        assert_eq!(lines.recv().unwrap(), report);
        queue.push("next\n".to_owned());
        assert_eq!(lines.recv().unwrap(), "next\n");
    }

    #[test]
    fn flush_returns_although_nobody_reads() {
        let (sender, never_read) = sync_channel(0);
        let (started, has_started) = channel();
        let write = move |_: &[u8]| {
            started.send(()).map_err(io::Error::other)?;
            sender.send(()).map_err(io::Error::other)
        };
        let queue = LineQueue::start(write).unwrap();
        queue.push("line\n".to_owned());
        has_started.recv().unwrap();
        queue.flush();
        assert!(queue.0.state().is_writing);
        drop(never_read);
    }
}

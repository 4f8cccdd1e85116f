//! The queue of log lines for standard error, which is bounded, and the thread that writes them.
//!
//! A write to a full pipe or a stopped terminal blocks until its reader reads, so only this thread writes.
//! It runs while there is something to write; an idle daemon has no thread for its log.

use std::collections::VecDeque;
use std::io::{self, Write};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

#[cfg(unix)]
use rustix::event::{PollFd, PollFlags, Timespec, poll};
#[cfg(unix)]
use rustix::io::Errno;
use tracing_subscriber::fmt::MakeWriter;

/// Lines in the queue.
const MAX_LINES: usize = 4096;

/// Bytes in the queue.
const MAX_BYTES: usize = 1024 * 1024;

/// How long the thread waits for another line before it ends, so that it is not started for each line at a
/// verbose level.
const IDLE_TIMEOUT: Duration = Duration::from_secs(1);

/// Room that a pipe which polls as writable has at least (`PIPE_BUF`, POSIX's minimum is 512).
const PIPE_ROOM: usize = 4096;

/// What lines are written to.
pub(super) trait Sink: Send + Sync + 'static {
    /// Writes some of `bytes`, and blocks until it can.
    fn write(&self, bytes: &[u8]) -> io::Result<usize>;

    /// Blocks until [`Self::write`] does not fail for lack of room.
    fn wait(&self) -> io::Result<()>;

    /// Returns whether a line of that many bytes can be written without blocking.
    fn has_room(&self, length: usize) -> bool;
}

/// The process's standard error, past the lock of [`io::stderr`].
pub(super) struct StandardError;

impl Sink for StandardError {
    #[cfg(unix)]
    fn write(&self, bytes: &[u8]) -> io::Result<usize> {
        Ok(rustix::io::write(io::stderr(), bytes)?)
    }

    #[cfg(windows)]
    fn write(&self, bytes: &[u8]) -> io::Result<usize> {
        io::stderr().write(bytes)
    }

    #[cfg(unix)]
    fn wait(&self) -> io::Result<()> {
        let stderr = io::stderr();
        match poll(&mut [PollFd::new(&stderr, PollFlags::OUT)], None) {
            Ok(_) | Err(Errno::INTR) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    #[cfg(windows)]
    fn wait(&self) -> io::Result<()> {
        Err(io::ErrorKind::WouldBlock.into())
    }

    #[cfg(unix)]
    fn has_room(&self, length: usize) -> bool {
        let stderr = io::stderr();
        let mut polled = [PollFd::new(&stderr, PollFlags::OUT)];
        let no_wait = Timespec::default();
        length <= PIPE_ROOM && matches!(poll(&mut polled, Some(&no_wait)), Ok(1))
    }

    #[cfg(windows)]
    fn has_room(&self, _: usize) -> bool {
        false
    }
}

/// A queue of log lines. Clones are the same queue.
pub(super) struct LogQueue<S>(Arc<Shared<S>>);

impl<S> Clone for LogQueue<S> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

struct Shared<S> {
    sink: S,
    /// Lines dropped since the process started.
    dropped: &'static AtomicU64,
    /// Logs how many lines were dropped, once lines can be written again.
    report: fn(u64),
    state: Mutex<State>,
    /// Notified of a new line and of an empty queue.
    changed: Condvar,
}

#[derive(Default)]
struct State {
    lines: VecDeque<Vec<u8>>,
    bytes: usize,
    /// Once the queue is full, lines are dropped until it is empty: one gap, reported once, in place
    /// of many.
    full: bool,
    /// Lines dropped since the last report.
    unreported: u64,
    writer: Writer,
    /// Whether the last line was cut off in the middle, so that the next must not continue it.
    torn: bool,
}

/// The thread that writes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Writer {
    /// There is none.
    #[default]
    Absent,
    Waiting,
    /// In the middle of a line or of a report.
    Writing,
}

impl<S: Sink> LogQueue<S> {
    pub(super) fn new(sink: S, dropped: &'static AtomicU64, report: fn(u64)) -> Self {
        Self(Arc::new(Shared {
            sink,
            dropped,
            report,
            state: Mutex::default(),
            changed: Condvar::new(),
        }))
    }

    /// Adds a line, or drops and counts it if the queue is full.
    pub(super) fn push(&self, line: &[u8]) {
        let mut state = self.0.state();
        let room = state.lines.len() < MAX_LINES && state.bytes + line.len() <= MAX_BYTES;
        if state.full || !room {
            // An empty queue is never full: nothing would make room in it.
            state.full = !state.lines.is_empty();
            self.0.drop_line(&mut state);
            return;
        }
        self.add(state, line);
    }

    /// Adds a line that the process ends with, even if the queue is full.
    pub(super) fn push_last(&self, line: &[u8]) {
        self.add(self.0.state(), line);
    }

    fn add(&self, mut state: MutexGuard<'_, State>, line: &[u8]) {
        if state.writer == Writer::Absent && !self.start(&mut state) {
            self.0.write_without_thread(&mut state, line);
            return;
        }
        state.bytes += line.len();
        state.lines.push_back(line.to_vec());
        self.0.changed.notify_all();
    }

    fn start(&self, state: &mut State) -> bool {
        let shared = Arc::clone(&self.0);
        let thread = thread::Builder::new().name("log".to_owned());
        let started = thread.spawn(move || shared.run()).is_ok();
        if started {
            state.writer = Writer::Waiting;
        }
        started
    }

    /// Returns once all lines are written, or after that time.
    pub(super) fn flush(&self, within: Duration) {
        let busy = |state: &mut State| state.writer == Writer::Writing || !state.lines.is_empty();
        let state = self.0.state();
        let waited = self.0.changed.wait_timeout_while(state, within, busy);
        // What is left then is lost.
        drop(waited);
    }
}

impl<S: Sink> Shared<S> {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn drop_line(&self, state: &mut State) {
        state.unreported += 1;
        self.dropped.fetch_add(1, Ordering::Relaxed);
    }

    /// Writes lines until there has been none for [`IDLE_TIMEOUT`].
    fn run(&self) {
        let mut state = self.state();
        loop {
            let Some(line) = state.lines.pop_front() else {
                let waited = self.changed.wait_timeout(state, IDLE_TIMEOUT);
                let (guard, waited) = waited.unwrap_or_else(PoisonError::into_inner);
                state = guard;
                if waited.timed_out() && state.lines.is_empty() {
                    state.writer = Writer::Absent;
                    state.lines.shrink_to_fit();
                    return;
                }
                continue;
            };
            state.writer = Writer::Writing;
            let mut torn = state.torn;
            drop(state);
            let written = self.write_line(&line, &mut torn);
            state = self.state();
            state.torn = torn;
            state.bytes -= line.len();
            if written.is_err() {
                self.drop_line(&mut state);
            } else if state.lines.is_empty() && state.unreported > 0 {
                // The report is the next line after the gap.
                let lost = std::mem::take(&mut state.unreported);
                state.full = false;
                drop(state);
                (self.report)(lost);
                state = self.state();
            }
            state.full &= !state.lines.is_empty();
            state.writer = Writer::Waiting;
            self.changed.notify_all();
        }
    }

    /// Writes the whole line, unless it fails. `torn` is as in [`State`].
    fn write_line(&self, line: &[u8], torn: &mut bool) -> io::Result<()> {
        if *torn {
            self.write_all(b"\n").1?;
            *torn = false;
        }
        let (written, result) = self.write_all(line);
        *torn = written > 0 && result.is_err();
        result
    }

    /// Returns how many bytes were written, and what prevented the rest.
    fn write_all(&self, bytes: &[u8]) -> (usize, io::Result<()>) {
        let mut written = 0;
        loop {
            let rest = bytes.get(written..).unwrap_or_default();
            if rest.is_empty() {
                return (written, Ok(()));
            }
            let result = match self.sink.write(rest) {
                Ok(0) => Err(io::ErrorKind::WriteZero.into()),
                Ok(more) => {
                    written += more;
                    Ok(())
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => Ok(()),
                // Another process that shares the descriptor has made it non-blocking.
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => self.sink.wait(),
                Err(error) => Err(error),
            };
            if result.is_err() {
                return (written, result);
            }
        }
    }

    /// The system has no room for a thread. Another process that writes to the same pipe can still
    /// take the room between the question and the write; nothing better is left. A line that is too
    /// long for the room, like a panic's with its backtrace, is cut.
    fn write_without_thread(&self, state: &mut State, line: &[u8]) {
        let mut bytes = if state.torn { vec![b'\n'] } else { Vec::new() };
        let most = PIPE_ROOM - bytes.len();
        if line.len() > most {
            let is_inside = |at: usize| line.get(at).is_some_and(|byte| byte & 0xc0 == 0x80);
            let mut end = most - 1;
            // Not within a character of UTF-8.
            while end > 0 && is_inside(end) {
                end -= 1;
            }
            bytes.extend_from_slice(line.get(..end).unwrap_or_default());
            bytes.push(b'\n');
        } else {
            bytes.extend_from_slice(line);
        }
        let has_room = self.sink.has_room(bytes.len());
        let written = has_room.then(|| self.sink.write(&bytes).ok()).flatten();
        let written = written.unwrap_or(0);
        if written > 0 {
            state.torn = written < bytes.len();
        }
        if written < bytes.len() {
            self.drop_line(state);
        }
    }
}

/// Adds each line that is written to it to the queue.
impl<S: Sink> Write for LogQueue<S> {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.push(line);
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<S: Sink> MakeWriter<'_> for LogQueue<S> {
    type Writer = Self;

    fn make_writer(&self) -> Self {
        self.clone()
    }
}

#[cfg(test)]
mod tests;

//! Messages on standard error. After [`write_from_background`] they do not block the process.

use std::io::{self, Write};
use std::process::exit;
use std::sync::OnceLock;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;
use std::time::Duration;

/// The maximum number of queued lines. Further lines are dropped.
const MAX_QUEUED_LINES: usize = 64;

/// The maximum wait for queued lines at the end of the process.
const FLUSH_TIMEOUT: Duration = Duration::from_millis(300);

/// The queue of [`write_from_background`].
static QUEUE: OnceLock<SyncSender<Item>> = OnceLock::new();

enum Item {
    Line(Vec<u8>),
    /// All lines before it are written.
    Flush(SyncSender<()>),
}

/// Writes all later lines from another thread: a write to a full pipe, or to a terminal after Ctrl-S,
/// blocks until it is read.
///
/// # Errors
///
/// If no thread can be started. Lines are written directly then.
pub(crate) fn write_from_background() -> io::Result<()> {
    let (sender, items) = sync_channel(MAX_QUEUED_LINES);
    thread::Builder::new().spawn(move || write_all(&items))?;
    // After a second call, the sender is dropped, which ends the new thread.
    let _ = QUEUE.set(sender);
    Ok(())
}

fn write_all(items: &Receiver<Item>) {
    for item in items {
        match item {
            Item::Line(line) => write(&line),
            Item::Flush(done) => drop(done.try_send(())),
        }
    }
}

/// Writes a message as one line. Control characters become blanks.
pub(crate) fn report(message: &str) {
    let plain = |c: char| if c.is_control() { ' ' } else { c };
    let message: String = message.chars().map(plain).collect();
    let line = format!("domo-token: {message}\n");
    match QUEUE.get() {
        // A line that does not fit is dropped.
        Some(queue) => drop(queue.try_send(Item::Line(line.into_bytes()))),
        None => write(line.as_bytes()),
    }
}

fn write(line: &[u8]) {
    // If standard error is closed, the exit code remains.
    let _ = io::stderr().write_all(line);
}

/// Waits until all lines are written, for at most [`FLUSH_TIMEOUT`].
pub(crate) fn finish() {
    let (done, written) = sync_channel(1);
    let queued = |queue: &SyncSender<Item>| queue.try_send(Item::Flush(done)).is_ok();
    if QUEUE.get().is_some_and(queued) {
        let _ = written.recv_timeout(FLUSH_TIMEOUT);
    }
}

/// Ends the process after its queued lines are written.
pub(crate) fn finish_and_exit(code: u8) -> ! {
    finish();
    exit(code.into())
}

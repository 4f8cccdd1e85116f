//! The audit: a JSON line in a file for each caller that was given a token or denied one.
//!
//! Answers never wait for the file. Lines that can't be written, or not fast enough, are lost and counted.

mod open_file;

use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use serde::Serialize;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tracing::{info, warn};

use crate::platform::clock::{since_1970, wall_now};
use crate::platform::threads;
use domo_token_core::access_policy::Caller;

pub use open_file::check;
use open_file::{is_torn, open, same_file};

/// The most lines that wait to be written.
const MAX_QUEUED: usize = 4096;

/// How long the daemon waits for them when it stops. A file system that hangs, or a pipe that isn't read, must
/// not prevent that.
const FLUSH_TIMEOUT: Duration = Duration::from_millis(500);

/// Queues lines for the [`Writer`]. Clones share the queue.
#[derive(Clone, Debug)]
pub struct Audit {
    sender: mpsc::Sender<Message>,
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    path: PathBuf,
    /// Lines that are neither written nor lost yet.
    queued: AtomicU64,
    lost: AtomicU64,
}

/// Writes the queued lines.
#[derive(Debug)]
pub struct Writer {
    file: File,
    receiver: mpsc::Receiver<Message>,
    shared: Arc<Shared>,
    /// Whether the file ends within a line, which the next one must not continue.
    is_torn: bool,
    /// Whether the last write failed, which is logged once.
    is_failing: bool,
}

#[derive(Debug)]
enum Message {
    Line(String),
    /// No line follows.
    End,
}

#[derive(Debug, Serialize)]
struct Entry<'a> {
    /// Seconds since 1970.
    time: f64,
    uid: Option<u32>,
    user: Option<&'a str>,
    pid: Option<u32>,
    unit: Option<&'a str>,
    client: Option<&'a str>,
    scope: &'a str,
    /// "served", or the kind of the refusal.
    outcome: &'a str,
    generation: Option<u64>,
}

impl Audit {
    /// Opens or creates the file, readable by the daemon's user alone; on Windows by those that its directory
    /// permits.
    ///
    /// # Errors
    ///
    /// If that fails, or other users could redirect the writes.
    pub fn open(path: &Path) -> io::Result<(Self, Writer)> {
        let file = open(path)?;
        let (sender, receiver) = mpsc::channel(MAX_QUEUED);
        let shared = Arc::new(Shared {
            path: path.to_owned(),
            queued: AtomicU64::new(0),
            lost: AtomicU64::new(0),
        });
        let audit = Self {
            sender,
            shared: Arc::clone(&shared),
        };
        let writer = Writer {
            is_torn: is_torn(&file, path),
            file,
            receiver,
            shared,
            is_failing: false,
        };
        Ok((audit, writer))
    }

    /// Records the answer to a request of `caller`: queues its line, or counts it as lost.
    pub fn record(
        &self,
        caller: &Caller,
        client: Option<&str>,
        scope: &str,
        outcome: &str,
        generation: Option<u64>,
    ) {
        let entry = Entry {
            time: epoch(wall_now()),
            uid: caller.uid,
            user: caller.identity.user.as_deref(),
            pid: caller.pid,
            unit: caller.unit.as_deref(),
            client,
            scope,
            outcome,
            generation,
        };
        let line = serde_json::to_string(&entry).map(|text| Message::Line(text + "\n"));
        let is_queued = line.is_ok_and(|line| self.sender.try_send(line).is_ok());
        let shared = &*self.shared;
        let count = if is_queued {
            &shared.queued
        } else {
            &shared.lost
        };
        count.fetch_add(1, Ordering::Relaxed);
    }

    /// Returns how many lines were lost so far.
    #[must_use]
    pub fn lost(&self) -> u64 {
        self.shared.lost.load(Ordering::Relaxed)
    }

    /// Ends the audit: returns once `writer`, the task of [`Writer::run`], has written the queued lines, or
    /// after half a second; the rest is lost.
    pub async fn finish(&self, writer: JoinHandle<()>) {
        let written = timeout(FLUSH_TIMEOUT, async {
            // A writer that has ended needs no message, and a panic was logged.
            self.sender.send(Message::End).await.ok();
            writer.await.ok();
        });
        if written.await.is_err() {
            let shared = &*self.shared;
            let lost = shared.queued.swap(0, Ordering::Relaxed);
            shared.lost.fetch_add(lost, Ordering::Relaxed);
            let path = shared.path.display();
            warn!(
                lost,
                "audit file {path} takes nothing; what waits for it is lost"
            );
        }
    }
}

impl Writer {
    /// Writes lines until [`Audit::finish`].
    pub async fn run(mut self) {
        let mut messages = Vec::new();
        while self.receiver.recv_many(&mut messages, MAX_QUEUED).await > 0 {
            let mut text = String::new();
            let mut count = 0;
            let mut is_end = false;
            for message in messages.drain(..) {
                match message {
                    Message::Line(line) => {
                        text.push_str(&line);
                        count += 1;
                    }
                    Message::End => is_end = true,
                }
            }
            let (writer, written) = threads::run_with(self, move |writer| {
                let (complete, error) = writer.write(text);
                writer.report(count, complete, error);
            })
            .await;
            // It panicked, which was logged.
            let Some(writer) = writer else {
                return;
            };
            self = writer;
            if let Err(error) = written {
                self.report(count, 0, Some(error));
            }
            if is_end {
                return;
            }
        }
    }

    /// Writes the lines. Returns how many of them are complete in the file, and the error that prevented the
    /// others.
    fn write(&mut self, mut lines: String) -> (u64, Option<io::Error>) {
        let path = &self.shared.path;
        if !same_file(&self.file, path) {
            match open(path) {
                Ok(file) => self.file = file,
                Err(error) => return (0, Some(error)),
            }
            self.is_torn = is_torn(&self.file, path);
        }
        // Readers then skip only the torn line.
        let ends = u64::from(self.is_torn);
        if self.is_torn {
            lines.insert(0, '\n');
        }
        let (written, error) = append(&mut self.file, lines.as_bytes());
        if let Some(last) = written.last() {
            self.is_torn = *last != b'\n';
        }
        let breaks = written.split(|byte| *byte == b'\n').skip(1).count();
        let complete = u64::try_from(breaks).unwrap_or(u64::MAX);
        (complete.saturating_sub(ends), error)
    }

    fn report(&mut self, count: u64, complete: u64, error: Option<io::Error>) {
        let path = self.shared.path.display();
        // Fewer if `finish` has counted them as lost already.
        let less = |queued: u64| Some(queued.saturating_sub(count));
        let counts = self
            .shared
            .queued
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, less);
        let counts = counts.unwrap_or_default().min(count);
        match error {
            // Without a line nothing was written.
            None if count > 0 && std::mem::replace(&mut self.is_failing, false) => {
                info!("audit file {path} is written again");
            }
            None => {}
            Some(error) => {
                let lost = count.saturating_sub(complete).min(counts);
                self.shared.lost.fetch_add(lost, Ordering::Relaxed);
                if !std::mem::replace(&mut self.is_failing, true) {
                    warn!("audit file {path}: {error}; lines are lost until it can be written");
                }
            }
        }
    }
}

/// Writes as much as possible. Returns what was written, and the error that prevented the rest.
fn append<'a>(file: &mut File, text: &'a [u8]) -> (&'a [u8], Option<io::Error>) {
    let mut rest = text;
    let error = loop {
        if rest.is_empty() {
            break None;
        }
        match file.write(rest) {
            Ok(0) => break Some(io::ErrorKind::WriteZero.into()),
            Ok(written) => rest = rest.get(written..).unwrap_or_default(),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => break Some(error),
        }
    };
    let written = text.len() - rest.len();
    (text.get(..written).unwrap_or_default(), error)
}

/// Returns the seconds since 1970, to the millisecond.
fn epoch(at: SystemTime) -> f64 {
    let millis = u64::try_from(since_1970(at).as_millis()).unwrap_or(0);
    Duration::from_millis(millis).as_secs_f64()
}

#[cfg(test)]
#[cfg(unix)]
mod tests;

//! Who was given which token when, and who was refused: a JSON line for each, in a file.
//!
//! Serving never waits for the file. What can't be written, or comes faster than it is written, is
//! lost and counted.

mod file;

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
use domo_token_core::policy::Caller;

pub use file::check;
use file::{is_torn, open, same_file};

/// Lines that wait to be written, at most.
const BACKLOG: usize = 4096;

/// How long the daemon's end waits for them: whoever has it on a file system that hangs, or behind
/// a pipe that isn't read, must still be able to stop it.
const LAST_LINES: Duration = Duration::from_millis(500);

/// Takes the lines.
#[derive(Clone, Debug)]
pub struct Audit {
    lines: mpsc::Sender<Line>,
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    path: PathBuf,
    /// Taken, and neither written nor lost yet.
    waiting: AtomicU64,
    lost: AtomicU64,
}

/// Writes the lines.
#[derive(Debug)]
pub struct Writer {
    file: File,
    lines: mpsc::Receiver<Line>,
    shared: Arc<Shared>,
    /// Whether the file ends within a line, which the next one must not go on with.
    torn: bool,
    /// Whether the last write failed, so that it is told once.
    failing: bool,
}

#[derive(Debug)]
enum Line {
    Text(String),
    /// Nothing comes any more.
    Last,
}

/// One line.
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
    /// Opens the file, or makes it, for the daemon's user alone; on Windows for whom its directory
    /// says.
    ///
    /// # Errors
    ///
    /// If that can't be done, or others could have the daemon write elsewhere.
    pub fn open(path: &Path) -> io::Result<(Self, Writer)> {
        let file = open(path)?;
        let (sender, lines) = mpsc::channel(BACKLOG);
        let shared = Arc::new(Shared {
            path: path.to_owned(),
            waiting: AtomicU64::new(0),
            lost: AtomicU64::new(0),
        });
        let audit = Self {
            lines: sender,
            shared: Arc::clone(&shared),
        };
        let writer = Writer {
            torn: is_torn(&file, path),
            file,
            lines,
            shared,
            failing: false,
        };
        Ok((audit, writer))
    }

    /// Takes down what `caller` was given for what it asked.
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
        let line = serde_json::to_string(&entry).map(|text| Line::Text(text + "\n"));
        let taken = line.is_ok_and(|line| self.lines.try_send(line).is_ok());
        let shared = &*self.shared;
        let count = if taken { &shared.waiting } else { &shared.lost };
        count.fetch_add(1, Ordering::Relaxed);
    }

    /// Lines that were lost so far.
    #[must_use]
    pub fn lost(&self) -> u64 {
        self.shared.lost.load(Ordering::Relaxed)
    }

    /// Nothing comes any more: returns once `writer`, which runs [`Writer::run`], has written what
    /// there is, or can't in half a second; the rest is lost.
    pub async fn finish(&self, writer: JoinHandle<()>) {
        let written = timeout(LAST_LINES, async {
            // A writer that has ended needs no word, and one that panicked has said so.
            let _ended = self.lines.send(Line::Last).await;
            let _ended = writer.await;
        });
        if written.await.is_err() {
            let shared = &*self.shared;
            let lost = shared.waiting.swap(0, Ordering::Relaxed);
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
    /// Writes until [`Audit::finish`].
    pub async fn run(mut self) {
        let mut lines = Vec::new();
        while self.lines.recv_many(&mut lines, BACKLOG).await > 0 {
            let mut text = String::new();
            let mut count = 0;
            let mut last = false;
            for line in lines.drain(..) {
                match line {
                    Line::Text(line) => {
                        text.push_str(&line);
                        count += 1;
                    }
                    Line::Last => last = true,
                }
            }
            let (writer, written) = threads::run_with(self, move |writer| {
                let (whole, error) = writer.write(text);
                writer.judge(count, whole, error);
            })
            .await;
            // A panic has ended it, and said so.
            let Some(writer) = writer else {
                return;
            };
            self = writer;
            if let Err(error) = written {
                self.judge(count, 0, Some(error));
            }
            if last {
                return;
            }
        }
    }

    /// Gives how many of the lines are there whole, and what kept the others away.
    fn write(&mut self, mut lines: String) -> (u64, Option<io::Error>) {
        let path = &self.shared.path;
        if !same_file(&self.file, path) {
            match open(path) {
                Ok(file) => self.file = file,
                Err(error) => return (0, Some(error)),
            }
            self.torn = is_torn(&self.file, path);
        }
        // Readers skip what is left of the torn line alone.
        let ends = u64::from(self.torn);
        if self.torn {
            lines.insert(0, '\n');
        }
        let (written, error) = append(&mut self.file, lines.as_bytes());
        if let Some(last) = written.last() {
            self.torn = *last != b'\n';
        }
        let breaks = written.split(|byte| *byte == b'\n').skip(1).count();
        let whole = u64::try_from(breaks).unwrap_or(u64::MAX);
        (whole.saturating_sub(ends), error)
    }

    fn judge(&mut self, count: u64, whole: u64, error: Option<io::Error>) {
        let path = self.shared.path.display();
        // Less than that if the end has counted them as lost already.
        let less = |waiting: u64| Some(waiting.saturating_sub(count));
        let counts = self
            .shared
            .waiting
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, less);
        let counts = counts.unwrap_or_default().min(count);
        match error {
            // Nothing to write shows nothing.
            None if count > 0 && std::mem::replace(&mut self.failing, false) => {
                info!("audit file {path} is written again");
            }
            None => {}
            Some(error) => {
                let lost = count.saturating_sub(whole).min(counts);
                self.shared.lost.fetch_add(lost, Ordering::Relaxed);
                if !std::mem::replace(&mut self.failing, true) {
                    warn!("audit file {path}: {error}; lines are lost until it can be written");
                }
            }
        }
    }
}

/// Writes all of it, or as much as it can: what was written, and what kept it from the rest.
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

/// Seconds since 1970, to the millisecond.
fn epoch(at: SystemTime) -> f64 {
    let millis = u64::try_from(since_1970(at).as_millis()).unwrap_or(0);
    Duration::from_millis(millis).as_secs_f64()
}

#[cfg(test)]
#[cfg(unix)]
mod tests;

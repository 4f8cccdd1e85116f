//! Who was given which token when, and who was refused: a JSON line for each, in a file.
//!
//! Serving never waits for the file. What can't be written, or comes faster than it is written, is
//! lost and counted.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use serde::Serialize;
use tokio::sync::mpsc;
use tokio::task::spawn_blocking;
use tracing::{info, warn};

use crate::clock::{since_1970, wall_now};
use crate::policy::Caller;

/// Lines that wait to be written, at most.
const BACKLOG: usize = 4096;

/// Takes the lines.
#[derive(Clone, Debug)]
pub struct Audit {
    lines: mpsc::Sender<Line>,
    lost: Arc<AtomicU64>,
}

/// Writes the lines.
#[derive(Debug)]
pub struct Writer {
    path: PathBuf,
    file: File,
    lines: mpsc::Receiver<Line>,
    lost: Arc<AtomicU64>,
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
    /// If that can't be done.
    pub fn open(path: &Path) -> io::Result<(Self, Writer)> {
        let file = open(path)?;
        let (sender, lines) = mpsc::channel(BACKLOG);
        let lost = Arc::new(AtomicU64::new(0));
        let audit = Self {
            lines: sender,
            lost: Arc::clone(&lost),
        };
        let writer = Writer {
            path: path.to_owned(),
            file,
            lines,
            lost,
            failing: false,
        };
        Ok((audit, writer))
    }

    /// Takes down what `caller` was given for what it asked.
    pub fn note(
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
        if !line.is_ok_and(|line| self.lines.try_send(line).is_ok()) {
            self.lost.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Lines that were lost so far.
    #[must_use]
    pub fn lost(&self) -> u64 {
        self.lost.load(Ordering::Relaxed)
    }

    /// Lets the writer end once it has written what there is.
    pub async fn close(&self) {
        // A writer that has ended needs no word.
        let _ended = self.lines.send(Line::Last).await;
    }
}

impl Writer {
    /// Writes until [`Audit::close`].
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
            let written = spawn_blocking(move || {
                let written = self.write(&text);
                self.judge(written, count);
                self
            });
            match written.await {
                Ok(writer) if !last => self = writer,
                Ok(_) | Err(_) => return,
            }
        }
    }

    fn write(&mut self, text: &str) -> io::Result<()> {
        if !same_file(&self.file, &self.path) {
            self.file = open(&self.path)?;
        }
        self.file.write_all(text.as_bytes())
    }

    fn judge(&mut self, written: io::Result<()>, count: u64) {
        let path = self.path.display();
        match written {
            // Nothing to write shows nothing.
            Ok(()) if count > 0 && std::mem::replace(&mut self.failing, false) => {
                info!("audit file {path} is written again");
            }
            Ok(()) => {}
            Err(error) => {
                self.lost.fetch_add(count, Ordering::Relaxed);
                if !std::mem::replace(&mut self.failing, true) {
                    warn!("audit file {path}: {error}; lines are lost until it can be written");
                }
            }
        }
    }
}

fn open(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.append(true).create(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(path)
}

/// Whether what is at `path` is still that file: log rotation moves it away.
#[cfg(unix)]
fn same_file(file: &File, path: &Path) -> bool {
    use std::os::unix::fs::MetadataExt;
    let id = |stat: std::fs::Metadata| (stat.dev(), stat.ino());
    match (file.metadata(), std::fs::metadata(path)) {
        (Ok(held), Ok(there)) => id(held) == id(there),
        (Ok(_) | Err(_), Ok(_) | Err(_)) => false,
    }
}

/// The same; Windows knows a file by what is open alone.
#[cfg(windows)]
fn same_file(file: &File, path: &Path) -> bool {
    use same_file::Handle;
    match (
        file.try_clone().and_then(Handle::from_file),
        Handle::from_path(path),
    ) {
        (Ok(held), Ok(there)) => held == there,
        (Ok(_) | Err(_), Ok(_) | Err(_)) => false,
    }
}

/// Seconds since 1970, to the millisecond.
fn epoch(at: SystemTime) -> f64 {
    let millis = u64::try_from(since_1970(at).as_millis()).unwrap_or(0);
    Duration::from_millis(millis).as_secs_f64()
}

//! The audit: a JSON line in a file for each caller that was given a token or denied one.
//!
//! Answers never wait for the file. Lines that can't be written, or not fast enough, are lost and counted.

mod file;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use serde::Serialize;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tracing::warn;

use crate::platform::clock::{since_1970, wall_now};
use domo_token_core::access_policy::Caller;

pub use file::{Writer, check};

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

/// A request of an application of the gateway.
#[derive(Debug, Serialize)]
pub struct AppRequest<'a> {
    pub app: &'a str,
    pub client: &'a str,
    pub method: &'a str,
    /// Without the query.
    pub path: &'a str,
    /// Of the response.
    pub status: u16,
}

#[derive(Debug, Serialize)]
struct AppEntry<'a> {
    /// Seconds since 1970.
    time: f64,
    #[serde(flatten)]
    request: &'a AppRequest<'a>,
}

impl Audit {
    /// Opens or creates the file, readable by the daemon's user alone; on Windows by those that its directory
    /// permits.
    ///
    /// # Errors
    ///
    /// If that fails, or other users could redirect the writes.
    pub fn open(path: &Path) -> io::Result<(Self, Writer)> {
        let (sender, receiver) = mpsc::channel(MAX_QUEUED);
        let shared = Arc::new(Shared {
            path: path.to_owned(),
            queued: AtomicU64::new(0),
            lost: AtomicU64::new(0),
        });
        let writer = Writer::open(path, receiver, Arc::clone(&shared))?;
        Ok((Self { sender, shared }, writer))
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
        self.write(&entry);
    }

    /// Records a request of an application: queues its line, or counts it as lost.
    pub fn record_app(&self, request: &AppRequest<'_>) {
        self.write(&AppEntry {
            time: epoch(wall_now()),
            request,
        });
    }

    fn write(&self, entry: &impl Serialize) {
        let line = serde_json::to_string(entry).map(|text| Message::Line(text + "\n"));
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
                "cannot write audit file {path} in time; the queued lines are lost"
            );
        }
    }
}

/// Returns the seconds since 1970, to the millisecond.
fn epoch(at: SystemTime) -> f64 {
    let millis = u64::try_from(since_1970(at).as_millis()).unwrap_or(0);
    Duration::from_millis(millis).as_secs_f64()
}

#[cfg(test)]
#[cfg(unix)]
mod tests;

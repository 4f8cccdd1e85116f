//! Detects changes of files, by the system's events, and by slow polling where there are none.
//!
//! The directory of each file is watched, and after each event the files are resolved and compared again,
//! so that a rename, a replaced symlink or a new directory is a change like any other.

mod watcher;

use std::fs::{self, Metadata};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Sender, channel};
use std::time::{Duration, SystemTime};

use tokio::sync::mpsc;
use tokio::time::sleep;
use tracing::warn;

use crate::platform::clock::{BootTime, boot_now};
use watcher::FileWatcher;

/// Delays and intervals of watching.
#[derive(Clone, Copy, Debug)]
struct Timing {
    /// How long no further change must come: an editor or a deployment makes several in a row.
    quiet: Duration,
    /// How long a change is delayed for that at most.
    quiet_max: Duration,
    /// How often files are polled where there are no events, as on network file systems.
    poll: Duration,
    /// How often they are polled otherwise: events can be lost, and none comes when something
    /// above a directory is renamed or mounted over. Each poll wakes up an idle daemon.
    poll_with_events: Duration,
    /// How often files are polled while one of their directories is missing.
    poll_for_directory: Duration,
}

const TIMING: Timing = Timing {
    quiet: Duration::from_millis(100),
    quiet_max: Duration::from_millis(500),
    poll: Duration::from_secs(30),
    poll_with_events: Duration::from_secs(60),
    poll_for_directory: Duration::from_secs(1),
};

/// Identifies the version of a file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Stamp(Option<(Identity, u64, Option<SystemTime>)>);

/// Device, inode and the time of the last change (ctime), which differs for a file that replaced another
/// and for one whose mode has changed.
type Identity = (u64, u64, i64, i64);

impl Stamp {
    /// Returns the stamp of the file, or of the target of a symlink.
    #[must_use]
    pub fn of(path: &Path) -> Self {
        let found = fs::metadata(path).ok();
        Self(found.map(|found| (identity(&found), found.len(), found.modified().ok())))
    }
}

#[cfg(unix)]
fn identity(found: &Metadata) -> Identity {
    use std::os::unix::fs::MetadataExt;
    (found.dev(), found.ino(), found.ctime(), found.ctime_nsec())
}

/// Uses the time of creation, because Windows has no inode number on every file system.
#[cfg(windows)]
fn identity(found: &Metadata) -> Identity {
    use std::os::windows::fs::MetadataExt;
    (0, found.creation_time(), 0, 0)
}

/// Watches a set of files that can be replaced by another, and the paths of the socket, on a thread of
/// its own: a network file system that hangs must not hold up anything else.
///
/// If no thread can be started, that is retried.
pub struct Files {
    timing: Timing,
    with_events: bool,
    stamps: Vec<(PathBuf, Stamp)>,
    socket: Option<SocketPaths>,
    thread: Option<Thread>,
    /// When the next thread is started, if there is none.
    next_start: BootTime,
    /// Whether the lack of a thread was logged.
    was_logged: bool,
}

/// The paths of the socket, and what is notified of a change.
#[derive(Clone)]
struct SocketPaths {
    seen: Vec<(PathBuf, Stamp)>,
    changed: mpsc::Sender<()>,
}

struct Thread {
    messages: Sender<Message>,
    changed: mpsc::Receiver<()>,
}

enum Message {
    /// Replaces the files to watch.
    Files(Vec<(PathBuf, Stamp)>),
    /// Replaces the paths of the socket to watch.
    Socket(SocketPaths),
    /// A file may have changed.
    Event(Changes),
    End,
}

/// Which of the watched paths may have changed.
#[derive(Clone, Copy, Default)]
struct Changes {
    files: bool,
    socket: bool,
}

impl Files {
    /// Watches nothing yet.
    #[must_use]
    pub fn new() -> Self {
        Self::with_timing(TIMING, true)
    }

    fn with_timing(timing: Timing, with_events: bool) -> Self {
        let mut files = Self {
            timing,
            with_events,
            stamps: Vec::new(),
            socket: None,
            thread: None,
            next_start: BootTime::default(),
            was_logged: false,
        };
        files.start();
        files
    }

    /// Watches these files from now on, and no others. Each comes with its stamp from before it
    /// was read, so that nothing that changed since goes unnoticed.
    pub fn watch(&mut self, files: Vec<(PathBuf, Stamp)>) {
        self.stamps = files;
        self.send(Message::Files(self.stamps.clone()));
    }

    /// Watches the socket's paths, too. What is returned receives a message whenever one of them may
    /// have changed, as long as [`Self::changed`] is waited for.
    pub fn watch_socket(&mut self, paths: Vec<PathBuf>) -> mpsc::Receiver<()> {
        let (sender, changed) = mpsc::channel(1);
        let stamped = |path: PathBuf| {
            let stamp = Stamp::of(&path);
            (path, stamp)
        };
        let socket = SocketPaths {
            seen: paths.into_iter().map(stamped).collect(),
            changed: sender,
        };
        self.socket = Some(socket.clone());
        self.send(Message::Socket(socket));
        changed
    }

    /// Returns once any of the files may have changed and it has been quiet since. Dropping it loses
    /// nothing.
    pub async fn changed(&mut self) {
        loop {
            if let Some(thread) = &mut self.thread {
                if thread.changed.recv().await.is_some() {
                    return;
                }
                // The thread has panicked.
                self.thread = None;
                self.next_start = boot_now() + self.timing.poll;
            }
            sleep(self.next_start.saturating_since(boot_now())).await;
            if let Some(socket) = &self.socket {
                let _ = socket.changed.try_send(());
            }
            self.start();
        }
    }

    fn start(&mut self) {
        let (sender, messages) = channel();
        // One pending message is enough.
        let (change, changed) = mpsc::channel(1);
        let mut watcher = <FileWatcher>::new(self.timing, self.with_events, sender.clone());
        let watch = move || watcher.run(&messages, &change);
        let thread = std::thread::Builder::new().name("files".to_owned());
        if let Err(error) = thread.spawn(watch) {
            self.next_start = boot_now() + self.timing.poll;
            if !std::mem::replace(&mut self.was_logged, true) {
                let seconds = self.timing.poll.as_secs();
                warn!(
                    "cannot watch files: cannot start a thread: {error}; retrying every {seconds} s; \
                     send SIGHUP to apply a change"
                );
            }
            return;
        }
        self.thread = Some(Thread {
            messages: sender,
            changed,
        });
        if let Some(socket) = self.socket.clone() {
            self.send(Message::Socket(socket));
        }
        self.send(Message::Files(self.stamps.clone()));
    }

    fn send(&self, message: Message) {
        if let Some(thread) = &self.thread {
            // A thread that has panicked is replaced.
            let _ = thread.messages.send(message);
        }
    }
}

impl Default for Files {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for Files {
    fn drop(&mut self) {
        self.send(Message::End);
    }
}

/// NFS, SMB, CIFS, SMB2, FUSE, 9P, Ceph and AFS by their `f_type` (statfs(2)): other machines or programs change
/// them without an event here.
#[cfg(target_os = "linux")]
const NETWORK_FS: [i128; 8] = [
    0x6969,
    0x517b,
    0xff53_4d42,
    0xfe53_4d42,
    0x6573_5546,
    0x0102_1997,
    0x00c3_6400,
    0x5346_414f,
];

/// Returns whether a directory is on a network file system or its like. One that can't be looked at
/// counts as such.
#[cfg(target_os = "linux")]
fn is_network_fs(directory: &Path) -> bool {
    // By architecture it has 32 or 64 bits, and may be signed: its low half is the number.
    let number = |f_type: i128| f_type & 0xffff_ffff;
    let found = rustix::fs::statfs(directory);
    found.map_or(true, |found| {
        NETWORK_FS.contains(&number(found.f_type.into()))
    })
}

#[cfg(not(target_os = "linux"))]
fn is_network_fs(_: &Path) -> bool {
    true
}

#[cfg(test)]
mod tests;

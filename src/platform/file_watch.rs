//! Notices that files change: by the system's events, and by a slow look of its own where there
//! are none.
//!
//! Events are only hints: what is watched is each file's directory, and what a file leads to is
//! found anew after each of them, so that a rename, a swapped symlink or a directory made again is
//! a change like any other.

mod names;
mod thread;

use std::fs::{self, Metadata};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Sender, channel};
use std::time::{Duration, SystemTime};

use tokio::sync::mpsc;
use tokio::time::sleep;
use tracing::warn;

use crate::platform::clock::{BootTime, boot_now};
pub(crate) use names::names_on_the_way;
use thread::FileWatcher;

/// How long the parts of watching take.
#[derive(Clone, Copy, Debug)]
struct Timing {
    /// How long it must be quiet after a change: an editor or a deployment makes several in a row.
    quiet: Duration,
    /// How long a change waits for quiet at most.
    quiet_max: Duration,
    /// How often files are looked at where there are no events, as on network file systems.
    look: Duration,
    /// How often they are looked at otherwise: events can be lost, and none comes when something
    /// above a directory is renamed or mounted over. Each look wakes an idle daemon up.
    look_anyhow: Duration,
    /// How often a directory that isn't there is looked for.
    look_for_directory: Duration,
}

const TIMING: Timing = Timing {
    quiet: Duration::from_millis(100),
    quiet_max: Duration::from_millis(500),
    look: Duration::from_secs(30),
    look_anyhow: Duration::from_secs(60),
    look_for_directory: Duration::from_secs(1),
};

/// Symlinks followed for one file, as many as the system does.
const MAX_LINKS: usize = 40;

/// What a file was when it was looked at.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Stamp(Option<(Identity, u64, Option<SystemTime>)>);

/// Device, inode, and when it was last changed in any way: of a file put in another's place, and
/// of one whose mode has changed, it changed.
type Identity = (u64, u64, i64, i64);

impl Stamp {
    /// Looks at the file, or at what a symlink leads to.
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

/// There is a time of creation instead, and no number that every file system has.
#[cfg(windows)]
fn identity(found: &Metadata) -> Identity {
    use std::os::windows::fs::MetadataExt;
    (0, found.creation_time(), 0, 0)
}

/// Watches a set of files that can be replaced by another, and the paths of the socket, on a thread of
/// its own: a network file system that hangs must not hold up anything else.
///
/// Where no thread can be started it is tried again from time to time.
pub struct Files {
    pace: Timing,
    with_events: bool,
    /// As they were when they were last given.
    given: Vec<(PathBuf, Stamp)>,
    socket: Option<SocketPaths>,
    thread: Option<Thread>,
    /// When the next thread is started, if there is none.
    next_start: BootTime,
    /// Whether it was logged that there is none.
    told: bool,
}

/// The paths of the socket, and what is notified of a change.
#[derive(Clone)]
struct SocketPaths {
    seen: Vec<(PathBuf, Stamp)>,
    changed: mpsc::Sender<()>,
}

struct Thread {
    hints: Sender<Message>,
    changed: mpsc::Receiver<()>,
}

enum Message {
    /// Watch these from now on.
    Files(Vec<(PathBuf, Stamp)>),
    /// And these.
    Socket(SocketPaths),
    /// Something may have changed.
    Event(Changes),
    End,
}

/// What may have changed.
#[derive(Clone, Copy, Default)]
struct Changes {
    files: bool,
    socket: bool,
}

impl Files {
    /// Watches nothing yet.
    #[must_use]
    pub fn new() -> Self {
        Self::paced(TIMING, true)
    }

    fn paced(pace: Timing, with_events: bool) -> Self {
        let mut files = Self {
            pace,
            with_events,
            given: Vec::new(),
            socket: None,
            thread: None,
            next_start: BootTime::default(),
            told: false,
        };
        files.start();
        files
    }

    /// Watches these files from now on, and no others. Each comes with its stamp from before it
    /// was read, so that nothing that changed since goes unnoticed.
    pub fn watch(&mut self, files: Vec<(PathBuf, Stamp)>) {
        self.given = files;
        self.hint(Message::Files(self.given.clone()));
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
        self.hint(Message::Socket(socket));
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
                // It has panicked.
                self.thread = None;
                self.next_start = boot_now() + self.pace.look;
            }
            sleep(self.next_start.saturating_since(boot_now())).await;
            if let Some(socket) = &self.socket {
                let _ = socket.changed.try_send(());
            }
            self.start();
        }
    }

    fn start(&mut self) {
        let (hints, given) = channel();
        // One word that is not yet taken says all.
        let (change, changed) = mpsc::channel(1);
        let mut looker = <FileWatcher>::new(self.pace, self.with_events, hints.clone());
        let look = move || looker.run(&given, &change);
        let thread = std::thread::Builder::new().name("files".to_owned());
        if let Err(error) = thread.spawn(look) {
            self.next_start = boot_now() + self.pace.look;
            if !std::mem::replace(&mut self.told, true) {
                let seconds = self.pace.look.as_secs();
                warn!(
                    "file changes are not noticed: cannot start a thread: {error}; retrying every {seconds} s, and SIGHUP applies changes meanwhile"
                );
            }
            return;
        }
        self.thread = Some(Thread { hints, changed });
        if let Some(socket) = self.socket.clone() {
            self.hint(Message::Socket(socket));
        }
        self.hint(Message::Files(self.given.clone()));
    }

    fn hint(&self, hint: Message) {
        if let Some(thread) = &self.thread {
            // One that has panicked is replaced.
            let _ = thread.hints.send(hint);
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
        self.hint(Message::End);
    }
}

/// File systems that other machines or programs change without an event here, by their `f_type` (statfs(2)).
#[cfg(target_os = "linux")]
mod magic {
    pub(super) const NFS: i128 = 0x6969;
    pub(super) const SMB: i128 = 0x517b;
    pub(super) const CIFS: i128 = 0xff53_4d42;
    pub(super) const SMB2: i128 = 0xfe53_4d42;
    pub(super) const FUSE: i128 = 0x6573_5546;
    pub(super) const V9FS: i128 = 0x0102_1997;
    pub(super) const CEPH: i128 = 0x00c3_6400;
    pub(super) const AFS: i128 = 0x5346_414f;

    pub(super) const ALL: [i128; 8] = [NFS, SMB, CIFS, SMB2, FUSE, V9FS, CEPH, AFS];
}

/// Returns whether a directory is on a network file system or its like. One that can't be looked at
/// counts as such.
#[cfg(target_os = "linux")]
fn is_network_fs(directory: &Path) -> bool {
    // By architecture it has 32 or 64 bits, and may be signed: its low half is the number.
    let number = |f_type: i128| f_type & 0xffff_ffff;
    let found = rustix::fs::statfs(directory);
    found.map_or(true, |found| {
        magic::ALL.contains(&number(found.f_type.into()))
    })
}

#[cfg(not(target_os = "linux"))]
fn is_network_fs(_: &Path) -> bool {
    true
}

#[cfg(test)]
mod tests;

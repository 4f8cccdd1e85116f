//! Notices that files change: by the system's events, and by a slow look of its own where there
//! are none.
//!
//! Events are only hints: what is watched is each file's directory, and what a file leads to is
//! found anew after each of them, so that a rename, a swapped symlink or a directory made again is
//! a change like any other.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, Metadata};
use std::future::pending;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, SystemTime};

use notify::{Event, EventKind, RecommendedWatcher, RecursiveMode, Watcher};
use tokio::sync::mpsc;
use tracing::warn;

use crate::clock::boot_now;

/// How long the parts of watching take.
#[derive(Clone, Copy, Debug)]
struct Pace {
    /// How long it must be quiet after a change: an editor or a deployment makes several in a row.
    quiet: Duration,
    /// How long a change waits for quiet at most.
    quiet_max: Duration,
    /// How often files are looked at where there are no events: on network file systems.
    look: Duration,
    /// How often they are looked at elsewhere, for events that were lost.
    look_anyhow: Duration,
    /// How often a directory that isn't there is looked for.
    look_for_directory: Duration,
}

const PACE: Pace = Pace {
    quiet: Duration::from_millis(100),
    quiet_max: Duration::from_millis(500),
    look: Duration::from_secs(30),
    look_anyhow: Duration::from_secs(600),
    look_for_directory: Duration::from_secs(1),
};

/// Symlinks followed for one file, as many as the system does.
const MAX_LINKS: usize = 40;

/// What a file was when it was looked at.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stamp(Option<(Identity, u64, Option<SystemTime>)>);

/// Device, inode, and when it was last changed in any way: of a file put in another's place, and
/// of one whose mode has changed, it differs.
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

/// Watches a set of files that can be replaced by another, on a thread of its own: a network file
/// system that hangs must not hold up anything else.
pub struct Files {
    hints: Sender<Hint>,
    changed: mpsc::Receiver<()>,
}

enum Hint {
    /// Watch these from now on.
    Files(Vec<(PathBuf, Stamp)>),
    /// Something may have changed.
    Event,
    End,
}

impl Files {
    /// Watches nothing yet.
    ///
    /// # Errors
    ///
    /// If the system has no room for a thread.
    pub fn new() -> io::Result<Self> {
        Self::paced(PACE, true)
    }

    fn paced(pace: Pace, with_events: bool) -> io::Result<Self> {
        let (hints, given) = channel();
        // One word that is not yet taken says all.
        let (change, changed) = mpsc::channel(1);
        let mut looker = Looker {
            pace,
            seen: Vec::new(),
            directories: BTreeMap::new(),
            names: Arc::default(),
            watcher: None,
            told: !with_events,
            hints: hints.clone(),
        };
        let look = move || looker.run(&given, &change);
        thread::Builder::new()
            .name("files".to_owned())
            .spawn(look)?;
        Ok(Self { hints, changed })
    }

    /// Watches these files from now on, and no others. Each comes with its stamp from before it
    /// was read, so that nothing that changed since goes unnoticed.
    pub fn watch(&self, files: Vec<(PathBuf, Stamp)>) {
        // The thread ends after this does.
        let _there = self.hints.send(Hint::Files(files));
    }

    /// Returns once any of them may have changed and it has been quiet since. Dropping it loses
    /// nothing.
    pub async fn changed(&mut self) {
        if self.changed.recv().await.is_none() {
            // Without its thread nothing is noticed any more.
            pending::<()>().await;
        }
    }
}

impl Drop for Files {
    fn drop(&mut self) {
        let _there = self.hints.send(Hint::End);
    }
}

/// What the thread knows.
struct Looker {
    pace: Pace,
    seen: Vec<(PathBuf, Stamp)>,
    /// The directories under watch, with the inode that each had.
    directories: BTreeMap<PathBuf, Option<(u64, u64)>>,
    /// What an event must be about to count.
    names: Arc<Mutex<BTreeSet<PathBuf>>>,
    watcher: Option<RecommendedWatcher>,
    /// Whether it was told that there are no events.
    told: bool,
    hints: Sender<Hint>,
}

impl Looker {
    fn run(&mut self, hints: &Receiver<Hint>, change: &mpsc::Sender<()>) {
        loop {
            let heard = match hints.recv_timeout(self.rest()) {
                Ok(Hint::Files(files)) => {
                    self.take(files);
                    false
                }
                Ok(Hint::Event) => match self.wait_for_quiet(hints) {
                    Some(Hint::End) => return,
                    Some(Hint::Files(files)) => {
                        self.take(files);
                        true
                    }
                    Some(Hint::Event) | None => true,
                },
                Err(RecvTimeoutError::Timeout) => false,
                Ok(Hint::End) | Err(RecvTimeoutError::Disconnected) => return,
            };
            self.look_at_directories();
            // Two writes within one tick of the file system's clock leave the same stamp, so what
            // was heard counts by itself.
            if self.differs() || heard {
                // Whoever has not taken the last word yet needs no other.
                let _told_already = change.try_send(());
            }
        }
    }

    fn rest(&self) -> Duration {
        let all_there = self.directories.values().all(Option::is_some);
        let has_events = |directory: &PathBuf| !is_far(directory);
        if !all_there {
            self.pace.look_for_directory
        } else if self.told || !self.directories.keys().all(has_events) {
            self.pace.look
        } else {
            self.pace.look_anyhow
        }
    }

    /// What came instead of another event, if anything did.
    fn wait_for_quiet(&self, hints: &Receiver<Hint>) -> Option<Hint> {
        let end = boot_now() + self.pace.quiet_max;
        loop {
            let left = end.saturating_since(boot_now());
            if left.is_zero() {
                return None;
            }
            match hints.recv_timeout(self.pace.quiet.min(left)) {
                Ok(Hint::Event) => {}
                Ok(other) => return Some(other),
                Err(_) => return None,
            }
        }
    }

    fn take(&mut self, files: Vec<(PathBuf, Stamp)>) {
        if self.watcher.is_none() && !self.told {
            self.start();
        }
        self.seen = files;
    }

    fn differs(&mut self) -> bool {
        let mut differs = false;
        for (path, seen) in &mut self.seen {
            let now = Stamp::of(path);
            differs |= now != *seen;
            *seen = now;
        }
        differs
    }

    fn start(&mut self) {
        let (names, hints) = (Arc::clone(&self.names), self.hints.clone());
        let watcher = notify::recommended_watcher(move |event: notify::Result<Event>| {
            let names = names.lock().unwrap_or_else(PoisonError::into_inner);
            if event.map_or(true, |event| counts(&event, &names)) {
                let _ended = hints.send(Hint::Event);
            }
        });
        match watcher {
            Ok(watcher) => self.watcher = Some(watcher),
            Err(error) => self.tell(&error),
        }
    }

    /// Finds out which directories matter now, and watches those.
    fn look_at_directories(&mut self) {
        let mut names: BTreeSet<PathBuf> = BTreeSet::new();
        for (path, _) in &self.seen {
            names.extend(names_on_the_way(path));
        }
        let parents: BTreeSet<PathBuf> = names
            .iter()
            .filter_map(|name| name.parent())
            .map(Path::to_owned)
            .collect();
        let gone: Vec<PathBuf> = self
            .directories
            .keys()
            .filter(|directory| !parents.contains(*directory))
            .cloned()
            .collect();
        for directory in gone {
            self.directories.remove(&directory);
            self.unwatch(&directory);
        }
        names.extend(parents.iter().cloned());
        *self.names.lock().unwrap_or_else(PoisonError::into_inner) = names;
        for directory in parents {
            let found = fs::metadata(&directory).ok();
            let found = found.map(|found| {
                let (device, inode, ..) = identity(&found);
                (device, inode)
            });
            let known = self.directories.insert(directory.clone(), found);
            if known.flatten() != found {
                self.unwatch(&directory);
                self.watch_directory(&directory, found.is_some());
            } else if known.is_none() {
                self.watch_directory(&directory, found.is_some());
            }
        }
    }

    fn watch_directory(&mut self, directory: &Path, is_there: bool) {
        let Some(watcher) = self.watcher.as_mut().filter(|_| is_there) else {
            return;
        };
        if let Err(error) = watcher.watch(directory, RecursiveMode::NonRecursive) {
            self.tell(&error);
        }
    }

    fn unwatch(&mut self, directory: &Path) {
        if let Some(watcher) = &mut self.watcher {
            // A directory that is gone has taken its watch with it.
            let _gone = watcher.unwatch(directory);
        }
    }

    fn tell(&mut self, error: &notify::Error) {
        if !std::mem::replace(&mut self.told, true) {
            let seconds = self.pace.look.as_secs();
            warn!("no events of file changes, files are looked at every {seconds} s: {error}");
        }
    }
}

/// Whether a directory is on a file system that others change without a word to this machine:
/// NFS, SMB, FUSE, 9P and their like, by `statfs(2)`. One that can't be asked counts as far.
#[cfg(target_os = "linux")]
fn is_far(directory: &Path) -> bool {
    const FAR: [i64; 8] = [
        0x6969,
        0x517b,
        0xff53_4d42,
        0xfe53_4d42,
        0x6573_5546,
        0x0102_1997,
        0x00c3_6400,
        0x5346_414f,
    ];
    let found = rustix::fs::statfs(directory);
    found.map_or(true, |found| FAR.contains(&found.f_type))
}

#[cfg(not(target_os = "linux"))]
fn is_far(_: &Path) -> bool {
    true
}

/// Whether an event may mean a change of one of these. Reading is none, our own above all.
fn counts(event: &Event, names: &BTreeSet<PathBuf>) -> bool {
    let is_access = matches!(event.kind, EventKind::Access(_));
    let is_ours = event.paths.iter().any(|path| names.contains(path));
    event.need_rescan() || (is_ours && !is_access)
}

/// The names that decide what `path` leads to: those of the symlinks on the way, and its own.
pub(crate) fn names_on_the_way(path: &Path) -> Vec<PathBuf> {
    let mut names = Vec::new();
    let mut next = Some(std::path::absolute(path).unwrap_or_else(|_| path.to_owned()));
    while let Some(path) = next.take().filter(|_| names.len() <= MAX_LINKS) {
        let mut place = PathBuf::new();
        let mut components = path.components();
        while let Some(component) = components.next() {
            place.push(component);
            if let Ok(target) = fs::read_link(&place) {
                let directory = place.parent().unwrap_or(Path::new("/"));
                next = Some(directory.join(target).join(components.as_path()));
                break;
            }
        }
        names.push(place);
    }
    names
}

#[cfg(test)]
mod tests;

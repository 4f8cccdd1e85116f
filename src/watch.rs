//! Notices that files change: by the system's events, and by a slow look of its own where there
//! are none.
//!
//! Events are only hints: what is watched is each file's directory, and what a file leads to is
//! found anew after each of them, so that a rename, a swapped symlink or a directory made again is
//! a change like any other.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, Metadata};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use notify::{Event, EventKind, RecommendedWatcher, RecursiveMode, Watcher};
use tokio::sync::Notify;
use tokio::time::timeout;
use tracing::warn;

/// How long it must be quiet after a change: an editor or a deployment makes several in a row.
const QUIET: Duration = Duration::from_millis(100);

/// How long a change waits for quiet at most.
const QUIET_MAX: Duration = Duration::from_millis(500);

/// How often files are looked at anyhow: network file systems have no events.
const LOOK: Duration = Duration::from_secs(30);

/// How often a directory that isn't there is looked for.
const LOOK_FOR_DIRECTORY: Duration = Duration::from_secs(1);

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

#[cfg(not(unix))]
fn identity(_: &Metadata) -> Identity {
    (0, 0, 0, 0)
}

/// Watches a set of files that can be replaced by another.
#[derive(Default)]
pub struct Files {
    seen: Vec<(PathBuf, Stamp)>,
    /// The directories under watch, with the inode that each had.
    directories: BTreeMap<PathBuf, Option<(u64, u64)>>,
    /// What an event must be about to count.
    names: Arc<Mutex<BTreeSet<PathBuf>>>,
    rung: Arc<Notify>,
    /// Whether an event came that nobody has been told of.
    heard: bool,
    watcher: Option<RecommendedWatcher>,
    /// Whether it was told that there are no events.
    told: bool,
}

impl Files {
    /// Watches these files from now on, and no others. Each comes with its stamp from before it
    /// was read, so that nothing that changed since goes unnoticed.
    pub fn watch(&mut self, files: Vec<(PathBuf, Stamp)>) {
        if self.watcher.is_none() {
            self.start();
        }
        self.seen = files;
        self.look_at_directories();
        if self.differs() {
            self.rung.notify_one();
        }
    }

    /// Returns once any of them may have changed and it has been quiet since. Dropping it loses
    /// nothing but the wait for quiet.
    pub async fn changed(&mut self) {
        loop {
            if !self.heard {
                let all_there = self.directories.values().all(Option::is_some);
                let rest = if all_there { LOOK } else { LOOK_FOR_DIRECTORY };
                self.heard = timeout(rest, self.rung.notified()).await.is_ok();
            }
            if self.heard {
                let _quiet = timeout(QUIET_MAX, self.quiet()).await;
            }
            self.look_at_directories();
            // Two writes within one tick of the file system's clock leave the same stamp, so what
            // was heard counts by itself.
            let differs = self.differs();
            if std::mem::take(&mut self.heard) || differs {
                return;
            }
        }
    }

    async fn quiet(&self) {
        while timeout(QUIET, self.rung.notified()).await.is_ok() {}
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
        let (names, rung) = (Arc::clone(&self.names), Arc::clone(&self.rung));
        let watcher = notify::recommended_watcher(move |event: notify::Result<Event>| {
            let names = names.lock().unwrap_or_else(PoisonError::into_inner);
            if event.map_or(true, |event| counts(&event, &names)) {
                rung.notify_one();
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
            let seconds = LOOK.as_secs();
            warn!("no events of file changes, files are looked at every {seconds} s: {error}");
        }
    }
}

/// Whether an event may mean a change of one of these. Reading is none, our own above all.
fn counts(event: &Event, names: &BTreeSet<PathBuf>) -> bool {
    let is_access = matches!(event.kind, EventKind::Access(_));
    let is_ours = event.paths.iter().any(|path| names.contains(path));
    event.need_rescan() || (is_ours && !is_access)
}

/// The names that decide what `path` leads to: those of the symlinks on the way, and its own.
fn names_on_the_way(path: &Path) -> Vec<PathBuf> {
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

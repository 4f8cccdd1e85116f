//! The thread that watches.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use notify::{Event, RecommendedWatcher, RecursiveMode, Watcher};
use tokio::sync::mpsc;
use tracing::warn;

use super::names::{counts, names_on_the_way};
use super::{Changes, Hint, Pace, SocketPaths, Stamp, identity, is_far};
use crate::clock::boot_now;

/// What the thread knows.
pub(super) struct Looker {
    pace: Pace,
    seen: Vec<(PathBuf, Stamp)>,
    socket: Option<SocketPaths>,
    /// The directories under watch, with the inode that each had.
    directories: BTreeMap<PathBuf, Option<(u64, u64)>>,
    /// What an event must be about to count.
    names: Arc<Mutex<Names>>,
    watcher: Option<RecommendedWatcher>,
    /// Whether it was told that there are no events.
    told: bool,
    hints: Sender<Hint>,
}

#[derive(Default)]
struct Names {
    files: BTreeSet<PathBuf>,
    socket: BTreeSet<PathBuf>,
}

impl Looker {
    /// Watches nothing yet. Events are sent to `hints`.
    pub(super) fn new(pace: Pace, with_events: bool, hints: Sender<Hint>) -> Self {
        Self {
            pace,
            seen: Vec::new(),
            socket: None,
            directories: BTreeMap::new(),
            names: Arc::default(),
            watcher: None,
            told: !with_events,
            hints,
        }
    }

    pub(super) fn run(&mut self, hints: &Receiver<Hint>, change: &mpsc::Sender<()>) {
        loop {
            let mut heard = Changes::default();
            let hint = match hints.recv_timeout(self.rest()) {
                Ok(Hint::Event(first)) => {
                    heard = first;
                    self.wait_for_quiet(hints, &mut heard)
                }
                Ok(other) => Some(other),
                Err(RecvTimeoutError::Timeout) => None,
                Err(RecvTimeoutError::Disconnected) => return,
            };
            match hint {
                Some(Hint::Files(files)) => self.seen = files,
                Some(Hint::Socket(socket)) => self.socket = Some(socket),
                Some(Hint::End) => return,
                Some(Hint::Event(_)) | None => {}
            }
            self.start();
            self.look_at_directories();
            // Two writes within one tick of the file system's clock leave the same stamp, so what
            // was heard counts by itself. Whoever has not taken the last word yet needs no other.
            if differs(&mut self.seen) || heard.files {
                let _ = change.try_send(());
            }
            if let Some(socket) = &mut self.socket
                && (differs(&mut socket.seen) || heard.socket)
            {
                let _ = socket.changed.try_send(());
            }
        }
    }

    fn rest(&self) -> Duration {
        let all_there = self.directories.values().all(Option::is_some);
        let has_events = |directory: &PathBuf| !is_far(directory);
        if !all_there {
            self.pace.look_for_directory
        } else if self.told
            // No event comes when something above its directory is renamed or mounted over.
            || self.socket.is_some()
            || !self.directories.keys().all(has_events)
        {
            self.pace.look
        } else {
            self.pace.look_anyhow
        }
    }

    /// What came instead of another event, if anything did; adds to `heard` what events are about.
    fn wait_for_quiet(&self, hints: &Receiver<Hint>, heard: &mut Changes) -> Option<Hint> {
        let end = boot_now() + self.pace.quiet_max;
        loop {
            let left = end.saturating_since(boot_now());
            if left.is_zero() {
                return None;
            }
            match hints.recv_timeout(self.pace.quiet.min(left)) {
                Ok(Hint::Event(more)) => {
                    heard.files |= more.files;
                    heard.socket |= more.socket;
                }
                Ok(other) => return Some(other),
                Err(_) => return None,
            }
        }
    }

    /// Asks for events, unless that was done or there are none.
    fn start(&mut self) {
        if self.watcher.is_some() || self.told {
            return;
        }
        // The library starts a thread, and panics later where there is none.
        if let Err(error) = thread::Builder::new().spawn(|| ()) {
            return self.tell(&error);
        }
        let (names, hints) = (Arc::clone(&self.names), self.hints.clone());
        let watcher = notify::recommended_watcher(move |event: notify::Result<Event>| {
            let names = names.lock().unwrap_or_else(PoisonError::into_inner);
            let of = |names| event.as_ref().map_or(true, |event| counts(event, names));
            let changes = Changes {
                files: of(&names.files),
                socket: of(&names.socket),
            };
            if changes.files || changes.socket {
                let _ended = hints.send(Hint::Event(changes));
            }
        });
        match watcher {
            Ok(watcher) => self.watcher = Some(watcher),
            Err(error) => self.tell(&error),
        }
    }

    /// Finds out which directories matter now, and watches those.
    fn look_at_directories(&mut self) {
        let socket = self.socket.iter().flat_map(|socket| &socket.seen);
        let (mut files, mut socket) = (deciding(self.seen.iter()), deciding(socket));
        let (of_files, of_socket) = (directories(&files), directories(&socket));
        let parents: BTreeSet<PathBuf> = of_files.union(&of_socket).cloned().collect();
        files.extend(of_files);
        socket.extend(of_socket);
        let names = Names { files, socket };
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

    fn tell(&mut self, error: &dyn fmt::Display) {
        if !std::mem::replace(&mut self.told, true) {
            let seconds = self.pace.look.as_secs();
            warn!("no events of file changes, files are looked at every {seconds} s: {error}");
        }
    }
}

/// Looks at them again; whether any has changed since the last look.
fn differs(files: &mut [(PathBuf, Stamp)]) -> bool {
    let mut differs = false;
    for (path, seen) in files {
        let now = Stamp::of(path);
        differs |= now != *seen;
        *seen = now;
    }
    differs
}

/// The names that decide what these lead to.
fn deciding<'a>(files: impl Iterator<Item = &'a (PathBuf, Stamp)>) -> BTreeSet<PathBuf> {
    files.flat_map(|(path, _)| names_on_the_way(path)).collect()
}

/// The directories that these are in.
fn directories(names: &BTreeSet<PathBuf>) -> BTreeSet<PathBuf> {
    let parents = names.iter().filter_map(|name| name.parent());
    parents.map(Path::to_owned).collect()
}

//! The thread that watches.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use notify::{Config, Event, RecommendedWatcher, RecursiveMode, Watcher};
use tokio::sync::mpsc;
use tracing::warn;

use super::names::{counts, names_on_the_way};
use super::{Changes, Message, SocketPaths, Stamp, Timing, identity, is_network_fs};
use crate::platform::clock::boot_now;
use crate::platform::logging::catch_expected_panic;

/// What the thread knows.
pub(super) struct FileWatcher<W: Watcher = RecommendedWatcher> {
    pace: Timing,
    seen: Vec<(PathBuf, Stamp)>,
    socket: Option<SocketPaths>,
    /// The directories under watch, with the inode that each had.
    directories: BTreeMap<PathBuf, Option<(u64, u64)>>,
    /// What an event must be about to count.
    names: Arc<Mutex<Names>>,
    watcher: Option<W>,
    /// Whether it was told that there are no events.
    told: bool,
    hints: Sender<Message>,
}

#[derive(Default)]
struct Names {
    files: BTreeSet<PathBuf>,
    socket: BTreeSet<PathBuf>,
}

impl<W: Watcher> FileWatcher<W> {
    /// Watches nothing yet. Events are sent to `hints`.
    pub(super) fn new(pace: Timing, with_events: bool, hints: Sender<Message>) -> Self {
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

    pub(super) fn run(&mut self, hints: &Receiver<Message>, change: &mpsc::Sender<()>) {
        loop {
            let mut heard = Changes::default();
            let hint = match hints.recv_timeout(self.rest()) {
                Ok(Message::Event(first)) => {
                    heard = first;
                    self.wait_for_quiet(hints, &mut heard)
                }
                Ok(other) => Some(other),
                Err(RecvTimeoutError::Timeout) => None,
                Err(RecvTimeoutError::Disconnected) => return,
            };
            match hint {
                Some(Message::Files(files)) => self.seen = files,
                Some(Message::Socket(socket)) => self.socket = Some(socket),
                Some(Message::End) => return,
                Some(Message::Event(_)) | None => {}
            }
            self.start();
            self.look_at_directories();
            // Two writes within one tick of the file system's clock leave the same stamp, so an event
            // counts by itself. A message that has not been received yet is enough.
            if changed(&mut self.seen) || heard.files {
                let _ = change.try_send(());
            }
            if let Some(socket) = &mut self.socket
                && (changed(&mut socket.seen) || heard.socket)
            {
                let _ = socket.changed.try_send(());
            }
        }
    }

    fn rest(&self) -> Duration {
        let all_there = self.directories.values().all(Option::is_some);
        let has_events = |directory: &PathBuf| !is_network_fs(directory);
        if !all_there {
            self.pace.look_for_directory
        } else if self.told || !self.directories.keys().all(has_events) {
            self.pace.look
        } else {
            self.pace.look_anyhow
        }
    }

    /// What came instead of another event, if anything did; adds to `heard` what events are about.
    fn wait_for_quiet(&self, hints: &Receiver<Message>, heard: &mut Changes) -> Option<Message> {
        let end = boot_now() + self.pace.quiet_max;
        loop {
            let left = end.saturating_since(boot_now());
            if left.is_zero() {
                return None;
            }
            match hints.recv_timeout(self.pace.quiet.min(left)) {
                Ok(Message::Event(more)) => {
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
        let (names, hints) = (Arc::clone(&self.names), self.hints.clone());
        let handler = move |event: notify::Result<Event>| {
            let names = names.lock().unwrap_or_else(PoisonError::into_inner);
            let of = |names| event.as_ref().map_or(true, |event| counts(event, names));
            let changes = Changes {
                files: of(&names.files),
                socket: of(&names.socket),
            };
            if changes.files || changes.socket {
                let _ended = hints.send(Message::Event(changes));
            }
        };
        match catch_expected_panic(|| W::new(handler, Config::default())) {
            Some(Ok(watcher)) => self.watcher = Some(watcher),
            Some(Err(error)) => self.tell(&error),
            None => self.stop_events(),
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
        if !is_there {
            return;
        }
        let watch = |watcher: &mut W| watcher.watch(directory, RecursiveMode::NonRecursive);
        if let Some(Err(error)) = self.call(watch) {
            self.tell(&error);
        }
    }

    fn unwatch(&mut self, directory: &Path) {
        // A directory that is gone has taken its watch with it.
        let _gone = self.call(|watcher| watcher.unwatch(directory));
    }

    /// Calls the watcher, if there is one. The library ignores that its thread could not be started,
    /// and panics in the calls that follow.
    fn call<T>(&mut self, call: impl FnOnce(&mut W) -> T) -> Option<T> {
        let watcher = self.watcher.as_mut()?;
        let result = catch_expected_panic(|| call(watcher));
        if result.is_none() {
            self.stop_events();
        }
        result
    }

    fn stop_events(&mut self) {
        self.drop_watcher();
        self.tell(&"the thread that receives them is not running");
    }

    fn drop_watcher(&mut self) {
        let watcher = self.watcher.take();
        catch_expected_panic(|| drop(watcher));
    }

    fn tell(&mut self, error: &dyn fmt::Display) {
        if !std::mem::replace(&mut self.told, true) {
            let seconds = self.pace.look.as_secs();
            warn!("no events of file changes, files are looked at every {seconds} s: {error}");
        }
    }
}

impl<W: Watcher> Drop for FileWatcher<W> {
    fn drop(&mut self) {
        self.drop_watcher();
    }
}

/// Looks at them again; whether any has changed since the last look.
fn changed(files: &mut [(PathBuf, Stamp)]) -> bool {
    let mut changed = false;
    for (path, seen) in files {
        let now = Stamp::of(path);
        changed |= now != *seen;
        *seen = now;
    }
    changed
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

#[cfg(test)]
mod tests {
    use notify::{EventHandler, WatcherKind};

    use super::*;

    /// A watcher without its thread.
    #[derive(Debug)]
    struct Broken;

    impl Watcher for Broken {
        fn new<F: EventHandler>(_: F, _: Config) -> notify::Result<Self> {
            Ok(Self)
        }

        fn watch(&mut self, _: &Path, _: RecursiveMode) -> notify::Result<()> {
            panic!("no thread to watch");
        }

        fn unwatch(&mut self, _: &Path) -> notify::Result<()> {
            panic!("no thread to unwatch");
        }

        fn kind() -> WatcherKind {
            WatcherKind::NullWatcher
        }
    }

    impl Drop for Broken {
        fn drop(&mut self) {
            panic!("no thread to end");
        }
    }

    #[test]
    fn watcher_that_panics_is_replaced_by_looking() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("config.toml");
        let (hints, given) = std::sync::mpsc::channel();
        let (change, mut changed) = mpsc::channel(1);
        let mut looker = FileWatcher::<Broken>::new(super::super::TIMING, true, hints.clone());
        hints
            .send(Message::Files(vec![(file.clone(), Stamp::default())]))
            .unwrap();
        fs::write(&file, "1").unwrap();
        hints.send(Message::End).unwrap();
        looker.run(&given, &change);
        assert_eq!(looker.rest(), looker.pace.look);
        drop(looker);
        changed.try_recv().unwrap();
    }
}

//! The thread that watches files.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use notify::{Config, Event, EventKind, RecommendedWatcher, RecursiveMode, Watcher};
use tokio::sync::mpsc;
use tracing::warn;

use super::{Changes, Message, SocketPaths, Stamp, Timing, identity, is_network_fs};
use crate::platform::clock::boot_now;
use crate::platform::logging::catch_expected_panic;
use crate::platform::symlink_chain::symlink_chain;

/// The state of the thread.
pub(super) struct FileWatcher<W: Watcher = RecommendedWatcher> {
    timing: Timing,
    seen: Vec<(PathBuf, Stamp)>,
    socket: Option<SocketPaths>,
    /// The directories under watch, with what each was when the watch was set.
    directories: BTreeMap<PathBuf, Option<DirectoryId>>,
    /// The names whose events are relevant.
    names: Arc<Mutex<Names>>,
    watcher: Option<W>,
    /// Whether there are no events, which is logged once.
    has_no_events: bool,
    messages: Sender<Message>,
}

/// How often links are resolved at most until they lead to directories under watch alone.
const MAX_RESOLUTIONS: usize = 10;

/// Device, inode, and when it was created, if the file system has that. An inode is soon used again, and the watch of a
/// directory ends with it, whatever takes its place.
type DirectoryId = (u64, u64, Option<SystemTime>);

#[derive(Default)]
struct Names {
    files: BTreeSet<PathBuf>,
    socket: BTreeSet<PathBuf>,
}

impl<W: Watcher> FileWatcher<W> {
    /// Watches nothing yet. Events are sent to `messages`.
    pub(super) fn new(timing: Timing, with_events: bool, messages: Sender<Message>) -> Self {
        Self {
            timing,
            seen: Vec::new(),
            socket: None,
            directories: BTreeMap::new(),
            names: Arc::default(),
            watcher: None,
            has_no_events: !with_events,
            messages,
        }
    }

    pub(super) fn run(&mut self, messages: &Receiver<Message>, change: &mpsc::Sender<()>) {
        loop {
            let mut changes = Changes::default();
            let message = match messages.recv_timeout(self.poll_interval()) {
                Ok(Message::Event(first)) => {
                    changes = first;
                    self.wait_for_quiet(messages, &mut changes)
                }
                Ok(other) => Some(other),
                Err(RecvTimeoutError::Timeout) => None,
                Err(RecvTimeoutError::Disconnected) => return,
            };
            match message {
                Some(Message::Files(files)) => self.seen = files,
                Some(Message::Socket(socket)) => self.socket = Some(socket),
                Some(Message::End) => return,
                Some(Message::Event(_)) | None => {}
            }
            self.start_events();
            self.watch_directories();
            // Two writes within one tick of the file system's clock leave the same stamp, so an event
            // is enough. If a message is already pending, no other one is needed.
            if changed(&mut self.seen) || changes.files {
                let _ = change.try_send(());
            }
            if let Some(socket) = &mut self.socket
                && (changed(&mut socket.seen) || changes.socket)
            {
                let _ = socket.changed.try_send(());
            }
        }
    }

    fn poll_interval(&self) -> Duration {
        let all_there = self.directories.values().all(Option::is_some);
        let has_events = |directory: &PathBuf| !is_network_fs(directory);
        if !all_there {
            self.timing.poll_for_directory
        } else if self.has_no_events || !self.directories.keys().all(has_events) {
            self.timing.poll
        } else {
            self.timing.poll_with_events
        }
    }

    /// Adds to `changes` those of the events that follow, until none comes for a while. Returns the message
    /// that came instead, if any.
    fn wait_for_quiet(
        &self,
        messages: &Receiver<Message>,
        changes: &mut Changes,
    ) -> Option<Message> {
        let end = boot_now() + self.timing.quiet_max;
        loop {
            let left = end.saturating_since(boot_now());
            if left.is_zero() {
                return None;
            }
            match messages.recv_timeout(self.timing.quiet.min(left)) {
                Ok(Message::Event(more)) => {
                    changes.files |= more.files;
                    changes.socket |= more.socket;
                }
                Ok(other) => return Some(other),
                Err(_) => return None,
            }
        }
    }

    /// Subscribes to events, unless that was done or has failed.
    fn start_events(&mut self) {
        if self.watcher.is_some() || self.has_no_events {
            return;
        }
        let (names, messages) = (Arc::clone(&self.names), self.messages.clone());
        let handler = move |event: notify::Result<Event>| {
            let names = names.lock().unwrap_or_else(PoisonError::into_inner);
            let of = |names| {
                event
                    .as_ref()
                    .map_or(true, |event| is_relevant(event, names))
            };
            let changes = Changes {
                files: of(&names.files),
                socket: of(&names.socket),
            };
            if changes.files || changes.socket {
                messages.send(Message::Event(changes)).ok();
            }
        };
        match catch_expected_panic(|| W::new(handler, Config::default())) {
            Some(Ok(watcher)) => self.watcher = Some(watcher),
            Some(Err(error)) => self.log_lack_of_events(&error),
            None => self.stop_events(),
        }
    }

    /// Watches the directories that the files resolve to now, and no others. What was resolved before a watch was set is
    /// resolved again: a link that is swapped in between causes no event.
    fn watch_directories(&mut self) {
        for _ in 0..MAX_RESOLUTIONS {
            if !self.watch_resolved_directories() {
                return;
            }
        }
    }

    /// Returns whether a watch was set.
    fn watch_resolved_directories(&mut self) -> bool {
        let socket = self.socket.iter().flat_map(|socket| &socket.seen);
        let (mut files, mut socket) = (deciding_names(self.seen.iter()), deciding_names(socket));
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
        let mut is_set = false;
        for directory in parents {
            let found = fs::metadata(&directory).ok();
            let found = found.map(|found| {
                let (device, inode, ..) = identity(&found);
                (device, inode, found.created().ok())
            });
            let known = self.directories.insert(directory.clone(), found);
            if known.flatten() != found {
                self.unwatch(&directory);
            } else if known.is_some() {
                continue;
            }
            if found.is_some() {
                self.watch_directory(&directory);
                is_set = true;
            }
        }
        is_set
    }

    fn watch_directory(&mut self, directory: &Path) {
        let watch = |watcher: &mut W| watcher.watch(directory, RecursiveMode::NonRecursive);
        if let Some(Err(error)) = self.call(watch) {
            self.log_lack_of_events(&error);
        }
    }

    fn unwatch(&mut self, directory: &Path) {
        // The system has removed the watch of a directory that was removed.
        let _ = self.call(|watcher| watcher.unwatch(directory));
    }

    /// Calls the watcher, if there is one. The library ignores a failure to start its thread, and panics in
    /// the calls that follow.
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
        self.log_lack_of_events(&"the watcher's thread is not running");
    }

    fn drop_watcher(&mut self) {
        let watcher = self.watcher.take();
        catch_expected_panic(|| drop(watcher));
    }

    fn log_lack_of_events(&mut self, error: &dyn fmt::Display) {
        if !std::mem::replace(&mut self.has_no_events, true) {
            let seconds = self.timing.poll.as_secs();
            warn!("no file change events; checking files every {seconds} s: {error}");
        }
    }
}

impl<W: Watcher> Drop for FileWatcher<W> {
    fn drop(&mut self) {
        self.drop_watcher();
    }
}

/// Returns whether an event may mean a change of one of these names. Reads, such as our own, are no changes.
pub(super) fn is_relevant(event: &Event, names: &BTreeSet<PathBuf>) -> bool {
    let is_access = matches!(event.kind, EventKind::Access(_));
    let is_ours = event.paths.iter().any(|path| names.contains(path));
    event.need_rescan() || (is_ours && !is_access)
}

/// Updates the stamps of the files. Returns whether any has changed.
fn changed(files: &mut [(PathBuf, Stamp)]) -> bool {
    let mut changed = false;
    for (path, seen) in files {
        let now = Stamp::of(path);
        changed |= now != *seen;
        *seen = now;
    }
    changed
}

/// Returns the names that decide which files these resolve to.
fn deciding_names<'a>(files: impl Iterator<Item = &'a (PathBuf, Stamp)>) -> BTreeSet<PathBuf> {
    files.flat_map(|(path, _)| symlink_chain(path)).collect()
}

/// Returns the directories of these names.
fn directories(names: &BTreeSet<PathBuf>) -> BTreeSet<PathBuf> {
    let parents = names.iter().filter_map(|name| name.parent());
    parents.map(Path::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use std::cell::{Cell, RefCell};

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

    thread_local! {
        static WATCHES: Cell<usize> = const { Cell::new(0) };
        static BEFORE_WATCH: Cell<Option<fn()>> = const { Cell::new(None) };
        static FOLDER: RefCell<PathBuf> = RefCell::default();
    }

    /// A watcher that counts the watches set, and makes a change before the first one.
    #[derive(Debug)]
    struct Counting;

    impl Watcher for Counting {
        fn new<F: EventHandler>(_: F, _: Config) -> notify::Result<Self> {
            Ok(Self)
        }

        fn watch(&mut self, _: &Path, _: RecursiveMode) -> notify::Result<()> {
            WATCHES.set(WATCHES.get() + 1);
            if let Some(change) = BEFORE_WATCH.take() {
                change();
            }
            Ok(())
        }

        fn unwatch(&mut self, _: &Path) -> notify::Result<()> {
            Ok(())
        }

        fn kind() -> WatcherKind {
            WatcherKind::NullWatcher
        }
    }

    /// Returns a watcher that watches this file.
    fn watching(file: PathBuf) -> FileWatcher<Counting> {
        let (sender, _) = std::sync::mpsc::channel();
        let mut watcher = FileWatcher::new(super::super::TIMING, true, sender);
        watcher.seen = vec![(file, Stamp::default())];
        watcher.start_events();
        watcher.watch_directories();
        watcher
    }

    #[test]
    fn directory_made_again_with_the_same_inode_is_watched_again() {
        let folder = tempfile::tempdir().unwrap();
        let directory = folder.path().join("inner");
        fs::create_dir(&directory).unwrap();
        let mut watcher = watching(directory.join("config.toml"));
        let count = WATCHES.get();
        watcher.watch_directories();
        assert_eq!(WATCHES.get(), count, "nothing has changed");
        fs::remove_dir(&directory).unwrap();
        fs::create_dir(&directory).unwrap();
        watcher.watch_directories();
        assert_eq!(WATCHES.get(), count + 1);
    }

    #[cfg(unix)]
    #[test]
    fn link_swapped_before_its_directory_is_watched_is_resolved_again() {
        use std::os::unix::fs::symlink;
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        for version in ["v1", "v2"] {
            fs::create_dir(at(version)).unwrap();
        }
        symlink("v1", at("current")).unwrap();
        FOLDER.set(folder.path().to_owned());
        BEFORE_WATCH.set(Some(|| {
            let at = |name: &str| FOLDER.with_borrow(|folder| folder.join(name));
            symlink("v2", at("new")).unwrap();
            fs::rename(at("new"), at("current")).unwrap();
        }));
        let watcher = watching(at("current/config.toml"));
        let directories: Vec<&PathBuf> = watcher.directories.keys().collect();
        assert!(directories.contains(&&at("v2")), "{directories:?}");
        assert!(!directories.contains(&&at("v1")), "{directories:?}");
    }

    #[test]
    fn panicking_watcher_is_replaced_by_polling() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("config.toml");
        let (sender, messages) = std::sync::mpsc::channel();
        let (change, mut changed) = mpsc::channel(1);
        let mut watcher = FileWatcher::<Broken>::new(super::super::TIMING, true, sender.clone());
        sender
            .send(Message::Files(vec![(file.clone(), Stamp::default())]))
            .unwrap();
        fs::write(&file, "1").unwrap();
        sender.send(Message::End).unwrap();
        watcher.run(&messages, &change);
        assert_eq!(watcher.poll_interval(), watcher.timing.poll);
        drop(watcher);
        changed.try_recv().unwrap();
    }
}

//! The system's trust store. Before each attempt its files are compared with what was read, so that a
//! certificate that is added or removed counts from the next attempt on.

use std::fmt;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rustls::client::danger::ServerCertVerifier;
use tokio::sync::watch;
use tokio::time::{Instant, timeout_at};

#[cfg(not(any(windows, target_vendor = "apple")))]
use super::files::{Paths, read, state};
use crate::platform::clock::timer_now;
use crate::platform::descriptors::RAISE_LIMIT;
use crate::platform::threads;
#[cfg(any(windows, target_vendor = "apple"))]
use platform::{Paths, read, state};

/// How long a reading is waited for. One that takes longer may hang with its file system.
pub(super) const PATIENCE: Duration = Duration::from_secs(3);

/// Why the trust store cannot be used.
#[derive(Debug)]
pub(super) enum StoreError {
    /// No descriptor is left to read it.
    #[cfg_attr(
        any(windows, target_vendor = "apple"),
        expect(dead_code, reason = "the store is not files there")
    )]
    Exhausted(io::Error),
    /// It has no certificate, or what it has cannot be used.
    Unusable(String),
}

impl StoreError {
    pub(super) fn unusable(error: impl fmt::Display) -> Self {
        Self::Unusable(error.to_string())
    }
}

/// What the store has.
#[derive(Clone)]
pub(in crate::connect) struct Store {
    pub(in crate::connect) verifier: Arc<dyn ServerCertVerifier>,
    /// For messages about certificates that it does not have.
    pub(super) note: Arc<str>,
}

/// The store with a number that is another one after each change and never 0, or why it can't be used.
type Current = Result<(u64, Store), String>;

/// The system's trust store as it was last read.
pub(in crate::connect) struct SystemStore {
    find: Arc<dyn Fn() -> Paths + Send + Sync>,
    progress: Arc<Mutex<Progress>>,
    patience: Duration,
}

#[derive(Default)]
struct Progress {
    latest: Option<Latest>,
    /// There is never more than one reading: one that hangs keeps its thread.
    running: Option<Running>,
}

struct Latest {
    /// Of its files.
    state: u64,
    generation: u64,
    store: Result<Store, String>,
}

#[derive(Clone)]
struct Running {
    started: Instant,
    found: watch::Receiver<Option<Current>>,
}

impl Default for SystemStore {
    fn default() -> Self {
        Self::new(Paths::find)
    }
}

impl SystemStore {
    fn new(find: impl Fn() -> Paths + Send + Sync + 'static) -> Self {
        Self {
            find: Arc::new(find),
            progress: Arc::default(),
            patience: PATIENCE,
        }
    }

    /// The store of a system that has only that file.
    #[cfg(all(test, not(any(windows, target_vendor = "apple"))))]
    pub(in crate::connect) fn of_file(file: std::path::PathBuf) -> Self {
        Self::new(move || Paths::of_file(file.clone()))
    }

    /// The same; it is looked for only after `before` has returned, and nothing waits for that.
    #[cfg(all(test, not(any(windows, target_vendor = "apple"))))]
    pub(in crate::connect) fn of_file_after(
        file: std::path::PathBuf,
        before: impl Fn() + Send + Sync + 'static,
    ) -> Self {
        let find = move || {
            before();
            Paths::of_file(file.clone())
        };
        Self {
            patience: Duration::ZERO,
            ..Self::new(find)
        }
    }

    /// Returns what is in the store now, or what was last read if a reading hangs.
    pub(in crate::connect) async fn current(&self) -> Current {
        let Running { started, mut found } = self.join_or_start();
        let waiting = timeout_at(started + self.patience, found.wait_for(Option::is_some));
        let found = match waiting.await {
            Ok(found) => found.map_or(None, |found| found.clone()),
            Err(_) => lock(&self.progress).current(),
        };
        found.unwrap_or_else(|| {
            let seconds = self.patience.as_secs();
            Err(format!(
                "it could not be read within {seconds} s; check the file system that it is on"
            ))
        })
    }

    fn join_or_start(&self) -> Running {
        let mut progress = lock(&self.progress);
        // A runtime that has ended leaves a closed channel.
        let running = progress.running.take();
        let running = running.filter(|running| running.found.has_changed().is_ok());
        let running = running.unwrap_or_else(|| {
            let (sender, found) = watch::channel(None);
            let known = progress.latest.as_ref().map(|latest| latest.state);
            let find = Arc::clone(&self.find);
            tokio::spawn(publish(known, find, Arc::clone(&self.progress), sender));
            let started = timer_now();
            Running { started, found }
        });
        progress.running = Some(running.clone());
        running
    }
}

/// Reads the store if its files have changed since they were as `known`, and sends what is in it.
async fn publish(
    known: Option<u64>,
    find: Arc<dyn Fn() -> Paths + Send + Sync>,
    progress: Arc<Mutex<Progress>>,
    sender: watch::Sender<Option<Current>>,
) {
    let read = threads::run(move || {
        let paths = find();
        // Before it is read, so that a change while it is read is seen next time.
        let state = state(&paths);
        (known != Some(state)).then(|| (state, read(&paths)))
    });
    let read = read.await;
    let mut progress = lock(&progress);
    progress.running = None;
    let failure = match read {
        Ok(None) => None,
        Ok(Some((state, Ok(store)))) => progress.replace(state, Ok(store)),
        Ok(Some((state, Err(StoreError::Unusable(problem))))) => {
            progress.replace(state, Err(problem))
        }
        // What was read before holds until there are descriptors and threads again.
        Ok(Some((_, Err(StoreError::Exhausted(error))))) => Some(format!("{error}{RAISE_LIMIT}")),
        Err(error) => Some(format!("{error}; raise the limit on threads")),
    };
    let current = progress.current().or(failure.map(Err));
    let _ = sender.send(current);
}

impl Progress {
    fn replace(&mut self, state: u64, store: Result<Store, String>) -> Option<String> {
        let generation = self.latest.as_ref().map_or(0, |latest| latest.generation) + 1;
        self.latest = Some(Latest {
            state,
            generation,
            store,
        });
        None
    }

    fn current(&self) -> Option<Current> {
        let latest = self.latest.as_ref()?;
        let store = latest.store.clone();
        Some(store.map(|store| (latest.generation, store)))
    }
}

fn lock(progress: &Mutex<Progress>) -> MutexGuard<'_, Progress> {
    progress.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Where the system itself verifies certificates, by what it trusts at that time.
#[cfg(any(windows, target_vendor = "apple"))]
mod platform {
    use std::sync::Arc;

    use rustls_platform_verifier::Verifier;

    use super::super::provider;
    use super::{Store, StoreError};

    /// Only the system knows.
    pub(super) struct Paths;

    impl Paths {
        pub(super) fn find() -> Self {
            Self
        }
    }

    /// Never changes.
    pub(super) fn state(_: &Paths) -> u64 {
        0
    }

    pub(super) fn read(_: &Paths) -> Result<Store, StoreError> {
        let verifier = Verifier::new(provider()).map_err(StoreError::unusable)?;
        Ok(Store {
            verifier: Arc::new(verifier),
            note: "".into(),
        })
    }
}

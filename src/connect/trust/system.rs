//! The system's trust store. Each attempt reads its files again if they have changed, so that an added or removed
//! certificate takes effect with the next attempt.

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

/// How long a request waits until the store is read. A read that takes longer may hang with its file system.
pub(super) const READ_TIMEOUT: Duration = Duration::from_secs(3);

/// Why the trust store cannot be used.
#[derive(Debug)]
pub(super) enum StoreError {
    /// No descriptor is left to read it.
    #[cfg_attr(
        any(windows, target_vendor = "apple"),
        expect(dead_code, reason = "the store is not files there")
    )]
    Exhausted(io::Error),
    /// It has no usable certificate.
    Unusable(String),
}

impl StoreError {
    pub(super) fn unusable(error: impl fmt::Display) -> Self {
        Self::Unusable(error.to_string())
    }
}

/// The content of the store.
#[derive(Clone)]
pub(in crate::connect) struct Store {
    pub(in crate::connect) verifier: Arc<dyn ServerCertVerifier>,
    /// Added to messages about missing certificates.
    pub(super) note: Arc<str>,
}

/// The store with a number that changes with it and is never 0, or why it cannot be used.
type Current = Result<(u64, Store), String>;

/// The system's trust store as it was last read.
pub(in crate::connect) struct SystemStore {
    find: Arc<dyn Fn() -> Paths + Send + Sync>,
    progress: Arc<Mutex<Progress>>,
    timeout: Duration,
}

#[derive(Default)]
struct Progress {
    latest: Option<Latest>,
    /// There is never more than one read: one that hangs keeps its thread.
    running: Option<Running>,
}

struct Latest {
    /// The state of its files.
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
            timeout: READ_TIMEOUT,
        }
    }

    /// Returns the store of a system that has only that file.
    #[cfg(all(test, not(any(windows, target_vendor = "apple"))))]
    pub(in crate::connect) fn of_file(file: std::path::PathBuf) -> Self {
        Self::new(move || Paths::of_file(file.clone()))
    }

    /// Returns the same with a timeout of zero; it is read after `before` has returned.
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
            timeout: Duration::ZERO,
            ..Self::new(find)
        }
    }

    /// Returns the current content of the store, or what was last read if a read hangs.
    pub(in crate::connect) async fn current(&self) -> Current {
        let Running { started, mut found } = self.join_or_start();
        let waiting = timeout_at(started + self.timeout, found.wait_for(Option::is_some));
        let found = match waiting.await {
            Ok(found) => found.map_or(None, |found| found.clone()),
            Err(_) => lock(&self.progress).current(),
        };
        found.unwrap_or_else(|| {
            let seconds = self.timeout.as_secs();
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

/// Reads the store if the state of its files is not `known`, and sends its content.
async fn publish(
    known: Option<u64>,
    find: Arc<dyn Fn() -> Paths + Send + Sync>,
    progress: Arc<Mutex<Progress>>,
    sender: watch::Sender<Option<Current>>,
) {
    let read = threads::run(move || {
        let paths = find();
        // Before the read, so that a change during it is detected next time.
        let state = state(&paths);
        (known != Some(state)).then(|| (state, read(&paths)))
    });
    let read = read.await;
    let mut progress = lock(&progress);
    progress.running = None;
    let mut failure = None;
    match read {
        Ok(None) => {}
        Ok(Some((state, Ok(store)))) => progress.replace(state, Ok(store)),
        Ok(Some((state, Err(StoreError::Unusable(problem))))) => {
            progress.replace(state, Err(problem));
        }
        // What was read before stays valid until there are descriptors and threads again.
        Ok(Some((_, Err(StoreError::Exhausted(error))))) => {
            failure = Some(format!("{error}{RAISE_LIMIT}"));
        }
        Err(error) => failure = Some(format!("{error}; raise the limit on threads")),
    }
    let current = progress.current().or(failure.map(Err));
    let _ = sender.send(current);
}

impl Progress {
    fn replace(&mut self, state: u64, store: Result<Store, String>) {
        let generation = self.latest.as_ref().map_or(0, |latest| latest.generation) + 1;
        self.latest = Some(Latest {
            state,
            generation,
            store,
        });
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

    /// Stands in for the paths of files.
    pub(super) struct Paths;

    impl Paths {
        pub(super) fn find() -> Self {
            Self
        }
    }

    /// Returns a constant: nothing is cached here.
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

//! What the gateway's applications use: counts for metrics, and the last use for status.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use super::Broker;
use crate::platform::clock::{BootTime, Clock};

/// The methods that are counted by their name.
pub const METHODS: [&str; 7] = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"];

/// The name under which other methods are counted: an application chooses them, and each would be a new time series.
pub const OTHER_METHOD: &str = "other";

/// The classes of status codes.
pub const CLASSES: [&str; 4] = ["2xx", "3xx", "4xx", "5xx"];

/// The direction of the bytes of bodies, as an application sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// Of requests.
    Sent,
    /// Of responses.
    Received,
}

impl Direction {
    pub const ALL: [Self; 2] = [Self::Sent, Self::Received];

    /// Returns its name in metrics.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Sent => "sent",
            Self::Received => "received",
        }
    }
}

/// What one application of the gateway uses. It outlives reloads of the config.
#[derive(Debug)]
pub struct AppUsage {
    name: String,
    /// By method, then by class of the status.
    requests: [[AtomicU64; CLASSES.len()]; METHODS.len() + 1],
    retries: AtomicU64,
    bytes: [AtomicU64; Direction::ALL.len()],
    connections: AtomicUsize,
    /// In milliseconds of the boot clock; 0 before the first use.
    last_used: AtomicU64,
    state: Mutex<AppState>,
}

/// What the config decides about an application.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AppState {
    /// The client whose tokens it uses.
    pub client: String,
    /// Why it is disabled. It can name paths.
    pub error: Option<String>,
}

impl AppUsage {
    #[must_use]
    pub fn new(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            requests: Default::default(),
            retries: AtomicU64::new(0),
            bytes: Default::default(),
            connections: AtomicUsize::new(0),
            last_used: AtomicU64::new(0),
            state: Mutex::default(),
        }
    }

    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    pub fn set_state(&self, state: AppState) {
        *self.state.lock().unwrap_or_else(PoisonError::into_inner) = state;
    }

    #[must_use]
    pub fn state(&self) -> AppState {
        let state = self.state.lock();
        state.unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Counts a request with its final status.
    pub fn count_request(&self, method: &str, status: u16, now: BootTime) {
        let method = METHODS.iter().position(|name| *name == method);
        let method = method.unwrap_or(METHODS.len());
        let class = usize::from(status / 100).clamp(2, 5) - 2;
        let count = self.requests.get(method).and_then(|row| row.get(class));
        if let Some(count) = count {
            count.fetch_add(1, Ordering::Relaxed);
        }
        self.last_used.store(now.as_millis(), Ordering::Relaxed);
    }

    /// Counts a request that is sent again with a new token.
    pub fn count_retry(&self) {
        self.retries.fetch_add(1, Ordering::Relaxed);
    }

    /// Counts bytes of a body.
    pub fn count_bytes(&self, direction: Direction, bytes: u64) {
        let [sent, received] = &self.bytes;
        let count = match direction {
            Direction::Sent => sent,
            Direction::Received => received,
        };
        count.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Counts a connection until the guard is dropped, unless there are `most` already.
    #[must_use]
    pub fn connect(self: &Arc<Self>, most: usize) -> Option<AppConnection> {
        let counted = self
            .connections
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |open| {
                (open < most).then_some(open + 1)
            });
        counted.ok().map(|_| AppConnection(Arc::clone(self)))
    }

    /// Returns how many requests with this method had a status of this class. `method` is of [`METHODS`] or
    /// [`OTHER_METHOD`], and `class` of [`CLASSES`].
    #[must_use]
    pub fn requests(&self, method: &str, class: &str) -> u64 {
        let method = METHODS.iter().position(|name| *name == method);
        let class = CLASSES.iter().position(|name| *name == class);
        let row = self.requests.get(method.unwrap_or(METHODS.len()));
        let count = row.zip(class).and_then(|(row, class)| row.get(class));
        count.map_or(0, |count| count.load(Ordering::Relaxed))
    }

    #[must_use]
    pub fn retries(&self) -> u64 {
        self.retries.load(Ordering::Relaxed)
    }

    #[must_use]
    pub fn bytes(&self, direction: Direction) -> u64 {
        let [sent, received] = &self.bytes;
        match direction {
            Direction::Sent => sent.load(Ordering::Relaxed),
            Direction::Received => received.load(Ordering::Relaxed),
        }
    }

    #[must_use]
    pub fn connections(&self) -> usize {
        self.connections.load(Ordering::Relaxed)
    }

    /// Returns when its last request ended.
    #[must_use]
    pub fn last_used(&self) -> Option<BootTime> {
        let at = self.last_used.load(Ordering::Relaxed);
        (at > 0).then(|| BootTime::from_millis(at))
    }
}

/// A connection of an application, until it is dropped.
#[derive(Debug)]
pub struct AppConnection(Arc<AppUsage>);

impl Drop for AppConnection {
    fn drop(&mut self) {
        self.0.connections.fetch_sub(1, Ordering::Relaxed);
    }
}

impl<C: Clock> Broker<C> {
    /// Has status and metrics show these applications, sorted by name.
    pub fn set_apps(&self, apps: Vec<Arc<AppUsage>>) {
        self.state().apps = apps;
    }

    /// Returns the applications.
    #[must_use]
    pub fn apps(&self) -> Vec<Arc<AppUsage>> {
        self.state().apps.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn request_is_counted_by_method_and_class() {
        let app = AppUsage::new("etl");
        assert_eq!(app.last_used(), None);
        for (method, status) in [
            ("GET", 200),
            ("GET", 204),
            ("BREW", 418),
            ("PUT", 100),
            ("PUT", 999),
        ] {
            app.count_request(method, status, BootTime::from_millis(7));
        }
        assert_eq!(app.requests("GET", "2xx"), 2);
        assert_eq!(app.requests(OTHER_METHOD, "4xx"), 1);
        assert_eq!(app.requests("PUT", "2xx"), 1);
        assert_eq!(app.requests("PUT", "5xx"), 1);
        assert_eq!(app.requests("POST", "2xx"), 0);
        assert_eq!(app.last_used(), Some(BootTime::from_millis(7)));
    }

    #[test]
    fn connections_are_limited() {
        let app = Arc::new(AppUsage::new("etl"));
        let first = app.connect(2);
        let second = app.connect(2);
        assert!(first.is_some() && second.is_some());
        assert!(app.connect(2).is_none());
        drop(first);
        assert_eq!(app.connections(), 1);
        assert!(app.connect(2).is_some());
    }
}

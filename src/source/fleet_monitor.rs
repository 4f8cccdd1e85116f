//! How the fleet's store is used: its state for status, counts for metrics, and a log line for each change of state.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use domo_token_protocol::BootTime;
use domo_token_protocol::scope::ScopeSet;
use tracing::{info, warn};

use crate::store::{StoreError, StoreFailure};

/// The difference of the clocks above which the log warns, in milliseconds.
const MAX_CLOCK_DIFFERENCE_MS: u64 = 10_000;

/// How long after such a line the log has no other one: a store whose clock jumps could fill it.
const CLOCK_LOG_INTERVAL: Duration = Duration::from_secs(60);

/// The result of a look at the records of a scope set, or of the claim that followed it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lookup {
    /// A token was taken.
    Taken,
    /// There was no usable record.
    Nothing,
    /// A note of another host's failure was adopted.
    Note,
    /// Another host holds the lease.
    Held,
    /// The store failed.
    Failed,
    /// A record could not be opened: it is of other keys, or was changed.
    Unsealable,
}

impl Lookup {
    pub const ALL: [Self; 6] = [
        Self::Taken,
        Self::Nothing,
        Self::Note,
        Self::Held,
        Self::Failed,
        Self::Unsealable,
    ];

    /// Returns its name in metrics.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Taken => "taken",
            Self::Nothing => "nothing",
            Self::Note => "note",
            Self::Held => "held",
            Self::Failed => "failed",
            Self::Unsealable => "unsealable",
        }
    }
}

/// The result of publishing a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Published {
    /// It was stored.
    Stored,
    /// The store has a token that is valid for longer.
    Outlived,
    /// The store failed.
    Failed,
}

impl Published {
    pub const ALL: [Self; 3] = [Self::Stored, Self::Outlived, Self::Failed];

    /// Returns its name in metrics.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Stored => "stored",
            Self::Outlived => "outlived",
            Self::Failed => "failed",
        }
    }
}

/// The causes of failures, as metrics have them.
pub const FAILURES: [StoreFailure; 7] = [
    StoreFailure::Connect,
    StoreFailure::Timeout,
    StoreFailure::Tls,
    StoreFailure::Login,
    StoreFailure::Full,
    StoreFailure::ReadOnly,
    StoreFailure::Protocol,
];

/// Watches how the fleet's store is used.
#[derive(Debug)]
pub struct FleetMonitor {
    /// The store's address.
    place: String,
    state: Mutex<State>,
}

/// The state of a fleet's store at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FleetState {
    /// The store's address.
    pub place: String,
    /// False if the last operation failed, or if an error in the config turns the fleet off.
    pub is_up: bool,
    /// Since when; `None` before the first operation.
    pub since: Option<BootTime>,
    /// Why the last operation failed; `None` if it succeeded, or if there was none.
    pub error: Option<String>,
    /// How far the store's clock is ahead of this host's wall clock; `None` before the first operation.
    pub clock_difference_ms: Option<i64>,
}

/// What happened since the monitor was created.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FleetCounts {
    /// Sorted by client and scope set.
    lookups: Vec<SetLookups>,
    published: [u64; Published::ALL.len()],
    failures: [u64; FAILURES.len()],
}

/// How often a look at the records of a scope set had each result. The compiler makes code for each type of map, so
/// that arrays keep the program small.
#[derive(Clone, Debug, PartialEq, Eq)]
struct SetLookups {
    client: String,
    scope: ScopeSet,
    counts: [u64; Lookup::ALL.len()],
}

impl FleetCounts {
    #[must_use]
    pub fn lookups(&self, client: &str, scope: &str, outcome: Lookup) -> u64 {
        let set = self.position(client, scope).ok();
        let set = set.and_then(|at| self.lookups.get(at));
        set.map_or(0, |set| count_of(&set.counts, Lookup::ALL, outcome))
    }

    #[must_use]
    pub fn published(&self, outcome: Published) -> u64 {
        count_of(&self.published, Published::ALL, outcome)
    }

    #[must_use]
    pub fn failures(&self, cause: StoreFailure) -> u64 {
        count_of(&self.failures, FAILURES, cause)
    }

    fn looked_up(&mut self, client: &str, scope: &ScopeSet, outcome: Lookup) {
        let at = self
            .position(client, scope.as_str())
            .unwrap_or_else(|place| {
                let set = SetLookups {
                    client: client.to_owned(),
                    scope: scope.clone(),
                    counts: [0; Lookup::ALL.len()],
                };
                self.lookups.insert(place, set);
                place
            });
        if let Some(set) = self.lookups.get_mut(at) {
            count(&mut set.counts, Lookup::ALL, outcome);
        }
    }

    /// Returns where the scope set is in the list, or where it has to be inserted.
    fn position(&self, client: &str, scope: &str) -> Result<usize, usize> {
        self.lookups.binary_search_by(|set| {
            let of_client = set.client.as_str().cmp(client);
            of_client.then_with(|| set.scope.as_str().cmp(scope))
        })
    }
}

/// Counts what happened, whose count is at its place in `all`.
fn count<T: Copy + PartialEq, const N: usize>(counts: &mut [u64; N], all: [T; N], happened: T) {
    for (count, what) in counts.iter_mut().zip(all) {
        *count += u64::from(what == happened);
    }
}

fn count_of<T: Copy + PartialEq, const N: usize>(counts: &[u64; N], all: [T; N], what: T) -> u64 {
    let at = all.into_iter().position(|one| one == what);
    at.and_then(|at| counts.get(at)).copied().unwrap_or(0)
}

#[derive(Debug)]
struct State {
    is_up: bool,
    since: Option<BootTime>,
    error: Option<String>,
    clock_difference_ms: Option<i64>,
    /// Whether the log has a warning that the clocks differ.
    clocks_differ: bool,
    /// When the log last had a line about the clocks.
    clocks_logged: Option<BootTime>,
    counts: FleetCounts,
}

impl FleetMonitor {
    /// Returns the monitor of the store at this address. Until an operation fails, the store counts as available.
    #[must_use]
    pub fn new(place: String) -> Self {
        Self {
            place,
            state: Mutex::new(State {
                is_up: true,
                since: None,
                error: None,
                clock_difference_ms: None,
                clocks_differ: false,
                clocks_logged: None,
                counts: FleetCounts::default(),
            }),
        }
    }

    /// Returns the monitor of a fleet that an error in its config turns off.
    #[must_use]
    pub fn turned_off(place: String, now: BootTime) -> Self {
        let monitor = Self::new(place);
        let mut state = monitor.state();
        state.is_up = false;
        state.since = Some(now);
        drop(state);
        monitor
    }

    /// Counts a look at the records of a scope set.
    pub fn looked_up(&self, client: &str, scope: &ScopeSet, outcome: Lookup) {
        self.state().counts.looked_up(client, scope, outcome);
    }

    /// Counts an attempt to publish a token.
    pub fn published(&self, outcome: Published) {
        count(&mut self.state().counts.published, Published::ALL, outcome);
    }

    /// Counts a failed operation.
    pub fn failed(&self, error: &StoreError, now: BootTime) {
        let mut state = self.state();
        count(&mut state.counts.failures, FAILURES, error.cause);
        state.error = Some(error.message.clone());
        if !std::mem::replace(&mut state.is_up, false) {
            return;
        }
        state.since = Some(now);
        drop(state);
        warn!(
            place = self.place,
            cause = %error.cause,
            error = error.message,
            "fleet store unavailable; requesting tokens without it"
        );
    }

    /// Records that the store can be used.
    pub fn succeeded(&self, now: BootTime) {
        let mut state = self.state();
        state.error = None;
        let was_up = std::mem::replace(&mut state.is_up, true);
        let down_since = state.since.filter(|_| !was_up);
        if !was_up || state.since.is_none() {
            state.since = Some(now);
        }
        drop(state);
        if let Some(since) = down_since {
            let outage_s = now.saturating_since(since).as_secs();
            info!(place = self.place, outage_s, "fleet store available again");
        }
    }

    /// Records how far the store's clock is ahead of this host's wall clock.
    pub fn read_clocks(&self, difference_ms: i64, now: BootTime) {
        let mut state = self.state();
        state.clock_difference_ms = Some(difference_ms);
        let differ = difference_ms.unsigned_abs() > MAX_CLOCK_DIFFERENCE_MS;
        let is_early = state
            .clocks_logged
            .is_some_and(|logged| now.saturating_since(logged) < CLOCK_LOG_INTERVAL);
        if is_early || state.clocks_differ == differ {
            return;
        }
        state.clocks_differ = differ;
        state.clocks_logged = Some(now);
        drop(state);
        self.log_clock_difference(difference_ms, differ);
    }

    fn log_clock_difference(&self, difference_ms: i64, differ: bool) {
        let place = &self.place;
        if differ {
            warn!(
                place,
                difference_ms,
                "clock differs from that of the fleet store; synchronize this host's clock and the store's"
            );
        } else {
            info!(
                place,
                difference_ms, "clock agrees with that of the fleet store again"
            );
        }
    }

    /// Drops the counts of scope sets that are not `kept`.
    pub fn retain(&self, kept: impl Fn(&str, &ScopeSet) -> bool) {
        let lookups = &mut self.state().counts.lookups;
        lookups.retain(|set| kept(&set.client, &set.scope));
    }

    #[must_use]
    pub fn fleet_state(&self) -> FleetState {
        let state = self.state();
        FleetState {
            place: self.place.clone(),
            is_up: state.is_up,
            since: state.since,
            error: state.error.clone(),
            clock_difference_ms: state.clock_difference_ms,
        }
    }

    #[must_use]
    pub fn counts(&self) -> FleetCounts {
        self.state().counts.clone()
    }

    /// Locks the state, which no method leaves inconsistent.
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::sync::Arc;

    use super::*;

    /// The lines that are logged while it is used.
    #[derive(Clone, Default)]
    struct Lines(Arc<Mutex<Vec<u8>>>);

    impl Lines {
        fn of(act: impl FnOnce()) -> Vec<String> {
            let lines = Self::default();
            let writer = lines.clone();
            let logged = tracing_subscriber::fmt()
                .without_time()
                .with_target(false)
                .with_ansi(false)
                .with_writer(move || writer.clone())
                .finish();
            tracing::subscriber::with_default(logged, act);
            let bytes = lines.0.lock().unwrap();
            let text = std::str::from_utf8(&bytes).unwrap();
            text.lines().map(|line| line.trim().to_owned()).collect()
        }
    }

    impl io::Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn at(seconds: u64) -> BootTime {
        BootTime::from_millis(seconds * 1000)
    }

    fn monitor() -> FleetMonitor {
        FleetMonitor::new("cache.example:6379".to_owned())
    }

    fn error(cause: StoreFailure, message: &str) -> StoreError {
        StoreError {
            cause,
            message: message.to_owned(),
        }
    }

    fn scope(text: &str) -> ScopeSet {
        ScopeSet::parse(text).unwrap()
    }

    #[test]
    fn outage_is_logged_once_and_its_end_with_its_duration() {
        let monitor = monitor();
        let lines = Lines::of(|| {
            monitor.succeeded(at(5));
            monitor.failed(&error(StoreFailure::Connect, "connection refused"), at(10));
            monitor.failed(
                &error(StoreFailure::Timeout, "no answer within 1 s"),
                at(20),
            );
            let state = monitor.fleet_state();
            assert!(!state.is_up);
            assert_eq!(state.since, Some(at(10)));
            assert_eq!(state.error.as_deref(), Some("no answer within 1 s"));
            monitor.succeeded(at(75));
            monitor.succeeded(at(80));
        });
        let place = "place=\"cache.example:6379\"";
        assert_eq!(
            lines,
            [
                format!(
                    "WARN fleet store unavailable; requesting tokens without it {place} \
                     cause=connect error=\"connection refused\""
                ),
                format!("INFO fleet store available again {place} outage_s=65"),
            ]
        );
        let state = monitor.fleet_state();
        assert!(state.is_up);
        assert_eq!((state.since, state.error), (Some(at(75)), None));
    }

    #[test]
    fn store_counts_as_available_before_its_first_operation() {
        let monitor = monitor();
        let state = monitor.fleet_state();
        assert!(state.is_up);
        assert_eq!((state.since, state.clock_difference_ms), (None, None));
        let lines = Lines::of(|| {
            monitor.succeeded(at(5));
            monitor.read_clocks(-3, at(5));
        });
        assert_eq!(lines, [""; 0]);
        let state = monitor.fleet_state();
        assert_eq!(
            (state.since, state.clock_difference_ms),
            (Some(at(5)), Some(-3))
        );
        let lines = Lines::of(|| {
            let monitor = self::monitor();
            monitor.failed(&error(StoreFailure::Tls, "unknown issuer"), at(6));
            assert_eq!(monitor.fleet_state().since, Some(at(6)));
        });
        assert_eq!(lines.len(), 1, "{lines:?}");
    }

    #[test]
    fn clock_difference_above_ten_seconds_is_logged_once_in_each_direction() {
        let monitor = monitor();
        let lines = Lines::of(|| {
            for (minute, difference) in (0..).zip([0, 10_000, -10_001, 15_000, -10_000, 3, 10_001])
            {
                monitor.read_clocks(difference, at(60 * minute));
            }
        });
        let differences = |line: &String| {
            let level = line.split(' ').next().unwrap().to_owned();
            let (_, difference) = line.split_once("difference_ms=").unwrap();
            (level, difference.parse::<i64>().unwrap())
        };
        let found: Vec<_> = lines.iter().map(differences).collect();
        let expected = [("WARN", -10_001), ("INFO", -10_000), ("WARN", 10_001)];
        assert_eq!(found, expected.map(|(level, ms)| (level.to_owned(), ms)));
    }

    #[test]
    fn clock_that_jumps_is_logged_once_a_minute() {
        let monitor = monitor();
        let lines = Lines::of(|| {
            for second in 0..120 {
                let difference = if second % 2 == 0 { 20_000 } else { 0 };
                monitor.read_clocks(difference, at(second));
            }
        });
        let levels: Vec<_> = lines.iter().map(|line| &line[..4]).collect();
        assert_eq!(levels, ["WARN", "INFO"]);
    }

    #[test]
    fn events_are_counted_by_scope_set_outcome_and_cause() {
        let monitor = monitor();
        let (data, user) = (scope("data"), scope("user"));
        monitor.looked_up("acme", &data, Lookup::Nothing);
        monitor.looked_up("acme", &data, Lookup::Taken);
        monitor.looked_up("acme", &data, Lookup::Taken);
        monitor.looked_up("beta", &user, Lookup::Held);
        monitor.published(Published::Stored);
        monitor.failed(&error(StoreFailure::Full, "OOM"), at(1));
        monitor.failed(&error(StoreFailure::Full, "OOM"), at(2));
        let counts = monitor.counts();
        assert_eq!(counts.lookups("acme", "data", Lookup::Taken), 2);
        assert_eq!(counts.lookups("acme", "data", Lookup::Nothing), 1);
        assert_eq!(counts.lookups("acme", "user", Lookup::Held), 0);
        assert_eq!(counts.lookups("beta", "user", Lookup::Held), 1);
        assert_eq!(counts.published(Published::Stored), 1);
        assert_eq!(counts.published(Published::Outlived), 0);
        assert_eq!(counts.failures(StoreFailure::Full), 2);
        monitor.retain(|client, scope| client == "acme" && *scope == data);
        let counts = monitor.counts();
        assert_eq!(counts.lookups("acme", "data", Lookup::Taken), 2);
        assert_eq!(counts.lookups("beta", "user", Lookup::Held), 0);
    }

    #[test]
    fn fleet_that_is_turned_off_is_down_without_an_error_of_the_store() {
        let monitor = FleetMonitor::turned_off("cache.example:6379".to_owned(), at(9));
        let state = monitor.fleet_state();
        assert_eq!((state.is_up, state.since), (false, Some(at(9))));
        assert_eq!(state.error, None);
    }
}

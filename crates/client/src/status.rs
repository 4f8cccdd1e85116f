//! What a broker reports about itself: [`Status`] and [`Explanation`], independent of the protocol's messages.

use std::cmp::Ordering;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use crate::clock::{BootTime, BrokerClock, wall_now};
use crate::error::ErrorKind;
use domo_token_protocol::messages;

/// The state of the broker and of its scope sets, from [`Broker::status`](crate::Broker::status). It contains no token.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Status {
    /// The daemon.
    pub broker: BrokerStatus,
    /// The scope sets that this process may see.
    pub scopes: Vec<ScopeStatus>,
    /// The path of the socket from which this status was received.
    pub socket: PathBuf,
    clock: BrokerClock,
}

impl Status {
    pub(crate) fn new(wire: messages::BrokerStatus, socket: &Path, clock: BrokerClock) -> Self {
        Self {
            broker: BrokerStatus::new(wire, clock),
            scopes: Vec::new(),
            socket: socket.to_owned(),
            clock,
        }
    }

    pub(crate) fn push(&mut self, wire: messages::ScopeStatus) {
        self.scopes.push(ScopeStatus::new(wire, self.clock));
    }

    /// Returns the time on the broker's boot clock.
    #[doc(hidden)]
    #[must_use]
    pub fn now(&self) -> BootTime {
        self.clock.now()
    }
}

/// A moment that a broker reports, measured on its boot clock, which also runs during suspend. The broker's clock may
/// be another one than this process has, in a container or behind a forwarded socket; the methods allow for that.
///
/// Compare only moments of the same broker.
#[derive(Clone, Copy, Debug)]
pub struct BrokerInstant {
    at: BootTime,
    clock: BrokerClock,
}

impl BrokerInstant {
    /// Returns the time since this moment; zero if it lies ahead.
    #[must_use]
    pub fn elapsed(&self) -> Duration {
        self.clock.now().saturating_since(self.at)
    }

    /// Returns the time until this moment; zero once it has passed.
    #[must_use]
    pub fn remaining(&self) -> Duration {
        self.at.saturating_since(self.clock.now())
    }

    /// Returns this moment on the wall clock, as that is set now. Use it for display only.
    #[must_use]
    pub fn to_system_time(&self) -> SystemTime {
        self.at.to_wall(self.clock.now(), wall_now())
    }

    /// Returns the moment on the broker's boot clock, as [`Status::now`] is.
    #[doc(hidden)]
    #[must_use]
    pub fn boot_time(&self) -> BootTime {
        self.at
    }
}

/// Two statuses of one broker have equal moments, although the distance of the clocks is measured for each.
impl PartialEq for BrokerInstant {
    fn eq(&self, other: &Self) -> bool {
        self.at == other.at
    }
}

impl Eq for BrokerInstant {}

impl PartialOrd for BrokerInstant {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for BrokerInstant {
    fn cmp(&self, other: &Self) -> Ordering {
        self.at.cmp(&other.at)
    }
}

/// The state of the daemon.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct BrokerStatus {
    /// The daemon's version, such as `0.1.0`.
    pub version: String,
    /// The highest protocol version that it speaks.
    pub protocol: u8,
    /// Its process id, in its own PID namespace.
    pub pid: u32,
    /// When it started.
    pub started: BrokerInstant,
    /// The path of its config file; `None` if the environment alone configures it.
    pub config_path: Option<String>,
    /// When the config in force was loaded.
    pub config_loaded: BrokerInstant,
    /// The error of the current config file, while an older config is in force; else those of clients and of the fleet.
    pub config_error: Option<String>,
    /// The fleet with which it shares tokens; `None` if none is configured, or if the broker speaks only protocol versions
    /// before 3.
    pub fleet: Option<FleetStatus>,
    /// The applications of its gateway, at most 100. Empty for callers other than root and the daemon's user, without a
    /// gateway, or if the broker speaks only protocol versions before 3.
    pub apps: Vec<AppStatus>,
    /// The number of applications beyond these.
    pub more_apps: u32,
}

impl BrokerStatus {
    fn new(wire: messages::BrokerStatus, clock: BrokerClock) -> Self {
        let instant = |at| BrokerInstant { at, clock };
        let fleet = wire.fleet.map(|fleet| FleetStatus::new(fleet, clock));
        let apps = wire.apps.into_iter();
        let apps = apps.map(|app| AppStatus::new(app, clock));
        Self {
            version: wire.version,
            protocol: wire.protocol,
            pid: wire.pid,
            started: instant(wire.started),
            config_path: wire.config_path,
            config_loaded: instant(wire.config_loaded),
            config_error: wire.config_error,
            fleet,
            apps: apps.collect(),
            more_apps: wire.more_apps,
        }
    }

    /// Converts a message of a broker that has this process's boot clock.
    #[doc(hidden)]
    #[must_use]
    pub fn of_wire(wire: messages::BrokerStatus) -> Self {
        Self::new(wire, BrokerClock::default())
    }
}

/// How the daemon reaches the store through which the hosts of its fleet share tokens.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct FleetStatus {
    /// The store's address.
    pub place: String,
    /// False if the last operation on the store failed, or if an error in the config turns the fleet off. Then the daemon
    /// requests each token from Domo itself.
    pub up: bool,
    /// Since when; `None` before the first operation.
    pub since: Option<BrokerInstant>,
    /// Why the last operation on the store failed; `None` if it succeeded. Errors in the config are in `config_error`.
    pub last_error: Option<String>,
    /// How far the store's clock was ahead of the daemon's wall clock when they were last compared, in milliseconds.
    pub clock_difference_ms: Option<i64>,
}

impl FleetStatus {
    fn new(wire: messages::FleetStatus, clock: BrokerClock) -> Self {
        Self {
            place: wire.place,
            up: wire.up,
            since: wire.since.map(|at| BrokerInstant { at, clock }),
            last_error: wire.last_error,
            clock_difference_ms: wire.clock_difference_ms,
        }
    }
}

/// The state of an application of the daemon's gateway.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct AppStatus {
    /// Its name in the broker's config, which is the client id that its SDK uses.
    pub name: String,
    /// The name of the API client whose tokens its requests have.
    pub client: String,
    /// When its last request ended; `None` before the first one.
    pub last_used: Option<BrokerInstant>,
    /// The number of its open connections.
    pub connections: u32,
    /// Why its requests fail, if an error in the config or in its files disables it.
    pub error: Option<String>,
}

impl AppStatus {
    fn new(wire: messages::AppStatus, clock: BrokerClock) -> Self {
        Self {
            name: wire.name,
            client: wire.client,
            last_used: wire.last_used.map(|at| BrokerInstant { at, clock }),
            connections: wire.connections,
            error: wire.error,
        }
    }
}

/// The state of one scope set.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ScopeStatus {
    /// The API client's name in the broker's config.
    pub client: String,
    /// The first characters of the client id in use; empty while the client's credentials could not be loaded.
    pub client_id: String,
    /// The scopes, separated by spaces.
    pub scope: String,
    /// What the broker does for it.
    pub state: ScopeState,
    /// When the valid token was requested from Domo; `None` if there is no valid token.
    pub obtained: Option<BrokerInstant>,
    /// When the valid token expires; `None` if there is no valid token.
    pub expires: Option<BrokerInstant>,
    /// The valid token's [`generation`](crate::Token::generation).
    pub generation: Option<u64>,
    /// When the broker's next request to Domo is due, if one is planned.
    pub next_attempt: Option<BrokerInstant>,
    /// The number of requests to Domo since the daemon started.
    pub requests: u64,
    /// The number of failed requests to Domo since the last token.
    pub failed_attempts: u32,
    /// The error of the last failed request, until the next token.
    pub last_error: Option<String>,
    /// When that request failed.
    pub last_error_at: Option<BrokerInstant>,
    /// How many times callers reported that Domo rejected a token of this set.
    pub rejected: u64,
    /// The caller that reported it last.
    pub last_rejected_by: Option<String>,
    /// The error of newer credentials that were tried and not applied.
    pub credentials_error: Option<String>,
    /// Which host obtained the valid token; `None` if there is no valid token, if an earlier process of the broker obtained
    /// it, or if the broker speaks only protocol versions before 3.
    pub from: Option<TokenOrigin>,
}

impl ScopeStatus {
    fn new(wire: messages::ScopeStatus, clock: BrokerClock) -> Self {
        let instant = |at: Option<BootTime>| at.map(|at| BrokerInstant { at, clock });
        Self {
            client: wire.client,
            client_id: wire.client_id,
            scope: wire.scope,
            state: ScopeState::new(wire.state),
            obtained: instant(wire.obtained),
            expires: instant(wire.expires),
            generation: wire.generation,
            next_attempt: instant(wire.next_attempt),
            requests: wire.requests,
            failed_attempts: wire.attempts,
            last_error: wire.last_error,
            last_error_at: instant(wire.last_error_at),
            rejected: wire.rejected,
            last_rejected_by: wire.last_rejected_by,
            credentials_error: wire.credentials_error,
            from: wire.from.map(TokenOrigin::new),
        }
    }

    /// Converts a message of a broker that has this process's boot clock.
    #[doc(hidden)]
    #[must_use]
    pub fn of_wire(wire: messages::ScopeStatus) -> Self {
        Self::new(wire, BrokerClock::default())
    }

    /// Returns whether the broker has a valid token of this set now.
    #[must_use]
    pub fn has_valid_token(&self) -> bool {
        let expires = self.expires.as_ref();
        expires.is_some_and(|expires| !expires.remaining().is_zero())
    }
}

/// Which host obtained a token. Origins are only ever added.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum TokenOrigin {
    /// The broker's own, from Domo.
    Domo,
    /// Another host of the broker's fleet.
    Fleet,
}

impl TokenOrigin {
    fn new(wire: messages::TokenOrigin) -> Self {
        match wire {
            messages::TokenOrigin::Domo => Self::Domo,
            messages::TokenOrigin::Fleet => Self::Fleet,
        }
    }
}

/// What the broker does for one scope set. States are only ever added.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ScopeState {
    /// Nothing yet: the daemon has just started, or the request waits for others of its client.
    Idle,
    /// A request to Domo is in flight. The last token may still be valid.
    Fetching,
    /// The token is valid and will be renewed.
    Fresh,
    /// The last request failed, and another one follows. The last token may still be valid.
    Waiting,
    /// Domo, or the proxy on the way to it, rejected the credentials or the scopes. The last token may still be valid.
    Rejected,
}

impl ScopeState {
    fn new(wire: messages::ScopeState) -> Self {
        match wire {
            messages::ScopeState::Idle => Self::Idle,
            messages::ScopeState::Fetching => Self::Fetching,
            messages::ScopeState::Fresh => Self::Fresh,
            messages::ScopeState::Waiting => Self::Waiting,
            messages::ScopeState::Denied => Self::Rejected,
        }
    }
}

/// The broker's decision about a scope set for this process, from [`Broker::explain`](crate::Broker::explain).
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Explanation {
    /// The API client's name; `None` if none was named and the broker has no default client.
    pub client: Option<String>,
    /// The scopes, separated by spaces.
    pub scope: String,
    /// How the broker identifies this process, for example by user, groups and systemd unit.
    pub peer: String,
    /// The kind of the error that a token request returns; `None` if this process may have the token.
    pub denied: Option<ErrorKind>,
    /// A description of the rule that decided.
    pub rule: String,
}

impl Explanation {
    pub(crate) fn new(wire: messages::Explanation) -> Self {
        Self {
            client: wire.client,
            scope: wire.scope,
            peer: wire.peer,
            denied: wire.refused.map(ErrorKind::of_refusal),
            rule: wire.rule,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::boot_now;

    const HOUR: Duration = Duration::from_secs(3600);

    fn is_about(found: Duration, expected: Duration) -> bool {
        found.abs_diff(expected) < Duration::from_secs(60)
    }

    #[test]
    fn instant_is_measured_on_the_brokers_clock() {
        let day = Duration::from_secs(86_400);
        let ours = boot_now();
        // The machine may have started moments ago.
        let ago = Duration::from_millis(ours.as_millis()) / 2;
        for theirs in [ours, ours + day] {
            let clock = BrokerClock::new(theirs, ours, ours);
            let instant = |at| BrokerInstant { at, clock };
            let (past, future) = (instant(theirs - ago), instant(theirs + HOUR));
            assert!(is_about(past.elapsed(), ago), "{past:?}");
            assert_eq!(past.remaining(), Duration::ZERO);
            assert!(is_about(future.remaining(), HOUR), "{future:?}");
            assert_eq!(future.elapsed(), Duration::ZERO);
            let left = future.to_system_time().duration_since(wall_now()).unwrap();
            assert!(is_about(left, HOUR), "{left:?}");
            let since = wall_now().duration_since(past.to_system_time());
            assert!(is_about(since.unwrap(), ago));
        }
    }

    #[test]
    fn instants_of_two_statuses_are_equal_although_their_clocks_were_measured_apart() {
        let at = boot_now();
        let measured = |later| {
            let ours = at + Duration::from_millis(later);
            let clock = BrokerClock::new(at + HOUR, ours, ours);
            BrokerInstant { at, clock }
        };
        assert_eq!(measured(0), measured(1));
        let next = BrokerInstant {
            at: at + HOUR,
            ..measured(0)
        };
        assert!(measured(1) < next);
    }

    #[test]
    fn scope_set_has_a_valid_token_until_its_expiry() {
        let with_expiry = |expires| {
            let wire = messages::ScopeStatus {
                client: "acme".to_owned(),
                client_id: "441e307a".to_owned(),
                scope: "data".to_owned(),
                state: messages::ScopeState::Denied,
                obtained: None,
                expires,
                generation: None,
                next_attempt: None,
                requests: 1,
                attempts: 2,
                last_error: None,
                last_error_at: None,
                rejected: 0,
                last_rejected_by: None,
                credentials_error: None,
                from: None,
            };
            ScopeStatus::of_wire(wire)
        };
        let now = boot_now();
        assert!(with_expiry(Some(now + HOUR)).has_valid_token());
        assert!(!with_expiry(Some(now - HOUR)).has_valid_token());
        let none = with_expiry(None);
        assert!(!none.has_valid_token());
        assert_eq!(
            (none.state, none.failed_attempts),
            (ScopeState::Rejected, 2)
        );
    }
}

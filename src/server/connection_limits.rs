//! Limits on connections: in all, per user, watchers per user, HTTP, and readers of metrics. Each caller holds a
//! [`Permit`].

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use tokio::task::AbortHandle;
use tracing::warn;

use super::round_robin::{Rounds, UserRound};
use super::slot_table::{Outcome, Slot, SlotTable, Uid};
use super::{Peer, WarnLimit};
use crate::config::{Deadlines, Limits};
use crate::platform::clock::BootTime;

/// Descriptors reserved for renewal and everything else that is not a caller.
const RESERVED_DESCRIPTORS: usize = 32;

/// The most metrics responses at the same time: each is in memory until its caller has read it, and with thousands of
/// scope sets it has megabytes.
const MAX_METRICS: usize = 8;

/// The most connections that speak HTTP.
const MAX_HTTP: usize = 256;

/// The most of these of one user, root included.
const MAX_HTTP_PER_USER: usize = 32;

/// The most connections that are reserved for root and the daemon's user.
const RESERVED_CONNECTIONS: usize = 8;

/// The most users that the warning of a full table names.
const MAX_NAMED: usize = 5;

/// The limits and what is used of them.
#[derive(Debug)]
pub(super) struct ConnectionLimits {
    limits: Limits,
    /// Numbers all that callers send, connecting included.
    sends: AtomicU64,
    rounds: Rounds,
    usage: Mutex<Usage>,
}

#[derive(Debug)]
struct Usage {
    connections: SlotTable<Session>,
    metrics: SlotTable<ConnectionSlot>,
    http: SlotTable<ConnectionSlot>,
    users: HashMap<Uid, Arc<User>>,
    warn_limit: WarnLimit,
    http_warn_limit: WarnLimit,
}

/// What the connections of one user share.
#[derive(Debug, Default)]
struct User {
    /// The number of watchers.
    watchers: AtomicUsize,
    round: UserRound,
}

/// The task that serves a connection, once it has been started.
type Session = OnceLock<AbortHandle>;

/// The slot of the connection that holds a slot of another table.
type ConnectionSlot = Arc<Slot<Session>>;

/// The permit for one connection, released when it is dropped.
#[derive(Debug)]
pub(super) struct Permit {
    limits: Arc<ConnectionLimits>,
    slot: ConnectionSlot,
    metrics: Option<Arc<Slot<ConnectionSlot>>>,
    http: Option<Arc<Slot<ConnectionSlot>>>,
    uid: Uid,
    user: Arc<User>,
    exempt: bool,
    watches: bool,
}

/// Lowers the limits to what that many descriptors allow.
#[must_use]
pub fn clamp_to_nofile(limits: Limits, descriptors: usize) -> Limits {
    let connections = limits
        .connections
        .min(descriptors.saturating_sub(RESERVED_DESCRIPTORS))
        .max(1);
    Limits {
        connections,
        connections_per_user: limits.connections_per_user.min(connections),
        watchers_per_user: limits.watchers_per_user.min(connections),
        ..limits
    }
}

/// Returns how many slots of a table are reserved for root and the daemon's user: a sixteenth of a small one.
/// On Windows no caller is known as either.
fn reserved(slots: usize) -> usize {
    if cfg!(windows) {
        return 0;
    }
    (slots / 16)
        .clamp(1, RESERVED_CONNECTIONS)
        .min(slots.saturating_sub(1))
}

impl ConnectionLimits {
    pub(super) fn new(limits: Limits) -> Arc<Self> {
        let usage = Usage {
            connections: SlotTable::new(limits.connections, reserved(limits.connections)),
            metrics: SlotTable::new(MAX_METRICS, reserved(MAX_METRICS)),
            http: SlotTable::new(MAX_HTTP, reserved(MAX_HTTP)),
            users: HashMap::new(),
            warn_limit: WarnLimit::default(),
            http_warn_limit: WarnLimit::default(),
        };
        Arc::new(Self {
            limits,
            sends: AtomicU64::new(0),
            rounds: Rounds::default(),
            usage: Mutex::new(usage),
        })
    }

    /// Admits a connection. At the limit, the user with the most connections loses the one that has sent
    /// nothing for longest, unless the user of `peer` has as many.
    ///
    /// # Errors
    ///
    /// The message for the caller, if there is no room.
    pub(super) fn acquire(self: &Arc<Self>, peer: &Peer, now: BootTime) -> Result<Permit, String> {
        let exempt = peer.caller().privileged;
        let sent = self.next_send();
        let mut usage = self.usage();
        let has = usage.connections.held_by(peer.uid);
        if !exempt && has >= self.limits.connections_per_user {
            return Err(format!(
                "connection limit per user reached ({has}); close some"
            ));
        }
        let outcome = usage
            .connections
            .take(peer.uid, exempt, sent, Session::new());
        if !matches!(outcome, Outcome::Free(_)) {
            usage.warn_full(self.limits.connections, now);
        }
        let slot = match outcome {
            Outcome::Free(new) => new,
            Outcome::Replaced { new, old } => {
                end(&old);
                new
            }
            Outcome::Full => {
                let most = self.limits.connections;
                return Err(format!(
                    "connection limit of the broker reached ({most}); try again"
                ));
            }
        };
        let user = Arc::clone(usage.users.entry(peer.uid).or_default());
        drop(usage);
        Ok(Permit {
            limits: Arc::clone(self),
            slot,
            metrics: None,
            http: None,
            uid: peer.uid,
            user,
            exempt,
            watches: false,
        })
    }

    /// Returns how many connections may be accepted before their sessions run, which then read what their
    /// callers have already sent: fewer than would replace each other, and no more than there are reserved
    /// descriptors for replaced sessions that have not ended yet.
    pub(super) fn accepts_per_turn(&self) -> usize {
        (self.limits.connections / 4).clamp(1, RESERVED_DESCRIPTORS / 2)
    }

    fn next_send(&self) -> u64 {
        self.sends.fetch_add(1, Ordering::Relaxed)
    }

    fn usage(&self) -> MutexGuard<'_, Usage> {
        self.usage.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Usage {
    fn warn_full(&mut self, connections: usize, now: BootTime) {
        if !self.warn_limit.is_due(now) {
            return;
        }
        let users = largest_users(&self.connections);
        warn!(
            connections,
            users,
            "connection limit reached; closing connections of the users with the most \
                    connections"
        );
    }

    fn warn_http_full(&mut self, now: BootTime) {
        if !self.http_warn_limit.is_due(now) {
            return;
        }
        let users = largest_users(&self.http);
        warn!(
            connections = MAX_HTTP,
            users,
            "HTTP connection limit reached; closing HTTP connections of the users with the most"
        );
    }
}

/// Returns UID:CONNECTIONS of the users with the most.
fn largest_users<T>(table: &SlotTable<T>) -> String {
    let largest = table.largest().take(MAX_NAMED);
    let users: Vec<String> = largest
        .map(|(uid, held)| match uid {
            Some(uid) => format!("{uid}:{held}"),
            None => format!("unknown:{held}"),
        })
        .collect();
    users.join(",")
}

/// Ends the session whose slot another one has taken.
fn end(slot: &Slot<Session>) {
    if let Some(session) = slot.holder.get() {
        session.abort();
    }
}

impl Permit {
    /// Returns its slot, which holds the task that serves it.
    pub(super) fn slot(&self) -> Arc<Slot<Session>> {
        Arc::clone(&self.slot)
    }

    /// Returns how long its caller may take.
    pub(super) fn deadlines(&self) -> Deadlines {
        self.limits.limits.deadlines
    }

    /// Records that its caller has sent bytes.
    pub(super) fn sent(&self) {
        let now = self.limits.next_send();
        self.slot.sent(now);
        if let Some(slot) = &self.http {
            slot.sent(now);
        }
    }

    /// Waits until another request of its user may be answered.
    pub(super) async fn wait_for_turn(&self) {
        self.limits.rounds.wait(&self.user.round).await;
    }

    /// Returns whether another caller has taken its slot, or its slot among the connections that speak HTTP.
    pub(super) fn is_replaced(&self) -> bool {
        self.slot.is_replaced() || self.http.as_ref().is_some_and(|slot| slot.is_replaced())
    }

    /// Admits the connection as one that speaks HTTP, until it ends. At the limit, the user with the most of them
    /// loses the one that has sent nothing for longest, unless the user of this connection has as many.
    ///
    /// # Errors
    ///
    /// The message for the caller, if there is no room.
    pub(super) fn begin_http(&mut self, now: BootTime) -> Result<(), String> {
        let sent = self.limits.next_send();
        let mut usage = self.limits.usage();
        // On Windows, no user is known.
        let limited = self.uid.is_some() || cfg!(unix);
        if limited && usage.http.held_by(self.uid) >= MAX_HTTP_PER_USER {
            return Err(format!(
                "limit of HTTP connections per user reached ({MAX_HTTP_PER_USER}); close some"
            ));
        }
        let outcome = usage.http.take(self.uid, self.exempt, sent, self.slot());
        if !matches!(outcome, Outcome::Free(_)) {
            usage.warn_http_full(now);
        }
        drop(usage);
        self.http = match outcome {
            Outcome::Free(new) => Some(new),
            Outcome::Replaced { new, old } => {
                end(&old.holder);
                Some(new)
            }
            Outcome::Full => {
                return Err(format!(
                    "limit of HTTP connections of the broker reached ({MAX_HTTP}); try again"
                ));
            }
        };
        Ok(())
    }

    /// Counts the caller as a watcher.
    ///
    /// # Errors
    ///
    /// The message for the caller, if its user is at the limit.
    pub(super) fn begin_watch(&mut self) -> Result<(), String> {
        if self.watches {
            return Ok(());
        }
        let most = self.limits.limits.watchers_per_user;
        let watchers = &self.user.watchers;
        if !self.exempt && watchers.load(Ordering::Relaxed) >= most {
            return Err(format!(
                "watcher limit per user reached ({most}); close some"
            ));
        }
        watchers.fetch_add(1, Ordering::Relaxed);
        self.watches = true;
        Ok(())
    }

    /// Stops counting the caller as a watcher.
    pub(super) fn end_watch(&mut self) {
        if std::mem::take(&mut self.watches) {
            self.user.watchers.fetch_sub(1, Ordering::Relaxed);
        }
    }

    /// Admits a metrics response. At the limit, the user with the most responses loses the connection with the
    /// oldest one, unless the user of this connection has as many. One is reserved for root and the daemon's
    /// user.
    ///
    /// # Errors
    ///
    /// The message for the caller, if there is no room.
    pub(super) fn begin_metrics(&mut self) -> Result<(), String> {
        let now = self.limits.next_send();
        let mut usage = self.limits.usage();
        let outcome = usage.metrics.take(self.uid, self.exempt, now, self.slot());
        drop(usage);
        self.metrics = match outcome {
            Outcome::Free(new) => Some(new),
            Outcome::Replaced { new, old } => {
                end(&old.holder);
                Some(new)
            }
            Outcome::Full => {
                let busy = "limit of concurrent metrics requests reached; try again";
                return Err(busy.to_owned());
            }
        };
        Ok(())
    }

    /// Releases what [`Self::begin_metrics`] took.
    pub(super) fn end_metrics(&mut self) {
        if let Some(slot) = self.metrics.take() {
            self.limits.usage().metrics.release(&slot);
        }
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.end_watch();
        self.end_metrics();
        let mut usage = self.limits.usage();
        if let Some(slot) = &self.http {
            usage.http.release(slot);
        }
        usage.connections.release(&self.slot);
        // This one and the table's.
        if Arc::strong_count(&self.user) == 2 {
            usage.users.remove(&self.uid);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn small() -> Limits {
        Limits {
            connections: 8,
            connections_per_user: 2,
            watchers_per_user: 1,
            ..Limits::default()
        }
    }

    fn peer(uid: u32) -> Peer {
        Peer {
            uid: Some(uid),
            ..Peer::default()
        }
    }

    fn take(limits: &Arc<ConnectionLimits>, uid: u32) -> Result<Permit, String> {
        limits.acquire(&peer(uid), BootTime::default())
    }

    #[test]
    fn user_over_its_own_limit_is_rejected_until_it_closes_a_connection() {
        let limits = ConnectionLimits::new(small());
        let first = take(&limits, 1001).unwrap();
        let _second = take(&limits, 1001).unwrap();
        assert!(take(&limits, 1001).unwrap_err().contains("limit per user"));
        let _other = take(&limits, 1002).unwrap();
        drop(first);
        let _again = take(&limits, 1001).unwrap();
    }

    #[cfg(unix)]
    #[test]
    fn any_number_of_users_leave_room_for_the_next_one_and_for_root() {
        let limits = ConnectionLimits::new(Limits {
            connections: 32,
            connections_per_user: 32,
            ..small()
        });
        let mut held: Vec<Permit> = Vec::new();
        for uid in 1001..1200 {
            for _ in 0..32 {
                held.extend(take(&limits, uid));
            }
            let next = take(&limits, 5000).unwrap();
            assert!(!next.is_replaced(), "beside {uid}");
            let root = [take(&limits, 0), take(&limits, 0)];
            assert!(root.iter().all(Result::is_ok), "beside {uid}");
        }
        drop(held);
        assert_eq!(limits.usage().connections.largest().next(), None);
    }

    #[cfg(unix)]
    #[test]
    fn root_is_exempt_from_the_limit_per_user_and_all_permits_are_released() {
        let limits = ConnectionLimits::new(small());
        let held: Vec<Permit> = (0..8).map(|_| take(&limits, 0).unwrap()).collect();
        assert!(take(&limits, 0).unwrap_err().contains("try again"));
        let user = take(&limits, 1001).unwrap();
        assert!(held[0].is_replaced() && !held[1].is_replaced());
        drop((held, user));
        assert_eq!(limits.usage().connections.largest().next(), None);
    }

    #[test]
    fn connection_that_has_sent_most_recently_is_kept() {
        let limits = ConnectionLimits::new(Limits {
            connections_per_user: 8,
            ..small()
        });
        let held: Vec<Permit> = (0..7).map(|_| take(&limits, 1001).unwrap()).collect();
        held[0].sent();
        let _others = [(); 2].map(|()| take(&limits, 1002).unwrap());
        let replaced: Vec<bool> = held.iter().map(Permit::is_replaced).collect();
        let expected = if cfg!(windows) {
            [false, true, false, false, false, false, false]
        } else {
            [false, true, true, false, false, false, false]
        };
        assert_eq!(replaced, expected);
    }

    #[test]
    fn full_table_is_warned_of_once_a_minute() {
        let limits = ConnectionLimits::new(Limits {
            connections: 2,
            connections_per_user: 8,
            ..small()
        });
        let at = |seconds: u64| BootTime::from_millis(1000 * seconds);
        let warned = || limits.usage().warn_limit.0;
        let _first = limits.acquire(&peer(1001), at(1)).unwrap();
        let _second = limits.acquire(&peer(1001), at(1));
        let _third = limits.acquire(&peer(1001), at(1));
        assert_eq!(warned(), Some(at(1)));
        let _again = limits.acquire(&peer(1001), at(60));
        assert_eq!(warned(), Some(at(1)));
        let _again = limits.acquire(&peer(1001), at(61));
        assert_eq!(warned(), Some(at(61)));
    }

    #[test]
    fn watchers_have_a_separate_limit_per_user() {
        let limits = ConnectionLimits::new(small());
        let mut first = take(&limits, 1001).unwrap();
        let mut second = take(&limits, 1001).unwrap();
        first.begin_watch().unwrap();
        first.begin_watch().unwrap();
        assert!(second.begin_watch().is_err());
        drop(first);
        second.begin_watch().unwrap();
        second.end_watch();
        let mut third = take(&limits, 1001).unwrap();
        third.begin_watch().unwrap();
        drop((second, third));
        assert!(limits.usage().users.is_empty());
    }

    #[cfg(unix)]
    #[test]
    fn any_number_of_users_that_read_no_metrics_leave_room_for_the_next_one_and_for_root() {
        let limits = ConnectionLimits::new(Limits::default());
        let mut held = Vec::new();
        for uid in 1001..1020 {
            for _ in 0..8 {
                let mut permit = take(&limits, uid).unwrap();
                if permit.begin_metrics().is_ok() {
                    held.push(permit);
                }
            }
            let mut next = take(&limits, 5000).unwrap();
            next.begin_metrics().unwrap();
            let mut root = take(&limits, 0).unwrap();
            root.begin_metrics().unwrap();
        }
        for permit in &mut held {
            permit.end_metrics();
        }
        assert_eq!(limits.usage().metrics.largest().next(), None);
    }

    #[test]
    fn metrics_readers_of_one_user_are_limited() {
        let limits = ConnectionLimits::new(Limits::default());
        let mut held: Vec<Permit> = (0..9).map(|_| take(&limits, 1001).unwrap()).collect();
        let given = held
            .iter_mut()
            .filter_map(|permit| permit.begin_metrics().ok());
        assert_eq!(given.count(), MAX_METRICS - reserved(MAX_METRICS));
    }

    #[cfg(unix)]
    #[test]
    fn reserved_permits_are_a_sixteenth_of_small_tables_and_never_all() {
        let all = [1, 2, 15, 16, 64, 128, 4096];
        assert_eq!(all.map(reserved), [0, 1, 1, 1, 4, 8, 8]);
    }

    #[test]
    fn limits_are_clamped_to_the_descriptor_limit() {
        let usual = Limits::default();
        assert_eq!(clamp_to_nofile(usual, 1_000_000), usual);
        let few = clamp_to_nofile(usual, 64);
        assert_eq!((few.connections, few.connections_per_user), (32, 32));
        assert_eq!(clamp_to_nofile(usual, 8).connections, 1);
    }
}

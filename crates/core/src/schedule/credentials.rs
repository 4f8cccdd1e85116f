//! Credentials: new ones, reloads, and clients that are not loaded.
//!
//! New credentials and reloads skip the floor and the back-off, so how often they may cause a request is limited: a
//! file that changes all the time would otherwise cause a request with each change.

use std::time::Duration;

use domo_token_protocol::BootTime;
use domo_token_protocol::messages::{Refusal, RefusalKind, ScopeState};

use super::{Schedule, State};

/// How many requests in a row new credentials and reloads may cause for one scope set: a rotation takes two, and its
/// correction one.
pub const CHANGES_IN_A_ROW: u32 = 3;

/// The interval of further requests after these.
pub const CHANGE_INTERVAL: Duration = Duration::from_secs(10);

/// A bucket of [`CHANGES_IN_A_ROW`] requests, refilled by one each [`CHANGE_INTERVAL`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct ChangeLimit {
    /// When it is full again; `None` or a past time if it is.
    full_at: Option<BootTime>,
}

/// What delays the next request although nothing has failed.
#[derive(Debug, Default)]
pub(super) struct CredentialChange {
    pub(super) limit: ChangeLimit,
    /// Whether new credentials or a reload cause the next request.
    pub(super) causes_next_request: bool,
    /// Until when the next request is delayed because credentials or logins change too often.
    pub(super) delayed_until: Option<BootTime>,
    /// Whether another scope set tries the new credentials first.
    pub(super) awaits_credential_check: bool,
    /// Whether another request tries the proxy login first.
    pub(super) awaits_login_check: bool,
}

/// Why a client has no credentials to request tokens with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Loading {
    /// The credentials are being loaded: callers wait until their deadline.
    Pending,
    /// The credentials could not be loaded: callers are refused.
    Failed {
        /// When loading is retried without a change of files or config; `None` if it is not.
        retry_at: Option<BootTime>,
    },
}

impl ChangeLimit {
    /// How long an empty bucket takes to fill.
    pub(crate) const SPAN: Duration = CHANGE_INTERVAL.saturating_mul(CHANGES_IN_A_ROW);

    /// Returns when the bucket holds a request; a past time if it does now.
    pub(crate) fn next(self) -> BootTime {
        let full_at = self.full_at.unwrap_or_default();
        full_at - CHANGE_INTERVAL * (CHANGES_IN_A_ROW - 1)
    }

    /// Takes a request out of the bucket.
    pub(crate) fn take(&mut self, now: BootTime) {
        let from = self.full_at.map_or(now, |full_at| full_at.max(now));
        self.full_at = Some(from + CHANGE_INTERVAL);
    }
}

impl CredentialChange {
    /// Returns whether the next request may not start yet.
    pub(super) fn is_delayed(&self) -> bool {
        self.delayed_until.is_some() || self.awaits_credential_check
    }

    /// Records that a request starts. Returns whether new credentials or a reload cause it.
    pub(super) fn start(&mut self, now: BootTime) -> bool {
        self.awaits_login_check = false;
        let is_cause = std::mem::take(&mut self.causes_next_request);
        if is_cause {
            self.limit.take(now);
        }
        is_cause
    }
}

impl Loading {
    /// Returns the state that status shows.
    pub(super) fn shown(self) -> ScopeState {
        match self {
            Self::Pending => ScopeState::Idle,
            Self::Failed { retry_at: Some(_) } => ScopeState::Waiting,
            Self::Failed { retry_at: None } => ScopeState::Denied,
        }
    }
}

impl Schedule {
    /// Applies new credentials: the request in flight is aborted, and no floor, back-off or rejection of the old ones
    /// delays the new ones; only the change limit does.
    pub fn new_credentials(&mut self, now: BootTime) {
        self.abort();
        self.lifetime = None;
        self.last_success = None;
        self.last_request = None;
        self.reissued = false;
        self.failures = 0;
        self.failure = None;
        self.report.reset();
        self.client_block = None;
        self.is_client_rejected = false;
        self.state = State::Idle;
        self.delay_by_change_limit(now);
        self.decide_all(now);
    }

    /// Counts the next request against the change limit, and delays it if the limit is reached.
    fn delay_by_change_limit(&mut self, now: BootTime) {
        self.change.causes_next_request = true;
        self.change.delayed_until = Some(self.change.limit.next()).filter(|until| *until > now);
    }

    /// Sets whether another scope set of the client tries the new credentials first.
    pub fn await_credential_check(&mut self, waits: bool) {
        self.change.awaits_credential_check = waits;
    }

    /// Delays the next request because the proxy login changes too often.
    pub fn delay_until(&mut self, until: BootTime, now: BootTime) {
        self.change.delayed_until = self.change.delayed_until.max(Some(until));
        self.decide_all(now);
    }

    /// Restores the change limit of a scope set that returns to the config after a short absence, because its first
    /// request counts like one of new credentials.
    pub(crate) fn restore_change_limit(&mut self, changes: ChangeLimit, now: BootTime) {
        self.change.limit = changes;
        self.delay_by_change_limit(now);
    }

    /// Returns the state of the change limit.
    pub(crate) fn change_limit(&self) -> ChangeLimit {
        self.change.limit
    }

    /// Has a rejected or failed request retried immediately, within the change limit; a valid token's timer stays.
    pub fn reload(&mut self, now: BootTime) {
        self.report.compare_message();
        let was_blocked = self.client_block.take().is_some();
        // After a reload a rejection is not the first one again.
        self.is_client_rejected |= was_blocked;
        match self.state {
            State::Waiting { retry_at } | State::Denied { retry_at }
                if self.change.limit.next() < retry_at =>
            {
                self.state = State::Idle;
                self.delay_by_change_limit(now);
            }
            State::Idle if was_blocked => self.delay_by_change_limit(now),
            State::Idle
            | State::Fetching { .. }
            | State::Fresh { .. }
            | State::Waiting { .. }
            | State::Denied { .. } => {}
        }
    }

    /// Sets why the client is not loaded, or with `None` that it is.
    pub fn set_loading(&mut self, loading: Option<Loading>, now: BootTime) {
        self.loading = loading;
        self.load_failed = self.is_load_failed().then_some(now);
        self.decide_all(now);
        self.notify_watchers(now);
    }

    /// Returns whether the client could not be loaded.
    #[must_use]
    pub fn is_load_failed(&self) -> bool {
        matches!(self.loading, Some(Loading::Failed { .. }))
    }

    /// Returns the refusal for callers of a client that could not be loaded.
    pub(crate) fn load_refusal(&self, now: BootTime) -> Option<Refusal> {
        let Some(Loading::Failed { retry_at }) = self.loading else {
            return None;
        };
        let kind = match retry_at {
            Some(_) => RefusalKind::Unavailable,
            None => RefusalKind::UnknownClient,
        };
        Some(Refusal {
            kind,
            cause: format!("client \"{}\" could not be loaded", self.client),
            next_attempt: retry_at.filter(|at| *at > now),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const START: BootTime = BootTime::from_millis(1_000_000);

    #[test]
    fn limit_allows_three_in_a_row_then_one_per_interval() {
        let mut limit = ChangeLimit::default();
        let mut now = START;
        let mut taken = Vec::new();
        for _request in 0..6 {
            now = now.max(limit.next());
            limit.take(now);
            taken.push(now.saturating_since(START).as_secs());
        }
        assert_eq!(taken, [0, 0, 0, 10, 20, 30]);
    }

    #[test]
    fn limit_refills_by_one_per_interval_up_to_three() {
        let mut limit = ChangeLimit::default();
        for _request in 0..CHANGES_IN_A_ROW {
            limit.take(START);
        }
        let later = START + CHANGE_INTERVAL * 2;
        for _request in 0..2 {
            assert!(limit.next() <= later);
            limit.take(later);
        }
        assert_eq!(limit.next(), later + CHANGE_INTERVAL);
        let much_later = START + ChangeLimit::SPAN * 10;
        for _request in 0..CHANGES_IN_A_ROW {
            assert!(limit.next() <= much_later);
            limit.take(much_later);
        }
        assert!(limit.next() > much_later);
    }
}

//! How often new credentials and reloads may cause a request: they skip the floor and the back-off,
//! so a file that changes all the time would otherwise cause a request with each change.

use std::time::Duration;

use domo_token_protocol::BootTime;

/// Requests in a row that new credentials and reloads may cause, for one scope set: a rotation takes two, and
/// its correction one.
pub const CHANGES_IN_A_ROW: u32 = 3;

/// After these, one in so long.
pub const CHANGE_INTERVAL: Duration = Duration::from_secs(10);

/// A bucket of [`CHANGES_IN_A_ROW`] requests, refilled by one each [`CHANGE_INTERVAL`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct ChangeLimit {
    /// When it is full again, if it isn't.
    full_at: Option<BootTime>,
}

impl ChangeLimit {
    /// How long it takes an empty bucket to fill.
    pub(crate) const SPAN: Duration = CHANGE_INTERVAL.saturating_mul(CHANGES_IN_A_ROW);

    /// When there is a request in the bucket; a moment that has passed if there is one now.
    pub(crate) fn next(self) -> BootTime {
        let full_at = self.full_at.unwrap_or_default();
        full_at - CHANGE_INTERVAL * (CHANGES_IN_A_ROW - 1)
    }

    /// Takes a request out.
    pub(crate) fn take(&mut self, now: BootTime) {
        let from = self.full_at.map_or(now, |full_at| full_at.max(now));
        self.full_at = Some(from + CHANGE_INTERVAL);
    }
}

/// New credentials of a scope set's client on their way to their first request.
#[derive(Debug, Default)]
pub(super) struct CredentialChange {
    pub(super) limit: ChangeLimit,
    /// Whether the next request is caused by them.
    pub(super) is_untried: bool,
    /// Until when they wait because they change too often.
    pub(super) held_until: Option<BootTime>,
    /// Whether they wait for another set to try them first.
    pub(super) awaits_trial: bool,
    /// Whether the next request waits for another one to try the proxy login first.
    pub(super) awaits_login: bool,
}

impl CredentialChange {
    /// Whether they wait.
    pub(super) fn is_held(&self) -> bool {
        self.held_until.is_some() || self.awaits_trial
    }

    /// A request starts.
    pub(super) fn start(&mut self, now: BootTime) {
        self.awaits_login = false;
        if std::mem::take(&mut self.is_untried) {
            self.limit.take(now);
        }
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

//! Notes: the failure of one host, and whether it binds others. A failure of Domo itself binds all hosts. One that the
//! host may have caused (no way to Domo, its proxy, its credentials) binds the others once a second host had it too.

use std::time::Duration;

use domo_token_protocol::BootTime;

use super::clocks::{StoreTime, is_possible, left, millis, on_both_clocks};
use super::{HostId, NoteRecord, NotedFailure};
use crate::fetch_result::{Cause, FetchError};

/// How much longer than its wait a note is kept, so that the next failure continues its count.
pub(super) const KEPT_LONGER: Duration = Duration::from_secs(120);

/// The longest wait that a note can impose.
pub const NOTE_MAX: Duration = Duration::from_secs(3600);

/// The largest difference of the clocks by which a note binds. Clocks that nobody keeps are minutes apart, and a note
/// must bind their hosts too; a replayed note is older than that.
pub(super) const AGREEMENT: Duration = Duration::from_secs(600);

/// The longest message of a note, in characters.
pub const MAX_NOTE_MESSAGE: usize = 300;

/// A failure that this host reports to the others.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    pub(super) failure: NotedFailure,
    pub(super) message: String,
    pub(super) count: u32,
    pub(super) until: BootTime,
    pub(super) host: HostId,
}

impl NotedFailure {
    /// Returns what hosts share of an error; `None` if it is this host's own affair: its login at a proxy, or a
    /// rejection that is not confirmed or may not be Domo's.
    pub(super) fn of(error: &FetchError, confirms_rejection: bool) -> Option<Self> {
        match error {
            FetchError::Transient { cause, .. } => Some(Self::Transient(*cause)),
            FetchError::Denied {
                scope_only,
                in_domos_form,
                ..
            } => {
                let is_confirmed = *scope_only || confirms_rejection;
                (is_confirmed && *in_domos_form).then_some(Self::Rejected {
                    scope_only: *scope_only,
                })
            }
            FetchError::ProxyLogin { .. } => None,
        }
    }

    /// Returns the same failure as an error of this host.
    pub(super) fn error(self, message: String) -> FetchError {
        match self {
            Self::Transient(cause) => FetchError::transient(cause, message),
            Self::Rejected { scope_only } => FetchError::Denied {
                scope_only,
                in_domos_form: true,
                message,
            },
        }
    }

    /// Returns whether no host can have caused it: Domo responded, and its response was a failure of Domo.
    pub(super) fn is_domos_own(self) -> bool {
        matches!(self, Self::Transient(Cause::Server | Cause::RateLimited))
    }
}

impl NoteRecord {
    /// Returns when the next attempt is due if the note binds this host. Whatever the store returns, a note binds for at
    /// most the wait that it was written for, and while it is about as old by both clocks.
    pub(super) fn binds(&self, time: &StoreTime, host: HostId) -> Option<BootTime> {
        let binds = self.failure.is_domos_own() || self.is_confirmed || self.host == host;
        let by_store = i128::from(self.until_engine_ms) - i128::from(time.time_ms);
        let by_wall = i128::from(self.until_wall_ms) - i128::from(time.wall_ms);
        let agree = by_store.abs_diff(by_wall) <= AGREEMENT.as_millis();
        let ahead = left(self.until_engine_ms, time.time_ms);
        let wait = Duration::from_millis(self.wait_ms).min(NOTE_MAX);
        (binds && agree && !ahead.is_zero()).then(|| time.asked + ahead.min(wait))
    }
}

impl Report {
    /// Returns the note to store, and for how long, given the one that is stored; `None` if that one stays.
    #[must_use]
    pub fn note(
        &self,
        stored: Option<&NoteRecord>,
        time: &StoreTime,
    ) -> Option<(NoteRecord, Duration)> {
        let (until_engine_ms, until_wall_ms) = on_both_clocks(self.until, time);
        let mut note = NoteRecord {
            until_engine_ms,
            until_wall_ms,
            wait_ms: millis(left(until_engine_ms, time.time_ms)),
            count: self.count,
            host: self.host,
            is_confirmed: false,
            failure: self.failure,
            message: self.message.chars().take(MAX_NOTE_MESSAGE).collect(),
        };
        if let Some(stored) = stored {
            let is_same = stored.failure == note.failure;
            let left = left(stored.until_engine_ms, time.time_ms);
            let ends_later = stored.until_engine_ms > until_engine_ms
                && is_possible(left, Duration::from_millis(stored.wait_ms));
            if is_same {
                note.is_confirmed = stored.is_confirmed || stored.host != self.host;
                note.host = stored.host;
            }
            let confirms = note.is_confirmed && !stored.is_confirmed;
            if ends_later && confirms {
                note.until_engine_ms = stored.until_engine_ms;
                note.until_wall_ms = stored.until_wall_ms;
                note.wait_ms = stored.wait_ms;
            } else if ends_later && (is_same || stored.is_confirmed || !self.failure.is_domos_own())
            {
                return None;
            }
        }
        let kept = left(note.until_engine_ms, time.time_ms) + KEPT_LONGER;
        Some((note, kept))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ENGINE: u64 = 1_700_000_000_000;
    const NOW: BootTime = BootTime::from_millis(5_000_000);
    const A: HostId = HostId([1; 16]);
    const B: HostId = HostId([2; 16]);
    const C: HostId = HostId([3; 16]);
    const UNREACHABLE: NotedFailure = NotedFailure::Transient(Cause::Connect);
    const UNAVAILABLE: NotedFailure = NotedFailure::Transient(Cause::Server);

    fn time() -> StoreTime {
        StoreTime {
            asked: NOW,
            answered: NOW,
            time_ms: ENGINE,
            wall_ms: ENGINE,
        }
    }

    fn report(host: HostId, failure: NotedFailure, seconds: u64) -> Report {
        Report {
            failure,
            message: "it failed".to_owned(),
            count: 1,
            until: NOW + Duration::from_secs(seconds),
            host,
        }
    }

    /// Returns the note that is stored after these reports.
    fn after(reports: &[(HostId, NotedFailure, u64)]) -> NoteRecord {
        let mut stored = None;
        for (host, failure, seconds) in reports {
            let note = report(*host, *failure, *seconds).note(stored.as_ref(), &time());
            stored = note.map(|(note, _)| note).or(stored);
        }
        stored.unwrap()
    }

    #[test]
    fn failure_of_domo_binds_all_hosts_at_once() {
        let note = after(&[(A, UNAVAILABLE, 30)]);
        assert_eq!(note.binds(&time(), B), Some(NOW + Duration::from_secs(30)));
    }

    #[test]
    fn failure_that_one_host_may_have_caused_binds_others_after_a_second_host_had_it() {
        let rejected = NotedFailure::Rejected { scope_only: false };
        for failure in [UNREACHABLE, rejected] {
            let note = after(&[(A, failure, 30), (A, failure, 60)]);
            assert_eq!(note.binds(&time(), B), None, "{failure:?}");
            let confirmed = after(&[(A, failure, 30), (B, failure, 40)]);
            let until = NOW + Duration::from_secs(40);
            assert_eq!(confirmed.binds(&time(), C), Some(until), "{failure:?}");
            // It stays confirmed when the first host has it again.
            let again = after(&[(A, failure, 30), (B, failure, 40), (A, failure, 50)]);
            assert!(again.binds(&time(), C).is_some(), "{failure:?}");
        }
    }

    #[test]
    fn different_failures_of_two_hosts_confirm_nothing() {
        let timeout = NotedFailure::Transient(Cause::Timeout);
        let note = after(&[(A, UNREACHABLE, 30), (B, timeout, 40)]);
        assert_eq!(note.binds(&time(), C), None);
    }

    #[test]
    fn note_that_ends_later_stays_and_can_be_confirmed() {
        let note = after(&[(A, UNAVAILABLE, 60), (B, UNAVAILABLE, 10)]);
        assert_eq!(note.until_engine_ms, ENGINE + 60_000);
        let confirmed = after(&[(A, UNREACHABLE, 60), (B, UNREACHABLE, 10)]);
        assert_eq!(confirmed.until_engine_ms, ENGINE + 60_000);
        assert!(confirmed.is_confirmed);
        // A failure of Domo itself counts more than one that binds nobody.
        let own = after(&[(A, UNREACHABLE, 60), (B, UNAVAILABLE, 10)]);
        assert_eq!(
            (own.failure, own.until_engine_ms),
            (UNAVAILABLE, ENGINE + 10_000)
        );
    }

    #[test]
    fn note_binds_while_it_is_ahead_and_the_clocks_are_ten_minutes_apart_at_most() {
        let note = after(&[(A, UNAVAILABLE, 30)]);
        let wait = |time_ms, wall_ms| {
            let time = StoreTime {
                time_ms,
                wall_ms,
                ..time()
            };
            let until = note.binds(&time, B)?;
            Some(until.saturating_since(NOW).as_millis())
        };
        assert_eq!(wait(ENGINE + 29_999, ENGINE + 29_999), Some(1));
        assert_eq!(wait(ENGINE + 30_000, ENGINE), None);
        assert_eq!(wait(ENGINE, ENGINE + 600_000), Some(30_000));
        assert_eq!(wait(ENGINE, ENGINE + 600_001), None);
        assert_eq!(wait(ENGINE, ENGINE - 600_001), None);
        // The store's clock was put back.
        assert_eq!(wait(ENGINE - 500_000, ENGINE), Some(30_000));
    }

    #[test]
    fn unconfirmed_rejection_and_proxy_login_are_not_shared() {
        let login = FetchError::ProxyLogin {
            message: String::new(),
        };
        assert_eq!(NotedFailure::of(&login, true), None);
        let rejected = UNREACHABLE.error("gone".to_owned());
        assert_eq!(NotedFailure::of(&rejected, false), Some(UNREACHABLE));
        let rejected = NotedFailure::Rejected { scope_only: false };
        let error = rejected.error("unknown client".to_owned());
        assert_eq!(NotedFailure::of(&error, false), None);
        assert_eq!(NotedFailure::of(&error, true), Some(rejected));
    }

    #[test]
    fn message_of_a_note_is_cut() {
        let mut long = report(A, UNAVAILABLE, 30);
        long.message = "ä".repeat(1_000);
        let (note, kept) = long.note(None, &time()).unwrap();
        assert_eq!(note.message.chars().count(), MAX_NOTE_MESSAGE);
        assert_eq!(kept, Duration::from_secs(150));
    }
}

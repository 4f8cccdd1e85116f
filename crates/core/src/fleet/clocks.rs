//! Times of records by three clocks: the store's, the wall clocks of hosts, and this host's boot clock, which alone
//! counts after a record was read. No clock alone is trusted: an expiry is the earlier one of two, less a margin.

use std::time::Duration;

use domo_token_protocol::BootTime;

use super::TokenRecord;

/// The part of the lifetime that is not used if the two clocks disagree.
const DISAGREEMENT_PART: u32 = 5;

/// The largest difference of two clocks that agree, if a twentieth of the lifetime is not less.
pub(super) const AGREEMENT_MAX: Duration = Duration::from_secs(10);

/// The largest difference of two clocks that agree, as a part of the lifetime.
const AGREEMENT_PART: u32 = 20;

/// The time of the store at one moment.
#[derive(Clone, Copy, Debug)]
pub struct StoreTime {
    /// Just before the store was asked.
    pub asked: BootTime,
    /// When its answer had arrived.
    pub answered: BootTime,
    /// The store's answer, in milliseconds since 1970.
    pub time_ms: u64,
    /// The wall clock of this host when the store was asked, in milliseconds since 1970.
    pub wall_ms: u64,
}

/// A record's expiry on this host's boot clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Expiry {
    /// When the token is no longer served.
    pub(super) served_until: BootTime,
    /// When it expires by the store's clock, from which all hosts derive their renewal.
    pub(super) by_store: BootTime,
}

/// Returns when a token expires; `None` if it may have expired.
pub(super) fn expiry(record: &TokenRecord, time: &StoreTime) -> Option<Expiry> {
    let lifetime = Duration::from_millis(record.lifetime_ms);
    let by_store = left(record.expires_engine_ms, time.time_ms).min(lifetime);
    let by_wall = left(record.expires_wall_ms, time.wall_ms);
    let margin = agreement(lifetime);
    let agree = by_store.abs_diff(by_wall.min(lifetime)) <= margin;
    let margin = if agree {
        margin
    } else {
        lifetime / DISAGREEMENT_PART
    };
    let left = by_store.min(by_wall).checked_sub(margin)?;
    let expiry = Expiry {
        served_until: time.asked + left,
        by_store: time.asked + by_store,
    };
    (!left.is_zero()).then_some(expiry)
}

/// Returns the moment `at` of the boot clock by the store's clock and by this host's wall clock.
pub(super) fn on_both_clocks(at: BootTime, time: &StoreTime) -> (u64, u64) {
    let passed = time.answered.saturating_since(time.asked);
    let ahead = at.saturating_since(time.answered);
    let wall_ms = time.wall_ms.saturating_add(millis(passed));
    (
        time.time_ms.saturating_add(millis(ahead)),
        wall_ms.saturating_add(millis(ahead)),
    )
}

/// Returns how long a moment is ahead by a clock; zero if it has passed.
pub(super) fn left(until_ms: u64, now_ms: u64) -> Duration {
    Duration::from_millis(until_ms.saturating_sub(now_ms))
}

/// Returns whether `left` by the store's clock can be what is left of `whole`. More is left after that clock was set back:
/// then the record is older than it seems.
pub(super) fn is_possible(left: Duration, whole: Duration) -> bool {
    left <= whole.saturating_add(AGREEMENT_MAX)
}

fn agreement(lifetime: Duration) -> Duration {
    (lifetime / AGREEMENT_PART).min(AGREEMENT_MAX)
}

pub(super) fn millis(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use domo_token_protocol::messages::TokenText;

    use super::*;

    const ENGINE: u64 = 1_700_000_000_000;
    const ASKED: BootTime = BootTime::from_millis(5_000_000);

    /// Returns the store's time, with a wall clock that is `skew_ms` ahead of the store's.
    fn time(skew_ms: i64) -> StoreTime {
        StoreTime {
            asked: ASKED,
            answered: ASKED + Duration::from_millis(200),
            time_ms: ENGINE,
            wall_ms: ENGINE.saturating_add_signed(skew_ms),
        }
    }

    /// Returns a record of a token of an hour that expires `left` seconds after the store's time.
    fn record(left: u64) -> TokenRecord {
        TokenRecord {
            text: TokenText::new("t0ken".to_owned()),
            granted: "data".to_owned(),
            lifetime_ms: 3_600_000,
            expires_engine_ms: ENGINE + left * 1_000,
            expires_wall_ms: ENGINE + left * 1_000,
        }
    }

    fn served_for(record: &TokenRecord, skew_ms: i64) -> Option<u64> {
        let expiry = expiry(record, &time(skew_ms))?;
        Some(expiry.served_until.saturating_since(ASKED).as_secs())
    }

    #[test]
    fn expiry_is_the_earlier_one_less_ten_seconds_if_the_clocks_agree() {
        assert_eq!(served_for(&record(1_000), 0), Some(990));
        assert_eq!(served_for(&record(1_000), 10_000), Some(980));
        assert_eq!(served_for(&record(1_000), -10_000), Some(990));
    }

    #[test]
    fn expiry_is_a_fifth_of_the_lifetime_earlier_if_the_clocks_disagree() {
        assert_eq!(served_for(&record(1_000), 11_000), Some(989 - 720));
        assert_eq!(served_for(&record(1_000), -11_000), Some(280));
        assert_eq!(served_for(&record(700), -11_000), None);
    }

    #[test]
    fn expiry_is_never_later_than_the_lifetime_allows() {
        let late = TokenRecord {
            expires_engine_ms: u64::MAX,
            expires_wall_ms: u64::MAX,
            ..record(0)
        };
        assert_eq!(served_for(&late, 0), Some(3_590));
    }

    #[test]
    fn expired_record_has_no_expiry() {
        assert_eq!(served_for(&record(0), 0), None);
        assert_eq!(served_for(&record(10), 0), None);
        // By one of the clocks.
        assert_eq!(served_for(&record(1_000), 1_000_000), None);
    }

    #[test]
    fn short_lifetime_has_a_margin_of_its_twentieth() {
        let short = TokenRecord {
            lifetime_ms: 20_000,
            ..record(15)
        };
        assert_eq!(served_for(&short, 0), Some(14));
        assert_eq!(served_for(&short, -1_001), Some(11));
    }

    #[test]
    fn moment_is_read_as_it_was_published_or_earlier() {
        let expires = ASKED + Duration::from_secs(100);
        let (engine_ms, wall_ms) = on_both_clocks(expires, &time(500));
        // The time was answered at most 200 ms ago.
        assert_eq!(engine_ms, ENGINE + 99_800);
        assert_eq!(wall_ms, ENGINE + 100_500);
    }
}

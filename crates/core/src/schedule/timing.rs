//! The times of the renewal policy: floor, renewal, back-off, time limits, each with its reason.

use std::time::Duration;

use crate::fetch_result::Cause;

/// Minimum of the floor: no more than one request a second for one scope set.
pub(super) const FLOOR_MIN: Duration = Duration::from_secs(1);

/// Maximum of the floor: a caller that needs another token waits no longer than this.
pub(super) const FLOOR_MAX: Duration = Duration::from_secs(30);

/// The floor as a part of the lifetime: at most 20 requests in a lifetime of up to 600 s, and 120 in an hour, where
/// [`FLOOR_MAX`] is the floor.
pub(super) const FLOOR_PART: u32 = 20;

/// Maximum of the time that a served token must still be valid if the caller sets no `min_ttl`.
pub(super) const MIN_LEFT_MAX: Duration = Duration::from_secs(1);

/// The retry interval of rejected credentials, which the operator has to fix.
pub const DENIED_RETRY: Duration = Duration::from_secs(300);

/// How long after the first rejection of a client a second request confirms it: time for new credentials to be known
/// everywhere at Domo, and less than the helper's default timeout.
pub const CONFIRM_AFTER: Duration = Duration::from_secs(5);

/// The back-off after the first failure.
pub const BACKOFF_FIRST: Duration = Duration::from_secs(1);

/// Maximum of the back-off: the end of an outage is noticed within a minute.
pub const BACKOFF_MAX: Duration = Duration::from_secs(60);

/// The longest `Retry-After` that is honoured: after an hour the last token has expired.
pub const RETRY_AFTER_MAX: Duration = Duration::from_secs(3600);

/// The time limit of a token request, also while no lifetime is known.
pub const REQUEST_MAX: Duration = Duration::from_secs(20);

/// Minimum of the time limit of a token request.
pub(super) const REQUEST_MIN: Duration = Duration::from_secs(2);

/// How much later than a request's own limit the request is aborted: the limit's timer is another one, and
/// its error names the step that took too long.
pub const REQUEST_GRACE: Duration = Duration::from_millis(500);

/// How long a fetch may take before it sends a request, where hosts share tokens: it looks for a token (1 s), waits while
/// another host requests one (up to 37.5 s), then claims the request for itself, each step with its own limit.
pub const FLEET_WAIT: Duration = Duration::from_secs(45);

/// Returns the floor: the minimum time from start to start between a successful request and the next one.
#[must_use]
pub fn floor(lifetime: Duration) -> Duration {
    (lifetime / FLOOR_PART).clamp(FLOOR_MIN, FLOOR_MAX)
}

/// Returns how long a token must still be valid to be served: time to be used once.
#[must_use]
pub fn min_left_to_serve(lifetime: Duration) -> Duration {
    (lifetime / 10).min(MIN_LEFT_MAX)
}

/// Returns the time limit of a token request.
#[must_use]
pub fn request_timeout(lifetime: Option<Duration>) -> Duration {
    lifetime.map_or(REQUEST_MAX, |lifetime| {
        (lifetime / 10).clamp(REQUEST_MIN, REQUEST_MAX)
    })
}

/// Returns when a token is renewed, counted from the start of the request that brought it, which left `left` of its
/// lifetime. A first token's renewal is spread wider, so that hosts that started together do not renew together for
/// ever. A token that was obtained earlier is renewed in what is left of these spans.
pub(super) fn renew_after(lifetime: Duration, left: Duration, first: bool, draw: f64) -> Duration {
    let (from, width) = if first { (0.40, 0.40) } else { (0.70, 0.10) };
    let age = lifetime.saturating_sub(left);
    let to = from + width;
    let from = age.div_duration_f64(lifetime).clamp(from, to);
    let part = from + (to - from) * draw;
    let after = lifetime.mul_f64(part).saturating_sub(age);
    after.max(floor(lifetime))
}

/// Returns the wait after the `failures`th failure in a row. A failure that the operator has to fix is retried slowly
/// from the first.
#[must_use]
pub fn wait_after_failure(
    failures: u32,
    cause: Cause,
    requested: Option<Duration>,
    draw: f64,
) -> Duration {
    let doublings = failures.saturating_sub(1).min(16);
    let grown = if cause.is_lasting() {
        BACKOFF_MAX
    } else {
        BACKOFF_MAX.min(BACKOFF_FIRST * 2_u32.saturating_pow(doublings))
    };
    let spread = grown.mul_f64(0.5 + 0.5 * draw);
    spread.max(requested.unwrap_or_default().min(RETRY_AFTER_MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn floor_is_a_twentieth_of_the_lifetime_within_its_bounds() {
        for (lifetime, floor_is) in [(1, 1), (20, 1), (300, 15), (600, 30), (3599, 30)] {
            let lifetime = Duration::from_secs(lifetime);
            assert_eq!(
                floor(lifetime),
                Duration::from_secs(floor_is),
                "{lifetime:?}"
            );
        }
    }

    #[test]
    fn request_timeout_is_a_tenth_of_the_lifetime_within_its_bounds() {
        assert_eq!(request_timeout(None), Duration::from_secs(20));
        for (lifetime, limit) in [(4, 2), (100, 10), (3599, 20)] {
            let timeout = request_timeout(Some(Duration::from_secs(lifetime)));
            assert_eq!(timeout, Duration::from_secs(limit), "{lifetime}");
        }
    }

    #[test]
    fn served_token_has_a_tenth_of_its_lifetime_left_or_one_second() {
        assert_eq!(
            min_left_to_serve(Duration::from_secs(5)),
            Duration::from_millis(500)
        );
        assert_eq!(min_left_to_serve(Duration::from_secs(3599)), MIN_LEFT_MAX);
    }

    #[test]
    fn renewal_falls_between_its_bounds_and_never_before_the_floor() {
        let hour = Duration::from_secs(3600);
        let renew_after = |lifetime, first, draw| renew_after(lifetime, lifetime, first, draw);
        assert_eq!(renew_after(hour, false, 0.0), Duration::from_secs(2520));
        assert_eq!(renew_after(hour, false, 1.0), Duration::from_secs(2880));
        assert_eq!(renew_after(hour, true, 0.0), Duration::from_secs(1440));
        assert_eq!(renew_after(hour, true, 1.0), Duration::from_secs(2880));
        let second = Duration::from_secs(1);
        assert_eq!(renew_after(second, false, 0.0), second);
    }

    #[test]
    fn renewal_of_an_older_token_falls_into_what_is_left_of_its_span() {
        let hour = Duration::from_secs(3600);
        let after = |left, first, draw| {
            let left = Duration::from_secs(left);
            renew_after(hour, left, first, draw).as_secs()
        };
        // 600 s old: the whole span is ahead.
        assert_eq!(
            (after(3000, false, 0.0), after(3000, false, 1.0)),
            (1920, 2280)
        );
        // 2700 s old: 180 s of the span are ahead.
        assert_eq!((after(900, false, 0.5), after(900, false, 1.0)), (90, 180));
        assert_eq!((after(1800, true, 0.0), after(1800, true, 1.0)), (30, 1080));
        // Past its span: as soon as the floor allows.
        assert_eq!((after(100, false, 0.0), after(100, true, 1.0)), (30, 30));
        assert_eq!(after(0, false, 1.0), 30);
        // A token that expires later than its lifetime allows counts as new.
        assert_eq!(after(7200, false, 0.0), 2520);
    }

    #[test]
    fn backoff_doubles_to_the_maximum_and_is_spread_over_its_upper_half() {
        let wait = |n, draw| wait_after_failure(n, Cause::Server, None, draw).as_millis();
        let full: Vec<u128> = (1..=8).map(|n| wait(n, 1.0)).collect();
        assert_eq!(
            full,
            [1000, 2000, 4000, 8000, 16_000, 32_000, 60_000, 60_000]
        );
        assert_eq!(wait(1, 0.0), 500);
        assert_eq!(wait(u32::MAX, 0.0), 30_000);
    }

    #[test]
    fn failure_that_needs_an_administrator_starts_at_the_longest_backoff() {
        let wait = wait_after_failure(1, Cause::Tls, None, 1.0);
        assert_eq!(wait, BACKOFF_MAX);
    }

    #[test]
    fn retry_after_is_honoured_up_to_an_hour() {
        let requested =
            |secs| wait_after_failure(1, Cause::RateLimited, Some(Duration::from_secs(secs)), 1.0);
        assert_eq!(requested(60), Duration::from_secs(60));
        assert_eq!(requested(1_000_000_000), RETRY_AFTER_MAX);
        assert_eq!(requested(0), BACKOFF_FIRST);
    }
}

//! The times of a fetch where hosts share tokens, each with its reason.

use std::time::Duration;

use domo_token_protocol::BootTime;

/// The lease of the host that requests a token from Domo. If the host fails, another one takes over after this.
pub const LEASE: Duration = Duration::from_secs(5);

/// The lease of a host whose last request failed for a reason that it may have caused itself. It is not extended, so that
/// a host without a way to Domo does not keep the others from sending theirs.
pub(super) const SUSPECT_LEASE: Duration = Duration::from_secs(1);

/// How often the lease is extended while the request is in flight: two extensions may be lost.
pub const EXTEND_EVERY: Duration = Duration::from_secs(2);

/// Shortest lifetime of tokens that hosts share: looks and leases take seconds.
pub(super) const SHORTEST_SHARED: Duration = Duration::from_secs(20);

/// Shortest lifetime of tokens whose renewal a host leaves to others or postpones.
pub(super) const SHORTEST_POSTPONED: Duration = Duration::from_secs(300);

/// How long a host without a token waits for the holders of leases; up to half of that is added.
pub(super) const PATIENCE: Duration = Duration::from_secs(25);

/// How long after a wait for a lease in vain the other scope sets of the host do not wait for theirs, if they are without
/// a token.
pub const HURRY: Duration = Duration::from_secs(60);

/// Bounds of the pause between two looks while another host holds the lease.
pub(super) const LOOK_AGAIN: (f64, f64) = (0.3, 0.7);

/// The same of a host whose last request failed for a reason that it may have caused itself: the others come first.
pub(super) const SUSPECT_LOOKS_AGAIN: (f64, f64) = (1.0, 2.0);

/// Bounds of the pause of a host that has a token while another one holds the lease.
pub(super) const COME_BACK: (f64, f64) = (5.0, 15.0);

/// Maximum of the pause before a host without a token requests one because the store failed.
pub(super) const ALONE_WITHIN: f64 = 3.0;

/// Maximum of what is added to the wait of a note, so that the hosts that it binds do not look at the same time.
pub(super) const AFTER_NOTE: f64 = 3.0;

/// Bounds of the rest of a lifetime at which a host no longer leaves the renewal to others.
pub(super) const LAST: (f64, f64) = (0.05, 0.20);

/// Bounds of the renewal, as parts of the lifetime.
const RENEWAL: (f64, f64) = (0.70, 0.80);

/// Bounds of the rest of the lifetime at which a token is renewed at the latest whose expiry was brought forward
/// because clocks disagree.
const LATEST_RENEWAL: (f64, f64) = (0.02, 0.12);

/// Returns whether hosts share tokens of this lifetime.
#[must_use]
pub fn is_shared(lifetime: Duration) -> bool {
    lifetime >= SHORTEST_SHARED
}

/// Returns the longest wait for the holders of leases.
pub(super) fn longest_patience() -> Duration {
    PATIENCE + PATIENCE / 2
}

/// Returns how much more than the least rest of a lifetime `last` is, as a part.
pub(super) fn after_last(last: f64) -> f64 {
    (last - LAST.0).max(0.0)
}

fn draw((from, to): (f64, f64), rng: &mut fastrand::Rng) -> f64 {
    from + (to - from) * rng.f64()
}

fn span(bounds: (f64, f64), rng: &mut fastrand::Rng) -> Duration {
    Duration::from_secs_f64(draw(bounds, rng))
}

pub(super) fn draw_last(rng: &mut fastrand::Rng) -> f64 {
    draw(LAST, rng)
}

pub(super) fn patience(rng: &mut fastrand::Rng) -> Duration {
    PATIENCE.mul_f64(draw((1.0, 1.5), rng))
}

pub(super) fn look_again(is_suspect: bool, rng: &mut fastrand::Rng) -> Duration {
    let bounds = if is_suspect {
        SUSPECT_LOOKS_AGAIN
    } else {
        LOOK_AGAIN
    };
    span(bounds, rng)
}

pub(super) fn come_back(rng: &mut fastrand::Rng) -> Duration {
    span(COME_BACK, rng)
}

pub(super) fn alone_within(rng: &mut fastrand::Rng) -> Duration {
    span((0.0, ALONE_WITHIN), rng)
}

pub(super) fn after_note(rng: &mut fastrand::Rng) -> Duration {
    span((0.0, AFTER_NOTE), rng)
}

/// Returns when a token is renewed that expires at `by_store` and is served until `served_until`.
pub(super) fn renewal(
    lifetime: Duration,
    by_store: BootTime,
    served_until: BootTime,
    rng: &mut fastrand::Rng,
) -> BootTime {
    let renew_at = by_store - lifetime.mul_f64(1.0 - draw(RENEWAL, rng));
    let latest = served_until - lifetime.mul_f64(draw(LATEST_RENEWAL, rng));
    renew_at.min(latest)
}

//! What a host keeps of a scope set between two fetches.

use std::time::Duration;

use domo_token_protocol::BootTime;

use super::timing;
use crate::fetch::Occasion;

/// What a host keeps of a scope set between two fetches.
#[derive(Clone, Copy, Debug, Default)]
pub struct SetMemory {
    /// The whole lifetime of the last token.
    pub(super) lifetime: Option<Duration>,
    /// Whether the last fetch waited for a lease although a token was stored, which was too short-lived by this host's
    /// clocks.
    pub(super) waited_beside_token: bool,
    /// Whether its last request failed for a reason that this host may have caused itself.
    pub(super) is_suspect: bool,
    /// Whether it has waited for holders of leases in vain, or had no time to, since its last token.
    pub(super) has_waited_in_vain: bool,
    /// The end of the last note that was adopted: each binds once, so that a replayed one delays nothing.
    pub(super) last_note_ms: u64,
    /// When the lease of the last request has lapsed at the latest.
    pub(super) leased_until: Option<BootTime>,
    held: Option<HeldToken>,
}

/// What is kept of the token that is served.
#[derive(Clone, Copy, Debug)]
pub(super) struct HeldToken {
    /// When it is no longer served, which identifies it.
    expires: BootTime,
    /// When it expires by the store's clock.
    pub(super) by_store: BootTime,
    /// The rest of its lifetime, as a part, at which this host no longer leaves the renewal to others.
    last: f64,
    /// Whether its renewal was postponed because the store failed.
    pub(super) is_postponed: bool,
}

impl SetMemory {
    /// Records the token that is served from now on.
    pub(super) fn hold(
        &mut self,
        expires: BootTime,
        by_store: BootTime,
        lifetime: Duration,
        rng: &mut fastrand::Rng,
    ) {
        self.lifetime = Some(lifetime);
        self.is_suspect = false;
        self.has_waited_in_vain = false;
        self.held = Some(HeldToken {
            expires,
            by_store,
            last: timing::draw_last(rng),
            is_postponed: false,
        });
    }

    /// Returns whether a lease that is held is its own, since its last request. Another host that took it over after it
    /// lapsed sends its request too, which costs no more than that. A host that may have caused its failure itself lets
    /// the others come first.
    pub(super) fn holds_lease(&self, now: BootTime) -> bool {
        !self.is_suspect && self.leased_until.is_some_and(|until| now < until)
    }

    /// Returns what is kept of the token that the occasion holds.
    pub(super) fn held(
        &mut self,
        occasion: &Occasion,
        rng: &mut fastrand::Rng,
    ) -> Option<&mut HeldToken> {
        let validity = occasion.held.as_ref()?.validity();
        // Another one was restored from an earlier process.
        if self
            .held
            .is_none_or(|held| held.expires != validity.expires)
        {
            self.hold(validity.expires, validity.expires, validity.lifetime, rng);
        }
        self.held.as_mut()
    }
}

impl HeldToken {
    /// Returns the last moment at which this host leaves the renewal to another. Then it waits once more for the holder
    /// of the lease, and has time for two requests: if clocks disagree, the token is served for much less time than the
    /// store's clock shows. The moments of all hosts are spread in either case.
    pub(super) fn last_moment(&self, lifetime: Duration, timeout: Duration) -> BootTime {
        let by_store = self.by_store - lifetime.mul_f64(self.last);
        let spread = lifetime.mul_f64(timing::after_last(self.last));
        let needed = timing::longest_patience() + spread;
        let by_expiry = last_request(self.expires, timeout) - needed;
        by_store.min(by_expiry)
    }

    /// Returns the last moment to which a failure of the store may postpone the renewal.
    pub(super) fn last_postponement(&self, lifetime: Duration, timeout: Duration) -> BootTime {
        let by_draw = self.expires - lifetime.mul_f64(self.last);
        by_draw.min(last_request(self.expires, timeout))
    }
}

/// Returns when there is still time for two requests to Domo, of which the first may fail.
pub(super) fn last_request(expires: BootTime, timeout: Duration) -> BootTime {
    expires - timeout.saturating_mul(2)
}

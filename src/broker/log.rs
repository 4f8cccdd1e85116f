//! What the operator hears of tokens.

use std::cmp::Ordering;
use std::time::Duration;

use tracing::{debug, error, info, warn};

use crate::clock::BootTime;
use crate::roster::{Changes, Roster, SetId};
use crate::schedule::{DENIED_RETRY, Outcome};

/// A change of state is told once, loudly; the same again quietly.
pub(super) fn report(roster: &Roster, set: SetId, outcome: &Outcome) {
    let Some((client, scope)) = roster.name_of(set) else {
        return;
    };
    let words = roster.failure_of(set).unwrap_or_default();
    match outcome {
        Outcome::Ignored => {}
        Outcome::RefusedInUse => warn!(
            client,
            %scope,
            "Domo grants tokens and refuses them: look at the owner's rights, the scopes, Domo's status"
        ),
        Outcome::Obtained {
            life,
            after,
            first,
            assumed,
            short,
        } => {
            let lifetime = life.lifetime.as_secs();
            if *after > 0 {
                info!(client, %scope, lifetime, attempts = after + 1, "token obtained again");
            } else if *first {
                info!(client, %scope, lifetime, "token obtained");
            } else {
                debug!(client, %scope, lifetime, "token renewed");
            }
            if *assumed {
                warn!(client, %scope, lifetime, "Domo names no lifetime; this one is assumed");
            }
            if *short {
                warn!(client, %scope, lifetime, "tokens live so short that callers will wait at times");
            }
        }
        Outcome::Denied { scope_only, again } => {
            let what = if *scope_only { "scope set" } else { "client" };
            if *again {
                debug!(client, %scope, what, "still refused: {words}");
            } else {
                let minutes = DENIED_RETRY.as_secs() / 60;
                error!(client, %scope, what, "refused, next attempt in {minutes} min or on reload: {words}");
            }
        }
        Outcome::Failed { cause, again } => {
            if *again {
                debug!(client, %scope, %cause, "still no token: {words}");
            } else {
                warn!(client, %scope, %cause, "no token, trying again: {words}");
            }
        }
    }
}

/// What taking a config up has changed.
pub(super) fn configured(changes: &Changes) {
    let all = [
        ("added", &changes.added),
        ("removed", &changes.removed),
        ("new credentials or endpoint", &changes.renewed),
        ("other scope sets", &changes.scopes),
    ];
    for (what, clients) in all {
        if !clients.is_empty() {
            info!(clients = clients.join(", "), "{what}");
        }
    }
}

/// How many refusals are told in each [`QUOTA_TIME`]: a hostile caller must not fill the log.
const QUOTA: u32 = 60;
const QUOTA_TIME: Duration = Duration::from_secs(60);

/// What is left of the lines that refusals may take.
#[derive(Debug, Default)]
pub(super) struct Quota {
    since: BootTime,
    used: u32,
}

impl Quota {
    /// Whether one more line comes before the last of its minute, is that, or is too many.
    fn use_one(&mut self, now: BootTime) -> Ordering {
        if now.saturating_since(self.since) >= QUOTA_TIME {
            *self = Self {
                since: now,
                used: 0,
            };
        }
        self.used = self.used.saturating_add(1);
        self.used.cmp(&QUOTA)
    }
}

/// A caller was refused by an access table, in which `rule` decided.
pub(super) fn not_permitted(quota: &mut Quota, cause: &str, rule: &str, now: BootTime) {
    match quota.use_one(now) {
        Ordering::Less => warn!("refused: {cause}; {rule}"),
        Ordering::Equal => warn!("refused: {cause}; {rule}; more of this minute is not logged"),
        Ordering::Greater => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sixty_refusals_a_minute_are_told_and_the_last_of_them_says_so() {
        let mut quota = Quota::default();
        for minute in 1..3 {
            let now = BootTime::from_millis(minute * 60_000);
            let told: Vec<Ordering> = (0..62).map(|_| quota.use_one(now)).collect();
            assert!(told[..59].iter().all(|told| told.is_lt()));
            assert_eq!(
                told[59..],
                [Ordering::Equal, Ordering::Greater, Ordering::Greater]
            );
            let soon = now + Duration::from_millis(59_999);
            assert!(quota.use_one(soon).is_gt(), "the minute isn't over");
        }
    }
}

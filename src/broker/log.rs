//! What the operator hears of tokens.

use std::cmp::Ordering;
use std::fmt;
use std::time::Duration;

use domo_token_client::scope::ScopeSet;
use tracing::{debug, error, info, warn};

use crate::clock::BootTime;
use crate::roster::{Changes, Roster, SetId};
use crate::schedule::{Effect, OutageCause, Outcome, Recovery};

/// Logs what an attempt, or a token, came to: what is new at the level of what it means to callers,
/// the same again at debug level.
pub(super) fn report(roster: &Roster, set: SetId, outcome: &Outcome, now: BootTime) {
    let Some((client, scope)) = roster.name_of(set) else {
        return;
    };
    match outcome {
        Outcome::Ignored => {}
        Outcome::RefusedInUse => warn!(
            client,
            %scope,
            "Domo grants tokens and refuses them: look at the owner's rights, the scopes, Domo's status"
        ),
        Outcome::Obtained {
            life,
            recovery,
            first,
            assumed,
            short,
        } => {
            let lifetime = life.lifetime.as_secs();
            obtained(client, scope, lifetime, *recovery, *first);
            if *assumed {
                warn!(client, %scope, lifetime, "Domo names no lifetime; this one is assumed");
            }
            if *short {
                warn!(client, %scope, lifetime, "tokens live so short that callers will wait at times");
            }
        }
        Outcome::Denied {
            scope_only,
            again,
            effect,
        } => {
            let failure = Failure {
                cause: &OutageCause::Denied,
                rejected: Some(if *scope_only { "scope set" } else { "client" }),
                again: *again,
            };
            failure.log(roster, set, *effect, now);
        }
        Outcome::Failed {
            cause,
            again,
            effect,
        } => Failure::of(cause, *again).log(roster, set, *effect, now),
        Outcome::Expired { cause, effect } => {
            let rejected = matches!(cause, OutageCause::ClientDenied).then_some("client");
            let failure = Failure {
                rejected,
                ..Failure::of(cause, true)
            };
            failure.log(roster, set, *effect, now);
        }
    }
}

fn obtained(
    client: &str,
    scope: &ScopeSet,
    lifetime: u64,
    recovery: Option<Recovery>,
    first: bool,
) {
    if let Some(recovery) = recovery {
        info!(
            client,
            %scope,
            lifetime,
            attempts = recovery.attempts,
            failing_s = recovery.failing.as_secs(),
            outage_s = recovery.outage.as_secs(),
            "token obtained again"
        );
    } else if first {
        info!(client, %scope, lifetime, "token obtained");
    } else {
        debug!(client, %scope, lifetime, "token renewed");
    }
}

/// Why there is no newer token.
struct Failure<'a> {
    cause: &'a dyn fmt::Display,
    /// What Domo rejected.
    rejected: Option<&'static str>,
    /// Whether a failure of this kind was logged.
    again: bool,
}

impl<'a> Failure<'a> {
    fn of(cause: &'a dyn fmt::Display, again: bool) -> Self {
        Self {
            cause,
            rejected: None,
            again,
        }
    }

    fn log(&self, roster: &Roster, set: SetId, effect: Effect, now: BootTime) {
        let Some((client, scope)) = roster.name_of(set) else {
            return;
        };
        let (cause, what) = (self.cause, self.rejected);
        // All of them are affected.
        let scope_sets = (what == Some("client")).then(|| roster.sets_beside(set));
        let retry = roster.next_attempt_of(set, now);
        let retry_in_s = retry.map(|at| at.saturating_since(now).as_secs());
        let error = roster.trouble_of(set).unwrap_or(QUEUED);
        match effect {
            Effect::TokenValid { left } => {
                let expires_in_s = left.as_secs();
                if self.again {
                    debug!(client, %scope, %cause, what, scope_sets, expires_in_s, retry_in_s, error, "renewal failed again; the current token is still valid");
                } else {
                    warn!(client, %scope, %cause, what, scope_sets, expires_in_s, retry_in_s, error, "renewal failed; the current token is still valid");
                }
            }
            Effect::NoToken { lasting, first } => {
                let no_token_s = lasting.as_secs();
                if first {
                    error!(client, %scope, %cause, what, scope_sets, no_token_s, retry_in_s, error, "no valid token; callers fail until renewal succeeds");
                } else if self.again {
                    debug!(client, %scope, %cause, what, scope_sets, no_token_s, retry_in_s, error, "still no valid token");
                } else {
                    error!(client, %scope, %cause, what, scope_sets, no_token_s, retry_in_s, error, "still no valid token; renewal now fails for another reason");
                }
            }
        }
    }
}

/// Why the token of a set expired that had to wait for its renewal.
const QUEUED: &str = "its request waits until requests of other scope sets have ended";

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

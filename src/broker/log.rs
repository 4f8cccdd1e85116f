//! What the operator hears of tokens.

use std::cmp::Ordering;
use std::time::Duration;

use tracing::{debug, error, info, warn};

use crate::clock::BootTime;
use crate::roster::{Changes, Roster, SetId};
use crate::schedule::Outcome;

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
                error!(client, %scope, what, "refused, next attempt in 5 min or on reload: {words}");
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

/// A caller was refused by an access table, in which `rule` decided.
pub(super) fn not_permitted(quota: &mut Quota, cause: &str, rule: &str, now: BootTime) {
    if now.saturating_since(quota.since) >= QUOTA_TIME {
        *quota = Quota {
            since: now,
            used: 0,
        };
    }
    quota.used = quota.used.saturating_add(1);
    match quota.used.cmp(&QUOTA) {
        Ordering::Less => warn!("refused: {cause}; {rule}"),
        Ordering::Equal => warn!("refused: {cause}; {rule}; more of this minute is not logged"),
        Ordering::Greater => {}
    }
}

//! Log lines about tokens, clients and denied callers.

use std::cmp::Ordering;
use std::time::Duration;

use domo_token_protocol::scope::ScopeSet;
use tracing::{debug, error, info, warn};

use super::log_rate_limit::LogRateLimit;
use crate::platform::clock::BootTime;
use domo_token_core::fetch_result::{LifetimeSource, TokenOrigin};
use domo_token_core::schedule::{
    AWAITS_ADMISSION, AWAITS_CREDENTIAL_CHECK, AWAITS_LOGIN_CHECK, CHANGED_TOO_OFTEN, CallerImpact,
    OutageCause, Outcome, Recovery,
};
use domo_token_core::scheduler::{ConfigDiff, Scheduler, SetId};

/// Logs the result of an attempt, or the expiry of a token: what is new at the level of its effect on
/// callers, repetitions at debug level.
pub(super) fn report(scheduler: &Scheduler, set: SetId, outcome: &Outcome, now: BootTime) {
    let Some((client, scope)) = scheduler.name_of(set) else {
        return;
    };
    match outcome {
        Outcome::Ignored => {}
        Outcome::RejectedByDomo => warn!(
            client,
            %scope,
            "Domo issues tokens and rejects them; check the rights of the client's owner, the scopes \
             and Domo's status"
        ),
        Outcome::Obtained {
            origin,
            validity,
            recovery,
            first,
            unexpected_lifetime,
            short,
            ..
        } => {
            let lifetime_s = validity.lifetime.as_secs();
            obtained(client, scope, *origin, lifetime_s, *recovery, *first);
            if let Some(source) = unexpected_lifetime {
                warn_of_lifetime(client, scope, lifetime_s, *source);
            }
            if *short {
                warn!(client, %scope, lifetime_s, "token lifetime is very short; callers may wait for renewal");
            }
        }
        Outcome::Denied {
            rejected,
            repeated,
            impact,
            ..
        } => {
            let failure = Failure::new(rejected.cause(), *repeated);
            log_failure(scheduler, set, failure, *impact, now);
        }
        Outcome::Failed {
            cause,
            repeated,
            impact,
            ..
        } => {
            let failure = Failure::new(OutageCause::Failed(*cause), *repeated);
            log_failure(scheduler, set, failure, *impact, now);
        }
        Outcome::Expired { cause, impact } => {
            log_failure(scheduler, set, Failure::new(*cause, true), *impact, now);
        }
    }
}

fn obtained(
    client: &str,
    scope: &ScopeSet,
    origin: TokenOrigin,
    lifetime_s: u64,
    recovery: Option<Recovery>,
    first: bool,
) {
    let from = match origin {
        TokenOrigin::Domo => None,
        TokenOrigin::Fleet => Some("fleet"),
    };
    if let Some(recovery) = recovery {
        info!(
            client,
            %scope,
            from,
            lifetime_s,
            attempts = recovery.attempts,
            failing_s = recovery.failing.as_secs(),
            outage_s = recovery.outage.as_secs(),
            "token obtained after failures"
        );
    } else if first {
        info!(client, %scope, from, lifetime_s, "token obtained");
    } else {
        debug!(client, %scope, from, lifetime_s, "token renewed");
    }
}

/// Warns of a lifetime that is not what Domo states.
fn warn_of_lifetime(client: &str, scope: &ScopeSet, lifetime_s: u64, source: LifetimeSource) {
    match source {
        LifetimeSource::Stated => {}
        LifetimeSource::Unchecked => warn!(
            client,
            %scope,
            lifetime_s,
            "the token's exp claim is earlier than expires_in by the clock of this machine; using \
             expires_in, because Domo's response has no Date header to check the clock"
        ),
        LifetimeSource::Assumed => warn!(
            client,
            %scope,
            lifetime_s,
            "no expires_in in Domo's response; assuming a default"
        ),
        LifetimeSource::Capped { stated } => warn!(
            client,
            %scope,
            lifetime_s,
            expires_in_s = stated.as_secs(),
            "expires_in in Domo's response exceeds one day and may be in milliseconds; assuming one \
             day"
        ),
        LifetimeSource::OwnExpiry { stated } => warn!(
            client,
            %scope,
            lifetime_s,
            expires_in_s = stated.as_secs(),
            "the token's exp claim is earlier than expires_in; using the earlier expiry"
        ),
    }
}

/// Why there is no newer token.
#[derive(Clone, Copy, Debug)]
struct Failure {
    cause: OutageCause,
    /// Whether a failure of this kind was logged.
    repeated: bool,
}

impl Failure {
    fn new(cause: OutageCause, repeated: bool) -> Self {
        Self { cause, repeated }
    }

    /// Returns what Domo, or the proxy, rejected.
    fn rejected(self) -> Option<&'static str> {
        match self.cause {
            OutageCause::ClientDenied | OutageCause::ClientUnconfirmed => Some("client"),
            OutageCause::Denied => Some("scope set"),
            OutageCause::ProxyLogin => Some("proxy login"),
            OutageCause::Failed(_)
            | OutageCause::Queued
            | OutageCause::ChangeLimit
            | OutageCause::AwaitsCredentialCheck
            | OutageCause::AwaitsLoginCheck => None,
        }
    }

    /// Returns why the request of a token that has expired has not started, if that is all that is known.
    fn waits_for(self) -> &'static str {
        match self.cause {
            OutageCause::ChangeLimit => CHANGED_TOO_OFTEN,
            OutageCause::AwaitsCredentialCheck => AWAITS_CREDENTIAL_CHECK,
            OutageCause::AwaitsLoginCheck => AWAITS_LOGIN_CHECK,
            OutageCause::Failed(_)
            | OutageCause::Denied
            | OutageCause::ClientDenied
            | OutageCause::ClientUnconfirmed
            | OutageCause::ProxyLogin
            | OutageCause::Queued => AWAITS_ADMISSION,
        }
    }

    /// Returns the message of a failed renewal while the current token is valid.
    fn warning(self) -> &'static str {
        match self.cause {
            OutageCause::ClientDenied => {
                "Domo rejected the client again; next attempt in 300 s; the current token is still valid; \
                 fix the client's credentials"
            }
            OutageCause::ClientUnconfirmed => {
                "Domo rejected the client; the current token is still valid; confirming in 5 s; \
                 if it is rejected again, fix the client's credentials"
            }
            OutageCause::ProxyLogin => {
                "the proxy rejected the login; the current token is still valid; fix the login"
            }
            OutageCause::Denied => {
                "Domo rejected the scope set; the current token is still valid; \
                 create an API client with these scopes in Domo, or correct tokens in the config"
            }
            OutageCause::Failed(_)
            | OutageCause::Queued
            | OutageCause::ChangeLimit
            | OutageCause::AwaitsCredentialCheck
            | OutageCause::AwaitsLoginCheck => "renewal failed; the current token is still valid",
        }
    }

    /// Returns the message while there is no valid token: the `first` one of an outage, or a failure of
    /// another kind.
    fn error(self, first: bool) -> &'static str {
        match self.cause {
            OutageCause::ClientDenied if first => {
                "Domo rejected the client; callers fail until the client's credentials are fixed"
            }
            OutageCause::ClientDenied => {
                "Domo rejected the client again; next attempt in 300 s; \
                 callers fail until the client's credentials are fixed"
            }
            OutageCause::ClientUnconfirmed => {
                "Domo rejected the client; confirming in 5 s; if it is rejected again, callers fail \
                 until the client's credentials are fixed"
            }
            OutageCause::ProxyLogin => {
                "the proxy rejected the login; callers fail until the login is fixed"
            }
            OutageCause::Denied => {
                "Domo rejected the scope set; callers fail until an API client with these scopes \
                 is configured, or tokens in the config is corrected"
            }
            OutageCause::Failed(_)
            | OutageCause::Queued
            | OutageCause::ChangeLimit
            | OutageCause::AwaitsCredentialCheck
            | OutageCause::AwaitsLoginCheck => {
                if first {
                    "no valid token; callers fail until renewal succeeds"
                } else {
                    "still no valid token; renewal now fails for another reason"
                }
            }
        }
    }
}

fn log_failure(
    scheduler: &Scheduler,
    set: SetId,
    failure: Failure,
    impact: CallerImpact,
    now: BootTime,
) {
    let Some((client, scope)) = scheduler.name_of(set) else {
        return;
    };
    let cause = failure.cause;
    let what = failure.rejected();
    let retry = scheduler.next_attempt(set, now);
    let retry_in_s = retry.map(|at| rounded_up(at.saturating_since(now)));
    let error = scheduler
        .error_message(set)
        .unwrap_or_else(|| failure.waits_for());
    match impact {
        CallerImpact::TokenValid { left } => {
            let expires_in_s = left.as_secs();
            if failure.repeated {
                debug!(client, %scope, %cause, what, expires_in_s, retry_in_s, error, "renewal failed again; the current token is still valid");
            } else {
                let message = failure.warning();
                warn!(client, %scope, %cause, what, expires_in_s, retry_in_s, error, "{message}");
            }
        }
        CallerImpact::NoToken { duration, first } => {
            let no_token_s = duration.as_secs();
            if failure.repeated && !first {
                debug!(client, %scope, %cause, what, no_token_s, retry_in_s, error, "still no valid token");
                return;
            }
            // The other ones without a token are affected, too.
            let is_shared = matches!(
                cause,
                OutageCause::ClientDenied
                    | OutageCause::ClientUnconfirmed
                    | OutageCause::ProxyLogin
            );
            let scope_sets = is_shared.then(|| scheduler.scope_sets_without_token(set, now));
            let message = failure.error(first);
            error!(client, %scope, %cause, what, scope_sets, no_token_s, retry_in_s, error, "{message}");
        }
    }
}

/// Returns a wait in whole seconds: one that is not over is never 0.
fn rounded_up(wait: Duration) -> u64 {
    wait.as_secs() + u64::from(wait.subsec_nanos() > 0)
}

/// Logs what a reload has changed.
pub(super) fn configured(changes: &ConfigDiff) {
    let all = [
        ("clients added", &changes.added),
        ("clients removed", &changes.removed),
        ("client credentials or endpoint changed", &changes.renewed),
        ("client scope sets changed", &changes.scopes),
    ];
    for (what, clients) in all {
        if !clients.is_empty() {
            info!(clients = clients.join(", "), "{what}");
        }
    }
}

/// Logs that `rule` of an access table denies a caller.
pub(super) fn not_permitted(limit: &mut LogRateLimit, cause: &str, rule: &str, now: BootTime) {
    match limit.count(now) {
        Ordering::Less => warn!("denied: {cause}; {rule}"),
        Ordering::Equal => warn!(
            "denied: {cause}; {rule}; further denials of this minute are not \
                                  logged"
        ),
        Ordering::Greater => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use domo_token_core::schedule::{CONFIRM_AFTER, DENIED_RETRY};

    #[test]
    fn first_rejection_names_the_time_of_its_confirmation() {
        let failure = Failure::new(OutageCause::ClientUnconfirmed, false);
        let named = format!("confirming in {} s", CONFIRM_AFTER.as_secs());
        for message in [failure.warning(), failure.error(true)] {
            assert!(message.contains(&named), "{message}");
        }
    }

    #[test]
    fn confirmed_rejection_names_the_time_of_the_next_attempt() {
        let failure = Failure::new(OutageCause::ClientDenied, false);
        let named = format!("again; next attempt in {} s", DENIED_RETRY.as_secs());
        for message in [failure.warning(), failure.error(false)] {
            assert!(message.contains(&named), "{message}");
        }
    }

    #[test]
    fn wait_is_rounded_up_to_whole_seconds() {
        let millis = [0, 1, 1000, 1001].map(Duration::from_millis);
        assert_eq!(millis.map(rounded_up), [0, 1, 1, 2]);
    }
}

//! Which results are logged, and what status shows. Each kind of failure is reported once, the expiry of the last valid
//! token once per outage, and a recovery with its duration.

use std::fmt;
use std::mem::discriminant;
use std::time::Duration;

use domo_token_protocol::BootTime;
use domo_token_protocol::messages::{ScopeState, ScopeStatus};

use super::timing::FLOOR_PART;
use super::{Command, Schedule, State, floor};
use crate::fetch_result::{Cause, LifetimeSource, TokenOrigin};
use crate::token::{Token, Validity};

/// What callers get after a failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CallerImpact {
    /// The current token.
    TokenValid {
        /// How long it is still valid.
        left: Duration,
    },
    /// An error.
    NoToken {
        /// How long there has been no valid token.
        duration: Duration,
        /// Whether this is the first report of the outage.
        first: bool,
    },
}

/// Why a token has no successor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OutageCause {
    /// Attempts fail.
    Failed(Cause),
    /// Domo rejects the scope set.
    Denied,
    /// Domo rejects the client.
    ClientDenied,
    /// Domo has rejected the client once; a second request is to confirm that.
    ClientUnconfirmed,
    /// The proxy rejects its login.
    ProxyLogin,
    /// The request waits until requests of other scope sets have ended.
    Queued,
    /// The request waits because the client's credentials change too often.
    ChangeLimit,
    /// The request waits until another scope set has tried the new credentials.
    AwaitsCredentialCheck,
    /// The request waits until another one has tried the proxy login.
    AwaitsLoginCheck,
}

impl OutageCause {
    /// Returns whether Domo rejects the client.
    pub(super) fn is_client_rejection(self) -> bool {
        matches!(self, Self::ClientDenied | Self::ClientUnconfirmed)
    }
}

impl fmt::Display for OutageCause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Failed(cause) => cause.fmt(f),
            Self::Denied | Self::ClientDenied | Self::ClientUnconfirmed | Self::ProxyLogin => {
                f.write_str("denied")
            }
            Self::Queued => f.write_str("queued"),
            Self::ChangeLimit => f.write_str("change_limit"),
            Self::AwaitsCredentialCheck | Self::AwaitsLoginCheck => f.write_str("trial"),
        }
    }
}

/// What was rejected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rejected {
    /// The scope set; other ones of the client may still be granted.
    ScopeSet,
    /// The client.
    Client,
    /// The client, for the first time since a success or since its credentials changed: one more request is
    /// to confirm it.
    ClientUnconfirmed,
    /// The login at the proxy.
    ProxyLogin,
}

impl Rejected {
    /// Returns why a token has no successor.
    #[must_use]
    pub fn cause(self) -> OutageCause {
        match self {
            Self::ScopeSet => OutageCause::Denied,
            Self::Client => OutageCause::ClientDenied,
            Self::ClientUnconfirmed => OutageCause::ClientUnconfirmed,
            Self::ProxyLogin => OutageCause::ProxyLogin,
        }
    }
}

/// The end of failed attempts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Recovery {
    /// How many attempts it took, this one included.
    pub attempts: u32,
    /// How long attempts failed.
    pub failing: Duration,
    /// How long of that there was no valid token.
    pub outage: Duration,
}

/// The result of an attempt, or the expiry of a token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// A result that no longer counts, or a postponed fetch.
    Ignored,
    /// A token.
    Obtained {
        /// Whether this host sent a request to Domo.
        requested: bool,
        /// Which host obtained it.
        origin: TokenOrigin,
        /// Its generation and times.
        validity: Validity,
        /// Set if attempts had failed or there was an outage.
        recovery: Option<Recovery>,
        /// Whether it is the scope set's first.
        first: bool,
        /// How the lifetime was derived, the first time that it is not what Domo states.
        unexpected_lifetime: Option<LifetimeSource>,
        /// Whether it is the first so short-lived token that callers may wait for renewal.
        short: bool,
    },
    /// Domo rejects its tokens in use, also after a renewal.
    RejectedByDomo,
    /// Domo rejected the credentials or the scope set, or the proxy its login.
    Denied {
        /// Whether this host sent a request to Domo.
        requested: bool,
        /// What was rejected.
        rejected: Rejected,
        /// Whether that was reported already.
        repeated: bool,
        /// What callers get.
        impact: CallerImpact,
    },
    /// Another attempt follows.
    Failed {
        /// Whether this host sent a request to Domo.
        requested: bool,
        /// The kind of failure.
        cause: Cause,
        /// Whether that was reported already.
        repeated: bool,
        /// What callers get.
        impact: CallerImpact,
    },
    /// The token has expired without a successor, or there never was one.
    Expired {
        /// Why there is no successor.
        cause: OutageCause,
        /// What callers get.
        impact: CallerImpact,
    },
}

impl Outcome {
    /// Returns whether it shows that Domo accepts the client: a rejected scope set does.
    #[must_use]
    pub fn accepts_client(&self) -> bool {
        match self {
            Self::Obtained { .. } => true,
            Self::Denied { rejected, .. } => *rejected == Rejected::ScopeSet,
            Self::Ignored | Self::RejectedByDomo | Self::Failed { .. } | Self::Expired { .. } => {
                false
            }
        }
    }
}

/// What was reported since the last success.
#[derive(Debug, Default)]
pub(super) struct ReportState {
    /// The kinds of failure reported since the last change of credentials, with their messages.
    reported: Vec<(FailureKind, String)>,
    repetition: Repetition,
    /// When the first attempt failed.
    failing_since: Option<BootTime>,
    /// When the last token expired.
    expired: Option<BootTime>,
    /// Since when callers fail because there is no valid token.
    outage_since: Option<BootTime>,
    /// Whether that was reported, also since the last change of credentials.
    outage_reported: bool,
    /// One of each reported kind.
    unexpected_lifetimes: Vec<LifetimeSource>,
    short: bool,
}

/// Which failure is a repetition of one that was reported.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Repetition {
    /// One of the same kind.
    #[default]
    SameKind,
    /// One of the same kind and message: the first failure after a reload.
    SameMessage,
}

/// The kinds of failure that the log distinguishes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum FailureKind {
    /// It ends without action of the operator.
    Passing,
    /// The operator has to fix something between the daemon and Domo.
    Lasting,
    Denied,
    /// Domo rejected the client once: its confirmation is another kind.
    Unconfirmed,
    ProxyLogin,
}

impl From<Cause> for FailureKind {
    fn from(cause: Cause) -> Self {
        if cause.is_lasting() {
            Self::Lasting
        } else {
            Self::Passing
        }
    }
}

impl From<Rejected> for FailureKind {
    fn from(rejected: Rejected) -> Self {
        match rejected {
            Rejected::ScopeSet | Rejected::Client => Self::Denied,
            Rejected::ClientUnconfirmed => Self::Unconfirmed,
            Rejected::ProxyLogin => Self::ProxyLogin,
        }
    }
}

/// Returns a message without Domo's request id, which differs each time.
fn without_request_id(message: &str) -> &str {
    message.split(" (toe ").next().unwrap_or(message)
}

impl ReportState {
    /// Returns whether a failure of this kind was reported before, and marks it as reported. The first
    /// one after a reload must have the same message, too.
    pub(super) fn mark_reported(&mut self, kind: FailureKind, message: &str) -> bool {
        let message = without_request_id(message);
        let repetition = std::mem::take(&mut self.repetition);
        let found = self.reported.iter_mut().find(|(known, _)| *known == kind);
        let Some((_, known)) = found else {
            self.reported.push((kind, message.to_owned()));
            return false;
        };
        let is_repeated = repetition == Repetition::SameKind || known == message;
        if !is_repeated {
            message.clone_into(known);
        }
        is_repeated
    }

    /// Causes the next failure to be reported if its message is new. For a reload.
    pub(super) fn compare_message(&mut self) {
        self.repetition = Repetition::SameMessage;
    }

    /// Causes all failures to be reported again. For a success or a change of credentials.
    pub(super) fn reset(&mut self) {
        self.reported.clear();
        self.repetition = Repetition::default();
        self.outage_reported = false;
    }

    pub(super) fn mark_expired(&mut self, at: BootTime) {
        self.expired = Some(at);
    }

    /// Ends the failures and the outage; returns their durations, if there were any.
    pub(super) fn recover(&mut self, failures: u32, now: BootTime) -> Option<Recovery> {
        self.reset();
        self.expired = None;
        let (failing, outage) = (self.failing_since.take(), self.outage_since.take());
        let first = failing.into_iter().chain(outage).min()?;
        Some(Recovery {
            attempts: failures.saturating_add(1),
            failing: now.saturating_since(first),
            outage: outage.map_or(Duration::ZERO, |since| now.saturating_since(since)),
        })
    }

    /// Returns the source of a lifetime if it is the first of its kind and not what Domo states.
    pub(super) fn first_unexpected_lifetime(
        &mut self,
        source: LifetimeSource,
    ) -> Option<LifetimeSource> {
        let kind = discriminant(&source);
        let mut known = self.unexpected_lifetimes.iter();
        let is_known = known.any(|known| discriminant(known) == kind);
        if is_known || source == LifetimeSource::Stated {
            return None;
        }
        self.unexpected_lifetimes.push(source);
        Some(source)
    }

    /// Returns true the first time that a lifetime is so short that the floor can be longer.
    pub(super) fn is_first_short(&mut self, lifetime: Duration) -> bool {
        let short = lifetime < floor(lifetime) * FLOOR_PART;
        short && !std::mem::replace(&mut self.short, true)
    }
}

impl Schedule {
    /// Returns whether a request is due and cannot start at `now`.
    pub(super) fn is_waiting(&self, now: BootTime) -> bool {
        let starts = self.change.delayed_until.is_some_and(|until| until <= now);
        matches!(self.state, State::Idle) && !starts
    }

    /// Returns what callers get after an attempt that fails now.
    pub(super) fn failure_impact(&mut self, now: BootTime) -> CallerImpact {
        self.drop_expired(now);
        self.report.failing_since.get_or_insert(now);
        if let Some(token) = self.token(now) {
            let left = token.validity().left(now);
            return CallerImpact::TokenValid { left };
        }
        let started = match self.state {
            State::Fetching { attempt, .. } => attempt.started,
            State::Idle | State::Fresh { .. } | State::Waiting { .. } | State::Denied { .. } => now,
        };
        self.outage_at(started, now)
    }

    /// Begins or continues an outage, which began when the last token expired, or else at `since`.
    pub(super) fn outage_at(&mut self, since: BootTime, now: BootTime) -> CallerImpact {
        let report = &mut self.report;
        let since = report.expired.unwrap_or(since);
        let since = *report.outage_since.get_or_insert(since);
        CallerImpact::NoToken {
            duration: now.saturating_since(since),
            first: !std::mem::replace(&mut report.outage_reported, true),
        }
    }

    /// Reports an outage that begins without a failed attempt: the token expires after its renewal
    /// failed, or while the renewal `is_waiting` for its start, or the client is rejected through another
    /// scope set.
    /// While the first request since the last success is under way nothing is reported: callers join
    /// it, and if it fails, that is.
    pub(super) fn report_outage(&mut self, is_waiting: bool, now: BootTime) {
        let is_over = self.token(now).is_some();
        // Why a client could not be loaded is logged where it is loaded.
        if is_over || self.report.outage_reported || self.loading.is_some() {
            return;
        }
        let cause = match (&self.client_block, &self.failure) {
            _ if self.login_rejection.is_some() => OutageCause::ProxyLogin,
            (Some(block), _) => block.rejected().cause(),
            (None, Some(failure)) => failure.cause,
            (None, None) if !is_waiting => return,
            (None, None) if self.change.delayed_until.is_some() => OutageCause::ChangeLimit,
            (None, None) if self.change.awaits_credential_check => {
                OutageCause::AwaitsCredentialCheck
            }
            (None, None) if self.change.awaits_login_check => OutageCause::AwaitsLoginCheck,
            (None, None) => OutageCause::Queued,
        };
        let impact = self.outage_at(now, now);
        let outcome = Outcome::Expired { cause, impact };
        self.commands.push_back(Command::Report(self.id, outcome));
    }

    /// Returns the set's state for status and metrics, with this `client_id`.
    #[must_use]
    pub fn status(&self, client_id: &str, now: BootTime) -> ScopeStatus {
        let validity = self.token(now).map(Token::validity);
        let load_error = "the client could not be loaded";
        let load_error = self.load_failed.map(|at| (load_error, at));
        let error = self.error_and_time().or(load_error);
        let message = error.map(|(message, _)| message);
        ScopeStatus {
            client: self.client.clone(),
            client_id: client_id.to_owned(),
            scope: self.scope.as_str().to_owned(),
            state: match (self.loading, self.state) {
                (Some(loading), _) => loading.shown(),
                _ if self.client_block.is_some() => ScopeState::Denied,
                (None, State::Fetching { .. }) => ScopeState::Fetching,
                _ if self.login_rejection.is_some() => ScopeState::Denied,
                (None, State::Idle) => ScopeState::Idle,
                (None, State::Fresh { .. }) => ScopeState::Fresh,
                (None, State::Waiting { .. }) => ScopeState::Waiting,
                (None, State::Denied { .. }) => ScopeState::Denied,
            },
            obtained: validity.map(|validity| validity.obtained),
            expires: validity.map(|validity| validity.expires),
            generation: validity.map(|validity| validity.generation),
            next_attempt: self.shown_next_attempt(now),
            requests: self.requests,
            attempts: self.failures,
            last_error: message.map(str::to_owned),
            last_error_at: error.map(|(_, at)| at),
            rejected: self.rejections.count,
            last_rejected_by: self.rejections.last_by.clone(),
            // A valid token and no success yet: the token is of the old credentials.
            credentials_error: message
                .filter(|_| validity.is_some() && self.last_success.is_none())
                .filter(|_| !self.is_login_rejected())
                .map(str::to_owned),
            from: self.token_origin(now),
        }
    }
}

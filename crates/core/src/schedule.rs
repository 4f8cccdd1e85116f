//! Decides when one scope set's token is requested, served or refused.
//!
//! The caller passes in the time and random numbers, carries out the [`Command`]s that come out, calls
//! [`Schedule::start`] when [`Schedule::wants_fetch`] and a request is admitted, and [`Schedule::handle_timeout`] once
//! [`Schedule::poll_timeout`] has passed. The policy is the table in `docs/architecture.md`.
//!
//! - `transitions`: a request starts, succeeds or fails; a timer is due; a restart of the daemon.
//! - `callers`: which callers are served, wait or are refused; what watchers get.
//! - `fetches`: what a fetch is for, what it reports, and when it is postponed.
//! - `credentials`: new credentials, reloads, and how often they may cause requests.
//! - `client_rejection`: Domo rejects the client: the confirmation, the next attempt.
//! - `proxy_login_rejection`: the proxy rejects its login (407).
//! - `reporting`: what is logged of attempts and outages; status.
//! - `timing`: floor, renewal time, back-off, time limits.

mod callers;
mod client_rejection;
mod credentials;
mod fetches;
mod proxy_login_rejection;
mod reporting;
mod timing;
mod transitions;

use std::collections::VecDeque;
use std::time::Duration;

use domo_token_protocol::BootTime;
use domo_token_protocol::scope::ScopeSet;

use crate::fetch_result::TokenOrigin;
use crate::token::Token;

pub use callers::{
    AWAITS_ADMISSION, AWAITS_CREDENTIAL_CHECK, AWAITS_LOGIN_CHECK, Answer, CHANGED_TOO_OFTEN,
    LastSeen, Reply, TokenRequest, WaiterId,
};
use callers::{Rejections, Waiter};
use client_rejection::ClientBlock;
pub(crate) use credentials::ChangeLimit;
use credentials::CredentialChange;
pub use credentials::{CHANGE_INTERVAL, CHANGES_IN_A_ROW, Loading};
use proxy_login_rejection::LoginBlock;
use reporting::ReportState;
pub use reporting::{CallerImpact, OutageCause, Outcome, Recovery, Rejected};
pub use timing::{
    BACKOFF_FIRST, BACKOFF_MAX, CONFIRM_AFTER, DENIED_RETRY, FLEET_WAIT, REQUEST_GRACE,
    REQUEST_MAX, RETRY_AFTER_MAX, floor, min_left_to_serve, request_timeout, wait_after_failure,
};
use transitions::Failure;
pub use transitions::TokenSnapshot;

/// Identifies one scope set of one client.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SetId(pub(crate) usize);

/// Identifies one fetch, so that the result of one that no longer counts is dropped.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FetchId(u64);

/// The random numbers of one attempt.
#[derive(Clone, Copy, Debug)]
pub struct Jitter {
    /// In 0..1: spreads the renewal if the attempt succeeds, else the next attempt.
    pub draw: f64,
    /// The generation of the token, if the attempt obtains one.
    pub generation: u64,
}

/// An effect to carry out.
#[derive(Debug, PartialEq, Eq)]
pub enum Command {
    /// Fetch a token for the scope set.
    Fetch(SetId, FetchId),
    /// Abort the scope set's fetch; its result no longer counts.
    Abort(SetId),
    /// Answer a caller that waits.
    Reply(WaiterId, Reply),
    /// Log the result of an attempt, or the expiry of a token.
    Report(SetId, Outcome),
    /// Have the scope set's watchers look at [`Schedule::watcher_reply`] again.
    NotifyWatchers(SetId),
    /// Drop all that is kept for a removed scope set, its watchers included.
    Remove(SetId),
}

/// A fetch under way.
#[derive(Clone, Copy, Debug)]
struct Attempt {
    started: BootTime,
    jitter: Jitter,
    /// When a request was sent to Domo; where hosts share tokens, another host may send it, or this one later than the
    /// fetch started.
    requested: Option<BootTime>,
    /// Whether new credentials or a reload cause it.
    is_caused_by_change: bool,
}

#[derive(Clone, Copy, Debug)]
enum State {
    /// A request is due, and starts once it is admitted.
    Idle,
    Fetching {
        attempt: Attempt,
        abort_at: BootTime,
    },
    Fresh {
        renew_at: BootTime,
    },
    Waiting {
        retry_at: BootTime,
    },
    Denied {
        retry_at: BootTime,
    },
}

/// The schedule of one scope set.
#[derive(Debug)]
pub struct Schedule {
    id: SetId,
    client: String,
    scope: ScopeSet,
    /// How long a fetch may wait for a token of another host; zero if tokens are not shared.
    max_wait: Duration,
    state: State,
    fetch_id: FetchId,
    token: Option<Token>,
    /// Which host obtained the token; `None` for one of an earlier process of the daemon.
    origin: Option<TokenOrigin>,
    /// Whether a token was obtained since the daemon started.
    has_had_token: bool,
    /// Whether Domo returned the same token again, so that another request soon would be useless.
    reissued: bool,
    /// The whole lifetime of the last token of these credentials.
    lifetime: Option<Duration>,
    /// When the fetch of the last token started, or its request.
    last_success: Option<BootTime>,
    /// When this host's last request that brought a token started: the floor counts from it. A token of another host
    /// took no request, so the next fetch need not wait for the floor: that token may be about to expire.
    last_request: Option<BootTime>,
    failures: u32,
    failure: Option<Failure>,
    client_block: Option<ClientBlock>,
    /// Whether Domo has rejected the client since its last success, so that one more rejection confirms that.
    is_client_rejected: bool,
    login_rejection: Option<LoginBlock>,
    loading: Option<Loading>,
    /// When loading the client failed.
    load_failed: Option<BootTime>,
    change: CredentialChange,
    report: ReportState,
    requests: u64,
    rejections: Rejections,
    last_seen: Option<LastSeen>,
    waiters: Vec<Waiter>,
    commands: VecDeque<Command>,
}

impl Schedule {
    /// Returns a schedule whose first token request is due.
    #[must_use]
    pub fn new(id: SetId, client: String, scope: ScopeSet) -> Self {
        Self {
            id,
            client,
            scope,
            max_wait: Duration::ZERO,
            state: State::Idle,
            fetch_id: FetchId(0),
            token: None,
            origin: None,
            has_had_token: false,
            reissued: false,
            lifetime: None,
            last_success: None,
            last_request: None,
            failures: 0,
            failure: None,
            client_block: None,
            is_client_rejected: false,
            login_rejection: None,
            loading: None,
            load_failed: None,
            change: CredentialChange::default(),
            report: ReportState::default(),
            requests: 0,
            rejections: Rejections::default(),
            last_seen: None,
            waiters: Vec::new(),
            commands: VecDeque::new(),
        }
    }

    /// Returns the scope set.
    #[must_use]
    pub fn scope(&self) -> &ScopeSet {
        &self.scope
    }

    /// Returns the token if it is valid.
    #[must_use]
    pub fn token(&self, now: BootTime) -> Option<&Token> {
        self.token
            .as_ref()
            .filter(|token| now < token.validity().expires)
    }

    /// Returns whether a request is due and not blocked; once it is admitted, call [`Self::start`].
    #[must_use]
    pub fn wants_fetch(&self) -> bool {
        let is_delayed = self.client_block.is_some() || self.change.is_delayed();
        matches!(self.state, State::Idle) && self.loading.is_none() && !is_delayed
    }

    /// Returns the next effect to carry out.
    pub fn poll_command(&mut self) -> Option<Command> {
        self.commands.pop_front()
    }

    /// Returns the message of the last failed attempt.
    #[must_use]
    pub fn failure_message(&self) -> Option<&str> {
        self.failure
            .as_ref()
            .map(|failure| failure.message.as_str())
    }

    /// Returns why there is no newer token: the message of the rejection of the proxy login or of the client, or of
    /// the last failed attempt.
    #[must_use]
    pub fn error_message(&self) -> Option<&str> {
        self.error_and_time().map(|(message, _)| message)
    }

    /// Returns the same with the time of the error.
    fn error_and_time(&self) -> Option<(&str, BootTime)> {
        let login = self.login_rejection.as_ref();
        let login = login.map(|block| (block.message.as_str(), block.at));
        let blocked = self.client_block.as_ref();
        let blocked = blocked.map(|block| (block.message.as_str(), block.at));
        let failure = self.failure.as_ref();
        let failure = failure.map(|failure| (failure.message.as_str(), failure.at));
        login.or(blocked).or(failure)
    }

    /// Returns when the next request of this scope set is due by its own state.
    pub(super) fn next_attempt(&self) -> Option<BootTime> {
        match self.state {
            State::Fresh { renew_at: due }
            | State::Waiting { retry_at: due }
            | State::Denied { retry_at: due } => Some(due),
            State::Idle => self.change.delayed_until,
            State::Fetching { .. } => None,
        }
    }

    /// Returns when the next attempt is due, for users; for a blocked scope set that is the attempt of its client.
    #[must_use]
    pub fn shown_next_attempt(&self, now: BootTime) -> Option<BootTime> {
        match (self.loading, &self.login_rejection, &self.client_block) {
            (Some(Loading::Failed { retry_at }), ..) => retry_at.filter(|at| *at > now),
            (Some(Loading::Pending), ..) => None,
            (None, Some(login), _) => Some(login.until).filter(|until| *until > now),
            (None, None, Some(block)) => block.until.filter(|until| *until > now),
            (None, None, None) => self.next_attempt(),
        }
    }
}

#[cfg(test)]
mod tests;

//! PURE. Decides when one scope set's token is fetched, served or refused.
//!
//! Nothing here reads a clock, draws a random number or touches a socket. The caller passes `now`
//! and chance in, carries out the [`Command`]s that come out, calls [`Schedule::start`] when
//! [`Schedule::wants_fetch`] and there is room for a request, and [`Schedule::handle_timeout`] once
//! [`Schedule::poll_timeout`] has passed. The policy is the table in `docs/architecture.md`.

mod change_limit;
mod client;
mod failure;
mod decide;
mod snapshot;
mod loading;
mod login;
mod rejection;
mod status;
mod report_state;
mod timers;
mod timing;
mod types;
mod watched;

use std::collections::VecDeque;
use std::time::Duration;

use domo_token_protocol::scope::ScopeSet;

use crate::fetch::{Cause, FetchError, Fetched, LifetimeSource};
use crate::token::{Life, Token};
use domo_token_protocol::BootTime;

pub(crate) use change_limit::ChangeLimit;
use change_limit::CredentialChange;
pub use change_limit::{CHANGE_INTERVAL, CHANGES_IN_A_ROW};
use client::ClientBlock;
use decide::Waiter;
pub use decide::{AWAITS_LOGIN, AWAITS_TRIAL, HELD, QUEUED};
use failure::Failure;
pub use loading::Loading;
use login::LoginBlock;
use rejection::Rejections;
use report_state::ReportState;
pub use snapshot::TokenSnapshot;
pub use timing::{
    BACKOFF_FIRST, BACKOFF_MAX, CONFIRM_AFTER, DENIED_RETRY, REQUEST_GRACE, REQUEST_MAX,
    RETRY_AFTER_MAX, floor, least_left, request_timeout,
};
pub use types::{
    Answer, Ask, Command, Effect, FetchId, Jitter, OutageCause, Outcome, Recovery, Rejected, Reply,
    SetId, WaiterId,
};
pub use watched::LastSeen;

#[derive(Clone, Copy, Debug)]
enum State {
    /// A fetch is wanted as soon as there is room for it.
    Idle,
    Fetching {
        started: BootTime,
        abort_at: BootTime,
        jitter: Jitter,
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
    state: State,
    fetch_id: FetchId,
    token: Option<Token>,
    /// Whether a token has come since the start.
    begun: bool,
    /// Domo handed out the text we held, so asking again soon is of no use.
    reissued: bool,
    /// The whole life of the last token of these credentials.
    lifetime: Option<Duration>,
    /// When the attempt began that brought the last token.
    last_success: Option<BootTime>,
    failures: u32,
    failure: Option<Failure>,
    blocked: Option<ClientBlock>,
    /// Domo has rejected the client since its last success: one more rejection confirms that.
    is_client_rejected: bool,
    login: Option<LoginBlock>,
    loading: Option<Loading>,
    /// When it was learnt that the client cannot be loaded.
    load_failed: Option<BootTime>,
    change: CredentialChange,
    report: ReportState,
    requests: u64,
    rejections: Rejections,
    /// What watchers were told last.
    told: Option<LastSeen>,
    waiters: Vec<Waiter>,
    commands: VecDeque<Command>,
}

impl Schedule {
    /// A schedule that wants its first token.
    #[must_use]
    pub fn new(id: SetId, client: String, scope: ScopeSet) -> Self {
        Self {
            id,
            client,
            scope,
            state: State::Idle,
            fetch_id: FetchId(0),
            token: None,
            begun: false,
            reissued: false,
            lifetime: None,
            last_success: None,
            failures: 0,
            failure: None,
            blocked: None,
            is_client_rejected: false,
            login: None,
            loading: None,
            load_failed: None,
            change: CredentialChange::default(),
            report: ReportState::default(),
            requests: 0,
            rejections: Rejections::default(),
            told: None,
            waiters: Vec::new(),
            commands: VecDeque::new(),
        }
    }

    /// The scope set.
    #[must_use]
    pub fn scope(&self) -> &ScopeSet {
        &self.scope
    }

    /// The token, if it lives.
    #[must_use]
    pub fn token(&self, now: BootTime) -> Option<&Token> {
        self.token
            .as_ref()
            .filter(|token| now < token.life().expires)
    }

    /// Whether [`Self::start`] is waited for.
    #[must_use]
    pub fn wants_fetch(&self) -> bool {
        let is_held = self.blocked.is_some() || self.change.is_held();
        matches!(self.state, State::Idle) && self.loading.is_none() && !is_held
    }

    /// A caller, named by `who`, was refused by Domo with the token of that generation.
    pub fn note_rejection(&mut self, generation: u64, who: String) {
        if self.rejections.note(generation, who) {
            self.commands
                .push_back(Command::Report(self.id, Outcome::RejectedByDomo));
        }
    }

    /// The request is being sent now, as [`Self::wants_fetch`] said.
    pub fn start(&mut self, jitter: Jitter, now: BootTime) -> FetchId {
        self.fetch_id.0 += 1;
        self.requests += 1;
        self.change.start(now);
        self.state = State::Fetching {
            started: now,
            abort_at: now + request_timeout(self.lifetime) + REQUEST_GRACE,
            jitter,
        };
        self.fetch_id
    }

    /// The request of `fetch_id` came back.
    pub fn handle_fetched(
        &mut self,
        fetch_id: FetchId,
        result: Result<Fetched, FetchError>,
        now: BootTime,
    ) -> Outcome {
        let State::Fetching {
            started, jitter, ..
        } = self.state
        else {
            return Outcome::Ignored;
        };
        if fetch_id != self.fetch_id {
            return Outcome::Ignored;
        }
        let taken = result.and_then(|fetched| {
            let life = self.take(&fetched, started, jitter, now)?;
            Ok((life, fetched.lifetime_source))
        });
        let outcome = match taken {
            Ok((life, source)) => self.succeeded(life, source, started, jitter, now),
            Err(error) => self.failed(error, jitter, now),
        };
        self.commands
            .push_back(Command::Report(self.id, outcome.clone()));
        // Before those who wait hear of a refusal that is over.
        if outcome.accepts_client() {
            self.blocked = None;
            self.is_client_rejected = false;
        }
        self.judge_all(now);
        self.announce(now);
        outcome
    }

    /// The next thing to carry out.
    pub fn poll_command(&mut self) -> Option<Command> {
        self.commands.pop_front()
    }

    /// The words of the last failed attempt.
    #[must_use]
    pub fn failure(&self) -> Option<&str> {
        self.failure.as_ref().map(|failure| failure.words.as_str())
    }

    /// What keeps tokens away: the rejection of the proxy login or of the client, or the last failed attempt.
    #[must_use]
    pub fn trouble(&self) -> Option<&str> {
        self.trouble_and_time().map(|(words, _)| words)
    }

    /// The same, and when it was learnt.
    fn trouble_and_time(&self) -> Option<(&str, BootTime)> {
        let login = self.login.as_ref();
        let login = login.map(|block| (block.words.as_str(), block.at));
        let blocked = self.blocked.as_ref();
        let blocked = blocked.map(|block| (block.words.as_str(), block.at));
        let failure = self.failure.as_ref();
        let failure = failure.map(|failure| (failure.words.as_str(), failure.at));
        login.or(blocked).or(failure)
    }

    /// Makes the token that came the one that is served.
    fn take(
        &mut self,
        fetched: &Fetched,
        started: BootTime,
        jitter: Jitter,
        now: BootTime,
    ) -> Result<Life, FetchError> {
        let held = self.token(now).filter(|token| token.is(&fetched.text));
        let told = fetched_life(fetched, started, jitter.generation);
        if told.expires <= now || told.lifetime.is_zero() {
            let words = "the token was dead when it arrived";
            return Err(FetchError::transient(Cause::Unusable, words));
        }
        let reissued = held.is_some();
        let life = held.map_or(told, |token| Life {
            expires: told.expires,
            ..token.life()
        });
        let token = Token::new(&self.client, &fetched.granted, &fetched.text, life)
            .map_err(|error| FetchError::transient(Cause::Unusable, error.to_string()))?;
        if !reissued {
            self.rejections.replaced_by(life.generation);
        }
        self.token = Some(token);
        self.reissued = reissued;
        Ok(life)
    }

    fn succeeded(
        &mut self,
        life: Life,
        source: LifetimeSource,
        started: BootTime,
        jitter: Jitter,
        now: BootTime,
    ) -> Outcome {
        let first = !std::mem::replace(&mut self.begun, true);
        let renew_at = if self.reissued {
            now + floor(life.lifetime).max(life.left(now) / 2)
        } else {
            let left = life.expires.saturating_since(started);
            started + timing::renew_after(life.lifetime, left, first, jitter.draw)
        };
        self.failure = None;
        let failures = std::mem::take(&mut self.failures);
        self.lifetime = Some(life.lifetime);
        self.last_success = Some(started);
        self.state = State::Fresh { renew_at };
        Outcome::Obtained {
            life,
            recovery: self
                .report
                .recover(failures, now)
                // What kept a first token away was another scope set's failure.
                .filter(|_| !first || failures > 0),
            first,
            odd_lifetime: self.report.first_odd_lifetime(source),
            short: self.report.is_first_short(life.lifetime),
        }
    }
}

/// Returns the life of a token whose request began at `started`. A token that another host obtained may be older
/// than this host's boot; the clock cannot show that, so nothing but `expires` may be derived from it.
fn fetched_life(fetched: &Fetched, started: BootTime, generation: u64) -> Life {
    let lifetime = fetched.lifetime;
    let (obtained, expires) = match fetched.expires {
        Some(expires) => (expires - lifetime, expires),
        None => (started, started + lifetime),
    };
    Life {
        generation,
        obtained,
        lifetime,
        expires,
    }
}

#[cfg(test)]
mod tests;

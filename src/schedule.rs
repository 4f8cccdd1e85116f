//! PURE. Decides when one scope set's token is fetched, served or refused.
//!
//! Nothing here reads a clock, draws a random number or touches a socket. The caller passes `now`
//! and chance in, carries out the [`Command`]s that come out, calls [`Schedule::start`] when
//! [`Schedule::wants_fetch`] and there is room for a request, and [`Schedule::handle_timeout`] once
//! [`Schedule::poll_timeout`] has passed. The policy is the table in `docs/architecture.md`.

mod timing;

use std::collections::VecDeque;
use std::time::Duration;

use domo_token_client::scope::ScopeSet;
use domo_token_client::wire::{Refusal, RefusalKind, Renew, ScopeState, ScopeStatus};

use crate::clock::BootTime;
use crate::source::{Cause, FetchError, Fetched};
use crate::token::{Life, Token};

pub use timing::{
    BACKOFF_FIRST, BACKOFF_MAX, DENIED_RETRY, RETRY_AFTER_MAX, floor, least_left, request_timeout,
};

/// Names one caller that waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WaiterId(pub u64);

/// Numbers each fetch, so that an answer to a fetch that no longer counts is known and dropped.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Round(u64);

/// What chance gives to one attempt.
#[derive(Clone, Copy, Debug)]
pub struct Chance {
    /// From 0 up to 1: spreads the renewal if the attempt succeeds, else the next attempt.
    pub draw: f64,
    /// The generation of the token, if the attempt brings one.
    pub generation: u64,
}

/// What a caller asks for.
#[derive(Clone, Copy, Debug)]
pub struct Ask {
    /// The life the token must have left.
    pub min_ttl: Option<Duration>,
    /// When the caller must have its answer.
    pub deadline: BootTime,
    /// Set if the current token won't do.
    pub renew: Option<Renew>,
}

/// What a caller gets.
pub type Reply = Result<Token, Refusal>;

/// What is to be carried out.
#[derive(Debug, PartialEq, Eq)]
pub enum Command {
    /// Give the request of this round up.
    Abort(Round),
    /// Answer a caller that waited.
    Reply(WaiterId, Reply),
    /// Tell the operator what an attempt came to.
    Report(Outcome),
}

/// What an attempt came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Nothing: it belonged to a round that no longer counts.
    Ignored,
    /// A token, after that many failed attempts.
    Obtained {
        /// The token's life.
        life: Life,
        /// Failed attempts before it.
        after: u32,
        /// Whether it is the set's first.
        first: bool,
        /// Whether Domo named no lifetime.
        assumed: bool,
    },
    /// Domo refuses the credentials, or, with `scope_only`, this scope set alone.
    Denied {
        /// Whether other sets of the client may still work.
        scope_only: bool,
        /// Whether the attempt before failed too.
        again: bool,
    },
    /// Another attempt follows.
    Failed {
        /// What kind of failure.
        cause: Cause,
        /// Whether the attempt before failed too.
        again: bool,
    },
}

#[derive(Clone, Copy, Debug)]
enum State {
    /// A fetch is wanted as soon as there is room for it.
    Idle,
    Fetching {
        started: BootTime,
        abort_at: BootTime,
        chance: Chance,
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

/// The last attempt, if it failed.
#[derive(Clone, Debug)]
struct Failure {
    words: String,
    at: BootTime,
}

/// What a token must be for a caller to be content.
#[derive(Clone, Copy, Debug)]
struct Need {
    min_left: Duration,
    /// The generation that won't do.
    not: Option<u64>,
}

#[derive(Debug)]
struct Waiter {
    id: WaiterId,
    need: Need,
    deadline: BootTime,
}

enum Verdict {
    Serve(Token),
    Join,
    Refuse(Refusal),
}

/// The schedule of one scope set.
#[derive(Debug)]
pub struct Schedule {
    client: String,
    scope: ScopeSet,
    state: State,
    round: Round,
    token: Option<Token>,
    /// Domo handed out the text we held, so asking again soon is of no use.
    reissued: bool,
    /// The last token's whole life.
    lifetime: Option<Duration>,
    /// When the attempt began that brought the last token.
    last_success: Option<BootTime>,
    failures: u32,
    failure: Option<Failure>,
    /// Another set's refusal that holds for the whole client.
    blocked: Option<String>,
    requests: u64,
    rejected: u64,
    last_rejected_by: Option<String>,
    waiters: Vec<Waiter>,
    commands: VecDeque<Command>,
}

impl Schedule {
    /// A schedule that wants its first token.
    #[must_use]
    pub fn new(client: String, scope: ScopeSet) -> Self {
        Self {
            client,
            scope,
            state: State::Idle,
            round: Round(0),
            token: None,
            reissued: false,
            lifetime: None,
            last_success: None,
            failures: 0,
            failure: None,
            blocked: None,
            requests: 0,
            rejected: 0,
            last_rejected_by: None,
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
        matches!(self.state, State::Idle) && self.blocked.is_none()
    }

    /// Answers at once, or `None` if the caller waits: a [`Command::Reply`] follows, at its
    /// deadline at the latest.
    pub fn request(&mut self, waiter: WaiterId, ask: &Ask, now: BootTime) -> Option<Reply> {
        self.handle_timeout(now);
        let need = self.need(ask, now);
        match self.judge(need, ask.deadline, now) {
            Verdict::Serve(token) => Some(Ok(token)),
            Verdict::Refuse(refusal) => Some(Err(refusal)),
            Verdict::Join => {
                self.waiters.push(Waiter {
                    id: waiter,
                    need,
                    deadline: ask.deadline,
                });
                None
            }
        }
    }

    /// A caller left before its answer.
    pub fn forget(&mut self, waiter: WaiterId) {
        self.waiters.retain(|waiting| waiting.id != waiter);
    }

    /// A caller, named by `who`, was refused by Domo with a token of this set.
    pub fn note_rejection(&mut self, who: String) {
        self.rejected += 1;
        self.last_rejected_by = Some(who);
    }

    /// The request is being sent now. Counts only while [`Self::wants_fetch`].
    pub fn start(&mut self, chance: Chance, now: BootTime) -> Round {
        self.round.0 += 1;
        self.requests += 1;
        self.state = State::Fetching {
            started: now,
            abort_at: now + request_timeout(self.lifetime),
            chance,
        };
        self.round
    }

    /// The request of `round` came back.
    pub fn handle_fetched(
        &mut self,
        round: Round,
        result: Result<Fetched, FetchError>,
        now: BootTime,
    ) -> Outcome {
        let State::Fetching {
            started, chance, ..
        } = self.state
        else {
            return Outcome::Ignored;
        };
        if round != self.round {
            return Outcome::Ignored;
        }
        let assumed = result
            .as_ref()
            .is_ok_and(|fetched| fetched.lifetime_assumed);
        let outcome = match result.and_then(|fetched| self.take(&fetched, started, chance, now)) {
            Ok(life) => {
                let (after, first) = self.succeeded(life, started, chance, now);
                Outcome::Obtained {
                    life,
                    after,
                    first,
                    assumed,
                }
            }
            Err(error) => self.failed(error, chance, now),
        };
        self.commands.push_back(Command::Report(outcome.clone()));
        self.judge_all(now);
        outcome
    }

    /// Applies what `now` has made due.
    pub fn handle_timeout(&mut self, now: BootTime) {
        match self.state {
            State::Fetching {
                abort_at, chance, ..
            } if abort_at <= now => {
                self.commands.push_back(Command::Abort(self.round));
                let words = "no answer in time";
                let error = FetchError::transient(Cause::Timeout, words);
                let outcome = self.failed(error, chance, now);
                self.commands.push_back(Command::Report(outcome));
                self.judge_all(now);
            }
            State::Fresh { renew_at: due }
            | State::Waiting { retry_at: due }
            | State::Denied { retry_at: due }
                if due <= now && self.blocked.is_none() =>
            {
                self.state = State::Idle;
            }
            State::Idle
            | State::Fetching { .. }
            | State::Fresh { .. }
            | State::Waiting { .. }
            | State::Denied { .. } => {}
        }
        self.token.take_if(|token| token.life().expires <= now);
        for waiter in self.waiters.extract_if(.., |waiter| waiter.deadline <= now) {
            let refusal = late(&self.client, &self.scope, self.failure.as_ref(), self.state);
            self.commands
                .push_back(Command::Reply(waiter.id, Err(refusal)));
        }
    }

    /// When [`Self::handle_timeout`] is due.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<BootTime> {
        let state = match self.state {
            State::Fetching { abort_at, .. } => Some(abort_at),
            State::Fresh { renew_at: due }
            | State::Waiting { retry_at: due }
            | State::Denied { retry_at: due } => Some(due).filter(|_| self.blocked.is_none()),
            State::Idle => None,
        };
        let caller = self.waiters.iter().map(|waiter| waiter.deadline).min();
        [state, caller].into_iter().flatten().min()
    }

    /// The next thing to carry out.
    pub fn poll_command(&mut self) -> Option<Command> {
        self.commands.pop_front()
    }

    /// The client's credentials changed: whatever the old ones are still fetching no longer
    /// counts, and nothing they ran into holds the new ones up.
    pub fn new_credentials(&mut self, now: BootTime) {
        self.abort();
        self.last_success = None;
        self.reissued = false;
        self.failures = 0;
        self.failure = None;
        self.blocked = None;
        self.state = State::Idle;
        self.judge_all(now);
    }

    /// What is refused or waits to retry is tried at once; a living token's timer stays.
    pub fn reload(&mut self) {
        self.blocked = None;
        match self.state {
            State::Waiting { .. } | State::Denied { .. } => self.state = State::Idle,
            State::Idle | State::Fetching { .. } | State::Fresh { .. } => {}
        }
    }

    /// Domo refused the client as a whole through another set, in these words: nothing more is
    /// asked for this one until [`Self::unblock`].
    pub fn block(&mut self, words: &str, now: BootTime) {
        self.blocked = Some(words.to_owned());
        if let State::Denied { .. } = self.state {
            self.state = State::Idle;
        }
        self.judge_all(now);
    }

    /// The client's credentials work again.
    pub fn unblock(&mut self) {
        self.blocked = None;
    }

    /// Refuses all who wait with `kind`, and gives up a request under way: the set was removed, or
    /// the broker stops.
    pub fn close(&mut self, kind: RefusalKind, cause: &str) {
        self.abort();
        self.state = State::Idle;
        for waiter in std::mem::take(&mut self.waiters) {
            let refusal = Refusal {
                kind,
                cause: cause.to_owned(),
                next_attempt: None,
            };
            self.commands
                .push_back(Command::Reply(waiter.id, Err(refusal)));
        }
    }

    /// The words of the last failed attempt.
    #[must_use]
    pub fn failure(&self) -> Option<&str> {
        self.failure.as_ref().map(|failure| failure.words.as_str())
    }

    /// The set's state for people and metrics; `client_id` is shown as it is.
    #[must_use]
    pub fn status(&self, client_id: &str, now: BootTime) -> ScopeStatus {
        let life = self.token(now).map(Token::life);
        let blocked = self.blocked.as_ref();
        ScopeStatus {
            client: self.client.clone(),
            client_id: client_id.to_owned(),
            scope: self.scope.as_str().to_owned(),
            state: match self.state {
                _ if blocked.is_some() => ScopeState::Denied,
                State::Idle => ScopeState::Idle,
                State::Fetching { .. } => ScopeState::Fetching,
                State::Fresh { .. } => ScopeState::Fresh,
                State::Waiting { .. } => ScopeState::Waiting,
                State::Denied { .. } => ScopeState::Denied,
            },
            obtained: life.map(|life| life.obtained),
            expires: life.map(|life| life.expires),
            generation: life.map(|life| life.generation),
            next_attempt: next_attempt(self.state).filter(|_| blocked.is_none()),
            requests: self.requests,
            attempts: self.failures,
            last_error: self
                .failure()
                .or(blocked.map(String::as_str))
                .map(str::to_owned),
            last_error_at: self.failure.as_ref().map(|failure| failure.at),
            rejected: self.rejected,
            last_rejected_by: self.last_rejected_by.clone(),
            credentials_error: None,
        }
    }

    fn need(&self, ask: &Ask, now: BootTime) -> Need {
        let current = self.token(now).map(Token::life);
        let not = match ask.renew {
            Some(Renew::Rejected(generation)) => Some(generation),
            Some(Renew::Current) => current
                .filter(|life| now.saturating_since(life.obtained) > floor(life.lifetime))
                .map(|life| life.generation),
            None => None,
        };
        Need {
            min_left: ask.min_ttl.unwrap_or_default(),
            not,
        }
    }

    fn judge(&mut self, need: Need, deadline: BootTime, now: BootTime) -> Verdict {
        if let Some(token) = self.token(now).filter(|token| suits(token, need, now)) {
            return Verdict::Serve(token.clone());
        }
        if let Some(refusal) = self.too_long(need) {
            return Verdict::Refuse(refusal);
        }
        if let Some(words) = &self.blocked {
            return match self.state {
                State::Fetching { .. } => Verdict::Join,
                State::Idle
                | State::Fresh { .. }
                | State::Waiting { .. }
                | State::Denied { .. } => {
                    Verdict::Refuse(self.refusal(RefusalKind::Denied, words, None))
                }
            };
        }
        match self.state {
            State::Idle | State::Fetching { .. } => Verdict::Join,
            State::Fresh { renew_at } => self.judge_early_renewal(renew_at, deadline, now),
            State::Waiting { retry_at } if retry_at < deadline => Verdict::Join,
            State::Waiting { retry_at } => {
                let words = self.failure().unwrap_or("no token yet");
                Verdict::Refuse(self.refusal(RefusalKind::Unavailable, words, Some(retry_at)))
            }
            State::Denied { retry_at } => {
                let words = self.failure().unwrap_or("refused");
                Verdict::Refuse(self.refusal(RefusalKind::Denied, words, Some(retry_at)))
            }
        }
    }

    /// The living token won't do for this caller: it is renewed as soon as the floor allows.
    fn judge_early_renewal(
        &mut self,
        renew_at: BootTime,
        deadline: BootTime,
        now: BootTime,
    ) -> Verdict {
        let unavailable = |schedule: &Self, words: &str, at| {
            Verdict::Refuse(schedule.refusal(RefusalKind::Unavailable, words, Some(at)))
        };
        if self.reissued {
            let words = "Domo hands out the same token again until it is nearer its end";
            return unavailable(self, words, renew_at);
        }
        let spacing = self.lifetime.map_or(Duration::ZERO, floor);
        let soonest = self.last_success.map_or(now, |at| at + spacing);
        if soonest.max(now) >= deadline {
            let words = "the token has less life left than asked for, and was fetched just now";
            return unavailable(self, words, soonest.min(renew_at));
        }
        self.state = if soonest <= now {
            State::Idle
        } else {
            State::Fresh {
                renew_at: renew_at.min(soonest),
            }
        };
        Verdict::Join
    }

    fn too_long(&self, need: Need) -> Option<Refusal> {
        let lifetime = self.lifetime?;
        let most = lifetime.saturating_sub(floor(lifetime));
        if need.min_left <= most {
            return None;
        }
        let words = format!(
            "a token lives {} s and at least {} s were asked for; the most one may ask is {} s",
            lifetime.as_secs(),
            need.min_left.as_secs(),
            most.as_secs()
        );
        Some(self.refusal(RefusalKind::MinTtlTooLong, &words, None))
    }

    fn judge_all(&mut self, now: BootTime) {
        for waiter in std::mem::take(&mut self.waiters) {
            let reply = match self.judge(waiter.need, waiter.deadline, now) {
                Verdict::Serve(token) => Ok(token),
                Verdict::Refuse(refusal) => Err(refusal),
                Verdict::Join => {
                    self.waiters.push(waiter);
                    continue;
                }
            };
            self.commands.push_back(Command::Reply(waiter.id, reply));
        }
    }

    /// Makes the token that came the one that is served.
    fn take(
        &mut self,
        fetched: &Fetched,
        started: BootTime,
        chance: Chance,
        now: BootTime,
    ) -> Result<Life, FetchError> {
        let held = self.token(now).filter(|token| token.is(&fetched.text));
        let told = Life {
            generation: chance.generation,
            obtained: started,
            lifetime: fetched.lifetime,
            expires: started + fetched.lifetime,
        };
        if told.expires <= now {
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
        self.token = Some(token);
        self.reissued = reissued;
        Ok(life)
    }

    /// Says how many attempts failed before, and whether this is the first token.
    fn succeeded(
        &mut self,
        life: Life,
        started: BootTime,
        chance: Chance,
        now: BootTime,
    ) -> (u32, bool) {
        let first = self.lifetime.is_none();
        let renew_at = if self.reissued {
            now + floor(life.lifetime).max(life.left(now) / 2)
        } else {
            started + timing::renew_after(life.lifetime, first, chance.draw)
        };
        let after = std::mem::take(&mut self.failures);
        self.failure = None;
        self.lifetime = Some(life.lifetime);
        self.last_success = Some(started);
        self.state = State::Fresh { renew_at };
        (after, first)
    }

    fn failed(&mut self, error: FetchError, chance: Chance, now: BootTime) -> Outcome {
        let again = self.failure.is_some();
        self.failures = self.failures.saturating_add(1);
        match error {
            FetchError::Denied { scope_only, words } => {
                self.failure = Some(Failure { words, at: now });
                let retry_at = now + DENIED_RETRY;
                self.state = State::Denied { retry_at };
                Outcome::Denied { scope_only, again }
            }
            FetchError::Transient {
                cause,
                words,
                retry_after,
            } => {
                self.failure = Some(Failure { words, at: now });
                let wait = timing::retry_after(self.failures, cause, retry_after, chance.draw);
                let retry_at = now + wait;
                self.state = State::Waiting { retry_at };
                Outcome::Failed { cause, again }
            }
        }
    }

    fn abort(&mut self) {
        if let State::Fetching { .. } = self.state {
            self.commands.push_back(Command::Abort(self.round));
        }
    }

    fn refusal(&self, kind: RefusalKind, words: &str, next_attempt: Option<BootTime>) -> Refusal {
        Refusal {
            kind,
            cause: about(&self.client, &self.scope, words),
            next_attempt,
        }
    }
}

fn suits(token: &Token, need: Need, now: BootTime) -> bool {
    let life = token.life();
    let least = need.min_left.max(least_left(life.lifetime));
    life.left(now) >= least && need.not != Some(life.generation)
}

fn next_attempt(state: State) -> Option<BootTime> {
    match state {
        State::Fresh { renew_at: due }
        | State::Waiting { retry_at: due }
        | State::Denied { retry_at: due } => Some(due),
        State::Idle | State::Fetching { .. } => None,
    }
}

/// The refusal of a caller whose deadline passed while it waited.
fn late(client: &str, scope: &ScopeSet, failure: Option<&Failure>, state: State) -> Refusal {
    let words = match failure {
        Some(failure) => format!("no token in time; last attempt: {}", failure.words),
        None => "no token in time; Domo has not answered yet".to_owned(),
    };
    Refusal {
        kind: RefusalKind::Unavailable,
        cause: about(client, scope, &words),
        next_attempt: next_attempt(state),
    }
}

fn about(client: &str, scope: &ScopeSet, words: &str) -> String {
    format!("client \"{client}\", scope set \"{scope}\": {words}")
}

#[cfg(test)]
mod tests;

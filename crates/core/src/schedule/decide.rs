//! Callers: who is served, who waits, who is refused.

use std::time::Duration;

use domo_token_protocol::messages::{Refusal, RefusalKind, Renew};

use super::types::{Answer, Ask, Command, OutageCause, WaiterId};
use super::{Loading, Schedule, State, floor, least_left};
use crate::token::Token;
use domo_token_protocol::BootTime;

/// What a token must be for a caller to be content.
#[derive(Clone, Copy, Debug)]
pub(super) struct Requirement {
    min_left: Duration,
    /// The generation that won't do.
    not: Option<u64>,
}

#[derive(Debug)]
pub(super) struct Waiter {
    pub(super) id: WaiterId,
    need: Requirement,
    pub(super) deadline: BootTime,
}

/// Why a caller has to wait although nothing has failed.
pub const HELD: &str = "the client's credentials change too often; the next request has to wait";

/// Why its request has not started: another set of the client goes first.
pub const AWAITS_TRIAL: &str =
    "its request waits until another scope set has tried the new credentials";

/// The same, if another set of any client goes first.
pub const AWAITS_LOGIN: &str =
    "its request waits until another scope set has tried the proxy login";

/// The same, if nothing but the number of requests under way keeps it.
pub const QUEUED: &str = "its request waits until requests of other scope sets have ended";

enum Decision {
    Serve(Token),
    Join,
    Refuse(Refusal),
}

impl Schedule {
    /// Returns what the caller gets, or notes that it waits.
    pub fn request(&mut self, waiter: WaiterId, ask: &Ask, now: BootTime) -> Answer {
        self.handle_timeout(now);
        let need = self.need(ask, now);
        match self.decide(need, ask.deadline, now) {
            Decision::Serve(token) => Answer::Now(Ok(token)),
            Decision::Refuse(refusal) => Answer::Now(Err(refusal)),
            Decision::Join => {
                self.waiters.push(Waiter {
                    id: waiter,
                    need,
                    deadline: ask.deadline,
                });
                Answer::Later
            }
        }
    }

    /// A caller left before its answer.
    pub fn forget(&mut self, waiter: WaiterId) {
        self.waiters.retain(|waiting| waiting.id != waiter);
    }

    /// Refuses those whose deadline has passed.
    pub(super) fn refuse_late(&mut self, now: BootTime) {
        let (kind, words) = match self.rejection() {
            Some(words) => (RefusalKind::Denied, words.to_owned()),
            None => (RefusalKind::Unavailable, self.lateness()),
        };
        let next = self.shown_attempt(now);
        let refusal = self.refusal(kind, &words, next);
        for waiter in self.waiters.extract_if(.., |waiter| waiter.deadline <= now) {
            let refusal = refusal.clone();
            self.commands
                .push_back(Command::Reply(waiter.id, Err(refusal)));
        }
    }

    /// Why there is no token in time, although nothing was rejected.
    fn lateness(&self) -> String {
        match (&self.failure, self.loading) {
            (Some(failure), _) => format!("no token in time; last attempt: {}", failure.words),
            (None, Some(_)) => {
                "no token in time; the client's secret is still being loaded".to_owned()
            }
            (None, None) if self.change.held_until.is_some() => HELD.to_owned(),
            (None, None) => {
                let why = match self.state {
                    State::Idle if self.change.awaits_trial => AWAITS_TRIAL,
                    State::Idle if self.change.awaits_login => AWAITS_LOGIN,
                    State::Idle => QUEUED,
                    State::Fetching { .. }
                    | State::Fresh { .. }
                    | State::Waiting { .. }
                    | State::Denied { .. } => "Domo has not answered yet",
                };
                format!("no token in time; {why}")
            }
        }
    }

    /// The message of the rejection that callers have waited for the end of, if nothing has been learnt
    /// since.
    fn rejection(&self) -> Option<&str> {
        let login = self.login.as_ref().map(|block| block.words.as_str());
        let client = self.blocked.as_ref().map(|block| block.words.as_str());
        let last = self.failure.as_ref();
        let last = last.filter(|failure| failure.cause.is_client_rejection());
        login
            .or(client)
            .or(last.map(|failure| failure.words.as_str()))
    }

    fn need(&self, ask: &Ask, now: BootTime) -> Requirement {
        let current = self.token(now).map(Token::life);
        let not = match ask.renew {
            Some(Renew::Rejected(generation)) => Some(generation),
            Some(Renew::Current) => current
                .filter(|life| now.saturating_since(life.obtained) > floor(life.lifetime))
                .map(|life| life.generation),
            None => None,
        };
        Requirement {
            min_left: ask.min_ttl.unwrap_or_default(),
            not,
        }
    }

    fn decide(&mut self, need: Requirement, deadline: BootTime, now: BootTime) -> Decision {
        if let Some(token) = self.token(now).filter(|token| satisfies(token, need, now)) {
            return Decision::Serve(token.clone());
        }
        if let Some(refusal) = self.load_refusal(now).or_else(|| self.min_ttl_error(need)) {
            return Decision::Refuse(refusal);
        }
        if let Some(words) = self.standing_rejection(deadline, now) {
            let next = self.shown_attempt(now);
            return Decision::Refuse(self.refusal(RefusalKind::Denied, words, next));
        }
        if self.blocked.is_some() {
            return Decision::Join;
        }
        match self.state {
            State::Idle => match self.change.held_until {
                Some(until) if until >= deadline => {
                    Decision::Refuse(self.refusal(RefusalKind::Unavailable, HELD, Some(until)))
                }
                Some(_) | None => Decision::Join,
            },
            State::Fetching { .. } => Decision::Join,
            State::Fresh { renew_at } => self.judge_early_renewal(renew_at, deadline, now),
            State::Waiting { retry_at } if retry_at < deadline => Decision::Join,
            State::Waiting { retry_at } => {
                let words = self.failure().unwrap_or("no token yet");
                Decision::Refuse(self.refusal(RefusalKind::Unavailable, words, Some(retry_at)))
            }
            State::Denied { retry_at } if self.is_confirmed_before(retry_at, deadline) => {
                Decision::Join
            }
            State::Denied { retry_at } => {
                let words = self.failure().unwrap_or("refused");
                Decision::Refuse(self.refusal(RefusalKind::Denied, words, Some(retry_at)))
            }
        }
    }

    /// The message of a rejection that holds for longer than a caller with this deadline can wait. A set
    /// whose request is under way has yet to be judged.
    fn standing_rejection(&self, deadline: BootTime, now: BootTime) -> Option<&str> {
        if let State::Fetching { .. } = self.state {
            return None;
        }
        if let Some(block) = self.login_block(now) {
            return Some(&block.words);
        }
        let block = self.blocked.as_ref();
        let block = block.filter(|block| !block.is_confirmed_before(deadline));
        block.map(|block| block.words.as_str())
    }

    /// Whether the set was rejected once, and repeats its request in time: another one has shown since that
    /// Domo accepts the client, or a reload has to wait.
    fn is_confirmed_before(&self, retry_at: BootTime, deadline: BootTime) -> bool {
        let cause = self.failure.as_ref().map(|failure| failure.cause);
        cause == Some(OutageCause::ClientUnconfirmed) && retry_at < deadline
    }

    /// The living token won't do for this caller: it is renewed as soon as the floor allows.
    fn judge_early_renewal(
        &mut self,
        renew_at: BootTime,
        deadline: BootTime,
        now: BootTime,
    ) -> Decision {
        let unavailable = |schedule: &Self, words: &str, at| {
            Decision::Refuse(schedule.refusal(RefusalKind::Unavailable, words, Some(at)))
        };
        if self.reissued {
            if renew_at < deadline {
                return Decision::Join;
            }
            let words = if self.token(now).is_some() {
                "Domo hands out the same token again until it is nearer its end"
            } else {
                "Domo handed out the same token again and it has died; another is asked for soon"
            };
            return unavailable(self, words, renew_at);
        }
        let spacing = self.lifetime.map_or(Duration::ZERO, floor);
        let soonest = self.last_success.map_or(now, |at| at + spacing);
        if soonest.max(now) >= deadline {
            let words = if soonest > now {
                "another token is wanted, and this one was fetched a moment ago"
            } else {
                "another token is wanted, and there is no time to fetch one"
            };
            return unavailable(self, words, soonest.max(now).min(renew_at));
        }
        self.state = if soonest <= now {
            State::Idle
        } else {
            State::Fresh {
                renew_at: renew_at.min(soonest),
            }
        };
        Decision::Join
    }

    fn min_ttl_error(&self, need: Requirement) -> Option<Refusal> {
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

    pub(super) fn judge_all(&mut self, now: BootTime) {
        for waiter in std::mem::take(&mut self.waiters) {
            let reply = match self.decide(waiter.need, waiter.deadline, now) {
                Decision::Serve(token) => Ok(token),
                Decision::Refuse(refusal) => Err(refusal),
                Decision::Join => {
                    self.waiters.push(waiter);
                    continue;
                }
            };
            self.commands.push_back(Command::Reply(waiter.id, reply));
        }
    }

    /// The next attempt that people are told of; of a blocked set it is that of its client.
    #[must_use]
    pub fn shown_attempt(&self, now: BootTime) -> Option<BootTime> {
        match (self.loading, &self.login, &self.blocked) {
            (Some(Loading::Failed { retry_at }), ..) => retry_at.filter(|at| *at > now),
            (Some(Loading::Pending), ..) => None,
            (None, Some(login), _) => Some(login.until).filter(|until| *until > now),
            (None, None, Some(block)) => block.until.filter(|until| *until > now),
            (None, None, None) => self.next_attempt(),
        }
    }

    pub(super) fn refusal(
        &self,
        kind: RefusalKind,
        words: &str,
        next_attempt: Option<BootTime>,
    ) -> Refusal {
        Refusal {
            kind,
            cause: format!(
                "client \"{}\", scope set \"{}\": {words}",
                self.client, self.scope
            ),
            next_attempt,
        }
    }
}

fn satisfies(token: &Token, need: Requirement, now: BootTime) -> bool {
    let life = token.life();
    let least = need.min_left.max(least_left(life.lifetime));
    life.left(now) >= least && need.not != Some(life.generation)
}

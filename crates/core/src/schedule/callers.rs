//! Callers and watchers: which are served, which wait, which are refused.

use std::time::Duration;

use domo_token_protocol::BootTime;
use domo_token_protocol::messages::{Refusal, RefusalKind, Renew};

use super::{Command, OutageCause, Outcome, Schedule, State, floor, min_left_to_serve};
use crate::token::Token;

/// Names one caller that waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WaiterId(pub u64);

/// What a caller asks for.
#[derive(Clone, Copy, Debug)]
pub struct TokenRequest {
    /// The life the token must have left.
    pub min_ttl: Option<Duration>,
    /// When the caller must have its answer.
    pub deadline: BootTime,
    /// Set if the current token won't do.
    pub renew: Option<Renew>,
}

/// What a caller gets.
pub type Reply = Result<Token, Refusal>;

/// The answer to a request, or that it follows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// The reply.
    Now(Reply),
    /// The caller waits: a [`Command::Reply`] follows, at its deadline at the latest.
    Later,
}

/// What a token must be for a caller to be content.
#[derive(Clone, Copy, Debug)]
struct Requirement {
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
pub const CHANGED_TOO_OFTEN: &str =
    "the client's credentials change too often; the next request has to wait";

/// Why its request has not started: another set of the client goes first.
pub const AWAITS_CREDENTIAL_CHECK: &str =
    "its request waits until another scope set has tried the new credentials";

/// The same, if another set of any client goes first.
pub const AWAITS_LOGIN_CHECK: &str =
    "its request waits until another scope set has tried the proxy login";

/// The same, if nothing but the number of requests under way keeps it.
pub const AWAITS_ADMISSION: &str =
    "its request waits until requests of other scope sets have ended";

enum Decision {
    Serve(Token),
    Join,
    Refuse(Refusal),
}

/// What a watcher was shown last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LastSeen {
    /// The token of this generation.
    Token(u64),
    /// That there is no valid token.
    NoToken,
}

impl From<&Reply> for LastSeen {
    fn from(reply: &Reply) -> Self {
        match reply {
            Ok(token) => Self::Token(token.life().generation),
            Err(_) => Self::NoToken,
        }
    }
}

/// Counts rejections, and notices when a renewed token is refused too.
#[derive(Debug, Default)]
pub(super) struct Rejections {
    pub(super) count: u64,
    pub(super) last_by: Option<String>,
    /// The token that callers are given now.
    current: Option<u64>,
    /// The newest token that was refused while it was the current one.
    refused: Option<u64>,
    /// Tokens refused one after the other.
    in_a_row: u32,
}

impl Schedule {
    /// Returns what the caller gets, or notes that it waits.
    pub fn request(&mut self, waiter: WaiterId, ask: &TokenRequest, now: BootTime) -> Answer {
        self.handle_timeout(now);
        let need = self.requirement(ask, now);
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
    pub fn cancel(&mut self, waiter: WaiterId) {
        self.waiters.retain(|waiting| waiting.id != waiter);
    }

    /// Refuses those whose deadline has passed.
    pub(super) fn refuse_timed_out(&mut self, now: BootTime) {
        let (kind, words) = match self.rejection_message() {
            Some(words) => (RefusalKind::Denied, words.to_owned()),
            None => (RefusalKind::Unavailable, self.timeout_message()),
        };
        let next = self.shown_next_attempt(now);
        let refusal = self.refusal(kind, &words, next);
        for waiter in self.waiters.extract_if(.., |waiter| waiter.deadline <= now) {
            let refusal = refusal.clone();
            self.commands
                .push_back(Command::Reply(waiter.id, Err(refusal)));
        }
    }

    /// Why there is no token in time, although nothing was rejected.
    fn timeout_message(&self) -> String {
        match (&self.failure, self.loading) {
            (Some(failure), _) => format!("no token in time; last attempt: {}", failure.words),
            (None, Some(_)) => {
                "no token in time; the client's secret is still being loaded".to_owned()
            }
            (None, None) if self.change.held_until.is_some() => CHANGED_TOO_OFTEN.to_owned(),
            (None, None) => {
                let why = match self.state {
                    State::Idle if self.change.awaits_trial => AWAITS_CREDENTIAL_CHECK,
                    State::Idle if self.change.awaits_login => AWAITS_LOGIN_CHECK,
                    State::Idle => AWAITS_ADMISSION,
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
    fn rejection_message(&self) -> Option<&str> {
        let login = self.login.as_ref().map(|block| block.words.as_str());
        let client = self.blocked.as_ref().map(|block| block.words.as_str());
        let last = self.failure.as_ref();
        let last = last.filter(|failure| failure.cause.is_client_rejection());
        login
            .or(client)
            .or(last.map(|failure| failure.words.as_str()))
    }

    fn requirement(&self, ask: &TokenRequest, now: BootTime) -> Requirement {
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
            let next = self.shown_next_attempt(now);
            return Decision::Refuse(self.refusal(RefusalKind::Denied, words, next));
        }
        if self.blocked.is_some() {
            return Decision::Join;
        }
        match self.state {
            State::Idle => match self.change.held_until {
                Some(until) if until >= deadline => Decision::Refuse(self.refusal(
                    RefusalKind::Unavailable,
                    CHANGED_TOO_OFTEN,
                    Some(until),
                )),
                Some(_) | None => Decision::Join,
            },
            State::Fetching { .. } => Decision::Join,
            State::Fresh { renew_at } => self.decide_early_renewal(renew_at, deadline, now),
            State::Waiting { retry_at } if retry_at < deadline => Decision::Join,
            State::Waiting { retry_at } => {
                let words = self.failure_message().unwrap_or("no token yet");
                Decision::Refuse(self.refusal(RefusalKind::Unavailable, words, Some(retry_at)))
            }
            State::Denied { retry_at } if self.is_confirmed_before(retry_at, deadline) => {
                Decision::Join
            }
            State::Denied { retry_at } => {
                let words = self.failure_message().unwrap_or("refused");
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
    fn decide_early_renewal(
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

    pub(super) fn decide_all(&mut self, now: BootTime) {
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

    /// A caller, named by `who`, was refused by Domo with the token of that generation.
    pub fn record_rejection(&mut self, generation: u64, who: String) {
        if self.rejections.record(generation, who) {
            self.commands
                .push_back(Command::Report(self.id, Outcome::RejectedByDomo));
        }
    }

    /// What a watcher is to know now: the token, or that there is none; `None` while neither is
    /// sure. A [`Command::NotifyWatchers`] says when to look again.
    #[must_use]
    pub fn watcher_reply(&self, now: BootTime) -> Option<Reply> {
        if let Some(token) = self.token(now) {
            return Some(Ok(token.clone()));
        }
        self.told?;
        if let Some(refusal) = self.load_refusal(now) {
            return Some(Err(refusal));
        }
        let words = self.error_message();
        let words = words.unwrap_or("the token died before the next one came");
        let next = self.shown_next_attempt(now);
        Some(Err(self.refusal(RefusalKind::Unavailable, words, next)))
    }

    /// Says so if what watchers know has changed.
    pub(super) fn notify_watchers(&mut self, now: BootTime) {
        let is_rejected = self.blocked.is_some() || self.login.is_some();
        let failing = self.failure.is_some() || is_rejected || self.is_load_failed();
        let told = match self.token(now) {
            Some(token) => Some(LastSeen::Token(token.life().generation)),
            None => (self.told.is_some() || failing).then_some(LastSeen::NoToken),
        };
        if told != self.told {
            self.told = told;
            self.commands.push_back(Command::NotifyWatchers(self.id));
        }
    }
}

fn satisfies(token: &Token, need: Requirement, now: BootTime) -> bool {
    let life = token.life();
    let least = need.min_left.max(min_left_to_serve(life.lifetime));
    life.left(now) >= least && need.not != Some(life.generation)
}

impl Rejections {
    /// Takes down that `who` was refused with the token of `generation`. True once in a row: when
    /// renewing has not helped.
    pub(super) fn record(&mut self, generation: u64, who: String) -> bool {
        self.count += 1;
        self.last_by = Some(who);
        if self.current != Some(generation) || self.refused == Some(generation) {
            return false;
        }
        self.refused = Some(generation);
        self.in_a_row += 1;
        self.in_a_row == 2
    }

    /// A token nobody complained of ends the row.
    pub(super) fn replaced_by(&mut self, generation: u64) {
        if self.current != self.refused {
            self.in_a_row = 0;
        }
        self.current = Some(generation);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_renewed_token_that_is_refused_too_is_noticed_once() {
        let mut rejections = Rejections::default();
        let mut told = Vec::new();
        for generation in [7, 8, 9] {
            rejections.replaced_by(generation);
            for _caller in 0..3 {
                told.push(rejections.record(generation, "uid 1".to_owned()));
            }
        }
        let expected = [
            [false, false, false],
            [true, false, false],
            [false, false, false],
        ];
        assert_eq!(told, expected.concat());
        assert_eq!(rejections.count, 9);
    }

    #[test]
    fn a_token_that_worked_ends_the_row_and_a_late_complaint_starts_none() {
        let mut rejections = Rejections::default();
        rejections.replaced_by(1);
        assert!(!rejections.record(1, "uid 1".to_owned()));
        rejections.replaced_by(2);
        assert!(!rejections.record(1, "uid 2".to_owned()), "not the current");
        rejections.replaced_by(3);
        assert!(!rejections.record(3, "uid 1".to_owned()));
        assert_eq!(rejections.last_by.as_deref(), Some("uid 1"));
    }
}

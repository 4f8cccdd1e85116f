//! What status shows of a schedule.

use std::time::Duration;

use domo_token_protocol::messages::{ScopeState, ScopeStatus};

use super::{Schedule, State, request_timeout};
use crate::token::Token;
use domo_token_protocol::BootTime;

impl Schedule {
    /// How long its next request may take.
    #[must_use]
    pub fn time_limit(&self) -> Duration {
        request_timeout(self.lifetime)
    }

    /// The set's state for people and metrics; `client_id` is shown as it is.
    #[must_use]
    pub fn status(&self, client_id: &str, now: BootTime) -> ScopeStatus {
        let life = self.token(now).map(Token::life);
        let load_error = "the client could not be loaded";
        let load_error = self.load_failed.map(|at| (load_error, at));
        let trouble = self.trouble_and_time().or(load_error);
        let words = trouble.map(|(words, _)| words);
        ScopeStatus {
            client: self.client.clone(),
            client_id: client_id.to_owned(),
            scope: self.scope.as_str().to_owned(),
            state: match (self.loading, self.state) {
                (Some(loading), _) => loading.shown(),
                _ if self.blocked.is_some() => ScopeState::Denied,
                (None, State::Fetching { .. }) => ScopeState::Fetching,
                _ if self.login.is_some() => ScopeState::Denied,
                (None, State::Idle) => ScopeState::Idle,
                (None, State::Fresh { .. }) => ScopeState::Fresh,
                (None, State::Waiting { .. }) => ScopeState::Waiting,
                (None, State::Denied { .. }) => ScopeState::Denied,
            },
            obtained: life.map(|life| life.obtained),
            expires: life.map(|life| life.expires),
            generation: life.map(|life| life.generation),
            next_attempt: self.shown_attempt(now),
            requests: self.requests,
            attempts: self.failures,
            last_error: words.map(str::to_owned),
            last_error_at: trouble.map(|(_, at)| at),
            rejected: self.rejections.count,
            last_rejected_by: self.rejections.last_by.clone(),
            // A living token and no success yet: it is the old credentials'.
            credentials_error: words
                .filter(|_| life.is_some() && self.last_success.is_none())
                .filter(|_| !self.is_login_rejected())
                .map(str::to_owned),
        }
    }
}

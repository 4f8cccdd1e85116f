//! From one process of the daemon to the next.

use super::{Schedule, State};
use crate::token::Token;
use domo_token_protocol::BootTime;

/// A token with its timer, on its way from one process of the daemon to the next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenSnapshot {
    /// The token.
    pub token: Token,
    /// When it is renewed; `None` if it is of other credentials than those asked with now, which are
    /// tried at once.
    pub renew_at: Option<BootTime>,
}

impl Schedule {
    /// Goes on with a token that an earlier process of the daemon had.
    pub fn resume(&mut self, snapshot: TokenSnapshot, now: BootTime) {
        let life = snapshot.token.life();
        self.lifetime = Some(life.lifetime);
        self.rejections.replaced_by(life.generation);
        self.token = Some(snapshot.token);
        if let Some(renew_at) = snapshot.renew_at {
            self.last_success = Some(life.obtained);
            self.state = State::Fresh { renew_at };
        }
        self.judge_all(now);
        self.announce(now);
    }

    /// What another process would have to know to go on, if the token lives.
    #[must_use]
    pub fn snapshot(&self, now: BootTime) -> Option<TokenSnapshot> {
        let token = self.token(now)?.clone();
        let due = match self.state {
            State::Fresh { renew_at } => renew_at,
            State::Idle | State::Fetching { .. } | State::Waiting { .. } | State::Denied { .. } => {
                now
            }
        };
        // No success yet: the token is of older credentials.
        let renew_at = self.last_success.map(|_| due);
        Some(TokenSnapshot { token, renew_at })
    }
}

//! From one process of the daemon to the next.

use super::{Schedule, State};
use crate::clock::BootTime;
use crate::token::Token;

/// A token with its timer, on its way from one process of the daemon to the next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kept {
    /// The token.
    pub token: Token,
    /// When it is renewed; `None` if that is to be tried at once.
    pub renew_at: Option<BootTime>,
}

impl Schedule {
    /// Goes on with a token that an earlier process of the daemon had.
    pub fn resume(&mut self, kept: Kept) {
        let life = kept.token.life();
        self.lifetime = Some(life.lifetime);
        self.rejections.replaced_by(life.generation);
        self.token = Some(kept.token);
        if let Some(renew_at) = kept.renew_at {
            self.last_success = Some(life.obtained);
            self.state = State::Fresh { renew_at };
        }
    }

    /// What another process would have to know to go on, if the token lives.
    #[must_use]
    pub fn kept(&self, now: BootTime) -> Option<Kept> {
        let token = self.token(now)?.clone();
        let renew_at = match self.state {
            State::Fresh { renew_at } => Some(renew_at),
            State::Idle | State::Fetching { .. } | State::Waiting { .. } | State::Denied { .. } => {
                None
            }
        };
        Some(Kept { token, renew_at })
    }
}

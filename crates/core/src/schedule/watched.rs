//! Watchers: what they are to know, and when that changes.

use domo_token_protocol::messages::RefusalKind;

use super::Schedule;
use super::types::{Command, Reply};
use domo_token_protocol::BootTime;

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

impl Schedule {
    /// What a watcher is to know now: the token, or that there is none; `None` while neither is
    /// sure. A [`Command::NotifyWatchers`] says when to look again.
    #[must_use]
    pub fn watched(&self, now: BootTime) -> Option<Reply> {
        if let Some(token) = self.token(now) {
            return Some(Ok(token.clone()));
        }
        self.told?;
        if let Some(refusal) = self.load_refusal(now) {
            return Some(Err(refusal));
        }
        let words = self.trouble();
        let words = words.unwrap_or("the token died before the next one came");
        let next = self.shown_attempt(now);
        Some(Err(self.refusal(RefusalKind::Unavailable, words, next)))
    }

    /// Says so if what watchers know has changed.
    pub(super) fn announce(&mut self, now: BootTime) {
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

//! Watching one scope set.

use domo_token_protocol::messages::{Refusal, RefusalKind};
use tokio::sync::watch;

use super::{Broker, stopping};
use crate::platform::clock::Clock;
use domo_token_core::policy::Caller;
use domo_token_core::schedule::{LastSeen, Reply};
use domo_token_core::scheduler::{REMOVED, SetId};
use domo_token_core::token::Token;

/// Tells of a scope set's tokens as they come. Whoever is slow misses those in between, so that
/// nothing is kept for it.
#[derive(Debug)]
pub struct Watch<C> {
    broker: Broker<C>,
    set: SetId,
    changed: watch::Receiver<()>,
    last_seen: Option<LastSeen>,
}

impl<C: Clock> Watch<C> {
    pub(super) fn new(broker: Broker<C>, set: SetId, changed: watch::Receiver<()>) -> Self {
        Self {
            broker,
            set,
            changed,
            last_seen: None,
        }
    }

    /// Returns the current token at first, then each new one. Dropping the future loses nothing.
    ///
    /// # Errors
    ///
    /// A refusal of kind `Unavailable` when the token has expired without a successor: more may come. Any
    /// other is the last result.
    pub async fn next(&mut self) -> Reply {
        loop {
            self.changed.mark_unchanged();
            if let Some(reply) = self.news()? {
                return reply;
            }
            // The sender is dropped with its set, which the next call of `news` finds.
            self.changed.changed().await.ok();
        }
    }

    /// What the watcher gets of a token that came: rules may have changed since the last one. The
    /// watch stays that of the set it began with, whatever the default client is now.
    ///
    /// # Errors
    ///
    /// A refusal if the caller may not have it any more, or the set is gone.
    pub fn confirm(&self, token: Token, caller: &Caller) -> Reply {
        let now = self.broker.0.clock.now();
        let mut state = self.broker.state();
        let admitted = state.confirm(self.set, caller, now).ok_or_else(gone)?;
        let subject = self.broker.audit_subject(&state, &admitted);
        drop(state);
        let reply = admitted.map(|_| token).map_err(|denial| denial.refusal);
        if let Some(subject) = subject {
            self.broker.record_audit(caller, &subject, reply.as_ref());
        }
        reply
    }

    /// What hasn't been told yet; an error if nothing can come any more.
    fn news(&mut self) -> Result<Option<Reply>, Refusal> {
        let now = self.broker.0.clock.now();
        let state = self.broker.state();
        if state.stopping {
            return Err(stopping());
        }
        if !state.scheduler.contains(self.set) {
            return Err(gone());
        }
        let Some(reply) = state.scheduler.watcher_reply(self.set, now) else {
            return Ok(None);
        };
        let seen = LastSeen::from(&reply);
        let is_news = self.last_seen.replace(seen) != Some(seen);
        Ok(is_news.then_some(reply))
    }
}

fn gone() -> Refusal {
    Refusal::new(RefusalKind::Gone, REMOVED)
}

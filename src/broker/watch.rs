//! Watching one scope set.

use domo_token_protocol::messages::{Refusal, RefusalKind};
use tokio::sync::watch;

use super::{Broker, stopping};
use crate::platform::clock::Clock;
use domo_token_core::access_policy::Caller;
use domo_token_core::schedule::{LastSeen, Reply};
use domo_token_core::scheduler::{REMOVED, SetId};
use domo_token_core::token::Token;

/// Returns the tokens of a scope set as they are obtained. A slow watcher misses those in between, so
/// that nothing is stored for it.
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
            if let Some(reply) = self.unseen_reply()? {
                return reply;
            }
            // The sender is dropped with its set, which the next call of `unseen_reply` finds.
            self.changed.changed().await.ok();
        }
    }

    /// Returns the token if the caller may still have it: rules may have changed since the last one. The
    /// watch keeps its set, even if the default client has changed.
    ///
    /// # Errors
    ///
    /// A refusal if the caller may not have it any more, or the set was removed.
    pub fn confirm(&self, token: Token, caller: &Caller) -> Reply {
        let now = self.broker.0.clock.now();
        let mut state = self.broker.state();
        let admitted = state.confirm(self.set, caller, now).ok_or_else(removed)?;
        let subject = self.broker.audit_subject(&state, &admitted);
        drop(state);
        let reply = admitted.map(|_| token).map_err(|denial| denial.refusal);
        self.broker.record_audit(caller, subject, reply.as_ref());
        reply
    }

    /// Returns the current reply unless it was returned before; an error if no other can follow.
    fn unseen_reply(&mut self) -> Result<Option<Reply>, Refusal> {
        let now = self.broker.0.clock.now();
        let state = self.broker.state();
        if state.stopping {
            return Err(stopping());
        }
        if !state.scheduler.contains(self.set) {
            return Err(removed());
        }
        let Some(reply) = state.scheduler.watcher_reply(self.set, now) else {
            return Ok(None);
        };
        let seen = LastSeen::from(&reply);
        let is_new = self.last_seen.replace(seen) != Some(seen);
        Ok(is_new.then_some(reply))
    }
}

fn removed() -> Refusal {
    Refusal::new(RefusalKind::Gone, REMOVED)
}

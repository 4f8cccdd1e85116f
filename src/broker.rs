//! Owns the roster: waits for one event, applies it, carries out the commands.
//!
//! [`Broker`] is the face for sessions: a cached token is answered on the spot, without a hop to
//! another task. [`Engine`] is the loop that sends token requests and keeps the time.

mod engine;
mod log;
mod watch;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use domo_token_client::scope::ScopeSet;
use domo_token_client::wire::{
    Asked, BrokerStatus, MAX_TIME_LEFT_MS, Refusal, RefusalKind, Renew, Response, TokenRequest,
};
use tokio::sync::{Notify, oneshot, watch as signal};

use crate::clock::{BootTime, Clock};
use crate::roster::{Roster, SetId, Unknown};
use crate::schedule::{Ask, Reply, WaiterId};

pub use engine::{Clients, Engine, Helm};
pub use watch::Watch;

/// The broker as sessions see it. Clones are the same broker.
#[derive(Clone, Debug)]
pub struct Broker<C>(Arc<Shared<C>>);

#[derive(Debug)]
struct Shared<C> {
    clock: C,
    state: Mutex<State>,
    /// Rung when the roster has commands or an earlier timer.
    changed: Notify,
}

#[derive(Debug)]
struct State {
    about: About,
    roster: Roster,
    waiters: HashMap<WaiterId, oneshot::Sender<Reply>>,
    last_waiter: u64,
    /// Rung when the watchers of a set are to look again; dropped when there is nothing to see any
    /// more.
    watched: HashMap<SetId, signal::Sender<()>>,
    /// When the loop wakes up by itself.
    armed: Option<BootTime>,
    stopping: bool,
}

/// What a broker knows of its daemon.
#[derive(Clone, Debug)]
pub struct About {
    /// What status says of it.
    pub status: BrokerStatus,
    /// Whom a caller means that names no client.
    pub default_client: Option<String>,
}

impl<C: Clock> Broker<C> {
    /// A broker with no clients yet, whose chance comes from `seed`.
    pub fn new(clock: C, seed: u64, about: About) -> Self {
        Self(Arc::new(Shared {
            clock,
            state: Mutex::new(State {
                about,
                roster: Roster::new(seed),
                waiters: HashMap::new(),
                last_waiter: 0,
                watched: HashMap::new(),
                armed: None,
                stopping: false,
            }),
            changed: Notify::new(),
        }))
    }

    /// Answers a caller, at its deadline at the latest. `who` names it to the operator.
    ///
    /// # Errors
    ///
    /// A [`Refusal`] says why there is no token.
    pub async fn token(&self, request: &TokenRequest, who: &str) -> Reply {
        let now = self.0.clock.now();
        let time_left = Duration::from_millis(request.time_left_ms.min(MAX_TIME_LEFT_MS));
        let ask = Ask {
            min_ttl: request.min_ttl_ms.map(Duration::from_millis),
            deadline: now + time_left,
            renew: request.renew,
        };
        let (waiter, set, answer) = {
            let mut state = self.state();
            let set = state.find(&request.asked)?;
            if state.stopping {
                return Err(stopping());
            }
            if let Some(Renew::Rejected(generation)) = request.renew {
                let who = who.to_owned();
                state.roster.note_rejection(set, generation, who);
            }
            state.last_waiter += 1;
            let waiter = WaiterId(state.last_waiter);
            let reply = state.roster.request(set, waiter, &ask, now);
            // A cached token leaves the loop asleep.
            if state.roster.wants_attention(state.armed) {
                self.0.changed.notify_one();
            }
            if let Some(reply) = reply {
                return reply;
            }
            let (sender, answer) = oneshot::channel();
            state.waiters.insert(waiter, sender);
            (waiter, set, answer)
        };
        let leaving = Leaving {
            broker: self,
            set,
            waiter,
        };
        let reply = answer.await;
        std::mem::forget(leaving);
        reply.unwrap_or_else(|_| Err(stopping()))
    }

    /// The token of a set, then each new one.
    ///
    /// # Errors
    ///
    /// A [`Refusal`] says why there is nothing to watch.
    pub fn watch(&self, asked: &Asked) -> Result<Watch<C>, Refusal> {
        let mut state = self.state();
        let set = state.find(asked)?;
        if state.stopping {
            return Err(stopping());
        }
        let changed = state.watched.entry(set);
        let changed = changed.or_insert_with(|| signal::Sender::new(()));
        Ok(Watch::new(self.clone(), set, changed.subscribe()))
    }

    /// The config file can't be taken up, and why; `None` once it can be again. Says whether that
    /// is news.
    #[must_use]
    pub fn set_config_error(&self, error: Option<String>) -> bool {
        let mut state = self.state();
        let known = std::mem::replace(&mut state.about.status.config_error, error);
        known != state.about.status.config_error
    }

    /// The state of the daemon and of all its scope sets, as the frames of the answer.
    #[must_use]
    pub fn status(&self) -> Vec<Response> {
        let now = self.0.clock.now();
        let state = self.state();
        let sets = state.roster.status(now).map(Response::Scope);
        let mut answer = vec![Response::Broker(state.about.status.clone())];
        answer.extend(sets);
        answer.push(Response::End);
        answer
    }

    /// The client that `asked` means and the set that it names, if they are there.
    ///
    /// # Errors
    ///
    /// A [`Refusal`] names what there is instead.
    pub fn resolve(&self, asked: &Asked) -> Result<(String, ScopeSet), Refusal> {
        let state = self.state();
        let set = state.find(asked)?;
        let name = state.roster.name_of(set);
        name.map(|(client, scope)| (client.to_owned(), scope.clone()))
            .ok_or_else(stopping)
    }

    /// A session's panic must not take the others down, and no method leaves the state half done.
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// When the loop has to wake up by itself.
    fn arm(&mut self) -> Option<BootTime> {
        self.armed = self.roster.poll_timeout();
        self.armed
    }

    fn find(&self, asked: &Asked) -> Result<SetId, Refusal> {
        let default = self.about.default_client.as_deref();
        let Some(client) = asked.client.as_deref().or(default) else {
            return Err(no_client_named(&self.roster));
        };
        let scope = ScopeSet::parse(&asked.scope).map_err(|error| Refusal {
            kind: RefusalKind::UnknownScope,
            cause: error.to_string(),
            next_attempt: None,
        })?;
        let found = self.roster.find(client, &scope);
        found.map_err(|unknown| match unknown {
            Unknown::Client => unknown_client(client, &self.roster),
            Unknown::Scope(known) => unknown_scope(client, &scope, &known),
        })
    }
}

/// Takes a caller off the list when its session ends before its answer.
struct Leaving<'a, C: Clock> {
    broker: &'a Broker<C>,
    set: SetId,
    waiter: WaiterId,
}

impl<C: Clock> Drop for Leaving<'_, C> {
    fn drop(&mut self) {
        let now: BootTime = self.broker.0.clock.now();
        let mut state = self.broker.state();
        state.waiters.remove(&self.waiter);
        state.roster.forget(self.set, self.waiter, now);
    }
}

fn stopping() -> Refusal {
    Refusal {
        kind: RefusalKind::Busy,
        cause: "the broker is stopping".to_owned(),
        next_attempt: None,
    }
}

fn no_client_named(roster: &Roster) -> Refusal {
    let names = list(roster.client_names());
    Refusal {
        kind: RefusalKind::UnknownClient,
        cause: format!("name a client, there is no default: one of {names}"),
        next_attempt: None,
    }
}

fn unknown_client(client: &str, roster: &Roster) -> Refusal {
    let names = list(roster.client_names());
    Refusal {
        kind: RefusalKind::UnknownClient,
        cause: format!(
            "no client {client:?}; there is {names}; a new one is a [clients.NAME] table in the \
             broker's config"
        ),
        next_attempt: None,
    }
}

fn unknown_scope(client: &str, scope: &ScopeSet, known: &[ScopeSet]) -> Refusal {
    let sets = list(known.iter().map(ScopeSet::as_str));
    Refusal {
        kind: RefusalKind::UnknownScope,
        cause: format!(
            "client \"{client}\" has no scope set \"{scope}\"; it has {sets}; to add it, put \
             \"{scope}\" into tokens of [clients.{client}] in the broker's config"
        ),
        next_attempt: None,
    }
}

/// Names for a person, as many as fit a line.
fn list<'a>(names: impl Iterator<Item = &'a str>) -> String {
    const SHOWN: usize = 20;
    let names: Vec<&str> = names.collect();
    let shown: Vec<String> = names
        .iter()
        .take(SHOWN)
        .map(|name| format!("\"{name}\""))
        .collect();
    let more = names.len().saturating_sub(SHOWN);
    if more > 0 {
        return format!("{} and {more} more", shown.join(", "));
    }
    shown.join(", ")
}

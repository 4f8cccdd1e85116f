//! Simulated callers and watchers, and the invariants of their replies.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use domo_token::broker::{Broker, Watch};
use domo_token::platform::clock::{BootTime, Clock};
use domo_token_core::access_policy;
use domo_token_core::schedule::{Reply, floor, min_left_to_serve};
use domo_token_core::token::Token;
use domo_token_protocol::frame;
use domo_token_protocol::messages::{
    Refusal, RefusalKind, Renew, Response, TokenAnswer, TokenRequest, TokenSubject,
};
use tokio::task::AbortHandle;

use crate::clock::SimClock;
use crate::domo::{Domo, Key};

/// One waiting caller.
struct Caller {
    key: Key,
    request: TokenRequest,
    deadline: BootTime,
    /// How often its scope set had been removed at its request.
    removals: u32,
    handle: Option<AbortHandle>,
}

struct Watcher {
    key: Key,
    last_seen: Option<LastSeen>,
    /// How often its scope set had been removed when it began to watch.
    removals: u32,
}

/// What a watcher received last.
#[derive(Clone, Debug, PartialEq, Eq)]
enum LastSeen {
    Token(String, u64),
    NoToken,
}

#[derive(Default)]
struct State {
    last: u64,
    callers: BTreeMap<u64, Caller>,
    watchers: BTreeMap<u64, Watcher>,
    generations: BTreeMap<Key, u64>,
    answers: u64,
    tokens: u64,
    stopping: bool,
}

/// All callers and watchers. Clones share their state.
#[derive(Clone)]
pub(crate) struct Callers {
    domo: Domo,
    broker: Broker<SimClock>,
    state: Arc<Mutex<State>>,
}

impl Callers {
    pub(crate) fn new(domo: Domo, broker: Broker<SimClock>) -> Self {
        Self {
            domo,
            broker,
            state: Arc::default(),
        }
    }

    /// Returns the generation of a scope set that a caller received last.
    pub(crate) fn seen(&self, key: &Key) -> u64 {
        self.state().generations.get(key).copied().unwrap_or(0)
    }

    /// Returns the number of replies.
    pub(crate) fn answers(&self) -> u64 {
        self.state().answers
    }

    pub(crate) fn tokens(&self) -> u64 {
        self.state().tokens
    }

    pub(crate) fn stopping(&self) {
        self.state().stopping = true;
    }

    pub(crate) fn request(
        &self,
        key: &Key,
        wait: Duration,
        min_left: Option<Duration>,
        renew: Option<Renew>,
    ) {
        let millis = |span: Duration| u64::try_from(span.as_millis()).unwrap();
        let request = TokenRequest {
            subject: subject(key),
            min_ttl_ms: min_left.map(millis),
            time_left_ms: millis(wait),
            renew,
        };
        let caller = Caller {
            key: key.clone(),
            request: request.clone(),
            deadline: self.domo.clock.now() + wait,
            removals: self.domo.removals(key),
            handle: None,
        };
        let mut state = self.state();
        state.last += 1;
        let id = state.last;
        state.callers.insert(id, caller);
        drop(state);
        let this = self.clone();
        let task = tokio::spawn(async move {
            this.started(id, wait);
            let reply = this
                .broker
                .token(&request, &access_policy::Caller::default())
                .await;
            this.answered(id, &reply);
        });
        if let Some(caller) = self.state().callers.get_mut(&id) {
            caller.handle = Some(task.abort_handle());
        }
    }

    /// Sets the deadline: time may have passed before the request starts.
    fn started(&self, id: u64, wait: Duration) {
        if let Some(caller) = self.state().callers.get_mut(&id) {
            caller.deadline = self.domo.clock.now() + wait;
        }
    }

    /// Cancels the request of the caller that has waited longest.
    pub(crate) fn cancel_first(&self) {
        let first = self.state().callers.pop_first();
        if let Some(handle) = first.and_then(|(_, caller)| caller.handle) {
            handle.abort();
        }
    }

    pub(crate) fn watch(&self, key: &Key) {
        let Ok(mut watch) = self
            .broker
            .watch(&subject(key), &access_policy::Caller::default())
        else {
            return;
        };
        let mut state = self.state();
        state.last += 1;
        let id = state.last;
        let watcher = Watcher {
            key: key.clone(),
            last_seen: None,
            removals: self.domo.removals(key),
        };
        state.watchers.insert(id, watcher);
        drop(state);
        let this = self.clone();
        tokio::spawn(async move { this.follow(id, &mut watch).await });
    }

    async fn follow(&self, id: u64, watch: &mut Watch<SimClock>) {
        loop {
            let reply = watch.next().await;
            if let Err(refusal) = &reply
                && refusal.kind != RefusalKind::Unavailable
            {
                self.watch_ended(id, refusal);
                return;
            }
            if let Some(problem) = self.check_watcher(id, &reply) {
                self.domo.violated(problem);
            }
        }
    }

    /// Checks the refusal that ends a watch.
    fn watch_ended(&self, id: u64, refusal: &Refusal) {
        let mut state = self.state();
        let Some(watcher) = state.watchers.remove(&id) else {
            return;
        };
        let stopping = state.stopping;
        drop(state);
        let is_gone = self.domo.removals(&watcher.key) > watcher.removals;
        let expected = refusal.kind == RefusalKind::Gone && is_gone
            || refusal.kind == RefusalKind::Busy && stopping;
        if !expected {
            let key = watcher.key;
            self.domo
                .violated(format!("a watcher of {key:?} got {refusal:?}"));
        }
    }

    /// Checks, when no task can run, that no caller waits past its deadline or for a removed scope set, and that each
    /// watcher has received the current state.
    pub(crate) fn check(&self) -> Option<String> {
        let now = self.domo.clock.now();
        let state = self.state();
        let late = state.callers.values().find(|c| c.deadline <= now);
        if let Some(late) = late {
            return Some(format!(
                "no answer by {}: {:?}",
                late.deadline, late.request
            ));
        }
        let callers = state.callers.values().map(|c| (&c.key, c.removals));
        let watchers = state.watchers.values().map(|w| (&w.key, w.removals));
        let mut all = callers.chain(watchers);
        if let Some((key, _)) = all.find(|(key, removals)| self.domo.removals(key) > *removals) {
            return Some(format!(
                "a caller or watcher waits for {key:?}, which was removed"
            ));
        }
        for Watcher { key, last_seen, .. } in state.watchers.values() {
            let knows = match (self.domo.valid_token(key), last_seen) {
                (Some(held), Some(LastSeen::Token(text, _))) => held.text == *text,
                (Some(_), _) | (None, Some(LastSeen::Token(..))) => false,
                (None, Some(LastSeen::NoToken) | None) => true,
            };
            if !knows {
                let held = self.domo.valid_token(key);
                return Some(format!(
                    "a watcher of {key:?} received {last_seen:?}, not {held:?}"
                ));
            }
        }
        None
    }

    fn answered(&self, id: u64, reply: &Reply) {
        let mut state = self.state();
        state.answers += 1;
        let Some(caller) = state.callers.remove(&id) else {
            return;
        };
        let stopping = state.stopping;
        let problem = match reply {
            Ok(token) => {
                state.tokens += 1;
                let generation = token.validity().generation;
                state.generations.insert(caller.key.clone(), generation);
                drop(state);
                self.check_token(&caller, token)
            }
            Err(refusal) => {
                drop(state);
                self.check_refusal(&caller, refusal, stopping)
            }
        };
        if let Some(problem) = problem {
            self.domo
                .violated(format!("{problem}: {:?} got {reply:?}", caller.request));
        }
    }

    /// Checks invariant (a): a served token is valid for as long as the caller requires.
    fn check_token(&self, caller: &Caller, token: &Token) -> Option<String> {
        let now = self.domo.clock.now();
        let validity = token.validity();
        let min_left = caller.request.min_ttl_ms.map(Duration::from_millis);
        let min_left = min_left
            .unwrap_or_default()
            .max(min_left_to_serve(validity.lifetime));
        if validity.left(now) < min_left {
            return Some(format!("a token with {:?} left", validity.left(now)));
        }
        if caller.request.renew == Some(Renew::Rejected(validity.generation)) {
            return Some("the token that the caller reports as rejected".to_owned());
        }
        let answer = answer_of(token);
        let text = answer.access_token.expose();
        let is = |text_of: &str, expires| text_of == text && expires == validity.expires;
        match self.domo.valid_token(&caller.key) {
            Some(held) if is(&held.text, held.expires) => None,
            // Its successor was obtained at this time, and the broker has not applied it yet.
            Some(held)
                if held.since == now
                    && held
                        .previous
                        .as_ref()
                        .is_some_and(|(text, end)| is(text, *end)) =>
            {
                None
            }
            Some(held) if held.text == text => {
                Some(format!("an expiry that is not {}", held.expires))
            }
            held => Some(format!("a token that is not the newest, {held:?}")),
        }
    }

    /// Checks invariant (d): an error never replaces a valid token, and refusals are true.
    fn check_refusal(&self, caller: &Caller, refusal: &Refusal, stopping: bool) -> Option<String> {
        let now = self.domo.clock.now();
        let request = &caller.request;
        if refusal.cause.contains("c4nary") {
            return Some("a secret in a refusal".to_owned());
        }
        match refusal.kind {
            RefusalKind::Busy => return (!stopping).then(|| "busy".to_owned()),
            RefusalKind::Gone => {
                let is_gone = self.domo.removals(&caller.key) > caller.removals;
                return (!is_gone).then(|| "gone, though it was not removed".to_owned());
            }
            RefusalKind::UnknownScope => {
                return (caller.removals == 0).then(|| "unknown, though it exists".to_owned());
            }
            RefusalKind::MinTtlTooLong => return self.check_too_long(caller),
            RefusalKind::NotPermitted | RefusalKind::UnknownClient => {
                return Some("refused for no reason".to_owned());
            }
            RefusalKind::Denied if !self.domo.rejects(&caller.key) => {
                return Some("denied, though Domo doesn't".to_owned());
            }
            RefusalKind::Denied | RefusalKind::Unavailable => {}
        }
        let plain = request.min_ttl_ms.is_none() && request.renew.is_none();
        // A token that is obtained at the time of the deadline may be too late.
        let too_late = |since| since == now && now >= caller.deadline;
        let usable = self.domo.valid_token(&caller.key).filter(|held| {
            let left = held.expires.saturating_since(now);
            left >= min_left_to_serve(held.lifetime) && !too_late(held.since)
        });
        if plain && usable.is_some() {
            return Some(format!("refused while {usable:?} is valid"));
        }
        let next = refusal.next_attempt;
        if next.is_some_and(|at| at < now) {
            return Some(format!("a next attempt in the past, now is {now}"));
        }
        let early = refusal.kind == RefusalKind::Unavailable && now < caller.deadline;
        if early && next.is_none() {
            return Some("refused early without the time of the next attempt".to_owned());
        }
        let early_denied = refusal.kind == RefusalKind::Denied && now < caller.deadline;
        let in_time = next.is_none_or(|at| at < caller.deadline);
        if early_denied && in_time && self.domo.awaits_confirmation(&caller.key) {
            return Some("denied though the confirmation is due in time".to_owned());
        }
        if plain && early && next.is_some_and(|at| at < caller.deadline) {
            return Some("refused though an attempt is due in time".to_owned());
        }
        None
    }

    fn check_too_long(&self, caller: &Caller) -> Option<String> {
        let min_ttl = Duration::from_millis(caller.request.min_ttl_ms.unwrap_or(0));
        let Some(lifetime) = self.domo.lifetime(&caller.key) else {
            return Some("too long, though no lifetime is known".to_owned());
        };
        let most = lifetime.saturating_sub(floor(lifetime));
        (min_ttl <= most).then(|| format!("too long, though {most:?} is allowed"))
    }

    fn check_watcher(&self, id: u64, reply: &Reply) -> Option<String> {
        let mut state = self.state();
        state.answers += 1;
        let Watcher { key, last_seen, .. } = state.watchers.get_mut(&id)?;
        let before = last_seen.clone();
        let is = match reply {
            Ok(token) => {
                let text = answer_of(token).access_token.expose().to_owned();
                LastSeen::Token(text, token.validity().generation)
            }
            Err(_) => LastSeen::NoToken,
        };
        *last_seen = Some(is.clone());
        let held = self.domo.valid_token(key);
        if before.as_ref() == Some(&is) {
            return Some(format!("a watcher received {is:?} twice"));
        }
        match (&is, held) {
            (LastSeen::Token(text, _), Some(held)) if held.text == *text => None,
            (LastSeen::NoToken, None) => None,
            // It was obtained at the expiry of the old one, and is sent next.
            (LastSeen::NoToken, Some(held)) if held.since == self.domo.clock.now() => None,
            (_, held) => Some(format!("a watcher received {is:?}, not {held:?}")),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }
}

fn subject(key: &Key) -> TokenSubject {
    TokenSubject {
        client: Some(key.0.clone()),
        scope: key.1.as_str().to_owned(),
    }
}

/// Decodes a token's frame.
fn answer_of(token: &Token) -> TokenAnswer {
    let (body, _) = frame::split(token.frame()).unwrap().unwrap();
    let Response::Token(answer) = frame::decode(body).unwrap() else {
        panic!("a token's frame is no token");
    };
    answer
}

//! Simulated callers and watchers, and what they must never see.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use domo_token::broker::{Broker, Watch};
use domo_token::platform::clock::{BootTime, Clock};
use domo_token_core::policy;
use domo_token_core::schedule::{Reply, floor, min_left_to_serve};
use domo_token_core::token::Token;
use domo_token_protocol::frame;
use domo_token_protocol::messages::{
    Asked, Refusal, RefusalKind, Renew, Response, TokenAnswer, TokenRequest,
};
use tokio::task::AbortHandle;

use crate::clock::SimClock;
use crate::domo::{Domo, Key};

/// One caller that waits.
struct Caller {
    key: Key,
    request: TokenRequest,
    deadline: BootTime,
    /// How often its set had been removed when it asked.
    removals: u32,
    handle: Option<AbortHandle>,
}

struct Watcher {
    key: Key,
    told: Option<LastSeen>,
    /// How often its set had been removed when it began.
    removals: u32,
}

/// What a watcher was told last.
#[derive(Clone, Debug, PartialEq, Eq)]
enum LastSeen {
    Token(String, u64),
    Down,
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

/// Everybody who asks. Clones are the same crowd.
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

    /// The generation of a set that some caller has seen last.
    pub(crate) fn seen(&self, key: &Key) -> u64 {
        self.state().generations.get(key).copied().unwrap_or(0)
    }

    /// Grows with every answer.
    pub(crate) fn answers(&self) -> u64 {
        self.state().answers
    }

    pub(crate) fn tokens(&self) -> u64 {
        self.state().tokens
    }

    pub(crate) fn stopping(&self) {
        self.state().stopping = true;
    }

    pub(crate) fn ask(
        &self,
        key: &Key,
        wait: Duration,
        least: Option<Duration>,
        renew: Option<Renew>,
    ) {
        let millis = |span: Duration| u64::try_from(span.as_millis()).unwrap();
        let request = TokenRequest {
            asked: asked(key),
            min_ttl_ms: least.map(millis),
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
            this.begins(id, wait);
            let reply = this
                .broker
                .token(&request, &policy::Caller::default())
                .await;
            this.answered(id, &reply);
        });
        if let Some(caller) = self.state().callers.get_mut(&id) {
            caller.handle = Some(task.abort_handle());
        }
    }

    /// Time may have passed before it came to ask.
    fn begins(&self, id: u64, wait: Duration) {
        if let Some(caller) = self.state().callers.get_mut(&id) {
            caller.deadline = self.domo.clock.now() + wait;
        }
    }

    /// The caller that has waited longest gives up.
    pub(crate) fn leave(&self) {
        let first = self.state().callers.pop_first();
        if let Some(handle) = first.and_then(|(_, caller)| caller.handle) {
            handle.abort();
        }
    }

    pub(crate) fn watch(&self, key: &Key) {
        let Ok(mut watch) = self.broker.watch(&asked(key), &policy::Caller::default()) else {
            return;
        };
        let mut state = self.state();
        state.last += 1;
        let id = state.last;
        let watcher = Watcher {
            key: key.clone(),
            told: None,
            removals: self.domo.removals(key),
        };
        state.watchers.insert(id, watcher);
        drop(state);
        let this = self.clone();
        tokio::spawn(async move { this.listen(id, &mut watch).await });
    }

    async fn listen(&self, id: u64, watch: &mut Watch<SimClock>) {
        loop {
            let news = watch.next().await;
            if let Err(refusal) = &news
                && refusal.kind != RefusalKind::Unavailable
            {
                self.dismissed(id, refusal);
                return;
            }
            if let Some(problem) = self.told(id, &news) {
                self.domo.violated(problem);
            }
        }
    }

    /// A watcher's last news.
    fn dismissed(&self, id: u64, refusal: &Refusal) {
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

    /// Called when nothing moves any more: nobody waits past its deadline or for what is gone, and
    /// every watcher knows.
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
            return Some(format!("somebody waits for {key:?}, which is gone"));
        }
        for Watcher { key, told, .. } in state.watchers.values() {
            let knows = match (self.domo.held(key), told) {
                (Some(held), Some(LastSeen::Token(text, _))) => held.text == *text,
                (Some(_), _) | (None, Some(LastSeen::Token(..))) => false,
                (None, Some(LastSeen::Down) | None) => true,
            };
            if !knows {
                let held = self.domo.held(key);
                return Some(format!("a watcher of {key:?} knows {told:?}, not {held:?}"));
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
                let generation = token.life().generation;
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

    /// Invariant (a): a token that is handed out lives, and lives as long as was asked for.
    fn check_token(&self, caller: &Caller, token: &Token) -> Option<String> {
        let now = self.domo.clock.now();
        let life = token.life();
        let least = caller.request.min_ttl_ms.map(Duration::from_millis);
        let least = least
            .unwrap_or_default()
            .max(min_left_to_serve(life.lifetime));
        if life.left(now) < least {
            return Some(format!("a token with {:?} left", life.left(now)));
        }
        if caller.request.renew == Some(Renew::Rejected(life.generation)) {
            return Some("the very token it was refused with".to_owned());
        }
        let answer = answer_of(token);
        let text = answer.access_token.expose();
        let is = |text_of: &str, expires| text_of == text && expires == life.expires;
        match self.domo.held(&caller.key) {
            Some(held) if is(&held.text, held.expires) => None,
            // Its successor came in this very moment, and nobody has looked at it yet.
            Some(held)
                if held.since == now
                    && held
                        .before
                        .as_ref()
                        .is_some_and(|(text, end)| is(text, *end)) =>
            {
                None
            }
            Some(held) if held.text == text => {
                Some(format!("a life that ends not at {}", held.expires))
            }
            held => Some(format!("a token that isn't the newest, {held:?}")),
        }
    }

    /// Invariant (d): an error never replaces a living token; and what a refusal says is true.
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
                return (!is_gone).then(|| "gone, though it is there".to_owned());
            }
            RefusalKind::UnknownScope => {
                return (caller.removals == 0).then(|| "unknown, though it is there".to_owned());
            }
            RefusalKind::MinTtlTooLong => return self.check_too_long(caller),
            RefusalKind::NotPermitted | RefusalKind::UnknownClient => {
                return Some("refused for no reason".to_owned());
            }
            RefusalKind::Denied if !self.domo.refuses(&caller.key) => {
                return Some("denied, though Domo doesn't".to_owned());
            }
            RefusalKind::Denied | RefusalKind::Unavailable => {}
        }
        let plain = request.min_ttl_ms.is_none() && request.renew.is_none();
        // A token that comes in the very moment of the deadline may come too late.
        let too_late = |since| since == now && now >= caller.deadline;
        let usable = self.domo.held(&caller.key).filter(|held| {
            let left = held.expires.saturating_since(now);
            left >= min_left_to_serve(held.lifetime) && !too_late(held.since)
        });
        if plain && usable.is_some() {
            return Some(format!("refused while {usable:?} lives"));
        }
        let next = refusal.next_attempt;
        if next.is_some_and(|at| at < now) {
            return Some(format!("a next attempt in the past, now is {now}"));
        }
        let early = refusal.kind == RefusalKind::Unavailable && now < caller.deadline;
        if early && next.is_none() {
            return Some("refused early, and nobody says when to come again".to_owned());
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
        let asked = Duration::from_millis(caller.request.min_ttl_ms.unwrap_or(0));
        let Some(lifetime) = self.domo.lifetime(&caller.key) else {
            return Some("too long, though no lifetime is known".to_owned());
        };
        let most = lifetime.saturating_sub(floor(lifetime));
        (asked <= most).then(|| format!("too long, though {most:?} may be asked"))
    }

    fn told(&self, id: u64, news: &Reply) -> Option<String> {
        let mut state = self.state();
        state.answers += 1;
        let Watcher { key, told, .. } = state.watchers.get_mut(&id)?;
        let before = told.clone();
        let is = match news {
            Ok(token) => {
                let text = answer_of(token).access_token.expose().to_owned();
                LastSeen::Token(text, token.life().generation)
            }
            Err(_) => LastSeen::Down,
        };
        *told = Some(is.clone());
        let held = self.domo.held(key);
        if before.as_ref() == Some(&is) {
            return Some(format!("a watcher was told twice of {is:?}"));
        }
        match (&is, held) {
            (LastSeen::Token(text, _), Some(held)) if held.text == *text => None,
            (LastSeen::Down, None) => None,
            // It came in the very moment of the old one's death, and is told of next.
            (LastSeen::Down, Some(held)) if held.since == self.domo.clock.now() => None,
            (_, held) => Some(format!("a watcher was told {is:?}, not {held:?}")),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }
}

fn asked(key: &Key) -> Asked {
    Asked {
        client: Some(key.0.clone()),
        scope: key.1.as_str().to_owned(),
    }
}

/// What a caller reads of a token.
fn answer_of(token: &Token) -> TokenAnswer {
    let (body, _) = frame::split(token.frame()).unwrap().unwrap();
    let Response::Token(answer) = frame::decode(body).unwrap() else {
        panic!("a token's frame is no token");
    };
    answer
}

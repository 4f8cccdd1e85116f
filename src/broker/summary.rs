//! The broker's state in one line, for `systemctl status`.

use domo_token_client::duration::show;
use domo_token_client::wire::{ScopeState, ScopeStatus};

use super::Broker;
use crate::clock::{BootTime, Clock};

impl<C: Clock> Broker<C> {
    /// How many tokens live, what is wrong first of all, and what to do.
    #[must_use]
    pub fn summary(&self) -> String {
        let now = self.0.clock.now();
        let state = self.state();
        let sets: Vec<ScopeStatus> = state.roster.status(now).collect();
        let words = tokens(&sets, now);
        match &state.about.status.config_error {
            Some(error) => format!("the config is not taken up: {error}; {words}"),
            None => words,
        }
    }
}

fn tokens(sets: &[ScopeStatus], now: BootTime) -> String {
    let all = sets.len();
    let living = sets.iter().filter(|set| set.expires.is_some()).count();
    let trouble = |state| sets.iter().find(|set| set.state == state);
    let refused = trouble(ScopeState::Denied).map(|set| {
        let words = set.last_error.as_deref().unwrap_or("no reason given");
        let name = name(set);
        // What to do comes first, since a long answer of Domo's is cut.
        format!("{name} is refused; mend it, and reload: {words}")
    });
    let failing = trouble(ScopeState::Waiting).map(|set| {
        let words = set.last_error.as_deref().unwrap_or("no reason given");
        format!("{} fails: {words}", name(set))
    });
    let counted = match (living == all, all) {
        (true, 1) => "1 token fresh".to_owned(),
        (true, all) => format!("{all} tokens fresh"),
        (false, all) => format!("{living} of {all} tokens there"),
    };
    if let Some(trouble) = refused.or(failing) {
        return format!("{counted}; {trouble}");
    }
    if living == 0 {
        return "listening, the first tokens are on their way".to_owned();
    }
    let next = sets.iter().filter_map(|set| set.next_attempt).min();
    match next {
        Some(next) => format!(
            "{counted}, next renewal in {}",
            show(next.saturating_since(now))
        ),
        None => counted,
    }
}

fn name(set: &ScopeStatus) -> String {
    format!("client \"{}\", scope set \"{}\"", set.client, set.scope)
}

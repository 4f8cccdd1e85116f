//! The broker's state in one line, for `systemctl status`.
//!
//! Every local user can read that line, so it has counts and the command to run, and never a name or
//! a message, which access tables may hide.

use domo_token_protocol::duration::show;
use domo_token_protocol::messages::{ScopeState, ScopeStatus};

use super::Broker;
use crate::platform::clock::{BootTime, Clock};
use crate::platform::systemd;

/// Shows the tokens' states and errors to callers that may see them.
const SHOW_STATUS: &str = "domo-token status";

/// Shows what is wrong with the config.
const CHECK_CONFIG: &str = "domo-tokend check";

impl<C: Clock> Broker<C> {
    /// Returns how many tokens are valid, what is wrong, and the command that shows more.
    #[must_use]
    pub fn summary(&self) -> String {
        let now = self.0.clock.now();
        let state = self.state();
        // Clients that could not be loaded are counted separately.
        let is_loaded = |set: &ScopeStatus| {
            let config = &state.config;
            config.origins.contains_key(&set.client)
                || !config.daemon.load_errors.contains_key(&set.client)
        };
        let sets: Vec<ScopeStatus> = state.scheduler.status(now).filter(is_loaded).collect();
        let (mut parts, failing) = counts(&sets);
        let not_loaded = state.config.daemon.load_errors.len();
        let is_fleet_broken = state.config.daemon.is_fleet_broken();
        let is_rejected = state.config.daemon.status.config_error.is_some();
        let lost_socket = state.socket_error.is_some();
        let command = match (
            lost_socket,
            is_rejected || not_loaded > 0 || is_fleet_broken,
            failing,
        ) {
            (true, ..) => systemd::restart_socket_command(),
            (false, true, _) => CHECK_CONFIG,
            (false, false, true) => SHOW_STATUS,
            (false, false, false) => {
                parts.extend(next_renewal(&sets, now));
                return parts.join(", ");
            }
        };
        match not_loaded {
            0 => {}
            1 => parts.push("1 client not loaded".to_owned()),
            many => parts.push(format!("{many} clients not loaded")),
        }
        if is_fleet_broken {
            parts.push("tokens not shared".to_owned());
        }
        if is_rejected {
            parts.insert(0, "config not applied".to_owned());
        }
        if lost_socket {
            parts.insert(0, "callers cannot connect".to_owned());
        }
        format!("{}; run: {command}", parts.join(", "))
    }
}

/// Returns the counts, and whether any scope set fails.
fn counts(sets: &[ScopeStatus]) -> (Vec<String>, bool) {
    let all = sets.len();
    let valid = sets.iter().filter(|set| set.expires.is_some()).count();
    let in_state = |state| sets.iter().filter(|set| set.state == state).count();
    let rejected = in_state(ScopeState::Denied);
    let failing = in_state(ScopeState::Waiting);
    if valid == 0 && rejected + failing == 0 {
        return (vec!["requesting the first tokens".to_owned()], false);
    }
    let mut parts = vec![match (valid == all, all) {
        (true, 1) => "1 token fresh".to_owned(),
        (true, all) => format!("{all} tokens fresh"),
        (false, 1) => "0 of 1 token fresh".to_owned(),
        (false, all) => format!("{valid} of {all} tokens fresh"),
    }];
    if rejected > 0 {
        // By Domo, or by the proxy.
        parts.push(format!("{rejected} rejected"));
    }
    if failing > 0 {
        parts.push(format!("{failing} failing"));
    }
    (parts, rejected + failing > 0)
}

fn next_renewal(sets: &[ScopeStatus], now: BootTime) -> Option<String> {
    let next = sets.iter().filter_map(|set| set.next_attempt).min()?;
    let left = show(next.saturating_since(now));
    Some(format!("next renewal in {left}"))
}

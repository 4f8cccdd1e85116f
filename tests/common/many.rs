//! Several API clients, each with its own sandbox.

use std::fmt::Write as _;
use std::time::Duration;

use domo_sandbox::{Fault, Sandbox};
use domo_token_client::ScopeState;
use serde_json::Value;

use super::wait::until;
use super::{Daemon, client_text, sandbox};

/// Returns a sandbox for each fault. The fault begins with the first request, or with the second one.
pub(crate) fn sandboxes(faults: &[Fault], lifetime: Duration, begins_well: bool) -> Vec<Sandbox> {
    let with = |fault: &Fault| {
        let sandbox = sandbox(lifetime);
        let first = if begins_well {
            Fault::default()
        } else {
            fault.clone()
        };
        sandbox.script([first, fault.clone()]);
        sandbox
    };
    faults.iter().map(with).collect()
}

/// A config with one client per sandbox: `client0`, `client1` and so on.
pub(crate) fn config_with_clients(sandboxes: &[Sandbox]) -> String {
    let mut text = String::new();
    for (number, sandbox) in sandboxes.iter().enumerate() {
        let client = client_text(&format!("client{number}"), sandbox, "[\"data\"]");
        writeln!(text, "{client}").unwrap();
    }
    text
}

/// Waits until the scope set of client `number` has this state, and returns its status.
pub(crate) fn wait_for_state(daemon: &Daemon, number: usize, state: ScopeState) -> Value {
    let name = format!("client{number}");
    let broker = daemon.broker();
    until(|| {
        let mut sets = broker.status().unwrap().scopes.into_iter();
        match sets.find(|set| set.client == name).unwrap() {
            set if set.state == state => Ok(()),
            other => Err(other.state),
        }
    });
    let status = daemon.status();
    let sets = status["tokens"].as_array().unwrap();
    let found = sets.iter().find(|set| set["client"] == name);
    found.unwrap().clone()
}

/// The seconds from the failure to the next attempt.
pub(crate) fn retry_pause(set: &Value) -> u64 {
    set["next_attempt_at"].as_u64().unwrap() - set["last_error_at"].as_u64().unwrap()
}

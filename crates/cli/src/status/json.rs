//! The state as one line of JSON. New versions only add fields.

use std::time::SystemTime;

use domo_token_client::{BrokerInstant, ScopeState};
use domo_token_protocol::BootTime;
use serde_json::{Value, json};

use super::State;
use crate::output::epoch;

/// Formats the state; `now` and `wall` are the same moment.
pub(super) fn of(state: &State, now: BootTime, wall: SystemTime) -> String {
    let status = &state.status;
    let at = |instant: Option<BrokerInstant>| {
        instant.map(|instant| epoch(instant.boot_time().to_wall(now, wall)))
    };
    let broker = &status.broker;
    let scopes: Vec<Value> = status
        .scopes
        .iter()
        .map(|set| {
            json!({
                "client": set.client,
                "client_id": set.client_id,
                "scope": set.scope,
                "state": state_name(set.state),
                "obtained_at": at(set.obtained),
                "expires_at": at(set.expires),
                "generation": set.generation,
                "next_attempt_at": at(set.next_attempt),
                "requests": set.requests,
                "failed_attempts": set.failed_attempts,
                "last_error": set.last_error,
                "last_error_at": at(set.last_error_at),
                "rejected": set.rejected,
                "last_rejected_by": set.last_rejected_by,
                "credentials_error": set.credentials_error,
            })
        })
        .collect();
    let all = json!({
        "broker": {
            "socket": status.socket.display().to_string(),
            "version": broker.version,
            "protocol": broker.protocol,
            "pid": broker.pid,
            "started_at": at(Some(broker.started)),
            "config_path": broker.config_path,
            "config_loaded_at": at(Some(broker.config_loaded)),
            "config_error": broker.config_error,
            "default_client": state.default_client,
        },
        "tokens": scopes,
    });
    format!("{all}\n")
}

fn state_name(state: ScopeState) -> &'static str {
    match state {
        ScopeState::Idle => "idle",
        ScopeState::Fetching => "fetching",
        ScopeState::Fresh => "fresh",
        ScopeState::Waiting => "waiting",
        ScopeState::Rejected | _ => "denied",
    }
}

//! The state as one line of JSON. New versions only add fields.

use std::time::SystemTime;

use domo_token_client::{BrokerInstant, ScopeState, TokenOrigin};
use domo_token_protocol::{BootTime, json};

use super::State;
use crate::output::{epoch, to_json};

/// Formats the state; `now` and `wall` are the same moment.
pub(super) fn of(state: &State, now: BootTime, wall: SystemTime) -> String {
    let status = &state.status;
    let epoch_of = |instant: BrokerInstant| epoch(instant.boot_time().to_wall(now, wall));
    let at = |instant: Option<BrokerInstant>| instant.map(epoch_of);
    let broker = &status.broker;
    let tokens = status.scopes.iter().map(|set| json::Scope {
        client: &set.client,
        client_id: &set.client_id,
        credentials_error: set.credentials_error.as_deref(),
        expires_at: at(set.expires),
        failed_attempts: set.failed_attempts,
        from: set.from.map(origin_name),
        generation: set.generation,
        last_error: set.last_error.as_deref(),
        last_error_at: at(set.last_error_at),
        last_rejected_by: set.last_rejected_by.as_deref(),
        next_attempt_at: at(set.next_attempt),
        obtained_at: at(set.obtained),
        rejected: set.rejected,
        requests: set.requests,
        scope: &set.scope,
        state: state_name(set.state),
    });
    let apps = broker.apps.iter().map(|app| json::App {
        client: &app.client,
        connections: app.connections,
        error: app.error.as_deref(),
        last_used_at: at(app.last_used),
        name: &app.name,
    });
    let all = json::Status {
        broker: json::Broker {
            apps: apps.collect(),
            config_error: broker.config_error.as_deref(),
            config_loaded_at: epoch_of(broker.config_loaded),
            config_path: broker.config_path.as_deref(),
            default_client: state.default_client.as_deref(),
            fleet: broker.fleet.as_ref().map(|fleet| json::Fleet {
                clock_difference_ms: fleet.clock_difference_ms,
                last_error: fleet.last_error.as_deref(),
                place: &fleet.place,
                since: at(fleet.since),
                up: fleet.up,
            }),
            more_apps: broker.more_apps,
            pid: broker.pid,
            protocol: broker.protocol,
            socket: &status.socket.to_string_lossy(),
            started_at: epoch_of(broker.started),
            version: &broker.version,
        },
        tokens: tokens.collect(),
    };
    format!("{}\n", *to_json(&all))
}

fn origin_name(origin: TokenOrigin) -> &'static str {
    match origin {
        TokenOrigin::Fleet => "fleet",
        TokenOrigin::Domo | _ => "domo",
    }
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

//! What is printed: tokens and status, as text.

use std::fmt::Write;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use domo_token_client::clock::{BootTime, boot_now, wall_now};
use domo_token_client::duration::show;
use domo_token_client::wire::{Explanation, ScopeState, ScopeStatus};
use domo_token_client::{Status, Token};
use serde_json::{Value, json};
use zeroize::Zeroizing;

use crate::args::Format;

/// The line that carries a token, with its newline.
pub(crate) fn token(token: &Token, format: Format) -> Zeroizing<String> {
    let secret = token.secret();
    Zeroizing::new(match format {
        Format::Token => format!("{secret}\n"),
        Format::Header => format!("Authorization: Bearer {secret}\n"),
        Format::Curl => {
            let quoted = secret.replace('\\', "\\\\").replace('"', "\\\"");
            format!("header = \"Authorization: Bearer {quoted}\"\n")
        }
        Format::Env => format!("DOMO_ACCESS_TOKEN={secret}\n"),
        Format::Json => {
            let fields = json!({
                "access_token": secret,
                "token_type": token.token_type(),
                "expires_at": epoch(token.expires_at()),
                "expires_in": token.expires_in().as_secs(),
                "scope": token.scope(),
                "client": token.client(),
                "generation": token.generation(),
            });
            format!("{fields}\n")
        }
    })
}

/// What the broker decides for this process.
pub(crate) fn explanation(given: &Explanation) -> String {
    let verdict = if given.refused.is_none() {
        "may have"
    } else {
        "may not have"
    };
    let client = given.client.as_deref().unwrap_or("none named");
    format!(
        "seen as: {}\nclient: {client}\nscope set: {}\ndecision: {verdict} this token\nrule: {}\n",
        given.peer, given.scope, given.rule
    )
}

/// The state as text for people.
pub(crate) fn status(status: &Status) -> String {
    let now = boot_now();
    let broker = &status.broker;
    let mut text = format!(
        "domo-tokend {}, pid {}, protocol {}, up {}\n",
        broker.version,
        broker.pid,
        broker.protocol,
        show(now.saturating_since(broker.started))
    );
    let config = broker.config_path.as_deref().unwrap_or("the environment");
    // Writing to a string can't fail.
    let _written = writeln!(text, "config: {config}");
    if let Some(error) = &broker.config_error {
        let _written = writeln!(text, "config error: {error}");
    }
    let width = |of: fn(&ScopeStatus) -> &str| status.scopes.iter().map(|s| of(s).len()).max();
    let client = width(|set| &set.client).unwrap_or(0).max("CLIENT".len());
    let scope = width(|set| &set.scope).unwrap_or(0).max("SCOPES".len());
    let _written = writeln!(text, "{:client$}  {:scope$}  STATE", "CLIENT", "SCOPES");
    for set in &status.scopes {
        let state = state(set, now);
        let _written = writeln!(
            text,
            "{:client$}  {:scope$}  {state}",
            set.client, set.scope
        );
    }
    text
}

/// One set's state in words.
fn state(set: &ScopeStatus, now: BootTime) -> String {
    let ahead = |at: BootTime| show(at.saturating_since(now));
    let mut words = vec![
        match set.state {
            ScopeState::Idle => "waiting for its turn",
            ScopeState::Fetching => "asking Domo",
            ScopeState::Fresh => "fresh",
            ScopeState::Waiting => "failing",
            ScopeState::Denied => "refused by Domo",
        }
        .to_owned(),
    ];
    match set.expires {
        Some(at) => words.push(format!("expires in {}", ahead(at))),
        None => words.push("no token".to_owned()),
    }
    if let Some(at) = set.next_attempt {
        let verb = if set.state == ScopeState::Fresh {
            "renews"
        } else {
            "tries again"
        };
        words.push(format!("{verb} in {}", ahead(at)));
    }
    if set.rejected > 0 {
        words.push(format!("rejected {} times", set.rejected));
    }
    if let Some(error) = &set.credentials_error {
        words.push(format!(
            "the new credentials ({}) fail: {error}",
            set.client_id
        ));
    } else if let Some(error) = &set.last_error {
        words.push(error.clone());
    }
    words.join(", ")
}

/// The state for machines. Fields are only ever added.
pub(crate) fn status_json(status: &Status) -> String {
    let now = boot_now();
    let wall = wall_now();
    let at = |moment: Option<BootTime>| moment.map(|moment| epoch(moment.to_wall(now, wall)));
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
                "failed_attempts": set.attempts,
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
            "version": broker.version,
            "protocol": broker.protocol,
            "pid": broker.pid,
            "started_at": at(Some(broker.started)),
            "config_path": broker.config_path,
            "config_loaded_at": at(Some(broker.config_loaded)),
            "config_error": broker.config_error,
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
        ScopeState::Denied => "denied",
    }
}

fn epoch(at: SystemTime) -> u64 {
    at.duration_since(UNIX_EPOCH)
        .unwrap_or(Duration::ZERO)
        .as_secs()
}

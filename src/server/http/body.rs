//! The bodies of responses.

use std::borrow::Cow;
use std::path::Path;
use std::time::SystemTime;

use domo_token_core::token::Token;
use domo_token_protocol::BootTime;
use domo_token_protocol::json;
use domo_token_protocol::messages::{BrokerStatus, Explanation, ScopeStatus, TokenOrigin};
use secrecy::ExposeSecret;
use serde::Serialize;

use super::route::Format;
use crate::platform::clock::{boot_now, since_1970, wall_now};

/// Where the text is in a token's JSON.
const TEXT_AT: usize = r#"{"access_token":""#.len();

/// The same moment on both clocks.
#[derive(Clone, Copy)]
pub(super) struct Now {
    pub(super) boot: BootTime,
    pub(super) wall: SystemTime,
}

impl Now {
    pub(super) fn read() -> Self {
        Self {
            boot: boot_now(),
            wall: wall_now(),
        }
    }

    /// Returns the seconds since 1970.
    fn epoch(self, at: BootTime) -> u64 {
        since_1970(at.to_wall(self.boot, self.wall)).as_secs()
    }
}

/// A body. A token in it is sent from where the broker keeps it, so that there is no copy to wipe.
pub(super) struct Body {
    bytes: Cow<'static, [u8]>,
    /// The token, and where in the bytes its text is.
    token: Option<(Token, usize)>,
}

impl Body {
    fn with_token(bytes: Vec<u8>, token: &Token, at: usize) -> Self {
        Self {
            bytes: bytes.into(),
            token: Some((token.clone(), at)),
        }
    }

    /// Returns the bytes, in pieces that follow each other.
    pub(super) fn pieces(&self) -> [&[u8]; 3] {
        let (text, at) = match &self.token {
            Some((token, at)) => (token.text().expose_secret(), *at),
            None => ("", self.bytes.len()),
        };
        let (start, end) = self.bytes.split_at(at.min(self.bytes.len()));
        [start, text.as_bytes(), end]
    }

    pub(super) fn len(&self) -> usize {
        self.pieces().iter().map(|piece| piece.len()).sum()
    }
}

impl From<Vec<u8>> for Body {
    fn from(bytes: Vec<u8>) -> Self {
        Self {
            bytes: bytes.into(),
            token: None,
        }
    }
}

impl From<Cow<'static, str>> for Body {
    fn from(text: Cow<'static, str>) -> Self {
        let bytes = match text {
            Cow::Borrowed(text) => text.as_bytes().into(),
            Cow::Owned(text) => text.into_bytes().into(),
        };
        Self { bytes, token: None }
    }
}

pub(super) fn token(token: &Token, format: Format, socket: &Path, now: Now) -> Body {
    let line = |start: &str| {
        let bytes = [start.as_bytes(), b"\n"].concat();
        Body::with_token(bytes, token, start.len())
    };
    match format {
        Format::Json => token_json("", token, socket, now, "\n"),
        Format::Token => line(""),
        Format::Header => line("Authorization: Bearer "),
    }
}

/// Returns the format `json` between two texts. The token's text is inserted as it is: a `b64token` needs no escapes.
pub(super) fn token_json(
    before: &str,
    token: &Token,
    socket: &Path,
    now: Now,
    after: &str,
) -> Body {
    let validity = token.validity();
    let without_text = json::Token {
        access_token: "",
        broker: &socket.to_string_lossy(),
        client: token.client(),
        expires_at: now.epoch(validity.expires),
        expires_in: validity.left(now.boot).as_secs(),
        generation: validity.generation,
        scope: token.granted().as_str(),
        token_type: json::TOKEN_TYPE,
    };
    let mut bytes = Vec::with_capacity(256);
    bytes.extend_from_slice(before.as_bytes());
    write_json(&mut bytes, &without_text);
    bytes.extend_from_slice(after.as_bytes());
    Body::with_token(bytes, token, before.len() + TEXT_AT)
}

/// Appends a value whose fields can all be serialized.
pub(super) fn write_json(body: &mut Vec<u8>, value: &impl Serialize) {
    serde_json::to_writer(body, value).ok();
}

/// Appends the state of the broker.
pub(super) fn write_broker(
    body: &mut Vec<u8>,
    status: &BrokerStatus,
    default_client: Option<&str>,
    socket: &Path,
    now: Now,
) {
    let apps = status.apps.iter().map(|app| json::App {
        client: &app.client,
        connections: app.connections,
        error: app.error.as_deref(),
        last_used_at: app.last_used.map(|at| now.epoch(at)),
        name: &app.name,
    });
    write_json(
        body,
        &json::Broker {
            apps: apps.collect(),
            config_error: status.config_error.as_deref(),
            config_loaded_at: now.epoch(status.config_loaded),
            config_path: status.config_path.as_deref(),
            default_client,
            fleet: status.fleet.as_ref().map(|fleet| json::Fleet {
                clock_difference_ms: fleet.clock_difference_ms,
                last_error: fleet.last_error.as_deref(),
                place: &fleet.place,
                since: fleet.since.map(|at| now.epoch(at)),
                up: fleet.up,
            }),
            more_apps: status.more_apps,
            pid: status.pid,
            protocol: status.protocol,
            socket: &socket.to_string_lossy(),
            started_at: now.epoch(status.started),
            version: &status.version,
        },
    );
}

/// Appends the state of a scope set.
pub(super) fn write_scope(body: &mut Vec<u8>, set: &ScopeStatus, now: Now) {
    let epoch = |at: Option<BootTime>| at.map(|at| now.epoch(at));
    write_json(
        body,
        &json::Scope {
            client: &set.client,
            client_id: &set.client_id,
            credentials_error: set.credentials_error.as_deref(),
            expires_at: epoch(set.expires),
            failed_attempts: set.attempts,
            from: set.from.map(TokenOrigin::name),
            generation: set.generation,
            last_error: set.last_error.as_deref(),
            last_error_at: epoch(set.last_error_at),
            last_rejected_by: set.last_rejected_by.as_deref(),
            next_attempt_at: epoch(set.next_attempt),
            obtained_at: epoch(set.obtained),
            rejected: set.rejected,
            requests: set.requests,
            scope: &set.scope,
            state: set.state.name(),
        },
    );
}

pub(super) fn explanation(explanation: &Explanation, socket: &Path) -> Vec<u8> {
    let denied = explanation.refused;
    let mut body = Vec::new();
    write_json(
        &mut body,
        &json::Explanation {
            allowed: denied.is_none(),
            broker: &socket.to_string_lossy(),
            client: explanation.client.as_deref(),
            decision: if denied.is_none() {
                "allowed"
            } else {
                "denied"
            },
            kind: denied.map(domo_token_protocol::messages::RefusalKind::name),
            peer: &explanation.peer,
            rule: &explanation.rule,
            scope: &explanation.scope,
            seen_as: &explanation.peer,
        },
    );
    body.push(b'\n');
    body
}

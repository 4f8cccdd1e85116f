//! The records that hosts share: a token, and a note of a failure. They are encoded as on the wire, then sealed.

use std::fmt;

use domo_token_protocol::messages::TokenText;
use serde::{Deserialize, Serialize};

use crate::fetch_result::Cause;

/// Identifies a process of the daemon among those of its fleet; random, so it names no host.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct HostId(pub [u8; 16]);

impl fmt::Display for HostId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", u128::from_be_bytes(self.0))
    }
}

/// A token that a host obtained.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TokenRecord {
    /// The text of the token.
    pub text: TokenText,
    /// The scopes granted, separated by spaces.
    pub granted: String,
    /// The whole lifetime, in milliseconds.
    pub lifetime_ms: u64,
    /// When it expires by the store's clock, in milliseconds since 1970.
    pub expires_engine_ms: u64,
    /// When it expires by the wall clock of the host that obtained it, in milliseconds since 1970.
    pub expires_wall_ms: u64,
}

/// A failure that a host reports to the others.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NoteRecord {
    /// When the next attempt is due by the store's clock, in milliseconds since 1970.
    pub until_engine_ms: u64,
    /// The same by the wall clock of the host that failed.
    pub until_wall_ms: u64,
    /// How long the host that failed waits for its next attempt, in milliseconds; the note binds no longer.
    pub wait_ms: u64,
    /// Failed attempts in a row, of all hosts together.
    pub count: u32,
    /// The host that failed first.
    pub host: HostId,
    /// Whether another host had the same failure.
    pub is_confirmed: bool,
    /// The kind of failure.
    pub failure: NotedFailure,
    /// The error, on one line.
    pub message: String,
}

/// The kinds of failure that hosts share. Variants are only ever added, at the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum NotedFailure {
    /// Another attempt may succeed.
    Transient(Cause),
    /// Domo rejected the client, or only the scope set.
    Rejected {
        /// Whether only this scope set is rejected.
        scope_only: bool,
    },
}

//! The store through which the hosts of a fleet share tokens, and the one that exists: a server that speaks the Redis
//! protocol.

pub mod redis;

use std::fmt;
use std::future::Future;
use std::time::Duration;

use domo_token_protocol::BootTime;
use zeroize::Zeroizing;

/// The longest record that is read or written, in bytes.
pub const MAX_RECORD: usize = 20 * 1024;

/// Where hosts share the records of scope sets.
pub trait Store: Send + Sync + 'static {
    type Session: StoreSession;

    /// Returns a session for the records of one scope set, whose name is 32 hexadecimal digits. It connects at its
    /// first operation.
    fn session(&self, name: &str) -> Self::Session;
}

/// The operations of one fetch on the records of one scope set, over one connection. Each operation takes at most a
/// second, connecting included. After an error the next operation connects again. An operation may be cancelled: it has
/// its effect or not, and the next one works.
pub trait StoreSession: Send + 'static {
    /// Returns the store's time and both records.
    fn look(&mut self) -> impl Future<Output = Result<Look, StoreError>> + Send;

    /// Takes the lease under `id` unless it is held; returns whether it was taken.
    fn claim(
        &mut self,
        id: &str,
        lease: Duration,
    ) -> impl Future<Output = Result<bool, StoreError>> + Send;

    /// Sets the rest of the lease, if it is held.
    fn extend(&mut self, lease: Duration) -> impl Future<Output = Result<(), StoreError>> + Send;

    /// Stores a token's record for that time, and removes the note.
    fn put_token(
        &mut self,
        record: &[u8],
        keep: Duration,
    ) -> impl Future<Output = Result<(), StoreError>> + Send;

    /// Stores a note's record for that time.
    fn put_note(
        &mut self,
        record: &[u8],
        keep: Duration,
    ) -> impl Future<Output = Result<(), StoreError>> + Send;
}

/// What a store returned about a scope set.
#[derive(Debug)]
pub struct Look {
    /// Just before the store was asked.
    pub asked: BootTime,
    /// When its time had arrived.
    pub answered: BootTime,
    /// Its time, in milliseconds since 1970.
    pub time_ms: u64,
    /// The token's record, still sealed; at most [`MAX_RECORD`] bytes.
    pub token: Option<Zeroizing<Vec<u8>>>,
    /// The note's record, still sealed.
    pub note: Option<Zeroizing<Vec<u8>>>,
}

/// Why an operation failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct StoreError {
    pub cause: StoreFailure,
    /// The error on one line, without a secret, a key or a record.
    pub message: String,
}

/// The kinds of failure, for metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum StoreFailure {
    Connect,
    Timeout,
    Tls,
    Login,
    Full,
    ReadOnly,
    Protocol,
}

impl fmt::Display for StoreFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Connect => "connect",
            Self::Timeout => "timeout",
            Self::Tls => "tls",
            Self::Login => "login",
            Self::Full => "full",
            Self::ReadOnly => "read_only",
            Self::Protocol => "protocol",
        })
    }
}

//! The protocol between `domo-tokend` and its callers: messages, frames and the types in them.
//!
//! `docs/protocol.md` describes it byte by byte. Nothing here performs I/O or reads a clock. The crate is
//! versioned with the wire: a message that changes is a new protocol version.
//!
//! - [`boot_time`]: a moment on the boot clock.
//! - [`duration`]: durations such as `1h30m`.
//! - [`scope`]: scope sets.
//! - [`messages`]: requests and responses.
//! - [`frame`]: messages as bytes.
//! - [`greeting`]: what each side sends first.

#![warn(missing_docs)]

pub mod boot_time;
pub mod duration;
pub mod scope;
pub mod messages;
pub mod frame;
pub mod greeting;

pub use boot_time::BootTime;
pub use scope::{DOMO_SCOPE_NAMES, DOMO_SCOPES, MAX_SCOPE_BYTES, ScopeError, ScopeSet};
